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

    __slots__ = ("_chunks", "_length")

    def __init__(self) -> None:
        self._chunks: deque[memoryview] = deque()
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
                chunks[-1] = memoryview(b"".join((chunks[-1], data)))
            elif size:
                chunks.append(memoryview(data))
            self._length += size

    def take(self, count: int) -> bytes | None:
        """The next `count` bytes, or None (and nothing taken) while fewer are there."""
        if count > self._length:
            return None
        if count == 0:
            return b""
        first = self._chunks[0]
        if len(first) >= count:
            self._length -= count
            if len(first) == count:
                self._chunks.popleft()
            else:
                self._chunks[0] = first[count:]
            return bytes(first[:count])
        return b"".join(self.take_views(count))

    def take_views(self, limit: int) -> list[memoryview]:
        """As many of the next bytes as there are, at most `limit`, as views of the chunks they came in."""
        views: list[memoryview] = []
        while limit > 0 and self._chunks:
            first = self._chunks[0]
            if len(first) <= limit:
                views.append(self._chunks.popleft())
                taken = len(first)
            else:
                views.append(first[:limit])
                self._chunks[0] = first[limit:]
                taken = limit
            limit -= taken
            self._length -= taken
        return views

    def peek(self, count: int) -> bytes | memoryview | None:
        """At least the next `count` bytes, or None while fewer are there; nothing is taken, and no chunk is joined."""
        if count > self._length:
            return None
        first = self._chunks[0]
        if len(first) >= count:
            return first
        head = b""
        for chunk in self._chunks:
            head += chunk[: count - len(head)]
            if len(head) == count:
                break
        return head

    def front(self, count: int) -> memoryview | None:
        """The first chunk, joined with the next ones until it has `count` bytes; nothing is taken. None: too few."""
        if count > self._length:
            return None
        first = self._chunks[0]
        if len(first) < count:
            parts, size = [], 0
            while size < count:
                parts.append(self._chunks.popleft())
                size += len(parts[-1])
            first = memoryview(b"".join(parts))
            self._chunks.appendleft(first)
        return first

    def skip(self, count: int) -> None:
        """Forget `count` bytes, at most those of the first chunk."""
        if count:
            first = self._chunks[0]
            if count < len(first):
                self._chunks[0] = first[count:]
            else:
                self._chunks.popleft()
            self._length -= count

    def clear(self) -> None:
        """Forget everything."""
        self._chunks.clear()
        self._length = 0
