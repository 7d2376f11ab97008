"""The page that a hurt process shares with whoever watches it: which call is to fail, how, and what was called.

`shim.c` has the other half of this layout. A page is a file, so that a process that was forked elsewhere can map it.
"""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import attrs

__all__ = ["CALLS", "CHANGES", "Call", "Fault", "Page"]

#: What the shim counts, in the order of its enumeration. `create` is an open that may make a file.
CALLS = (
    *("create", "open", "write", "pwrite", "ftruncate", "fallocate", "copy", "fsync", "fdatasync", "syncfs"),
    *("link", "rename", "mkdir", "unlink", "utimens", "chmod", "symlink", "close", "read", "pread"),
    *("send", "recv", "flock"),
)
_BIT = {name: 1 << number for number, name in enumerate(CALLS)}
#: Calls that change something: a disk, or what the other side knows.
CHANGES = frozenset(CALLS) - {"open", "close", "read", "pread", "recv", "flock"}

_MODES = ("off", "count", "kill", "tear", "error", "errors", "short", "stop")
_ENTRIES, _PATH, _PREFIX = 8192, 120, 256


class _Entry(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_uint32), ("bytes", ctypes.c_int32), ("path", ctypes.c_char * _PATH)]


class _Layout(ctypes.Structure):
    _fields_ = [
        ("mode", ctypes.c_uint32),
        ("nth", ctypes.c_uint32),
        ("kinds", ctypes.c_uint32),
        ("number", ctypes.c_int32),
        ("calls", ctypes.c_uint32),
        ("struck", ctypes.c_uint32),
        ("prefix_length", ctypes.c_uint32),
        ("later", ctypes.c_int32),
        ("pid", ctypes.c_int32),
        ("unused", ctypes.c_uint32),
        ("prefix", ctypes.c_char * _PREFIX),
        ("trace", _Entry * _ENTRIES),
    ]


@attrs.frozen
class Fault:
    """What is to happen at the `nth` call (from 1) of one of the kinds in `calls`; see `_MODES`.

    `kill` after it, `tear`: kill in the middle of it; `error` instead of it, `errors`: of it and all that follow;
    `short`: half of it is done; `stop` (SIGSTOP) after it; `count`: nothing.
    """

    mode: str
    nth: int = 0
    calls: frozenset[str] = CHANGES
    number: int = 0


@attrs.frozen
class Call:
    """A call that was counted: its kind, and the file by its path below the folder that is watched."""

    kind: str
    path: str

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"


class Page:
    """A page in the file `path`, which is made; calls count that concern something below the folder `prefix`."""

    def __init__(self, path: Path, prefix: Path) -> None:
        self.path = path
        with path.open("w+b") as file:
            file.truncate(ctypes.sizeof(_Layout))
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(_Layout))
        self._layout = _Layout.from_buffer(self._map)
        self._layout.prefix = bytes(prefix)
        self._layout.prefix_length = len(bytes(prefix))

    def arm(self, fault: Fault) -> None:
        """From now on calls are counted, anew, and the fault happens."""
        layout = self._layout
        layout.mode = _MODES.index("off")
        layout.calls = layout.struck = 0
        layout.nth, layout.number = fault.nth, fault.number
        layout.kinds = sum(_BIT[name] for name in fault.calls)
        layout.mode = _MODES.index(fault.mode)

    def later(self, seconds: int) -> None:
        """Its clock is ahead by so much from now on."""
        self._layout.later = seconds

    def disarm(self) -> None:
        """From now on everything works."""
        self._layout.mode = _MODES.index("off")

    @property
    def calls(self) -> int:
        """How many calls counted since `arm()`."""
        return int(self._layout.calls)

    @property
    def nth(self) -> int:
        """The call that is meant."""
        return int(self._layout.nth)

    @property
    def struck(self) -> int:
        """How often the fault has happened since `arm()`."""
        return int(self._layout.struck)

    @property
    def pid(self) -> int:
        """The process that was struck last."""
        return int(self._layout.pid)

    def trace(self) -> list[Call]:
        """The calls that counted, in order; the first 8,192 of them."""
        found = self._layout.trace[: min(self.calls, _ENTRIES)]
        return [Call(CALLS[entry.kind], entry.path.decode("utf-8", "replace").lstrip("/")) for entry in found]

    def close(self) -> None:
        """Unmap it and remove the file."""
        del self._layout
        self._map.close()
        self.path.unlink()
