"""``tsa-mt options``: the flags that this plugin adds."""

import argparse
import dataclasses

import pytest

from tsa_mt import flags
from tsa_mt.criterion import OnlineKDConfig
from tsa_mt.translation import TreeTransformerConfig


def listing(capsys, name=None):
    parser = argparse.ArgumentParser()
    flags.add_arguments(parser)
    assert flags.run(parser.parse_args([] if name is None else [name])) == 0
    return capsys.readouterr().out


def test_all_flags_of_model_and_criterion_are_listed_with_their_help(capsys):
    text = listing(capsys)
    for config in (TreeTransformerConfig, OnlineKDConfig):
        for option in dataclasses.fields(config):
            if option.metadata.get("help"):
                flag = "--" + option.name.replace("_", "-")
                assert f"  {flag}\n      {option.metadata['help']}" in text


@pytest.mark.parametrize("name", ["kd-temperature", "kd_temperature", "temperature"])
def test_the_listing_can_be_narrowed_by_a_part_of_a_name(capsys, name):
    text = listing(capsys, name)
    assert "--kd-temperature" in text
    assert "--kd-weight" not in text


def test_a_name_that_no_flag_contains_is_refused(capsys):
    message = "no flag contains 'tempature'; `tsa-mt options` lists all of them"
    with pytest.raises(ValueError, match=message):
        listing(capsys, "tempature")
