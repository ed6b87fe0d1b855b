"""What a training and its evaluation leave in a folder, read back: ``read_run(folder)``.

A run's folder is the ``--save-dir`` of ``fairseq-train``:

    RUN/run.json     the record: method, options, seed, data, commit, versions, costs, best
    RUN/curves.csv   every figure that was logged, one a line: update,epoch,split,metric,value
    RUN/results/     MODEL[.branchK].TEST_SET.{json,log}: scores of `tsa-mt score --json` and
                     the output of `fairseq-generate` they were computed from (also as .log.gz)

The first two are written while training goes on, so that a run can be read at any time. Folders
that hold no record are refused; missing curves or results are empty.
"""

import csv
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from tsa_mt.evaluate.score import GenerateLog, Score, read_generate_log
from tsa_mt.files import PathLike, read_object

RECORD, CURVES, RESULTS = "run.json", "curves.csv", "results"
FORMAT = 1
COLUMNS = ("update", "epoch", "split", "metric", "value")
ENSEMBLE = -1

_RESULT = re.compile(
    r"(?P<model>[^.]+)(\.branch(?P<branch>-?\d+))?\.(?P<set>.+)\.(json|log(\.gz)?)"
)


class CurvePoint(NamedTuple):
    """One figure that was logged.

    Attributes:
        update: Number of updates that were done.
        epoch: Epoch that was going on, from 1.
        split: ``train_inner`` (every ``--log-interval``), ``train`` (mean over an epoch), or the
            name of a subset that was validated, such as ``valid``.
        metric: fairseq's name of it, such as ``nll_loss`` or ``nll_b1``.
        value: The figure; NaN and infinities occur.
    """

    update: int
    epoch: int
    split: str
    metric: str
    value: float


class ResultKey(NamedTuple):
    """Which translations a result is about.

    Attributes:
        model: The checkpoint: ``best``, ``last``, ``average10``.
        branch: The leaf that translated, 0 for the leader, -1 for all leaves together.
        test_set: Name of the test set.
    """

    model: str
    branch: int
    test_set: str

    @property
    def leaf(self) -> str:
        """The branch in words."""
        if self.branch == ENSEMBLE:
            return "ensemble"
        return f"leaf {self.branch}" if self.branch else "leader"


@dataclass(frozen=True)
class Result:
    """Scores of one set of translations.

    Attributes:
        key: Model, branch and test set.
        scores: By metric as sacreBLEU calls it, such as ``BLEU`` or ``chrF2``; empty when only the
            translations are there.
        references: Files of references, as they were named when it was scored; empty when the
            references were the targets in the log.
        sentences: Number of sentences; 0 when it was not scored.
        references_sha256: Content of the references, as `references_digest` computes it; empty in
            what an older version wrote.
        log: Output of ``fairseq-generate``; unset when it is not there.
    """

    key: ResultKey
    scores: Dict[str, Score] = field(default_factory=dict)
    references: Tuple[str, ...] = ()
    sentences: int = 0
    references_sha256: str = ""
    log: Optional[Path] = None

    def translations(self) -> GenerateLog:
        """The translations, and the targets as the dictionary knows them.

        Raises:
            FileNotFoundError: The log is not there.
            ValueError: It is incomplete.
        """
        if self.log is None:
            raise FileNotFoundError(
                f"there is no log of the translations of {self.key.test_set} by model "
                f"'{self.key.model}' ({self.key.leaf}); keep fairseq-generate's output beside the "
                f"scores, as MODEL.TEST_SET.log"
            )
        return read_generate_log([self.log])


@dataclass(frozen=True)
class Run:
    """A training and its evaluation; see the module's docstring.

    Attributes:
        path: The folder.
        record: What ``run.json`` holds.
        curves: Every figure that was logged, in order.
        results: Scores and translations by model, branch and test set.
    """

    path: Path
    record: Dict[str, Any]
    curves: List[CurvePoint] = field(repr=False)
    results: Dict[ResultKey, Result]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def splits(self) -> List[str]:
        """Splits that have curves, in order of first appearance."""
        return list(dict.fromkeys(split for split, _ in self._series))

    def metrics(self, split: str) -> List[str]:
        """Names of the figures that were logged for a split, in order of first appearance."""
        return [metric for known, metric in self._series if known == split]

    def series(self, split: str, metric: str) -> List[CurvePoint]:
        """One curve, in order of updates; empty when it was not logged."""
        return self._series.get((split, metric), [])

    @cached_property
    def _series(self) -> Dict[Tuple[str, str], List[CurvePoint]]:
        found: Dict[Tuple[str, str], List[CurvePoint]] = {}
        for point in self.curves:
            found.setdefault((point.split, point.metric), []).append(point)
        return found


def read_run(path: PathLike) -> Run:
    """Reads a run's folder.

    Raises:
        FileNotFoundError: There is no such folder, or no record in it.
        ValueError: The record, the curves or a result is damaged or of another format.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path} is not a folder; give a run's folder, the --save-dir of fairseq-train"
        )
    return Run(path, _read_record(path), read_curves(path / CURVES), _read_results(path / RESULTS))


def _read_record(folder: Path) -> Dict[str, Any]:
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {RECORD}; give a run's folder, the --save-dir of a fairseq-train "
            f"that ran with --user-dir tsa_mt"
        )
    record = read_object(path)
    if record.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {record.get('format')!r}, and this version of tsa-mt reads format "
            f"{FORMAT}; use the version that wrote it: {record.get('versions', {}).get('tsa_mt')}"
        )
    return record


def read_curves(path: PathLike) -> List[CurvePoint]:
    """Reads ``curves.csv``; a last line that is not finished, of a run being written, is left out.

    Raises:
        ValueError: It has other columns, or a line does not hold what it should.
    """
    path = Path(path)
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    rows = list(csv.reader(whole))
    if not rows:
        return []
    if tuple(rows[0]) != COLUMNS:
        raise ValueError(
            f"{path} has the columns {','.join(rows[0])}; it must have {','.join(COLUMNS)}"
        )
    return [_read_point(path, number, row) for number, row in enumerate(rows[1:], start=2)]


def _read_point(path: Path, number: int, row: List[str]) -> CurvePoint:
    try:
        update, epoch, split, metric, value = row
        return CurvePoint(int(update), int(epoch), split, metric, float(value))
    except ValueError as error:
        raise ValueError(
            f"{path}, line {number}: {','.join(row)!r} is not update,epoch,split,metric,value"
        ) from error


def _read_results(folder: Path) -> Dict[ResultKey, Result]:
    files: Dict[ResultKey, Dict[str, Path]] = {}
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        match = _RESULT.fullmatch(path.name)
        if match and not path.name.startswith("."):
            key = ResultKey(match["model"], int(match["branch"] or 0), match["set"])
            files.setdefault(key, {})[path.suffix.replace(".gz", ".log")] = path
    return {key: _read_result(key, found) for key, found in files.items()}


def _read_result(key: ResultKey, files: Dict[str, Path]) -> Result:
    log, path = files.get(".log"), files.get(".json")
    if path is None:
        return Result(key, log=log)
    report = read_object(path)
    try:
        scores = {entry["name"]: Score(**entry) for entry in report["scores"]}
        references = report["references"]
        sentences = report["sentences"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no scores of tsa-mt score --json: {error!r}") from error
    named = tuple(references) if isinstance(references, list) else ()
    return Result(key, scores, named, sentences, report.get("references_sha256", ""), log)
