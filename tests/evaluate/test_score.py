"""Scores: the published ones, their conditions, and inputs that must not be scored."""

import gzip
import json
import lzma
import os
import threading
from pathlib import Path

import pytest
import sacrebleu

from tsa_mt.cli import main as tsa_mt_cli
from tsa_mt.evaluate.score import (
    read_generate_log,
    read_lines,
    references_digest,
    score,
    subword_traces,
    token_traces,
)

WMT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "wmt"
wmt = pytest.mark.skipif(not WMT.is_dir(), reason=f"{WMT} is not there")


@wmt
@pytest.mark.parametrize(
    ("system", "bleu", "chrf", "ter"),
    [
        ("uedin-nmt.4722", "28.30", "57.72", "61.20"),
    ],
)
def test_published_wmt17_scores_are_reproduced(system, bleu, chrf, ter, tmp_path, capsys):
    (path,) = (WMT / "wmt17-en-de-systems").glob(f"*{system}*")
    reference = WMT / "en-de" / "newstest2017-ende.de.gz"
    metrics = ["bleu", "chrf", *(["ter"] if ter else [])]
    arguments = ["score", "--sys", path, "--ref", reference, "--metrics", *metrics]
    out = tmp_path / "scores.json"
    assert tsa_mt_cli([*map(str, arguments), "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["sentences"] == 3004
    values = [f"{entry['score']:.2f}" for entry in report["scores"]]
    assert values == [bleu, chrf, *([ter] if ter else [])]
    printed = capsys.readouterr().out
    version = sacrebleu.__version__
    assert f"BLEU    {bleu}" in printed or f"BLEU   {bleu}" in printed
    assert f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}" in printed
    assert f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}" in printed


@wmt
def test_bleu_of_all_published_wmt17_systems_is_reproduced():
    published = {
        "uedin-nmt.4722": "28.30",
        "LMU-nmt-reranked.4934": "27.11",
        "SYSTRAN.4847": "26.71",
        "xmu.4910": "26.69",
        "online-B.0": "26.65",
        "LIUM-NMT.4900": "26.60",
        "LMU-nmt-single.4893": "26.56",
        "FBK.4870": "26.33",
        "KIT.4950": "26.08",
        "RWTH-nmt-ensemble.4921": "26.02",
        "C-3MA.4959": "22.67",
        "TALP-UPC.4834": "21.24",
        "online-A.0": "20.80",
        "online-G.0": "18.16",
        "PROMT-Rule-based.4735": "16.61",
        "online-F.0": "15.45",
    }
    reference = read_lines(WMT / "en-de" / "newstest2017-ende.de.gz")
    found = {}
    for system in published:
        (path,) = (WMT / "wmt17-en-de-systems").glob(f"*{system}*")
        (bleu,) = score(read_lines(path), [reference], ["bleu"])
        found[system] = f"{bleu.score:.2f}"
    assert found == published


def test_scores_are_sacrebleu_s_own():
    system = ["The cat sat on the mat.", "A dog barked loudly."]
    references = [["The cat is on the mat.", "The dog barked loudly."], ["A cat sat.", "A dog."]]
    got = score(system, references, ["bleu", "chrf", "chrf++", "ter"])
    assert [entry.name for entry in got] == ["BLEU", "chrF2", "chrF2++", "TER"]
    assert got[0].score == sacrebleu.corpus_bleu(system, references).score
    assert got[1].score == sacrebleu.corpus_chrf(system, references).score
    assert got[2].score == sacrebleu.corpus_chrf(system, references, word_order=2).score
    assert got[3].score == sacrebleu.corpus_ter(system, references).score
    assert all("nrefs:2" in entry.signature for entry in got)


def test_case_and_tokeniser_appear_in_the_signature():
    (bleu,) = score(["EIN HAUS"], [["ein haus"]], ["bleu"], lowercase=True, tokenize="char")
    assert "case:lc" in bleu.signature
    assert "tok:char" in bleu.signature
    assert bleu.score == pytest.approx(100)


