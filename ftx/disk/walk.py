"""What is to be sent: the named sources, the files and folders below them, and how much that is.

A walk goes depth-first and byte-sorted within a folder, which is the order of a manifest (`docs/protocol.md`,
section "Manifest"). It holds one descriptor per folder on the way down and looks at everything relative to
that descriptor, so that a folder exchanged for a symbolic link meanwhile leads nowhere. Nothing here writes,
and nothing here follows a link inside a tree; a source that is itself named as a link is followed, once, when
it is named.

Memory is bounded whatever the tree: the names of a very large folder are sorted in a temporary file
(`ftx.disk.listing`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final

import attrs

from ftx import limits
from ftx.disk.listing import sorted_names
from ftx.errors import Error, FtxError, kind
from ftx.text import show

__all__ = [
    "Root",
    "SourceFile",
    "SourceFolder",
    "SourceFolderEnd",
    "SourceItem",
    "SourceProblem",
    "Totals",
    "Walk",
    "count",
    "roots",
    "wire_time",
]

Path = tuple[bytes, ...]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RIGHTS: Final = 0o777
#: How many names `count` looks at between two questions whether it should go on.
_ASK_EVERY: Final = 1024


@attrs.frozen
class Root:
    """One source as it was named: what the receiver calls it, and the real path it is read from."""

    name: bytes
    local: bytes


@attrs.frozen
class SourceFile:
    """A regular file as the walk saw it; `ftx.disk.source` reads it only while it still looks like this."""

    #: The path on the wire, beginning with the name of its root.
    path: Path
    #: The path to open.
    local: bytes
    #: Bytes.
    size: int
    #: Nanoseconds since 1970, negative before; cut to what 64 bits can say.
    mtime_ns: int
    ctime_ns: int
    inode: int
    #: Permission bits, at most 0o777: set-id and sticky bits are never sent.
    mode: int


@attrs.frozen
class SourceFolder:
    """A folder begins: everything up to its `SourceFolderEnd` is inside."""

    path: Path
    local: bytes


@attrs.frozen
class SourceFolderEnd:
    """A folder is complete; its permission bits and its mtime (as in `SourceFile`) can be set."""

    path: Path
    mode: int
    mtime_ns: int


@attrs.frozen
class SourceProblem:
    """Something that cannot be sent, and why; nothing else is said about it.

    `special-file` (links, devices, pipes, sockets), `source-unreadable`, `source-vanished`, or `bad-name`
    (deeper or longer than the protocol allows).
    """

    path: Path
    error: Error


SourceItem = SourceFile | SourceFolder | SourceFolderEnd | SourceProblem


@attrs.frozen
class Totals:
    """How much there is: what a walk gives as `SourceFile`, as `SourceFolder`, and the sizes of the files."""

    files: int = 0
    folders: int = 0
    bytes: int = 0


def wire_time(nanoseconds: int) -> int:
    """A time as the wire can carry it: the nearest signed 64-bit number (years 1677 to 2262; ext4 reaches
    2446).
    """
    return min(max(nanoseconds, -(2**63)), 2**63 - 1)


def roots(sources: Sequence[str | bytes], cwd: str | bytes) -> tuple[Root, ...]:
    """The sources as named on a command line, relative ones from `cwd`, in the order of their names' bytes.

    A trailing slash does not matter; `.`, `..` and names that end in them take the folder's real name; a link
    that is named is followed and keeps the name it was called by. Raises FtxError `source-missing`,
    `source-unreadable`, `special-file`, `duplicate-name` (two would arrive under one name) or `usage` (`/`
    has no name), each naming the source.
    """
    found: dict[bytes, Root] = {}
    for source in sources:
        root = _root(os.fsencode(cwd), os.fsencode(source), show(source))
        if root.name in found:
            raise FtxError("duplicate-name", f"two sources are called {show(root.name)}")
        found[root.name] = root
    return tuple(found[name] for name in sorted(found))


def _root(cwd: bytes, source: bytes, shown: str) -> Root:
    if not source:  # an unset shell variable must not mean the whole folder
        raise FtxError("source-missing", "a source without a name does not exist")
    local = os.path.join(cwd, source).rstrip(b"/") or b"/"
    try:
        status = os.stat(local)
        real = os.path.realpath(local, strict=True)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL
        raise FtxError("source-missing", f"{shown} does not exist") from error
    except OSError as error:
        raise FtxError("source-unreadable", f"{shown} cannot be read: {_why(error)}") from error
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        raise FtxError("special-file", f"{shown} is not a regular file or folder")
    name = os.path.basename(local)
    if name in (b"", b".", b".."):
        name = os.path.basename(real)
    if not name:
        raise FtxError("usage", f"{shown} has no name to send it under", "name the folders inside it")
    return Root(name, real)


def _why(error: OSError) -> str:
    return (error.strerror or "input/output error").lower()


def _problem(path: Path, name: str, why: str = "") -> SourceProblem:
    row = kind(name)
    return SourceProblem(path, Error(name, f"{row.sentence}: {why}" if why else row.sentence, row.hint))


def _failure(path: Path, error: OSError) -> SourceProblem:
    """The problem for an OSError from looking at what is at `path`."""
    if isinstance(error, FileNotFoundError):
        return _problem(path, "source-vanished")
    return _problem(path, "source-unreadable", _why(error))


@attrs.define(eq=False)
class _Open:
    """A folder on the way down: its names that are still to come, and what its end will say."""

    path: Path
    local: bytes
    #: Bytes of `path` with its separators.
    length: int
    fd: int
    names: Iterator[bytes]
    mode: int
    mtime_ns: int


def _reach(parent_length: int, depth: int, name: bytes) -> tuple[int, str]:
    """The length of the path that `name` makes `depth` components deep, and what is wrong with it, if
    anything.
    """
    length = parent_length + len(name) + (1 if depth > 1 else 0)
    if len(name) > limits.NAME:
        return length, f"a name has at most {limits.NAME} bytes"
    if depth > limits.DEPTH:
        return length, f"a path has at most {limits.DEPTH} components"
    if length > limits.PATH:
        return length, f"a path has at most {limits.PATH} bytes"
    return length, ""


class Walk:
    """Everything below some roots, a batch at a time; may be asked from different threads, one after the
    other.

    Every `SourceFolder` gets its `SourceFolderEnd`; a folder that cannot be listed is one `SourceProblem`
    instead. At most `limits.DEPTH` descriptors are open between two batches, until the end or `close()`,
    which must not come during one.
    """

    def __init__(self, roots: Sequence[Root]) -> None:
        self._items = _walk(tuple(roots))

    def batch(self, n: int) -> list[SourceItem]:
        """The next items, at most `n` (at least 1); an empty list at the end. Blocks for as long as the disk.
        """
        return list(itertools.islice(self._items, n))

    def close(self) -> None:
        """Give up the descriptors; every later batch is empty. Also happens when the walk is dropped."""
        self._items.close()


def _walk(roots: tuple[Root, ...]) -> Generator[SourceItem, None, None]:
    stack: list[_Open] = []
    try:
        for root in roots:
            yield from _enter(stack, None, root.name, root.local)
            while stack:
                folder = stack[-1]
                try:
                    name = next(folder.names, None)
                except OSError as error:  # the temporary file of a very large folder
                    yield _failure(folder.path, error)
                    name = None
                if name is not None:
                    yield from _enter(stack, folder, name, folder.local + b"/" + name)
                    continue
                os.close(stack.pop().fd)
                yield SourceFolderEnd(folder.path, folder.mode, folder.mtime_ns)
    finally:
        for folder in stack:
            os.close(folder.fd)


def _enter(stack: list[_Open], parent: _Open | None, name: bytes, local: bytes) -> Iterator[SourceItem]:
    """The item for `name` in `parent` (None: a root); a folder is pushed onto `stack` too."""
    path = (*parent.path, name) if parent else (name,)
    length, wrong = _reach(parent.length if parent else 0, len(path), name)
    if wrong:
        yield _problem(path, "bad-name", wrong)
        return
    here, entry = (parent.fd, name) if parent else (None, local)
    try:
        status = os.stat(entry, dir_fd=here, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            folder = _open(path, local, length, entry, here)
            stack.append(folder)
            yield SourceFolder(path, local)
            return
    except OSError as error:
        yield _failure(path, error)
        return
    if not stat.S_ISREG(status.st_mode):
        yield _problem(path, "special-file")
        return
    yield SourceFile(
        path,
        local,
        status.st_size,
        wire_time(status.st_mtime_ns),
        wire_time(status.st_ctime_ns),
        status.st_ino,
        status.st_mode & _RIGHTS,
    )


def _open(path: Path, local: bytes, length: int, entry: bytes, parent: int | None) -> _Open:
    """The folder `entry` (relative to `parent`, or absolute), opened and listed; OSError if that fails."""
    fd = os.open(entry, _FOLDER, dir_fd=parent)
    try:
        status = os.fstat(fd)
        names = sorted_names(fd)
    except BaseException:
        os.close(fd)
        raise
    return _Open(path, local, length, fd, names, status.st_mode & _RIGHTS, wire_time(status.st_mtime_ns))


def count(roots: Sequence[Root], stopped: Callable[[], bool] = lambda: False) -> Totals:
    """How much a walk of `roots` would give, were it done now: nothing is sorted and nothing is kept.

    What the walk would call a problem is left out. `stopped` is asked now and then; once it says True, what
    was counted so far is returned. Blocks for as long as the disk.
    """
    files = folders = size = 0
    for step, (is_file, length) in enumerate(_sizes(tuple(roots))):
        if is_file:
            files += 1
            size += length
        else:
            folders += 1
        if step % _ASK_EVERY == 0 and stopped():
            break
    return Totals(files, folders, size)


def _sizes(roots: tuple[Root, ...]) -> Iterator[tuple[bool, int]]:
    """Whether it is a file, and its size, for each file and folder below `roots`, in any order."""
    for root in roots:
        with contextlib.suppress(OSError):
            status = os.stat(root.local, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                yield True, status.st_size
            elif stat.S_ISDIR(status.st_mode):
                yield from _sizes_below(root.local, None, 1, len(root.name))


def _sizes_below(entry: str | bytes, parent: int | None, depth: int, length: int) -> Iterator[tuple[bool, int]]:
    """The same for one folder and all below it; it recurses `limits.DEPTH` deep at most."""
    try:
        fd = os.open(entry, _FOLDER, dir_fd=parent)
    except OSError:
        return
    try:
        with os.scandir(fd) as entries:
            yield False, 0
            for child in entries:
                reach, wrong = _reach(length, depth + 1, os.fsencode(child.name))
                if wrong:
                    continue
                try:
                    if child.is_dir(follow_symlinks=False):
                        yield from _sizes_below(child.name, fd, depth + 1, reach)
                    elif child.is_file(follow_symlinks=False):
                        yield True, child.stat(follow_symlinks=False).st_size
                except OSError:
                    continue
    except OSError:
        return
    finally:
        os.close(fd)
