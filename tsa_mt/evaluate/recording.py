"""Every ``fairseq-train`` leaves run.json and curves.csv beside its checkpoints.

fairseq hands what it logs to a progress bar, whatever ``--log-format`` says; bars that belong to an
epoch pass it on to the run's recorder. What a bar does not know comes from the trainer: at the
beginning of an epoch (options, model, where training stands) and after every update (its tokens).
Bars of ``fairseq-generate`` and ``fairseq-validate`` belong to no epoch and are left alone.

Only rank 0 records. An error in recording is one warning and the end of the recording, never of the
training. ``--no-save`` asks for nothing to be left, so nothing is.
"""

import contextlib
import functools
import logging
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Dict, Optional

import torch
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics, progress_bar
from fairseq.trainer import Trainer

logger = logging.getLogger(__name__)

COUNTED_UPDATES = 8
"""The operations of this many updates are counted; they are a little slower."""
GIB = 2**30


class Recording:
    """The recorder of the training that goes on in this process, guarded against its errors.

    Args:
        trainer: fairseq's, about to begin an epoch; it is not kept alive.
        validation_is_due: Whether the last update's validation will be done again.
    """

    def __init__(self, trainer: Trainer, validation_is_due: bool = False):
        self._trainer = weakref.ref(trainer)
        self._on_gpu = trainer.cuda
        self._within_step = False
        self._to_count = 0
        self._said: set[str] = set()
        self.recorder: Any = None
        with self._guarded():
            self.recorder = _start(trainer, validation_is_due)
            known = any(entry.get("counted_tokens") for entry in self.recorder.earlier)
            # Compiled code is not compiled under a counter, and rounds in another way. So a
            # training that goes on must count the updates that it would have counted at once.
            left = max(0, COUNTED_UPDATES - trainer.get_num_updates())
            self._to_count = left if known else COUNTED_UPDATES

    def belongs_to(self, trainer: Trainer) -> bool:
        """Whether it is this trainer's."""
        return self._trainer() is trainer

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turns an error into a warning, after which nothing is recorded any more."""
        try:
            yield
        except Exception as error:
            self.recorder, self._to_count = None, 0
            logger.disabled = False  # hydra's logging configuration disables loggers that exist
            logger.warning(
                "the run is not recorded any further, training goes on: %s: %s",
                type(error).__name__,
                error,
            )

    def begin_epoch(self, epoch: int) -> None:
        """An epoch begins."""
        if self.recorder is not None:
            with self._guarded():
                self.recorder.begin_epoch(epoch)

    def step(self, run: Callable[[], Any], samples: Any) -> Any:
        """Does an update and notes its tokens, its time and, of the first few, its operations."""
        if self.recorder is None or self._within_step:  # --amp repeats a step within itself
            return run()
        counter, began = self._counter(), time.perf_counter()
        self._within_step = True
        try:
            with counter or contextlib.nullcontext():
                result = run()
        finally:
            self._within_step = False
        seconds = time.perf_counter() - began
        if result is not None:  # else out of memory, or an overflow of the loss scale: no update
            with self._guarded():
                self._note(seconds, counter, samples)
        return result

    def _counter(self) -> Any:
        if self._to_count:
            with self._guarded():
                from tsa_mt.evaluate.operations import OperationCounter

                return OperationCounter()
        return None

    def _note(self, seconds: float, counter: Any, samples: Any) -> None:
        used = _gpu_bytes() if self._on_gpu else _facts().peak_resident_bytes()
        self.recorder.peak_memory_bytes = max(self.recorder.peak_memory_bytes, used)
        self.recorder.step(_last("wpb"), 0.0 if counter else seconds)
        if counter:
            self._to_count -= 1
            self.recorder.count(counter.total, _local_tokens(samples))

    def log(self, split: str, figures: Dict[str, Any], update: Optional[int]) -> None:
        """Figures were logged within an epoch, or for its validation."""
        if self.recorder is not None:
            with self._guarded():
                now = self.recorder.update if update is None else update
                self.recorder.log(split, figures, now)

    def remark(self, figures: Dict[str, Any]) -> None:
        """Says in words, once each, what the figures of an epoch mean."""
        with self._guarded():
            from tsa_mt.remarks import remarks

            for subject, sentence in remarks(figures).items():
                if subject not in self._said:
                    self._said.add(subject)
                    logger.disabled = False  # hydra's logging configuration disables it
                    logger.warning(sentence)

    def complete_epoch(self, figures: Dict[str, float]) -> None:
        """An epoch was over when the training was killed."""
        if self.recorder is not None:
            with self._guarded():
                self.recorder.complete_epoch(figures)

    def end_epoch(self) -> None:
        """The figures of an epoch were logged; validation and saving have been done."""
        if self.recorder is not None:
            with self._guarded():
                self.recorder.end_epoch(_is_over(self._trainer(), self.recorder.epoch))

    def end(self, status: str, reason: Optional[str]) -> None:
        """The training ends, and it is known why."""
        if self.recorder is not None:
            with self._guarded():
                self.recorder.end(status, reason)

    def close(self) -> None:
        """The process ends."""
        if self.recorder is not None:
            with self._guarded():
                self.recorder.close()


def _facts():
    from tsa_mt.evaluate import run_facts

    return run_facts


def _start(trainer: Trainer, validation_is_due: bool) -> Any:
    """The recorder of a run."""
    from tsa_mt.evaluate.run_record import Recorder, Tracked

    facts, config = _facts(), trainer.cfg
    checkpoint, model = config.checkpoint, trainer.get_model()
    subsets = config.dataset.valid_subset.split(",")
    options = facts.all_options(config)
    known = {
        "task": options.get("task._name"),
        "arch": options.get("model._name"),
        "method": facts.method_of(model, options.get("criterion._name")),
        "seed": config.common.seed,
        "options": options,
        "data": facts.data_at_start(options.get("task.data"), ("train", *subsets)),
        "commit": facts.commit(),
        "versions": facts.versions(),
        "hardware": facts.hardware(trainer.cuda, trainer.data_parallel_world_size),
        "arithmetic": facts.arithmetic(trainer.get_criterion(), trainer.cuda),
        "parameters": facts.parameter_counts(model),
    }
    tracked = Tracked(
        subsets[0],
        checkpoint.best_checkpoint_metric,
        checkpoint.maximize_best_checkpoint_metric,
        f"checkpoint_best{trainer.checkpoint_suffix}.pt",
    )
    folder, update = Path(checkpoint.save_dir), trainer.get_num_updates()
    return Recorder(folder, known, tracked, update, validation_is_due=validation_is_due)


def _is_over(trainer: Trainer, epoch: int) -> bool:
    """Whether fairseq begins no further epoch, as far as its options and its patience say."""
    config = trainer.cfg
    stopping = getattr(sys.modules.get("fairseq_cli.train"), "should_stop_early", None)
    patience = config.checkpoint.patience
    return (
        0 < (config.optimization.max_update or 0) <= trainer.get_num_updates()
        or 0 < (config.optimization.max_epoch or 0) <= epoch
        or 0 < patience <= getattr(stopping, "num_runs", 0)
    )


def _local_tokens(samples: Any) -> int:
    """Target tokens (or images) of this worker's batches."""
    return sum(int(sample["ntokens"]) for sample in samples if sample and "ntokens" in sample)


