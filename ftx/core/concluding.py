"""The end of a job, for the sender: its account of what became of everything, and the receipt that has to agree.

Theory. The sender is one machine in layers, each a class of its own that knows those below it: this one has the
table, the entries without a result and the account; `ftx.core.announcing` puts entries in; `ftx.core.supplying`
sends what is asked for; `ftx.core.sender` takes results and hands out what the receiver says.

The sender keeps the same transcript as the receiver and sends `end` when every entry has its result.
"""

from __future__ import annotations

from collections.abc import Set
from enum import Enum

from ftx.core.departing import Departing
from ftx.core.events import Effect, Send, VerifyReceipt
from ftx.core.receipt import Transcript
from ftx.core.table import Table, Trace, advance
from ftx.errors import ProtocolError
from ftx.wire.messages import (
    Accept,
    Basis,
    Cancel,
    End,
    Needs,
    Offer,
    Pause,
    ProgressMessage,
    Receipt,
    Refuse,
    Results,
    Resume,
    Totals,
    Waiting,
    decode_receipt_body,
)

__all__ = ["SENDER_TABLE", "Concluded", "Concluding", "SenderState"]


class SenderState(Enum):
    """Where the job stands, for the sender."""

    #: Offered; the receiver is thinking.
    OFFERED = 1
    #: Somebody at the receiver's end is being asked.
    WAITING = 5
    #: Accepted: entries and content go out.
    STREAMING = 2
    #: `end` is out; the receipt is awaited.
    ENDING = 3
    #: The receipt came, or the offer was refused.
    DONE = 4


def _each(state: SenderState, *events: type) -> dict[type, SenderState]:
    return dict.fromkeys(events, state)


SENDER_TABLE: Table[SenderState] = {
    SenderState.OFFERED: {
        Waiting: SenderState.WAITING,
        Accept: SenderState.STREAMING,
        Refuse: SenderState.DONE,
        Receipt: SenderState.DONE,
    },
    SenderState.WAITING: {
        Waiting: SenderState.WAITING,
        Accept: SenderState.STREAMING,
        Refuse: SenderState.DONE,
    },
    SenderState.STREAMING: _each(SenderState.STREAMING, Basis, Needs, Results, ProgressMessage, Pause, Resume)
    | {End: SenderState.ENDING, Cancel: SenderState.DONE},
    SenderState.ENDING: _each(SenderState.ENDING, ProgressMessage, Pause, Resume)
    | {Receipt: SenderState.DONE, Cancel: SenderState.DONE},
}


#: The account and the terms of a job whose `end` was sent.
Concluded = tuple[Transcript, Accept]


class Concluding:
    """The lowest layer of a sender: where the job stands, its entries, its account."""

    def __init__(
        self,
        offer: Offer,
        concluded: Concluded | None = None,
        trace: Trace | None = None,
        *,
        features: Set[str] = frozenset(),
    ) -> None:
        """`concluded` is that of the machine that tried the same job before, if it got that far.

        `features` are those that both hellos listed.
        """
        self.state = SenderState.OFFERED
        self._concluded = concluded
        self.offer = offer
        self._features = features
        self.transcript = Transcript()
        self.accepted: Accept | None = None
        #: Content bytes that need not travel: identical files, and blocks that the receiver holds.
        self.present = 0
        #: What the receiver confirmed last.
        self.progress = ProgressMessage(0, 0, 0)
        self.totals: Totals | None = None
        #: Set when a finished job was answered with its receipt at once.
        self.repeated = False
        #: The receiver wants no content for now; and we send none.
        self.paused_there = False
        self.paused_here = False
        #: What the receiver keeps of a job that was cancelled: files and content bytes.
        self.kept: Cancel | None = None
        self._trace = trace
        self._entries: dict[int, Departing] = {}
        #: The last manifest frame is out.
        self._last_sent = False

    @property
    def paused(self) -> bool:
        """Whether either side wants no content to travel for now."""
        return self.paused_here or self.paused_there

    def _check_job(self, job: bytes) -> None:
        if job != self.offer.job:
            raise ProtocolError("protocol-error", "the receiver spoke of another job")

    @property
    def concluded(self) -> Concluded | None:
        """Once `end` is out: what a receipt has to agree with, on this connection or on a later one."""
        if self.state in (SenderState.ENDING, SenderState.DONE) and self.accepted is not None:
            return self.transcript, self.accepted
        return self._concluded

    def receipt_verified(self) -> None:
        """The signature under the receipt is right: what it counts is verified and on disk, reported or not."""
        self.state = SenderState.DONE
        signed = max(self.progress.verified, self.transcript.counts.bytes)
        self.progress = ProgressMessage(signed, signed, 0)

    # -- within ------------------------------------------------------------------------------------------------

    def _forget(self, entry: Departing) -> list[Effect]:
        del self._entries[entry.number]
        return self._end_if_complete()

    def _end_if_complete(self) -> list[Effect]:
        if self._entries or not self._last_sent or self.state is not SenderState.STREAMING:
            return []
        counts = self.transcript.counts
        self.state = advance(SENDER_TABLE, self.state, End, self._trace)
        return [Send(End(counts.files, counts.folders, counts.bytes, self.transcript.digest()))]

    def _receipt(self, message: Receipt) -> list[Effect]:
        body = decode_receipt_body(message.body)
        if body.job != self.offer.job:
            raise ProtocolError("protocol-error", "a receipt came for another job")
        if self.accepted is None:
            # Only a job whose end went out before can be answered like this, and only with that end's account.
            if self._concluded is None:
                raise ProtocolError("protocol-error", "a receipt came before anything was sent")
            self.transcript, self.accepted = self._concluded
            self.repeated = True
        counts = self.transcript.counts
        if (
            body.durability != self.accepted.durability
            or (body.files, body.identical, body.skipped) != (counts.files, counts.identical, counts.skipped)
            or (body.folders, body.failed, body.bytes) != (counts.folders, counts.failed, counts.bytes)
            or body.transcript != self.transcript.digest()
        ):
            raise ProtocolError("protocol-error", "the receipt differs from our own account of the job")
        return [VerifyReceipt(message.body, message.signature)]
