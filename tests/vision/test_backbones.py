"""Plain networks: what they cost, how they come apart, and what they are compatible with."""

import sys

import pytest
import torch

from tsa_mt.vision.backbone import BACKBONES, find_backbone, run_units, stacked_logits
from tsa_mt.vision.trees import PRESETS, resolve_tree

OWN = ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet110_bottleneck"]
OWN += ["resnet164", "wrn20_8", "vgg16", "vgg16_mlp", "mobilenetv3_large"]
BORROWED = [name for name in BACKBONES if name not in OWN]

# millions of parameters for 100 classes, as the papers' code and the survey tables have them
PARAMETERS = {
    "resnet32": 0.473,
    "resnet110": 1.737,
    "resnet110_bottleneck": 1.171,
    "resnet164": 1.727,
    "wrn20_8": 6.871,
    "vgg16": 14.77,
    "wrn28_10": 36.54,
    "wrn40_2": 2.255,
    "wrn40_1": 0.570,
    "densenet40_12": 0.188,
    "resnet18_cifar": 11.22,
}


def plain(name, classes=10):
    if name in BORROWED:
        pytest.importorskip("pytorchcv")
    backbone = find_backbone(name)
    return backbone, backbone.build(classes, backbone.stages)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_pieces_run_one_after_another_give_what_the_whole_network_gives(name):
    backbone, pieces = plain(name)
    pieces.network.eval()
    side = min(backbone.image_size, 64)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        last = pieces.top(run_units(pieces.units, pieces.stem(images)))
        logits = stacked_logits(pieces.classifier, pieces.pool(last))
        torch.testing.assert_close(logits, pieces.network(images), atol=1e-5, rtol=1e-5)
    assert len(pieces.units) == backbone.depth
    assert logits.shape == (2, 10)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_network_has_the_published_number_of_parameters(name):
    _, pieces = plain(name, classes=100)
    millions = sum(p.numel() for p in pieces.network.parameters()) / 1e6
    assert millions == pytest.approx(PARAMETERS[name], rel=2e-3)


def test_the_networks_called_resnet_110_have_names_of_their_own():
    kinds = {}
    for name in ("resnet110", "resnet110_bottleneck", "resnet164"):
        units = plain(name)[1].units
        kinds[name] = (len(units), type(units[0]).__name__)
    assert kinds == {
        "resnet110": (54, "BasicBlock"),
        "resnet110_bottleneck": (36, "Bottleneck"),
        "resnet164": (54, "Bottleneck"),
    }


