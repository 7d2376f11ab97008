"""The part of the daemon's memory that one receiving job has: what it needs, told to `ftx.core.room`, and the reading
that goes on or stops by the answer.

Once for each read from the network, and each time that the disk has taken something, it is added up what the job needs.
That costs nothing for each record, and next to nothing for each block.
"""

from __future__ import annotations

from collections.abc import Callable

from ftx import limits
from ftx.core.room import Pace, Room
from ftx.errors import FtxError
from ftx.net.backlog import Backlog
from ftx.net.bundle import Bundle

__all__ = ["Allotment", "Shared"]


class Allotment:
    """What one job on the connections of `bundle`, with a peer of this `key`, has of `room`.

    `coming` gives the bytes of the blocks under way, all of them, and 0 when there is none.
    """

    def __init__(
        self, room: Shared, key: bytes, bundle: Bundle, backlog: Backlog, coming: Callable[[], int]
    ) -> None:
        #: Whether the job is not read because others have the room.
        self.waits = False
        self._room = room
        self._key = key
        self._bundle = bundle
        self._backlog = backlog
        self._coming = coming
        self._needed = 0
        self._pace = Pace()
        bundle.read_at_once(limits.READ_SIZE)

    def review(self) -> None:
        """Something came, or the disk has taken something: see what that needs."""
        needed = self._backlog.held + self._coming()
        if needed != self._needed:
            self._need(needed)

    def tick(self, received: int, now: float) -> None:
        """FtxError `busy` when others wait for what this job is too slow to fill; `received` is what has come of it."""
        mine = self._coming() and not self._bundle.read_slowly
        if not mine or not self._room.wanted:
            self._pace.rest()
        elif self._pace.too_slow(received, now):
            raise FtxError("busy", "others wait for the memory that a block which comes too slowly takes")

    def close(self) -> None:
        """The job has nothing in memory any more."""
        self._need(0)

    def _need(self, needed: int) -> None:
        self._needed = needed
        for one in self._room.need(self, self._key, needed):
            one._go_on()
        self._wait(self._room.waits(self, self._key))
        # While there is plenty, large reads are cheaper; but a read is what one that has to wait has beyond its room.
        self._bundle.read_at_once(limits.READ_SIZE if self._room.scarce else limits.READ_SIZE_SIGNED_IN)

    def _go_on(self) -> None:
        self._wait(False)

    def _wait(self, waits: bool) -> None:
        if waits is not self.waits:
            self.waits = waits
            self._backlog.stop_reading("room", waits)


#: The room of a daemon, as its jobs have it.
Shared = Room[Allotment]
