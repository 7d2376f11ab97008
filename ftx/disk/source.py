"""Reading what is sent: never anything else than the walk saw, and never a mix of two states of a file.

A source is opened without following a link and without waiting, and must still be the file of the walk: same
inode, size, mtime and ctime (ctime cannot be set by a program, so a changed file cannot pretend). The same is
asked again after reading. Bytes past the announced size are looked for too: files of /proc claim to be empty.

Many small files are read by one call of a library where it is there (`many.c`), with the same flags and the same looks.
What it does not find as the walk saw it is read again in the ordinary way, which says what is wrong with it.

All of this blocks and belongs into worker threads. Different blocks of one `OpenSource` may be read at once.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from ftx.core.blocks import block_length
from ftx.disk import fds, many
from ftx.disk.counting import Totals, count
from ftx.disk.roots import Root, pipe_root, roots
from ftx.disk.sparse import Holes
from ftx.disk.walk import (
    SourceFile,
    SourceFolder,
    SourceFolderEnd,
    SourceItem,
    SourceLink,
    SourcePipe,
    SourceProblem,
    Walk,
    problem,
    wire_time,
)
from ftx.errors import FtxError
from ftx.limits import BLOCK

__all__ = [
    "OpenSource",
    "Root",
    "SourceFile",
    "SourceFolder",
    "SourceFolderEnd",
    "SourceItem",
    "SourceLink",
    "SourcePipe",
    "SourceProblem",
    "Totals",
    "Walk",
    "count",
    "pipe_root",
    "problem",
    "read_all",
    "read_whole",
    "roots",
]

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_PASS: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
#: What open(2) and pread(2) say of a link, a socket, a pipe or a folder in the place of the file.
_REPLACED: Final = frozenset({errno.ELOOP, errno.ENXIO, errno.ESPIPE, errno.EISDIR})


def _failure(error: OSError) -> FtxError:
    """What an OSError from a source means; the caller knows and names the path."""
    if error.errno in _GONE:
        return FtxError("source-vanished")
    if error.errno in _REPLACED:
        return FtxError("source-changed")
    why = (error.strerror or "input/output error").lower()
    return FtxError("source-unreadable", f"the source cannot be read: {why}")


def _check(file: SourceFile, status: os.stat_result) -> None:
    """Raise `source-changed` or `source-vanished` unless `status` is that of the walk."""
    mtime, ctime = status.st_mtime_ns, status.st_ctime_ns
    if (
        status.st_size == file.size
        and status.st_ino == file.inode
        and (mtime == file.mtime_ns or wire_time(mtime) == file.mtime_ns)
        and (ctime == file.ctime_ns or wire_time(ctime) == file.ctime_ns)
        and stat.S_ISREG(status.st_mode)
    ):
        return
    raise FtxError("source-vanished" if status.st_nlink == 0 else "source-changed")


def _open(file: SourceFile) -> int:
    if file.held is not None:
        return file.held.open(file.path)
    try:
        return os.open(file.local, _READ)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    return _open_far(file.local)


def _open_far(local: bytes) -> int:
    """Open a path longer than the kernel takes at once (PATH_MAX): folder by folder."""
    *folders, name = local.split(b"/")
    fd = os.open(b"/" if local.startswith(b"/") else b".", _PASS)
    try:
        for folder in filter(None, folders):
            below = os.open(folder, _PASS, dir_fd=fd)
            fds.close(fd)
            fd = below
        return os.open(name, _READ, dir_fd=fd)
    finally:
        fds.close(fd)


def read_whole(file: SourceFile) -> bytes:
    """The content of a file of one block: exactly `file.size` bytes (at most `limits.BLOCK`).

    Raises FtxError `source-changed`, `source-vanished` or `source-unreadable`.
    """
    opened: list[int] = []
    try:
        return _read_among(file, opened)
    finally:
        fds.close_all(opened)


def read_all(files: Sequence[SourceFile]) -> list[bytes | memoryview | str]:
    """As `read_whole` for each of `files`; in the place of what cannot be read is the name of the error.

    With one call for those that come first where that is possible (`ftx.disk.many`). All are held, and where it is not
    possible all are open, at once: so they should be few.
    """
    contents: list[bytes | memoryview | str] = []
    if many.available():  # what a peer has named the root of has no path to open
        held = any([file.held is not None for file in files])
        contents += many.read(list(takewhile(lambda file: file.held is None, files)) if held else files)
    opened: list[int] = []
    try:
        for file in files[len(contents) :]:
            try:
                contents.append(_read_among(file, opened))
            except FtxError as error:
                contents.append(error.name)
    finally:
        fds.close_all(opened)
    return contents


def _read_among(file: SourceFile, opened: list[int]) -> bytes:
    """As `read_whole`; the descriptor is put to those in `opened`, which the caller closes together.

    Three system calls: one look after reading says that what was read is the file of the walk, and that it did not
    change meanwhile. pread(2) takes nothing out of a pipe or a terminal that is in its place now (`ESPIPE`).
    """
    size = file.size
    try:
        fd = _open(file)
        opened.append(fd)
        content = os.pread(fd, size + 1, 0)
        while 0 < len(content) < size:
            more = os.pread(fd, size + 1 - len(content), len(content))
            if not more:
                break
            content += more
        _check(file, os.fstat(fd))
    except OSError as error:
        raise _failure(error) from error
    if len(content) != size:
        raise FtxError("source-changed")
    return content


class OpenSource:
    """A file of any size, open for reading blocks in any order. Made by `open`, ended by `close`."""

    __slots__ = ("_fd", "_holes", "file")

    def __init__(self, file: SourceFile, fd: int) -> None:
        self.file = file
        self._fd = fd
        self._holes = Holes(fd)

    @classmethod
    def open(cls, file: SourceFile) -> OpenSource:
        """Open `file`; FtxError `source-changed`, `source-vanished` or `source-unreadable`."""
        try:
            fd = _open(file)
            try:
                _check(file, os.fstat(fd))
                if file.size > BLOCK:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            except BaseException:
                fds.close(fd)
                raise
        except OSError as error:
            raise _failure(error) from error
        return cls(file, fd)

    def read(self, index: int) -> bytes:
        """Block `index`: exactly as many bytes as it has.

        FtxError `source-changed` when the file ends before, or goes on behind its last block;
        `source-unreadable` when the disk fails.
        """
        length = block_length(self.file.size, index)
        start = index * BLOCK
        # behind the last block there must be nothing
        wanted = length + 1 if start + length == self.file.size else length
        try:
            content = os.pread(self._fd, wanted, start)
            while 0 < len(content) < length:
                more = os.pread(self._fd, wanted - len(content), start + len(content))
                if not more:
                    break
                content += more
        except OSError as error:
            raise _failure(error) from error
        if len(content) != length:
            raise FtxError("source-changed")
        return content

    def is_hole(self, index: int) -> bool:
        """Whether block `index` is in a hole of the file: zeros, which need not be read. `unchanged()` covers it too.

        Not to be asked from two threads at once.
        """
        start = index * BLOCK
        return self._holes.covers(start, start + block_length(self.file.size, index))

    def unchanged(self) -> None:
        """Return if the file is still what the walk saw; else FtxError `source-changed` or `source-vanished`.

        What was read is one state of the file only if this was asked after the last read.
        """
        try:
            status = os.fstat(self._fd)
        except OSError as error:
            raise _failure(error) from error
        _check(self.file, status)

    def close(self) -> None:
        """Give up the descriptor. No read may be under way; a second time does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            fds.close(fd)
