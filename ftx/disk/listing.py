"""The names in a folder, in the order of their bytes, in bounded memory whatever the folder's size.

Up to `limits.WALK_NAMES` names are sorted in memory, which is nearly every folder there is. Beyond that, sorted
runs of that many go to an unnamed temporary file and are merged from there: a million names cost some tens of MiB
of temporary disk instead of 100 MiB of memory.
"""

from __future__ import annotations

import heapq
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Final

from ftx import limits

__all__ = ["sorted_names"]

#: As os.fsencode() has it; what scandir(3) of a descriptor gives is text.
_CODING: Final = (sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
#: Bytes of a run that are read ahead while merging.
_AHEAD: Final = 4096


def sorted_names(folder: int, in_memory: int = limits.WALK_NAMES) -> Iterator[bytes]:
    """The names in the folder that is open as `folder`, byte-sorted, without `.` and `..`.

    All names are read before this returns, so a folder that changes meanwhile changes nothing here; at most
    `in_memory` of them are held at a time. OSError when it cannot be read, or when there is no room for the
    temporary file.
    """
    names: list[bytes] = []
    spill: IO[bytes] | None = None
    runs: list[tuple[int, int]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                names.append(entry.name.encode(*_CODING))
                if len(names) >= in_memory:
                    if spill is None:
                        spill = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed by the iterator)
                    runs.append(_write_run(spill, names))
                    names.clear()
        names.sort()
    except BaseException:
        if spill is not None:
            spill.close()
        raise
    return iter(names) if spill is None else _merge(spill, runs, names)


def _write_run(spill: IO[bytes], names: list[bytes]) -> tuple[int, int]:
    """Append the sorted `names`, each ended by a NUL (which no name contains); where the run begins and ends."""
    start = spill.tell()
    content = memoryview(b"\0".join(sorted(names)) + b"\0")
    end = start + len(content)
    while content:
        content = content[os.write(spill.fileno(), content) :]
    return start, end


def _read_run(spill: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    """The names of the run, a few at a time."""
    rest = b""
    while start < end:
        piece = os.pread(spill.fileno(), min(_AHEAD, end - start), start)
        if not piece:
            raise OSError("the temporary file was cut")
        start += len(piece)
        *whole, rest = (rest + piece).split(b"\0")
        yield from whole


def _merge(spill: IO[bytes], runs: list[tuple[int, int]], last: list[bytes]) -> Iterator[bytes]:
    """All names in order; the temporary file ends with the iterator."""
    with spill:
        yield from heapq.merge(*(_read_run(spill, start, end) for start, end in runs), last)