def test_a_resnet_has_the_parameter_names_of_torchvision_and_of_the_okddip_code():
    _, pieces = plain("resnet20")
    names = set(pieces.network.state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer2.0.conv1.weight", "fc.bias"} <= names
    assert {"layer3.0.downsample.0.weight", "layer3.0.downsample.1.bias"} <= names


@pytest.mark.parametrize("name", ["resnet20", "vgg16", "mobilenetv3_large", "wrn40_1"])
def test_a_longer_branch_is_the_network_with_a_longer_last_stage(name):
    if name in BORROWED:
        pytest.importorskip("pytorchcv")
    backbone = find_backbone(name)
    longer = backbone.stages_for(backbone.depth - 1, backbone.depth + 2)
    assert longer == (*backbone.stages[:-1], backbone.stages[-1] + 2)
    units = backbone.build(10, longer).units
    standard = backbone.build(10, backbone.stages).units
    assert len(units) == backbone.depth + 2
    shapes = [[tuple(p.shape) for p in unit.parameters()] for unit in units]
    assert shapes[: backbone.depth] == [[tuple(p.shape) for p in u.parameters()] for u in standard]
    assert shapes[-1] == shapes[-2] == shapes[backbone.depth - 1]


def test_the_ladder_of_a_four_stage_resnet_grows_the_lower_of_its_stages_first():
    backbone = find_backbone("resnet18")
    depths = [8, 12, 16, 20]
    grown = [backbone.stages_for(4, depth)[2:] for depth in depths]
    assert grown == [(2, 2), (6, 2), (6, 6), (10, 6)]


def test_the_ladder_of_mobilenetv2_grows_its_last_three_stages_in_turn():
    backbone = find_backbone("mobilenetv2_wd2")
    grown = [backbone.stages_for(10, 17 + 4 * index)[4:] for index in range(4)]
    assert grown == [(3, 3, 1), (7, 3, 1), (7, 7, 1), (7, 7, 5)]


def test_a_branch_that_starts_inside_the_last_stage_grows_only_that():
    assert find_backbone("resnet18").stages_for(7, 12) == (2, 2, 2, 6)


def test_a_branch_may_be_shorter_as_long_as_it_reaches_the_last_stage():
    backbone = find_backbone("resnet20")
    assert backbone.stages_for(6, 7) == (3, 3, 1)
    with pytest.raises(ValueError, match="6 units deep ends before the last stage of resnet20.*7"):
        backbone.stages_for(3, 6)


CUTS = {
    ("resnet32", "tsa"): "5(5(5,5),5(5,5))",
    ("resnet18_cifar", "tsa"): "1(3(4,4),3(4,4))",
    ("resnet50", "tsa"): "3(6(7,7),6(7,7))",
    ("vgg16", "tsa"): "4(4(5,5),4(5,5))",
    ("wrn28_10", "tsa"): "4(4(4,4),4(4,4))",
    ("mobilenetv2_cifar", "tsa"): "3(10(4,4),10(4,4))",
    ("mobilenetv3_large", "tsa"): "5(5(5,5),5(5,5))",
    ("resnet32", "fork"): "10(5,5,5,5)",
    ("vgg16_mlp", "fork"): "10(3,3,3,3)",
    ("resnet110_bottleneck", "fork"): "24(12,12,12,12)",
    ("resnet32", "ladder"): "10(5,9,13,17)",
    ("resnet34", "ladder"): "7(9,13,17,21)",
    ("mobilenetv2_wd2", "ladder"): "10(7,11,15,19)",
    ("resnet20", "peers"): "0(9,9,9,9)",
    ("resnet110", "chain"): "54",
}


@pytest.mark.parametrize(("name", "preset"), CUTS)
def test_a_preset_cuts_where_the_papers_code_cuts(name, preset):
    assert str(resolve_tree(preset, find_backbone(name))) == CUTS[name, preset]


@pytest.mark.parametrize("preset", [*PRESETS, "tsa_unbalanced"])
def test_every_preset_fits_every_small_backbone(preset):
    for name in OWN:
        backbone = find_backbone(name)
        if preset in PRESETS or backbone.depth <= 48:
            assert resolve_tree(preset, backbone).depth == backbone.depth


def test_a_tree_whose_leader_is_too_short_is_refused():
    with pytest.raises(ValueError, match="'5\\(5,5\\)' has 10 layers, but the network is 15"):
        resolve_tree("5(5,5)", find_backbone("resnet32"))


def test_a_tree_with_a_branch_that_misses_the_last_stage_is_refused():
    with pytest.raises(ValueError, match="9 units deep ends before the last stage of resnet32"):
        resolve_tree("5(10,4)", find_backbone("resnet32"))


def test_an_unknown_backbone_is_told_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown backbone 'resnet33'; choose one of .*resnet32"):
        find_backbone("resnet33")


def test_without_pytorchcv_its_backbones_are_registered_and_say_what_to_install(monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "pytorchcv"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "pytorchcv", None)
    with pytest.raises(ValueError, match="needs pytorchcv.*pip install 'tsa-mt\\[vision\\]'"):
        find_backbone("wrn40_2").plain(10)


def test_every_backbone_is_an_architecture_of_fairseq():
    from fairseq.models import ARCH_MODEL_REGISTRY

    from tsa_mt.vision import TreeClassifier

    for name in BACKBONES:
        assert ARCH_MODEL_REGISTRY[f"tree_{name}"] is TreeClassifier
