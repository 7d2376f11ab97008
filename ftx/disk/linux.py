"""The system calls that Python has no names for: openat2, renameat2, syncfs, fstatfs, fallocate, prctl, and others.

Each raises OSError like the functions of `os`, with `ENOSYS` where the C library or the kernel lacks the call, so that
the caller's fall-back covers both. All release the GIL.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from typing import Any, Final

__all__ = [
    "RESOLVE_BENEATH",
    "RESOLVE_NO_MAGICLINKS",
    "RESOLVE_NO_SYMLINKS",
    "RESOLVE_NO_XDEV",
    "call",
    "clock_synchronised",
    "clone_range",
    "end_with_parent",
    "filesystem_type",
    "keep_freed_memory",
    "link_open",
    "no_new_privileges",
    "openat2",
    "punch_hole",
    "rename_noreplace",
    "reserve",
    "share_arena",
    "syncfs",
]

#: openat2(2), `struct open_how`.
RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08

#: The number is the same on every architecture (calls since 5.0 share one table).
_SYS_OPENAT2: Final = 437
_RENAME_NOREPLACE: Final = 1
_AT_EMPTY_PATH: Final = 0x1000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_FALLOC_KEEP_SIZE: Final = 1
#: mallopt(3); the largest threshold that glibc takes for blocks of their own is 32 MiB.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_MMAP_THRESHOLD_MAX: Final = 32 << 20
_FALLOC_PUNCH_HOLE: Final = 2
#: Attempts at openat2 when renames elsewhere in the tree make it answer EAGAIN.
_RACED_TRIES: Final = 16

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _CloneRange(ctypes.Structure):
    _fields_ = [
        ("source", ctypes.c_int64),
        ("offset", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("start", ctypes.c_uint64),
    ]


#: _IOW(0x94, 13, struct file_clone_range), ioctl_ficlonerange(2).
_FICLONERANGE: Final = 0x4020940D


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def _function(name: str, *arguments: Any) -> Any:
    """The C function `name` with its argument types, or None when the C library has none."""
    function = getattr(_libc, name, None)
    if function is not None:
        function.argtypes = list(arguments)
        function.restype = ctypes.c_int
    return function


_syscall: Final = _libc.syscall
_syscall.restype = ctypes.c_long
_renameat2: Final = _function(
    "renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
)
_linkat: Final = _function(
    "linkat", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int
)
_syncfs: Final = _function("syncfs", ctypes.c_int)
_prctl: Final = _function("prctl", ctypes.c_int, *[ctypes.c_ulong] * 4)
_mallopt: Final = _function("mallopt", ctypes.c_int, ctypes.c_int)
_fstatfs: Final = _function("fstatfs", ctypes.c_int, ctypes.c_void_p)
# glibc's fallocate64 takes 64-bit offsets on every architecture; musl's fallocate always does
_fallocate: Final = _function(
    "fallocate64" if hasattr(_libc, "fallocate64") else "fallocate",
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
    ctypes.c_int64,
)


#: adjtimex(2): bytes of `struct timex`, and what the call returns while nothing keeps the clock right.
_TIMEX: Final = 208
_TIME_ERROR: Final = 5
_adjtimex: Final = _function("adjtimex", ctypes.c_void_p)


def clock_synchronised() -> bool | None:
    """Whether the kernel believes that something keeps its clock right; None where it cannot be asked."""
    if _adjtimex is None:
        return None
    state = _adjtimex(ctypes.create_string_buffer(_TIMEX * 2))  # all zeros: nothing is changed
    return None if state < 0 else state != _TIME_ERROR


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _missing() -> OSError:
    return OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def call(number: int, *arguments: int | Any) -> int:
    """syscall(2), for calls that no C library wraps: integers go as words, everything else is a pointer or None."""
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return _check(_syscall(ctypes.c_long(number), *words))


def no_new_privileges() -> None:
    """prctl(2), PR_SET_NO_NEW_PRIVS: no program that this thread or its children run gains rights, for good."""
    if _prctl is None:
        raise _missing()
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def end_with_parent(number: int) -> None:
    """prctl(2), PR_SET_PDEATHSIG: this process gets the signal `number` when the thread that has started it ends."""
    if _prctl is None:
        raise _missing()
    _check(_prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0))


def openat2(dir_fd: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """openat2(2): open `path` relative to `dir_fd` under the `RESOLVE_…` rules; returns a descriptor.

    `ENOSYS` before Linux 5.6, `EPERM` in some sandboxes, `ELOOP` for a symbolic link, `EXDEV` for a way out.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for attempt in range(_RACED_TRIES):
        try:
            return _check(
                _syscall(
                    ctypes.c_long(_SYS_OPENAT2),
                    ctypes.c_int(dir_fd),
                    ctypes.c_char_p(path),
                    ctypes.byref(how),
                    ctypes.c_size_t(ctypes.sizeof(how)),
                )
            )
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR) or attempt == _RACED_TRIES - 1:
                raise
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def rename_noreplace(source: bytes, source_fd: int, target: bytes, target_fd: int) -> None:
    """renameat2(2) with RENAME_NOREPLACE: `EEXIST` if `target` exists; `EINVAL` or `ENOSYS` if it cannot promise."""
    if _renameat2 is None:
        raise _missing()
    _check(_renameat2(source_fd, source, target_fd, target, _RENAME_NOREPLACE))


