"""How many system calls a process makes, counted by the kernel's own means (`strace -c`), and calls of functions."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from support.lab import until

__all__ = ["calls", "counted", "named_calls", "python_calls", "tracing"]


def calls(summary: Path) -> Counter[str]:
    """The calls by name, from what `strace -c` has written."""
    found: Counter[str] = Counter()
    for line in summary.read_text("ascii", "replace").splitlines():
        words = line.split()
        # "% time, seconds, usecs/call, calls, errors if there were any, syscall"
        if len(words) in (5, 6) and words[3].isdigit() and words[-1] != "total":
            found[words[-1]] = int(words[3])
    return found


def tracing(summary: Path) -> list[str]:
    """What to put before a command for its calls, and those of all its threads, to be counted in `summary`."""
    return ["strace", "-f", "-c", "-qq", "-o", str(summary)]


@contextlib.contextmanager
def counted(pid: int, summary: Path) -> Iterator[Counter[str]]:
    """Count the calls of a running process while the block runs; what is given is filled when it has ended."""
    found: Counter[str] = Counter()
    tracer = subprocess.Popen([*tracing(summary), "-p", str(pid)], stderr=subprocess.DEVNULL)
    try:
        status = Path(f"/proc/{pid}/status")
        until(lambda: f"TracerPid:\t{tracer.pid}\n" in status.read_text("ascii", "replace"), "the process is traced")
        yield found
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(20)
    found.update(calls(summary))


def python_calls(function: Callable[[], object]) -> int:
    """How many functions, of Python and of C, are called while `function` runs, in this thread."""
    return named_calls(function).total()


def named_calls(function: Callable[[], object]) -> Counter[str]:
    """The same, by the names of the functions."""
    found: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            found[frame.f_code.co_name] += 1
        elif event == "c_call":
            found[getattr(argument, "__name__", "")] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return found
