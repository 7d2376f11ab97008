"""How much there is to send: a walk that keeps nothing, ahead of the one that sends."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

from ftx.core.links import stays_inside
from ftx.disk.held import Held
from ftx.disk.roots import Root
from ftx.disk.selection import Selection
from ftx.disk.walk import reach

__all__ = ["Totals", "count"]

Path = tuple[bytes, ...]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: How many names are looked at between two questions whether to go on.
_ASK_EVERY: Final = 1024


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
    files = folders = size = 0
    for step, (is_file, length) in enumerate(_Sizes(selection or Selection()).of(roots)):
        if is_file:
            files += 1
            size += length
        else:
            folders += 1
        if step % _ASK_EVERY == 0 and stopped():
            break
    return Totals(files, folders, size)


class _Sizes:
    """Whether it is a file, and its size, for each thing that is sent, in any order."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        #: Device and inode of the folders we are in, where links are followed.
        self._above: list[tuple[int, int]] = []
        self._held: Held | None = None

    def of(self, roots: Sequence[Root]) -> Iterator[tuple[bool, int]]:
        """All of `roots`."""
        for root in roots:
            self._held = root.held
            with contextlib.suppress(OSError):
                if root.held is None:
                    yield from self._top(root, None, root.local)
                    continue
                fd, entry = root.held.enter()
                try:
                    yield from self._top(root, fd, entry)
                finally:
                    os.close(fd)

    def _top(self, root: Root, parent: int | None, entry: bytes) -> Iterator[tuple[bool, int]]:
        status = os.stat(entry, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            yield True, status.st_size
        elif stat.S_ISDIR(status.st_mode):
            yield from self._below(entry, parent, (root.name,), len(root.name), False)

    def _below(
        self, entry: str | bytes, parent: int | None, path: Path, length: int, link: bool
    ) -> Iterator[tuple[bool, int]]:
        """One folder and all below it; it recurses `limits.DEPTH` deep at most."""
        try:
            fd = os.open(entry, _FOLDER if link else _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
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
                    for child in entries:
                        with contextlib.suppress(OSError):
                            yield from self._one(child, fd, (*path, os.fsencode(child.name)), length)
            finally:
                self._above.pop()
        except OSError:
            return
        finally:
            os.close(fd)

    def _one(self, child: os.DirEntry[str], parent: int, path: Path, length: int) -> Iterator[tuple[bool, int]]:
        length, wrong = reach(length, len(path), path[-1])
        if wrong:
            return
        follow = self._selection.links == "follow"
        folder = child.is_dir(follow_symlinks=follow)
        if self._selection.excludes(path, folder=folder):
            return
        if self._held is not None and self._held.hides(path[-1], child.stat(follow_symlinks=False)):
            return
        link = child.is_symlink()
        if folder:
            yield from self._below(child.name, parent, path, length, link)
        elif child.is_file(follow_symlinks=follow):
            yield True, child.stat(follow_symlinks=follow).st_size
        elif link and self._selection.links == "keep":
            target = os.fsencode(os.readlink(child.name, dir_fd=parent))
            if stays_inside(path, target):
                yield True, len(target)
