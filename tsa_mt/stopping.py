"""A training that is asked to stop ends its update, saves and leaves; started again it goes on.

SIGTERM, SIGUSR1 and SIGINT ask. What is going on is finished if it is an update or a save, and
given up if it is a validation, which is done again at the next start, as is a save with a number
of its own that was due. The process ends with the status `RESUMABLE`. A second signal ends it at
once. Of several workers one is enough to be asked: all agree after every update.

Together with a checkpoint goes what fairseq forgets: how long the figure of ``--patience`` has not
improved, and whether a validation is due. A training that has had all its updates does no more.
"""

import functools
import importlib
import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, Dict, List, Optional, Tuple

import torch
from fairseq import checkpoint_utils
from fairseq.data import iterators
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import meters, metrics
from fairseq.trainer import Trainer
from torch.utils.data import DataLoader

from tsa_mt import batches, identity, saving
from tsa_mt.compat import Overlay
from tsa_mt.evaluate import recording
from tsa_mt.saving import LAST, wait_for_all

logger = logging.getLogger(__name__)

RESUMABLE = 75
"""Exit status of a training that was asked to stop and has saved: start it again and it goes on."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
SAME_SECONDS = 1.0
"""Signals that follow the first one faster are the same request: launchers pass them on twice."""
KEPT = "tsa_mt"
"""Where a checkpoint's ``extra_state`` holds what this module keeps."""

ValidLosses = List[Optional[float]]


class Request:
    """The request to stop that this process may get.

    Attributes:
        number: The signal that asked; 0 while nobody has.
    """

    def __init__(self):
        self.number = 0
        self._time = 0.0
        self._owner = 0
        self._earlier: Dict[int, Any] = {}

    def listen(self) -> None:
        """Takes the signals from now on, except those that this process was started to ignore."""
        if self._owner or threading.current_thread() is not threading.main_thread():
            return
        self._owner = os.getpid()
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._earlier[number] = signal.signal(number, self._take)

    def forget(self) -> None:
        """Gives the signals back."""
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        type(self).__init__(self)

    def _take(self, number: int, frame: Optional[FrameType]) -> None:
        if os.getpid() != self._owner:  # a process that loads data: its parent decides
            return
        now = time.monotonic()
        if self.number and now - self._time < SAME_SECONDS:
            return
        if self.number:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.number, self._time = number, now
        name = signal.Signals(number).name
        text = f"{name}: ending the update, saving and leaving; once more ends at once\n"
        os.write(2, text.encode())  # not logging: the signal may have come in the middle of it


class ValidationStopped(Exception):
    """A validation was given up because the training shall stop."""


class Place:
    """Where a training stopped, as fairseq's functions ask an iterator of an epoch for it.

    Args:
        epoch: That was going on.
        ended: Whether that was its last update.
        state: Of the iterator, from which training goes on.
    """

    def __init__(self, epoch: int, ended: bool, state: Dict[str, Any]):
        self.epoch = epoch
        self._ended = ended
        self._state = state

    def end_of_epoch(self) -> bool:
        """Whether the epoch was over."""
        return self._ended

    def state_dict(self) -> Dict[str, Any]:
        """From where to go on."""
        return self._state


request = Request()
_leaving = 0
_saved_at = -1
_due: Optional[Dict[str, Any]] = None


def _train_module() -> Any:
    """fairseq's training command, which may be the program itself."""
    main = sys.modules["__main__"]
    if hasattr(main, "validate_and_save") and hasattr(main, "should_stop_early"):
        return main
    return importlib.import_module("fairseq_cli.train")


def _asked(trainer: Trainer) -> int:
    """The signal that any worker has got; 0 for none."""
    if trainer.data_parallel_world_size == 1:
        return request.number
    number = torch.tensor([request.number], device=trainer.device)
    group = trainer.data_parallel_process_group
    distributed_utils.all_reduce(number, group=group, op="max")
    return int(number)


# --- leaving ------------------------------------------------------------------------------------


def _save_last(trainer: Trainer, place: Any, due: bool) -> None:
    """Saves the last checkpoint and no other, which are made when the due validation is done."""
    global _due
    only_last = {
        "no_last_checkpoints": False,
        "no_epoch_checkpoints": True,
        "save_interval_updates": 0,
        "keep_interval_updates": 0,
        "keep_last_epochs": 0,
        "keep_best_checkpoints": 0,
    }
    _due = {"epoch": place.epoch, "end_of_epoch": place.end_of_epoch()} if due else None
    try:
        config = Overlay(trainer.cfg.checkpoint, **only_last)
        checkpoint_utils.save_checkpoint(config, trainer, place, None)
    finally:
        _due = None