def test_the_digest_of_references_tells_content_and_order_apart_and_nothing_else():
    digest = references_digest([["a", "b"], ["c", "d"]])
    assert digest == references_digest((("a", "b"), ("c", "d")))
    others = ([["a", "b", "c", "d"]], [["a", "B"], ["c", "d"]], [["c", "d"], ["a", "b"]], [["ab"]])
    assert digest not in {references_digest(other) for other in others}


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="2 hypotheses but 1 lines in reference:"):
        score(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="2 hypotheses but 3 lines in reference 2:"):
        score(["a", "b"], [["a", "b"], ["a", "b", "c"]])


def test_nothing_cannot_be_scored():
    with pytest.raises(ValueError, match="nothing to score"):
        score([], [[]])


def test_only_line_feeds_end_a_line(tmp_path):
    """Python would also split at U+2028 and others, and shift every sentence behind them."""
    (tmp_path / "text").write_bytes("a\u2028b\r\nc\x0bd\n\ne\n".encode())
    assert read_lines(tmp_path / "text") == ["a\u2028b", "c\x0bd", "", "e"]
    with gzip.open(tmp_path / "text.gz", "wt", encoding="utf-8") as file:
        file.write("ä\n")
    assert read_lines(tmp_path / "text.gz") == ["ä"]


def test_text_that_is_not_utf_8_is_refused_with_its_line(tmp_path):
    (tmp_path / "text").write_bytes(b"fine\nm\xfcde\n")
    with pytest.raises(ValueError, match=r"text, line 2, is not UTF-8 \(byte 0xfc\)"):
        read_lines(tmp_path / "text")


@pytest.mark.parametrize(
    ("logged", "text"),
    [
        ("ein <0xF0><0x9F><0x98><0x80> <0xCE><0xA9>.", "ein 😀 Ω."),
        ("<0xE2><0x82> <0x41>", "\ufffd A"),
        ("a <0xG0> <0x4> <0xe2> 0xAC", "a <0xG0> <0x4> <0xe2> 0xAC"),
        ("<0xC3><0xA4><0xC3><0xA4>h", "ääh"),
    ],
)
def test_byte_pieces_of_a_log_are_joined_as_translate_joins_them(logged, text, tmp_path):
    lines = [f"S-0\t{logged}", f"T-0\t{logged}", "H-0\t-1\tx", f"D-0\t-1\t{logged}"]
    (tmp_path / "log").write_text("\n".join(lines))
    log = read_generate_log([tmp_path / "log"])
    assert (log.hypotheses, log.targets, log.sources) == ([text], [text], [text])


def test_byte_pieces_in_plain_text_are_warned_of():
    assert "1 of 2 hypotheses contain byte pieces" in subword_traces(["<0xF0><0x9F> x", "y"])
    assert subword_traces(["a <b> 0xF0", "y"]) is None


LOG = """2026-01-01 | INFO | fairseq.tasks.translation | data-bin test en-de 3 examples
S-2\tc
T-2\tC .
H-2\t-0.5\t▁C
D-2\t-0.5\tSee.
P-2\t-0.1
S-0\ta
T-0\tA .
H-0\t-0.5\t▁A
D-0\t-0.5\tAh.
P-0\t-0.1
H-0\t-0.9\t▁B
D-0\t-0.9\tWorse.
P-0\t-0.1
S-1\tb
T-1\tB .
H-1\t-0.5\t▁B
D-1\t-0.5\tBe\tor.
P-1\t-0.1
Generate test with beam=5: BLEU4 = 1.00
"""


@pytest.fixture
def log(tmp_path):
    """Writes a generate log, with a change to it."""

    def write(old="", new="", name="generate.log"):
        assert old in LOG
        (tmp_path / name).write_text(LOG.replace(old, new) if old else LOG)
        return tmp_path / name

    return write


def test_a_log_is_read_in_corpus_order_with_the_best_of_each_n_best_list(log):
    read = read_generate_log([log()])
    assert read.hypotheses == ["Ah.", "Be\tor.", "See."]
    assert read.targets == ["A .", "B .", "C ."]
    assert read.sources == ["a", "b", "c"]


