"""Which hypothesis is chosen, of which branch, and what wrote which line."""

import json
import shutil

import pytest
import sacrebleu

from tsa_mt.cli import main
from tsa_mt.forward_translate.corpus import Corpus
from tsa_mt.forward_translate.selection import Hypothesis, Selection
from tsa_mt.sources import Source, parse_sources

SMALL = (
    "--encoder-layers 1 --encoder-embed-dim 16 --encoder-ffn-embed-dim 16 "
    "--encoder-attention-heads 2 "
    "--decoder-layers 2 --decoder-embed-dim 16 --decoder-ffn-embed-dim 16 "
    "--decoder-attention-heads 2 --share-decoder-input-output-embed"
).split()
FLAGS = ["--beam", "3", "--max-tokens", "90", "--cpu", "--generate", "--max-len-b 15"]


def translate(toy, out, teacher, *flags):
    arguments = ["forward-translate", toy.data, out, "--teacher", teacher, *FLAGS, *flags]
    return main([*map(str, arguments)])


def some(*texts):
    return [Hypothesis(text, -float(rank)) for rank, text in enumerate(texts)]


def plain(text):
    return text.replace("@@ ", "")


def test_the_most_probable_is_the_first():
    assert Selection("model", "chrf", plain).choose(some("a b", "c d")) == 0


def test_the_reference_chooses_by_the_score_of_text_without_subword_marks():
    found = some("wo@@ rl@@ ds a@@ part", "hel@@ lo wor@@ ld", "hello world")
    for metric in ("chrf", "bleu"):
        assert Selection("reference", metric, plain).choose(found, "hello wo@@ rld") == 1


@pytest.mark.parametrize("metric", ["chrf", "bleu"])
def test_minimum_bayes_risk_is_the_best_mean_score_against_all_hypotheses(metric):
    texts = ["the cat sat here", "a dog sat down here", "the dog sat here", "the dog sat here now"]
    scorer = sacrebleu.CHRF() if metric == "chrf" else sacrebleu.BLEU(effective_order=True)
    utility = [sum(scorer.sentence_score(t, [o]).score for o in texts) for t in texts]
    expected = max(range(4), key=utility.__getitem__)
    assert expected != 0
    assert Selection("mbr", metric, plain).choose(some(*texts)) == expected


def test_equal_hypotheses_count_as_often_as_they_are_there():
    found = some("x y z", "the dog", "the dog")
    assert Selection("mbr", "chrf", plain).choose(found) == 1


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("a.pt", [Source("a.pt")]),
        ("a.pt:-1:b.pt:2:c.pt", [Source("a.pt", -1), Source("b.pt", 2), Source("c.pt")]),
        ("a.pt:b.pt", [Source("a.pt"), Source("b.pt")]),
    ],
)
def test_checkpoints_are_named_with_their_branches(text, sources):
    assert parse_sources(text) == sources


@pytest.mark.parametrize("text", ["-1", "a.pt:1:2"])
def test_a_branch_of_nothing_is_refused(text):
    with pytest.raises(ValueError, match="behind no checkpoint; write PATH:BRANCH"):
        parse_sources(text)


@pytest.fixture(scope="module")
def three_best(toy, teacher_file, tmp_path_factory):
    """A training set of which three hypotheses were kept; the most probable were taken."""
    out = tmp_path_factory.mktemp("three-best")
    assert translate(toy, out, teacher_file, "--nbest", 3) == 0
    return out


def kept(out):
    """Texts of every sentence of a run's only chunk."""
    (chunk,) = (out / "chunks").glob("train.*.tsv")
    found = {}
    for line in chunk.read_text().splitlines():
        number, score, text = line.split("\t")
        found.setdefault(int(number), []).append((float(score), text))
    return found


def test_n_best_are_kept_in_the_order_of_their_scores(three_best):
    found = kept(three_best)
    assert len(found) == 48 and {len(some) for some in found.values()} == {3}
    assert all(some == sorted(some, reverse=True) for some in map(list, found.values()))
    first = (three_best / "train.yy").read_text().splitlines()
    assert first == [found[number][0][1] for number in range(48)]


def test_another_choice_takes_the_kept_hypotheses_and_says_so_of_every_line(
    toy, three_best, teacher_file, tmp_path
):
    out = shutil.copytree(three_best, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (out / "chunks").iterdir()}
    choice = ("--nbest", 3, "--select", "reference", "--metric", "bleu", "--force")
    assert translate(toy, out, teacher_file, *choice) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    found, references = kept(out), (toy.folder / "train.yy").read_text().splitlines()
    scorer = sacrebleu.BLEU(effective_order=True)
    lines = [line.split("\t") for line in (out / "data-bin/origin.tsv").read_text().splitlines()]
    for number, text in enumerate((out / "train.yy").read_text().splitlines()):
        scores = [scorer.sentence_score(t, [references[number]]).score for _, t in found[number]]
        best = scores.index(max(scores))
        assert text == found[number][best][1]
        model, split, place, rank, score = lines[number]
        assert (model, split, int(place)) == (f"{teacher_file}:0", "train", number)
        assert int(rank) == best + 1 and float(score) == found[number][best][0]
    about = json.loads((out / "data-bin" / "origin.json").read_text())
    (model,) = about["models"].values()
    assert (model["select"], model["metric"], model["nbest"]) == ("reference", "bleu", 3)
    assert len(model["checkpoints"][0]["sha256"]) == 64


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--nbest", 4), "--nbest is 4, but --beam 3 finds no more than that"),
        (("--nbest", 0), "--nbest is 0; it must be 1 or more"),
        (("--select", "mbr"), "--select mbr chooses among several hypotheses, and --nbest is 1"),
    ],
)
def test_impossible_choices_are_refused(flags, message, toy, teacher_file, tmp_path, capsys):
    assert translate(toy, tmp_path, teacher_file, *flags) == 1
    assert message in capsys.readouterr().err


