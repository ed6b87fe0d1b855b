"""The choice of an arithmetic for matrix products."""

import pytest
import torch

from tsa_mt import precision
from tsa_mt.precision import Figures, choose

WITH_BFLOAT16 = Figures(float32=105, onednn=210, bfloat16=450)
WITHOUT = Figures(float32=80, onednn=85, bfloat16=22)


@pytest.fixture(autouse=True)
def untouched_switch():
    before = torch.backends.mkldnn.matmul.fp32_precision
    yield
    torch.backends.mkldnn.matmul.fp32_precision = before


def test_auto_takes_bfloat16_only_where_it_is_clearly_faster():
    assert choose("auto", WITH_BFLOAT16).name == "bfloat16"
    assert choose("auto", WITHOUT).name == "float32"
    assert choose("auto", Figures(float32=100, onednn=0, bfloat16=120)).name == "float32"


def test_what_is_asked_for_is_chosen_whatever_was_measured():
    assert choose("float32", WITH_BFLOAT16).name == "float32"
    assert choose("bfloat16", WITHOUT).name == "bfloat16"


def test_a_choice_of_the_command_line_becomes_plain_data():
    from tsa_mt.criterion import OnlineKDConfig

    default = OnlineKDConfig().kd_precision
    assert type(choose(default, WITHOUT).name) is str
    assert choose(default, WITHOUT).name == "float32"


def test_float32_goes_through_onednn_only_where_that_is_clearly_faster():
    assert choose("float32", WITH_BFLOAT16).onednn
    assert not choose("float32", WITHOUT).onednn


def test_an_unknown_precision_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="'half'; it must be one of auto, float32, bfloat16"):
        choose("half", WITHOUT)


def test_the_log_says_what_was_chosen_and_measured(monkeypatch, caplog):
    monkeypatch.setattr(precision, "measure", lambda device: WITHOUT)
    with caplog.at_level("INFO"):
        precision.settle("auto", "cpu")
    assert (
        "matrix products: float32 (G operations a second: float32 80, float32 by oneDNN 85, "
        "bfloat16 22)" in caplog.text
    )


def test_products_of_a_measured_float32_are_float32(monkeypatch):
    chosen = precision.settle("float32", "cpu")
    left, right = torch.randn(64, 256), torch.randn(256, 96)
    with chosen.products("cpu", 10):
        found = left @ right
    expected = left.double() @ right.double()
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_products_in_bfloat16_round_and_give_float32_gradients():
    chosen = choose("bfloat16", WITH_BFLOAT16)
    weight = torch.randn(8, 16, requires_grad=True)
    with chosen.products("cpu", 10):
        found = torch.nn.functional.linear(torch.randn(4, 16), weight)
    found.sum().backward()
    assert found.dtype == torch.bfloat16 and weight.grad.dtype == torch.float32


def test_every_kind_of_product_has_a_speed():
    figures = precision.measure("cpu")
    assert figures.float32 > 0 and figures.bfloat16 > 0 and figures.onednn >= 0