def test_shards_of_a_corpus_are_put_together(tmp_path):
    blocks = LOG.splitlines(keepends=True)
    (tmp_path / "0.log").write_text("".join(blocks[:6]))
    (tmp_path / "1.log").write_text("".join(blocks[:1] + blocks[6:]))
    read = read_generate_log([tmp_path / "0.log", tmp_path / "1.log"])
    assert read.hypotheses == ["Ah.", "Be\tor.", "See."]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("D-1\t-0.5\tBe\tor.\n", "", r"lacks 1 of 3 sentences \(ids 1\); .*batch-size-multiple 1"),
        ("D-2\t-0.5\tSee.\n", "", r"lacks 1 of 3 sentences \(ids 2\)"),
        ("D-", "X-", "no D- lines .*; it has H- lines"),
        ("S-1\tb", "D-2\t-0.1\tagain", "sentence 2 is translated twice; do the logs overlap"),
    ],
)
def test_a_log_with_holes_or_doubles_is_refused(log, old, new, message):
    with pytest.raises(ValueError, match=message):
        read_generate_log([log(old, new)])


def test_a_file_that_is_no_log_is_refused(tmp_path):
    (tmp_path / "text").write_text("Hello.\n")
    with pytest.raises(ValueError, match="is it the output of fairseq-generate"):
        read_generate_log([tmp_path / "text"])
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read_generate_log([tmp_path / "nowhere"])


def run(capsys, *arguments):
    status = tsa_mt_cli(["score", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_log_is_scored_against_raw_references(log, tmp_path, capsys):
    (tmp_path / "ref").write_text("Ah.\nBe\tor.\nSee.\n")
    status, out, error = run(capsys, "--generate-log", log(), "--ref", tmp_path / "ref")
    assert (status, error) == (0, "")
    assert "chrF2  100.00" in out
    assert "3 sentences, 1 reference(s)" in out


def test_without_references_the_log_s_targets_are_used_with_a_warning(log, capsys):
    status, _, error = run(capsys, "--generate-log", log())
    assert status == 0
    assert "the references are the log's T- lines" in error


def test_a_log_without_targets_needs_references(log, capsys):
    assert "has no T- lines" in run(capsys, "--generate-log", log("T-", "U-"))[2]


def test_a_log_given_as_text_is_recognised(log, capsys):
    status, _, error = run(capsys, "--sys", log(), "--ref", log())
    assert status == 1
    assert "pass it as --generate-log" in error


def test_nothing_named_is_nothing_to_score(capsys):
    assert "name translations: --sys or --generate-log" in run(capsys)[2]


@pytest.fixture
def texts(tmp_path):
    """Two systems and a reference."""
    lines = {
        "a": ["the cat sat on the mat", "a dog barked loudly", "it rains today in the town"],
        "b": ["the cat sat on a mat", "a dog barked", "it rained today in the town"],
        "ref": ["the cat sat on the mat", "a dog barked loudly", "it rained today in the town"],
    }
    for name, content in lines.items():
        (tmp_path / name).write_text("\n".join(content) + "\n")
    return tmp_path


def test_several_systems_are_scored_one_by_one(texts, tmp_path, capsys):
    out = tmp_path / "scores.json"
    names = [texts / "a", texts / "b"]
    status, printed, _ = run(capsys, "--sys", *names, "--ref", texts / "ref", "--json", out)
    assert status == 0
    assert printed.startswith("a\nBLEU ") and "\nb\nBLEU " in printed
    report = json.loads(out.read_text())
    assert [entry["system"] for entry in report["systems"]] == list(map(str, names))
    assert report["sentences"] == 3


def test_a_paired_test_prints_a_table_with_p_values_and_signatures(texts, log, tmp_path, capsys):
    (texts / "logged").write_text(log("D-1\t-0.5\tBe\tor.", "D-1\t-0.5\ta dog barked").read_text())
    out = tmp_path / "scores.json"
    arguments = ["--sys", texts / "b", "--generate-log", texts / "logged", "--sys", texts / "a"]
    arguments += ["--ref", texts / "ref", "--paired", "--samples", "50", "--json", out]
    status, printed, _ = run(capsys, *arguments)
    assert status == 0
    lines = printed.splitlines()
    assert lines[0].startswith("system") and "BLEU (mean ± 95 % CI)  p" in lines[0]
    assert [line.split()[0] for line in lines[1:4]] == ["b", "logged", "a"]
    assert "(baseline)" in lines[1]
    assert any(line.startswith("chrF2  nrefs:1|bs:50|seed:12345|") for line in lines)
    assert any(line.startswith("a: BLEU +") for line in lines)
    report = json.loads(out.read_text())
    assert report["paired"] == {
        "test": "bootstrap",
        "baseline": str(texts / "b"),
        "samples": 50,
        "seed": 12345,
    }
    assert report["systems"][0]["scores"][0]["p_value"] is None
    assert 0 < report["systems"][1]["scores"][0]["p_value"] <= 1


def test_a_paired_test_needs_two_systems(texts, capsys):
    error = run(capsys, "--sys", texts / "a", "--ref", texts / "ref", "--paired")[2]
    assert "--paired needs a baseline and at least one other system" in error


def test_a_system_is_given_once(texts, capsys):
    error = run(capsys, "--sys", texts / "a", texts / "a", "--ref", texts / "ref")[2]
    assert "a is named twice; give every system once" in error


def test_files_of_one_name_are_told_apart_by_their_folders(texts, capsys):
    (texts / "other").mkdir()
    (texts / "other" / "a").write_text((texts / "b").read_text())
    names = [texts / "a", texts / "other" / "a"]
    printed = run(capsys, "--sys", *names, "--ref", texts / "ref")[1]
    assert all(f"{name}\n" in printed for name in names)


def comet_file(folder, name="a", change=None):
    """What comet-score --to_json writes about a system."""
    lines = read_lines(folder / name)
    entries = [{"src": "s", "mt": f"{line} ", "ref": "r", "COMET": 0.8} for line in lines]
    content = {str(folder / name): entries} if change is None else change(entries)
    (folder / "comet.json").write_text(json.dumps(content))
    return folder / "comet.json"


def test_comet_is_read_from_its_own_file(texts, capsys):
    arguments = ["--sys", texts / "a", "--ref", texts / "ref"]
    printed = run(capsys, *arguments, "--comet", comet_file(texts), "wmt22-comet-da")[1]
    assert "COMET   80.00  model:wmt22-comet-da|scale:100\n" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entries: {"x": [{**e, "mt": "other"} for e in entries]}, "no scores of these 3"),
        (lambda entries: {"x": entries[:2]}, "no scores of these 3"),
        (lambda entries: entries, "is not what comet-score --to_json writes"),
        (lambda entries: {"x": [{"mt": "a"}]}, "is not what comet-score --to_json writes"),
        (lambda entries: {"x": [{**e, "COMET": float("nan")} for e in entries]}, "not a finite"),
    ],
)
def test_figures_of_other_translations_are_not_taken(texts, change, message, capsys):
    path = comet_file(texts, change=change)
    arguments = ["--sys", texts / "a", "--ref", texts / "ref", "--comet", path, "wmt22-comet-da"]
    assert message in run(capsys, *arguments)[2]


