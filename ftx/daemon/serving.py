"""What is asked of the shares: listings, and jobs that go out. Who may see what is decided here, for both alike.

An outgoing job has the same machine as a client's upload, with this daemon as the sender. The receiver, who is the
client here, keeps what has to be kept; a job that is lost leaves nothing behind.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ftx import limits
from ftx.core.events import Resolved
from ftx.core.links import ASKED_FOR
from ftx.core.trust import Trusted
from ftx.daemon.complaints import Said
from ftx.daemon.rates import Rates
from ftx.daemon.reports import PAUSED, Figures, Reported, Reports, peer_info
from ftx.disk.keys import Identity
from ftx.disk.memory import DigestMemory
from ftx.disk.selection import Selection
from ftx.disk.shares import Shares, ShareSetting
from ftx.disk.shown import Shown
from ftx.disk.source import SourceProblem
from ftx.errors import FtxError, ProtocolError
from ftx.net.alive import proves_alive
from ftx.net.bundle import Bundle
from ftx.net.parties import Watcher
from ftx.net.sending import Sending
from ftx.net.showing import Showing
from ftx.net.transfer import Connection
from ftx.net.worker import Worker
from ftx.text import path_text, show
from ftx.wire import events
from ftx.wire.messages import LINKS, PULL, List, Listing, Offer, Refuse, Request

__all__ = ["Serving"]

_log = Logger()
#: Whether the key of a peer may see a share.
Sees = Callable[[Trusted, ShareSetting], bool]
_ID_TAKEN = "the id of the job is in use by another one"


@attrs.define(eq=False)
class _Outgoing:
    """A job that is being sent."""

    sending: Sending
    trusted: Trusted
    #: The shares that it is from, as they were when it began.
    shares: tuple[ShareSetting, ...]
    report: Reported
    #: Somebody here wants it to end.
    cancelled: bool = False


def _figures(job: Sending) -> Figures:
    machine, totals = job.machine, job.totals
    return Figures(
        files=None if totals is None else totals.files,
        bytes=None if totals is None else totals.bytes,
        verified=machine.progress.verified,
        durable=machine.progress.durable,
        wire=job.sent,
        present=machine.present,
        counts=machine.transcript.counts,
        paused=PAUSED[machine.paused_here, machine.paused_there],
        kept=None if machine.kept is None else (machine.kept.files, machine.kept.bytes),
    )


class Serving(Watcher):
    """The shares of one daemon at work. `shares` may be replaced while jobs run; those go on with what they have."""

    def __init__(
        self,
        reactor: Any,
        worker: Worker,
        identity: Identity,
        shares: Shares,
        state: str,
        wall: Callable[[], float],
        *,
        sees: Sees,
    ) -> None:
        """`state` is the folder for digests, shared with the clients of this user; `sees` is asked for each request."""
        self.shares = shares
        self.reports = Reports(reactor, "out", wall)
        self._reactor = reactor
        self._worker = worker
        self._identity = identity
        self._memory = DigestMemory(os.path.join(state, "digests"))
        self._wall = wall
        self._sees = sees
        self._running: dict[Sending, _Outgoing] = {}
        #: Ids of jobs whose shares are being looked up.
        self._beginning: set[str] = set()
        #: Whether the id of a job is in use by one that comes in from another key than that (None: from any).
        self.taken: Callable[[bytes, bytes | None], bool] = lambda job, peer: False
        #: How many requests and lists of each key are being served.
        self._served: Counter[bytes] = Counter()
        self._draining = False
        self._said = Said(reactor)
        #: The limits of the daemon, which count for what is pulled, too.
        self.rates: Rates | None = None

    def replace(self, shares: Shares) -> None:
        """From now on these are the shares."""
        self.shares.done()
        self.shares = shares

    def recheck(self) -> None:
        """Rights have changed: end the jobs of those who may not see any more what they are pulling."""
        for job in list(self._running.values()):
            if not all(self._sees(job.trusted, share) for share in job.shares):
                job.sending.connection.fail(FtxError("not-shared"))

    def names(self) -> list[str]:
        """What the shares are called, for people."""
        return [show(setting.name) for setting in self.shares.settings]

    # -- what is asked -------------------------------------------------------------------------------------

    async def asked(self, connection: Connection, message: List | Request, trusted: Trusted) -> None:
        """Answer a request. An FtxError ends the connection; what is merely not there does not."""
        if isinstance(message, Request) and message.links and ASKED_FOR not in connection.session.features:
            raise ProtocolError("bad-message", "links were asked for, and nobody had agreed to that")
        shares = self.shares
        shares.use()
        self._served[trusted.id] += 1
        try:
            if self._served[trusted.id] > limits.SERVED_PER_KEY:
                raise FtxError("busy", "too many requests of it are served already")
            if self._draining:
                raise FtxError("peer-stopping")
            if isinstance(message, List):
                await self._list(connection, message, trusted, shares)
            else:
                await self._send(connection, message, trusted, shares)
        except FtxError as error:
            if connection.over:
                return
            if self._said.is_news((trusted.id, error.name)):
                reason = show(error.message)
                _log.info("a request of {peer} was refused: {reason}", peer=show(trusted.name), reason=reason)
            connection.send(Refuse(message.job, error.number))
        finally:
            self._served[trusted.id] -= 1
            self._served += Counter()  # forgets who has none
            shares.done()

    async def _list(self, connection: Connection, message: List, trusted: Trusted, shares: Shares) -> None:
        seen = self._seen(trusted)
        if not message.path:
            items = await self._worker.run(shares.items, seen)
            if not connection.over:
                connection.send(Listing(message.job, items, True))
            return
        held = await self._worker.run(shares.find, tuple(message.path), seen)
        if not connection.over:
            await Showing(connection, message.job, Shown(held, message.deep), self._worker).run()

    async def _send(self, connection: Connection, message: Request, trusted: Trusted, shares: Shares) -> None:
        job = message.job.hex()
        if job in self._beginning:
            raise FtxError("busy", _ID_TAKEN)
        self._beginning.add(job)
        try:
            await self._settle(message.job, trusted)
            running = await self._prepared(connection, message, trusted, shares)
            if running is None:
                return
            if self.taken(message.job, None):  # since it was asked first
                raise FtxError("busy", _ID_TAKEN)
            self._running[running.sending] = running
        finally:
            self._beginning.discard(job)
        await self._run(running)

    async def _settle(self, job: bytes, trusted: Trusted) -> None:
        """One id, one job: an older one of the same key has to be given up by its client, or lost to it."""
        if self.taken(job, None):
            raise FtxError("busy", _ID_TAKEN)
        for older in self._with_id(job.hex()):
            connection = older.sending.connection
            if older.trusted.id != trusted.id or await proves_alive(connection):
                raise FtxError("busy", _ID_TAKEN)
            connection.abort(FtxError("connection-lost"))
            await older.sending.wait_stopped()

    async def _prepared(
        self, connection: Connection, message: Request, trusted: Trusted, shares: Shares
    ) -> _Outgoing | None:
        """What is asked for, as a job that has not begun; None when whoever asked has gone."""
        selection = _selection(message.exclude, LINKS[message.links])
        paths = [tuple(path) for path in message.paths]
        follow = selection.links == "follow"
        roots = await self._worker.run(shares.sources, paths, self._seen(trusted), follow)
        if connection.over:
            return None
        offer = Offer(message.job, PULL, [], None, None, None, None)
        sending = Sending(
            connection,
            offer,
            roots,
            worker=self._worker,
            clock=self._reactor,
            wall=self._wall,
            memory=self._memory,
            own_id=self._identity.id,
            watcher=self,
            checksums=True,
            selection=selection,
        )
        used = {os.fsdecode(path[0]) for path in paths}
        settings = tuple(setting for setting in shares.settings if setting.name in used)
        what, peer = ", ".join(path_text(path) for path in paths), peer_info(connection, trusted)
        report = Reported(message.job.hex(), trusted, peer, what, lambda: _figures(sending))
        return _Outgoing(sending, trusted, settings, report)

    def _seen(self, trusted: Trusted) -> Callable[[ShareSetting], bool]:
        return lambda setting: self._sees(trusted, setting)

    # -- one job -------------------------------------------------------------------------------------------

    async def _run(self, running: _Outgoing) -> None:
        sending, report = running.sending, running.report
        job, peer = report.hex, report.peer
        self.reports.begin(report)
        if self.rates is not None:
            sending.bundle.limit(*self.rates.begin(running.trusted, job))
        self.reports.publish(events.Offered(job=job, peer=peer, direction="out"))
        _log.info("job {job}: {peer} pulls {path}", job=job, peer=show(peer.name), path=report.path)
        error: FtxError | None = None
        try:
            await sending.run()
        except FtxError as failure:
            error = failure
            if error.name == "cancelled" and not running.cancelled:
                error = FtxError("cancelled", "cancelled by the receiver")
        finally:
            self._ended(sending, error)

    def accepted(self, job: Sending) -> None:
        """The client takes it."""
        running = self._running.get(job)
        if running is not None:
            self.reports.publish(events.Accepted(job=running.report.hex, peer=running.report.peer))

    def resolved(self, job: Sending, entry: Resolved) -> None:
        """An entry has its result: an event, if anybody listens."""
        running = self._running.get(job)
        if running is not None and not entry.folder:
            self.reports.resolved(running.report, entry)

    def problem(self, job: Sending, problem: SourceProblem) -> None:
        """Something of ours cannot be sent: the client is told by the machine."""

    def _ended(self, sending: Sending, error: FtxError | None) -> None:
        report = self._running.pop(sending).report
        sending.bundle.unlimited()
        if self.rates is not None:
            self.rates.end(report.hex)
        self.reports.end(report, error)

    # -- ends ----------------------------------------------------------------------------------------------

    def bundle_of(self, job: bytes, peer: bytes) -> Bundle | None:
        """The connections of an outgoing job of this key, if there is such a job."""
        for running in self._with_id(job.hex()):
            if running.trusted.id == peer:
                return running.sending.bundle
        return None

    def has(self, job: str) -> bool:
        """Whether an outgoing job with this id runs, or is about to."""
        return job in self._beginning or bool(self._with_id(job))

    def _with_id(self, job: str) -> list[_Outgoing]:
        return [running for running in self._running.values() if running.report.hex == job]

    def pause(self, job: str, paused: bool) -> bool:
        """Send nothing of an outgoing job for now, or go on; the client is told. Whether there is such a job."""
        found = self._with_id(job)
        for running in found:
            running.sending.pause(paused)
        if found:
            self.reports.report()
        return bool(found)

    def cancel(self, job: str, reason: FtxError) -> Deferred[None] | None:
        """End an outgoing job; the client is told, and says what it keeps. Fires when it is over; None without one."""
        for running in self._with_id(job):
            ended = running.sending.wait_stopped()
            running.cancelled = True
            running.sending.cancel(reason)
            return ended
        return None

    def drain(self) -> Deferred[None]:
        """Take no more jobs; fires when there are none."""
        self._draining = True
        return self.reports.wait_idle()

    async def stop(self, reason: str = "peer-stopping") -> None:
        """End what runs, and wait for its disk work."""
        self._draining = True
        for sending in list(self._running):
            sending.connection.fail(FtxError(reason))
        for sending in list(self._running):
            await sending.wait_stopped()
        self.shares.done()


def _stars(pattern: str) -> int:
    """Stars of a peer's pattern, each of which multiplies the time of a match; `**` between slashes is one.

    FtxError `not-supported` for a run of stars within a name: gitignore(5) takes it for one star, but the matcher tries
    every way to share a name among them, and holds the interpreter for as long: twenty took minutes.
    """
    names = pattern.removeprefix("!").split("/")
    if any("**" in name and name != "**" for name in names):
        raise FtxError("not-supported", "a pattern has a run of stars within a name", "one star means the same")
    return sum(1 if name == "**" else name.count("*") for name in names)


def _selection(exclude: list[str], links: str) -> Selection:
    """What a peer wants left out. FtxError `not-supported` for a pattern that is none, or costs too much to match."""
    stars = [_stars(pattern) for pattern in exclude]
    if any(number > limits.PATTERN_STARS for number in stars):
        raise FtxError("not-supported", f"a pattern has more than {limits.PATTERN_STARS} stars")
    if sum(number > 1 for number in stars) > limits.DEAR_PATTERNS:
        raise FtxError("not-supported", f"more than {limits.DEAR_PATTERNS} patterns have several stars")
    try:
        return Selection.of(exclude, links)
    except FtxError as error:
        raise FtxError("not-supported", error.message) from error
