"""Room: how much received content may be in memory over all jobs together, and whose turn it is when it is short.

Theory. What a job needs is one number: the bytes that wait for its disk, and the whole of the block that is coming for
it. A block is given its room when it begins, so whoever was let in can complete it: nobody holds half a block and waits
for the other half, and the room comes back as fast as the senders and the disk are. Whoever finds none waits, keeps the
little that came with the beginning, and is not read meanwhile.

Those who wait take turns: one key after the other, and within a key first come, first served. Nobody overtakes whose
turn it is, however much that one needs. A key that has its share of the room is passed over, so that one peer with many
connections leaves room for all others. Who has nothing may always have what it needs while nobody else has anything.

Whoever fills its room slowly would keep others out with it. So while somebody waits, one whose content came at less
than a block in `limits.ROOM_TIME` seconds has to go (`Pace`), and so has one with a lane on which a block has begun and
nothing more came in that time; it may come back, and then takes its turn again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

import attrs

from ftx import limits

__all__ = ["Pace", "Room"]

K = TypeVar("K", bound=Hashable)


class Room(Generic[K]):
    """The room of one daemon, in bytes. Whoever needs some is any hashable thing, and belongs to a key."""

    def __init__(self, total: int = limits.RECEIVE_TOTAL, share: int = limits.RECEIVE_SHARE) -> None:
        """`share` is what those of one key may have together."""
        #: How much is taken.
        self.taken = 0
        self._total = total
        self._share = share
        self._has: dict[K, int] = {}
        self._keys: Counter[bytes] = Counter()
        #: Who waits for how much, in their order; the key whose turn it is comes first.
        self._waiting: dict[bytes, dict[K, int]] = {}

    @property
    def wanted(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    @property
    def scarce(self) -> bool:
        """Whether it may soon be too little: more than half is taken, or somebody waits."""
        return self.taken * 2 > self._total or bool(self._waiting)

    def waits(self, who: K, key: bytes) -> bool:
        """Whether `who` needs more than it has."""
        return who in self._waiting.get(key, ())

    def has(self, who: K) -> int:
        """How many bytes `who` has."""
        return self._has.get(who, 0)

    def need(self, who: K, key: bytes, size: int) -> list[K]:
        """`who` needs `size` bytes in all from now on, 0 for nothing. Returns whose waiting has ended by that."""
        waiting = self._waiting.get(key)
        waited = waiting is not None and who in waiting
        if size > self._has.get(who, 0):
            if not self._waiting and self._fits(who, key, size):
                self._give(who, key, size)
                return []
            self._waiting.setdefault(key, {})[who] = size  # which keeps the place of one that waited
            served = self._serve()
            return served if waited else [one for one in served if one is not who]
        if waiting is not None and waited:
            del waiting[who]
            if not waiting:
                del self._waiting[key]
        self._give(who, key, size)
        served = self._serve()
        return [who, *served] if waited else served

    # -- within --------------------------------------------------------------------------------------------

    def _serve(self) -> list[K]:
        """Give to those whose turn it is as long as there is enough; returns them."""
        served: list[K] = []
        turn = self._next()
        while turn is not None:
            key, who, size = turn
            waiting = self._waiting.pop(key)
            del waiting[who]
            if waiting:
                self._waiting[key] = waiting  # behind the other keys
            self._give(who, key, size)
            served.append(who)
            turn = self._next()
        return served

    def _next(self) -> tuple[bytes, K, int] | None:
        """Who is to have how much now: the first whose key has not got its share, if there is enough for it."""
        for key, waiting in self._waiting.items():
            who, size = next(iter(waiting.items()))
            if self._within_share(who, key, size):
                return (key, who, size) if self._fits(who, key, size) else None
        return None

    def _within_share(self, who: K, key: bytes, size: int) -> bool:
        has = self._has.get(who, 0)
        return self._keys[key] == has or self._keys[key] - has + size <= self._share

    def _fits(self, who: K, key: bytes, size: int) -> bool:
        has = self._has.get(who, 0)
        enough = self.taken == has or self.taken - has + size <= self._total
        return enough and self._within_share(who, key, size)

    def _give(self, who: K, key: bytes, size: int) -> None:
        more = size - self._has.get(who, 0)
        self.taken += more
        self._keys[key] += more
        if size:
            self._has[who] = size
        else:
            self._has.pop(who, None)
            if not self._keys[key]:
                del self._keys[key]


@attrs.define
class Pace:
    """How fast content comes for one job while it has room: whether that was too slow."""

    #: Since when, and how much had come by then; None while nothing is expected.
    _since: float | None = None
    _then: int = 0
    #: What is there of the block on each lane, and since when it is no more.
    _lanes: dict[int, tuple[Hashable, float]] = attrs.field(factory=dict)

    def rest(self) -> None:
        """Nothing is expected for now, or it is we who hold it up."""
        self._since = None
        self._lanes = {}

    def too_slow(self, received: int, blocks: Mapping[int, Hashable], now: float) -> bool:
        """Whether less than a block came in `limits.ROOM_TIME`, or nothing of one of those that are coming.

        `received` is all that has come by `now`; `blocks` says for each lane what is there of the block on it.
        """
        if self._since is None or received - self._then >= limits.BLOCK:
            self._since, self._then = now, received
        before = self._lanes
        self._lanes = {
            lane: before[lane] if lane in before and before[lane][0] == there else (there, now)
            for lane, there in blocks.items()
        }
        return now - min([self._since, *[since for _, since in self._lanes.values()]]) >= limits.ROOM_TIME
