"""One training per folder: a lock that tells whose it is, and that the system opens again.

The lock is the system's own, on a file beside the checkpoints that names host, process and start.
It ends with the process that holds it, however that ends, also across the nodes of a cluster whose
file system has locks. A file that is left is of a training that was killed, and is taken over.
"""

import contextlib
import json
import logging
import os
import socket
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Optional

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

NAME = "run.lock"


class FolderInUse(ValueError):
    """Another training saves into the folder."""


class RunLock:
    """The lock of a folder.

    Args:
        folder: The ``--save-dir``. It exists.
    """

    def __init__(self, folder: Path):
        self.path = Path(folder) / NAME
        self._file: Optional[IO[str]] = None

    def take(self) -> None:
        """Takes the lock until `leave`, or until the process ends.

        Raises:
            FolderInUse: Another process holds it.
        """
        if self._file is not None or fcntl is None:
            return
        while True:
            file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115 - open is what holds it
            if not self._hold(file):
                file.close()
                return
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self.path)):
                    break
            file.close()  # its holder removed it meanwhile
        self._sign(file)
        self._file = file

    def _hold(self, file: IO[str]) -> bool:
        """Whether the lock is held now; a file system without locks is a warning."""
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise FolderInUse(
                f"{self.path.parent} belongs to the training of {_owner(file)}, which is still "
                f"going on; give another --save-dir, or end that one"
            ) from None
        except OSError as error:
            logger.warning("%s cannot be locked: %s", self.path, error)
            return False
        return True

    def _sign(self, file: IO[str]) -> None:
        file.seek(0)
        if file.read(1):
            logger.warning(
                "the training of %s ended without a word; this one goes on", _owner(file)
            )
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "start": started}))
        file.flush()

    def leave(self) -> None:
        """Gives the lock back."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def _owner(file: IO[str]) -> str:
    """Who signed a lock, in words."""
    file.seek(0)
    try:
        found = json.loads(file.read())
        return f"process {found['pid']} on {found['host']} since {found['start']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
