"""Memory that stays: while this runs, what is free is in pieces too small to be given back to a host.

A virtual machine may tell its host which memory is free (the balloon's free page reporting: blocks of 2 MiB on x86),
and the host takes it. To get it again can cost more than all else in a run, and falls on whoever happens to be next.
So there `python -m benchmarks.memory BYTES` takes memory once, lets go of all but a page in each MiB, says so by a
line, and holds those pages until its standard input ends. That is a 256th of it; nothing of the machine's configuration
is touched.
"""

from __future__ import annotations

import contextlib
import mmap
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.corpus import SPARE, available
from benchmarks.processes import end, start

__all__ = ["kept"]

#: Bytes that are taken at once, bytes of which one page is held, and bytes beyond which no run goes.
_STEP = 64 << 20
_CRUMB = 1 << 20
_MOST = 24 << 30


def _reported() -> bool:
    """Whether this machine tells a host which memory is free (Virtual I/O Device, 5.5.3: feature bit 5)."""
    devices = Path("/sys/bus/virtio/drivers/virtio_balloon").glob("virtio*/features")
    return any(one.read_text()[5:6] == "1" for one in devices)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Meanwhile memory that is freed stays with this machine; where that cannot be done, it is left undone."""
    if not _reported():
        yield
        return
    command = [sys.executable, "-m", "benchmarks.memory", str(_MOST)]
    holder = start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        if not holder.stdout.readline():
            print("free memory cannot be kept: figures of large files may be worse for all", file=sys.stderr)
        yield
    finally:
        end(holder, 0)


def _take(most: int) -> list[mmap.mmap]:
    """Take so much memory, but leave `SPARE`, and let go of it but for crumbs."""
    filling = bytes(_STEP)
    taken: list[mmap.mmap] = []
    while available() > SPARE + _STEP and (1 + len(taken)) * _STEP <= most:
        piece = mmap.mmap(-1, _STEP, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        piece.madvise(mmap.MADV_NOHUGEPAGE)
        piece.write(filling)
        taken.append(piece)
    for piece in taken:
        for start_at in range(0, _STEP, _CRUMB):
            piece.madvise(mmap.MADV_DONTNEED, start_at + mmap.PAGESIZE, _CRUMB - mmap.PAGESIZE)
    return taken


def main() -> None:
    """Hold on until the standard input ends. The one argument is how many bytes to take."""
    # if memory runs short it shall be this program that has to go (proc_pid_oom_score_adj(5))
    Path("/proc/self/oom_score_adj").write_text("1000")
    held = _take(int(sys.argv[1]))
    print(f"{len(held) * _STEP} bytes are in crumbs", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
