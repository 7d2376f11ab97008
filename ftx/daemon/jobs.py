"""The jobs of a daemon: which run, and how they end. Which begin is decided in `ftx.daemon.offers`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from ftx import limits
from ftx.core.events import Resolved, There
from ftx.core.policy import Rules
from ftx.core.room import Room
from ftx.core.trust import Trusted
from ftx.daemon.approvals import Approvals
from ftx.daemon.complaints import Said
from ftx.daemon.deciding import Deciding
from ftx.daemon.events import EventStream, snapshot_of
from ftx.daemon.offers import Offers
from ftx.daemon.queue import Queue
from ftx.daemon.rates import Rates
from ftx.daemon.reports import PAUSED, Figures, Reported, Reports, peer_info
from ftx.daemon.serving import Serving
from ftx.daemon.view import JobCounts, JobInfo, JobState
from ftx.disk.guarded import Guarded
from ftx.disk.keys import Identity
from ftx.disk.ledger import Ledger
from ftx.disk.store import Path, Store
from ftx.errors import FtxError, kind
from ftx.net.allotment import Shared
from ftx.net.receiving import Observer, Receiving
from ftx.net.transfer import Connection
from ftx.net.worker import Worker
from ftx.text import path_text, plural, show
from ftx.wire import events
from ftx.wire.messages import DRY_RUN, Join, Offer, Refuse

__all__ = ["Jobs"]

_log = Logger()


@attrs.define(eq=False)
class _Running:
    """A job that is being received."""

    receiving: Receiving
    trusted: Trusted
    #: The folder below the inbox where it goes, and what lets its files pass or not.
    into: Path
    guarded: Guarded
    report: Reported


def _figures(job: Receiving) -> Figures:
    machine = job.machine
    totals = machine.totals
    return Figures(
        files=job.offer.files if totals is None else totals.files,
        bytes=job.offer.bytes if totals is None else totals.bytes,
        verified=machine.verified,
        durable=machine.durable,
        wire=machine.received,
        present=machine.present,
        counts=machine.transcript.counts,
        paused=PAUSED[machine.paused_here, machine.paused_there],
    )


async def _each(ends: Sequence[Deferred[None]]) -> None:
    """Wait for all of them. Who stops waiting is told just that, where `gatherResults` would make a failure of it."""
    for end in ends:
        await end


class Jobs(Observer):
    """All jobs of one daemon. `rules` may be replaced while jobs run; they count for the next offer and file."""

    def __init__(
        self,
        reactor: Any,
        worker: Worker,
        store: Store,
        identity: Identity,
        rules: Rules,
        wall: Callable[[], float],
        *,
        ledger: Ledger | None = None,
        serving: Serving | None = None,
    ) -> None:
        """`ledger` counts for quotas; without one, nobody has any. `serving` has the jobs that go out, if any can."""
        self._serving = serving
        self._deciding_by = Deciding(rules, ledger, wall)
        self.reports = Reports(reactor, "in", wall)
        self.events = EventStream(reactor, lambda: snapshot_of(self.list(None), self.approvals.offers()))
        self.reports.stream = self.events
        self.approvals = Approvals(reactor, identity.id, lambda: self.events, wall)
        self.rates = Rates(reactor, wall)
        if serving is not None:
            serving.reports.stream = self.events
            serving.rates = self.rates
            serving.taken = self._taken
        self._reactor = reactor
        self._worker = worker
        self._identity = identity
        self._wall = wall
        self._running: dict[Receiving, _Running] = {}
        #: The memory for content that is being received, of all jobs together.
        self._room: Shared = Room()
        #: What waits to be sent, if anything may.
        self.queue: Queue | None = None
        #: No new jobs are taken any more.
        self.draining = False
        self._offers = Offers(
            reactor,
            worker,
            store,
            self._deciding_by,
            self.approvals,
            Said(reactor),
            begin=self._begin,
            running_of=self._running_of,
            taken=lambda job, peer: self._taken(job, peer) or (serving is not None and serving.has(job.hex())),
            draining=lambda: self.draining,
        )

    @property
    def rules(self) -> Rules:
        """What the operator allows."""
        return self._deciding_by.rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._deciding_by.rules = rules
        for running in list(self._running.values()):
            refusal = self._deciding_by.still_welcome(running.trusted)
            if refusal is not None:
                running.receiving.connection.fail(FtxError(refusal.error, refusal.why))
        if self._serving is not None:
            self._serving.recheck()
        self.approvals.forget(lambda trusted: self._deciding_by.still_welcome(trusted) is None)

    # -- offers --------------------------------------------------------------------------------------------

    async def offer(self, connection: Connection, offer: Offer, trusted: Trusted) -> None:
        """Decide an offer and begin the job, or refuse it. FtxError ends the connection."""
        await self._offers.decide(connection, offer, trusted)

    def join(self, connection: Connection, message: Join, trusted: Trusted) -> None:
        """A connection is to be a lane of a job of this key. FtxError `protocol-error` when it has no right to be."""
        bundle = None if self._serving is None else self._serving.bundle_of(message.job, trusted.id)
        for running in self._running.values():
            if running.report.hex == message.job.hex() and running.trusted.id == trusted.id:
                bundle = running.receiving.bundle
        if bundle is None or not bundle.open_to(message, connection):
            connection.send(Refuse(message.job, kind("busy").number))
        else:
            bundle.admit(message, connection)

    def _running_of(self, peer: bytes) -> list[Receiving]:
        return [job.receiving for job in self._running.values() if job.trusted.id == peer]

    def _taken(self, job: bytes, peer: bytes | None) -> bool:
        """Whether an id is in use by a job that comes in, or is to, from another key than `peer` (None: from any)."""
        called = job.hex()
        running = any(one.report.hex == called and one.trusted.id != peer for one in self._running.values())
        return running or self.approvals.waits(job, peer)

    def _begin(
        self,
        connection: Connection,
        offer: Offer,
        trusted: Trusted,
        into: Path,
        guarded: Guarded,
        conflict: int,
        asked: bool,
    ) -> None:
        """The job begins; `asked`: a person was, so that whoever listens has heard of the offer."""
        receiving = Receiving(
            connection,
            offer,
            guarded,
            conflict,
            worker=self._worker,
            clock=self._reactor,
            wall=self._wall,
            identity=self._identity,
            observer=self,
            room=self._room,
        )
        job, peer = offer.job.hex(), peer_info(connection, trusted)
        report = Reported(job, trusted, peer, path_text(into), lambda: _figures(receiving))
        report.dry = offer.kind == DRY_RUN
        self._running[receiving] = _Running(receiving, trusted, into, guarded, report)
        self.reports.begin(report)
        if not asked:
            offered = events.Offered(job=job, peer=peer, files=offer.files, bytes=offer.bytes, direction="in")
            self.events.publish(offered)
        receiving.bundle.limit(*self.rates.begin(trusted, job))
        receiving.begin()
        self.events.publish(events.Accepted(job=job, peer=peer, files=offer.files, bytes=offer.bytes))
        _log.info("job {job} from {peer} ({address}) begins", job=job, peer=show(peer.name), address=peer.address)

    # -- what the jobs tell (Observer) ---------------------------------------------------------------------

    def resolved(self, job: Receiving, entries: Sequence[Resolved]) -> None:
        """Entries have their results: events, if anybody listens."""
        running = self._running.get(job)
        if running is None:
            return
        report = running.report
        for entry in entries:
            if entry.stored_as is not None and entry.stored_as[-1] != entry.path[-1]:  # never so for a folder
                report.renamed += 1
        if self.reports.heard:
            for entry in entries:
                if not entry.folder:
                    self.reports.resolved(report, entry)

    def there(self, job: Receiving, run: There) -> None:
        """Files are there now: counted together, unless somebody listens."""
        running = self._running.get(job)
        if self.reports.heard:
            super().there(job, run)
        elif running is not None:
            running.report.renamed += sum([stored_as[-1] != path[-1] for _, _, path, stored_as in run.files])

    def ended(self, job: Receiving, error: FtxError | None) -> None:
        """The job and all its disk work are over."""
        running = self._running.pop(job)
        report = running.report
        self.rates.end(report.hex)
        job.bundle.unlimited()
        for who, count in running.guarded.refused.most_common(limits.REFUSALS_SAID):
            _log.info("audit: job {job}: {files} refused: {who}", job=report.hex, files=plural(count, "file"), who=who)
        self.reports.end(report, error)

    # -- what is shown -------------------------------------------------------------------------------------

    def list(self, state: JobState | None) -> list[JobInfo]:
        """Every job there is and the last ones that ended, oldest first; or those in `state`."""
        finished, running = self.reports.finished(), self.reports.running()
        waiting, going = self.approvals.jobs(), []
        if self._serving is not None:
            out = self._serving.reports
            finished, going = [*finished, *out.finished()], out.running()
        if self.queue is not None:
            queued = self.queue.jobs()
            finished += [info for info in queued if info.ended is not None]
            waiting += [info for info in queued if info.ended is None]
        finished.sort(key=lambda info: info.ended or "")
        every = [*finished, *running, *waiting, *going]
        return [info for info in every if state is None or info.state == state]

    def find(self, job: str) -> JobInfo:
        """The job with this id, the latest if it was tried several times; FtxError `no-such-job`."""
        for info in reversed(self.list(None)):
            if info.job == job:
                return info
        raise FtxError("no-such-job", f"there is no job {show(job, 64)}")

    @property
    def counts(self) -> JobCounts:
        """How many there are in each state."""
        each = [self.reports] if self._serving is None else [self.reports, self._serving.reports]
        tried, waiting = (0, 0) if self.queue is None else self.queue.counts
        sent, lost = (0, 0) if self.queue is None else (self.queue.sent, self.queue.failed)
        return JobCounts(
            active=sum(len(one.running()) for one in each) + tried,
            waiting=len(self.approvals) + waiting,
            done=sum(one.done for one in each) + sent,
            failed=sum(one.failed for one in each) + lost,
            partial=sum(one.partial for one in each),
        )

    @property
    def errors(self) -> dict[str, int]:
        """How many jobs ended for each reason, whichever way they went."""
        each = [self.reports.errors]
        each += [] if self._serving is None else [self._serving.reports.errors]
        each += [] if self.queue is None else [self.queue.errors]
        names = {name for one in each for name in one}
        return {name: sum(one.get(name, 0) for one in each) for name in names}

    def received_so_far(self) -> int:
        """Content bytes that came over the wire since the start."""
        return self.reports.wire_so_far()

    def sent_so_far(self) -> int:
        """Content bytes that went out over the wire since the start."""
        return 0 if self._serving is None else self._serving.reports.wire_so_far()

    # -- ends ----------------------------------------------------------------------------------------------

    async def cancel(self, job: str) -> JobInfo:
        """End a job; the peer is told. FtxError `no-such-job`, or `job-over` when there is nothing to end.

        A disk that stalls is not waited for: the job is then shown as it is, and ends when the disk lets it.
        """
        if self.queue is not None and self.queue.has(job):
            await self.queue.remove(job)
            return self.find(job)
        reason = FtxError("cancelled", "cancelled here")
        ended = None if self._serving is None else self._serving.cancel(job, reason)
        if ended is None:
            running = self._active(job)
            ended = running.receiving.wait_stopped()
            running.receiving.cancel(reason)
        with contextlib.suppress(TimeoutError):  # of Twisted, not Python's own
            await ended.addTimeout(limits.CANCEL_WAIT + limits.ABORT_AFTER, self._reactor)
        return self.find(job)

    async def hold(self, job: str, paused: bool) -> JobInfo:
        """As `pause`, also for what is in the queue: that is not tried while it is paused."""
        if self.queue is None or not self.queue.has(job):
            return self.pause(job, paused)
        await self.queue.pause(job, paused)
        return self.find(job)

    def pause(self, job: str, paused: bool) -> JobInfo:
        """Pause a job that runs or let it go on; the peer is told. FtxError `no-such-job` or `job-over`."""
        if self._serving is None or not self._serving.pause(job, paused):
            running = self._active(job)
            running.receiving.pause(paused)
            self.reports.report()
        return self.find(job)

    def peer_seen(self, trusted: Trusted) -> None:
        """A peer has signed in, so that it can be reached: what waits for it is tried."""
        if self.queue is not None and trusted.peer is not None:
            self.queue.peer_seen(trusted.name)

    def _active(self, job: str) -> _Running:
        for running in reversed(self._running.values()):
            if running.report.hex == job:
                return running
        ended = self.find(job)
        if ended.state == "waiting":
            why = f"job {job[:8]} waits for approval: nothing of it travels yet"
            raise FtxError("job-over", why, "answer it: ftx-client ctl approve, ftx-client ctl deny")
        raise FtxError("job-over", f"job {job[:8]} is over already: {ended.state}")

    def drain(self) -> Deferred[None]:
        """Take no more jobs; fires when there are none."""
        self.draining = True
        self.approvals.close("peer-stopping")
        ends = [self.reports.wait_idle()]
        if self._serving is not None:
            ends.append(self._serving.drain())
        if self.queue is not None:
            ends.append(self.queue.drain())
        return Deferred.fromCoroutine(_each(ends))

    async def stop(self, reason: str = "peer-stopping") -> None:
        """End what runs, resumable, and wait for its disk work."""
        self.draining = True
        self.approvals.close("peer-stopping")
        for running in list(self._running.values()):
            running.receiving.connection.fail(FtxError(reason))
        for running in list(self._running.values()):
            await running.receiving.wait_stopped()
        if self._serving is not None:
            await self._serving.stop(reason)
        if self.queue is not None:
            await self.queue.stop()
        self.events.close()