def _last(name: str) -> float:
    """What fairseq logged for the last update; 0 when it did not."""
    meter = metrics.get_meter("train", name)
    return 0.0 if meter is None or meter.val is None else float(meter.val)


def _gpu_bytes() -> int:
    """Most memory that tensors took in the last update: fairseq resets PyTorch's own counter."""
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return round(total - _last("gb_free") * GIB)


# --- the hooks ----------------------------------------------------------------------------------

_current: Optional[Recording] = None


def begin(trainer: Trainer, epoch: int, validation_is_due: bool = False) -> None:
    """Begins to record before the first epoch, or says that an epoch begins."""
    recording = _recording_of(trainer, validation_is_due)
    if recording is not None:
        recording.begin_epoch(epoch)


def complete_epoch(trainer: Trainer, epoch: int, figures: Dict[str, float]) -> None:
    """Records the figures of an epoch, if the training was killed before it recorded them."""
    begin(trainer, epoch)
    if _current is not None:
        _current.complete_epoch(figures)


def end(status: str, reason: Optional[str] = None) -> None:
    """Writes down how the training of this process ends.

    Args:
        status: ``finished``, ``interrupted`` or ``failed``.
        reason: A signal's name, or what failed.
    """
    if _current is not None:
        _current.end(status, reason)


