"""What a text file is, told by its content: read right, or refused in one sentence."""

import bz2
import codecs
import gzip
import io
import lzma
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsa_mt.segments import read_segments
from tsa_mt.textfile import (
    MAX_LINE_BYTES,
    PLAIN,
    SGML,
    TMX,
    Text,
    TextError,
    looks_like_html,
    open_stream,
    open_text,
    refuse_wrapped,
)

SENTENCES = ["Ein Haus.", "Größe: 3 m², „gut“", "", "我喜欢", "\U0001f600 ok"]
CONTENT = "".join(f"{line}\n" for line in SENTENCES)


def read(path, **options):
    with open_text(path, getattr(path, "name", None)) as text:
        return [line for block in text.blocks(**options) for line in block]


def put(path, data):
    path.write_bytes(data)
    return path


def zstd(data):
    zstandard = pytest.importorskip("zstandard", reason="the extra [data] is not installed")
    return zstandard.compress(data)


def old_lzma(data):
    return lzma.compress(data, format=lzma.FORMAT_ALONE)


PACKERS = [bytes, gzip.compress, lzma.compress, bz2.compress, zstd, old_lzma]


@pytest.mark.parametrize("pack", PACKERS)
def test_text_is_read_whatever_its_compression_and_name(tmp_path, pack):
    assert read(put(tmp_path / "text.bin", pack(CONTENT.encode()))) == SENTENCES


@pytest.mark.parametrize("pack", PACKERS[1:5])
def test_members_one_after_the_other_and_one_in_the_other_are_read(tmp_path, pack):
    two = pack(b"one\n") + pack(b"two\n")
    assert read(put(tmp_path / "a.gz", two)) == ["one", "two"]
    assert read(put(tmp_path / "b", gzip.compress(pack(b"one\n")))) == ["one"]


def test_a_file_compressed_many_times_over_is_refused(tmp_path):
    data = b"x\n"
    for _ in range(5):
        data = gzip.compress(data)
    with pytest.raises(TextError, match="is compressed more than 3 times over"):
        read(put(tmp_path / "a.gz", data))


def test_frames_that_zstd_skips_are_skipped(tmp_path):
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0data"
    assert read(put(tmp_path / "a", skipped + zstd(b"one\n"))) == ["one"]


