"""The page about runs: every section, what is missing, text that is markup, and long curves."""

import json
import math
import re
from html.parser import HTMLParser

import pytest

from tsa_mt.cli import main as tsa_mt_cli
from tsa_mt.evaluate.report.axes import linear_axis, log_axis, tick_labels
from tsa_mt.evaluate.report.diversity import trend
from tsa_mt.evaluate.report.drawing import draw_tree
from tsa_mt.evaluate.report.lines import STRETCHES, Series, condense, line_chart
from tsa_mt.evaluate.report.markup import Html, element, text
from tsa_mt.evaluate.report.samples import mark_differences
from tsa_mt.evaluate.report.scatter import Mark, scatter
from tsa_mt.evaluate.report.wording import duration, memory, number, scaled

VOID = {"br", "hr", "meta"}


class Page(HTMLParser):
    """A page taken apart: it must be well-formed; texts by tag and all attributes."""

    def __init__(self, source):
        super().__init__()
        self.open, self.texts, self.tags, self.attributes = [], {}, [], []
        self.facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", source))
        self.feed(source)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in self.open:
            self.texts.setdefault(tag, []).append(data)

    def words(self, tag="body"):
        return " ".join(" ".join(self.texts.get(tag, [])).split())


@pytest.fixture(scope="module")
def folders(write_run, tmp_path_factory):
    """A plain run and a tree of which all leaves have translated, with a certificate."""
    base = tmp_path_factory.mktemp("runs")
    plain = write_run(base / "plain", "independent", errors=0.3, sets=("test_a",))
    tree = write_run(base / "tsa", "tsa", branches=(1, 2, -1), sets=("test_a",))
    (tree / "export").mkdir()
    (tree / "export" / "certificate.json").write_text(json.dumps(CERTIFICATE))
    return plain, tree


CERTIFICATE = {
    "format": 1,
    "created": "2026-08-01T10:00:00+00:00",
    "checkpoint": {"path": "checkpoint_best.pt", "sha256": "ab" * 32, "branch": 0},
    "export": {"format": "ctranslate2", "quantization": "int8", "files": {}},
    "reference": {"source": "valid", "sentences": 500, "sha256": "cd" * 32},
    "decoding": {"beam": 5},
    "identical": 480,
    "different": 20,
    "before": {
        "scores": [{"name": "BLEU", "score": 30.0, "signature": "s"}],
        "bytes": 2**22,
        "sentences_per_second": 10.0,
    },
    "after": {
        "scores": [{"name": "BLEU", "score": 29.9, "signature": "s"}],
        "bytes": 2**20,
        "sentences_per_second": 45.0,
    },
    "passed": True,
}


