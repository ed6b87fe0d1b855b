"""Every bad input gives one sentence that names the file, the line and the way out."""

import bz2
import gzip
import lzma

import pytest
from dataprep.errors import DataError
from dataprep.extract import aligned, sgm, text, tmx, tsv
from dataprep.read import MAX_LINE_BYTES, blocks, looks_like_html


def read(path, **options):
    return [line for block in blocks(path, path.name, **options) for line in block]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress])
def test_text_is_read_whatever_its_compression_and_name(tmp_path, pack):
    path = tmp_path / "text.bin"
    path.write_bytes(pack("eins\nzwei ü\n\ndrei".encode()))
    assert read(path) == ["eins", "zwei ü", "", "drei"]


def test_zstd_text_is_read_and_a_cut_one_refused(tmp_path):
    zstandard = pytest.importorskip("zstandard", reason="the extra [data] is not installed")
    data = zstandard.compress(b"".join(b"line %d\n" % i for i in range(90_000)))
    path = tmp_path / "text.zst"
    path.write_bytes(data)
    assert len(read(path)) == 90_000
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"text\.zst is cut off or damaged"):
        read(path)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_a_cut_compressed_file_is_refused(tmp_path, pack):
    data = pack(b"".join(b"line %d\n" % (i * 7919) for i in range(9000)))
    path = tmp_path / "cut.gz"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"cut\.gz is cut off or damaged .*; get it again"):
        read(path)


def test_only_line_feed_ends_a_line(tmp_path):
    path = tmp_path / "odd"
    path.write_bytes("a\x0bb\u2028c\x85d\nsecond\n".encode())
    assert read(path) == ["a\x0bb\u2028c\x85d", "second"]


def test_bad_utf8_names_the_line_and_the_byte(tmp_path):
    path = tmp_path / "latin1.de"
    path.write_bytes(b"gut\n" * 3 + b"stra\xdfe\n")
    with pytest.raises(DataError, match=r"latin1\.de, line 4, is not UTF-8 \(byte 0xdf\); convert"):
        read(path)


def test_a_carriage_return_is_refused_unless_the_recipe_tolerates_it(tmp_path):
    path = tmp_path / "dos.txt"
    path.write_bytes(b"one\ntwo\r\nthree\r\n")
    with pytest.raises(DataError, match=r"dos\.txt, line 2, holds a carriage return .*dos2unix"):
        read(path)
    assert read(path, carriage_returns=True) == ["one", "two ", "three "]


def test_a_ten_megabyte_line_is_refused_without_reading_on(tmp_path):
    path = tmp_path / "long"
    path.write_bytes(b"short\n" + b"x" * 10_000_000 + b"\nshort\n")
    with pytest.raises(DataError, match=f"long, line 2, is longer than {MAX_LINE_BYTES:,} bytes"):
        read(path)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "nothing"
    path.write_bytes(b"")
    with pytest.raises(DataError, match="nothing is empty"):
        read(path)


def test_a_web_page_is_recognised(tmp_path):
    page, data = tmp_path / "page", tmp_path / "data"
    page.write_text("\n <!DOCTYPE HTML><html>not found</html>")
    data.write_text("<url>http://example.org</url>")
    assert looks_like_html(page)
    assert not looks_like_html(data)


def test_unequal_line_counts_name_both_files_and_both_numbers(tmp_path, write):
    one, two = write(tmp_path / "a.en", ["x"] * 5), write(tmp_path / "a.de", ["x"] * 7)
    files = {"en": (one, "a.en"), "de": (two, "a.de")}
    with pytest.raises(DataError, match=r"a\.en has 5 lines and a\.de has 7: they are not aligned"):
        list(aligned(text, files, ["en", "de"], False))
    with pytest.raises(DataError, match=r"a\.de has 7 lines and a\.en has 5"):
        list(aligned(text, files, ["de", "en"], False))


def test_lines_with_tags_are_dropped_from_wit3_training_text(tmp_path, write):
    path = write(tmp_path / "t", ["<url>x</url>", "<talkid>1</talkid>", "A sentence.", "<b> stays"])
    assert list(text(path, "t", False, drop=["<url>", "<talkid>"])) == ["A sentence.", "<b> stays"]


def test_segments_are_taken_from_sgm_without_their_tags(tmp_path, write):
    path = write(
        tmp_path / "t.sgm",
        ["<doc>", '<seg id="1"> You & I. </seg>', "<title>no</title>", '<seg id="12">B</seg>'],
    )
    assert list(sgm(path, "t", False)) == ["You & I.", "B"]


def test_columns_of_a_tsv_are_chosen_and_a_short_line_is_refused(tmp_path, write):
    path = write(tmp_path / "t.tsv", ["Hi\tHallo\tby me", "Bye"])
    stream = tsv(path, "t.tsv", {"en": 0, "de": 1}, ["de", "en"], False)
    assert next(stream) == ("Hallo", "Hi")
    with pytest.raises(DataError, match=r"t\.tsv, line 2, has 1 columns, needs 2"):
        next(stream)


TMX = """<?xml version="1.0" encoding="UTF-8"?>
<tmx version="1.4"><header/><body>
<tu><tuv xml:lang="en-US"><seg>A <b>bold</b>
 word</seg></tuv><tuv xml:lang="de"><seg>Ein Wort</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>only English</seg></tuv></tu>
</body></tmx>"""


def test_translation_units_with_both_languages_are_taken_from_tmx(tmp_path):
    path = tmp_path / "t.tmx.gz"
    path.write_bytes(gzip.compress(TMX.encode()))
    assert list(tmx(path, "t.tmx", ["de", "en"])) == [("Ein Wort", "A bold word")]


def test_a_cut_tmx_is_refused(tmp_path):
    path = tmp_path / "t.tmx"
    path.write_text(TMX[:-30])
    with pytest.raises(DataError, match=r"t\.tmx is cut off or no well-formed TMX"):
        list(tmx(path, "t.tmx", ["de", "en"]))
