"""One failing system call: the N-th of its kind answers with an error, everything else works.

The functions of `os`, and those of the C library that `ftx.disk.linux` calls, are what fails: below that there is only
the kernel. The call is not carried out, except for close(2), which lets go of the descriptor whatever it says.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable
from typing import Any

import pytest

from ftx.disk import linux

__all__ = ["KINDS", "Fault"]

#: What can fail: functions of `os` by their name, the others by a name of ours.
_OS = ("pwritev", "fsync", "fdatasync", "link", "mkdir", "utime", "fchmod", "ftruncate", "close")
_OPENED = {"tmpfile": os.O_TMPFILE & ~os.O_DIRECTORY, "create": os.O_CREAT, "folder": os.O_DIRECTORY}
_LIBC = {"linkat": "_linkat", "renameat2": "_renameat2", "syncfs": "_syncfs", "fallocate": "_fallocate"}
KINDS = (*_OS, "tmpfile", "create", *_LIBC)
_SYNCS = ("fsync", "fdatasync")


class Fault:
    """The `nth` call of `kind` fails with the errno `number`, inside the block. `nth` 0 only counts."""

    def __init__(self, kind: str, nth: int, number: int) -> None:
        self._kind = kind
        self._nth = nth
        self._number = number
        #: Calls of that kind so far.
        self.calls = 0
        #: Inodes of files and folders whose sync has failed, and of those that were synced again after that.
        self.failed: set[int] = set()
        self.retried: set[int] = set()
        self._patch = pytest.MonkeyPatch()

    @property
    def hit(self) -> bool:
        """Whether it has come to that call."""
        return 0 < self._nth <= self.calls

    def _strikes(self, fd: int | None = None) -> bool:
        self.calls += 1
        if self.calls != self._nth:
            return False
        if fd is not None and not self._own_folder(fd):
            self.failed.add(os.fstat(fd).st_ino)
        return True

    def _own_folder(self, fd: int) -> bool:
        """Whether `fd` is a folder of ftx's own: every name in those is new when its folder is synced for it."""
        return stat.S_ISDIR(os.fstat(fd).st_mode) and "/.ftx" in os.readlink(f"/proc/self/fd/{fd}")

    def __enter__(self) -> Fault:
        for name in _OS:
            if name == self._kind or name in _SYNCS:
                self._patch.setattr(os, name, self._of_os(name, getattr(os, name)))
        if self._kind in _OPENED:
            self._patch.setattr(os, "open", self._of_open(_OPENED[self._kind], os.open))
        if self._kind in _LIBC:
            self._patch.setattr(linux, _LIBC[self._kind], self._of_libc(getattr(linux, _LIBC[self._kind])))
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def _error(self) -> OSError:
        return OSError(self._number, os.strerror(self._number))

    def _of_os(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            if name in _SYNCS and os.fstat(args[0]).st_ino in self.failed:
                self.retried.add(os.fstat(args[0]).st_ino)
            if name == self._kind and self._strikes(args[0] if name in _SYNCS else None):
                if name == "close":
                    real(*args)
                raise self._error()
            return real(*args, **named)

        call.__name__ = name
        return call

    def _of_open(self, flag: int, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *args: Any, **named: Any) -> int:
            if flags & flag and self._strikes():
                raise self._error()
            return real(path, flags, *args, **named)

        return call

    def _of_libc(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(*args: Any) -> int:
            if self._strikes():
                ctypes.set_errno(self._number)
                return -1
            return real(*args)

        return call
