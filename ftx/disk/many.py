"""Many small files with one call: system calls in a row, without the interpreter between them.

Each system call of Python lets go of the interpreter lock and has to get it back, seven times for a small file that is
stored and four times for one that is sent; while one thread does so and another serves connections, that costs more
than the calls. `many.c` makes them for a whole run of files, outside of the lock. It is C because nothing else is
outside of it, and it decides nothing: it stops at the first file with which anything is not as it should be, and
whoever asked does that one in the ordinary way, which says what is wrong.

So nothing depends on it. It is built at installation where there is a compiler, and where it is missing, or is not the
one that belongs to this module, all is done in the ordinary way. The rows of its tables are described in both files.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

if TYPE_CHECKING:
    from ftx.disk.walk import SourceFile

__all__ = ["Linked", "Unnamed", "available", "link", "look", "opened", "read", "write_unnamed"]

#: FTX_MANY of the library that belongs to this module.
_VERSION: Final = 3
_FILE: Final = os.path.join(os.path.dirname(__file__), "many.lib")  # what ends with .so is a module to Python

#: `struct unnamed`: mtime_ns, size, inode, disk_ns, mode, folder, fd.
_UNNAMED: Final = struct.Struct("=qqQqIii4x")
#: `struct named`: ctime_ns, fd, folder, error.
_NAMED: Final = struct.Struct("=qiii4x")
#: `struct seen`: size, mtime_ns, ctime_ns, inode, mode.
_SEEN: Final = struct.Struct("=qqqQI4x")


class Unnamed(Struct, frozen=True, gc=False):
    """An unnamed file that was written: its descriptor, which is the caller's, and what fstat(2) says of it."""

    fd: int
    inode: int
    #: The time as the file system keeps it, in ns since 1970.
    disk_ns: int
    mode: int


class Linked(Struct, frozen=True, gc=False):
    """A file that got its name: its ctime in ns since 1970, or the error with which that could not be found out."""

    ctime_ns: int
    error: int


def opened(path: str) -> Any:
    """The library at `path`; None where there is none, or none that belongs to this module."""
    try:
        library = ctypes.CDLL(path)
        library.ftx_many.restype = ctypes.c_int
        if library.ftx_many() != _VERSION:
            return None
        for function in (library.ftx_write_unnamed, library.ftx_link):
            function.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_char_p, ctypes.c_int64]
            function.restype = ctypes.c_long
        rows = (ctypes.c_void_p, ctypes.c_long, ctypes.c_char_p, ctypes.c_int64)
        library.ftx_look.argtypes = (ctypes.c_int, *rows)
        library.ftx_read.argtypes = (*rows, ctypes.c_void_p, ctypes.c_int64)
        library.ftx_look.restype = library.ftx_read.restype = ctypes.c_long
    except (OSError, AttributeError):
        return None
    return library


@functools.cache
def _library() -> Any:
    return opened(_FILE)


def available() -> bool:
    """Whether files can be done together: without that, nobody needs to collect them."""
    return _library() is not None


def _table(rows: list[bytes]) -> ctypes.Array[ctypes.c_char]:
    table = b"".join(rows)
    return ctypes.create_string_buffer(table, len(table))


def _done(row: struct.Struct, table: ctypes.Array[ctypes.c_char], count: int) -> Iterator[tuple[Any, ...]]:
    """The first `count` rows of a table, as the library has left them."""
    return row.iter_unpack(memoryview(table)[: count * row.size])


def write_unnamed(files: Sequence[tuple[int, int, int, bytes | memoryview]]) -> list[Unnamed]:
    """Make unnamed files that can be linked into folders.

    `files` has the descriptor of the folder, permission bits, mtime (ns since 1970) and content of each. As with
    openat(2) and O_TMPFILE, pwrite(2), utimensat(2), fstat(2), and fchmod(2) where the bits came out otherwise. Returns
    the first of them, up to one that has failed, which leaves nothing behind.
    """
    if not available():
        return []
    content = b"".join([content for _, _, _, content in files])
    pack = _UNNAMED.pack
    rows = [pack(mtime_ns, len(one), 0, 0, mode, folder, -1) for folder, mode, mtime_ns, one in files]
    table = _table(rows)
    done = _library().ftx_write_unnamed(table, len(rows), content, len(content))
    return [Unnamed(fd, inode, disk_ns, mode) for _, _, inode, disk_ns, mode, _, fd in _done(_UNNAMED, table, done)]


def link(files: Sequence[tuple[int, int, bytes]]) -> list[Linked]:
    """Give open, unnamed files names of one component; `files` has descriptor, that of the folder, and name of each.

    As with linkat(2) and AT_EMPTY_PATH, and fstat(2). Nothing is replaced. Returns the first of them, up to one that
    has failed, which has no name.
    """
    if not available():
        return []
    names = b"\0".join([*[name for _, _, name in files], b""])
    pack = _NAMED.pack
    table = _table([pack(0, fd, folder, 0) for fd, folder, _ in files])
    done = _library().ftx_link(table, len(files), names, len(names))
    return [Linked(ctime_ns, error) for ctime_ns, _, _, error in _done(_NAMED, table, done)]


def _address(buffer: bytearray) -> int:
    """Where `buffer`, which is not empty, begins, for as long as it is held and has its length."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def look(folder_fd: int, names: Sequence[bytes]) -> list[tuple[int, int, int, int, int]]:
    """Size, mtime and ctime (ns since 1970, cut to 64 bits), inode and mode of regular files in a folder.

    As with fstatat(2), which follows no link. Returns the first of them, up to one that cannot be looked at or is
    something else.
    """
    if not names or not available():
        return []
    table = bytearray(len(names) * _SEEN.size)
    entries = b"\0".join([*names, b""])
    done = _library().ftx_look(folder_fd, _address(table), len(names), entries, len(entries))
    return list(_SEEN.iter_unpack(memoryview(table)[: done * _SEEN.size]))


def read(files: Sequence[SourceFile]) -> list[memoryview]:
    """The contents of regular files, which are as they were seen after they were read, too.

    As with open(2) that neither follows a link nor waits, pread(2), fstat(2) and close(2). Returns the first of them,
    up to one that cannot be read, is another one or has changed.
    """
    if not files or not available():
        return []
    pack = _SEEN.pack
    rows = b"".join([pack(file.size, file.mtime_ns, file.ctime_ns, file.inode, 0) for file in files])
    paths = b"\0".join([*[file.local for file in files], b""])
    content = bytearray(sum([file.size for file in files]) + 1)
    done = _library().ftx_read(rows, len(files), paths, len(paths), _address(content), len(content))
    view, start, contents = memoryview(content), 0, []
    for file in files[:done]:
        contents.append(view[start : start + file.size])
        start += file.size
    return contents
