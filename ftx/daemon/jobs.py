"""The jobs of a daemon: who runs, who waits for whom, what became of them, and the events of all that.

One job of a peer can meet another of the same peer: the same job on a newer connection, or a job over the same files.
The older one is asked whether it is alive. If it answers, it keeps what it has: the same job is refused as `busy`,
other files of a different job go on. If it does not, it is superseded: its right to change anything on the disk ends,
its disk work is waited for, and only then does the newer one begin (`docs/protocol.md`, section 9).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ftx import limits
from ftx.core.events import Resolved
from ftx.core.identity import format_id
from ftx.core.policy import Rules
from ftx.core.progress import Meter
from ftx.core.receipt import decode_receipt
from ftx.core.trust import Trusted
from ftx.daemon.approvals import Approvals
from ftx.daemon.complaints import Said
from ftx.daemon.deciding import Deciding, who_is
from ftx.daemon.events import EventStream, snapshot_of
from ftx.daemon.rates import Rates
from ftx.daemon.serving import Serving
from ftx.daemon.view import JobCounts, JobInfo, JobState
from ftx.daemon.words import job_result
from ftx.disk.guarded import Guarded
from ftx.disk.keys import Identity
from ftx.disk.ledger import Ledger
from ftx.disk.store import Path, Store
from ftx.errors import Error, FtxError, kind, kind_by_number
from ftx.net.receiving import Observer, Receiving
from ftx.net.transfer import Connection
from ftx.net.worker import Worker
from ftx.text import kept, path_text, plural, show
from ftx.wire import events
from ftx.wire.messages import CONFLICTS, DRY_RUN, Offer, Refuse

__all__ = ["Jobs"]

_log = Logger()

#: Errors that a key which is not known is told as they are; every other refusal is `untrusted` to it.
_TOLD = frozenset({"denied", "approval-timeout", "peer-stopping", "no-space", "storage-failed"})

#: (by us, by the peer) in the words of `JobInfo.paused`.
_PAUSED = {(False, False): "", (True, False): "here", (False, True): "peer", (True, True): "both"}


@attrs.define(eq=False)
class _Running:
    """A job that is being received."""

    receiving: Receiving
    trusted: Trusted
    peer: events.PeerInfo
    began: float
    #: The same as ISO 8601 in UTC.
    started: str
    #: The folder below the inbox where it goes, and what lets its files pass or not.
    into: Path
    guarded: Guarded
    meter: Meter = attrs.field(factory=Meter)
    #: Files that are here under another name than the sender's.
    renamed: int = 0

    @property
    def hex(self) -> str:
        return self.receiving.offer.job.hex()


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
        self.events = EventStream(reactor, lambda: snapshot_of(self.list(None), self.approvals.offers()))
        self.approvals = Approvals(reactor, identity.id, lambda: self.events, wall)
        if serving is not None:
            serving.events = self.events
        self.bytes_in = 0
        self.rates = Rates(reactor, wall)
        if serving is not None:
            serving.rates = self.rates
        self._reactor = reactor
        self._worker = worker
        self._store = store
        self._identity = identity
        self._wall = wall
        self._running: dict[Receiving, _Running] = {}
        #: Offers that are being decided, by (peer, job): the same offer twice at once is busy.
        self._deciding: set[tuple[bytes, bytes]] = set()
        self._finished: deque[JobInfo] = deque(maxlen=limits.JOBS_REMEMBERED)
        self._done = 0
        self._partial = 0
        self._failed = 0
        #: How many jobs ended for each reason; the reasons are rows of one table, so this is bounded.
        self.errors: dict[str, int] = {}
        #: No new jobs are taken any more.
        self.draining = False
        self._said = Said(reactor)
        self._idle: Deferred[None] | None = None
        self._reporting = LoopingCall(self._report)
        self._reporting.clock = reactor

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
        key = (trusted.id, offer.job)
        if key in self._deciding:
            connection.send(Refuse(offer.job, kind("busy").number))
            return
        self._deciding.add(key)
        try:
            await self._decide(connection, offer, trusted)
        except FtxError as error:
            if connection.over:
                return
            if self._said.is_news((trusted.id, error.name)):
                job = offer.job.hex()
                name = show(trusted.name)
                _log.info("audit: job {job} of {peer} refused: {reason}", job=job, peer=name, reason=error.message)
            if who_is(trusted) == "unknown":  # which learns no more than that, whatever the rules say
                raise error if error.name in _TOLD else FtxError("untrusted") from error
            connection.send(Refuse(offer.job, error.number))
        finally:
            self._deciding.discard(key)

    async def _decide(self, connection: Connection, offer: Offer, trusted: Trusted) -> None:
        if self.draining:
            raise FtxError("peer-stopping")
        verdict = self._deciding_by.offer(offer, trusted, connection.where)
        if verdict.action == "refuse":
            raise FtxError(verdict.error, f"{kind(verdict.error).sentence} ({verdict.why})")
        await self._settle(connection, offer, trusted)
        receipt = await self._worker.run(self._store.receipt, trusted.id, offer.job)
        if receipt is not None:
            if not connection.over:
                connection.send(decode_receipt(receipt))
            return
        asked = verdict.action == "ask"
        if asked:
            offer = await self.approvals.ask(connection, offer, trusted, verdict.why)
            if self._deciding_by.still_welcome(trusted) is not None or self.draining:
                raise FtxError("peer-stopping" if self.draining else "not-authorised")
            connection.signed_in()
        into, reads = (*verdict.folder, *offer.into), trusted.own  # our own key may read the inbox anyway
        dry = offer.kind == DRY_RUN
        opened = await self._worker.run(
            lambda: self._store.begin(trusted.id, offer.job, into, verdict.conflict, reads=reads, dry=dry)
        )
        store = self._deciding_by.guard(opened, trusted, connection.where, approved=asked, charge=not dry)
        if connection.over or self.draining:
            await self._worker.run(store.close)
            raise FtxError("peer-stopping")
        receiving = Receiving(
            connection,
            offer,
            store,
            CONFLICTS.index(verdict.conflict),
            worker=self._worker,
            clock=self._reactor,
            wall=self._wall,
            identity=self._identity,
            observer=self,
        )
        self._begin(receiving, trusted, into, store, offered=asked)
        _log.info(
            "audit: job {job} of {peer} accepted: {why}", job=offer.job.hex(), peer=show(trusted.name), why=verdict.why
        )

    def _begin(
        self, receiving: Receiving, trusted: Trusted, into: Path, guarded: Guarded, *, offered: bool
    ) -> None:
        """The job begins; `offered`: whoever listens has heard of the offer."""
        connection = receiving.connection
        address = connection.transport.getPeer()  # type: ignore[union-attr]
        peer = events.PeerInfo(
            trusted.name, format_id(trusted.id), str(getattr(address, "host", "")), int(getattr(address, "port", 0))
        )
        started = events.iso_time(self._wall())
        began = self._reactor.seconds()
        job = self._running[receiving] = _Running(receiving, trusted, peer, began, started, into, guarded)
        offer = receiving.offer
        if not offered:
            self.events.publish(events.Offered(job=job.hex, peer=peer, files=offer.files, bytes=offer.bytes))
        connection.limit(*self.rates.begin(trusted.name, job.hex))
        receiving.begin()
        self.events.publish(events.Accepted(job=job.hex, peer=peer, files=offer.files, bytes=offer.bytes))
        _log.info("job {job} from {peer} ({address}) begins", job=job.hex, peer=peer.name, address=peer.address)
        if not self._reporting.running:
            self._reporting.start(limits.PROGRESS_FASTEST, now=False)

    async def _settle(self, connection: Connection, offer: Offer, trusted: Trusted) -> None:
        """Come to terms with the older jobs of the same key."""
        jobs = [job for job in self._running.values() if job.trusted.id == trusted.id]
        asked = [Deferred.fromCoroutine(job.receiving.connection.proves_alive()) for job in jobs]
        for job, alive in zip(jobs, await gatherResults(asked, consumeErrors=True), strict=True):
            if alive and job.receiving.offer.job == offer.job:
                raise FtxError("busy")
            if alive:
                continue
            older = job.receiving.connection
            if older.hung_up():
                older.abort(FtxError("connection-lost"))  # what it had sent is still made durable
            elif not older.over:
                job.receiving.revoke()
                older.fail(FtxError("superseded"))
            if job.receiving in self._running:
                await job.receiving.wait_stopped()

    # -- what the jobs tell (Observer) ---------------------------------------------------------------------

    def resolved(self, job: Receiving, entry: Resolved) -> None:
        """An entry has its result: an event, if anybody listens."""
        running = self._running.get(job)
        if running is None or entry.folder:
            return
        if entry.stored_as is not None and entry.stored_as != (*running.into, *entry.path):
            running.renamed += 1
        if not self.events.subscribers:
            return
        error = None
        if entry.error:
            row = kind_by_number(entry.error)
            error = Error(row.name, row.sentence, row.hint)
        self.events.publish(
            events.file_event(
                entry.path,
                job=running.hex,
                peer=running.peer,
                status=entry.status,
                size=entry.size,
                digest=entry.digest,
                stored_as=entry.stored_as,
                error=error,
            )
        )

    def ended(self, job: Receiving, error: FtxError | None) -> None:
        """The job and all its disk work are over."""
        running = self._running.pop(job)
        self.rates.end(running.hex)
        job.connection.unlimited()
        counts = job.machine.transcript.counts
        seconds = self._reactor.seconds() - running.began
        self.bytes_in += job.machine.received
        if error is None:
            self._done += 1
            self._partial += counts.failed > 0
            result = "partial" if counts.failed else "ok"
            self.events.publish(
                events.Done(
                    job=running.hex,
                    peer=running.peer,
                    result=result,
                    files=counts.files,
                    directories=counts.folders,
                    bytes=counts.bytes,
                    bytes_wire=job.machine.received,
                    files_identical=counts.identical,
                    files_skipped=counts.skipped,
                    files_failed=counts.failed,
                    seconds=seconds,
                    receipt=None,
                    exit=kind("partial").exit_code if counts.failed else 0,
                )
            )
            said = job_result(counts, running.renamed, seconds)
            _log.info("job {job} from {peer}: {result}", job=running.hex, peer=running.peer.name, result=said)
        else:
            self._failed += 1
            self.errors[error.name] = self.errors.get(error.name, 0) + 1
            if error.name == "cancelled":
                error = FtxError(error.name, f"{error.message}; {kept(counts.files, counts.bytes)}", error.hint)
            info = events.error_info(error.as_value())
            if info is not None:
                code = error.exit_code
                self.events.publish(
                    events.Failed(
                        job=running.hex,
                        peer=running.peer,
                        error=info,
                        exit=code,
                        resumable=code == 4 or error.name == "cancelled",
                        files_stored=counts.files,
                        bytes_stored=counts.bytes,
                    )
                )
            _log.info(
                "job {job} from {peer} ended: {reason}",
                job=running.hex,
                peer=running.peer.name,
                reason=show(error.message),
            )
        for who, count in running.guarded.refused.most_common(limits.REFUSALS_SAID):
            _log.info("audit: job {job}: {files} refused: {who}", job=running.hex, files=plural(count, "file"), who=who)
        state: JobState = "done" if error is None else "failed"
        ended = events.iso_time(self._wall())
        self._finished.append(self._info(running, state, error, ended))
        if not self._running:
            if self._reporting.running:
                self._reporting.stop()
            if self._idle is not None:
                idle, self._idle = self._idle, None
                idle.callback(None)

    # -- what is shown -------------------------------------------------------------------------------------

    def list(self, state: JobState | None) -> list[JobInfo]:
        """Every job there is and the last ones that ended, oldest first; or those in `state`."""
        out = [] if self._serving is None else self._serving.list()
        finished = sorted([*self._finished, *(info for info in out if info.ended)], key=lambda info: info.ended or "")
        running = [self._info(job, "active") for job in self._running.values()]
        every = [*finished, *running, *self.approvals.jobs(), *(info for info in out if not info.ended)]
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
        out = self._serving
        return JobCounts(
            active=len(self._running) + (out.active if out is not None else 0),
            waiting=len(self.approvals),
            done=self._done + (out.done if out is not None else 0),
            failed=self._failed + (out.failed if out is not None else 0),
            partial=self._partial + (out.partial if out is not None else 0),
        )

    def received_so_far(self) -> int:
        """Content bytes that came over the wire since the start."""
        return self.bytes_in + sum(job.receiving.machine.received for job in self._running.values())

    def sent_so_far(self) -> int:
        """Content bytes that went out over the wire since the start."""
        return 0 if self._serving is None else self._serving.sent_so_far()

    def _info(
        self, job: _Running, state: JobState, error: FtxError | None = None, ended: str | None = None
    ) -> JobInfo:
        machine = job.receiving.machine
        totals, counts = machine.totals, machine.transcript.counts
        return JobInfo(
            job=job.hex,
            state=state,
            peer=job.peer,
            direction="in",
            files=None if totals is None else totals.files,
            bytes_total=None if totals is None else totals.bytes,
            bytes_confirmed=machine.verified,
            bytes_durable=machine.durable,
            rate=job.meter.rate if state == "active" else None,
            path=path_text(job.into),
            error=None if error is None else events.error_info(error.as_value()),
            files_done=counts.files + counts.skipped + counts.failed,
            files_failed=counts.failed,
            files_stored=counts.files,
            paused=_PAUSED[machine.paused_here, machine.paused_there] if state == "active" else "",
            started=job.started,
            ended=ended,
        )

    def _report(self) -> None:
        now = self._reactor.seconds()
        for job in self._running.values():
            machine = job.receiving.machine
            totals = machine.totals
            job.meter.feed(now, machine.verified, None if totals is None else totals.bytes, machine.present)
            counts = machine.transcript.counts
            self.events.publish(
                events.Progress(
                    job=job.hex,
                    peer=job.peer,
                    stage="paused" if machine.paused else "transferring",
                    bytes_confirmed=machine.verified,
                    bytes_durable=machine.durable,
                    bytes_sent=machine.received,
                    bytes_total=None if totals is None else totals.bytes,
                    files_done=counts.files + counts.skipped + counts.failed,
                    files_total=None if totals is None else totals.files,
                    rate=job.meter.rate,
                    eta_s=job.meter.eta_s,
                )
            )

    # -- ends ----------------------------------------------------------------------------------------------

    async def cancel(self, job: str) -> JobInfo:
        """End a job; the peer is told. FtxError `no-such-job`, or `job-over` when there is nothing to end.

        A disk that stalls is not waited for: the job is then shown as it is, and ends when the disk lets it.
        """
        if self._serving is not None and await self._serving.cancel(job):
            return self.find(job)
        running = self._active(job)
        ended = running.receiving.wait_stopped()
        running.receiving.cancel(FtxError("cancelled", "cancelled here"))
        with contextlib.suppress(TimeoutError):  # of Twisted, not Python's own
            await ended.addTimeout(limits.CANCEL_WAIT + limits.ABORT_AFTER, self._reactor)
        return self.find(job)

    def pause(self, job: str, paused: bool) -> JobInfo:
        """Pause a job or let it go on; the peer is told. FtxError `no-such-job` or `job-over`."""
        running = self._active(job)
        running.receiving.pause(paused)
        self._report()
        return self.find(job)

    def _active(self, job: str) -> _Running:
        for running in reversed(self._running.values()):
            if running.hex == job:
                return running
        ended = self.find(job)
        raise FtxError("job-over", f"job {job[:8]} is over already: {ended.state}")

    def drain(self) -> Deferred[None]:
        """Take no more jobs; fires when there are none."""
        self.draining = True
        self.approvals.close("peer-stopping")
        waiting: Deferred[None] = Deferred()
        if not self._running:
            waiting.callback(None)
        elif self._idle is None:
            self._idle = waiting
        else:
            self._idle.chainDeferred(waiting)
        if self._serving is None:
            return waiting
        return Deferred.fromCoroutine(_each([waiting, self._serving.drain()]))

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
        self.events.close()
