"""What is to be sent: the files, folders and links below the named sources, in the order of a manifest.

A walk goes depth-first and byte-sorted within a folder, which is the order of a manifest (`docs/protocol.md`,
section "Manifest"). It holds one descriptor per folder on the way down and looks at everything relative to
that descriptor, so that a folder exchanged for a symbolic link meanwhile leads nowhere. Nothing here writes.
A source that is itself named as a link is followed, once, when it is named; links inside a tree only where the
selection says so, and those of a share never out of it.

Memory is bounded whatever the tree: the names of a very large folder are sorted in a temporary file
(`ftx.disk.listing`). It is longer than other modules for what it leaves out, follows and reports.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Final

import attrs
from msgspec import Struct

from ftx import limits
from ftx.core.links import stays_inside
from ftx.disk import fds, many
from ftx.disk.held import Held
from ftx.disk.listing import sorted_names
from ftx.disk.roots import Root
from ftx.disk.selection import Selection
from ftx.errors import Error, kind

__all__ = [
    "SourceFile",
    "SourceFolder",
    "SourceFolderEnd",
    "SourceItem",
    "SourceLink",
    "SourcePipe",
    "SourceProblem",
    "Walk",
    "problem",
    "reach",
    "wire_time",
]

Path = tuple[bytes, ...]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_RIGHTS: Final = 0o777
#: Names of a folder that are looked at together.
_TOGETHER: Final = 64


class SourceFile(Struct, frozen=True, gc=False):
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
    #: How to open it, when a peer has named its root.
    held: Held | None = None


class SourceFolder(Struct, frozen=True, gc=False):
    """A folder begins: everything up to its `SourceFolderEnd` is inside."""

    path: Path
    local: bytes


class SourceFolderEnd(Struct, frozen=True, gc=False):
    """A folder is complete; its permission bits and its mtime (as in `SourceFile`) can be set."""

    path: Path
    mode: int
    mtime_ns: int


class SourceLink(Struct, frozen=True, gc=False):
    """A symbolic link that is kept: it leads to something in the tree that it is in (`ftx.core.links`)."""

    path: Path
    target: bytes
    #: As in `SourceFile`.
    mtime_ns: int


class SourcePipe(Struct, frozen=True, gc=False):
    """Our standard input, under the name that it was given; `ftx.disk.pipe` reads it."""

    path: Path
    #: When the walk came to it, ns since 1970.
    mtime_ns: int
    mode: int = 0o644


class SourceProblem(Struct, frozen=True, gc=False):
    """Something that cannot be sent, and why; nothing else is said about it.

    `special-file` (links, devices, pipes, sockets), `source-unreadable`, `source-vanished`, `source-missing` (of a
    link that is followed), or `bad-name` (deeper or longer than the protocol allows); what reading it for its digest
    ended with, where that is done before it is announced.
    """

    path: Path
    error: Error


SourceItem = SourceFile | SourcePipe | SourceFolder | SourceFolderEnd | SourceLink | SourceProblem
#: What a walk finds at once: an item, or files that follow each other.
_Step = SourceItem | list[SourceFile]


def wire_time(nanoseconds: int) -> int:
    """A time as the wire can carry it: the nearest signed 64-bit number (years 1677 to 2262; ext4 reaches
    2446).
    """
    return nanoseconds if -(2**63) <= nanoseconds < 2**63 else min(max(nanoseconds, -(2**63)), 2**63 - 1)


def _why(error: OSError) -> str:
    return (error.strerror or "input/output error").lower()


def problem(path: Path, name: str, why: str = "") -> SourceProblem:
    """The problem of kind `name` with what is at `path`; `why` is added to its sentence."""
    row = kind(name)
    return SourceProblem(path, Error(name, f"{row.sentence}: {why}" if why else row.sentence, row.hint))


def _failure(path: Path, error: OSError) -> SourceProblem:
    """The problem for an OSError from looking at what is at `path`."""
    if isinstance(error, FileNotFoundError):
        return problem(path, "source-vanished")
    return problem(path, "source-unreadable", _why(error))


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
    #: Device and inode.
    identity: tuple[int, int]
    #: How it is reached, if not by its path.
    held: Held | None
    #: Names that were taken to be looked at together, and come next.
    taken: list[bytes] = attrs.field(factory=list)

    def take(self) -> list[bytes]:
        """The names that come next, a few of them; none at the end."""
        names, self.taken = self.taken or list(itertools.islice(self.names, _TOGETHER)), []
        return names


def reach(parent_length: int, depth: int, name: bytes) -> tuple[int, str]:
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
    instead. Links that are kept come last, in a second walk: nothing must ever be written through one. At most
    `limits.DEPTH` descriptors are open between two batches, until the end or `close()`, which must not come
    during one.
    """

    def __init__(self, roots: Sequence[Root], selection: Selection | None = None) -> None:
        self._items = _walk(tuple(roots), selection or Selection())
        #: What was found and is not in a batch: files that were looked at together.
        self._found: list[SourceItem] = []

    def batch(self, n: int) -> list[SourceItem]:
        """The next items, `n` (at least 1) or, at the end, fewer. Blocks for as long as the disk."""
        found = self._found
        while len(found) < n and (item := next(self._items, None)) is not None:
            if isinstance(item, list):
                found += item
            else:
                found.append(item)
        self._found = found[n:]
        return found[:n]

    def close(self) -> None:
        """Give up the descriptors; every later batch is empty. Also happens when the walk is dropped."""
        self._items.close()
        self._found = []


