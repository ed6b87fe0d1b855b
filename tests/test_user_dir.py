"""``--user-dir`` works from a checkout, a wheel and an editable install, imported before or not.

The letters are those of docs/compatibility.md.
"""

import json
import shutil
from pathlib import Path

import pytest

PIP = ("-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", "--no-index")


def link(source, target):
    Path(target).symlink_to(source)


def link_fairseq(site):
    """A site-packages folder with fairseq in it, as links: real folders, linked files."""
    import fairseq

    package = Path(fairseq.__file__).parent
    skip = shutil.ignore_patterns("examples", "config")  # big, and config may hold links
    shutil.copytree(package, site / "fairseq", copy_function=link, ignore=skip)
    (site / "fairseq" / "config").symlink_to(package / "config")
    return site


@pytest.fixture(scope="module")
def places(tmp_path_factory, copy_sources, wheel, python):
    """A wheel beside fairseq, an editable install with fairseq elsewhere, a checkout and a link."""
    base = tmp_path_factory.mktemp("places")
    checkout = copy_sources(base / "checkout")
    editable = copy_sources(base / "editable")
    site = base / "wheel-site"
    python(*PIP, "--target", site, wheel, path=[])
    into = ("--prefix", base / "prefix", "--ignore-installed", "--no-build-isolation")
    python(*PIP, *into, "-e", editable, path=[])
    (editable_site,) = (base / "prefix").glob("lib/python*/site-packages")
    (base / "elsewhere").mkdir()
    (base / "fairseq-site").mkdir()
    (base / "links").mkdir()
    (base / "links" / "tsa_mt").symlink_to(site / "tsa_mt")
    return {
        "base": base,
        "checkout": checkout,
        "editable": editable,
        "editable-site": editable_site,
        "wheel": link_fairseq(site),
        "fairseq": link_fairseq(base / "fairseq-site"),
    }


# case: (where fairseq is, cwd, --user-dir, imported before, what fairseq has then)
CASES = {
    "A checkout, in it": ("fairseq", "checkout", "tsa_mt", False, "{checkout}/tsa_mt"),
    "B wheel, bare name elsewhere": ("wheel", "elsewhere", "tsa_mt", False, "{wheel}/tsa_mt"),
    "C wheel, the same, imported": ("wheel", "elsewhere", "tsa_mt", True, "{wheel}/tsa_mt"),
    "D wheel, its path, imported": ("wheel", "elsewhere", "{wheel}/tsa_mt", True, "{wheel}/tsa_mt"),
    "E wheel and checkout, in it": ("wheel", "checkout", "tsa_mt", False, "{checkout}/tsa_mt"),
    "F wheel imported, checkout": (
        "wheel",
        "elsewhere",
        "{checkout}/tsa_mt",
        True,
        "ImportError: --user-dir {checkout}/tsa_mt is another copy of tsa_mt than the one that is "
        "imported already, from {wheel}/tsa_mt: give --user-dir {wheel}/tsa_mt, or install only "
        "one of them",
    ),
    "G trailing slash": ("wheel", "elsewhere", "{wheel}/tsa_mt/", False, "{wheel}/tsa_mt"),
    "G trailing slash, imported": ("wheel", "elsewhere", "{wheel}/tsa_mt/", True, "{wheel}/tsa_mt"),
    "H link": ("wheel", "elsewhere", "{base}/links/tsa_mt", False, "{wheel}/tsa_mt"),
    "H link, imported": ("wheel", "elsewhere", "{base}/links/tsa_mt", True, "{wheel}/tsa_mt"),
    "J editable, bare name elsewhere": (
        "fairseq",
        "elsewhere",
        "tsa_mt",
        False,
        "FileNotFoundError: {base}/elsewhere/tsa_mt",
    ),
    "J the same, imported": ("fairseq", "elsewhere", "tsa_mt", True, "{editable}/tsa_mt"),
    "K editable, its path": (
        "fairseq",
        "elsewhere",
        "{editable}/tsa_mt",
        False,
        "{editable}/tsa_mt",
    ),
    "L editable, its path, imported": (
        "fairseq",
        "elsewhere",
        "{editable}/tsa_mt",
        True,
        "{editable}/tsa_mt",
    ),
}


@pytest.fixture(scope="module")
def outcomes(places, root, python):
    found = {}
    for where in ("wheel", "fairseq"):
        names = [name for name, case in CASES.items() if case[0] == where]
        cases = [
            {
                "cwd": str(places["base"] / CASES[name][1]),
                "user_dir": CASES[name][2].format(**places),
                "imported": CASES[name][3],
                "site": str(places["editable-site"]) if where == "fairseq" else None,
            }
            for name in names
        ]
        program = root / "tests" / "user_dir_probe.py"
        done = python(program, json.dumps(cases), path=[places[where]], cwd=places["base"])
        found.update(zip(names, json.loads(done.stdout), strict=True))
    return found


@pytest.mark.parametrize("case", CASES)
def test_fairseq_imports_the_package_that_user_dir_names(case, outcomes, places):
    assert outcomes[case] == CASES[case][4].format(**places)


def test_the_wheel_s_command_prints_a_user_dir_that_fairseq_train_takes(places, python):
    site = places["wheel"]
    printed = python(site / "bin" / "tsa-mt", "user-dir", path=[site], cwd=places["base"])
    assert printed.stdout == f"{site}/tsa_mt\n"
    flags = ("--user-dir", printed.stdout.strip(), "--help")
    help_text = python("-m", "fairseq_cli.train", *flags, path=[site], cwd=places["base"]).stdout
    choices = "".join(help_text.split())  # argparse breaks lines within names
    assert ",online_kd" in choices
