"""Same weights, same batch: loss and every gradient equal those of the papers' own repositories.

`pytest -m official` runs it; TSA_MT_OFFICIAL names a folder with checkouts: ``TSA`` of
github.com/Linwenye/Tree-Supervised (ba35668), ``OKDDip`` of github.com/DefangChen/OKDDip-AAAI2020
(c6a05de). AHBF's repository (8d41235) builds no ResNet-32 at any commit.
"""

import importlib.util
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tsa_mt.head import branch_head
from tsa_mt.objectives import Context
from tsa_mt.objectives.functional import gaussian_rampup

pytestmark = pytest.mark.official
TEMPERATURE = 3.0
PROGRESS = 0.5


def official(name, path):
    """A module out of a checkout."""
    place = os.environ.get("TSA_MT_OFFICIAL")
    if not place or not (Path(place) / name / path).is_file():
        pytest.skip(f"TSA_MT_OFFICIAL names no folder with {name}/{path}")
    spec = importlib.util.spec_from_file_location("official", Path(place) / name / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kl(student, teacher):
    students = F.log_softmax(student / TEMPERATURE, dim=1)
    teachers = F.softmax(teacher / TEMPERATURE, dim=1)
    return F.kl_div(students, teachers, reduction="batchmean") * TEMPERATURE**2


def tsa_loss(outputs, target):
    """``train_tree.py``: alpha = .3, every pair."""
    total = 0.0
    for one in outputs:
        total = total + 0.7 * F.cross_entropy(one, target)
        total = total + sum(0.1 * kl(one, other) for other in outputs if other is not one)
    return total


def okddip_loss(outputs, target):
    """``train_GL.py`` at half of the ramp-up, without the 1e-7 in its KL."""
    peers, mixed, leader = outputs
    weight = gaussian_rampup(PROGRESS)
    total = F.cross_entropy(leader, target) + weight * kl(leader, peers.mean(2))
    for peer in range(3):
        total = total + F.cross_entropy(peers[:, :, peer], target)
        total = total + weight * kl(peers[:, :, peer], mixed[:, :, peer])
    return total


def tsa_name(name):
    """Our name for a parameter of the tree in ``models/resnet_liu.py``."""
    places = {"layer1.0": "layer1", "layer2.0": "layer2", "layer2.1": "branches.nodes.4"}
    places |= {"layer3.0": "layer3", "layer3.1": "branches.nodes.3", "linears.0": "fc"}
    places |= {f"layer3.{leaf}": f"branches.nodes.{leaf + 3}" for leaf in (2, 3)}
    places |= {f"linears.{leaf}": f"branches.classifiers.{leaf}" for leaf in (1, 2, 3)}
    head = ".".join(name.split(".")[:2])
    return (places.get(head, head) + name[len(head) :]).replace(".shortcut.", ".downsample.")


def okddip_name(name):
    """Our name for a parameter of ``models/model_cifar/resnet_GL.py``; its leader comes last."""
    for branch in range(4):
        leaf = (branch + 1) % 4
        layer = f"branches.nodes.{leaf + 1}." if leaf else "layer3."
        classifier = f"branches.classifiers.{leaf}." if leaf else "fc."
        name = name.replace(f"layer3_{branch}.", layer).replace(
            f"classifier3_{branch}.", classifier
        )
    name = name.replace("query_weight", "branches.objective.query")
    return name.replace("key_weight", "branches.objective.key")


def compare(theirs, loss, rename, ours):
    """Loads their weights into our model; compares loss and gradients of one batch."""
    ours.load_state_dict({rename(name): value for name, value in theirs.state_dict().items()})
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    target = torch.arange(8)
    expected = loss(theirs.train()(images), target)
    expected.backward()
    outputs = ours.train()(images, branches=True)
    result = branch_head(ours.objective, outputs, ours.projections, target, Context(PROGRESS))
    (result.total / 8).backward()
    torch.testing.assert_close(result.total / 8, expected)
    found = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        gradient = found[rename(name)].grad
        scale = parameter.grad.abs().max()
        torch.testing.assert_close(gradient / scale, parameter.grad / scale, atol=1e-5, rtol=0)


def test_tsa_has_the_loss_and_the_gradients_of_its_own_code(build):
    module = official("TSA", "models/resnet_liu.py")
    torch.manual_seed(2)
    theirs = module.TreeCifarResNet_v1(module.BasicBlock, [3, 3, 3], 100)
    compare(theirs, tsa_loss, tsa_name, build("resnet20", classes=100, kd_objective="tsa"))


def test_okddip_has_the_loss_and_the_gradients_of_its_own_code(build):
    module = official("OKDDip", "models/model_cifar/resnet_GL.py")
    torch.manual_seed(2)
    theirs = module.resnet32(num_classes=100, num_branches=4)
    compare(theirs, okddip_loss, okddip_name, build("resnet32", classes=100, kd_objective="okddip"))
