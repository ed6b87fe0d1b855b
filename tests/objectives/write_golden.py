"""Writes golden/NAME.json: what the tests' float64 references compute, never the implementation.

    python tests/objectives/write_golden.py

Run it after a formula was corrected, and look at the difference before committing it.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from naive_losses import Case  # noqa: E402

from tsa_mt.objectives import OBJECTIVES  # noqa: E402

GOLDEN = HERE / "golden"
CASES = (Case(progress=0.5, seed=7), Case(leaves=2, rows=4, classes=7, smoothing=0.1, seed=8))


def _terms(module, name):
    """A reference that returns terms, as one that returns their sum."""
    found = import_module(module)
    reference = found.REFERENCES[name] if hasattr(found, "REFERENCES") else found.reference
    return lambda *arguments: sum(reference(*arguments).values())


def _independent(inputs, target, parameters, case):
    naive = import_module("test_independent").naive
    return naive(inputs["logits"], torch.tensor(target), case.smoothing)


def _tsa(inputs, target, parameters, case):
    module = import_module("test_tsa")
    module.CLASSES = case.classes
    return module.naive(inputs["logits"], torch.tensor(target), smoothing=case.smoothing)


def _kd(task_weight, weight, temperature):
    def reference(inputs, target, parameters, case):
        return import_module("test_kd").reference(
            inputs["logits"],
            inputs["teachers"].detach(),
            torch.tensor(target),
            *(task_weight, weight, temperature, False, case.smoothing),
        )

    return reference


def _sokd(inputs, target, parameters, case):
    module = import_module("test_sokd")
    student, bridge = inputs["logits"]
    (teacher,) = inputs["teachers"].detach()
    return module.reference(
        student, bridge, teacher, torch.tensor(target), 4.0, case.smoothing, module.PUBLISHED
    )


OTHERS = {
    "independent": _independent,
    "kd": _kd(0.5, 0.5, 1.0),
    "kd_hinton": _kd(1.0, 1.0, 3.0),
    "sokd": _sokd,
    "tsa": _tsa,
}
"""References of another form than the tests' usual one."""

FILES = {"mean_teacher": "ensemble"}
"""Objectives whose reference is in the test of another file."""


def reference_of(name):
    """The reference of an objective with the published options: that of its file's test."""
    module = FILES.get(name) or OBJECTIVES[name].__module__.rpartition(".")[2]
    return OTHERS.get(name) or _terms(f"test_{module}", name)


def cases_of(name):
    """The two golden cases; one student alone for the objective whose bridge asks for it."""
    if name != "sokd":
        return CASES
    return tuple(Case(1, c.rows, c.classes, c.progress, c.smoothing, c.seed) for c in CASES)


def measure(loss, case, name):
    """Value, and the gradients of inputs and parameters, of ``loss(inputs, okd, parameters)``."""
    okd = case.objective(name)
    inputs, parameters = case.inputs(okd), dict(okd.named_parameters())
    value = loss(inputs, okd, parameters)
    wanted = {"logits": inputs["logits"], **parameters}
    if okd.fuses_features:
        wanted["features"] = inputs["features"]
    gradients = torch.autograd.grad(value, list(wanted.values()))
    numbers = {key: grad.flatten().tolist() for key, grad in zip(wanted, gradients, strict=True)}
    return {"value": value.item(), "gradients": numbers}


def main():
    """Writes one file per objective."""
    for name in OBJECTIVES:
        reference = reference_of(name)
        measured = [
            measure(
                lambda inputs, okd, parameters, case=case, reference=reference: reference(
                    inputs, case.target.tolist(), parameters, case
                ),
                case,
                name,
            )
            for case in cases_of(name)
        ]
        path = GOLDEN / f"{name}.json"
        path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
