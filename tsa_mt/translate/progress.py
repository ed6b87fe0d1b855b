"""How far a long translation is, on standard error."""

import os
import sys
import time
from typing import BinaryIO, Optional

REDRAW = 0.5
REPEAT = 30.0
"""Seconds between two reports: on a terminal, where one replaces the other, and in a log."""


class Progress:
    """Reports how many lines are done, how fast, and which share of a file that is.

    Args:
        quiet: Whether to report nothing. Warnings are always spoken.
        stream: The input; if it is a file, its size tells the share.
    """

    def __init__(self, quiet: bool, stream: BinaryIO):
        self.quiet, self.stream = quiet, stream
        self.terminal = sys.stderr.isatty()
        self.started = self.reported = time.monotonic()
        self.size = _size(stream)
        self.lines = 0
        self.drawn = 0

    def finish_lines(self, lines: int) -> None:
        """Counts lines that are written."""
        self.lines += lines

    def tick(self, lines: int = 0) -> None:
        """Reports, if it is time to.

        Args:
            lines: Lines that are translated beside those that are written.
        """
        now = time.monotonic()
        if self.quiet or now - self.reported < (REDRAW if self.terminal else REPEAT):
            return
        self.reported = now
        text = f"{self._count(self.lines + lines)}{self._share()}"
        if not self.terminal:
            return self.say(text)
        print(f"\r{text:{self.drawn}}", end="", file=sys.stderr, flush=True)
        self.drawn = len(text)

    def say(self, text: str) -> None:
        """Writes a line of its own."""
        self.clear()
        print(f"tsa-mt translate: {text}", file=sys.stderr, flush=True)

    def summary(self) -> None:
        """Says how many lines were translated, and how fast."""
        self.clear()
        if not self.quiet:
            self.say(self._count(self.lines))

    def clear(self) -> None:
        """Removes the report from a terminal's line."""
        if self.drawn:
            print("\r" + " " * self.drawn + "\r", end="", file=sys.stderr, flush=True)
            self.drawn = 0

    def _count(self, lines: int) -> str:
        seconds = max(time.monotonic() - self.started, 1e-9)
        return f"{lines:,} lines in {seconds:.1f} s, {lines / seconds:.1f} a second"

    def _share(self) -> str:
        if not self.size:
            return ""
        return f", {min(1.0, self.stream.tell() / self.size):.0%} of the input read"


def _size(stream: BinaryIO) -> Optional[int]:
    """Bytes of a regular file, ``None`` for what has no size, such as a pipe."""
    try:
        if not stream.seekable():
            return None
        return os.fstat(stream.fileno()).st_size
    except (OSError, ValueError):
        return None
