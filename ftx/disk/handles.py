"""Open things, kept open while they are in use and a bounded number of them beyond that."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Generic, TypeVar

__all__ = ["HandleCache", "Slot"]

K = TypeVar("K", bound=Hashable)
H = TypeVar("H")


class Slot(Generic[K, H]):
    """A place in the cache. `handle` may be used between `take()` and `give_back()`."""

    __slots__ = ("busy", "handle", "key", "users")

    handle: H

    def __init__(self, key: K) -> None:
        self.key = key
        self.users = 1
        #: Being opened or closed: nobody else may touch it.
        self.busy = True


class HandleCache(Generic[K, H]):
    """At most `limit` handles that nobody uses, least recently used closed first. Thread-safe.

    `open_handle(key)` makes a handle (what it raises reaches the caller), `close_handle(handle)` ends it and must
    not raise. Both run outside the lock, so they may block; nobody opens a key while it is being closed or opened.
    """

    def __init__(self, limit: int, open_handle: Callable[[K], H], close_handle: Callable[[H], None]) -> None:
        self._limit = limit
        self._open = open_handle
        self._close = close_handle
        self._slots: OrderedDict[K, Slot[K, H]] = OrderedDict()
        self._changed = threading.Condition(threading.Lock())

    @contextmanager
    def use(self, key: K) -> Iterator[H]:
        """The handle of `key`, opened if need be, and not closed before the block ends."""
        slot = self.take(key)
        try:
            yield slot.handle
        finally:
            self.give_back(slot)

    def take(self, key: K) -> Slot[K, H]:
        """The slot of `key`, opened if need be; `give_back()` it."""
        with self._changed:
            while (slot := self._slots.get(key)) is not None:
                if not slot.busy:
                    slot.users += 1
                    self._slots.move_to_end(key)
                    return slot
                self._changed.wait()
            slot = self._slots[key] = Slot(key)
        try:
            slot.handle = self._open(key)
        except BaseException:
            self._forget([slot])
            raise
        with self._changed:
            slot.busy = False
            self._changed.notify_all()
        return slot

    def give_back(self, slot: Slot[K, H]) -> None:
        """End the use that `take()` began; handles beyond the limit are closed."""
        surplus: list[Slot[K, H]] = []
        with self._changed:
            slot.users -= 1
            excess = len(self._slots) - self._limit
            if excess > 0:
                free = (slot for slot in self._slots.values() if not slot.users and not slot.busy)
                surplus = list(islice(free, excess))
                for old in surplus:
                    old.busy = True
        self._end(surplus)

    def drop(self, key: K) -> H | None:
        """Forget `key` without closing its handle, which is returned if there is one; nobody may be using it."""
        with self._changed:
            while (slot := self._slots.get(key)) is not None and slot.busy:
                self._changed.wait()
            if slot is None:
                return None
            del self._slots[key]
            return slot.handle

    def close(self) -> None:
        """Close all; nobody may be using any."""
        with self._changed:
            while any(slot.busy for slot in self._slots.values()):
                self._changed.wait()
            slots = list(self._slots.values())
            for slot in slots:
                slot.busy = True
        self._end(slots)

    def _end(self, slots: list[Slot[K, H]]) -> None:
        for slot in slots:
            self._close(slot.handle)
        if slots:
            self._forget(slots)

    def _forget(self, slots: list[Slot[K, H]]) -> None:
        with self._changed:
            for slot in slots:
                del self._slots[slot.key]
            self._changed.notify_all()
