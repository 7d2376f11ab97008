"""The receiver of a job, as a machine: manifest in, wants and results out, and effects for the disk.

Theory. The job has three states (table below); each entry has a small life of its own (`ftx.core.incoming`). A file
is LOOKING while the disk is asked what there is of it; WANTED while blocks travel; CLOSING when the sender has
closed it and the last writes and the publishing are under way. Then it has a result and is forgotten.

The machine is built in layers, from the lowest: results (`ftx.core.resolving`), the manifest and the wants
(`ftx.core.enrolling`), content (`ftx.core.arriving`), and here the table, what is said in which state, and what
goes out. Wants and results go out with `flush()`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from enum import Enum

from ftx import limits
from ftx.core.arriving import Arriving
from ftx.core.events import Conclude, Effect, GiveUp, Send
from ftx.core.incoming import Life
from ftx.core.table import Table, Trace, advance
from ftx.errors import ProtocolError
from ftx.wire.frames import Piece, Whole
from ftx.wire.messages import (
    Cancel,
    End,
    EntryEnd,
    EntryFailed,
    Manifest,
    Message,
    Offer,
    Omitted,
    Pause,
    ProgressMessage,
    Resume,
    Totals,
)

__all__ = ["RECEIVER_TABLE", "LastManifest", "Receiver", "ReceiverState"]


class ReceiverState(Enum):
    """Where the job stands, for the receiver."""

    #: Entries and content may come.
    RECEIVING = 1
    #: The last manifest frame has come; content may still come.
    FILLING = 2
    #: The sender's end has come and agrees; the receipt is being made.
    CONCLUDING = 3


class LastManifest:
    """The event that a manifest frame with `last` set is, in the table."""


_STEERING: tuple[type, ...] = (Pause, Resume, Cancel)
_CONTENT: tuple[type, ...] = (Totals, Piece, EntryFailed, EntryEnd, *_STEERING)
RECEIVER_TABLE: Table[ReceiverState] = {
    ReceiverState.RECEIVING: dict.fromkeys((*_CONTENT, Manifest, Omitted), ReceiverState.RECEIVING)
    | {LastManifest: ReceiverState.FILLING},
    ReceiverState.FILLING: dict.fromkeys(_CONTENT, ReceiverState.FILLING) | {End: ReceiverState.CONCLUDING},
    # What crosses the receipt comes too late to change anything.
    ReceiverState.CONCLUDING: dict.fromkeys(_STEERING, ReceiverState.CONCLUDING),
}


class Receiver(Arriving):
    """The receiving half of one job.

    `into` is where the offer wants its entries, below the inbox. `tops` are the names at the top that were asked for,
    in a pull: a sender that announces others breaks the protocol. Methods that take an outcome and `receive()` return
    effects in order; `flush()` gives what was gathered for sending. Every violation by the sender raises ProtocolError.
    `features` are those that both hellos listed.
    """

    def __init__(
        self,
        offer: Offer,
        now: float,
        trace: Trace | None = None,
        *,
        features: Set[str] = frozenset(),
        tops: Collection[bytes] | None = None,
    ) -> None:
        super().__init__(offer, features=features, tops=tops)
        self.state = ReceiverState.RECEIVING
        self.totals: Totals | None = None
        #: The sender sends no content for now; and we want none.
        self.paused_there = False
        self.paused_here = False
        self._trace = trace
        self._reported = (0, 0)
        self._reported_at = now

    # -- what the sender sends ---------------------------------------------------------------------------------

    def receive(self, message: Message, now: float) -> list[Effect]:
        """A message of the job from the sender."""
        event = LastManifest if isinstance(message, Manifest) and message.last else type(message)
        self.state = advance(RECEIVER_TABLE, self.state, event, self._trace)
        match message:
            case Manifest():
                return self._manifest(message)
            case EntryEnd():
                return self._entry_end(message)
            case EntryFailed():
                return self._entry_failed(message)
            case End():
                return self._end(message)
            case Totals():
                self.totals = message
            case Omitted():
                return [self._left_out(tuple(item.path), item.error) for item in message.items]
            case Pause() | Resume() | Cancel():
                return self._steered(message)
        return []

    def _steered(self, message: Pause | Resume | Cancel) -> list[Effect]:
        if message.job != self._offer.job:
            raise ProtocolError("protocol-error", "the sender spoke of another job")
        if isinstance(message, Cancel):
            return [] if self.state is ReceiverState.CONCLUDING else [GiveUp()]
        self.paused_there = isinstance(message, Pause)
        return []

    @property
    def paused(self) -> bool:
        """Whether either side wants no content to travel for now."""
        return self.paused_here or self.paused_there

    def steer(self, paused: bool) -> list[Effect]:
        """Pause or go on, from this side; nothing when it is so already, or when all has come."""
        if self.state is ReceiverState.CONCLUDING or paused is self.paused_here:
            return []
        self.paused_here = paused
        return [Send(Pause(self._offer.job) if paused else Resume(self._offer.job))]

    def farewell(self) -> Cancel:
        """What to tell the sender when the job is cancelled: the files that stay, and their content."""
        counts = self.transcript.counts
        return Cancel(self._offer.job, counts.files, counts.bytes)

    def piece(self, piece: Piece, lane: int = 0) -> list[Effect]:
        """Part of a block, on this lane of the job or (0) on its own connection."""
        if lane and self.state is ReceiverState.CONCLUDING and piece.entry in self._withdrawn:
            return []  # everything has its result, this file an error
        self.state = advance(RECEIVER_TABLE, self.state, Piece)
        return self._piece(piece, lane)

    def wholes(self, run: Sequence[Whole]) -> int:
        """How many of these small files, from the first on, are wanted and have their size: these are to be stored.

        Answer for each as for a `StoreWhole`. What follows them is for `piece()`.
        """
        self.state = advance(RECEIVER_TABLE, self.state, Piece)
        if 0 in self._open:
            return 0
        begun = {one.file.number for one in self._open.values()}  # on lanes
        files, wanted, closing = self._files, Life.WANTED, Life.CLOSING
        count = received = 0
        for whole in run:
            number, size = whole.number, len(whole.chunks[0])
            file = files.get(number)
            if file is None or file.life is not wanted or file.size != size:
                break
            if file.missing is not None or file.pipe or number in begun:
                break
            file.life = closing
            received += size
            count += 1
        self.received += received
        return count

    def _end(self, message: End) -> list[Effect]:
        counts = self.transcript.counts
        if (
            self._files
            or self._folders
            or self._links
            or self._answers.waiting
            or (message.files, message.folders, message.bytes) != (counts.files, counts.folders, counts.bytes)
            or message.transcript != self.transcript.digest()
        ):
            raise ProtocolError("protocol-error", "the sender's account of the job differs from ours")
        return [Conclude()]

    # -- what goes out -----------------------------------------------------------------------------------------

    def flush(self, now: float) -> list[Effect]:
        """Everything gathered for sending: wants, results, and progress when it is due. Call it after each turn."""
        effects: list[Effect] = [Send(message) for message in self._answers.take()]
        if self.state is not ReceiverState.CONCLUDING:
            effects += self._progress(now)
        return effects

    def tick(self, now: float) -> list[Effect]:
        """Call it at least every `PROGRESS_FASTEST` seconds while the job runs: syncs that are due, progress."""
        effects: list[Effect] = []
        for file in self._files.values():
            if file.missing is not None and file.life is Life.WANTED:
                effects += self._sync_if_due(file, now)
        return effects + self.flush(now)

    def _progress(self, now: float) -> list[Effect]:
        figures = (self.verified, self.durable)
        waited = now - self._reported_at
        pending = self.verified > self.durable or bool(self._files)
        if waited < limits.PROGRESS_FASTEST or (figures == self._reported and waited < limits.PROGRESS_SLOWEST):
            return []
        if figures == self._reported and not pending:
            return []
        self._reported, self._reported_at = figures, now
        syncing = self.verified > self.durable and not any(f.life is Life.WANTED for f in self._files.values())
        return [Send(ProgressMessage(max(self.verified, 0), max(self.durable, 0), 1 if syncing else 0))]
