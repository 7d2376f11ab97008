"""Offers that wait for a person: who asks, what the person is shown, and what came of it.

    ask(...) --> waiting, reveal, waiting; totals --> shown --> approve / deny / nobody answers

An offer is shown when its totals and its comparison phrase are known (`docs/protocol.md`, section 18); until then and
afterwards it costs one entry of a bounded table. It ends by an answer, by its time, or with its connection. What was
decided, and which user decided it, is in the log.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from math import ceil
from typing import Any, Final

import attrs
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ftx import limits
from ftx.core.approval import NONCE, Asker
from ftx.core.identity import format_id, same
from ftx.core.stages import APPROVAL
from ftx.core.trust import Trusted, source_of
from ftx.daemon.deciding import who_is
from ftx.daemon.events import EventStream
from ftx.daemon.shown import Shown
from ftx.daemon.view import JobInfo, OfferInfo
from ftx.errors import FtxError, ProtocolError
from ftx.net.parties import Talk
from ftx.net.transfer import Connection
from ftx.text import path_text, plural, show, size
from ftx.wire import events
from ftx.wire.messages import Message, Offer, Reveal, Totals

__all__ = ["Approvals"]

_log = Logger()

#: Why an offer is not shown that could be taken for an earlier one.
_OTHER: Final = "an offer of that number was shown lately, with other terms, or too many were"


class _Pending(Talk):
    """One offer that waits; it is the connection's job until it is answered."""

    def __init__(
        self, connection: Connection, offer: Offer, asker: Asker, ends: float, shown: Callable[[], None]
    ) -> None:
        self.connection = connection
        self.offer = offer
        self.asker = asker
        #: When nobody is asked any more, on the clock of the reactor.
        self.ends = ends
        self.totals: Totals | None = None
        #: Fires when it is answered, fails when it is not.
        self.answered: Deferred[None] = Deferred()
        self._shown = shown

    @property
    def ready(self) -> bool:
        """Whether a person can be asked."""
        return self.totals is not None and self.asker.phrase is not None

    @property
    def left(self) -> float:
        """Seconds left."""
        return max(self.ends - self.connection.clock.seconds(), 0.0)

    def settle(self, error: FtxError | None) -> None:
        """Answered, or not to be answered any more; once."""
        if not self.answered.called:
            if error is None:
                self.answered.callback(None)
            else:
                self.answered.errback(error)

    # -- ftx.net.parties.Job -------------------------------------------------------------------------------

    def message(self, message: Message) -> None:
        """Totals, once, and the sender's nonce; nothing else may come before the accept."""
        before = self.ready
        if isinstance(message, Totals) and self.totals is None:
            self.totals = message
        elif isinstance(message, Reveal):
            self.connection.send(self.asker.revealed(message, ceil(self.left)))
        else:
            raise ProtocolError("wrong-state", "more came than may come before an offer is accepted")
        if self.ready and not before:
            self._shown()

    def lost(self, error: FtxError) -> None:
        """The sender has gone."""
        self.settle(error)


@attrs.define(eq=False)
class _Waiting:
    """A pending offer with what is shown of it."""

    pending: _Pending
    trusted: Trusted
    peer: events.PeerInfo
    since: str
    why: str

    @property
    def hex(self) -> str:
        return self.pending.offer.job.hex()


