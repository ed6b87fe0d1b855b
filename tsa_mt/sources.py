"""Which network of which checkpoint is meant: ``PATH[:BRANCH][:PATH[:BRANCH]...]``.

One notation for every flag that takes checkpoints to learn or to translate from. A branch is a
leaf's number, or -1 for the ensemble of all leaves.
"""

import os
import re
from typing import List, NamedTuple

BRANCH = re.compile(r"-?\d+")


class Source(NamedTuple):
    """A checkpoint and the branch of it that is meant.

    Attributes:
        path: The file.
        branch: A leaf's number (0 is the leader), or -1 for all leaves together.
    """

    path: str
    branch: int = 0

    def __str__(self) -> str:
        """As it is written on the command line."""
        return f"{self.path}:{self.branch}" if self.branch else self.path


def parse_sources(text: str) -> List[Source]:
    """The checkpoints that a flag names.

    Args:
        text: Paths separated by ``:``, each with or without a branch behind it.

    Raises:
        ValueError: A branch follows no path.
    """
    found: List[Source] = []
    for part in (text or "").split(os.pathsep):
        if not part:
            continue
        if not BRANCH.fullmatch(part):
            found.append(Source(part))
        elif found and not found[-1].branch:
            found[-1] = Source(found[-1].path, int(part))
        else:
            raise ValueError(
                f"{text!r} has the branch {part} behind no checkpoint; write PATH:BRANCH, several "
                f"separated by '{os.pathsep}', for instance a.pt:-1{os.pathsep}b.pt"
            )
    return found
