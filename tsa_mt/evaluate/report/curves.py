"""Curves of a training: leaves, terms of the loss, BLEU, schedule, and how the training went."""

from typing import Dict, List, Sequence, Tuple

from tsa_mt.evaluate.report.entry import INNER, Entry
from tsa_mt.evaluate.report.lines import Series, line_chart
from tsa_mt.evaluate.report.markup import Html, element, join, missing
from tsa_mt.evaluate.report.wording import leaf_name, leaf_of

ENSEMBLE_COLOUR = 7
_BLEU_NAMES = {"bleu": "leader", "bleu_ensemble": "ensemble of all leaves"}


def curves_section(entry: Entry) -> Html:
    """All charts of a run but those of its diversity, and what was not logged."""
    charts = {
        "the loss of each leaf": _loss_of_leaves(entry),
        "accuracy": [] if entry.is_translation else _accuracy_of_leaves(entry),
        "BLEU during training": _bleu(entry),
        "the terms of the loss": _terms(entry),
        "the ramp-up": _schedule(entry),
        "gates": _gates(entry),
        "gradient norm and speed": _training(entry),
    }
    expected = _expected(entry)
    absent = [name for name, figures in charts.items() if not figures and name in expected]
    figures = [figure for found in charts.values() for figure in found]
    note = missing(f"Not logged in this run: {', '.join(absent)}.") if absent else None
    if not figures:
        return missing("No curves: curves.csv is not there or has no figures yet.")
    return join(element("div", figures, class_="charts"), note)


def _expected(entry: Entry) -> List[str]:
    """What a run of this task has when everything is switched on."""
    return [
        "the loss of each leaf",
        "BLEU during training" if entry.is_translation else "accuracy",
        "the terms of the loss",
        "gradient norm and speed",
    ]


def leaf_series(entry: Entry, split: str, prefix: str, whole: str) -> List[Series]:
    """One line a leaf from ``{prefix}_b0``, ...; that of ``whole`` where leaves have none."""
    metrics = [name for name in entry.run.metrics(split) if name.startswith(f"{prefix}_b")]
    leaves = sorted(
        (leaf, name) for name in metrics for leaf in [leaf_of(name)] if leaf is not None
    )
    if not leaves:
        leaves = [(0, whole)] if entry.points(split, whole) else []
    return [
        Series(leaf_name(leaf), entry.points(split, name), _colour(leaf), leaf, leaf == 0)
        for leaf, name in leaves
    ]


def _colour(leaf: int) -> int:
    """The leader's colour is its own, and so is the ensemble's."""
    return 0 if leaf == 0 else 1 + (leaf - 1) % (ENSEMBLE_COLOUR - 1)


def _loss_of_leaves(entry: Entry) -> List[Html]:
    for split in (entry.valid, INNER):
        series = leaf_series(entry, split, "nll", "nll_loss")
        if series:
            title = f"Negative log-likelihood of each leaf, {split}"
            return [line_chart(title, series, entry.unit)]
    return []


def _accuracy_of_leaves(entry: Entry) -> List[Html]:
    series = leaf_series(entry, entry.valid, "accuracy", "accuracy")
    ensemble = entry.points(entry.valid, "accuracy_ensemble")
    if ensemble:
        series.append(Series("ensemble of all leaves", ensemble, ENSEMBLE_COLOUR, 2))
    return [line_chart(f"Accuracy of each leaf, {entry.valid}", series, "%")] if series else []


def _bleu(entry: Entry) -> List[Html]:
    """Leader against ensemble; single leaves where they were decoded."""
    series = []
    for name in entry.run.metrics(entry.valid):
        leaf = leaf_of(name) if name.startswith("bleu_b") else None
        if leaf:
            points = entry.points(entry.valid, name)
            series.append(Series(leaf_name(leaf), points, _colour(leaf), leaf))
        elif name in _BLEU_NAMES:
            leads = name == "bleu"
            colour, dash = (0, 0) if leads else (ENSEMBLE_COLOUR, 2)
            points = entry.points(entry.valid, name)
            series.append(Series(_BLEU_NAMES[name], points, colour, dash, leads))
    return [line_chart(f"BLEU while training, {entry.valid}", series, "BLEU")] if series else []


