"""One upload to one peer: the job over all its attempts, and the events that tell of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from ftx import limits
from ftx.client import upkeep
from ftx.client.account import Account
from ftx.client.attempts import Attempts
from ftx.client.reasons import explained
from ftx.client.receiptfile import ReceiptFile
from ftx.core.events import Resolved, There
from ftx.disk.keys import Identity
from ftx.disk.memory import DigestMemory
from ftx.disk.selection import Selection
from ftx.disk.source import Root, SourceProblem, Totals
from ftx.errors import Error, FtxError, kind_by_number
from ftx.net.dial import Dialled
from ftx.net.lanes import Lanes
from ftx.net.parties import Watcher
from ftx.net.sending import Sending
from ftx.net.throttle import Limit
from ftx.net.worker import Worker
from ftx.text import kept, show
from ftx.wire import events
from ftx.wire.messages import CONFLICTS, DRY_RUN, PUSH, Offer, Receipt, decode_receipt_body

__all__ = ["Compare", "Upload"]


#: Asks our own person whether the words, shown with the receiver's name, are on the other screen as well.
Compare = Callable[[str, str], Awaitable[bool]]


class Upload(Watcher):
    """Everything about one upload; `run()` may be called once."""

    def __init__(
        self,
        reactor: Any,
        worker: Worker,
        identity: Identity,
        attempts: Attempts,
        tops: tuple[Root, ...],
        into: tuple[bytes, ...],
        conflict: int | None,
        *,
        job: bytes,
        checksum: bool = False,
        dry_run: bool = False,
        limit: int = 0,
        lanes: int | None = None,
        state: str,
        selection: Selection,
        compare: Compare | None = None,
        every_file: bool = True,
        on_event: Callable[[events.Event], object],
    ) -> None:
        self._reactor: IReactorTime = reactor
        self._worker = worker
        self._identity = identity
        self._attempts = attempts
        self._tops = tops
        self._offer = Offer(job, DRY_RUN if dry_run else PUSH, list(into), conflict, None, None, None)
        self._memory = DigestMemory(upkeep.memory_in(state))
        self._state = state
        self._checksum = checksum
        self._limit = Limit(reactor)
        self._limit.change(limit)
        #: Lanes that were asked for, None for as many as are of use; a pipe's blocks have an order, and none take one.
        self._wanted = 0 if any(root.pipe for root in tops) else lanes
        self._lanes: Lanes | None = None
        self._selection = selection
        self._compare = compare
        #: Who answered is not known here: nothing is said of the files before the phrase was compared.
        self._stranger = False
        self._comparing: Deferred[None] | None = None
        #: While somebody is asked at the other end: until when, on the clock of the reactor.
        self._asked_until: float | None = None
        self._account = Account(reactor, job.hex(), attempts, on_event, into=into, every_file=every_file)
        self._sending: Sending | None = None
        self._full = False
        self._would = [0, 0]
        self._receipt = ReceiptFile(worker, upkeep.receipts_in(state), job.hex())
        self._wire = 0
        self._totals: Totals | None = None
        self._reporting = LoopingCall(self._report)
        self._reporting.clock = reactor

    async def run(self) -> events.Done | events.Failed:
        """Try until the receipt is here or nothing more can be done; the last event is returned."""
        try:
            receipt = await self._attempts.run(self._attempt, self._heard, self._final)
            return await self._done(receipt)
        except FtxError as error:
            if self._sending is None:
                raise  # no job ever existed: the caller says what is wrong
            return self._failed(error)
        except CancelledError:
            if self._sending is not None:
                self._failed(FtxError("interrupted"))
            raise
        finally:
            if self._reporting.running:
                self._reporting.stop()
            await self._receipt.abandon()

    # -- attempts ------------------------------------------------------------------------------------------

    async def _attempt(self, dialled: Dialled) -> Receipt:
        """The job on one connection, of which nothing outlives this."""
        if not self._reporting.running:
            self._reporting.start(limits.PROGRESS_FASTEST, now=False)
        self._stranger = not dialled.trusted.known
        sending = self._begin(dialled)
        try:
            return await sending.run(self._totals)
        finally:
            self._asked_until = None
            if self._comparing is not None:
                self._comparing.cancel()
                self._comparing = None
            await sending.wait_stopped()  # one that was cancelled may still wait for what the receiver says it keeps
            dialled.connection.finish()
            self._totals = sending.totals

    def _heard(self) -> float | None:
        return None if self._sending is None else self._sending.last_heard

    def _final(self) -> bool:
        # What was read of standard input cannot be read again.
        return self._sending is not None and self._sending.pipe_begun

    def hold(self, full: bool) -> None:
        """Whoever takes the events has enough of them for now, or wants more: the connection is read no further."""
        self._full = full
        if self._sending is not None:
            self._sending.hold(full)

    def _begin(self, dialled: Dialled) -> Sending:
        """The job on a new connection, ready to run."""
        if self._offer.kind == DRY_RUN and "dry-run" not in dialled.connection.session.features:
            raise FtxError("not-supported", "the receiver knows no dry runs")
        concluded = None
        if self._sending is not None:
            self._wire += self._sending.sent
            concluded = self._sending.machine.concluded
        self._sending = Sending(
            dialled.connection,
            self._offer,
            self._tops,
            worker=self._worker,
            clock=self._reactor,
            wall=time.time,
            memory=self._memory,
            own_id=self._identity.id,
            watcher=self,
            concluded=concluded,
            held=self._stranger,
            checksums=self._checksum,
            selection=self._selection,
            ahead=limits.WALK_AHEAD,
        )
        self._sending.bundle.limit((), (self._limit,))
        bundle = self._sending.bundle
        self._lanes = self._attempts.lanes(dialled, bundle, self._offer.job, up=True, wanted=self._wanted)
        self._sending.hold(self._full)
        self._account.emit(events.Offered(job=self._account.job, peer=self._attempts.peer))
        return self._sending

    # -- what the job tells (Watcher) ----------------------------------------------------------------------

    def waiting(self, job: Sending, seconds: int, phrase: str | None) -> None:
        """Somebody at the other end is asked. Where the receiver is not known here, somebody at this end is, too."""
        self._asked_until = self._reactor.seconds() + seconds
        if phrase is None:
            return
        totals = job.totals
        self._account.emit(
            events.Waiting(
                job=self._account.job,
                peer=self._attempts.peer,
                files=None if totals is None else totals.files,
                bytes=None if totals is None else totals.bytes,
                deadline_s=float(seconds),
                phrase=phrase,
            )
        )
        if self._stranger and self._compare is not None:
            self._comparing = Deferred.fromCoroutine(self._compared(job, self._compare(self._attempts.called, phrase)))

    async def _compared(self, job: Sending, answer: Awaitable[bool]) -> None:
        try:
            same_words = await answer
        except CancelledError:
            return
        except FtxError as error:
            job.give_up(error)
            return
        if same_words:
            job.release()
        else:
            job.give_up(FtxError("unknown-peer", "the words were not confirmed, so nothing was sent"))

    def accepted(self, job: Sending) -> None:
        """The receiver takes the job: it begins anew, and what an earlier attempt gathered is void.

        Not so when a finished job is answered by its receipt at once: then what was gathered before is all there is.
        """
        self._asked_until = None
        if self._stranger and self._comparing is None:
            why = "its key is not paired here, and it asked nobody there: there are no words to compare"
            job.give_up(FtxError("unknown-peer", why))
            return
        self._account.begin_anew()
        self._would = [0, 0]
        self._receipt.begin_anew()
        totals = job.totals
        self._account.emit(
            events.Accepted(
                job=self._account.job,
                peer=self._attempts.peer,
                files=None if totals is None else totals.files,
                bytes=None if totals is None else totals.bytes,
            )
        )

    def progressed(self, job: Sending) -> None:
        """The figures changed: once it is known how much there is, lanes may be of use."""
        totals, runs = job.totals, job.machine.accepted is not None and not job.over
        if self._lanes is not None and totals is not None and runs and self._offer.kind != DRY_RUN:
            self._lanes.consider(totals.bytes - job.machine.present)

    def resolved(self, job: Sending, entry: Resolved) -> None:
        """An entry has its result: an event, and a line of the receipt."""
        self._receipt.add(entry.line)
        if entry.status == "wanted" and not entry.folder:
            self._would[0] += 1
            self._would[1] += entry.size
        error = None
        if entry.error:
            row = kind_by_number(entry.error)
            whole = (*self._offer.into, *entry.path)
            error = explained(Error(row.name, row.sentence, row.hint), whole, self._attempts.called)
        self._account.resolved(entry, error)

    def there(self, job: Sending, run: There) -> None:
        """Files are there now: events of those that are to have one, and the lines of the receipt."""
        self._receipt.add(run.lines)
        self._account.there(run)

    def problem(self, job: Sending, problem: SourceProblem) -> None:
        """Something below the sources was left out."""
        self._account.left_out(problem.path, problem.error)

    def _report(self) -> None:
        """Progress: as often as it changes, within bounds, and once a second in any case."""
        sending = self._sending
        if sending is None:
            return
        machine, totals = sending.machine, sending.totals or self._totals
        confirmed = machine.progress.verified
        stage = "transferring"
        if self._asked_until is not None:
            stage = "approval"
        elif self._attempts.away:
            stage = "waiting"
        elif machine.paused:
            stage = "paused"
        elif totals is None and not confirmed and not sending.sent:
            stage = "scanning"
        elif machine.progress.stage or (totals is not None and confirmed >= totals.bytes):
            stage = "syncing"
        self._account.progress(
            stage,
            confirmed=confirmed,
            durable=machine.progress.durable,
            sent=self._wire + sending.sent,
            present=machine.present,
            counts=machine.transcript.counts,
            totals=totals,
            until=self._asked_until,
        )

    # -- ends ----------------------------------------------------------------------------------------------

    async def _done(self, receipt: Receipt) -> events.Done:
        sending = self._sending
        if sending is None or sending.peer is None:
            raise FtxError("internal")
        body = decode_receipt_body(receipt.body)
        dry = self._offer.kind == DRY_RUN
        path = None if dry else await self._receipt.keep(receipt, sending.peer.public_raw)
        if upkeep.due(self._state):
            await self._worker.run(upkeep.clean, self._state, time.time())
        self._report()
        account = self._account
        failed = body.failed + account.problems
        done = events.Done(
            job=account.job,
            peer=self._attempts.peer,
            result="partial" if failed else "ok",
            files=body.files,
            directories=body.folders,
            bytes=body.bytes,
            bytes_wire=self._wire + sending.sent,
            files_identical=body.identical,
            files_skipped=body.skipped + account.skipped - self._would[0],
            files_failed=failed,
            seconds=account.seconds,
            receipt=path,
            exit=account.exit_code(body),
            dry_run=dry,
            files_wanted=self._would[0],
            bytes_wanted=self._would[1],
        )
        account.emit(done)
        return done

    def _failed(self, error: FtxError) -> events.Failed:
        wish = None if self._offer.conflict is None else CONFLICTS[self._offer.conflict]
        files, content = self._kept()
        called = self._attempts.called
        if error.name == "cancelled":
            said = f"cancelled by {show(called) or 'the receiver'}; {kept(files, content)}"
            error = FtxError(error.name, said, "run the same command again to go on, if the other side agrees")
        info = events.error_info(explained(error.as_value(), tuple(self._offer.into), called, wish))
        if info is None:
            raise error
        self._report()  # how far it came is worth knowing when it is to be resumed
        begun = self._sending is not None and self._sending.pipe_begun
        return self._account.failed(error, info, resumable=not begun, files=files, content=content)

    def _kept(self) -> tuple[int, int]:
        """Files, and their content, that the receiver keeps as far as we know."""
        if self._sending is None:
            return 0, 0
        machine = self._sending.machine
        counts = machine.transcript.counts
        if machine.kept is None:
            return counts.files, counts.bytes
        return machine.kept.files, machine.kept.bytes
