"""Killing a process just after its N-th change of the disk, without tracing it.

A profile function sees every C function of the interpreter return; the N-th return of one that changed the disk is
answered with SIGKILL. The child is a fork, so a point costs milliseconds.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["changes_the_disk", "killed_after"]

#: Functions of `os` that change the disk, and those of SQLite's connection.
_CALLS = frozenset(
    {
        "chmod",
        "execute",
        "executemany",
        "executescript",
        "fchmod",
        "fdatasync",
        "flock",
        "fsync",
        "ftruncate",
        "link",
        "mkdir",
        "open",
        "pwrite",
        "pwritev",
        "unlink",
        "utime",
    }
)
#: The calls of `ftx.disk.linux`, which the interpreter does not see as C functions.
_OWN = frozenset({"link_open", "rename_noreplace", "syncfs", "reserve", "punch_hole"})


def changes_the_disk(frame: FrameType, event: str, argument: Any) -> bool:
    """Whether what a profile function is told is the end of a call that changed the disk."""
    if event == "c_return":
        return getattr(argument, "__name__", "") in _CALLS
    return event == "return" and frame.f_code.co_name in _OWN


def killed_after(count: int, action: Callable[[], object]) -> bool:
    """Run `action` in a forked child that is killed after its `count`-th change; False when it ended before that.

    AssertionError with the child's traceback when it raised.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child starts no thread and takes no old lock
        child = os.fork()
    if child == 0:
        left = count

        def profile(frame: FrameType, event: str, argument: Any) -> None:
            nonlocal left
            if changes_the_disk(frame, event, argument):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            os.close(reading)
            sys.setprofile(profile)
            action()
            sys.setprofile(None)
            code = 0
        except BaseException:
            sys.setprofile(None)
            os.write(writing, traceback.format_exc().encode("utf-8", "backslashreplace")[:60000])
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode("utf-8")
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise AssertionError(f"in the child, before point {count}:\n{said}")
    return code != 0
