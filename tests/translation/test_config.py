"""The flat config: fairseq's options under their command-line names, and ours."""

from argparse import Namespace
from dataclasses import fields

import pytest
from fairseq.models.transformer import TransformerConfig
from omegaconf import OmegaConf

from tsa_mt.translation.config import TreeTransformerConfig, flat_namespace

OURS = {"tree", "branch_projection", "branch_init", "decode_branch", "kd_objective"}


def test_every_option_of_fairseq_s_transformer_is_there_under_its_flat_name():
    names = {option.name for option in fields(TreeTransformerConfig)}
    for outer in fields(TransformerConfig):
        if outer.name in ("encoder", "decoder", "quant_noise"):
            inner = {option.name for option in fields(outer.type)} - {"_name"}
            assert {f"{outer.name}_{name}" for name in inner} <= names
        else:
            assert outer.name in names
    assert names >= OURS


def test_defaults_are_those_of_the_installed_fairseq():
    ours = flat_namespace(TreeTransformerConfig())
    theirs = TransformerConfig.from_namespace(Namespace())
    for option in fields(TransformerConfig):
        if option.name in ("encoder", "decoder", "quant_noise"):
            for inner in fields(option.type):
                expected = getattr(getattr(theirs, option.name), inner.name)
                if inner.name != "_name" and not str(expected).startswith("${"):
                    assert getattr(ours, f"{option.name}_{inner.name}") == expected
        elif option.name != "_name":
            assert getattr(ours, option.name) == getattr(theirs, option.name)
    assert ours.decoder_output_dim == ours.decoder_input_dim == 512


@pytest.mark.parametrize("make", [lambda v: Namespace(**v), OmegaConf.create])
def test_an_old_config_gets_the_defaults_of_the_fields_it_lacks(make):
    old = {"encoder_embed_dim": 32, "decoder_embed_dim": 32, "decoder_layers": 2}
    args = flat_namespace(make(old))
    assert (args.tree, args.kd_objective, args.decode_branch) == ("", "tsa", 0)
    assert (args.branch_projection, args.branch_init) == ("shared", "fresh")
    assert args.kd_weight is None
    assert args.decoder_output_dim == args.decoder_embed_dim == 32


def test_a_config_s_own_values_win_and_choices_are_plain_text():
    structured = OmegaConf.structured(
        TreeTransformerConfig(tree="6", kd_weight=0.5, ddp_backend="legacy_ddp")
    )
    structured.branch_projection = "separate"
    args = flat_namespace(OmegaConf.create({"model": structured}).model)
    assert (args.tree, args.kd_weight, args.branch_projection) == ("6", 0.5, "separate")
    assert type(args.branch_projection) is str


def test_a_switch_written_as_a_yaml_boolean_is_text():
    structured = OmegaConf.structured(TreeTransformerConfig(ddp_backend=""))
    structured.kd_detach = True  # what YAML makes of `kd_detach: yes`
    assert str(structured.kd_detach).lower() == "true"


def test_every_own_option_has_a_help_text():
    for option in fields(TreeTransformerConfig):
        if option.name in OURS or option.name.startswith("kd_"):
            assert option.metadata["help"], option.name
