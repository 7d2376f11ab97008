"""The order of a manifest, checked in memory that does not grow with it (`docs/protocol.md`, section 5).

Depth first, names rising strictly in byte order within a folder, each folder closed after its entries. Under this rule
duplicates, a file that is also a folder, and children before their folder are all simply out of order. Symlinks follow
all of it, in a second pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from operator import lt, ne

import attrs

from ftx.errors import ProtocolError
from ftx.wire.messages import FileEntry

__all__ = ["ManifestOrder"]


@attrs.define
class _Open:
    number: int
    path: tuple[bytes, ...]
    #: The same, as entries have it.
    above: list[bytes]
    last: bytes = b""


class ManifestOrder:
    """Feed it every entry; it raises ProtocolError `bad-message` at the first one out of order."""

    def __init__(self) -> None:
        self._stack: list[_Open] = [_Open(-1, (), [])]
        self._next = 0
        #: The last symlink; no file or folder may follow one.
        self._link: tuple[bytes, ...] = ()

    @property
    def open_folder(self) -> int:
        """Number of the innermost open folder, or -1 at the top."""
        return self._stack[-1].number

    @property
    def complete(self) -> bool:
        """Whether every folder is closed."""
        return len(self._stack) == 1

    def entry(self, number: int, path: Sequence[bytes], *, folder: bool) -> tuple[bytes, ...]:
        """A file or folder entry; gives its path as a tuple that shares its folder's components."""
        here = self._stack[-1]
        if self._link:
            raise ProtocolError("bad-message", "a manifest entry followed a symlink")
        if number != self._next:
            raise ProtocolError("bad-message", "manifest entries were not numbered in order")
        *above, name = path
        if above != here.above:
            raise ProtocolError("bad-message", "a manifest entry was outside the open folder")
        if name <= here.last:
            raise ProtocolError("bad-message", "manifest names did not rise")
        here.last = name
        self._next += 1
        whole = (*here.path, name)
        if folder:
            self._stack.append(_Open(number, whole, [*above, name]))
        return whole

    def files(self, entries: Sequence[FileEntry]) -> list[tuple[bytes, ...]]:
        """File entries that follow each other, at least one: what `entry()` says of each, asked of all at once."""
        here, count = self._stack[-1], len(entries)
        if self._link:
            raise ProtocolError("bad-message", "a manifest entry followed a symlink")
        if [entry.number for entry in entries] != list(range(self._next, self._next + count)):
            raise ProtocolError("bad-message", "manifest entries were not numbered in order")
        try:
            *above, names = zip(*[entry.path for entry in entries], strict=True)
        except ValueError as error:
            raise ProtocolError("bad-message", "manifest entries of one folder were not equally deep") from error
        if len(above) != len(here.above) or any(map(ne, map(tuple.count, above, here.above), repeat(count))):
            raise ProtocolError("bad-message", "a manifest entry was outside the open folder")
        if not all(map(lt, [here.last, *names], names)):
            raise ProtocolError("bad-message", "manifest names did not rise")
        here.last = names[-1]
        self._next += count
        return list(zip(*map(repeat, here.path), names, strict=False))

    def folder_end(self, number: int) -> None:
        """The end of the innermost folder."""
        if len(self._stack) == 1 or self._stack[-1].number != number:
            raise ProtocolError("bad-message", "a folder ended that was not the innermost open one")
        self._stack.pop()

    def symlink(self, number: int, path: Sequence[bytes]) -> tuple[bytes, ...]:
        """A symlink entry: behind everything else, in an order of its own."""
        whole = tuple(path)
        if number != self._next:
            raise ProtocolError("bad-message", "manifest entries were not numbered in order")
        if not self.complete or whole <= self._link:
            raise ProtocolError("bad-message", "a symlink was out of order")
        self._link = whole
        self._next += 1
        return whole
