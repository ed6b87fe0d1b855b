"""Pairs out of every format: taken right, or refused in one sentence that names the line."""

import gzip

import pytest
from dataprep.errors import DataError
from dataprep.extract import aligned, plain, sgm, tsv
from dataprep.tmx import lookup, pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from tsa_mt.textfile import TMX, Text, TextError, open_text


def put(path, data):
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path, path.name


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="nothing is empty"):
        list(plain(put(tmp_path / "nothing", b""), False))


def test_unequal_line_counts_name_both_files_and_both_numbers():
    with pytest.raises(DataError, match=r"a\.en has 5 lines and a\.de has 7: they are not aligned"):
        list(aligned([iter("12345"), iter("1234567")], ["a.en", "a.de"]))
    with pytest.raises(DataError, match=r"a\.de has 7 lines and a\.en has 5"):
        list(aligned([iter("1234567"), iter("12345")], ["a.de", "a.en"]))


def test_lines_with_tags_are_dropped_from_wit3_training_text(tmp_path):
    file = put(tmp_path / "t", "<url>x</url>\n<talkid>1</talkid>\nA sentence.\n<b> stays\n")
    assert list(plain(file, False, ["<url>", "<talkid>"])) == ["A sentence.", "<b> stays"]


# -- SGML


def doc(*segments, name="d"):
    inner = "".join(f'<seg id="{n}">{s}</seg>\n' for n, s in segments)
    return f'<srcset setid="t">\n<doc docid="{name}">\n{inner}</doc>\n</srcset>\n'


def test_segments_of_two_test_sets_are_paired(tmp_path):
    one = put(tmp_path / "a", doc((1, "A\nb"), (2, "R&amp;D")))
    two = put(tmp_path / "b", doc((1, "C"), (2, "F&amp;E")))
    assert list(sgm([one, two], True)) == [("A b", "C"), ("R&D", "F&E")]
    assert list(sgm([one, two], False)) == [("A b", "C"), ("R&amp;D", "F&amp;E")]


def test_segments_in_another_order_are_refused(tmp_path):
    one = put(tmp_path / "a", doc((1, "A"), (2, "B")))
    two = put(tmp_path / "b", doc((2, "B"), (1, "A")))
    with pytest.raises(DataError, match="same segments in another order: number 1 is d 1 in one"):
        list(sgm([one, two], True))


def test_test_sets_of_unequal_length_are_refused(tmp_path):
    one = put(tmp_path / "a", doc((1, "A"), (2, "B")))
    with pytest.raises(DataError, match="a has 2 lines and b has 1"):
        list(sgm([one, put(tmp_path / "b", doc((1, "A")))], True))


# -- tables


def table(tmp_path, content, columns=None, languages=("de", "en")):
    return list(tsv(put(tmp_path / "t.tsv", content), columns or {}, list(languages), False))


def test_two_columns_are_source_and_target(tmp_path):
    assert table(tmp_path, "Hallo\tHi\n\tBye\r\n") == [("Hallo", "Hi"), ("", "Bye")]


@pytest.mark.parametrize("columns", [{"de": 1, "en": 0}, {"de": "German", "en": "english"}])
def test_columns_are_chosen_by_number_or_by_name(tmp_path, columns):
    header = "English\tGerman\tBy\n"
    rows = "Hi\tHallo\tme\nBye\tAde\t\n"
    content = rows if columns["de"] == 1 else header + rows
    assert table(tmp_path, content, columns) == [("Hallo", "Hi"), ("Ade", "Bye")]


def test_a_first_line_that_names_the_languages_is_a_header(tmp_path):
    assert table(tmp_path, "id\ten\tde\n1\tHi\tHallo\n") == [("Hallo", "Hi")]
    assert table(tmp_path, "en\tDE\nHi\tHallo\n") == [("Hallo", "Hi")]


@pytest.mark.parametrize("content", ["1\tHallo\t2\tHi\n", "Hallo\n", "0.9\tHallo\tHi\n"])
def test_other_numbers_of_columns_ask_for_names(tmp_path, content):
    with pytest.raises(DataError, match=r"t\.tsv has \d column.* so it must be said which hold de"):
        table(tmp_path, content)


def test_a_column_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="has no column 4; line 1 has 2 columns"):
        table(tmp_path, "a\tb\n", {"de": 0, "en": 3})
    with pytest.raises(DataError, match="has no column called 'English'; line 1 has 2 columns"):
        table(tmp_path, "a\tb\n", {"de": "a", "en": "English"})


@pytest.mark.parametrize("line", ["Preis:\tPrice:\tfive", "Preis"])
def test_a_line_with_another_number_of_columns_is_refused(tmp_path, line):
    with pytest.raises(
        DataError, match=r"t\.tsv, line 2, has \d columns?, and the first line has 2"
    ):
        table(tmp_path, f"a\tb\n{line}\n")
    with pytest.raises(DataError, match=r"t\.tsv, line 2, has"):
        table(tmp_path, f"a\tb\n{line}\n", {"de": 0, "en": 1})


