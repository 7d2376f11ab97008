"""Holes: pages of zeros that take no space, found where content is read and left out where it is written.

A page is the unit in which file systems on Linux give space (`docs/storage.md`, "Holes").
"""

from __future__ import annotations

import errno
import os
from typing import Final

__all__ = ["PAGE", "Holes", "data_runs"]

#: Bytes in a page: the block of ext4, XFS and btrfs as they are made everywhere, and of tmpfs.
PAGE: Final = 4096
_ZEROS: Final = bytes(PAGE)


def data_runs(content: bytes) -> list[tuple[int, int]] | None:
    """The runs of pages in `content` that are not all zeros, as (first byte, byte after); None when that is all of it.

    The last page may be a part of one. Content without a page of zeros costs a look at the first byte of each page.
    """
    if not _has_hole(content):
        return None
    runs: list[tuple[int, int]] = []
    for start in range(0, len(content), PAGE):
        end = min(start + PAGE, len(content))
        if content[start:end] == _ZEROS[: end - start]:
            continue
        if runs and runs[-1][1] == start:
            runs[-1] = runs[-1][0], end
        else:
            runs.append((start, end))
    return runs


def _has_hole(content: bytes) -> bool:
    """Whether there is a whole page of zeros in `content`."""
    firsts = content[::PAGE]
    page = firsts.find(0)
    while page >= 0:
        if content.startswith(_ZEROS, page * PAGE):
            return True
        page = firsts.find(0, page + 1)
    return False


class Holes:
    """Where a file has none of its data, asked of its file system once for each hole; to be asked front to back.

    A file system that does not say (every file is one piece of data then) costs a call for each question.
    """

    __slots__ = ("_fd", "_from", "_to")

    def __init__(self, fd: int) -> None:
        """`fd` stays the caller's; its offset is moved, so reads must name theirs."""
        self._fd = fd
        self._from = self._to = 0

    def covers(self, start: int, end: int) -> bool:
        """Whether the bytes from `start` to `end` are all in one hole, and so zeros. Errors count as no."""
        if not self._from <= start < self._to:
            self._from = start
            try:
                self._to = os.lseek(self._fd, start, os.SEEK_DATA)
            except OSError as error:
                # ENXIO: nothing but a hole up to the end
                self._to = os.fstat(self._fd).st_size if error.errno == errno.ENXIO else start
        return end <= self._to
