"""The receive buffer: bytes arrive in any pieces and are taken out whole, without being joined more than once.

Appended chunks are kept as they came, but for very small ones, which are joined with their neighbours: a peer that
sends single bytes is not to make us keep a hundred times as much. `take()` copies only what it returns; `take_views()`
copies nothing. There is no bound here, because the reader (`ftx.wire.frames`) never leaves more than one incomplete
frame in the buffer besides what came behind it in the same read, and it bounds those before it waits for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ftx import limits

__all__ = ["ReceiveBuffer"]


class ReceiveBuffer:
    """A queue of byte chunks. `len()` is the number of bytes in it."""

    __slots__ = ("_at", "_chunks", "_length")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        #: Where in the first chunk the next byte is.
        self._at = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, data: bytes) -> None:
        """Add `data` at the end; it is kept by reference and must not change."""
        self.extend((data,))

    def extend(self, parts: Iterable[bytes]) -> None:
        """Add each of `parts` at the end, by reference. What came in small parts is joined, or they would be many."""
        chunks = self._chunks
        for data in parts:
            size = len(data)
            if size < limits.JOINED and chunks and len(chunks[-1]) + size <= limits.JOINED:
                chunks[-1] += data
            elif size:
                chunks.append(data)
            self._length += size

    def take(self, count: int) -> bytes | None:
        """The next `count` bytes, or None (and nothing taken) while fewer are there."""
        if count > self._length:
            return None
        if count == 0:
            return b""
        first, at = self.first()
        if len(first) - at < count:
            return b"".join(self.take_views(count))
        self.skip(count)
        return first[at : at + count]

    def take_views(self, limit: int) -> list[memoryview]:
        """As many of the next bytes as there are, at most `limit`, as views of the chunks they came in."""
        views: list[memoryview] = []
        while limit > 0 and self._chunks:
            first, at = self.first()
            view = memoryview(first)[at : at + limit]
            views.append(view)
            limit -= len(view)
            self.skip(len(view))
        return views

    def peek(self, count: int) -> bytes | None:
        """The next `count` bytes, or None while fewer are there; nothing is taken, and no chunk is joined."""
        if count > self._length:
            return None
        head = b""
        at = self._at
        for chunk in self._chunks:
            head += chunk[at : at + count - len(head)]
            at = 0
            if len(head) == count:
                break
        return head

    def first(self) -> tuple[bytes, int]:
        """The first chunk, as it came, and where in it the next byte is; empty when there is none."""
        return (self._chunks[0], self._at) if self._chunks else (b"", 0)

    def skip(self, count: int) -> None:
        """Forget `count` bytes, at most those of the first chunk."""
        if count:
            self._at += count
            self._length -= count
            if self._at == len(self._chunks[0]):
                self._chunks.popleft()
                self._at = 0

    def clear(self) -> None:
        """Forget everything."""
        self._chunks.clear()
        self._at = self._length = 0