def test_a_comet_file_must_be_there_and_be_json(texts, capsys):
    arguments = ["--sys", texts / "a", "--ref", texts / "ref", "--comet"]
    assert "nowhere does not exist" in run(capsys, *arguments, texts / "nowhere", "m")[2]
    assert "is not JSON" in run(capsys, *arguments, texts / "ref", "m")[2]
    names = [texts / "a", texts / "b"]
    arguments = ["--sys", *names, "--ref", texts / "ref", "--paired", "--comet", names[0], "m"]
    assert "test COMET with comet-compare" in run(capsys, *arguments)[2]


def test_a_folder_for_the_json_is_told_in_a_sentence_and_stays_as_it_is(texts, tmp_path, capsys):
    folder = tmp_path / "adir"
    folder.mkdir()
    names = ["--sys", texts / "a", "--ref", texts / "ref", "--json", folder]
    status, _, error = run(capsys, *names)
    assert (status, list(folder.iterdir())) == (1, [])
    assert f"{folder} cannot be written: it is a folder, name a file\n" in error
    assert not list(tmp_path.glob(".*"))


SENTENCES = ["Das ist ein Haus.", "Größe: 3 m² — „gut“", "R&D"]


def sgml(lines):
    segments = "".join(
        f'<seg id="{n}">{line.replace("&", "&amp;")}</seg>\n' for n, line in enumerate(lines)
    )
    return f'<refset setid="t"><doc docid="d">\n{segments}</doc></refset>\n'