def link_open(fd: int, name: bytes, folder_fd: int) -> None:
    """linkat(2) with AT_EMPTY_PATH: give the open file `fd` a name; `EEXIST` if there is anything of that name.

    `ENOENT` (also) before Linux 6.10 for who has no CAP_DAC_READ_SEARCH.
    """
    if _linkat is None:
        raise _missing()
    _check(_linkat(fd, b"", folder_fd, name, _AT_EMPTY_PATH))


def syncfs(fd: int) -> None:
    """syncfs(2): make the whole file system of `fd` durable; reports write errors since `fd` was opened."""
    if _syncfs is None:
        raise _missing()
    _check(_syncfs(fd))


def filesystem_type(fd: int) -> int:
    """`f_type` of fstatfs(2), a magic number per kind of file system; 0 when it cannot be told."""
    if _fstatfs is None:
        return 0
    # f_type is the first word of struct statfs, which is at most 120 bytes on any architecture
    buffer = ctypes.create_string_buffer(512)
    if _fstatfs(fd, buffer) < 0:
        return 0
    return ctypes.c_ulong.from_buffer(buffer).value & 0xFFFFFFFF


def reserve(fd: int, offset: int, length: int) -> None:
    """fallocate(2) with FALLOC_FL_KEEP_SIZE: make sure that writing this range cannot run out of space."""
    if _fallocate is None:
        raise _missing()
    _check(_fallocate(fd, _FALLOC_KEEP_SIZE, offset, length))


def punch_hole(fd: int, offset: int, length: int) -> None:
    """fallocate(2) with FALLOC_FL_PUNCH_HOLE: give the range back to the file system; it reads as zeros then."""
    if _fallocate is None:
        raise _missing()
    _check(_fallocate(fd, _FALLOC_PUNCH_HOLE | _FALLOC_KEEP_SIZE, offset, length))


def clone_range(source: int, offset: int, target: int, start: int, length: int) -> None:
    """Let `target` share `length` bytes of `source` with it (ioctl_ficlonerange(2)); few file systems can do so."""
    fcntl.ioctl(target, _FICLONERANGE, bytes(_CloneRange(source, offset, length, start)))


def keep_freed_memory(size: int) -> None:
    """Let the allocator keep up to `size` freed bytes per arena instead of giving each block back to the kernel.

    A C library that has no mallopt(3) (musl's) stays as it is.
    """
    if _mallopt is not None:
        _mallopt(_M_TRIM_THRESHOLD, size)
        _mallopt(_M_MMAP_THRESHOLD, min(size, _MMAP_THRESHOLD_MAX))


def share_arena() -> None:
    """Let threads that begin from now on take memory from the same arena as this one. Without mallopt(3): nothing."""
    if _mallopt is not None:
        _mallopt(_M_ARENA_MAX, 1)