def _recording_of(trainer: Trainer, validation_is_due: bool = False) -> Optional[Recording]:
    """The recording of a trainer, begun where there is none and there shall be one."""
    global _current
    if _current is not None and _current.belongs_to(trainer):
        return _current
    config = trainer.cfg
    leads = distributed_utils.is_master(config.distributed_training)
    records = leads and not config.checkpoint.no_save
    _current = Recording(trainer, validation_is_due) if records else None
    return _current


class RecordingBar(progress_bar.BaseProgressBar):
    """A progress bar that passes on to the recording what is logged.

    Args:
        bar: fairseq's own.
        validates: Whether it is the bar of a validation.
    """

    def __init__(self, bar: progress_bar.BaseProgressBar, validates: bool):
        self.wrapped_bar = bar
        self.validates = validates

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped_bar, name)

    def __len__(self) -> int:
        return len(self.wrapped_bar)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.wrapped_bar)

    def log(self, stats, tag=None, step=None):
        """Figures within an epoch."""
        self.wrapped_bar.log(stats, tag=tag, step=step)
        if _current is not None:
            _current.log(tag or "train_inner", stats, step)

    def print(self, stats, tag=None, step=None):
        """Figures of an epoch, or of a validation."""
        self.wrapped_bar.print(stats, tag=tag, step=step)
        if _current is not None:
            _current.log(tag or "train", stats, step)
            if not self.validates:
                _current.remark(stats)
                _current.end_epoch()

    def update_config(self, config):
        """The configuration."""
        self.wrapped_bar.update_config(config)


def _close() -> None:
    if _current is not None:
        _current.close()


def install() -> None:
    """Replaces the three functions of fairseq that a recording hangs on; once."""
    if getattr(progress_bar.progress_bar, "records", False):
        return
    make_bar, begin_epoch, train_step = (
        progress_bar.progress_bar,
        Trainer.begin_epoch,
        Trainer.train_step,
    )

    @functools.wraps(make_bar)
    def recording_bar(*args, **kwargs):
        bar = make_bar(*args, **kwargs)
        if kwargs.get("epoch") is None:
            return bar
        return RecordingBar(bar, validates=kwargs.get("prefix") is not None)

    @functools.wraps(begin_epoch)
    def recorded_epoch(self, epoch):
        result = begin_epoch(self, epoch)
        begin(self, epoch)
        return result

    @functools.wraps(train_step)
    def recorded_step(self, samples, *args, **kwargs):
        if _current is None or not _current.belongs_to(self):
            return train_step(self, samples, *args, **kwargs)
        return _current.step(lambda: train_step(self, samples, *args, **kwargs), samples)

    recording_bar.__dict__["records"] = True
    progress_bar.progress_bar = recording_bar
    Trainer.begin_epoch, Trainer.train_step = recorded_epoch, recorded_step
    # Runs at the end of this process, also of one that multiprocessing has spawned.
    Finalize(None, _close, exitpriority=10)
