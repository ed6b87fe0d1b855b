"""Every recipe, run on a miniature whose archives are laid out like the public ones.

The layouts below were written down from the scripts that use those archives (fairseq's
prepare-*.sh, sacreBLEU's and mtdata's lists), not from the recipes.
"""

import io
import json
import re
import shlex
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from dataprep import recipe as recipes
from dataprep.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
TED14 = ["TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012"]
EUROPARL = {"training-parallel-europarl-v7.tgz": ["training/europarl-v7.{p}.{l}"]}
CRAWL = {"training-parallel-commoncrawl.tgz": ["commoncrawl.{p}.{l}", "commoncrawl.cs-en.cs"]}
TEST14 = {
    "test-full.tgz": [
        "test-full/newstest2014-{t}-src.{s}.sgm",
        "test-full/newstest2014-{t}-ref.{r}.sgm",
    ]
}
TEST16 = {
    "wmt16.test.tgz": ["test/newstest2016-{st}-src.{s}.sgm", "test/newstest2016-{st}-ref.{r}.sgm"]
}
TEST17 = {
    "wmt17.test.tgz": ["test/newstest2017-{st}-src.{s}.sgm", "test/newstest2017-{st}-ref.{r}.sgm"]
}


def ted17(years, pair):
    return [f"train.tags.{pair}.{{l}}", *(f"IWSLT17.TED.{y}.{pair}.{{l}}.xml" for y in years)]


# recipe: source, target, {archive: members}; {l} is either language, {p} the pair of the corpus
LAYOUTS = {
    "iwslt14-de-en": (
        "de",
        "en",
        {
            "de-en.tgz": [
                "de-en/README",
                "de-en/train.tags.de-en.{l}",
                *(f"de-en/IWSLT14.{name}.de-en.{{l}}.xml" for name in TED14),
            ]
        },
    ),
    "iwslt17-de-en": (
        "de",
        "en",
        {
            "de-en.zip": [
                f"de-en/{m}"
                for m in ted17(["dev2010", *(f"tst{y}" for y in range(2010, 2016))], "de-en")
            ],
            # unpacked, as in sacreBLEU's cache: these archives have the training text's names
            "iwslt17/raw": [
                "de-en/IWSLT17.TED.tst2017.de-en.de.xml",
                "en-de/IWSLT17.TED.tst2017.en-de.en.xml",
            ],
        },
    ),
    "iwslt17-fr-en": (
        "fr",
        "en",
        {
            "fr-en.zip": [
                f"fr-en/{m}"
                for m in ted17(["dev2010", *(f"tst{y}" for y in range(2010, 2016))], "fr-en")
            ]
        },
    ),
    "iwslt17-en-ro": (
        "en",
        "ro",
        {
            "DeEnItNlRo-DeEnItNlRo.tgz": [
                f"DeEnItNlRo-DeEnItNlRo/{m}" for m in ted17(["dev2010", "tst2010"], "en-ro")
            ]
        },
    ),
    "wmt14-en-de": (
        "en",
        "de",
        {
            **EUROPARL,
            **CRAWL,
            **TEST14,
            "training-parallel-nc-v9.tgz": ["training/news-commentary-v9.{p}.{l}"],
        },
    ),
    "wmt14-en-fr": (
        "en",
        "fr",
        {
            **EUROPARL,
            **CRAWL,
            **TEST14,
            "training-parallel-un.tgz": ["un/undoc.2000.{p}.{l}"],
            "training-parallel-nc-v9.tgz": ["training/news-commentary-v9.{p}.{l}"],
            "training-giga-fren.tar": ["giga-fren.release2.fixed.{l}.gz"],
        },
    ),
    "wmt16-en-de": (
        "en",
        "de",
        {
            **EUROPARL,
            **CRAWL,
            **TEST14,
            **TEST16,
            "training-parallel-nc-v11.tgz": [
                "training-parallel-nc-v11/news-commentary-v11.{p}.{l}"
            ],
            "wmt13.test.tgz": ["test/newstest2013-src.{l}.sgm"],
        },
    ),
    "wmt16-en-ro": (
        "en",
        "ro",
        {
            **TEST16,
            "training-parallel-ep-v8.tgz": ["training-parallel-ep-v8/europarl-v8.{p}.{l}"],
            "wmt16_dev.dev.tgz": [
                "dev/newsdev2016-{st}-src.{s}.sgm",
                "dev/newsdev2016-{st}-ref.{r}.sgm",
            ],
            "en-ro.tmx.gz": [],
        },
    ),
    "wmt17-en-de": (
        "en",
        "de",
        {
            **EUROPARL,
            **CRAWL,
            **TEST16,
            **TEST17,
            "training-parallel-nc-v12.tgz": ["training/news-commentary-v12.{p}.{l}"],
            "rapid2016.tgz": ["rapid2016.{p}.{l}"],
        },
    ),
    "wmt17-zh-en": (
        "zh",
        "en",
        {
            **TEST17,
            "training-parallel-nc-v12.tgz": ["training/news-commentary-v12.{p}.{l}"],
            "UNv1.0.en-zh.tar.gz": ["en-zh/UNv1.0.en-zh.{l}"],
            "wmt17_dev.dev.tgz": [
                "dev/newsdev2017-{st}-src.{s}.sgm",
                "dev/newsdev2017-{st}-ref.{r}.sgm",
            ],
        },
    ),
    "tatoeba-de-en": ("de", "en", {"deu-eng.zip": ["_about.txt", "deu.txt"]}),
    "multi30k-en-de": ("en", "de", {}),
}
LAYOUTS["iwslt14-en-de"] = ("en", "de", LAYOUTS["iwslt14-de-en"][2])
LAYOUTS["multi30k-de-en"] = ("de", "en", {})
LAYOUTS["multi30k-en-fr"] = ("en", "fr", {})
MULTI30K = ["train", "val", "test_2016_flickr", "test_2017_flickr", "test_2017_mscoco"]
SAMPLE = {
    "en": "A small house of the council stands number {n} in the old town , we say .",
    "de": "Ein kleines Haus des Rates steht Nummer {n} in der Altstadt , sagen wir .",
    "fr": "Une petite maison du conseil se trouve numéro {n} dans la vieille ville , dit-on .",
    "ro": "O casă mică a consiliului stă numărul {n} în oraşul vechi , spunem noi acum .",
    "zh": "议 会 的 一 座 小 房 子 站 在 老 城 的 第 {n} 号 ， 我 们 说 。",
}
TAGS = [
    "<url>http://www.ted.com/talks/{n}</url>",
    "<keywords>talks, {n}</keywords>",
    "<talkid>{n}</talkid>",
    "<title>{text}</title>",
    "<description>TED: {text}</description>",
]


