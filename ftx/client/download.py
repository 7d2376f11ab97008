"""One download from one peer: the job over all its attempts, and the events that tell of it.

The mirror image of `ftx.client.upload`: here we are the receiver, with an inbox of our own for as long as it takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ftx import limits
from ftx.client.attempts import Attempts
from ftx.client.reasons import explained_here
from ftx.core.events import LeftOut, Resolved
from ftx.core.progress import Meter
from ftx.disk.keys import Identity
from ftx.disk.store import JobStore, Path, Store
from ftx.errors import Error, FtxError, kind, kind_by_number
from ftx.net.asking import Asking
from ftx.net.dial import Dialled
from ftx.net.receiving import Observer, Receiving
from ftx.net.worker import Worker
from ftx.wire import events
from ftx.wire.messages import CONFLICTS, Offer, Refuse

__all__ = ["Destination", "Download"]

_log = Logger()


class Destination(Protocol):
    """Where a download goes. Both block."""

    def open(self) -> Store:
        """The store; called once, when the peer has something for it. FtxError when it cannot be used."""

    def close(self) -> None:
        """Nothing more comes."""

    @property
    def failure(self) -> FtxError | None:
        """What went wrong on this side, when that says more than what the job came to."""


class Download(Observer):
    """Everything about one download; `run()` may be called once."""

    def __init__(
        self,
        reactor: Any,
        worker: Worker,
        identity: Identity,
        attempts: Attempts,
        paths: Sequence[Path],
        exclude: Sequence[str],
        conflict: str,
        destination: Destination,
        *,
        job: bytes,
        compare: bool = False,
        on_event: Callable[[events.Event], object],
    ) -> None:
        """`compare`: the peer may learn of files that are here whether they are the same as its own."""
        self._reactor: IReactorTime = reactor
        self._worker = worker
        self._identity = identity
        self._attempts = attempts
        self._paths = tuple(paths)
        self._exclude = tuple(exclude)
        self._conflict = conflict
        self._compare = compare
        self._destination = destination
        self._store: Store | None = None
        self._id = job
        self._job = job.hex()
        self._on_event = on_event
        self._began = reactor.seconds()
        self._receiving: Receiving | None = None
        self._ended: Deferred[None] = Deferred()
        self._full = False
        self._meter = Meter()
        self._problems = 0
        self._skipped = 0
        self._reasons: set[str] = set()
        self._said: tuple[int, ...] = ()
        self._said_at = float("-inf")
        self._wire = 0
        self._reporting = LoopingCall(self._report)
        self._reporting.clock = reactor

    async def run(self) -> events.Done | events.Failed:
        """Try until everything is here or nothing more can be done; the last event is returned."""
        try:
            await self._attempts.run(self._attempt, self._heard)
            if self._destination.failure is not None:
                raise self._destination.failure
            return self._done()
        except FtxError as error:
            if not self._attempts.begun:
                raise  # no job ever existed: the caller says what is wrong
            return self._failed(error)
        finally:
            if self._reporting.running:
                self._reporting.stop()
            await self._worker.run(self._destination.close)

    def hold(self, full: bool) -> None:
        """Whoever takes the events has enough of them for now, or wants more: the connection is read no further."""
        self._full = full
        if self._receiving is not None:
            self._receiving.hold(full)

    # -- attempts ------------------------------------------------------------------------------------------

    async def _attempt(self, dialled: Dialled) -> None:
        """The job on one connection, of which nothing outlives this."""
        connection = dialled.connection
        if self._receiving is not None:
            self._wire += self._receiving.machine.received
            self._receiving = None
        receiving: Receiving | None = None
        try:
            offer = await Asking(connection, self._id).run(self._paths, self._exclude)
            self._emit(events.Offered(job=self._job, peer=self._attempts.peer))
            store = await self._opened(dialled, offer)
            if connection.over:
                await self._worker.run(store.close)
                raise connection.stopped_by or FtxError("connection-lost")
            receiving = self._begin(dialled, offer, store)
            await self._ended
        finally:
            connection.finish()
            if receiving is not None:
                await receiving.wait_stopped()

    async def _opened(self, dialled: Dialled, offer: Offer) -> JobStore:
        """The store for this attempt; a folder of ours that cannot be used is no business of the peer's."""
        try:
            if self._store is None:
                self._store = await self._worker.run(self._destination.open)
            begin = partial(self._store.begin, reads=self._compare)
            return await self._worker.run(begin, dialled.trusted.id, self._id, (), self._conflict)
        except FtxError:
            if not dialled.connection.over:
                dialled.connection.send(Refuse(offer.job, kind("cancelled").number))
            raise

    def _begin(self, dialled: Dialled, offer: Offer, store: JobStore) -> Receiving:
        self._problems = self._skipped = 0
        self._reasons = set()
        self._ended = Deferred()
        receiving = self._receiving = Receiving(
            dialled.connection,
            offer,
            store,
            CONFLICTS.index(self._conflict),
            worker=self._worker,
            clock=self._reactor,
            wall=time.time,
            identity=self._identity,
            observer=self,
            tops=frozenset(path[-1] for path in self._paths),
        )
        if not self._reporting.running:
            self._reporting.start(limits.PROGRESS_FASTEST, now=False)
        receiving.begin()
        receiving.hold(self._full)
        self._emit(events.Accepted(job=self._job, peer=self._attempts.peer))
        return receiving

    def _heard(self) -> float | None:
        return None if self._receiving is None else self._receiving.connection.session.last_received

    # -- what the job tells (Observer) ---------------------------------------------------------------------

    def resolved(self, job: Receiving, entry: Resolved) -> None:
        """An entry has its result."""
        error = None
        if entry.error:
            row = kind_by_number(entry.error)
            error = explained_here(Error(row.name, row.sentence, row.hint))
            self._reasons.add(error.name)
        if not entry.folder or error is not None:
            self._file(entry.path, entry.status, error, entry.size, entry.digest, entry.stored_as)

    def left_out(self, job: Receiving, entry: LeftOut) -> None:
        """Something there cannot be sent. Links and devices are skipped, anything else has failed."""
        row = kind_by_number(entry.error)
        error = explained_here(Error(row.name, row.sentence, row.hint))
        if row.name == "special-file":
            self._skipped += 1
            self._file(entry.path, "skipped", error)
        else:
            self._problems += 1
            self._reasons.add(row.name)
            self._file(entry.path, "failed", error)

    def ended(self, job: Receiving, error: FtxError | None) -> None:
        """The job on this connection is over, and its disk work."""
        if self._ended.called:
            return
        if error is None:
            self._ended.callback(None)
        else:
            self._ended.errback(error)

    def _file(
        self,
        path: tuple[bytes, ...],
        status: str,
        error: Error | None,
        size: int | None = None,
        digest: bytes | None = None,
        stored_as: tuple[bytes, ...] | None = None,
    ) -> None:
        peer = self._attempts.peer
        self._emit(
            events.file_event(
                path,
                job=self._job,
                peer=peer,
                status=status,
                size=size,
                digest=digest,
                stored_as=stored_as,
                error=error,
            )
        )

    def _report(self) -> None:
        """Progress: as often as it changes, within bounds, and once a second in any case."""
        receiving = self._receiving
        if receiving is None:
            return
        machine, totals = receiving.machine, receiving.machine.totals
        total = None if totals is None else totals.bytes
        now = self._reactor.seconds()
        counts = machine.transcript.counts
        figures = (machine.verified, machine.durable, machine.received, counts.files, counts.failed)
        self._meter.feed(now, machine.verified, total, machine.present)
        if figures == self._said and now - self._said_at < limits.PROGRESS_SLOWEST:
            return
        self._said, self._said_at = figures, now
        away = self._attempts.away
        stage = "transferring"
        if away:
            stage = "waiting"
        elif totals is None and not machine.received:
            stage = "scanning"
        elif total is not None and machine.verified >= total:
            stage = "syncing"
        self._emit(
            events.Progress(
                job=self._job,
                peer=self._attempts.peer,
                stage=stage,
                bytes_confirmed=machine.verified,
                bytes_durable=machine.durable,
                bytes_sent=self._wire + machine.received,
                bytes_total=total,
                files_done=counts.files + counts.skipped + counts.failed,
                files_total=None if totals is None else totals.files,
                rate=None if away else self._meter.rate,
                eta_s=None if away else self._meter.eta_s,
            )
        )

    # -- ends ----------------------------------------------------------------------------------------------

    def _done(self) -> events.Done:
        receiving = self._receiving
        if receiving is None:
            raise FtxError("internal")
        self._report()
        counts = receiving.machine.transcript.counts
        failed = counts.failed + self._problems
        code = 0
        if failed:
            alone = not counts.files and not counts.skipped and len(self._reasons) == 1
            code = FtxError(next(iter(self._reasons))).exit_code if alone else FtxError("partial").exit_code
        done = events.Done(
            job=self._job,
            peer=self._attempts.peer,
            result="partial" if failed else "ok",
            files=counts.files,
            directories=counts.folders,
            bytes=counts.bytes,
            bytes_wire=self._wire + receiving.machine.received,
            files_identical=counts.identical,
            files_skipped=counts.skipped + self._skipped,
            files_failed=failed,
            seconds=self._reactor.seconds() - self._began,
            receipt=None,
            exit=code,
        )
        self._emit(done)
        return done

    def _failed(self, error: FtxError) -> events.Failed:
        error = self._destination.failure or error
        info = events.error_info(error.as_value())
        if info is None:
            raise error
        self._report()  # how far it came is worth knowing when it is to be resumed
        peer, code = self._attempts.peer, error.exit_code
        resumable = code in (4, 130, 143) or error.name in ("no-space", "busy")
        if code == 6:
            self._emit(events.Refused(job=self._job, peer=peer, error=info))
        failed = events.Failed(job=self._job, peer=peer, error=info, exit=code, resumable=resumable)
        self._emit(failed)
        return failed

    def _emit(self, event: events.Event) -> None:
        self._on_event(event)
