"""``tsa-mt objectives``: every objective is listed and described."""

import dataclasses

import pytest

from tsa_mt.cli import main
from tsa_mt.objectives import OBJECTIVES


def test_the_list_has_every_objective_with_options_and_source(capsys):
    assert main(["objectives"]) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert len(blocks) == len(OBJECTIVES) + 1
    for block, (name, cls) in zip(blocks, OBJECTIVES.items(), strict=False):
        assert block.splitlines()[0] == name
        assert "https://" in block
        for option in dataclasses.fields(cls.Config):
            assert f"{option.name}=" in block


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_is_shown_with_formula_and_every_option_and_its_default(name, capsys):
    assert main(["objectives", name]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"--kd-objective {name}\n")
    assert "L = " in text or "Loss: " in text
    for option in dataclasses.fields(OBJECTIVES[name].Config):
        assert f"--kd-{option.name.replace('_', '-')} " in text
        assert option.metadata["help"] in text


def test_okddip_s_citation_has_its_year_and_its_switches_are_yes_or_no(capsys):
    main(["objectives", "okddip"])
    text = capsys.readouterr().out
    assert "AAAI 2020" in text
    assert "--kd-mix-predictions no" in text
    assert "--kd-rampup 0.2667" in text


def test_an_unknown_objective_is_one_sentence(capsys):
    assert main(["objectives", "okdip"]) == 1
    captured = capsys.readouterr()
    assert "tsa-mt objectives: error: unknown objective 'okdip'; choose one of" in captured.err
    assert captured.out == ""