def _terms(entry: Entry) -> List[Html]:
    """The leader's loss and every term of the objective, as they were summed up in training."""
    names = [
        name
        for name in entry.run.metrics(INNER)
        if name in ("loss", "total_loss") or name.startswith("loss_")
    ]
    names.sort(key=lambda name: (name != "loss", name))
    series = [
        Series(_term_name(name), entry.points(INNER, name), number % 7, number, name == "loss")
        for number, name in enumerate(names)
    ]
    title = "Terms of the training loss"
    return [line_chart(title, series, entry.unit)] if series else []


def _term_name(name: str) -> str:
    names = {"loss": "leader's loss", "total_loss": "total"}
    return names.get(name, name.removeprefix("loss_").replace("_", " "))


def _schedule(entry: Entry) -> List[Html]:
    points = entry.points(INNER, "ramp") or entry.points("train", "ramp")
    if not points:
        return []
    series = [Series("ramp-up", points, 0, 0, True)]
    return [line_chart("Ramp-up of the distillation", series, "share of the full weight")]


def _gates(entry: Entry) -> List[Html]:
    """A chart for every mixture of leaves: what a gate gives to each of them."""
    split, names = _gate_metrics(entry)
    mixtures: Dict[str, List[Series]] = {}
    for name in names:
        mixture, leaf = name.removeprefix("gate_").rpartition("_b")[0], leaf_of(name)
        if leaf is None:
            mixture, label, number = "", name.removeprefix("gate_"), len(mixtures.get("", ()))
        else:
            label, number = leaf_name(leaf), leaf
        series = Series(label, entry.points(split, name), _colour(number), number, number == 0)
        mixtures.setdefault(mixture, []).append(series)
    return [
        line_chart(f"{_mixture_name(mixture)}, {split}", series, "weight")
        for mixture, series in mixtures.items()
    ]


def _mixture_name(mixture: str) -> str:
    """``attention_2`` is one of several mixtures that a module makes."""
    name, _, mixed = mixture.rpartition("_")
    if name and mixed.isdecimal():
        return f"{name.capitalize()}, weights in mixture {mixed}"
    return f"{(mixture or 'gates').capitalize()}, weights"


def _gate_metrics(entry: Entry) -> Tuple[str, List[str]]:
    for split in (entry.valid, INNER, "train"):
        names = [name for name in entry.run.metrics(split) if name.startswith("gate_")]
        if names:
            return split, names
    return "", []


def _training(entry: Entry) -> List[Html]:
    titles: Dict[str, Tuple[str, str]] = {
        "gnorm": ("Gradient norm", "L2 norm"),
        "wps": (
            "Speed of training",
            "tokens per second" if entry.is_translation else "images per second",
        ),
        "lr": ("Learning rate", "learning rate"),
    }
    return [
        line_chart(title, [Series(title.lower(), entry.points(INNER, name), 0, 0)], unit)
        for name, (title, unit) in titles.items()
        if entry.points(INNER, name)
    ]


def leaders_section(entries: Sequence[Entry]) -> Html:
    """The leaders of all runs together: validation loss, and BLEU or accuracy while training."""
    units = {entry.unit for entry in entries}
    bits = units.pop() if len(units) == 1 else "bits"
    charts = {
        ("nll_loss", "Validation loss of the leaders (nll)"): bits,
        ("bleu", "BLEU of the leaders while training"): "BLEU",
        ("accuracy", "Accuracy of the leaders"): "%",
    }
    figures = [
        line_chart(title, series, unit)
        for (metric, title), unit in charts.items()
        if (series := _leaders(entries, metric))
    ]
    if not figures:
        return missing("No run has logged a validation yet.")
    return element("div", figures, class_="charts")


def _leaders(entries: Sequence[Entry], metric: str) -> List[Series]:
    """A line a run; runs of a method share the colour and differ in dashes."""
    methods = list(dict.fromkeys(entry.method for entry in entries))
    series = []
    for number, entry in enumerate(entries):
        if metric == "accuracy" and entry.is_translation:
            continue
        points = entry.points(entry.valid, metric)
        if points:
            nth = sum(other.method == entry.method for other in entries[:number])
            series.append(Series(entry.label, points, methods.index(entry.method), nth))
    return series
