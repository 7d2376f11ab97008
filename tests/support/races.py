"""A hostile process that exchanges two names as fast as it can, and the look at what must never change.

Run as a program: `races.py MODE ONE OTHER COUNTER`. `exchange` swaps the two names (there is always something at each),
`come-and-go` renames one to the other and back (now there is something, now there is nothing), `plant` makes ONE a link
to OTHER and removes it again. COUNTER is a file of 16 bytes: the first eight count the changes, and the process ends
when the last one is not zero any more.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Flips", "flipping", "state_of"]

_AT_FDCWD = -100
_EXCHANGE = 2
#: Changes between two looks whether it is over.
_SLICE = 64


def flip(mode: str, one: bytes, other: bytes, counter: str) -> None:
    """Change until told to end. A change that fails (something is just in the way) is tried again."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(counter, "r+b") as file, mmap.mmap(file.fileno(), 16) as shared:
        count = 0
        while not shared[15]:
            for _ in range(_SLICE):
                if mode == "exchange":
                    count += libc.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _EXCHANGE) == 0
                elif mode == "plant":
                    count += libc.symlink(other, one) == 0
                    count += libc.unlink(one) == 0
                else:
                    count += libc.rename(one, other) == 0
                    count += libc.rename(other, one) == 0
            shared[:8] = count.to_bytes(8, "little")


class Flips:
    """The changes so far."""

    def __init__(self, shared: mmap.mmap) -> None:
        self._shared = shared

    @property
    def count(self) -> int:
        """How many."""
        return int.from_bytes(self._shared[:8], "little")


@contextmanager
def flipping(mode: str, one: Path, other: Path, counter: Path) -> Iterator[Flips]:
    """A process changes the names inside the block, from before its first statement on; COUNTER is made."""
    counter.write_bytes(bytes(16))
    with counter.open("r+b") as file, mmap.mmap(file.fileno(), 16) as shared:
        command = [sys.executable, "-S", "-E", __file__, mode, one, other, counter]
        process = subprocess.Popen(command)
        try:
            flips = Flips(shared)
            pause = threading.Event()
            while not flips.count and process.poll() is None:
                pause.wait(0.001)
            yield flips
        finally:
            shared[15] = 1
            process.wait(20)
    if process.returncode != 0:
        raise AssertionError("the hostile process failed")


def state_of(folder: Path, ctime: bool = True) -> dict[str, tuple[int, ...]]:
    """All that a write, a change of rights or times, or a link would change of `folder` and what is in it.

    Without `ctime` what a rename of a hard link changes is left out.
    """
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = os.lstat(path)
        found[str(path)] = (
            status.st_ino,
            status.st_mode,
            status.st_nlink,
            status.st_uid,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns if ctime else 0,
        )
    return found


if __name__ == "__main__":
    flip(sys.argv[1], os.fsencode(sys.argv[2]), os.fsencode(sys.argv[3]), sys.argv[4])