def _walk(roots: tuple[Root, ...], selection: Selection) -> Generator[_Step, None, None]:
    yield from _Descent(selection).items(roots)
    if selection.links == "keep":
        yield from _LinkDescent(selection).items(roots)


class _Descent:
    """One walk down and up again."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._stack: list[_Open] = []
        #: How the present root is reached, if not by its path.
        self._held: Held | None = None

    def items(self, roots: tuple[Root, ...]) -> Generator[_Step, None, None]:
        """What is there, in order."""
        try:
            for root in roots:
                if root.pipe:
                    yield from self._pipe(root)
                    continue
                yield from self._top(root)
                while self._stack:
                    yield from self._next(self._stack[-1])
        finally:
            for folder in self._stack:
                fds.close(folder.fd)

    def _top(self, root: Root) -> Iterator[SourceItem]:
        """The items for a root itself."""
        self._held = root.held
        if root.held is None:
            yield from self._enter(None, root.name, root.local)
            return
        try:
            fd, entry = root.held.enter()
        except OSError as error:
            yield from self._other((root.name,), _failure((root.name,), error))
            return
        try:
            yield from self._enter(None, root.name, root.local, (fd, entry))
        finally:
            fds.close(fd)

    def _next(self, folder: _Open) -> Iterator[_Step]:
        """The items for the names of `folder` up to the first that leads into another folder, or up to its end."""
        depth = len(self._stack)
        plain = folder.held is None and not self._selection.chooses
        while True:
            try:
                name = (yield from self._files(folder)) if plain else next(folder.names, None)
            except OSError as error:  # the temporary file of a very large folder
                yield _failure(folder.path, error)
                name = None
            if name is None:
                fds.close(self._stack.pop().fd)
                yield from self._left(folder)
                return
            yield from self._enter(folder, name, folder.local + b"/" + name)
            if len(self._stack) != depth:
                return

    def _files(self, folder: _Open) -> Generator[list[SourceFile], None, bytes | None]:
        """The regular files that come next in `folder`; gives the first name of anything else, or None.

        Nearly everything is a file about which nothing has to be asked but one look: what all take part in, as
        `_enter` and `_file` have it, is done here in one place.
        """
        path, local = folder.path, folder.local + b"/"
        room = min(limits.NAME, limits.PATH - folder.length - 1) if len(path) < limits.DEPTH else 0
        while names := folder.take():
            short = names
            if max(map(len, names)) > room:
                short = list(itertools.takewhile(lambda name: len(name) <= room, names))
            looks = _look(folder.fd, short)
            if self._tells_files:
                yield [
                    SourceFile((*path, name), local + name, size, mtime, ctime, inode, mode & _RIGHTS)
                    for name, (size, mtime, ctime, inode, mode) in zip(names, looks, strict=False)
                ]
            if len(looks) < len(names):
                folder.taken = names[len(looks) + 1 :]
                return names[len(looks)]
        return None

    def _enter(
        self, parent: _Open | None, name: bytes, local: bytes, at: tuple[int | None, bytes] | None = None
    ) -> Iterator[SourceItem]:
        """The items for `name` in `parent` (None: a root, to be found `at` an entry of a folder, else by its path)."""
        path = (*parent.path, name) if parent else (name,)
        length, wrong = reach(parent.length if parent else 0, len(path), name)
        here, entry = (parent.fd, name) if parent else at or (None, local)
        held = parent.held if parent else self._held
        found, followed = (here, entry), -1
        try:
            status = os.stat(entry, dir_fd=here, follow_symlinks=False)
            if held is not None and held.hides(name, status):
                return
            link = stat.S_ISLNK(status.st_mode)
            if link and self._selection.links == "follow" and held is not None:
                held = held.follow(path)
                found = followed, _ = held.enter()
                status = os.stat(found[1], dir_fd=followed, follow_symlinks=False)
            elif link and self._selection.links == "follow":
                status = os.stat(entry, dir_fd=here)
                local = os.path.realpath(local, strict=True)
            if self._selection.excludes(path, folder=stat.S_ISDIR(status.st_mode)):
                return
            if wrong:
                yield from self._other(path, problem(path, "bad-name", wrong))
            elif stat.S_ISDIR(status.st_mode):
                yield from self._down(path, local, length, found, held, link)
            elif stat.S_ISREG(status.st_mode):
                yield from self._file(path, local, status, held)
            elif stat.S_ISLNK(status.st_mode):
                yield from self._link(path, os.readlink(found[1], dir_fd=found[0]), status)
            else:
                yield from self._other(path, problem(path, "special-file"))
        except FileNotFoundError as error:
            if _is_link(entry, here):
                yield from self._other(path, problem(path, "source-missing", "the link leads nowhere"))
            else:
                yield from self._other(path, _failure(path, error))
        except OSError as error:
            if error.errno == errno.EXDEV:  # as `Held.follow()` says it
                yield from self._other(path, problem(path, "special-file", "the link leads out of what is shared"))
            else:
                yield from self._other(path, _failure(path, error))
        finally:
            if followed >= 0:
                fds.close(followed)

    def _down(
        self, path: Path, local: bytes, length: int, at: tuple[int | None, bytes], held: Held | None, link: bool
    ) -> Iterator[SourceItem]:
        """Enter a folder, unless we are in it already: then a link has led us up."""
        folder = _open(path, local, length, at, held, link)
        if link and any(folder.identity == above.identity for above in self._stack):
            fds.close(folder.fd)
            yield from self._other(path, problem(path, "special-file", "the link leads back to a folder that it is in"))
            return
        self._stack.append(folder)
        yield from self._entered(folder)

    # -- what is told of; the second walk tells of other things ------------------------------------------------

    _tells_files = True

    def _pipe(self, root: Root) -> Iterator[SourceItem]:
        yield SourcePipe((root.name,), time.time_ns())

    def _entered(self, folder: _Open) -> Iterator[SourceItem]:
        yield SourceFolder(folder.path, folder.local)

    def _left(self, folder: _Open) -> Iterator[SourceItem]:
        yield SourceFolderEnd(folder.path, folder.mode, folder.mtime_ns)

    def _file(self, path: Path, local: bytes, status: os.stat_result, held: Held | None) -> Iterable[SourceItem]:
        mtime, ctime = wire_time(status.st_mtime_ns), wire_time(status.st_ctime_ns)
        mode = status.st_mode & _RIGHTS
        return (SourceFile(path, local, status.st_size, mtime, ctime, status.st_ino, mode, held),)

    def _link(self, path: Path, target: bytes, status: os.stat_result) -> Iterator[SourceItem]:
        if self._selection.links != "keep":
            yield problem(path, "special-file", "a symbolic link; --links follow sends what it leads to")

    def _other(self, path: Path, trouble: SourceProblem) -> Iterator[SourceItem]:
        yield trouble


class _LinkDescent(_Descent):
    """The second walk: links, and nothing else. What else there is was told of by the first."""

    _tells_files = False

    def _pipe(self, root: Root) -> Iterator[SourceItem]:
        return iter(())

    def _entered(self, folder: _Open) -> Iterator[SourceItem]:
        return iter(())

    def _left(self, folder: _Open) -> Iterator[SourceItem]:
        return iter(())

    def _file(self, path: Path, local: bytes, status: os.stat_result, held: Held | None) -> Iterable[SourceItem]:
        return ()

    def _link(self, path: Path, target: bytes, status: os.stat_result) -> Iterator[SourceItem]:
        if stays_inside(path, target):
            yield SourceLink(path, target, wire_time(status.st_mtime_ns))
        else:
            yield problem(path, "special-file", "the link leads out of the tree that is sent")

    def _other(self, path: Path, trouble: SourceProblem) -> Iterator[SourceItem]:
        return iter(())


def _look(folder_fd: int, names: Sequence[bytes]) -> list[tuple[int, int, int, int, int]]:
    """Size, mtime, ctime, inode and mode of the regular files that `names` begin with, with one call if possible."""
    if many.available():
        return many.look(folder_fd, names)
    looks = []
    for name in names:
        try:
            status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        except OSError:
            break
        if not stat.S_ISREG(status.st_mode):
            break
        mtime, ctime = wire_time(status.st_mtime_ns), wire_time(status.st_ctime_ns)
        looks.append((status.st_size, mtime, ctime, status.st_ino, status.st_mode))
    return looks


def _is_link(entry: bytes, parent: int | None) -> bool:
    try:
        return stat.S_ISLNK(os.stat(entry, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _open(
    path: Path, local: bytes, length: int, at: tuple[int | None, bytes], held: Held | None, link: bool
) -> _Open:
    """The folder `at` an entry of another, or at an absolute path, opened and listed; OSError if that fails."""
    # What is held was followed to its end already.
    fd = os.open(at[1], _FOLDER if link and held is None else _FOLDER | os.O_NOFOLLOW, dir_fd=at[0])
    try:
        status = os.fstat(fd)
        names = sorted_names(fd)
    except BaseException:
        fds.close(fd)
        raise
    identity = status.st_dev, status.st_ino
    mtime = wire_time(status.st_mtime_ns)
    return _Open(path, local, length, fd, names, status.st_mode & _RIGHTS, mtime, identity, held)
