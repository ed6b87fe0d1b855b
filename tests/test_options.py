"""Objective options as flags: derived from the registry, checked, shown."""

import dataclasses
from argparse import Namespace
from typing import Optional

import pytest
from fairseq import options as fairseq_options

from tsa_mt import options
from tsa_mt.objectives import OBJECTIVES


def fields():
    return {name: (kind, field) for name, kind, field in options.objective_fields()}


def chosen(objective="tsa", **values):
    return options.chosen_options(Namespace(kd_objective=objective, **values))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_option_of_an_objective_is_a_flag_that_is_unset_by_default(name):
    for option in dataclasses.fields(OBJECTIVES[name].Config):
        kind, field = fields()[f"kd_{option.name}"]
        assert field.default is None
        assert kind == Optional[str if option.type is bool else option.type]
        assert option.metadata["help"] in field.metadata["help"]
        assert "unset = published value" in field.metadata["help"]


def test_options_of_one_name_are_of_one_type():
    kinds = {}
    for cls in OBJECTIVES.values():
        for option in dataclasses.fields(cls.Config):
            assert kinds.setdefault(option.name, option.type) is option.type, option.name


def test_fields_need_no_dataclass_of_fairseq_s_to_be_read():
    cls = dataclasses.make_dataclass("Fields", options.objective_fields())
    assert cls().kd_objective == "tsa"


def test_the_help_shows_published_values_and_how_a_switch_is_written():
    help_text = fields()["kd_detach"][1].metadata["help"]
    assert "(yes|no)" in help_text and "no" in help_text.split("unset")[1]
    assert "3" in fields()["kd_temperature"][1].metadata["help"].split("unset")[1]


def test_only_what_was_set_is_passed_on():
    assert chosen() == {}
    assert chosen(kd_weight=0.5, kd_temperature=None) == {"weight": 0.5}


@pytest.mark.parametrize(
    ("text", "value"),
    [("yes", True), ("no", False), ("Yes", True), ("TRUE", True), (True, True), (False, False)],
)
def test_a_switch_is_yes_or_no_on_the_command_line_and_a_boolean_in_yaml(text, value):
    assert chosen(kd_detach=text) == {"detach": value}


@pytest.mark.parametrize("text", ["1", "on", "maybe", ""])
def test_any_other_word_for_a_switch_is_refused(text):
    with pytest.raises(ValueError, match=f"--kd-detach is '{text}'; it must be yes or no"):
        chosen(kd_detach=text)


def test_an_option_of_another_objective_is_refused_in_the_words_of_the_command_line():
    message = r"has no option 'weight'; only .*tsa.* \(on the command line each is --kd-OPTION\)"
    with pytest.raises(ValueError, match=message):
        chosen("independent", kd_weight=0.5)


def test_a_teacher_without_use_is_refused():
    message = "--kd-teacher is 't.pt', but objective 'tsa' has no teacher; those that have one: "
    with pytest.raises(ValueError, match=message):
        chosen(kd_teacher="t.pt")


def test_the_default_tree_is_the_objective_s():
    assert options.default_tree("tsa") == "tsa"
    assert options.default_tree("independent") == "chain"
    with pytest.raises(ValueError, match="unknown objective 'tas'"):
        options.default_tree("tas")


# --- through fairseq ----------------------------------------------------------------------------


def parse(*flags):
    parser = fairseq_options.get_training_parser(default_task="translation")
    base = ["data", "--arch", "tree_transformer_tiny", "--criterion", "online_kd"]
    return fairseq_options.parse_args_and_arch(parser, [*base, *flags])


def test_flags_arrive_with_their_types():
    flags = "--kd-objective tsa --kd-weight .5 --kd-temperature 2 --kd-detach yes --kd-chunk-rows 7"
    args = parse(*flags.split(), "--tree", "1(1,1)", "--branch-projection", "separate")
    assert (args.kd_weight, args.kd_temperature, args.kd_detach) == (0.5, 2.0, "yes")
    assert (args.kd_chunk_rows, args.tree, args.branch_projection) == (7, "1(1,1)", "separate")
    assert options.chosen_options(args) == {"weight": 0.5, "temperature": 2.0, "detach": True}


@pytest.mark.parametrize(
    "flags", [["--kd-weight", "much"], ["--branch-projection", "both"], ["--branch-init", "old"]]
)
def test_values_of_the_wrong_kind_are_refused_by_the_parser(flags, capsys):
    with pytest.raises(SystemExit):
        parse(*flags)
    assert f"argument {flags[0]}: invalid" in capsys.readouterr().err