def _leave(trainer: Trainer, number: int, ended: bool) -> Tuple[ValidLosses, bool]:
    """Ends the process, at the end of an epoch after fairseq has printed its figures."""
    global _leaving
    wait_for_all(trainer)  # the others must not end while one is still saving
    recording.end("interrupted", signal.Signals(number).name)
    _leaving = number
    if not ended:
        _exit_if_leaving(trainer)
    return [None], True


def _exit_if_leaving(trainer: Trainer) -> None:
    if _leaving and saving.failure:
        raise SystemExit(saving.NOT_SAVED)
    if _leaving:
        raise SystemExit(128 + _leaving if trainer.cfg.checkpoint.no_save else RESUMABLE)


def _validate_and_save(original, cfg, trainer, task, place, subsets, ended):
    """fairseq's, unless the training shall stop."""
    number = _asked(trainer)
    if not number:
        try:
            losses, over = original(cfg, trainer, task, place, subsets, ended)
        except ValidationStopped:
            number, losses = _asked(trainer), [None]
        else:
            saved = _saved_at == trainer.get_num_updates()
            if over or not (saved or losses != [None]):
                return losses, over
            number = _asked(trainer)
            if not number:
                return losses, over
            if not saved:
                _save_last(trainer, place, due=False)
            return _leave(trainer, number, ended)
    _save_last(trainer, place, due=True)
    return _leave(trainer, number, ended)


# --- going on -----------------------------------------------------------------------------------


def _kept(trainer: Trainer) -> Dict[str, Any]:
    """What a checkpoint holds beside fairseq's own state."""
    early = _train_module().should_stop_early
    waited = {name: getattr(early, name) for name in ("best", "num_runs") if hasattr(early, name)}
    return {
        "due": _due,
        "patience": waited,
        "epoch_figures": _numbers(metrics.get_smoothed_values("train")),
        identity.KEY: identity.of(trainer),
        **batches.kept(),
    }


def _numbers(figures: Dict[str, Any]) -> Dict[str, float]:
    """Figures as a checkpoint can hold them."""
    return {name: float(value) for name, value in figures.items() if value is not None}


def _go_on(trainer: Trainer, extra_state: Dict[str, Any]) -> None:
    """Does what was due when the training stopped, and ends it if all has been done."""
    train, kept = _train_module(), extra_state.get(KEPT, {})
    vars(train.should_stop_early).update(kept.get("patience", {}))
    config, due, over = trainer.cfg, kept.get("due"), False
    if due:
        subsets = config.dataset.valid_subset.split(",")
        place = Place(due["epoch"], due["end_of_epoch"], extra_state["train_iterator"])
        request.listen()
        recording.begin(trainer, due["epoch"], validation_is_due=True)
        arguments = (config, trainer, trainer.task, place, subsets, due["end_of_epoch"])
        losses, over = train.validate_and_save(*arguments)
        _exit_if_leaving(trainer)
        if due["end_of_epoch"]:
            trainer.lr_step(due["epoch"], losses[0])
    over = over or 0 < (config.optimization.max_update or 0) <= trainer.get_num_updates()
    at_start = extra_state["train_iterator"]["iterations_in_epoch"] == 0
    if kept and (over or at_start):
        epoch = extra_state["train_iterator"]["epoch"] - at_start
        recording.complete_epoch(trainer, epoch, kept["epoch_figures"])
    if over:
        recording.end("finished")
        config.optimization.max_epoch = -1  # fairseq would do one more update


def _is_resumed(config: Any) -> bool:
    """Whether a checkpoint of this folder would be gone on with, and nothing of it forgotten."""
    resets = (config.reset_dataloader, config.reset_optimizer, config.finetune_from_model)
    return config.restore_file == LAST and not any(resets)


def _restore_meters(extra_state: Dict[str, Any]) -> None:
    """Restores running averages at the beginning of an epoch, where fairseq forgets them all."""
    if extra_state["train_iterator"]["iterations_in_epoch"] or "metrics" not in extra_state:
        return
    metrics.load_state_dict(extra_state["metrics"])
    metrics.reset_meters("train")  # which are of one epoch
    for meter in metrics.get_meters("default"):
        if isinstance(meter, meters.TimeMeter):
            meter.reset()


# --- the hooks ----------------------------------------------------------------------------------