def language(name, codes):
    """The language of a member, from its name; German for one that no recipe asks for."""
    return next((part for part in reversed(name.split(".")) if part in codes), "de")


def content(name, codes, count):
    """What a member of that name holds."""
    if name in ("_about.txt", "de-en/README"):
        return "About.\n"
    if name == "deu.txt":
        rows = ([SAMPLE[c].format(n=n % 200) for c in ("en", "de")] for n in range(count * 5))
        return "".join("\t".join([*row, f"CC-BY {i}"]) + "\n" for i, row in enumerate(rows))
    start = sum(map(ord, re.sub(r"(src|ref)?\.(\w\w)(?=\.|$)", "", name))) * 1000
    text = SAMPLE[language(name, codes)]
    lines = [text.format(n=start + n) for n in range(count)]
    if name.endswith((".sgm", ".xml")):
        return "".join(f'<seg id="{i}"> {line} </seg>\n' for i, line in enumerate(lines[:7], 1))
    if "train.tags" in name:
        tags = [tag.format(n=7, text=text.format(n=start)) for tag in TAGS]
        return "".join(f"{line}\n" for line in [*tags, *lines])
    return "".join(f"{line}\n" for line in lines)


def expanded(members, source, target, archive):
    pair = {"fr": "fr-en", "de": "de-en", "ro": "ro-en", "zh": "zh-en"}[
        target if source == "en" else source
    ]
    two = "de" if "de" in (source, target) else "fr"
    for member in members:
        for code in (source, target) if "{l}" in member else (None,):
            yield member.format(
                l=code, p=pair, s=source, r=target, t=f"{two}en", st=f"{source}{target}"
            )