@pytest.mark.parametrize(
    "pack",
    [
        lambda text: gzip.compress(text.encode()),
        lambda text: lzma.compress(text.encode()),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-8-sig").replace(b"\n", b"\r\n"),
        lambda text: sgml(text.splitlines()).encode(),
    ],
    ids=["gzip", "xz", "utf-16", "windows", "sgml"],
)
def test_a_text_scores_the_same_whatever_it_is_packed_in(pack, tmp_path, capsys):
    text = "".join(f"{line}\n" for line in SENTENCES)
    packed, plain = tmp_path / "packed", tmp_path / "plain"
    packed.write_bytes(pack(text))
    plain.write_text(text)
    assert read_lines(packed) == SENTENCES
    assert tsa_mt_cli(["score", "--sys", str(packed), "--ref", str(plain)]) == 0
    assert "100.00" in capsys.readouterr().out


def test_markup_on_both_sides_is_not_scored(tmp_path, capsys):
    for name, lines in (("sys", ["Ganz etwas anderes steht da."]), ("ref", SENTENCES[:1])):
        (tmp_path / name).write_text(sgml(lines))
    arguments = [
        "--sys",
        str(tmp_path / "sys"),
        "--ref",
        str(tmp_path / "ref"),
        "--metrics",
        "bleu",
    ]
    assert tsa_mt_cli(["score", *arguments]) == 0
    assert float(capsys.readouterr().out.split()[1]) < 10


def test_a_pipe_is_scored(tmp_path, capsys):
    plain, pipe = tmp_path / "plain", tmp_path / "pipe"
    plain.write_text("one two three four five\n")
    os.mkfifo(pipe)
    feed = threading.Thread(target=pipe.write_bytes, args=[plain.read_bytes()])
    feed.start()
    assert tsa_mt_cli(["score", "--sys", str(pipe), "--ref", str(plain)]) == 0
    feed.join()
    assert "BLEU   100.00" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\tein Haus\n2\tein Hund\n", "is a table: every line has 2 columns separated by tabs"),
        ('<?xml version="1.0"?>\n<tmx version="1.4"></tmx>', "is a translation memory (TMX)"),
        ("PK\x03\x04\x14", "is a zip archive"),
    ],
)
def test_what_holds_no_lines_of_one_side_is_refused(content, message, tmp_path, capsys):
    path = tmp_path / "file"
    path.write_text(content)
    assert tsa_mt_cli(["score", "--sys", str(path), "--ref", str(path)]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "tokenize", "warning"),
    [
        ("我喜欢在公园里散步。", "13a", "use --tokenize zh, or chrF"),
        ("これは日本語の文です。", "13a", "use --tokenize ja-mecab (pip install 'sacrebleu[ja]')"),
        ("ฉันชอบเดินเล่นในสวน", "13a", "use --tokenize flores200, or chrF"),
        ("我喜欢在公园里散步。", "zh", None),
        ("Ich gehe gern spazieren.", "13a", None),
    ],
)
def test_a_tokeniser_that_finds_no_words_is_warned_of(line, tokenize, warning, tmp_path, capsys):
    path = tmp_path / "text"
    path.write_text(f"{line}\n")
    arguments = ["--sys", str(path), "--ref", str(path), "--tokenize", tokenize]
    assert tsa_mt_cli(["score", *arguments]) == 0
    error = capsys.readouterr().err
    assert (
        f"warning: BLEU with the tokeniser {tokenize} counts" in error and warning in error
        if (warning)
        else "counts what stands" not in error
    )


def test_text_needs_references(log, capsys):
    assert "--sys needs --ref" in run(capsys, "--sys", log())[2]


def test_pieces_and_tokens_are_noticed(tmp_path, capsys):
    assert "'▁'" in subword_traces(["▁a ▁b", "c"])
    assert "--remove-bpe;" not in subword_traces(["a@@ b"])
    assert "'@@'" in subword_traces(["a@@ b"])
    assert subword_traces(["a b"] * 20 + ["▁c"]) is None
    assert "look tokenised" in token_traces(["Hello ."])
    assert token_traces(["Hello.", "Bonjour !", ""]) is None
    (tmp_path / "sys").write_text("▁a ▁b\n")
    (tmp_path / "ref").write_text("a b\n")
    assert "warning: 1 of 1" in run(capsys, "--sys", tmp_path / "sys", "--ref", tmp_path / "ref")[2]