def report(*folders, **options):
    """Runs the command and takes its page apart."""
    out = folders[0].parent / "report.html"
    flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    assert tsa_mt_cli(["report", *map(str, folders), "--out", str(out), *flags]) == 0
    return Page(out.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(folders):
    return report(*folders)


def test_every_section_is_there(page):
    assert page.texts["h2"] == [
        "All runs",
        "Leaders",
        "Quality against cost",
        "Comparison over seeds",
        "Translations of the leaders",
        "plain",
        "tsa",
    ]
    sections = ["Tree", "Diversity", "Curves", "Translations", "Certificates", "Conditions"]
    assert page.texts["h3"] == sections * 2


def test_links_of_the_page_lead_to_its_sections(page):
    targets = {value for name, value in page.attributes if name == "href"}
    anchors = {f"#{value}" for name, value in page.attributes if name == "id"}
    assert targets <= anchors and "#run-1" in targets


def test_the_page_needs_no_network_and_no_script(page, folders):
    source = (folders[0].parent / "report.html").read_text(encoding="utf-8")
    assert "script" not in page.tags and "link" not in page.tags and "img" not in page.tags
    assert not [name for name, _ in page.attributes if name in ("src", "srcset", "onload")]
    assert "url(" not in source and "@import" not in source
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_the_page_has_both_themes_and_fits_a_phone(page):
    style = page.words("style")
    assert "prefers-color-scheme: dark" in style and "@media print" in style
    assert ("content", "width=device-width, initial-scale=1") in page.attributes
    assert ("lang", "en") in page.attributes


def test_every_picture_is_described_in_words(page, folders):
    source = (folders[0].parent / "report.html").read_text(encoding="utf-8")
    pictures = re.findall(r"<svg[^>]*class=\"(?:chart|tree)\"[^>]*>", source)
    assert len(pictures) > 15
    assert all('role="img"' in tag and "aria-label=" in tag for tag in pictures)


def test_the_tree_has_its_leader_and_the_last_loss_of_its_leaves(page):
    assert "4 leaves, 8 layers in training; the leader keeps 4 of them (2 + 1 + 1)." in page.words()
    assert "leader nll 3." in page.words("svg")
    assert "leaf 3" in page.words("svg")


def test_curves_are_named_and_have_units(page):
    titles = page.texts["figcaption"]
    for title in (
        "Negative log-likelihood of each leaf, valid",
        "BLEU while training, valid",
        "Terms of the training loss",
        "Ramp-up of the distillation",
        "Gradient norm",
        "Divergence between leaves (KL), valid",
    ):
        assert title in titles
    assert {"bits per token", "BLEU", "updates", "tokens per second"} <= set(page.texts["text"])
    assert "ensemble of all leaves" in page.words("li")


def test_quality_stands_against_three_costs(page):
    titles = ["Against training compute", "Against wall time", "Against size of the leader"]
    assert [title for title in page.texts["figcaption"] if title in titles] == titles
    assert "Quality is BLEU on test_a, model 'best'." in page.words("p")
    assert any(label.startswith("training compute, PFLOP") for label in page.texts["text"])


def test_the_rows_of_the_comparison_are_there(page):
    assert {"test_a", "training cost"} <= set(page.texts["caption"])
    assert "nrefs:1|case:mixed|eff:no|tok:13a" in page.words("p")


def test_translations_stand_side_by_side_with_differences_marked(page):
    names = page.texts["dt"]
    assert {"source", "reference", "leader", "leaf 1", "leaf 2", "ensemble"} <= set(names)
    assert page.texts["mark"]
    assert "40 sentences, of which" in page.words("p")


def test_the_certificate_is_there_with_its_verdict(page):
    assert "ctranslate2, int8 ✓ passed" in page.words("h4")
    assert "480 of 500 reference sentences are translated token for token" in page.words("p")
    assert {"4.0 MiB", "1.0 MiB", "45.00"} <= set(page.texts["td"])


def test_the_conditions_are_there(page):
    assert page.facts["commit"] == "959db04"
    assert "torch 2.13.0" in page.facts["versions"]
    assert page.facts["optimization.lr"] == "[0.003]"


def test_a_markup_in_translations_and_records_is_text(write_run, tmp_path):
    evil = '<script>alert("1")</script> & <b>bold</b>'
    folder = write_run(tmp_path / "a<i>&", sets=("test_a",), commit=evil, branches=(-1,))
    for log in (folder / "results").glob("*.log"):
        log.write_text(log.read_text().replace("\t-0.3\t", f"\t-0.3\t{evil}\x07 "))
    page = report(folder)
    assert not {"script", "i"} & set(page.tags)
    assert "bold" not in page.texts.get("b", [])
    assert f"{evil}\ufffd" in page.words("dd")
    assert page.texts["h2"][-1] == "a<i>&"


def test_a_run_that_has_just_begun_is_a_page_of_sentences(tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "run.json").write_text('{"format": 1, "status": "running"}')
    words = report(folder).words()
    for sentence in (
        "No curves: curves.csv is not there",
        "There is no log of translations in results/",
        "No export of this run lies in its folder",
        "The record holds no options.",
        "This network is no tree",
        "There is one leaf only",
        "cannot be put together into systems",
    ):
        assert sentence in words
    assert "not recorded" in words


def test_runs_without_scores_and_costs_are_pages_of_sentences(write_run, tmp_path):
    nothing = {"sets": (), "training_flops": None, "best": None, "parameters": {}}
    folders = [write_run(tmp_path / n, n, **nothing) for n in ("tsa", "okddip")]
    assert "No run has a score or a best validation figure yet." in report(*folders).words()
    nothing["best"] = {"metric": "loss", "value": 4.0}
    folders = [write_run(tmp_path / n, n, **nothing) for n in ("tsa", "okddip")]
    words = report(*folders).words()
    assert "No run has recorded its training compute." in words
    assert "Quality is best loss on validation." in words


def test_damaged_logs_and_certificates_are_said_and_the_rest_is_shown(write_run, tmp_path):
    folder = write_run(tmp_path / "run", sets=("test_a",), branches=(1, -1))
    (folder / "results" / "best.branch1.test_a.log").write_text("nothing\n")
    log = folder / "results" / "best.branch-1.test_a.log"
    log.write_text("D-0\t-0.1\tHello.\n")
    (folder / "certificate.json").write_text("{")
    (folder / "x").mkdir()
    (folder / "x" / "certificate.json").write_text("[]")
    words = report(folder).words("p")
    assert "leaf 1: " in words and "has no D- lines" in words
    assert "ensemble: 1 translations cannot be set beside 40" in words
    assert "/certificate.json is damaged, it is not JSON: " in words
    assert "x/certificate.json is damaged: it holds a list, not an object." in words
    assert "translated by leader. The other leaves have not translated it" in words


def test_paired_tests_are_made_on_demand(folders):
    words = report(*folders, samples=20).words()
    assert "Paired bootstrap against plain, 20 samples" in words
    assert re.search(r"[+-]\d+\.\d\d, p = 0\.\d{3}", words)


def test_runs_under_several_seeds_are_one_method(write_run, tmp_path):
    folders = [write_run(tmp_path / f"s{n}", seed=n, sets=("test_a",)) for n in (1, 2)]
    page = report(*folders)
    assert any("±" in cell for cell in page.texts["td"])
    assert "2 runs of 1 method" in page.words("li")


def test_runs_that_must_not_be_averaged_are_shown_all_the_same(write_run, tmp_path):
    folders = [write_run(tmp_path / n, sets=(), commit=n) for n in ("one", "two")]
    words = report(*folders).words()
    assert "cannot be put together into systems" in words and "seed" in words
    assert {"one", "two"} <= set(report(*folders).texts["h2"])


def test_images_have_accuracy_instead_of_bleu(write_run, tmp_path):
    best = {"metric": "accuracy", "value": 71.5}
    changes = {"task": "image_classification", "sets": (), "best": best}
    page = report(*(write_run(tmp_path / n, n, **changes) for n in ("one", "okddip")))
    assert "bits per image" in page.texts["text"]
    assert "Accuracy of the leaders" in page.texts["figcaption"]
    assert "Quality is best accuracy on validation." in page.words("p")
    assert "the same class" in page.words("p")


def test_runs_stand_in_the_order_in_which_they_were_named(write_run, tmp_path):
    write_run(tmp_path / "a", seed=1, sets=()), write_run(tmp_path / "b", "okddip", sets=())
    write_run(tmp_path / "c", seed=2, sets=())
    out = tmp_path / "r.html"
    names = [f"{tmp_path}/{name}/" for name in "cba"]
    assert tsa_mt_cli(["report", *names, "--out", str(out)]) == 0
    assert Page(out.read_text()).texts["h2"][-3:] == ["c", "b", "a"]


def test_many_runs_are_folded(write_run, tmp_path):
    folders = [write_run(tmp_path / f"s{n}", seed=n, sets=()) for n in range(1, 6)]
    assert ("open", None) not in report(*folders).attributes
    assert ("open", None) in report(*folders[:4]).attributes


def test_folders_of_one_name_are_told_apart(write_run, tmp_path):
    folders = [write_run(tmp_path / n / "run", n, sets=()) for n in ("tsa", "okddip")]
    out = tmp_path / "r.html"
    assert tsa_mt_cli(["report", *map(str, folders), "--out", str(out)]) == 0
    assert Page(out.read_text()).texts["h2"][-2:] == ["tsa/run", "okddip/run"]


def test_a_run_of_many_updates_makes_a_page_of_bounded_size(write_run, tmp_path):
    folder = write_run(tmp_path / "long", sets=())
    lines = ["update,epoch,split,metric,value"]
    for metric in ("loss", "gnorm", "nll_b0", "wps"):
        lines += [f"{n},1,train_inner,{metric},{5 + n % 7}" for n in range(1, 10_001)]
    (folder / "curves.csv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "r.html"
    assert tsa_mt_cli(["report", str(folder), "--out", str(out)]) == 0
    assert out.stat().st_size < 100_000
    assert "Lines: means of 83 figures in a row" in out.read_text()


# --- the command --------------------------------------------------------------------------------


def command(capsys, *arguments):
    status = tsa_mt_cli(["report", *map(str, arguments)])
    return status, capsys.readouterr().err


def test_an_earlier_report_is_replaced_and_other_files_are_not(folders, tmp_path, capsys):
    out = tmp_path / "r.html"
    for _ in range(2):
        assert command(capsys, folders[0], "--out", out) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    out.write_text("my thesis")
    status, error = command(capsys, folders[0], "--out", out)
    assert status == 1 and "exists and is no report of tsa-mt; name another file" in error
    assert out.read_text() == "my thesis"
    assert "is a folder; name a file" in command(capsys, folders[0], "--out", tmp_path)[1]


def test_a_run_is_given_once_and_must_be_one(folders, tmp_path, capsys):
    arguments = [folders[0], folders[0], "--out", tmp_path / "r.html"]
    assert "is named twice; give every run once" in command(capsys, *arguments)[1]
    named = f"tsa={folders[0]}"
    assert "is not a folder" in command(capsys, named, "--out", tmp_path / "r.html")[1]
    assert "has no run.json" in command(capsys, tmp_path, "--out", tmp_path / "r.html")[1]
    assert not list(tmp_path.iterdir())


# --- the parts ----------------------------------------------------------------------------------


def test_text_is_escaped_and_markup_is_not():
    made = element("p", '<&">', None, ["a", Html("<b>b</b>")], class_="x", title='"', hidden=True)
    assert made == '<p class="x" title="&quot;" hidden>&lt;&amp;&quot;&gt;a<b>b</b></p>'
    assert element("meta", name="a", content=None) == '<meta name="a">'


def test_what_html_has_no_place_for_is_replaced():
    assert text("a\x00b\ud800c\td\n") == "a\ufffdb\ufffdc\td\n"
    text("\ud83d").encode("utf-8")


@pytest.mark.parametrize(
    ("base", "other", "expected"),
    [
        ("a b c", "a b c", "a b c"),
        ("a b c", "a x c", "a <mark>x</mark> c"),
        ("a b c", "a c", "a <del>b</del> c"),
        ("a c", "a <b> c", "a <mark>&lt;b&gt;</mark> c"),
        ("a", "", "<del>a</del>"),
        ("", "", ""),
        ("狐" * 30, "狐" * 29 + "犬", "狐" * 29 + "<mark>犬</mark>"),
    ],
)
def test_words_that_differ_are_marked(base, other, expected):
    assert mark_differences(base, other) == expected


def test_condensed_curves_keep_every_peak_and_skip_what_is_not_finite():
    points = [(n, math.nan if n % 2 else 1.0) for n in range(10_000)]
    points[5000] = (5000, 99.0)
    stretches = condense(points)
    assert len(stretches) == STRETCHES
    assert max(stretch.high for stretch in stretches) == 99.0
    assert min(stretch.low for stretch in stretches) == 1.0
    assert math.isnan(condense([(1, math.inf)] * 300)[0].mean)


def test_a_line_is_interrupted_where_values_are_not_finite():
    values = [1.0, 2.0, math.nan, 4.0, 5.0]
    chart = line_chart("t", [Series("a", list(enumerate(values)))], "y")
    path = re.findall(r'<path d="(M[^"]*)" class="line c0"><', chart)[0]  # then the legend's
    assert path.count("M") == 2
    assert "No finite value" in line_chart("t", [Series("a", [(0, math.inf)])], "y")


def test_a_steep_start_is_cut_off_and_said():
    points = [(n, 3.0 + 100.0 * (n < 2) + 0.01 * (n % 5)) for n in range(100)]
    chart = line_chart("t", [Series("a", points)], "y")
    assert "The first values lie outside the axis, up to 103." in chart


def test_axes_have_round_ticks_that_enclose_the_data():
    axis = linear_axis(3.17, 9.6, 0.0, 100.0)
    assert axis.ticks == (2.0, 4.0, 6.0, 8.0, 10.0)
    assert (axis.place(2.0), axis.place(10.0)) == (0.0, 100.0)
    flat = linear_axis(5.0, 5.0, 0.0, 1.0)
    assert flat.low < 5.0 < flat.high
    log = log_axis(3.0, 4000.0, 0.0, 1.0)
    assert log.ticks[0] <= 3.0 and log.ticks[-1] >= 4000.0
    assert log.place(10.0) - log.place(1.0) == pytest.approx(log.place(100.0) - log.place(10.0))


def test_tick_labels_share_a_unit_and_show_no_rounding_errors():
    assert tick_labels([0.0, 5000.0, 10_000.0]) == ["0", "5k", "10k"]
    assert tick_labels([0.1 + 0.2, 0.4]) == ["0.3", "0.4"]
    assert tick_labels([1e6, 2.5e6]) == ["1M", "2.5M"]
    assert tick_labels([0.0, 0.0001]) == ["0", "1e-4"]


def test_marks_far_apart_stand_on_a_logarithmic_axis_and_differ_in_shape():
    marks = [Mark("a", 1.0, 20.0, "A"), Mark("b", 900.0, 30.0, "B"), Mark("c", 5.0, 25.0, "C")]
    plot = scatter("t", marks, "x", "y", ["A", "B", "C"])
    assert {">1<", ">10<", ">100<"} <= set(re.findall(r">\d+<", plot))
    assert "<circle" in plot and "<rect" in plot and "c2" in plot


def test_a_single_mark_has_axes():
    assert "<circle" in scatter("t", [Mark("a", 0.0, 0.0, "A")], "x", "y", ["A"])


@pytest.mark.parametrize(
    "notation",
    ["6", "0(1,1)", "2(2(2,2),2(2,2))", "4(4,8,12,16)", "0(6,6,6)", "1(0(1,2),3)", "4(2/4,0/9)"],
)
def test_every_tree_can_be_drawn(notation):
    picture = draw_tree(notation)
    Page(picture)
    assert picture.count('class="border"') == notation.count("/")
    assert picture.count('class="name"') == 1 + notation.count(",") + 1
    assert "leader" in picture


def test_what_is_no_tree_is_said():
    assert "is not a notation that can be drawn" in draw_tree("2(")


def points_of(*values):
    return [(100 * n, value) for n, value in enumerate(values, start=1)]


@pytest.mark.parametrize(
    ("values", "direction"),
    [
        ([5, 3, 2, 1.6, 1.3, 1.0], -1),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1),
        ([5, 3, 1.0, 1.01, 0.99, 1.0], 0),
        ([1.0, 5.0, 1.0, 5.0, 1.0, 4.9], 0),
    ],
)
def test_the_trend_is_that_of_the_second_half_and_beats_the_noise(values, direction):
    found = trend(points_of(*values)).relative
    assert (found > 0.1) - (found < -0.1) == direction


def test_too_few_points_have_no_trend():
    assert trend(points_of(1, 2, math.nan, 3)) is None


def diverge(write_run, folder, values, **changes):
    """A run whose leaves diverge as told."""
    write_run(folder, sets=(), **changes)
    lines = ["update,epoch,split,metric,value"]
    lines += [f"{n},1,valid,kl_leaves,{value}" for n, value in points_of(*values)]
    lines += [f"{n},1,valid,agreement,{90 - value}" for n, value in points_of(*values)]
    (folder / "curves.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(
    ("values", "beginning"),
    [
        ([0.5, 0.4, 0.3, 0.2, 0.15, 0.1], "Yes, they are homogenising: from update 400 to 600"),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "No, they grow apart"),
        ([0.5, 0.3, 0.2, 0.2, 0.201, 0.2], "No, they keep their distance"),
        ([0.5, 0.1, 0.0, 0.0, 0.0, 0.0], "Yes, they are one network by now"),
        ([0.5, 0.1], "That cannot be told yet: it takes 4 measurements"),
    ],
)
def test_the_page_answers_whether_the_leaves_become_alike(write_run, tmp_path, values, beginning):
    words = report(diverge(write_run, tmp_path / "run", values)).words("p")
    assert f"Are the leaves homogenising? {beginning}" in words


def test_figures_are_written_as_people_read_them():
    assert [duration(s) for s in (3.21, 120, 7500)] == ["3.2 s", "2 min", "2 h 05 min"]
    assert [memory(b) for b in (2**20, 3 * 2**30)] == ["1.0 MiB", "3.00 GiB"]
    assert scaled(2.5e15, "FLOP") == "2.5 PFLOP"
    assert [number(x) for x in (12_000, 1.234, math.nan)] == ["12,000", "1.23", "not finite"]
    for shown in (duration, memory, number):
        assert shown(None) == "not recorded"
    assert scaled(None, "FLOP") == "not recorded"