def build(folder, recipe, count):
    """Write the archives of a recipe's miniature."""
    import gzip

    folder.mkdir()
    source, target, archives = LAYOUTS[recipe]
    for archive, members in archives.items():
        files = {
            name: content(name.removesuffix(".gz"), (source, target), count).encode()
            for name in expanded(members, source, target, archive)
        }
        files = {n: gzip.compress(d, mtime=0) if n.endswith(".gz") else d for n, d in files.items()}
        if archive.endswith(".tmx.gz"):
            variant = "<tuv xml:lang='{}'><seg>{}</seg></tuv>"
            units = [
                "".join(
                    variant.format(code, SAMPLE[code].format(n=-n - 1)) for code in (source, target)
                )
                for n in range(50)
            ]
            body = "".join(f"<tu>{unit}</tu>" for unit in units)
            data = f"<tmx version='1.4'><header/><body>{body}</body></tmx>"
            (folder / archive).write_bytes(gzip.compress(data.encode()))
        elif archive.endswith("raw"):
            for name, data in files.items():
                (folder / archive / name).parent.mkdir(parents=True)
                (folder / archive / name).write_bytes(data)
        elif archive.endswith(".zip"):
            with zipfile.ZipFile(folder / archive, "w") as bundle:
                for name, data in files.items():
                    bundle.writestr(name, data)
        else:
            with tarfile.open(folder / archive, "w" if archive.endswith(".tar") else "w:gz") as tar:
                for name, data in files.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    for split in MULTI30K if recipe.startswith("multi30k") else ():
        for code in (source, target):
            text = content(f"{split}.{code}", (source, target), count).encode()
            (folder / f"{split}.{code}.gz").write_bytes(gzip.compress(text, mtime=0))
    return folder


# tst2017 of the other direction's archive is not in the French miniature
WITHOUT = {"iwslt17-fr-en": ["--splits", "train,valid,test"]}


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_the_miniature_of_a_recipe_is_prepared(name, prepare, tmp_path):
    lines = 300 if name == "wmt14-en-fr" else 120
    folder = build(tmp_path / "mine", name, lines)
    recipe = recipes.load(name)
    if recipe.preparations[recipe.default].subword.bpe:
        pytest.importorskip("subword_nmt", reason="the extra [data] is not installed")
    status, _, error = prepare(
        name,
        "--from-local",
        folder,
        "--out",
        tmp_path / "out",
        "--workers",
        "1",
        "--any-checksum",
        *WITHOUT.get(name, []),
        "--set",
        "preparations.published.subword.bpe.merges=100"
        if recipe.preparations[recipe.default].subword.bpe
        else "preparations.modern.subword.sentencepiece.vocab_size=420",
    )
    assert (status, error) == (0, "")
    found = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert found["complete"]
    train = found["splits"]["train"]["steps"][0]
    if name.startswith("iwslt"):
        # the title and the description of a talk are sentences, its other tags are not
        assert train["pieces"] == [["train.tags", 122]]
        for code in recipe.languages:
            assert "<" not in (tmp_path / "out" / "text" / f"train.{code}").read_text()
    elif name == "wmt16-en-ro":
        assert train["pieces"] == [["europarl-v8", 120], ["setimes2", 50]]
        assert "ş" not in (tmp_path / "out" / "text" / "train.ro").read_text()
    elif name.startswith("wmt"):
        assert {n for _, n in train["pieces"]} == {lines}
    for split in set(found["splits"]) - {"train"}:
        assert found["splits"][split]["pairs"] > 0


def test_every_recipe_has_a_miniature():
    assert set(recipes.names()) == {*LAYOUTS, "custom"}


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_recipe_states_its_sources_licence_and_what_it_reproduces(name):
    recipe = recipes.load(name)
    archives = {
        spec.split("//")[0]
        for split in recipe.splits.values()
        for piece in split.pieces
        for spec in piece.files.values()
        if not piece.sacrebleu
    }
    assert archives <= set(recipe.downloads)
    assert all(download.urls for download in recipe.downloads.values())
    assert recipe.licence and recipe.tested
    assert all(p.reproduces for p in recipe.preparations.values())
    assert "modern" in recipe.preparations


def test_the_table_in_the_readme_is_that_of_the_recipes():
    readme = (ROOT / "data-prep" / "README.md").read_text(encoding="utf-8")
    for name in recipes.names():
        row = next((line for line in readme.splitlines() if line.startswith(f"| `{name}` |")), "")
        assert row, f"{name} is missing in data-prep/README.md"
        if name != "custom":
            recipe = recipes.load(name)
            assert recipe.default in row
            assert ("untested" in row) == ("untested" in recipe.tested)


