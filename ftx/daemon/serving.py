"""What is asked of the shares: listings, and jobs that go out. Who may see what is decided here, for both alike.

An outgoing job has the same machine as a client's upload, with this daemon as the sender. The receiver, who is the
client here, keeps what has to be kept; a job that is lost leaves nothing behind.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ftx import limits
from ftx.core.events import Resolved
from ftx.core.identity import format_id
from ftx.core.progress import Meter
from ftx.core.trust import Trusted
from ftx.daemon.complaints import Said
from ftx.daemon.events import EventStream
from ftx.daemon.rates import Rates
from ftx.daemon.view import JobInfo, JobState
from ftx.daemon.words import job_result
from ftx.disk.keys import Identity
from ftx.disk.memory import DigestMemory
from ftx.disk.selection import Selection
from ftx.disk.shares import Shares, ShareSetting
from ftx.disk.shown import Shown
from ftx.disk.source import SourceProblem
from ftx.errors import Error, FtxError, kind_by_number
from ftx.net.sending import Sending, Watcher
from ftx.net.showing import Showing
from ftx.net.transfer import Connection
from ftx.net.worker import Worker
from ftx.text import path_text, show
from ftx.wire import events
from ftx.wire.messages import PULL, List, Listing, Offer, Refuse, Request

__all__ = ["Serving"]

_log = Logger()
#: Whether the key of a peer may see a share.
Sees = Callable[[Trusted, ShareSetting], bool]
_STARS = re.compile(r"\*+")


@attrs.define(eq=False)
class _Outgoing:
    """A job that is being sent."""

    sending: Sending
    trusted: Trusted
    #: The shares that it is from, as they were when it began.
    shares: tuple[ShareSetting, ...]
    #: What was asked for, for people.
    path: str
    peer: events.PeerInfo
    began: float
    #: The same as ISO 8601 in UTC.
    started: str
    meter: Meter = attrs.field(factory=Meter)

    @property
    def hex(self) -> str:
        return self.sending.machine.offer.job.hex()


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
        self.bytes_out = 0
        self.done = 0
        self.failed = 0
        self.partial = 0
        #: Where events go; set before the first connection.
        self.events: EventStream | None = None
        self._reactor = reactor
        self._worker = worker
        self._identity = identity
        self._memory = DigestMemory(os.path.join(state, "digests"))
        self._wall = wall
        self._sees = sees
        self._running: dict[Sending, _Outgoing] = {}
        self._finished: deque[JobInfo] = deque(maxlen=limits.JOBS_REMEMBERED)
        self._draining = False
        self._idle: list[Deferred[None]] = []
        self._said = Said(reactor)
        #: The limits of the daemon, which count for what is pulled, too.
        self.rates: Rates | None = None
        self._reporting = LoopingCall(self._report)
        self._reporting.clock = reactor

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
        shares = self.shares
        shares.use()
        try:
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
        selection = _selection(message.exclude)
        paths = [tuple(path) for path in message.paths]
        roots = await self._worker.run(shares.sources, paths, self._seen(trusted))
        if connection.over:
            return
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
            selection=selection,
        )
        used = {os.fsdecode(path[0]) for path in paths}
        settings = tuple(setting for setting in shares.settings if setting.name in used)
        await self._run(sending, trusted, ", ".join(path_text(path) for path in paths), settings)

    def _seen(self, trusted: Trusted) -> Callable[[ShareSetting], bool]:
        return lambda setting: self._sees(trusted, setting)

    # -- one job -------------------------------------------------------------------------------------------

    async def _run(
        self, sending: Sending, trusted: Trusted, path: str, shares: tuple[ShareSetting, ...]
    ) -> None:
        connection = sending.connection
        address = connection.transport.getPeer()  # type: ignore[union-attr]
        peer = events.PeerInfo(
            trusted.name, format_id(trusted.id), str(getattr(address, "host", "")), int(getattr(address, "port", 0))
        )
        now = self._reactor.seconds()
        started = events.iso_time(self._wall())
        job = self._running[sending] = _Outgoing(sending, trusted, shares, path, peer, now, started)
        if self.rates is not None:
            connection.limit(*self.rates.begin(trusted.name, job.hex))
        self._publish(events.Offered(job=job.hex, peer=peer))
        _log.info("job {job}: {peer} pulls {path}", job=job.hex, peer=show(peer.name), path=path)
        if not self._reporting.running:
            self._reporting.start(limits.PROGRESS_FASTEST, now=False)
        error: FtxError | None = None
        try:
            await sending.run()
        except FtxError as failure:
            error = failure
        finally:
            self._ended(job, error)

    def accepted(self, job: Sending) -> None:
        """The client takes it."""
        running = self._running.get(job)
        if running is not None:
            self._publish(events.Accepted(job=running.hex, peer=running.peer))

    def resolved(self, job: Sending, entry: Resolved) -> None:
        """An entry has its result: an event, if anybody listens."""
        running = self._running.get(job)
        if running is None or entry.folder or self.events is None or not self.events.subscribers:
            return
        error = None
        if entry.error:
            row = kind_by_number(entry.error)
            error = Error(row.name, row.sentence, row.hint)
        self._publish(
            events.file_event(
                entry.path,
                job=running.hex,
                peer=running.peer,
                status=entry.status,
                size=entry.size,
                digest=entry.digest,
                error=error,
            )
        )

    def problem(self, job: Sending, problem: SourceProblem) -> None:
        """Something of ours cannot be sent: the client is told by the machine."""

    def _ended(self, job: _Outgoing, error: FtxError | None) -> None:
        self._running.pop(job.sending)
        job.sending.connection.unlimited()
        if self.rates is not None:
            self.rates.end(job.hex)
        counts = job.sending.machine.transcript.counts
        seconds = self._reactor.seconds() - job.began
        self.bytes_out += job.sending.sent
        if error is None:
            self.done += 1
            self.partial += counts.failed > 0
            self._publish(
                events.Done(
                    job=job.hex,
                    peer=job.peer,
                    result="partial" if counts.failed else "ok",
                    files=counts.files,
                    directories=counts.folders,
                    bytes=counts.bytes,
                    bytes_wire=job.sending.sent,
                    files_identical=counts.identical,
                    files_skipped=counts.skipped,
                    files_failed=counts.failed,
                    seconds=seconds,
                    receipt=None,
                    exit=9 if counts.failed else 0,
                )
            )
            said = job_result(counts, 0, seconds)
            _log.info("job {job} to {peer}: {result}", job=job.hex, peer=show(job.peer.name), result=said)
        else:
            self.failed += 1
            info = events.error_info(error.as_value())
            if info is not None:
                code = error.exit_code
                self._publish(events.Failed(job=job.hex, peer=job.peer, error=info, exit=code, resumable=code == 4))
            _log.info(
                "job {job} to {peer} ended: {reason}",
                job=job.hex,
                peer=show(job.peer.name),
                reason=show(error.message),
            )
        state: JobState = "done" if error is None else "failed"
        self._finished.append(self._info(job, state, error, events.iso_time(self._wall())))
        if not self._running:
            if self._reporting.running:
                self._reporting.stop()
            waiting, self._idle = self._idle, []
            for deferred in waiting:
                deferred.callback(None)

    # -- what is shown -------------------------------------------------------------------------------------

    def list(self) -> list[JobInfo]:
        """Every outgoing job there is, and the last ones that ended, oldest first."""
        return [*self._finished, *(self._info(job, "active") for job in self._running.values())]

    @property
    def active(self) -> int:
        """How many jobs go out."""
        return len(self._running)

    def sent_so_far(self) -> int:
        """Content bytes that were given to the network since the start."""
        return self.bytes_out + sum(sending.sent for sending in self._running)

    def _info(
        self, job: _Outgoing, state: JobState, error: FtxError | None = None, ended: str | None = None
    ) -> JobInfo:
        machine, totals = job.sending.machine, job.sending.totals
        counts = machine.transcript.counts
        return JobInfo(
            job=job.hex,
            state=state,
            peer=job.peer,
            direction="out",
            files=None if totals is None else totals.files,
            bytes_total=None if totals is None else totals.bytes,
            bytes_confirmed=machine.progress.verified,
            bytes_durable=machine.progress.durable,
            rate=job.meter.rate if state == "active" else None,
            path=job.path,
            error=None if error is None else events.error_info(error.as_value()),
            files_done=counts.files + counts.skipped + counts.failed,
            files_failed=counts.failed,
            started=job.started,
            ended=ended,
        )

    def _report(self) -> None:
        now = self._reactor.seconds()
        for job in self._running.values():
            machine, totals = job.sending.machine, job.sending.totals
            total = None if totals is None else totals.bytes
            job.meter.feed(now, machine.progress.verified, total, machine.present)
            counts = machine.transcript.counts
            self._publish(
                events.Progress(
                    job=job.hex,
                    peer=job.peer,
                    stage="transferring",
                    bytes_confirmed=machine.progress.verified,
                    bytes_durable=machine.progress.durable,
                    bytes_sent=job.sending.sent,
                    bytes_total=total,
                    files_done=counts.files + counts.skipped + counts.failed,
                    files_total=None if totals is None else totals.files,
                    rate=job.meter.rate,
                    eta_s=job.meter.eta_s,
                )
            )

    def _publish(self, event: events.Event) -> None:
        if self.events is not None:
            self.events.publish(event)

    # -- ends ----------------------------------------------------------------------------------------------

    async def cancel(self, job: str) -> bool:
        """End an outgoing job; the client is told. Whether there was one."""
        found = [running.sending for running in self._running.values() if running.hex == job]
        for sending in found:
            sending.connection.fail(FtxError("cancelled"))
            await sending.wait_stopped()
        return bool(found)

    def drain(self) -> Deferred[None]:
        """Take no more jobs; fires when there are none."""
        self._draining = True
        waiting: Deferred[None] = Deferred()
        if self._running:
            self._idle.append(waiting)
        else:
            waiting.callback(None)
        return waiting

    async def stop(self, reason: str = "peer-stopping") -> None:
        """End what runs, and wait for its disk work."""
        self._draining = True
        for sending in list(self._running):
            sending.connection.fail(FtxError(reason))
        for sending in list(self._running):
            await sending.wait_stopped()
        self.shares.done()


def _selection(exclude: list[str]) -> Selection:
    """What a peer wants left out. FtxError `not-supported` for a pattern that is none, or costs too much to match."""
    if any(len(_STARS.findall(pattern)) > limits.PATTERN_STARS for pattern in exclude):
        raise FtxError("not-supported", f"a pattern has more than {limits.PATTERN_STARS} stars")
    try:
        return Selection.of(exclude)
    except FtxError as error:
        raise FtxError("not-supported", error.message) from error