@pytest.mark.parametrize("pack", PACKERS[1:5])
def test_a_cut_compressed_file_is_refused(tmp_path, pack):
    data = pack(b"".join(b"line %d\n" % (i * 7919) for i in range(9000)))
    path = put(tmp_path / "cut.gz", data[: len(data) // 2])
    with pytest.raises(TextError, match=r"cut\.gz is cut off or damaged .*; get it again"):
        read(path)


def test_a_byte_that_was_changed_is_found(tmp_path):
    data = bytearray(gzip.compress(CONTENT.encode() * 50))
    data[-6] ^= 1
    with pytest.raises(TextError, match=r"a is cut off or damaged"):
        read(put(tmp_path / "a", bytes(data)))


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_byte_order_mark_tells_the_encoding_and_is_no_text(tmp_path, mark, encoding, pack):
    path = put(tmp_path / "a", pack(mark + CONTENT.encode(encoding)))
    assert read(path) == SENTENCES
    windows = CONTENT.replace("\n", "\r\n").encode(encoding)
    assert read(put(tmp_path / "b", mark + windows)) == SENTENCES


def test_a_long_file_in_utf16_is_the_same_text(tmp_path):
    lines = [f"Zeile {n} — 漢字 \U0001f600" for n in range(60_000)]
    data = codecs.BOM_UTF16_LE + "\n".join(lines).encode("utf-16-le")
    assert read(put(tmp_path / "a", data)) == lines


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_utf16_without_a_mark_is_refused(tmp_path, encoding):
    with pytest.raises(TextError, match="a is UTF-16 or UTF-32 without a byte-order mark; convert"):
        read(put(tmp_path / "a", CONTENT.encode(encoding)))


def test_damage_in_utf16_names_the_line(tmp_path):
    data = codecs.BOM_UTF16_LE + "eins\nzwei\n".encode("utf-16-le") + b"\x00\xd8a\0\n\0"
    with pytest.raises(TextError, match=r"a, line 3, is not UTF-16-LE, the encoding that the file"):
        read(put(tmp_path / "a", data))


def test_binary_data_is_refused_unless_any_bytes_will_do(tmp_path):
    path = put(tmp_path / "a", b"\0\0\0\0abc\n" * 9)
    with pytest.raises(TextError, match="a is binary: it holds NUL bytes"):
        open_text(path)
    with open_text(path, any_bytes=True) as text:
        assert text.stream.readline() == b"\0\0\0\0abc\n"


def test_one_nul_is_a_character_and_no_reason_to_refuse(tmp_path):
    data = CONTENT.encode() + b"a\0b\n"
    assert read(put(tmp_path / "a", data)) == [*SENTENCES, "a\0b"]


def test_only_line_feeds_end_lines(tmp_path):
    data = "a\x0bb\u2028c\x85d\x0ce\u2029f\x1cg\nsecond\n".encode()
    assert read(put(tmp_path / "odd", data)) == ["a\x0bb\u2028c\x85d\x0ce\u2029f\x1cg", "second"]


def test_line_ends_of_windows_are_line_ends(tmp_path):
    assert read(put(tmp_path / "a", b"one\r\ntwo\n\r\nfour\r\n")) == ["one", "two", "", "four"]
    assert read(put(tmp_path / "b", b"one\r\nlast\r")) == ["one", "last"]


def test_another_carriage_return_is_refused_unless_it_is_tolerated(tmp_path):
    path = put(tmp_path / "dos.txt", b"one\ntwo\rhalves\nthree\n")
    with pytest.raises(TextError, match=r"dos\.txt, line 2, holds a carriage return .*mac2unix"):
        read(path)
    assert read(path, carriage_returns=True) == ["one", "two halves", "three"]


@pytest.mark.parametrize("tolerated", [False, True])
def test_lines_of_an_old_mac_are_refused(tmp_path, tolerated):
    with pytest.raises(TextError, match="line ends are those of an old Mac"):
        read(put(tmp_path / "a", b"one\rtwo\rthree\r"), carriage_returns=tolerated)


def test_bad_utf8_names_the_line_and_the_byte(tmp_path):
    path = put(tmp_path / "latin1.de", b"gut\n" * 3 + b"stra\xdfe\n")
    with pytest.raises(TextError, match=r"latin1\.de, line 4, is not UTF-8 \(byte 0xdf\); convert"):
        read(path)


def test_a_ten_megabyte_line_is_refused_without_reading_on(tmp_path):
    path = put(tmp_path / "long", b"short\n" + b"x" * 10_000_000 + b"\nshort\n")
    with pytest.raises(TextError, match=f"long, line 2, is longer than {MAX_LINE_BYTES:,} bytes"):
        read(path)


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(TextError, match="is a folder; name a file"):
        open_text(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing does not exist"):
        open_text(tmp_path / "nothing")


def test_a_web_page_is_recognised(tmp_path):
    page = put(tmp_path / "page", b"\n <!DOCTYPE HTML><html>not found</html>")
    data = put(tmp_path / "data", b"<url>http://example.org</url>")
    assert looks_like_html(page) and not looks_like_html(data)
    with pytest.raises(TextError, match="page is a web page"):
        read(page)
    assert read(data) == ["<url>http://example.org</url>"]


def test_what_others_read_as_it_lies_must_be_plain(tmp_path):
    refuse_wrapped(put(tmp_path / "dict.txt", "ü 3\nb 2\n".encode()))
    for data in (gzip.compress(b"a 3\n"), codecs.BOM_UTF8 + b"a 3\n", SRCSET.encode()):
        with pytest.raises(TextError, match="it is read as it lies; write it as plain UTF-8 text"):
            refuse_wrapped(put(tmp_path / "dict.txt", data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04\x14\0\x06\0", "a zip archive or an office document"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\0", "a rar archive"),
        (b"\x04\x22\x4d\x18\x64\x40", "compressed by lz4"),
        (b"LZIP\x01\x0c", "compressed by lzip"),
        (b"\x1f\x9d\x90ab", "compressed by compress"),
        (b"%PDF-1.4\n", "a PDF document"),
        (b"{\\rtf1\\ansi", "an RTF document"),
        (b"PAR1\x15\x04", "a Parquet table"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"name" + b"\0" * 253 + b"ustar\x0000" + b"\0" * 249, "a tar archive"),
        (b'<?xml version="1.0"?>\n<xliff version="1.2">\n</xliff>', "an XLIFF document"),
        (b'<?xml version="1.0"?>\n<dataset id="wmt21">\n', "XML with sources, references and"),
        (b'<?xml version="1.0"?>\n<book>x</book>', "XML with the root element 'book'"),
        (b'{"translation": {"de": "a", "en": "b"}}\n', "holds JSON"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_is_no_text_is_called_by_its_name(tmp_path, data, message, pack):
    with pytest.raises(TextError, match=message):
        open_text(put(tmp_path / "a", pack(data)))


@pytest.mark.parametrize(
    "line", ["<3 you", "< b", '{"', "{}", "<b>bold</b> word", "<unk> word", "PK", "BZ", "<"]
)
def test_a_sentence_that_begins_oddly_is_a_sentence(tmp_path, line):
    assert read(put(tmp_path / "a", f"{line}\nx\n".encode())) == [line, "x"]


SRCSET = '<srcset setid="t" srclang="any">\n<doc docid="d">\n<seg id="1">A</seg>\n</doc>\n</srcset>'


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (SRCSET, SGML),
        (f'<?xml version="1.0" encoding="UTF-8"?>\n<mteval>\n{SRCSET}\n</mteval>', SGML),
        (f'<!DOCTYPE mteval SYSTEM "ftp://x/mteval-xml-v1.3.dtd">\n<mteval>{SRCSET}', SGML),
        (f"<!-- a\n comment -->\n<REFSET setid='x'>{SRCSET}", SGML),
        ('<?xml version="1.0"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx version="1.4">', TMX),
        ("<tmx\nversion='1.1'>", TMX),
        ('<?xml version="1.0"?><t:tmx xmlns:t="http://x">', TMX),
        ("Hello <tmx> world", PLAIN),
        ("\n\n<seg id", PLAIN),
    ],
)
def test_markup_is_told_by_its_root(tmp_path, content, kind):
    with open_text(put(tmp_path / "a.txt", content.encode())) as text:
        assert text.kind == kind


@pytest.mark.parametrize("encoding", ["iso-8859-1", "windows-1252", "utf-16", "gbk", "shift_jis"])
def test_the_encoding_of_an_xml_declaration_is_believed(tmp_path, encoding):
    word = "Größe" if encoding[0] in "iwu" else "中"
    content = (
        f'<?xml version="1.0" encoding="{encoding}"?>\n<mteval><seg id="1">{word}</seg></mteval>'
    )
    with open_text(put(tmp_path / "a", content.encode(encoding))) as text:
        assert [segment.text for segment in read_segments(text)] == [word]


def test_a_declaration_that_cannot_be_true_is_not_believed(tmp_path):
    content = '<?xml version="1.0" encoding="UTF-16"?>\n<mteval><seg id="1">ü</seg></mteval>'
    with open_text(put(tmp_path / "a", content.encode())) as text:
        assert [segment.text for segment in read_segments(text)] == ["ü"]


@pytest.mark.parametrize("name", ["klingon", "rot13", "zlib"])
def test_an_encoding_that_is_none_is_named(tmp_path, name):
    data = f'<?xml version="1.0" encoding="{name}"?>\n<mteval/>'.encode()
    with pytest.raises(TextError, match=f"declares the encoding '{name}', which is not known"):
        open_text(put(tmp_path / "a", data))


@pytest.fixture()
def pipe(tmp_path):
    """A function that feeds bytes through a named pipe, some at a time, and gives its path."""
    threads = []

    def make(*chunks):
        path = tmp_path / f"pipe{len(threads)}"
        os.mkfifo(path)

        def feed():
            with open(path, "wb", buffering=0) as stream:
                for chunk in chunks:
                    stream.write(chunk)

        threads.append(threading.Thread(target=feed))
        threads[-1].start()
        return path

    yield make
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("pack", PACKERS[:5])
def test_a_pipe_is_read_as_a_file_is(pipe, pack):
    data = pack(CONTENT.encode())
    assert read(pipe(data[:1], data[1:3], data[3:])) == SENTENCES


def test_a_pipe_in_utf16_is_read(pipe):
    data = codecs.BOM_UTF16_BE + CONTENT.encode("utf-16-be")
    assert read(pipe(data[:3], data[3:])) == SENTENCES


def test_of_a_pipe_only_the_first_line_is_waited_for():
    into, out = os.pipe()
    with open(into, "rb") as stream, open(out, "wb", buffering=0) as feed:
        feed.write(b"one\n")
        text = open_stream(stream, "pipe")  # would wait for ever
        assert text.stream.readline() == b"one\n"
        feed.write(b"two\n")
        assert text.stream.readline() == b"two\n"


# -- segments of SGML


def segments(content, references=True):
    text = Text("t.sgm", SGML, io.BytesIO(content.encode()), "utf-8")
    return [segment.text for segment in read_segments(text, references)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('<seg id="1"> You & I. </seg>', ["You & I."]),
        ('<seg id="1">\nOver\r\n  lines\r</seg>', ["Over lines"]),
        ('<seg id="1">a</seg> <seg id="2">b</seg>', ["a", "b"]),
        ("<SEG ID=1>upper</SEG >", ["upper"]),
        ('<seg\n id="1"\n>a</seg>', ["a"]),
        ("<seg>without</seg><seg id='x>y'>b</seg>", ["without", "b"]),
        ('<seg id="1"/><seg id="2"></seg>', ["", ""]),
        ('<!-- <seg id="9">no</seg> --><seg id="1">a<!-- b -->c</seg>', ["ac"]),
        ('<seg id="1"><![CDATA[a < b & c]]></seg>', ["a < b & c"]),
        ('<seg id="1">1 < 2, <b>bold</b> <3</seg>', ["1 < 2, <b>bold</b> <3"]),
        (
            '<seg id="1">R&amp;D &quot;x&quot; &#8217; &copy 2020 AT&T</seg>',
            ['R&D "x" ’ &copy 2020 AT&T'],
        ),
        ('<title>no</title><doc docid="d"><p><hl><seg id="1">a</seg></hl></p></doc>', ["a"]),
        ("<segment>no</segment>", []),
    ],
)
def test_segments_are_taken_whole(content, expected):
    assert segments(content) == expected


def test_references_stay_as_they_are_where_one_asks_for_it():
    assert segments('<seg id="1">R&amp;D</seg>', references=False) == ["R&amp;D"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('<seg id="1">a\n<seg id="2">b</seg>', "line 1, has a segment that does not end before"),
        ('\n<seg id="1">a', "line 2, has a segment that does not end"),
        ('<seg id="1">a</seg>\n</seg>', "line 2, has the end of a segment that was not begun"),
        ('<seg id="1">a</seg><!-- ', "has <!-- without -->"),
    ],
)
def test_a_damaged_segment_is_named_by_its_line(content, message):
    with pytest.raises(TextError, match=message):
        segments(content)


def test_markup_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tsa_mt.textfile.MAX_CONTENT", 1000)
    with open_text(put(tmp_path / "a", gzip.compress(SRCSET.encode() * 50))) as text:
        with pytest.raises(TextError, match="a holds more than 1,000 bytes; SGML of that size"):
            list(read_segments(text))


def test_segments_know_their_documents():
    content = '<doc docid="a"><seg id="1">x</seg></doc><doc docid="b"><seg id="1">y</seg></doc>'
    text = Text("t", SGML, io.BytesIO(content.encode()), "utf-8")
    assert [(s.document, s.number) for s in read_segments(text)] == [("a", "1"), ("b", "1")]


# -- whatever bytes: lines or one sentence

MAGIC = [b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh9", b"\x28\xb5\x2f\xfd", b"\x5d\0\0", b"\x50\x2a\x4d\x18"]
BEGINNINGS = st.sampled_from(
    [
        b"",
        *MAGIC,
        codecs.BOM_UTF8,
        codecs.BOM_UTF16_LE,
        codecs.BOM_UTF32_BE,
        b"<?xml ",
        b"<tmx ",
        b"<srcset>",
        b'<?xml version="1.0" encoding="utf-7"?>',
        b"<!DOCTYPE x [",
        b"<!--",
    ]
)
ANYTHING = st.builds(bytes.__add__, BEGINNINGS, st.binary(max_size=200))


@settings(max_examples=300, deadline=None)
@given(ANYTHING, st.booleans())
def test_whatever_the_bytes_there_are_lines_or_one_sentence(data, carriage_returns):
    try:
        text = open_stream(io.BytesIO(data), "a")
        lines = [line for block in text.blocks(carriage_returns) for line in block]
    except TextError as fault:
        assert str(fault).startswith("a") and "\n" not in str(fault)
    else:
        assert not any("\n" in line or "\r" in line for line in lines)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r")), min_size=1
    )
)
def test_every_line_comes_back_in_every_encoding(lines):
    content = "".join(f"{line}\n" for line in lines)
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le")):
        stream = io.BytesIO(gzip.compress(mark + content.encode(encoding), 1))
        try:
            text = open_stream(stream, "a")
        except TextError as fault:
            assert "JSON" in str(fault) or "root element" in str(fault) or " is " in str(fault)
            continue
        if text.kind == PLAIN:
            assert [line for block in text.blocks() for line in block] == lines


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="<>!-/seg id=\"1'&;a]\n[CDAT", max_size=80))
def test_whatever_the_markup_there_are_segments_or_one_sentence(content):
    try:
        found = segments(f'<seg id="0">x</seg>{content}')
    except TextError as fault:
        assert str(fault).startswith("t.sgm, line")
    else:
        assert found[0] == "x" and not any("\n" in line for line in found)
