"""Which network of which checkpoint is meant: ``PATH[:BRANCH][:PATH[:BRANCH]...]``.

One notation for every flag that takes checkpoints to learn or to translate from. A branch is a
leaf's number, -1 for the ensemble of all leaves, or ``averaged`` (-2) for the leader of the moving
average that some methods keep.
"""

import os
import re
from typing import List, NamedTuple, Union

AVERAGED = -2
WORD = "averaged"
BRANCH = re.compile(rf"-?\d+|{WORD}")


def branch_number(text: Union[str, int]) -> int:
    """The number of a branch that may be given by its name.

    Raises:
        ValueError: It is neither a number nor a name.
    """
    if not BRANCH.fullmatch(str(text)):
        raise ValueError(
            f"{text!r} is not a branch; give a leaf's number (0 is the leader), -1 for all leaves "
            f"together, or '{WORD}'"
        )
    return AVERAGED if text == WORD else int(text)


class Source(NamedTuple):
    """A checkpoint and the branch of it that is meant.

    Attributes:
        path: The file.
        branch: A leaf's number (0 is the leader), -1 for all leaves together, -2 for the averaged
            leader.
    """

    path: str
    branch: int = 0

    def __str__(self) -> str:
        """As it is written on the command line."""
        if not self.branch:
            return self.path
        return f"{self.path}:{WORD if self.branch == AVERAGED else self.branch}"


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
            found[-1] = Source(found[-1].path, branch_number(part))
        else:
            raise ValueError(
                f"{text!r} has the branch {part} behind no checkpoint; write PATH:BRANCH, several "
                f"separated by '{os.pathsep}', for instance a.pt:-1{os.pathsep}b.pt"
            )
    return found
