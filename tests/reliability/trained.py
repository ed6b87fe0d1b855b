"""What a training left, compared to the last bit."""

import csv

import torch

TIMES = {"wps", "ups", "wall", "train_wall", "gb_free"}


def state(path):
    return torch.load(path, weights_only=True)


def curves(folder):
    """Figures that are no times, in order of updates."""
    with open(folder / "curves.csv") as file:
        return sorted(row for row in csv.reader(file) if row[3] not in TIMES)


def assert_equal(ours, theirs, where):
    if torch.is_tensor(ours):
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_equal(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), where
        for number, pair in enumerate(zip(ours, theirs)):
            assert_equal(*pair, f"{where}/{number}")
    else:
        assert ours == theirs, where