class Approvals:
    """All offers of one daemon that wait. `seconds` is how long one may, and can be changed."""

    def __init__(
        self, reactor: Any, own_id: bytes, stream: Callable[[], EventStream], wall: Callable[[], float]
    ) -> None:
        self.seconds = limits.APPROVAL_WAIT
        self._reactor = reactor
        self._own_id = own_id
        self._stream = stream
        self._wall = wall
        self._waiting: dict[_Pending, _Waiting] = {}
        self._seen = Shown()

    async def ask(self, connection: Connection, offer: Offer, trusted: Trusted, why: str) -> Offer:
        """Put `offer` to a person; returns it with its totals, which bind, when it was approved.

        FtxError `denied`, `approval-timeout`, `not-supported` (the sender cannot wait), `busy` or `untrusted` (too many
        wait already), or what ended the connection.
        """
        if APPROVAL not in connection.session.features:
            raise FtxError("not-supported", "it would have to wait for a person, which its version cannot")
        source = source_of(connection.where)
        alike = sum(source_of(one.connection.where) == source for one in self._waiting)
        if alike >= limits.OFFERS_PER_SOURCE or len(self._waiting) >= limits.OFFERS_TOTAL:
            raise FtxError("untrusted" if who_is(trusted) == "unknown" else "busy", "too many offers wait already")
        peer = connection.transport.getPeer()  # type: ignore[union-attr]
        info = events.PeerInfo(
            trusted.name, format_id(trusted.id), str(getattr(peer, "host", "")), int(getattr(peer, "port", 0))
        )
        asker = Asker(offer.job, trusted.id, self._own_id, os.urandom(NONCE))
        ends = self._reactor.seconds() + self.seconds
        pending = _Pending(connection, offer, asker, ends, lambda: self._shown(waiting))
        waiting = _Waiting(pending, trusted, info, events.iso_time(self._wall()), why)
        self._waiting[pending] = waiting
        connection.job = pending
        connection.send(asker.commit(ceil(self.seconds)))
        timer: IDelayedCall = self._reactor.callLater(self.seconds, pending.settle, FtxError("approval-timeout"))
        try:
            await pending.answered
        except FtxError as error:
            self._refused(waiting, error)
            raise
        finally:
            del self._waiting[pending]
            self._seen.over(waiting.hex, self._reactor.seconds() + self.seconds)
            if timer.active():
                timer.cancel()
            if connection.job is pending:
                connection.job = None
        totals = pending.totals
        if totals is None:
            raise FtxError("internal")
        return msgspec.structs.replace(offer, files=totals.files, folders=totals.folders, bytes=totals.bytes)

    def _shown(self, waiting: _Waiting) -> None:
        """A person can be asked: say so wherever one may look."""
        totals, phrase = waiting.pending.totals, waiting.pending.asker.phrase
        if totals is None or phrase is None:
            return
        job, files, count = waiting.hex, totals.files, totals.bytes
        offer = waiting.pending.offer
        terms = (waiting.trusted.id, offer.job, tuple(offer.into), totals.files, totals.folders, totals.bytes)
        if not self._seen.add(job, terms, self._reactor.seconds()):
            waiting.pending.settle(FtxError("untrusted" if who_is(waiting.trusted) == "unknown" else "busy", _OTHER))
            return
        left = round(waiting.pending.left, 3)
        stream = self._stream()
        stream.publish(events.Offered(job=job, peer=waiting.peer, files=files, bytes=count, direction="in"))
        stream.publish(
            events.Waiting(job=job, peer=waiting.peer, files=files, bytes=count, deadline_s=left, phrase=phrase)
        )
        _log.info(
            "audit: offer {job} of {name} ({who}, id {id}, {address}) waits {seconds} s for an answer: {files}, "
            "{size}, words {phrase}; answer with: ftx-client ctl approve {job}",
            job=waiting.hex[:8],
            name=show(waiting.trusted.name),
            who=who_is(waiting.trusted),
            id=waiting.peer.id,
            address=waiting.peer.address,
            seconds=ceil(left),
            files=plural(totals.files, "file"),
            size=size(totals.bytes),
            phrase=phrase,
        )

    def _refused(self, waiting: _Waiting, error: FtxError) -> None:
        if not waiting.pending.ready:
            return  # nobody was shown it
        info = events.error_info(error.as_value())
        if info is not None:
            self._stream().publish(events.Refused(job=waiting.hex, peer=waiting.peer, error=info))
        name = show(waiting.trusted.name)
        _log.info("audit: offer {job} of {name} ended: {why}", job=waiting.hex[:8], name=name, why=error.message)

    def waits(self, job: bytes, peer: bytes | None) -> bool:
        """Whether an offer of this job waits, from another key than `peer` (None: from any)."""
        return any(one.pending.offer.job == job and one.trusted.id != peer for one in self._waiting.values())

    # -- what a person sees and does -----------------------------------------------------------------------

    def offers(self) -> list[OfferInfo]:
        """Every offer that can be answered, oldest first."""
        return [self._info(one) for one in self._waiting.values() if one.pending.ready]

    def jobs(self) -> list[JobInfo]:
        """The same as jobs that wait."""
        found = []
        for one in self._waiting.values():
            totals = one.pending.totals
            if one.pending.ready and totals is not None:
                found.append(
                    JobInfo(
                        job=one.hex,
                        state="waiting",
                        peer=one.peer,
                        direction="in",
                        files=totals.files,
                        bytes_total=totals.bytes,
                        path=path_text(one.pending.offer.into),
                        started=one.since,
                    )
                )
        return found

    def approve(self, job: str, by: int) -> OfferInfo:
        """Consent to an offer, for the user `by` (a uid); FtxError `no-such-job`."""
        waiting = self._find(job)
        info = self._info(waiting)
        _log.info("audit: offer {job} of {name} approved by user {by}", job=job[:8], name=info.peer.name, by=by)
        waiting.pending.settle(None)
        return info

    def deny(self, job: str, reason: str, by: int) -> OfferInfo:
        """Refuse an offer; `reason` is for the log. FtxError `no-such-job`."""
        waiting = self._find(job)
        info = self._info(waiting)
        said = f": {show(reason)}" if reason else ""
        name = info.peer.name
        _log.info("audit: offer {job} of {name} denied by user {by}{said}", job=job[:8], name=name, by=by, said=said)
        waiting.pending.settle(FtxError("denied"))
        return info

    def identity_of(self, job: str) -> bytes:
        """Whose offer that is; FtxError `no-such-job`."""
        return self._find(job).trusted.id

    def forget(self, welcome: Callable[[Trusted], bool]) -> None:
        """End what is asked for keys that may not ask any more."""
        for pending, waiting in list(self._waiting.items()):
            if not welcome(waiting.trusted):
                pending.connection.fail(FtxError("untrusted"))

    def close(self, reason: str) -> None:
        """End everything that waits."""
        for pending in list(self._waiting):
            pending.settle(FtxError(reason))

    def __len__(self) -> int:
        return sum(one.pending.ready for one in self._waiting.values())

    def _find(self, job: str) -> _Waiting:
        for waiting in self._waiting.values():
            if same(waiting.hex.encode(), job.encode()) and waiting.pending.ready:
                return waiting
        raise FtxError("no-such-job", f"no offer {show(job, 64)} waits", "ftx-client ctl offers lists those that do")

    def _info(self, waiting: _Waiting) -> OfferInfo:
        totals = waiting.pending.totals or Totals(0, 0, 0)
        return OfferInfo(
            job=waiting.hex,
            peer=waiting.peer,
            who=who_is(waiting.trusted),
            files=totals.files,
            folders=totals.folders,
            bytes=totals.bytes,
            path=path_text(waiting.pending.offer.into),
            phrase=waiting.pending.asker.phrase or "",
            left_s=round(waiting.pending.left, 3),
            since=waiting.since,
            why=waiting.why,
        )
