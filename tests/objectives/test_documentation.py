"""The pages about methods say what the code says."""

import re

import pytest

from tsa_mt.objectives import OBJECTIVES, build_objective
from tsa_mt.objectives.ahbf import FIRST_COMMIT, PAPER
from tsa_mt.options import objective_fields


@pytest.fixture
def page(root):
    return lambda name: (root / "docs" / name).read_text(encoding="utf-8")


def test_flags_on_the_pages_exist(page):
    from tsa_mt.criterion import OnlineKDConfig

    names = [flag for flag, _, _ in objective_fields()] + list(OnlineKDConfig.__dataclass_fields__)
    known = {"--" + name.replace("_", "-") for name in names}
    for name in ("methods.md", "adding-a-method.md"):
        flags = set(re.findall(r"--kd-[a-z-]+[a-z]", page(name)))
        assert flags <= known


def test_the_other_commit_s_and_the_paper_s_values_are_options():
    for options in (FIRST_COMMIT, PAPER):
        config = build_objective("ahbf", "0(1,2)", 4, 5, **options).config
        assert all(getattr(config, key) == value for key, value in options.items())
        assert config != OBJECTIVES["ahbf"].Config()


def test_code_on_the_page_about_adding_a_method_is_the_project_s(page, root):
    sources = "".join(
        (root / "tsa_mt" / "objectives" / f"{name}.py").read_text(encoding="utf-8")
        for name in ("kdcl_mean", "okddip", "rdrop")
    )
    blocks = re.findall(r"```python\n(.*?)```", page("adding-a-method.md"), re.DOTALL)
    assert len(blocks) == 3
    for line in "".join(blocks).splitlines():
        if not line.strip().startswith("def fuse("):  # shown without types
            assert line.strip() in sources
