"""Landlock: giving up, for good, what of the file system this process will not need (landlock(7)).

A ruleset says what may be done below which folders; everything else is refused with EACCES from then on, to this thread
and to all that it starts. Descriptors that are open stay usable. What the kernel knows is asked (its ABI), and rights
that it does not know are not spoken of.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from ftx.disk import fds
from ftx.disk.linux import call, no_new_privileges

__all__ = ["EXECUTE", "READ", "TIDY", "WRITE", "Rule", "abi", "restrict"]

#: Numbers of the system calls: the same on every architecture.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1

# -- rights (linux/landlock.h), and the ABI that brought each
_FS_EXECUTE: Final = 1 << 0
_FS_WRITE_FILE: Final = 1 << 1
_FS_READ_FILE: Final = 1 << 2
_FS_READ_DIR: Final = 1 << 3
_FS_REMOVE_DIR: Final = 1 << 4
_FS_REMOVE_FILE: Final = 1 << 5
_FS_MAKE_CHAR: Final = 1 << 6
_FS_MAKE_DIR: Final = 1 << 7
_FS_MAKE_REG: Final = 1 << 8
_FS_MAKE_SOCK: Final = 1 << 9
_FS_MAKE_FIFO: Final = 1 << 10
_FS_MAKE_BLOCK: Final = 1 << 11
_FS_MAKE_SYM: Final = 1 << 12
_FS_REFER: Final = 1 << 13
_FS_TRUNCATE: Final = 1 << 14
_FS_IOCTL_DEV: Final = 1 << 15
_KNOWN: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_OF_FILES: Final = _FS_EXECUTE | _FS_WRITE_FILE | _FS_READ_FILE | _FS_TRUNCATE | _FS_IOCTL_DEV
_SCOPE_ABSTRACT: Final = 1 << 0
_SCOPE_SIGNAL: Final = 1 << 1
#: The first ABI with scopes.
_SCOPES: Final = 6
#: What is wrong with us when a path cannot be opened, and not with the path.
_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

READ: Final = _FS_READ_FILE | _FS_READ_DIR
EXECUTE: Final = READ | _FS_EXECUTE
#: To remove names, and to make sockets: what is left to do in a folder of sockets.
TIDY: Final = READ | _FS_REMOVE_FILE | _FS_MAKE_SOCK
#: Everything but devices and programs.
WRITE: Final = (
    TIDY
    | _FS_WRITE_FILE
    | _FS_REMOVE_DIR
    | _FS_MAKE_DIR
    | _FS_MAKE_REG
    | _FS_MAKE_FIFO
    | _FS_MAKE_SYM
    | _FS_REFER
    | _FS_TRUNCATE
)


class _Ruleset(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


@attrs.frozen
class Rule:
    """What may be done with the file at `path`, or with everything in and below the folder there."""

    path: str
    rights: int


def abi() -> int:
    """The version of Landlock that the kernel has, 1 or more; OSError where it has none or does not let us.

    `ENOSYS` without it (or in a sandbox that says so), `EOPNOTSUPP` where it was switched off at boot, `EPERM` in some
    sandboxes.
    """
    return call(_CREATE_RULESET, None, 0, _VERSION)


def restrict(
    rules: Iterable[Rule], *, abstract_sockets: bool, unusable: Callable[[Rule, OSError], object] = lambda *_: None
) -> int:
    """Allow what `rules` say and nothing else, from now on; returns the ABI that this is by.

    For the calling thread and those that it starts. A path of a rule that does not exist is left out; so is one that
    cannot be looked at, and `unusable` hears of that. Programs cannot gain rights any more (PR_SET_NO_NEW_PRIVS). With
    ABI 6, processes outside get no signals from here, and `abstract_sockets` that they made cannot be connected to
    unless that is True.

    OSError is the kernel's refusal, not that of a path: then nothing is restricted, but that programs may be unable to
    gain rights already.
    """
    version = abi()
    handled = max(mask for least, mask in _KNOWN.items() if least <= version)
    scoped = 0 if version < _SCOPES else _SCOPE_SIGNAL | (0 if abstract_sockets else _SCOPE_ABSTRACT)
    size = 8 if version < 4 else 16 if version < _SCOPES else 24
    ruleset = call(_CREATE_RULESET, ctypes.byref(_Ruleset(handled, 0, scoped)), size, 0)
    try:
        os.set_inheritable(ruleset, False)
        for rule in rules:
            _add(ruleset, rule, handled, unusable)
        no_new_privileges()
        call(_RESTRICT_SELF, ruleset, 0)
    finally:
        fds.close(ruleset)
    return version


def _add(ruleset: int, rule: Rule, handled: int, unusable: Callable[[Rule, OSError], object]) -> None:
    parent = -1
    try:
        parent = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
        mode = os.fstat(parent).st_mode
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except OSError as error:
        if parent >= 0:
            fds.close(parent)
        if error.errno in _OURS:
            raise
        unusable(rule, error)
        return
    try:
        allowed = rule.rights & handled
        if not stat.S_ISDIR(mode):
            allowed &= _OF_FILES
        call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(_Beneath(allowed, parent)), 0)
    finally:
        fds.close(parent)
