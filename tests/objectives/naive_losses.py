"""What the references of objectives are made of: loops over leaves, rows and classes in float64.

Nothing here looks at the implementation. Inputs come from Python's own generator, whose numbers are
the same in every version, so that golden numbers stay valid.
"""

import random
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch

ROWS, CLASSES, DIM = 3, 5, 8


def numbers(*shape, seed=0, scale=3.0):
    """Uniform numbers that are the same with every version of everything."""
    draw = random.Random(seed)
    drawn = [draw.random() for _ in range(torch.Size(shape).numel())]
    return scale * (2 * torch.tensor(drawn, dtype=torch.float64) - 1).reshape(shape)


@dataclass(frozen=True)
class Case:
    """One evaluation of an objective; the options are the objective's."""

    leaves: int = 4
    rows: int = ROWS
    classes: int = CLASSES
    progress: float = 1.0
    smoothing: float = 0.0
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def tree(self):
        return f"0({','.join('1' * self.leaves)})" if self.leaves > 1 else "2"

    @property
    def target(self):
        return torch.tensor([(2 * row + 1) % self.classes for row in range(self.rows)])

    def objective(self, name, feature_dim=DIM):
        """The objective in float64 with parameters that are drawn too."""
        from tsa_mt.objectives import build_objective

        okd = build_objective(
            name, self.tree, feature_dim, self.classes, self.smoothing, **self.options
        ).double()
        with torch.no_grad():
            for number, parameter in enumerate(okd.parameters()):
                parameter.copy_(numbers(*parameter.shape, seed=100 * self.seed + number, scale=1.0))
        return okd

    def inputs(self, okd):
        """Logits, features, trunk and teachers' logits by name, each requiring a gradient."""
        from tsa_mt.objectives.consistency import passes_of

        passes = passes_of(okd)
        count, leaves = passes * okd.leaves, passes * len(okd.tree.leaves)
        teachers = okd.leaves if okd.average_decay is not None else int(okd.needs_teacher)
        shapes = {
            "logits": (count, self.rows, self.classes),
            "features": (leaves, self.rows, okd.feature_dim),
            "trunk": (passes * self.rows, okd.trunk_dim),
            "teachers": (teachers, self.rows, self.classes),
        }
        return {
            name: numbers(*shape, seed=100 * self.seed + 50 + number).requires_grad_()
            for number, (name, shape) in enumerate(shapes.items())
        }


def evaluate(okd, inputs, target, progress=1.0):
    """The standalone call on inputs as `Case.inputs` makes them."""
    return okd(
        list(inputs["logits"]),
        target,
        features=list(inputs["features"]),
        progress=progress,
        teacher_logits=list(inputs["teachers"]),
        trunk=inputs["trunk"],
    )


def softmax(row, temperature=1.0):
    """List of probabilities of a list of logits."""
    exponentials = [torch.exp(value / temperature) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def kl(target, other):
    """KL(target || other) of two lists of probabilities."""
    return sum(p * (p.log() - q.log()) for p, q in zip(target, other, strict=True))


def task_loss(row, true, smoothing=0.0):
    """Cross-entropy of one row of logits with a smoothed label."""
    loss = 0.0
    for index, p in enumerate(softmax(row)):
        share = 1.0 - smoothing if index == true else smoothing / (len(row) - 1)
        loss = loss - share * p.log()
    return loss


def mix(weights, rows):
    """Weighted sum of lists of numbers."""
    return [
        sum(weight * row[index] for weight, row in zip(weights, rows, strict=True))
        for index in range(len(rows[0]))
    ]


def affine(weight, row, bias=None):
    """Matrix times a list, plus a list."""
    products = [sum(w * x for w, x in zip(line, row, strict=True)) for line in weight]
    return products if bias is None else [p + b for p, b in zip(products, bias, strict=True)]


def layer_norm(row, weight, bias, epsilon=1e-5):
    """LayerNorm of a list of numbers."""
    mean = sum(row) / len(row)
    deviation = (sum((x - mean) ** 2 for x in row) / len(row) + epsilon) ** 0.5
    return [(x - mean) / deviation * w + b for x, w, b in zip(row, weight, bias, strict=True)]


def relu(row):
    """The positive part of every number of a list."""
    return [torch.clamp(x, min=0.0) for x in row]


def ramp(progress):
    """exp(-5 (1 - progress)^2)."""
    return torch.exp(-5 * (1 - torch.tensor(progress, dtype=torch.float64)) ** 2)


def detached(row):
    """The same numbers without gradients."""
    return [x.detach() for x in row]


def compare(name, reference, case):
    """Values of all terms and gradients of all inputs and parameters, ours against the reference's.

    Every term gets a weight of its own, so that no error can hide in the sum.
    """
    okd = case.objective(name)
    parameters = dict(okd.named_parameters())
    inputs = case.inputs(okd)
    target = case.target
    gradients, values = [], []
    for terms in (
        evaluate(okd, inputs, target, case.progress),
        reference(inputs, target.tolist(), parameters, case),
    ):
        terms = {term: torch.as_tensor(value) for term, value in terms.items()}
        weighted = sum(weight * terms[term] for weight, term in enumerate(sorted(terms), start=1))
        wanted = [*inputs.values(), *parameters.values()]
        gradients.append(torch.autograd.grad(weighted, wanted, allow_unused=True))
        values.append(terms)
    assert values[0].keys() == values[1].keys()
    for term, value in values[1].items():
        torch.testing.assert_close(values[0][term], value.double(), rtol=1e-10, atol=1e-12)
    for label, ours, theirs in zip([*inputs, *parameters], *gradients, strict=True):
        if ours is None and theirs is None:
            continue
        nothing = torch.zeros_like(theirs if ours is None else ours)
        ours, theirs = (nothing if grad is None else grad for grad in (ours, theirs))
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-11, msg=f"gradient of {label}")


def cases(*options, shapes=((4, 3, 5), (2, 1, 7), (3, 4, 3), (1, 2, 4)), progress=(1.0,)):
    """Cases of several shapes (leaves, rows, classes), with every set of options in turn."""
    combined = enumerate(product(shapes, options or ({},), progress))
    return [
        Case(
            *shape,
            progress=done,
            smoothing=0.1 * (number % 2),
            seed=number,
            options=chosen,
        )
        for number, (shape, chosen, done) in combined
    ]
