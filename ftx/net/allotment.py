"""The part of the daemon's memory that one receiving job has: what it needs, told to `ftx.core.room`, and the reading
that goes on or stops by the answer.

Once for each read from the network, and each time that the disk has taken something, it is added up what the job needs.
That costs nothing for each record, and next to nothing for each block.
"""

from __future__ import annotations

from collections.abc import Callable

from ftx import limits
from ftx.core.arriving import Coming
from ftx.core.room import Pace, Room
from ftx.errors import FtxError
from ftx.net.backlog import Backlog
from ftx.net.bundle import Bundle

__all__ = ["Allotment", "Shared"]


class Allotment:
    """What one job on the connections of `bundle`, with a peer of this `key`, has of `room`.

    `coming` gives the blocks under way, by lane. When there is no room for one of them, those that have theirs are read
    on, and nothing else: whoever holds half a block never waits for the other half.
    """

    def __init__(
        self, room: Shared, key: bytes, bundle: Bundle, backlog: Backlog, coming: Callable[[], dict[int, Coming]]
    ) -> None:
        #: Whether something of the job is not read because others have the room.
        self.waits = False
        self._room = room
        self._key = key
        self._bundle = bundle
        self._backlog = backlog
        self._coming = coming
        self._needed = 0
        #: The blocks that have their room, by lane.
        self._let: dict[int, Coming] = {}
        self._pace = Pace()
        bundle.read_at_once(limits.READ_SIZE)

    def review(self) -> None:
        """Something came, or the disk has taken something: see what that needs."""
        coming = self._coming()
        needed = self._backlog.held + sum([block.size for block in coming.values()])
        if needed != self._needed:
            self._need(needed)
        if self.waits:
            self._let_some(coming)
        else:
            self._let = coming

    def tick(self, received: int, now: float) -> None:
        """FtxError `busy` when others wait for what this job is too slow to fill; `received` is what has come of it.

        The same with one that has a block on a lane which does not get on, however fast others of it come.
        """
        if not self._let or not self._room.wanted or self._bundle.read_slowly:
            self._pace.rest()
        elif self._pace.too_slow(received, self._let, now):
            raise FtxError("busy", "others wait for the memory that a block which comes too slowly takes")

    def close(self) -> None:
        """The job has nothing in memory any more."""
        self._let = {}
        self._need(0)

    def _need(self, needed: int) -> None:
        self._needed = needed
        for one in self._room.need(self, self._key, needed):
            one._go_on()
        self.waits = self._room.waits(self, self._key)
        # While there is plenty, large reads are cheaper; but a read is what one that has to wait has beyond its room.
        self._bundle.read_at_once(limits.READ_SIZE if self._room.scarce else limits.READ_SIZE_SIGNED_IN)

    def _let_some(self, coming: dict[int, Coming]) -> None:
        """There is no room for all that is coming: what has begun in its room stays, and others as far as they fit."""
        let = {lane: block for lane, block in coming.items() if lane in self._let and block[:2] == self._let[lane][:2]}
        free = self._room.has(self) - self._backlog.held - sum([block.size for block in let.values()])
        for lane, block in coming.items():
            if lane not in let and block.size <= free:
                let[lane] = block
                free -= block.size
        self._let = let
        self._bundle.read_only(let)

    def _go_on(self) -> None:
        """There is room for all of it."""
        self.waits = False
        self._let = self._coming()
        self._bundle.read_only(None)


#: The room of a daemon, as its jobs have it.
Shared = Room[Allotment]
