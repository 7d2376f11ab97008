"""One download from one peer: the job over all its attempts, and the events that tell of it.

The mirror image of `ftx.client.upload`: here we are the receiver, with an inbox of our own for as long as it takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ftx import limits
from ftx.client.account import Account
from ftx.client.attempts import Attempts
from ftx.client.reasons import explained_here
from ftx.core.events import LeftOut, Resolved
from ftx.disk.keys import Identity
from ftx.disk.store import JobStore, Path, Store
from ftx.errors import Error, FtxError, kind, kind_by_number
from ftx.net.asking import Asking
from ftx.net.dial import Dialled
from ftx.net.lanes import Lanes
from ftx.net.receiving import Observer, Receiving
from ftx.net.worker import Worker
from ftx.text import kept, show
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
        links: str = "skip",
        lanes: int | None = None,
        on_event: Callable[[events.Event], object],
    ) -> None:
        """`compare`: the peer may learn of files that are here whether they are the same as its own.

        `links`: what becomes of symbolic links, one of `ftx.wire.messages.LINKS`.
        """
        self._reactor: IReactorTime = reactor
        self._worker = worker
        self._identity = identity
        self._attempts = attempts
        self._paths = tuple(paths)
        self._exclude = tuple(exclude)
        self._conflict = conflict
        self._compare = compare
        self._links = links
        #: Lanes that are asked for, None for as many as are of use.
        self._wanted = lanes
        self._lanes: Lanes | None = None
        self._destination = destination
        self._store: Store | None = None
        self._id = job
        self._account = Account(reactor, job.hex(), attempts, on_event)
        self._receiving: Receiving | None = None
        self._ended: Deferred[None] = Deferred()
        self._full = False
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
        except CancelledError:
            if self._receiving is not None:
                self._failed(FtxError("interrupted"))
            raise
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
            offer = await Asking(connection, self._id).run(self._paths, self._exclude, self._links)
            self._account.emit(events.Offered(job=self._account.job, peer=self._attempts.peer))
            store = await self._opened(dialled, offer)
            if connection.over:
                await self._worker.run(store.close)
                raise connection.stopped_by or FtxError("connection-lost")
            receiving = self._begin(dialled, offer, store)
            await self._ended
        except CancelledError:
            if receiving is not None:
                receiving.cancel(FtxError("interrupted"))  # the peer is told what stays here
                await receiving.wait_stopped()
            raise
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
        self._account.begin_anew()
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
            links=self._links == "keep",
        )
        self._lanes = self._attempts.lanes(dialled, receiving.bundle, self._id, up=False, wanted=self._wanted)
        if not self._reporting.running:
            self._reporting.start(limits.PROGRESS_FASTEST, now=False)
        receiving.begin()
        receiving.hold(self._full)
        self._account.emit(events.Accepted(job=self._account.job, peer=self._attempts.peer))
        return receiving

    def _heard(self) -> float | None:
        return None if self._receiving is None else self._receiving.connection.session.last_received

    # -- what the job tells (Observer) ---------------------------------------------------------------------

    def resolved(self, job: Receiving, entries: Sequence[Resolved]) -> None:
        """Entries have their results."""
        for entry in entries:
            error = _explained(entry.error) if entry.error else None
            if error is not None and self._destination.failure is not None:
                error = self._destination.failure.as_value()
            self._account.resolved(entry, error)

    def left_out(self, job: Receiving, entry: LeftOut) -> None:
        """Something there cannot be sent."""
        self._account.left_out(entry.path, _explained(entry.error))

    def ended(self, job: Receiving, error: FtxError | None) -> None:
        """The job on this connection is over, and its disk work."""
        if self._ended.called:
            return
        if error is None:
            self._ended.callback(None)
        else:
            self._ended.errback(error)

    def _report(self) -> None:
        """Progress: as often as it changes, within bounds, and once a second in any case."""
        receiving = self._receiving
        if receiving is None:
            return
        machine, totals = receiving.machine, receiving.machine.totals
        if self._lanes is not None and totals is not None and not receiving.over:
            self._lanes.consider(totals.bytes - machine.present)
        stage = "transferring"
        if self._attempts.away:
            stage = "waiting"
        elif machine.paused:
            stage = "paused"
        elif totals is None and not machine.received:
            stage = "scanning"
        elif totals is not None and machine.verified >= totals.bytes:
            stage = "syncing"
        self._account.progress(
            stage,
            confirmed=machine.verified,
            durable=machine.durable,
            sent=self._wire + machine.received,
            present=machine.present,
            counts=machine.transcript.counts,
            totals=totals,
        )

    # -- ends ----------------------------------------------------------------------------------------------

    def _done(self) -> events.Done:
        receiving = self._receiving
        if receiving is None:
            raise FtxError("internal")
        self._report()
        counts, account = receiving.machine.transcript.counts, self._account
        failed = counts.failed + account.problems
        done = events.Done(
            job=account.job,
            peer=self._attempts.peer,
            result="partial" if failed else "ok",
            files=counts.files,
            directories=counts.folders,
            bytes=counts.bytes,
            bytes_wire=self._wire + receiving.machine.received,
            files_identical=counts.identical,
            files_skipped=counts.skipped + account.skipped,
            files_failed=failed,
            seconds=account.seconds,
            receipt=None,
            exit=account.exit_code(counts),
        )
        account.emit(done)
        return done

    def _failed(self, error: FtxError) -> events.Failed:
        counts = None if self._receiving is None else self._receiving.machine.transcript.counts
        files, content = (0, 0) if counts is None else (counts.files, counts.bytes)
        if error.name == "cancelled":
            said = f"cancelled by {show(self._attempts.called) or 'the sender'}; {kept(files, content)}"
            error = FtxError(error.name, said, "run the same command again to go on, if the other side agrees")
        error = self._destination.failure or error
        info = events.error_info(error.as_value())
        if info is None:
            raise error
        self._report()  # how far it came is worth knowing when it is to be resumed
        return self._account.failed(error, info, files=files, content=content)


def _explained(number: int) -> Error:
    """The error of that number, told to who receives."""
    row = kind_by_number(number)
    return explained_here(Error(row.name, row.sentence, row.hint))
