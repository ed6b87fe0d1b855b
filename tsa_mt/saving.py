"""How a checkpoint comes to the disk, and which one a training starts from.

fairseq writes one checkpoint and copies it over ``checkpoint_best.pt`` and ``checkpoint_last.pt``,
so that a kill leaves torn files under these names. Here every checkpoint is written beside its
place, forced to the disk and renamed: a name stands for a whole file at any time. What a kill
leaves beside is swept at the next start. A last checkpoint that is damaged nevertheless is set
aside, and the newest intact one takes its place.
"""

import atexit
import contextlib
import errno
import functools
import logging
import os
import shutil
from pathlib import Path
from typing import Any, List, Optional, Union

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager

from tsa_mt import files
from tsa_mt.checksum import DamagedCheckpoint, check, find_damage
from tsa_mt.evaluate import recording
from tsa_mt.run_lock import RunLock

logger = logging.getLogger(__name__)

LAST = "checkpoint_last.pt"
NOT_SAVED = 74
"""Exit status of a training whose last save failed: the disk was full."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

failure: Optional[str] = None
"""Why the latest save failed; unset after one that did not."""
_lock: Optional[RunLock] = None


# --- writing ------------------------------------------------------------------------------------


def copy(source: Union[str, Path], target: Union[str, Path]) -> None:
    """Copies a file so that ``target`` is whole at any time.

    It is a copy and not a second name of the same file: damage to one leaves the other intact.
    """
    with open(source, "rb") as old, files.writing(target, durable=True) as new:
        shutil.copyfileobj(old, new, 2**20)


class CopyingByRename(PathManager):
    """fairseq's file access, with copies that are whole at any time."""

    @staticmethod
    def copy(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        """Copies a file; on remote storage as fairseq does."""
        if not PathManager.supports_rename(dst_path):
            return PathManager.copy(src_path, dst_path, overwrite)
        copy(src_path, dst_path)
        return True


# --- starting -----------------------------------------------------------------------------------


def replace_damaged(last: Path) -> None:
    """Puts the newest intact checkpoint of the folder in the place of a damaged last one.

    Raises:
        DamagedCheckpoint: The last checkpoint is damaged and no other one is intact.
    """
    damage = find_damage(last)
    if not damage:
        return
    for update, path in _by_updates(last):
        if find_damage(path) is None:
            aside = last.with_name(f"{last.name}.damaged")
            os.replace(last, aside)
            copy(path, last)
            logger.warning(
                "%s is damaged, %s: it is kept as %s, and training goes on from the newest intact "
                "checkpoint, %s, at update %d",
                *(last, damage, aside.name, path.name, update),
            )
            return
    raise DamagedCheckpoint(
        f"{last} is damaged, {damage}, and no checkpoint beside it is intact; copy an intact one "
        f"into its place, or remove it to start anew"
    )


def _by_updates(last: Path) -> List[Any]:
    """(updates, path) of the other checkpoints that can be read, most updates first."""
    suffix = last.name.removeprefix("checkpoint_last")
    found = []
    for path in last.parent.glob(f"checkpoint*{suffix}"):
        with contextlib.suppress(Exception):  # what cannot be read is no candidate
            state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
            found.append((state["optimizer_history"][-1]["num_updates"], path))
    return sorted(((n, path) for n, path in found if path != last), reverse=True)


def _prepare(cfg: Any, trainer: Any) -> None:
    """Puts the folder in order, by the workers that save; the others wait."""
    if trainer.should_save_checkpoint_on_current_rank:
        last = Path(cfg.save_dir) / LAST.replace(".pt", f"{trainer.checkpoint_suffix}.pt")
        if not cfg.no_save and trainer.data_parallel_rank == 0:
            _take_folder(last.parent)
        for left in files.sweep(last.parent, "checkpoint*"):
            logger.info("removed %s, which a training that was killed did not finish", left)
        if cfg.restore_file == LAST and last.is_file():
            replace_damaged(last)
    wait_for_all(trainer)


def _take_folder(folder: Path) -> None:
    global _lock, failure
    leave_folder()
    _lock, failure = RunLock(folder), None
    _lock.take()


def leave_folder() -> None:
    """Lets another training have the folder."""
    if _lock is not None:
        _lock.leave()


def wait_for_all(trainer: Any) -> None:
    """Returns when every worker has come here."""
    if trainer.data_parallel_world_size > 1:
        arrived = torch.zeros(1, device=trainer.device)
        distributed_utils.all_reduce(arrived, group=trainer.data_parallel_process_group)


def _bear(trainer: Any, reason: str) -> None:
    """Goes on after a save that failed, unless the training shall end."""
    global failure
    failure = reason
    logger.disabled = False  # hydra's logging configuration disables loggers that exist
    said = f"{reason}; earlier checkpoints are as they were"
    if getattr(trainer.cfg.criterion, "kd_end_on_full_disk", False):
        logger.error(said)
        recording.end("failed", said)
        raise SystemExit(NOT_SAVED)
    logger.warning("%s, and training goes on", said)


# --- the hooks ----------------------------------------------------------------------------------


def install() -> None:
    """Replaces what fairseq saves, copies and loads checkpoints with; once."""
    if checkpoint_utils.PathManager is CopyingByRename:
        return
    save, save_all, load, read = (
        checkpoint_utils.torch_persistent_save,
        checkpoint_utils.save_checkpoint,
        checkpoint_utils.load_checkpoint,
        checkpoint_utils.load_checkpoint_to_cpu,
    )

    @functools.wraps(save)
    def save_by_rename(obj, filename, async_write=False):
        if async_write or not PathManager.supports_rename(filename):
            return save(obj, filename, async_write)
        with files.writing(filename, durable=True) as file:
            torch.save(obj, file)

    @functools.wraps(load)
    def load_intact(cfg, trainer, **passthrough):
        _prepare(cfg, trainer)
        return load(cfg, trainer, **passthrough)

    @functools.wraps(read)
    def read_checked(path, *args, **kwargs):
        if os.path.isfile(path):
            check(path)
        return read(path, *args, **kwargs)

    @functools.wraps(save_all)
    def save_if_possible(cfg, trainer, *args, **kwargs):
        global failure
        try:
            result = save_all(cfg, trainer, *args, **kwargs)
        except OSError as error:
            if error.errno not in FULL:
                raise
            _bear(trainer, str(error))
            return None
        failure = None
        return result

    atexit.register(leave_folder)
    checkpoint_utils.PathManager = CopyingByRename
    checkpoint_utils.save_checkpoint = save_if_possible
    checkpoint_utils.torch_persistent_save = save_by_rename
    checkpoint_utils.load_checkpoint = load_intact
    checkpoint_utils.load_checkpoint_to_cpu = read_checked