def test_cells_quoted_as_in_csv_are_refused(tmp_path):
    quoted = 'plain\tcell\n"a ""b"" c"\t"d ""e"""\n'
    with pytest.raises(DataError, match=r"t\.tsv, line 2, and all other cells .* quoted as in CSV"):
        table(tmp_path, quoted)


@pytest.mark.parametrize("row", ['He said "hi"\tx', '"Hi," he said.\tx', '"Hi"\t"Ho"', '""\tx'])
def test_quotation_marks_of_a_text_stay(tmp_path, row):
    assert table(tmp_path, f"{row}\n") == [tuple(row.split("\t"))]
    bare = f'{row}\nit is 3" long\ty\n"a ""b"" c"\tz\n'
    assert table(tmp_path, bare)[2] == ('"a ""b"" c"', "z")


# -- translation memories


def memory(units, head="", root="", prologue='<?xml version="1.0" encoding="utf-8"?>'):
    return (
        f'{prologue}{head}<tmx version="1.4"{root}><header srclang="de"/><body>{units}</body></tmx>'
    )


def unit(*variants, attribute="xml:lang"):
    inner = "".join(f'<tuv {attribute}="{tag}"><seg>{text}</seg></tuv>' for tag, text in variants)
    return f"<tu>{inner}</tu>"


def read(content, languages=("de", "en"), note=None):
    import io

    data = content.encode() if isinstance(content, str) else content
    return list(pairs(Text("m.tmx", TMX, io.BytesIO(data), "utf-8"), languages, note))


PAIR = unit(("de", "Ein Wort"), ("en", "A word"))


def test_translation_units_with_both_languages_are_taken(tmp_path):
    content = memory(PAIR + unit(("en", "only English")) + unit(("fr", "mot"), ("de", "Wort")))
    file = put(tmp_path / "m.tmx.gz", gzip.compress(content.encode()))
    with open_text(*file) as text:
        assert list(pairs(text, ["de", "en"])) == [("Ein Wort", "A word")]


@pytest.mark.parametrize(
    ("segment", "text"),
    [
        ('<bpt i="1">&lt;b&gt;</bpt>Start<ept i="1">&lt;/b&gt;</ept> now', "Start now"),
        ('a<ph x="1">{\\cs6}</ph>b <it pos="begin">&lt;i&gt;</it>c<ut>{x}</ut>', "ab c"),
        ('<hi type="x">kurz</hi>e <b>Form</b>', "kurze Form"),
        ("Wort<ph>{\\footnote <sub>Eine Note</sub>}</ph> weiter", "Wort Eine Note weiter"),
        ("a<ph>x<sub>b<ph>y<sub>c</sub>z</ph>d</sub>w</ph>e", "a b c d e"),
        ("<hi>a<ph>x</ph>b</hi>", "ab"),
        (" a\n  b&#10;c&#x9;d ", "a b c d"),
        ("&lt;b&gt; &amp;amp; <![CDATA[<i>]]><!-- no -->", "<b> &amp; <i>"),
        ("", ""),
    ],
)
def test_native_codes_are_no_text_and_the_rest_is(segment, text):
    content = memory(unit(("de", segment), ("en", "x")))
    assert read(content) == ([(text, "x")])


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        (("de", "en"), ("de", "en")),
        (("de_DE", "EN-US"), ("de", "en")),
        (("de", "en"), ("de-AT", "en-GB")),
        (("de-AT-1996", "en"), ("de-at", "en")),
        (("zh-Hans-CN", "en"), ("zh-Hans", "en")),
        (("deu", "eng"), ("deu", "eng")),
    ],
)
def test_tags_are_found_by_their_beginning_and_by_their_fallbacks(tags, wanted):
    assert read(memory(unit((tags[0], "a"), (tags[1], "b"))), wanted) == [("a", "b")]


def test_the_exact_tag_wins_over_longer_ones():
    assert lookup("de", [("de-at", "a"), ("de", "b"), ("de-ch", "c")]) == ("de", ["b"])


def test_several_tags_that_fit_are_named_and_chosen():
    content = memory(PAIR + unit(("de-DE", "Samstag"), ("de-AT", "Sonnabend"), ("en", "Saturday")))
    with pytest.raises(TextError, match=r"line 1, has a unit in de-de and de-at; say which tags"):
        read(content)
    assert read(content, ("de-at", "en"))[1] == ("Sonnabend", "Saturday")


def test_of_several_variants_of_one_tag_the_first_is_taken_and_said_so():
    notes = []
    content = memory(unit(("de", "a"), ("en", "b"), ("en", "c")))
    assert read(content, note=notes.append) == [("a", "b")]
    assert notes == [
        "m.tmx: 1 of 1 units have both languages, 1 several variants of one tag: the first is "
        "taken; segments: de 1, en 2"
    ]