def test_chunks_of_an_earlier_version_go_on(toy, three_best, teacher_file, tmp_path):
    out = tmp_path / "out"
    (out / "chunks").mkdir(parents=True)
    old = json.loads((three_best / "chunks" / "plan.json").read_text())
    del old["nbest"]
    (out / "chunks" / "plan.json").write_text(json.dumps(old))
    lines = [f"{number}\tw{number % 9} w1\n" for number in range(48)]
    (out / "chunks" / "train.1-of-1.tsv").write_text("".join(lines))
    assert translate(toy, out, teacher_file) == 0
    assert (out / "train.yy").read_text().splitlines()[3] == "w3 w1"
    assert (out / "data-bin" / "origin.tsv").read_text().splitlines()[3].endswith("train\t3\t1\t")


@pytest.fixture(scope="module")
def tree_file(toy, tmp_path_factory):
    """A tree of two leaves, hardly trained."""
    flags = ("--arch", "tree_transformer_tiny", *SMALL, "--tree", "1(1,1)")
    folder = tmp_path_factory.mktemp("tree")
    return toy.train(folder, *flags, "--criterion", "online_kd", "--no-epoch-checkpoints")


@pytest.mark.parametrize("branch", [1, -1])
def test_any_branch_translates_as_fairseq_generate_does_with_it(branch, toy, tree_file, tmp_path):
    flags = [
        "--max-len-b",
        "15",
        "--beam",
        3,
        "--model-overrides",
        f"{{'decode_branch': {branch}}}",
    ]
    expected = toy.generate(tree_file, tmp_path, *flags, split="train")
    assert translate(toy, tmp_path / "out", f"{tree_file}:{branch}") == 0
    assert (tmp_path / "out" / "train.yy").read_text().splitlines() == expected
    assert expected != toy.generate(tree_file, tmp_path, *flags[:4], split="train")


def test_a_branch_of_a_plain_network_is_refused(toy, teacher_file, tmp_path, capsys):
    assert translate(toy, tmp_path, f"{teacher_file}:-1") == 1
    assert "is a plain network without branches; leave ':-1' out" in capsys.readouterr().err


# --- data diversification -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def backward_file(toy, tmp_path_factory):
    """A model of the opposite direction, hardly trained."""
    flags = ("--arch", "transformer", *SMALL, "-s", "yy", "-t", "xx")
    return toy.train(tmp_path_factory.mktemp("backward"), *flags, "--no-epoch-checkpoints")


def test_sources_made_of_targets_join_translations_and_references_without_doubles(
    toy, three_best, backward_file, tmp_path, capsys
):
    back = tmp_path / "back"
    assert translate(toy, back, backward_file, "-s", "yy", "-t", "xx") == 0
    assert (back / "train.yy").read_text() == (toy.folder / "train.yy").read_text()
    folders = (toy.data, three_best / "data-bin", back / "data-bin", toy.data)
    assert main([*map(str, ("merge-data", tmp_path / "all", *folders))]) == 0
    texts = [
        (_lines(f / "train.xx"), _lines(f / "train.yy")) for f in (toy.folder, three_best, back)
    ]
    expected = list(dict.fromkeys(pair for text in texts for pair in zip(*text, strict=True)))
    made = zip(_lines(tmp_path / "all/train.xx"), _lines(tmp_path / "all/train.yy"), strict=True)
    assert list(made) == expected
    printed = capsys.readouterr().out
    assert f"{len(expected)} pairs, {4 * 48 - len(expected)} that were there already" in printed
    assert len(Corpus(tmp_path / "all" / "data-bin").dataset("train", 1)) == len(expected)
    origins = _lines(tmp_path / "all" / "data-bin" / "origin.tsv")
    assert origins[0].startswith("reference\ttrain\t0") and f"{backward_file}:0" in origins[-1]
    models = json.loads((tmp_path / "all" / "data-bin" / "origin.json").read_text())["models"]
    assert len(models) == 2


def _lines(path):
    return path.read_text().splitlines()


def test_corpora_with_other_dictionaries_are_not_merged(toy, tmp_path, capsys):
    other = shutil.copytree(toy.data, tmp_path / "other")
    with open(other / "dict.yy.txt", "a") as dictionary:
        dictionary.write("one-more 1\n")
    assert main(["merge-data", str(tmp_path / "out"), str(toy.data), str(other)]) == 1
    error = capsys.readouterr().err
    assert "dict.yy.txt differs from" in error and "binarise both with the same" in error
    assert not (tmp_path / "out" / "data-bin").exists()
