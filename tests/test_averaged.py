"""The moving average of a model: when it moves, what it holds, what it teaches."""

import pytest
import torch
from torch import nn

from tsa_mt.averaged import Averaged, averaged_weights
from tsa_mt.branches import BranchOutputs, Projection


class Toy(nn.Module):
    """Two leaves on a shared layer, with dropout, a batch norm and a tied weight."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.dropout = nn.Dropout(0.5)
        self.leaf = nn.Linear(4, 4)
        self.output = nn.Linear(4, 5)
        self.tied = self.leaf  # a module at two places
        self.output.weight = nn.Parameter(torch.randn(5, 4))
        self.also = nn.Linear(4, 5, bias=False)
        self.also.weight = self.output.weight  # a parameter of two modules
        self.branches = nn.Module()
        self.branches.objective = nn.Linear(2, 2)
        self.objective = type("Objective", (), {"leaves": 2})
        self.decoder = nn.Module()
        self.decoder.branches = self.branches

    @property
    def projections(self):
        return [Projection(self.output.weight, self.output.bias)] * 2

    def forward(self, inputs, branches=False):
        hidden = self.dropout(self.norm(self.trunk(inputs)))
        return BranchOutputs([hidden, self.leaf(hidden)])


@pytest.fixture
def toy():
    torch.manual_seed(0)
    return Toy()


def shift(model, by):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by)


def test_it_starts_as_a_copy_and_then_moves_by_the_published_shares(toy):
    averaged = Averaged(toy, decay=0.9)
    shift(toy, 1.0)  # a checkpoint was loaded after building
    averaged.follow(toy, 5)
    expected = toy.trunk.weight.detach().clone()
    assert torch.equal(averaged.get_buffer("trunk.weight"), expected)
    shift(toy, 1.0)
    averaged.follow(toy, 6)  # min(1 - 1/6, .9): a sixth of the way
    torch.testing.assert_close(averaged.get_buffer("trunk.weight"), expected + 1 / 6)
    averaged.follow(toy, 99)
    torch.testing.assert_close(
        averaged.get_buffer("trunk.weight"), expected + 1 / 6 + 0.1 * (1 - 1 / 6)
    )


def test_the_first_average_is_the_weights_after_the_first_update_without_the_random_start(toy):
    averaged = Averaged(toy, decay=0.9)
    averaged.follow(toy, 0)
    seen = []
    for update in (1, 2, 3):
        shift(toy, float(update))
        seen.append(toy.trunk.weight.detach().clone())
        averaged.follow(toy, update)
        expected = torch.stack(seen).mean(0)
        torch.testing.assert_close(averaged.get_buffer("trunk.weight"), expected)


def test_it_moves_once_per_update(toy):
    averaged = Averaged(toy, decay=0.9)
    averaged.follow(toy, 0)
    shift(toy, 1.0)
    averaged.follow(toy, 1)
    once = {key: value.clone() for key, value in averaged.state_dict().items()}
    shift(toy, 1.0)
    averaged.follow(toy, 1)  # another micro-batch of the same update
    assert all(torch.equal(once[key], value) for key, value in averaged.state_dict().items())


def test_it_holds_buffers_only_and_nothing_of_the_objective(toy):
    averaged = Averaged(toy, decay=0.9)
    assert list(averaged.parameters()) == []
    names = set(averaged.state_dict())
    assert {"updates", "trunk.weight", "leaf.bias", "norm.running_var", "output.weight"} <= names
    assert not any("objective" in name or "tied" in name or "tracked" in name for name in names)


def test_half_precision_leaves_it_in_float32(toy):
    toy.decoder.branches.averaged = Averaged(toy, decay=0.999)
    toy.half()
    assert toy.trunk.weight.dtype == torch.float16
    assert toy.branches.averaged.get_buffer("trunk.weight").dtype == torch.float32
    assert toy.branches.averaged.updates.dtype == torch.int64


def test_it_teaches_without_dropout_and_without_gradients_from_its_own_weights(toy):
    averaged = Averaged(toy, decay=0.9)
    inputs = torch.randn(6, 3)
    expected = toy.eval()(inputs).features
    toy.train()
    running = toy.norm.running_mean.clone()
    shift(toy, 1.0)
    before = {key: value.clone() for key, value in toy.state_dict().items()}
    taught = averaged.teach(toy, {"inputs": inputs})
    assert toy.training and torch.equal(toy.norm.running_mean, running)
    for key, value in toy.state_dict().items():
        assert torch.equal(value, before[key]), key
    for ours, theirs in zip(taught.features, expected, strict=True):
        torch.testing.assert_close(ours, theirs.detach())
        assert not ours.requires_grad
    assert len(taught.projections) == 2
    torch.testing.assert_close(taught.projections[1].weight + 1.0, toy.output.weight.detach())
    torch.testing.assert_close(taught.projections[1].bias + 1.0, toy.output.bias.detach())


def test_a_checkpoint_s_weights_are_replaced_by_their_averages_tied_ones_too(toy):
    toy.decoder.branches.averaged = Averaged(toy, decay=0.9)
    shift(toy, 1.0)
    weights = {name: tensor.clone() for name, tensor in toy.state_dict().items()}  # none shared
    found = averaged_weights(weights, "it")
    for name in ("trunk.weight", "leaf.bias", "output.weight", "also.weight", "tied.weight"):
        torch.testing.assert_close(found[name], weights[name] - 1)
    assert torch.equal(found["branches.objective.weight"], weights["branches.objective.weight"])
    assert found.keys() == weights.keys()
    plain = {name: tensor for name, tensor in weights.items() if "averaged" not in name}
    with pytest.raises(ValueError, match="it keeps no moving average, so it has no branch 'avera"):
        averaged_weights(plain, "it")


def test_a_model_can_be_its_average_for_a_while(toy):
    averaged = Averaged(toy, decay=0.9)
    before = toy.trunk.weight.detach().clone()
    shift(toy, 1.0)
    with averaged.in_place(toy):
        torch.testing.assert_close(toy.trunk.weight.detach(), before)
    torch.testing.assert_close(toy.trunk.weight.detach(), before + 1)
