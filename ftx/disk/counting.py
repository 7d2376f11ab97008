"""How much there is to send: a walk that keeps nothing, where the one that sends does not come to an end soon."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final

import attrs

from ftx.core.links import stays_inside
from ftx.disk import fds
from ftx.disk.held import Held
from ftx.disk.roots import Root
from ftx.disk.selection import Selection
from ftx.disk.walk import reach

__all__ = ["Counting", "Totals", "count"]

Path = tuple[bytes, ...]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: Seconds of counting before somebody else has a turn, or is asked whether to go on: rather time than names, since
#: patterns can make a single name take long.
_STEP: Final = 0.02


@attrs.frozen
class Totals:
    """What a walk gives as `SourceFile` or `SourceLink`, what as `SourceFolder`, and the sizes of the files."""

    files: int = 0
    folders: int = 0
    bytes: int = 0


def count(
    roots: Sequence[Root], stopped: Callable[[], bool] = lambda: False, selection: Selection | None = None
) -> Totals:
    """How much a walk of `roots` would give, were it done now: nothing is sorted and nothing is kept.

    What the walk would call a problem is left out. `stopped` is asked now and then; once it says True, what
    was counted so far is returned. Blocks for as long as the disk.
    """
    counting = Counting(roots, selection)
    try:
        while not stopped() and not counting.step():
            pass
        return counting.totals
    finally:
        counting.close()


class Counting:
    """The same a little at a time, for those who share their thread; not for two threads at once.

    Descriptors are open until the last `step()`, or `close()`. A step ends with the first name after `seconds`.
    """

    def __init__(self, roots: Sequence[Root], selection: Selection | None = None, *, seconds: float = _STEP) -> None:
        self._seconds = seconds
        self._sizes = _Sizes(selection or Selection()).of(roots)
        self._files = self._folders = self._bytes = 0

    @property
    def totals(self) -> Totals:
        """What was counted so far."""
        return Totals(self._files, self._folders, self._bytes)

    def step(self) -> Totals | None:
        """Look at some more names; the totals when there are none left, else None. Blocks for as long as the disk."""
        ends = time.monotonic() + self._seconds
        for is_file, length in self._sizes:
            if is_file:
                self._files += 1
                self._bytes += length
            elif is_file is not None:
                self._folders += 1
            if time.monotonic() >= ends:
                return None
        return self.totals

    def close(self) -> None:
        """Let go of the folders that are open."""
        self._sizes.close()


class _Sizes:
    """Whether it is a file, and its size, for each thing that is sent, in any order; None for what is left out."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        #: Whether a regular file is sent whatever it is called, where no peer has named its root.
        self._plain = not selection.chooses
        #: Device and inode of the folders we are in, where links are followed.
        self._above: list[tuple[int, int]] = []

    def of(self, roots: Sequence[Root]) -> Generator[tuple[bool | None, int], None, None]:
        """All of `roots`."""
        for root in roots:
            with contextlib.suppress(OSError):
                if root.held is None:
                    yield from self._top(root, None, root.local)
                    continue
                fd, entry = root.held.enter()
                try:
                    yield from self._top(root, fd, entry)
                finally:
                    fds.close(fd)

    def _top(self, root: Root, parent: int | None, entry: bytes) -> Iterator[tuple[bool | None, int]]:
        status = os.stat(entry, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            yield True, status.st_size
        elif stat.S_ISDIR(status.st_mode):
            yield from self._below(entry, parent, (root.name,), len(root.name), root.held, False)

    def _below(
        self, entry: str | bytes, parent: int | None, path: Path, length: int, held: Held | None, link: bool
    ) -> Iterator[tuple[bool | None, int]]:
        """One folder and all below it; it recurses `limits.DEPTH` deep at most."""
        depth = len(path) + 1
        try:
            # What is held was followed to its end already.
            fd = os.open(entry, _FOLDER if link and held is None else _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
        except OSError:
            return
        try:
            status = os.fstat(fd)
            identity = status.st_dev, status.st_ino
            if identity in self._above and link:
                return
            self._above.append(identity)
            try:
                with os.scandir(fd) as entries:
                    yield False, 0
                    plain = held is None and self._plain
                    for child in entries:
                        name = os.fsencode(child.name)
                        try:
                            # nearly everything is a file about which nothing has to be asked but its size
                            if plain and child.is_file(follow_symlinks=False) and not reach(length, depth, name)[1]:
                                yield True, child.stat(follow_symlinks=False).st_size
                            else:
                                yield from self._one(child, fd, (*path, name), length, held)
                        except OSError:
                            continue
            finally:
                self._above.pop()
        except OSError:
            return
        finally:
            fds.close(fd)

    def _one(
        self, child: os.DirEntry[str], parent: int, path: Path, length: int, held: Held | None
    ) -> Iterator[tuple[bool | None, int]]:
        length, wrong = reach(length, len(path), path[-1])
        if wrong:
            return
        if held is not None and held.hides(path[-1], child.stat(follow_symlinks=False)):
            return
        follow = self._selection.links == "follow"
        if follow and held is not None and child.is_symlink():
            yield from self._followed(path, length, held.follow(path))
            return
        folder = child.is_dir(follow_symlinks=follow)
        if self._selection.excludes(path, folder=folder):
            yield None, 0
            return
        link = child.is_symlink()
        if folder:
            yield from self._below(child.name, parent, path, length, held, link)
        elif child.is_file(follow_symlinks=follow):
            yield True, child.stat(follow_symlinks=follow).st_size
        elif link and self._selection.links == "keep":
            target = os.fsencode(os.readlink(child.name, dir_fd=parent))
            if stays_inside(path, target):
                yield True, len(target)

    def _followed(self, path: Path, length: int, held: Held) -> Iterator[tuple[bool | None, int]]:
        """What a link in a share leads to."""
        fd, entry = held.enter()
        try:
            status = os.stat(entry, dir_fd=fd, follow_symlinks=False)
            folder = stat.S_ISDIR(status.st_mode)
            if self._selection.excludes(path, folder=folder):
                yield None, 0
            elif folder:
                yield from self._below(entry, fd, path, length, held, True)
            elif stat.S_ISREG(status.st_mode):
                yield True, status.st_size
        finally:
            fds.close(fd)
