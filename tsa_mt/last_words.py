"""How fairseq's commands end when something goes wrong: with one sentence, not with a stack trace.

The hook prints what a person can do about an error as the last line. The stack trace goes into
``--log-file`` where there is one. Errors that nobody has foreseen keep their trace on the screen,
with the sentence behind it.
"""

import functools
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

PACKAGE = Path(__file__).resolve().parent
COMMANDS = ("train.py", "generate.py", "validate.py", "interactive.py")
USER_ERRORS = (ValueError, OSError)
"""What we raise for something that a user can mend."""

_SIZES = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch.Size\((.+?)\) from checkpoint, "
    r"the shape in current model is torch.Size\((.+?)\)"
)


def install() -> None:
    """Let uncaught errors of this process end in a sentence. A second call changes nothing."""
    if getattr(sys.excepthook, "ends_in_a_sentence", False):
        return
    original = sys.excepthook

    @functools.wraps(original)
    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sentence = explain(error)
        if sentence is None:
            original(kind, error, trace)
            return
        text = "".join(traceback.format_exception(error))
        if not _into_log_files(text) and not _is_ours(error):
            print(text, file=sys.stderr)
        print(f"{Path(sys.argv[0]).name}: error: {sentence}", file=sys.stderr)

    hook.ends_in_a_sentence = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def explain(error: BaseException) -> str | None:
    """Say in one sentence what went wrong and what to do.

    Returns:
        ``None`` for an interrupt, and for an error that does not come out of a command of fairseq
        or out of this package.
    """
    if not isinstance(error, Exception) or not any(_belongs(frame) for frame in _frames(error)):
        return None
    for known in (_of_a_worker, _of_another_size, _of_another_scheduler, _beyond_the_dictionary):
        sentence = known(error)
        if sentence:
            return sentence
    message = " ".join(str(error).split())
    return message if _is_ours(error) else f"{type(error).__name__}: {message}"


# --- errors that are known ----------------------------------------------------------------------


def _of_a_worker(error: Exception) -> str | None:
    """What another process died of, which hands its whole stack trace over: the last line."""
    message = str(error).strip()
    spawned = type(error).__name__ == "ProcessRaisedException"
    if not spawned and not re.match(r"Caught \S+ in DataLoader worker process", message):
        return None
    return re.sub(r"^[\w.]*(Value|OS|Image|File|NotFound)Error: ", "", message.splitlines()[-1])


def _of_another_size(error: Exception) -> str | None:
    """fairseq says that architectures must match, and keeps to itself where they do not."""
    found = re.match("Cannot load model parameters from checkpoint (.+); please ensure", str(error))
    if not found:
        return None
    sizes = _SIZES.search(str(error.__context__))
    lines = str(error.__context__).splitlines()
    how = f"{sizes[1]} is {sizes[2]} there and {sizes[3]} here" if sizes else " ".join(lines[1:2])
    return (
        f"checkpoint {found[1]} is of another model ({how.strip() or lines[0]}); give the --arch "
        f"and sizes that it was trained with, or another --save-dir to begin anew"
    )


def _of_another_scheduler(error: Exception) -> str | None:
    deepest = _frames(error)[-1].f_code.co_filename
    if not isinstance(error, KeyError) or "lr_scheduler" not in deepest:
        return None
    return (
        "the checkpoint was written under another --lr-scheduler; go on with that one, or add "
        "--reset-lr-scheduler"
    )


def _beyond_the_dictionary(error: Exception) -> str | None:
    """Names the sentences that hold a piece for which the embedding has no row."""
    frames = _frames(error)
    if not isinstance(error, IndexError) or frames[-1].f_code.co_name != "embedding":
        return None
    rows = len(frames[-1].f_locals["weight"])
    sample: Any = next((f.f_locals["sample"] for f in frames if "sample" in f.f_locals), None)
    if not isinstance(sample, dict) or "net_input" not in sample:
        return None
    wrong = {
        f"sentence {number} ({side})"
        for side, tokens in sample["net_input"].items()
        if getattr(tokens, "dim", lambda: 0)() == 2
        for number, largest in zip(sample["id"].tolist(), tokens.amax(1).tolist())
        if largest >= rows
    }
    return (
        f"{', '.join(sorted(wrong)[:3])} of the data holds a piece that is not in the dictionary "
        f"of {rows:,} entries; binarise the data again with the dictionaries beside it"
    )


# --- where an error comes from ------------------------------------------------------------------


def _frames(error: BaseException) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _belongs(frame: FrameType) -> bool:
    path = Path(frame.f_code.co_filename)
    return PACKAGE in path.parents or path.parent.name == "fairseq_cli" and path.name in COMMANDS


def _is_ours(error: BaseException) -> bool:
    """Whether this package has raised it about something that a user can mend."""
    frames = _frames(error)
    deepest = Path(frames[-1].f_code.co_filename) if frames else Path()
    return isinstance(error, USER_ERRORS) and PACKAGE in deepest.parents


def _log_files() -> Iterator[logging.FileHandler]:
    for name in ("", "fairseq_cli.train"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.FileHandler) and handler.baseFilename != os.devnull:
                yield handler


def _into_log_files(text: str) -> bool:
    """Adds a stack trace to the files of ``--log-file``; whether there was one."""
    handlers = list(_log_files())
    for handler in handlers:
        record = logging.LogRecord("tsa_mt", logging.ERROR, "", 0, text, None, None)
        handler.handle(record)
    return bool(handlers)
