"""Dropout with cheap masks."""

import torch
from fairseq.modules import FairseqDropout

from tsa_mt.dropout import CheapDropout, cheapen, dropout, keep_mask


def test_elements_are_dropped_with_the_probability_that_was_asked_for():
    torch.manual_seed(0)
    for p in (0.1, 0.3, 0.5, 0.9):
        kept = dropout(torch.ones(1000, 1001), p).ne(0).double().mean()
        assert abs(kept - (1 - p)) < 0.002


def test_what_is_kept_is_scaled_so_that_the_mean_stays():
    kept = dropout(torch.ones(1000), 0.3)
    torch.testing.assert_close(kept[kept != 0].mean(), torch.tensor(1 / 0.7), rtol=1e-4, atol=0)


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    mask = keep_mask(torch.Size([400_000]), 2**15).double() - 0.5
    for distance in (1, 2, 3, 4, 8):
        assert abs((mask[distance:] * mask[:-distance]).mean()) < 0.002


def test_the_gradient_passes_where_the_value_did():
    x = torch.randn(37, 3, requires_grad=True)
    y = dropout(x, 0.4)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient * x, y)
    assert 0 < (y == 0).sum() < y.numel()


def test_equal_seeds_give_equal_masks():
    masks = [(torch.manual_seed(3), keep_mask(torch.Size([101]), 9000))[1] for _ in range(2)]
    assert masks[0].equal(masks[1])


def test_a_models_dropout_is_replaced_and_evaluation_has_none():
    model = torch.nn.Sequential(FairseqDropout(0.5), torch.nn.Linear(2, 2))
    cheapen(model)
    cheapen(model)
    assert type(model[0]) is CheapDropout
    x = torch.ones(100, 2)
    assert (model.train()[0](x) == 0).any()
    assert model.eval()[0](x) is x
