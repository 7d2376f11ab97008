"""One upload to one peer: attempts, retries, and the events that tell of them."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from ftx import limits
from ftx.client.find import Found, check_expected
from ftx.client.reasons import explained
from ftx.client.receiptfile import ReceiptFile
from ftx.core.events import Resolved
from ftx.core.identity import format_id
from ftx.core.peers import TrustStore
from ftx.core.progress import Meter
from ftx.core.trust import Trusted, judge
from ftx.disk.keys import Identity
from ftx.disk.memory import DigestMemory
from ftx.disk.peers import update
from ftx.disk.selection import Selection
from ftx.disk.source import Root, SourceProblem, Totals
from ftx.errors import Error, FtxError, kind_by_number
from ftx.net.dial import Dialled, dial
from ftx.net.interfaces import interfaces, own_addresses
from ftx.net.sending import Sending, Watcher
from ftx.net.tls import Credentials
from ftx.net.worker import Worker
from ftx.text import kept, show
from ftx.wire import events
from ftx.wire.messages import CONFLICTS, FEATURES, Offer, Receipt, decode_receipt_body

__all__ = ["Upload"]

_log = Logger()

#: Reasons after which another attempt makes sense.
_LOST = frozenset({"connection-lost", "connection-reset", "peer-silent", "connect-timeout", "network-unreachable"})
#: Reasons of a server that took the connection and let it go before its hello.
_DROPPED = frozenset({"connection-lost", "connection-reset"})
#: Reasons that mean the peer may be on its way back, once a connection had stood.
_AWAY = _LOST | {"connection-refused", "peer-stopping", "busy", "hello-timeout"}


class Upload(Watcher):
    """Everything about one upload; `run()` may be called once."""

    def __init__(
        self,
        reactor: Any,
        worker: Worker,
        identity: Identity,
        peers: TrustStore,
        found: Found,
        tops: tuple[Root, ...],
        into: tuple[bytes, ...],
        conflict: int | None,
        *,
        checksum: bool = False,
        compress: bool = True,
        state: str,
        peers_file: str,
        name: str,
        own_key_anywhere: bool,
        retries: int | None,
        selection: Selection,
        on_event: Callable[[events.Event], object],
    ) -> None:
        self._reactor: IReactorTime = reactor
        self._worker = worker
        self._identity = identity
        self._credentials = Credentials(identity)
        self._peers = peers
        self._found = found
        self._tops = tops
        self._offer = Offer(secrets.token_bytes(16), 0, list(into), conflict, None, None, None)
        self._job = self._offer.job.hex()
        self._memory = DigestMemory(os.path.join(state, "digests"))
        self._peers_file = peers_file
        self._name = name
        self._checksum = checksum
        self._features = [feature for feature in FEATURES if compress or feature != "zstd"]
        self._own_key_anywhere = own_key_anywhere
        self._retries = retries
        self._selection = selection
        self._on_event = on_event
        self._peer = events.PeerInfo(name=found.name)
        self._began = reactor.seconds()
        self._sending: Sending | None = None
        self._meter = Meter()
        self._problems: list[tuple[tuple[bytes, ...], Error]] = []
        self._skipped = 0
        self._reasons: set[str] = set()
        self._receipt = ReceiptFile(worker, os.path.join(state, "receipts"), self._job)
        self._said: tuple[int, ...] = ()
        self._said_at = float("-inf")
        self._wire = 0
        self._totals: Totals | None = None

    async def run(self) -> events.Done | events.Failed:
        """Try until the receipt is here or nothing more can be done; the last event is returned."""
        reporting = LoopingCall(self._report)
        reporting.clock = self._reactor
        try:
            receipt = await self._attempts(reporting)
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
            if reporting.running:
                reporting.stop()
            await self._receipt.abandon()

    # -- attempts ------------------------------------------------------------------------------------------

    async def _attempts(self, reporting: LoopingCall) -> Receipt:
        attempt = 0
        delay = limits.RETRY_FIRST
        last_heard = self._reactor.seconds()
        while True:
            try:
                return await self._attempt(reporting)
            except FtxError as error:
                if self._sending is not None:
                    self._totals = self._sending.totals
                    heard = self._sending.last_heard
                    if heard is not None and heard > last_heard:  # it went on for a while: this is a new trouble
                        last_heard, delay = heard, limits.RETRY_FIRST
                if not self._may_retry(error, attempt, last_heard):
                    raise
                attempt += 1
                delay *= random.uniform(0.7, 1.3)  # many clients that lost one server should not come back as one
                info = events.error_info(error.as_value())
                if info is not None:
                    self._emit(events.Retry(job=self._job, peer=self._peer, attempt=attempt, delay_s=delay, error=info))
            self._away = True
            await deferLater(self._reactor, delay, lambda: None)
            delay = min(delay * limits.RETRY_GROWTH, limits.RETRY_MOST)

    async def _attempt(self, reporting: LoopingCall) -> Receipt:
        """One connection from its dialling to its end, which nothing of it outlives."""
        dialled = await self._dial()
        sending: Sending | None = None
        try:
            if not reporting.running:
                reporting.start(limits.PROGRESS_FASTEST, now=False)
            if not dialled.trusted.own:
                await self._remember(dialled.trusted.id, f"{_bracketed(dialled.address)}:{dialled.port}")
            sending = self._begin(dialled)
            return await sending.run(self._totals)
        finally:
            if sending is not None:  # one that was cancelled may still wait for what the receiver says it keeps
                await sending.wait_stopped()
            dialled.connection.finish()

    def _may_retry(self, error: FtxError, attempt: int, last_heard: float) -> bool:
        if self._sending is None:
            # A first connection that is refused is not tried again. One that was taken and then dropped before a word
            # was said met a server with too many strangers at its door.
            if error.name not in _DROPPED or attempt >= limits.RETRY_DROPPED:
                return False
        elif error.name not in _AWAY or self._sending.pipe_begun:
            return False  # what was read of standard input cannot be read again
        if self._retries is not None and attempt >= self._retries:
            return False
        return self._reactor.seconds() - last_heard < limits.RETRY_FOR

    async def _dial(self) -> Dialled:
        first = self._found.places[0]
        must_be = "" if self._found.expected is None else format_id(self._found.expected)
        self._peer = events.PeerInfo(self._found.name, self._peer.id or must_be, first.host, first.port)
        self._emit(events.Connecting(job=self._job, peer=self._peer))
        addresses = await self._worker.run(lambda: own_addresses(interfaces()))

        def accept(key: bytes, address: str) -> Trusted:
            check_expected(self._found, key, address, self._peers)
            return judge(
                key,
                address,
                own_id=self._identity.id,
                own_name=self._name,
                own_addresses=addresses,
                own_key_anywhere=self._own_key_anywhere,
                peers=self._peers,
                unknown="unknown-peer",
            )

        dialled = await dial(
            self._reactor,
            self._credentials,
            self._found.places,
            name=self._name,
            accept=accept,
            features=self._features,
        )
        trusted = dialled.trusted
        self._peer = events.PeerInfo(
            self._found.name if trusted.own else trusted.name, format_id(trusted.id), dialled.address, dialled.port
        )
        self._emit(events.Connected(job=self._job, peer=self._peer))
        return dialled

    async def _remember(self, peer: bytes, address: str) -> None:
        """Note where and when the peer was seen. A convenience: that it cannot be written stops nothing."""
        now = events.iso_time()
        try:
            await self._worker.run(update, self._peers_file, lambda store: store.touch(peer, address, now))
        except FtxError as error:
            _log.warn("the peer's address could not be remembered: {reason}", reason=error.message)

    def _begin(self, dialled: Dialled) -> Sending:
        """The job on a new connection, ready to run."""
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
            checksums=self._checksum,
            selection=self._selection,
        )
        self._away = False
        self._emit(events.Offered(job=self._job, peer=self._peer))
        return self._sending

    # -- what the job tells (Watcher) ----------------------------------------------------------------------

    def accepted(self, job: Sending) -> None:
        """The receiver takes the job: it begins anew, and what an earlier attempt gathered is void.

        Not so when a finished job is answered by its receipt at once: then what was gathered before is all there is.
        """
        self._problems, self._skipped = [], 0
        self._reasons = set()
        self._receipt.begin_anew()
        totals = job.totals
        self._emit(
            events.Accepted(
                job=self._job,
                peer=self._peer,
                files=None if totals is None else totals.files,
                bytes=None if totals is None else totals.bytes,
            )
        )

    def resolved(self, job: Sending, entry: Resolved) -> None:
        """An entry has its result: an event, and a line of the receipt."""
        self._receipt.add(entry.line)
        error = None
        if entry.error:
            row = kind_by_number(entry.error)
            whole = (*self._offer.into, *entry.path)
            error = explained(Error(row.name, row.sentence, row.hint), whole, self._found.name)
            self._reasons.add(row.name)
        if not entry.folder or error is not None:
            self._file(entry.path, entry.status, error, entry.size, entry.digest, entry.stored_as)

    def problem(self, job: Sending, problem: SourceProblem) -> None:
        """Something below the sources was left out. Links and devices are skipped, anything else has failed."""
        if problem.error.name == "special-file":
            self._skipped += 1
            self._file(problem.path, "skipped", problem.error)
        else:
            self._problems.append((problem.path, problem.error))
            self._reasons.add(problem.error.name)
            self._file(problem.path, "failed", problem.error)

    def _file(
        self,
        path: tuple[bytes, ...],
        status: str,
        error: Error | None,
        size: int | None = None,
        digest: bytes | None = None,
        stored_as: tuple[bytes, ...] | None = None,
    ) -> None:
        self._emit(
            events.file_event(
                path,
                job=self._job,
                peer=self._peer,
                status=status,
                size=size,
                digest=digest,
                stored_as=stored_as,
                error=error,
            )
        )

    def _report(self) -> None:
        """Progress: as often as it changes, within bounds, and once a second in any case."""
        sending = self._sending
        if sending is None:
            return
        machine, totals = sending.machine, sending.totals or self._totals
        now = self._reactor.seconds()
        counts = machine.transcript.counts
        confirmed = machine.progress.verified
        figures = (confirmed, machine.progress.durable, sending.sent, counts.files, counts.failed, machine.paused)
        self._meter.feed(now, confirmed, None if totals is None else totals.bytes, machine.present)
        if figures == self._said and now - self._said_at < limits.PROGRESS_SLOWEST:
            return
        self._said, self._said_at = figures, now
        stage = "transferring"
        if self._away:
            stage = "waiting"
        elif machine.paused:
            stage = "paused"
        elif totals is None and not confirmed and not sending.sent:
            stage = "scanning"
        elif machine.progress.stage or (totals is not None and confirmed >= totals.bytes):
            stage = "syncing"
        self._emit(
            events.Progress(
                job=self._job,
                peer=self._peer,
                stage=stage,
                bytes_confirmed=confirmed,
                bytes_durable=machine.progress.durable,
                bytes_sent=self._wire + sending.sent,
                bytes_total=None if totals is None else totals.bytes,
                files_done=counts.files + counts.skipped + counts.failed,
                files_total=None if totals is None else totals.files,
                rate=None if self._away else self._meter.rate,
                eta_s=None if self._away else self._meter.eta_s,
            )
        )

    # -- ends ----------------------------------------------------------------------------------------------

    async def _done(self, receipt: Receipt) -> events.Done:
        sending = self._sending
        if sending is None or sending.peer is None:
            raise FtxError("internal")
        body = decode_receipt_body(receipt.body)
        now = time.time()
        path = await self._receipt.keep(receipt, sending.peer.public_raw, now)
        await self._worker.run(self._memory.clean, now)
        self._report()
        failed = body.failed + len(self._problems)
        code = 0
        if failed:
            alone = not body.files and not body.skipped and len(self._reasons) == 1
            code = FtxError(next(iter(self._reasons))).exit_code if alone else FtxError("partial").exit_code
        done = events.Done(
            job=self._job,
            peer=self._peer,
            result="partial" if failed else "ok",
            files=body.files,
            directories=body.folders,
            bytes=body.bytes,
            bytes_wire=self._wire + sending.sent,
            files_identical=body.identical,
            files_skipped=body.skipped + self._skipped,
            files_failed=failed,
            seconds=self._reactor.seconds() - self._began,
            receipt=path,
            exit=code,
        )
        self._emit(done)
        return done

    def _failed(self, error: FtxError) -> events.Failed:
        wish = None if self._offer.conflict is None else CONFLICTS[self._offer.conflict]
        files, content = self._kept()
        if error.name == "cancelled":
            said = f"cancelled by {show(self._found.name) or 'the receiver'}; {kept(files, content)}"
            error = FtxError(error.name, said, "run the same command again to go on, if the other side agrees")
        info = events.error_info(explained(error.as_value(), tuple(self._offer.into), self._found.name, wish))
        if info is None:
            raise error
        self._report()  # how far it came is worth knowing when it is to be resumed
        resumable = error.exit_code in (4, 130, 143) or error.name in ("no-space", "busy", "cancelled")
        resumable = resumable and not (self._sending is not None and self._sending.pipe_begun)
        if error.exit_code == 6:
            self._emit(events.Refused(job=self._job, peer=self._peer, error=info))
        failed = events.Failed(
            job=self._job,
            peer=self._peer,
            error=info,
            exit=error.exit_code,
            resumable=resumable,
            files_stored=files,
            bytes_stored=content,
        )
        self._emit(failed)
        return failed

    def _kept(self) -> tuple[int, int]:
        """Files, and their content, that the receiver keeps as far as we know."""
        if self._sending is None:
            return 0, 0
        machine = self._sending.machine
        counts = machine.transcript.counts
        if machine.kept is None:
            return counts.files, counts.bytes
        return machine.kept.files, machine.kept.bytes

    def _emit(self, event: events.Event) -> None:
        self._on_event(event)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
