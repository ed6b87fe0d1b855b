"""Every objective against numbers that the float64 references wrote (see write_golden.py)."""

import json

import pytest
import torch
from naive_losses import evaluate
from write_golden import GOLDEN, cases_of, measure

from tsa_mt.objectives import OBJECTIVES


@pytest.mark.parametrize("name", [*OBJECTIVES, "kdcl"])  # the old name of kdcl_mean
def test_value_and_gradients_are_the_golden_ones(name):
    golden = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    for case, expected in zip(cases_of(name), golden, strict=True):
        ours = measure(
            lambda inputs, okd, _, case=case: sum(
                evaluate(okd, inputs, case.target, case.progress).values()
            ),
            case,
            name,
        )
        assert ours["value"] == pytest.approx(expected["value"], rel=1e-10)
        assert ours["gradients"].keys() == expected["gradients"].keys()
        for key, numbers in expected["gradients"].items():
            theirs = torch.tensor(numbers, dtype=torch.float64)
            found = torch.tensor(ours["gradients"][key], dtype=torch.float64)
            torch.testing.assert_close(found, theirs, rtol=1e-8, atol=1e-11, msg=key)