def test_test_sets_come_from_sacrebleu_when_nothing_is_local(prepare, tmp_path, monkeypatch):
    """Its cache is filled by hand here; nothing is downloaded."""
    import sacrebleu

    data = sacrebleu.DATASETS["wmt14/full"]
    monkeypatch.setattr(data, "_outdir", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    for field in data.fieldnames("en-de"):
        (tmp_path / "cache" / f"wmt14_full.en-de.{field}").write_text("A “line”, it’s so.\n" * 3)
    status, _, error = prepare(
        "wmt14-en-de", "--splits", "test", "--out", tmp_path / "out", "--workers", "1"
    )
    assert (status, error) == (0, "")
    assert (tmp_path / "out/text/test.en").read_text().startswith("A “ line ” , it &apos;s so .\n")
    files = json.loads((tmp_path / "out/manifest.json").read_text())["files"]
    assert set(files) == {"sacrebleu:wmt14/full:en-de.en", "sacrebleu:wmt14/full:en-de.de"}


def test_a_test_set_that_sacrebleu_cannot_fetch_is_one_sentence(prepare, tmp_path, monkeypatch):
    import sacrebleu

    def fail(pair):
        raise SystemExit(1)

    monkeypatch.setattr(sacrebleu.DATASETS["wmt14/full"], "get_source_file", fail)
    status, _, error = prepare("wmt14-en-de", "--splits", "test", "--out", tmp_path / "out")
    assert status == 1 and "sacreBLEU could not fetch its test set wmt14/full for en-de" in error


def load(tmp_path, **changes):
    base = {
        "title": "t",
        "source": "en",
        "target": "de",
        "licence": "l",
        "tested": "t",
        "default": "modern",
        "splits": {"train": {"pieces": [{"name": "p", "files": "x.{lang}"}]}},
        "preparations": {
            "modern": {"reproduces": "r", "subword": {"sentencepiece": {"vocab_size": 9}}}
        },
    }
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({**base, **changes}))
    return recipes.load(str(path))


def test_a_recipe_of_ones_own_is_read_from_its_path(tmp_path):
    recipe = load(tmp_path)
    assert recipe.name == "own"
    assert recipe.splits["train"].pieces[0].files == {"en": "x.en", "de": "x.de"}


PIECE = {"name": "p", "files": "x.{lang}"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": 3}, "licence must be str, got 3"),
        (
            {"splits": {"train": {"pieces": [{**PIECE, "format": "doc"}]}}},
            "format is 'doc', allowed are text, sgm, tsv, tmx",
        ),
        (
            {
                "splits": {
                    "train": {
                        "pieces": [
                            {**PIECE, "format": "tsv", "files": "x.tsv", "columns": {"en": "a"}}
                        ]
                    }
                }
            },
            "columns has {'en': 'a'}, needs en, de",
        ),
        (
            {"splits": {"train": {"pieces": [{**PIECE, "files": {"en": "x"}}]}}},
            "files has en, needs en, de",
        ),
        ({"splits": {"train": {}}}, "splits.train needs one of pieces and hold_out"),
        ({"splits": {"valid": {"hold_out": {"every": 3}}}}, "hold_out needs a split train"),
        ({"default": "old"}, "default is 'old', but the preparations are modern"),
        (
            {"preparations": {"modern": {"reproduces": "r", "subword": {}}}},
            "preparations.modern.subword needs one of sentencepiece and bpe",
        ),
        (
            {"preparations": {"modern": {"reproduces": "r"}}},
            "preparations.modern.subword is missing",
        ),
        (
            {
                "preparations": {
                    "modern": {
                        "reproduces": "r",
                        "subword": {"bpe": {"merges": 1}, "filters": {"max_chars": 3}},
                    }
                }
            },
            "knows limits in words only",
        ),
        (
            {"downloads": {"x": {"urls": "http://x"}}},
            "downloads.x.urls must be a list, got 'http://x'",
        ),
    ],
)
def test_a_fault_in_a_recipe_is_named(tmp_path, changes, message):
    with pytest.raises(DataError, match=re.escape(message)):
        load(tmp_path, **changes)


def test_all_faults_of_a_recipe_are_named_at_once(tmp_path):
    with pytest.raises(DataError, match=r"unknown setting colour.*licence must be str, got 3"):
        load(tmp_path, licence=3, colour="red")


def test_a_file_that_is_no_yaml_is_refused(tmp_path):
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(DataError, match=r"x\.yaml is not YAML"):
        recipes.load(str(tmp_path / "x.yaml"))
    (tmp_path / "x.yaml").write_text("just text")
    with pytest.raises(DataError, match=r"x\.yaml holds no recipe"):
        recipes.load(str(tmp_path / "x.yaml"))


@pytest.mark.parametrize("name", sorted({*LAYOUTS, "custom"}))
def test_the_command_to_train_is_one_that_fairseq_train_understands(name):
    from fairseq import options

    pair = {"source": "xx", "target": "yy"} if name == "custom" else None
    recipe = recipes.load(name, pair)
    words = ["data-bin", "--source-lang", recipe.source, "--target-lang", recipe.target]
    parser = options.get_training_parser()
    parsed = options.parse_args_and_arch(parser, [*words, *shlex.split(recipe.train)])
    assert parsed.arch.startswith("tree_transformer") and parsed.kd_objective == "tsa"