def test_the_languages_of_a_memory_are_named_where_none_fits():
    with pytest.raises(
        TextError, match="no unit in both de and en; its languages are deu 1, eng 1"
    ):
        read(memory(unit(("deu", "a"), ("eng", "b"))))
    with pytest.raises(TextError, match="its languages are de-de 1, en 1; name two of them by"):
        read(memory(unit(("de-DE", "a"), ("en", "b"))), ("de-AT", "en"))


def test_tmx_1_1_and_namespaces_are_read():
    assert read(memory(unit(("de", "a"), ("en", "b"), attribute="lang"))) == [("a", "b")]
    content = memory(PAIR, root=' xmlns="http://www.lisa.org/tmx14"')
    assert read(content) == [("Ein Wort", "A word")]
    prefixed = content.replace("xmlns=", "xmlns:t=")
    for name in ("tmx", "body", "tuv", "tu", "seg"):
        prefixed = prefixed.replace(f"<{name}>", f"<t:{name}>").replace(f"<{name} ", f"<t:{name} ")
        prefixed = prefixed.replace(f"</{name}>", f"</t:{name}>")
    assert read(prefixed) == [("Ein Wort", "A word")]


def test_notes_and_properties_are_no_text():
    extra = '<note>no</note><prop type="x">no</prop>'
    content = memory(PAIR.replace("<tu>", f"<tu>{extra}").replace("<seg>", f"{extra}<seg>"))
    assert read(content) == [("Ein Wort", "A word")]


BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "x" * 10}">' for n in range(12))


@pytest.mark.parametrize(
    ("head", "segment", "message"),
    [
        (f"<!DOCTYPE tmx [{BOMB}]>", "&e11;", "declares an entity"),
        ('<!DOCTYPE tmx [<!ENTITY x SYSTEM "file:///etc/passwd">]>', "&x;", "declares an entity"),
        ('<!DOCTYPE tmx [<!ENTITY % x SYSTEM "http://h/x">%x;]>', "a", "declares an entity"),
        ('<!DOCTYPE tmx SYSTEM "tmx14.dtd">', "&foo;", "uses the entity &foo;, which nobody"),
        ("", "&foo;", "no well-formed TMX .undefined entity"),
        ("", "&#1;", "no well-formed TMX .reference to invalid character number: line 1"),
    ],
)
def test_entities_are_neither_fetched_nor_expanded(head, segment, message):
    with pytest.raises(TextError, match=f"m.tmx.*{message}"):
        read(memory(unit(("de", segment), ("en", "x")), head))


def test_entities_of_html_beside_a_dtd_are_characters():
    content = memory(unit(("de", "a&nbsp;b&uuml;"), ("en", "x")), '<!DOCTYPE tmx SYSTEM "x.dtd">')
    assert read(content) == [("a bü", "x")]


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1", "windows-1252"])
def test_memories_in_other_encodings_are_read(tmp_path, encoding):
    prologue = f'<?xml version="1.0" encoding="{encoding}"?>'
    content = memory(unit(("de", "Größe"), ("en", "size")), prologue=prologue)
    with open_text(*put(tmp_path / "m", content.encode(encoding))) as text:
        assert list(pairs(text, ["de", "en"])) == [("Größe", "size")]


@pytest.mark.parametrize("content", [memory(PAIR)[:-30], memory(PAIR) + "x", "<tmx>", ""])
def test_a_damaged_memory_is_refused(content):
    with pytest.raises(TextError, match=r"m\.tmx is cut off or no well-formed TMX"):
        read(content)


def test_a_segment_without_end_is_refused_before_it_fills_the_memory():
    with pytest.raises(TextError, match="m.tmx, line 1, has a segment of more than 1,000,000 char"):
        read(memory(unit(("de", "x " * 600_000), ("en", "x"))))


def test_another_root_is_refused():
    with pytest.raises(TextError, match="m.tmx, line 1, begins with the element 'xliff' instead"):
        read("<xliff/>")


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 6))
def test_a_memory_with_any_change_gives_pairs_or_one_sentence(draw, changes):
    data = bytearray(memory(PAIR + unit(("de", "x<ph>y</ph>"), ("en-GB", "&amp;"))).encode())
    for _ in range(changes):
        place = draw.randrange(len(data))
        data[place : place + draw.randrange(3)] = bytes(
            draw.choices(b"<>&;/\"'tuvseg\x00\xff", k=2)
        )
    try:
        found = read(bytes(data))
    except TextError as fault:
        assert str(fault).startswith("m.tmx") and "\n" not in str(fault)
    else:
        assert all(len(pair) == 2 for pair in found)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.text(alphabet='a"\t ', max_size=5), min_size=1, max_size=4), min_size=1)
)
def test_any_table_gives_its_cells_or_one_sentence(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "any.tsv"
    lines = ["\t".join(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    try:
        found = list(tsv((path, "any.tsv"), {}, ["de", "en"], False))
    except DataError as fault:
        assert str(fault).startswith("any.tsv")
    else:
        assert found == [tuple(line.split("\t")) for line in lines]
