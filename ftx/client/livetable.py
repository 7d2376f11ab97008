"""Lines on a terminal that are drawn again in place when they change."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Sequence
from typing import TextIO

import attrs

__all__ = ["LiveLines"]

#: Lines of the terminal left free, for the prompt and what is said besides.
_FREE = 2


@attrs.define(eq=False)
class LiveLines:
    """What is on the screen now; a terminal that goes away ends the drawing and nothing else."""

    _stream: TextIO
    #: How many lines were drawn, and are drawn over next time.
    _drawn: int = attrs.field(default=0, init=False)

    def draw(self, lines: Sequence[str]) -> None:
        """Show `lines`, which are clean, in place of those before: cut to the width and the height there is."""
        columns, rows = shutil.get_terminal_size()
        most = max(1, rows - _FREE)
        shown = list(lines) if len(lines) <= most else [*lines[: most - 1], f"and {len(lines) - most + 1} more"]
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        self._write(up + "".join(f"{_cut(line, columns)}\x1b[K\n" for line in shown) + "\x1b[J")
        self._drawn = len(shown)

    def clear(self) -> None:
        """Take them off the screen."""
        if self._drawn:
            self._write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._drawn = 0


def _cut(line: str, columns: int) -> str:
    """As much of `line` as fits, an ellipsis in the last column where something is left out."""
    width = 0
    for at, char in enumerate(line):
        width += 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if width > columns - 1 and at < len(line) - 1:
            return line[:at] + "…"
    return line
