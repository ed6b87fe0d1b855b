"""Figures that are not finite end the training by name and replace no good checkpoint."""

import importlib
import json

import pytest
import torch
from fairseq.trainer import Trainer
from trained import state

from tsa_mt import finite

NAN = float("nan")


def poison(monkeypatch, update, name="decoder.branches"):
    """Makes a weight NaN after an update."""
    original = Trainer.train_step

    def step(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        if self.get_num_updates() == update:
            chosen = next(p for n, p in self.get_model().named_parameters() if name in n)
            chosen.data.view(-1)[0] = NAN
        return result

    monkeypatch.setattr(Trainer, "train_step", step)


def updates(path):
    return state(path)["optimizer_history"][-1]["num_updates"]


def test_weights_that_are_nan_are_never_saved(train, tmp_path, monkeypatch, caplog):
    poison(monkeypatch, 9)
    assert train(tmp_path, "--disable-validation") == finite.NOT_FINITE
    assert "nothing is saved at update 9, these parameters are not finite: decoder.b" in caplog.text
    assert updates(tmp_path / "checkpoint_last.pt") == 6
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "failed" and "update 9" in record["reason"]


def test_nan_in_validation_is_named_by_term_and_leaf_and_sentence(
    train, tmp_path, monkeypatch, caplog
):
    poison(monkeypatch, 9)
    assert train(tmp_path) == finite.NOT_FINITE
    said = caplog.text
    assert "in validation after update 9, in a batch with sentences " in said
    assert "nll_b1" in said and "loss_peers" in said
    assert updates(tmp_path / "checkpoint_last.pt") < 9
    assert updates(tmp_path / "checkpoint_best.pt") < 9


def test_validation_that_is_nan_for_once_is_a_warning_where_that_is_accepted(
    train, tmp_path, monkeypatch, caplog
):
    command = importlib.import_module("fairseq_cli.train")
    original = command.get_valid_stats

    def stats(cfg, trainer, *args):
        found = original(cfg, trainer, *args)
        return {**found, "loss": NAN} if trainer.get_num_updates() == 3 else found

    monkeypatch.setattr(command, "get_valid_stats", stats)
    assert train(tmp_path, "--kd-accept-nan") == 0
    assert "nothing is saved at update 3, the score that chooses" in caplog.text
    assert not (tmp_path / "checkpoint_1_3.pt").exists()
    assert updates(tmp_path / "checkpoint_last.pt") == 10
    best = state(tmp_path / "checkpoint_last.pt")["extra_state"]["best"]
    assert best == best < 100


def test_a_gradient_that_is_nan_names_update_term_and_sentence(
    train, tmp_path, monkeypatch, caplog
):
    from tsa_mt.criterion import OnlineKDCriterion

    original = OnlineKDCriterion.forward

    def forward(self, model, sample, reduce=True):
        loss, size, logged = original(self, model, sample, reduce)
        if model.num_updates >= 1 and 7 in sample["id"].tolist() and self.training:
            loss, logged["loss_peers"] = loss * NAN, logged["loss_peers"] * NAN
        return loss, size, logged

    monkeypatch.setattr(OnlineKDCriterion, "forward", forward)
    assert train(tmp_path, "--save-interval-updates", "1") == finite.NOT_FINITE
    said = caplog.text
    assert " was not done, gradients are Nan/Inf: not finite are loss_peers, of each" in said
    assert "each of these sentences alone: 7; crash.pt holds the state" in said
    last = updates(tmp_path / "checkpoint_last.pt")
    assert f"update {last + 1} was not done" in said


def test_the_search_for_the_module_survives_an_encoder_that_returns_a_dictionary():
    from fairseq.nan_detector import NanDetector

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(2, 2)

        def forward(self, values):
            return {"out": [self.inner(values)], "none": []}

    model = Encoder()
    with NanDetector(model):
        model(torch.full((1, 2), NAN))["out"][0].sum().backward()
    assert model.inner.weight.grad is not None


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_perplexity_may_overflow(value):
    assert finite.not_finite({"ppl": value, "loss": 1.0, "nll_b2": value}) == ["nll_b2"]