class SteadyLoader(DataLoader):
    """A data loader whose processes end by signals of this process only.

    A cluster's signals go to every process of a job; a loader that ended would fail the training.
    """

    def __init__(self, *args, worker_init_fn=None, **kwargs):
        super().__init__(*args, worker_init_fn=_Steady(worker_init_fn), **kwargs)


class _Steady:
    """Begins a loading process: requests to stop are not its business, the end of its parent is."""

    def __init__(self, then: Any):
        self.then = then

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        if hasattr(signal, "sigwaitinfo"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_end_with_parent, daemon=True).start()
        if self.then is not None:
            self.then(worker)


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def install() -> None:
    """Replaces the functions of fairseq that a request to stop hangs on; once."""
    train = _train_module()
    if getattr(train.train, "stops", False):
        return
    _hook_training(train)
    _hook_checkpoints()
    data = Overlay(torch.utils.data, DataLoader=SteadyLoader)
    iterators.torch = Overlay(torch, utils=Overlay(torch.utils, data=data))


def _hook_training(train: Any) -> None:
    main, epoch, finish, validate = (
        train.main,
        train.train,
        train.validate_and_save,
        Trainer.valid_step,
    )

    @functools.wraps(main)
    def listening_main(cfg, **kwargs):
        try:
            main(cfg, **kwargs)
            if saving.failure:
                raise SystemExit(saving.NOT_SAVED)
        finally:
            _forget()

    @functools.wraps(epoch)
    def stoppable_epoch(cfg, trainer, task, epoch_itr):
        request.listen()
        result = epoch(cfg, trainer, task, epoch_itr)
        _exit_if_leaving(trainer)
        return result

    @functools.wraps(validate)
    def stoppable_step(self, sample, *args, **kwargs):
        if _asked(self):
            raise ValidationStopped
        return validate(self, sample, *args, **kwargs)

    stoppable_epoch.__dict__["stops"] = True
    train.main, train.train = listening_main, stoppable_epoch
    train.validate_and_save = functools.wraps(finish)(functools.partial(_validate_and_save, finish))
    Trainer.valid_step = stoppable_step


def _forget() -> None:
    global _leaving, _saved_at
    _leaving, _saved_at = 0, -1
    request.forget()
    saving.leave_folder()


def _hook_checkpoints() -> None:
    save_all, load, to_cpu, save, read = (
        checkpoint_utils.save_checkpoint,
        checkpoint_utils.load_checkpoint,
        checkpoint_utils.load_checkpoint_to_cpu,
        Trainer.save_checkpoint,
        Trainer.load_checkpoint,
    )

    @functools.wraps(save_all)
    def noted_save(cfg, trainer, *args, **kwargs):
        global _saved_at
        result = save_all(cfg, trainer, *args, **kwargs)
        if not saving.failure:
            _saved_at = trainer.get_num_updates()
        return result

    @functools.wraps(load)
    def load_and_go_on(cfg, trainer, **passthrough):
        extra_state, iterator = load(cfg, trainer, **passthrough)
        if extra_state and not (cfg.reset_dataloader or cfg.reset_optimizer):
            _go_on(trainer, extra_state)
        return extra_state, iterator

    @functools.wraps(to_cpu)
    def read_own(path, *args, **kwargs):
        state = to_cpu(path, *args, **kwargs)
        kept = (state.get("extra_state") or {}).get(KEPT) or {}
        identity.check(path, kept.get(identity.KEY))
        return state

    @functools.wraps(read)
    def read_with_kept(self, *args, **kwargs):
        config = self.cfg.checkpoint
        leads = self.data_parallel_rank == 0
        with identity.expecting(identity.of(self) if leads and _is_resumed(config) else None):
            extra_state = read(self, *args, **kwargs)
        goes_on = extra_state and KEPT in extra_state and not config.reset_dataloader
        batches.restore(extra_state[KEPT] if goes_on else {})
        if goes_on and not config.reset_meters:
            _restore_meters(extra_state)
        return extra_state

    @functools.wraps(save)
    def save_with_kept(self, filename, extra_state):
        return save(self, filename, {**extra_state, KEPT: _kept(self)})

    checkpoint_utils.save_checkpoint = noted_save
    checkpoint_utils.load_checkpoint = load_and_go_on
    checkpoint_utils.load_checkpoint_to_cpu = read_own
    Trainer.save_checkpoint, Trainer.load_checkpoint = save_with_kept, read_with_kept
