"""Memory that was freed stays with the process, where the C library is glibc.

glibc hands large freed blocks back to the system, which has to clear every page that it gives out
again. A training frees and takes the same blocks all the time: in the head of four leaves that took
0.4 of 1.1 seconds an update (benchmarks/training_step.md).
"""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Numbers of ``mallopt``'s parameters, from glibc's malloc.h."""
LARGEST = 32 * 2**20
"""Largest block, in bytes, that glibc can be told to take from the memory it keeps."""


def keep_freed_memory() -> bool:
    """Lets glibc keep what is freed; larger blocks than `LARGEST` still go back.

    Returns:
        Whether it was told so; another C library, or none that answers, is left alone.
    """
    if sys.platform != "linux":
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    told = (
        set_option(MMAP_THRESHOLD, LARGEST),
        set_option(TRIM_THRESHOLD, 2**31 - 1),
        set_option(TOP_PAD, LARGEST),
    )
    return all(told)
