"""What is in a share, for whoever asks: items in order, a frame at a time, in bounded memory whatever there is."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from typing import Final

import attrs

from ftx import limits
from ftx.disk import fds
from ftx.disk.held import Held
from ftx.disk.listing import sorted_names
from ftx.disk.store import Path
from ftx.disk.walk import reach, wire_time
from ftx.errors import kind
from ftx.wire.messages import Item, ItemKind

__all__ = ["Shown"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RIGHTS: Final = 0o777
_UNREADABLE: Final = kind("source-unreadable").number


@attrs.define(eq=False)
class _Open:
    """A folder on the way down."""

    path: Path
    length: int
    fd: int
    names: Iterator[bytes]


class Shown:
    """The items of one listing. All methods block; calls must not overlap. `close()` follows in any case."""

    def __init__(self, held: Held, deep: bool) -> None:
        self._held = held
        self._deep = deep
        self._stack: list[_Open] = []
        self._items = self._all()
        self._next: Item | None = None

    def frame(self) -> list[Item]:
        """As many items as fit a frame; none at the end. OSError when the place itself cannot be read."""
        found: list[Item] = []
        size = 0
        while len(found) < limits.BATCH:
            item = self._next or next(self._items, None)
            self._next = None
            if item is None:
                break
            size += 64 + sum(map(len, item.path)) + 3 * len(item.path)
            if size > limits.FRAME_BATCH - 256 and found:
                self._next = item
                break
            found.append(item)
        return found

    def close(self) -> None:
        """Let go of the folders that are open."""
        self._items.close()

    def _all(self) -> Generator[Item, None, None]:
        fd, entry = self._held.enter()
        try:
            status = os.stat(entry, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                yield _item((), status)
                return
            top = os.open(entry, _FOLDER, dir_fd=fd)
        finally:
            fds.close(fd)
        self._push((), 0, top)
        try:
            while self._stack:
                folder = self._stack[-1]
                name = next(folder.names, None)
                if name is None:
                    fds.close(self._stack.pop().fd)
                else:
                    yield from self._one(folder, name)
        finally:
            for folder in self._stack:
                fds.close(folder.fd)

    def _push(self, path: Path, length: int, fd: int) -> None:
        try:
            self._stack.append(_Open(path, length, fd, sorted_names(fd)))
        except BaseException:
            fds.close(fd)
            raise

    def _one(self, folder: _Open, name: bytes) -> Iterator[Item]:
        path = (*folder.path, name)
        length, wrong = reach(folder.length, len(path), name)
        if wrong:  # deeper or longer than the protocol can say
            return
        try:
            status = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
        except OSError:  # gone meanwhile
            return
        if self._held.hides(name, status):
            return
        error = 0
        if self._deep and stat.S_ISDIR(status.st_mode):
            try:
                self._push(path, length, os.open(name, _FOLDER, dir_fd=folder.fd))
            except OSError:
                error = _UNREADABLE
        yield _item(path, status, error)


def _item(path: Path, status: os.stat_result, error: int = 0) -> Item:
    mode = status.st_mode
    regular = stat.S_ISREG(mode)
    what = (
        ItemKind.FILE
        if regular
        else ItemKind.FOLDER
        if stat.S_ISDIR(mode)
        else ItemKind.LINK
        if stat.S_ISLNK(mode)
        else ItemKind.OTHER
    )
    size = status.st_size if regular else 0
    return Item(what, list(path), size, wire_time(status.st_mtime_ns), mode & _RIGHTS, error)
