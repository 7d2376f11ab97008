"""The disk work of a job that is received: what the receiver machine asks of the storage, done in worker threads.

Each effect is carried out in a strand of the worker, so that what belongs to one file happens in order and different
files do not wait for each other:

- one strand looks entries up, ahead of everything;
- two strands store files of one block, in batches: while the disk works on a batch the next one gathers, and begins
  beside it when it is full, so that one is written while the other waits for its sync (`ftx.disk.turn`);
- each larger file has a strand of its own for blocks and publishing, and its syncs run beside it;
- one strand finds out the digests of older copies.

It is longer than other modules because it has an answer to everything that the machine may ask of the disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ftx import limits
from ftx.core.events import (
    CopyBlock,
    Discard,
    Effect,
    FinishFolder,
    LookUp,
    MakeLinks,
    Publish,
    StoreWhole,
    Sync,
    WriteBlock,
)
from ftx.core.receiver import Receiver
from ftx.disk import store
from ftx.disk.packing import unpack
from ftx.errors import FtxError
from ftx.net.backlog import Backlog
from ftx.net.gathered import Batch, Gathered
from ftx.net.worker import Strand, Worker
from ftx.wire.frames import Whole
from ftx.wire.messages import DigestedEntry, FileEntry, FolderEntry, PipeEntry

__all__ = ["Storing"]

_log = Logger()

StoreEntry = store.FileEntry | store.PipeEntry | store.FolderEntry


@attrs.define(eq=False)
class _Large:
    """A file of several blocks that is being received."""

    strand: Strand
    sync: Deferred[None] | None = None


class Storing:
    """Carries out what `machine` asks of `job_store`, and tells it what came of it.

    `perform` carries out the effects that follow; `failed` hears of what ends the connection, `rested` when nothing
    gathers any more; `over` says that outcomes are of no interest any more.
    """

    def __init__(
        self,
        machine: Receiver,
        job_store: store.JobStore,
        backlog: Backlog,
        worker: Worker,
        clock: IReactorTime,
        *,
        perform: Callable[[Sequence[Effect]], None],
        failed: Callable[[FtxError], None],
        rested: Callable[[], None],
        over: Callable[[], bool],
    ) -> None:
        #: One of the two where files of one block are stored, and where what follows them all is done.
        self.strand = worker.strand()
        #: Whether files of one block gather or are being stored.
        self.busy = False
        #: Those of the two strands in which no batch is being stored, the first one last.
        self._idle = [worker.strand(), self.strand]
        self._machine = machine
        self._store = job_store
        self._backlog = backlog
        self._worker = worker
        self._clock = clock
        self._perform = perform
        self._failed = failed
        self._rested = rested
        self._over = over
        self._revoked = False
        self._look_strand = worker.strand()
        self._large: dict[int, _Large] = {}
        #: Wanted files with an older copy whose digests are not found out yet, and whether that is being done.
        self._bases: deque[store.Want] = deque()
        self._finding = False
        self._basis_strand = worker.strand()
        #: Since when another job has let go of none of the files that this one waits for.
        self._busy_since: float | None = None
        self._gathered = Gathered()

    def carry_out(self, effect: Effect) -> None:
        """Begin the disk work that `effect` stands for."""
        match effect:
            case LookUp():
                self._look_up(effect)
            case StoreWhole():
                self._backlog.hold(self._gathered.add_one(effect))
                self._store_soon()
            case FinishFolder():
                self._gathered.finish(effect)
                self._store_soon()
            case MakeLinks():
                self._make_links(effect)
            case WriteBlock():
                self._write_block(effect)
            case CopyBlock():
                self._copy_block(effect)
            case Sync():
                self._sync(effect.number)
            case Publish():
                self._publish(effect)
            case Discard():
                self._discard(effect)

    def unfinished(self) -> list[int]:
        """The larger files that have no result yet."""
        return list(self._large)

    def revoke(self) -> None:
        """Change nothing more on the disk. Thread-safe."""
        self._revoked = True
        self._store.revoke()

    def _entry_failed(self, number: int) -> Callable[[FtxError], None]:
        return lambda error: self._perform(self._machine.failed(number, error.name))

    # -- looking up ----------------------------------------------------------------------------------------

    def _look_up(self, effect: LookUp) -> None:
        entries = [
            store.FileEntry(entry.number, tuple(entry.path), entry.size, entry.mtime, entry.mode)
            if type(entry) is FileEntry  # nearly all are
            else _store_entry(entry)
            for entry in effect.entries
        ]
        self._look(entries)  # those of a frame, so their number is bounded

    def _look(self, part: Sequence[StoreEntry]) -> None:
        def looked_up(outcomes: Sequence[Any]) -> None:
            busy = {one.number for one in outcomes if type(one) is store.Refuse and one.error == "busy"}
            self._looked_up([outcome for outcome in outcomes if outcome.number not in busy] if busy else outcomes)
            if len(busy) < len(part):
                self._busy_since = None
            if busy:
                self._look_later([entry for entry in part if entry.number in busy])

        self._backlog.run(self._look_strand, looked_up, self._store.look_up, part, failed=self._failed)

    def _look_later(self, part: Sequence[StoreEntry]) -> None:
        """Another job of the same key is at these files: follow behind it, as long as it gets on.

        FtxError `busy` ends the connection when it has let go of nothing for `limits.CLAIM_WAIT`. The sender comes
        back, and then it is found out whether that other job is alive at all (`ftx.daemon.offers`).
        """
        now = self._clock.seconds()
        if self._busy_since is None:
            self._busy_since = now
        if now - self._busy_since >= limits.CLAIM_WAIT:
            raise FtxError("busy", "another transfer of the same sender is at the same files")
        self._backlog.expect()  # the job must not end in between

        def look() -> None:
            if not self._over():
                self._look(part)
            self._backlog.expected()

        self._clock.callLater(limits.CLAIM_LOOK, look)

    def _looked_up(self, outcomes: Sequence[Any]) -> None:
        now = self._clock.seconds()
        for kind, run in groupby(outcomes, type):
            if kind is store.Have:
                self._perform(self._machine.have([(one.number, one.stored_as, one.digest) for one in run]))
            elif kind is store.Want:
                self._wanted(list(run), now)
            else:
                for outcome in run:
                    self._answered(outcome)

    def _wanted(self, wants: Sequence[store.Want], now: float) -> None:
        whole = [want.number for want in wants if want.held is None and not want.basis]
        self._perform(self._machine.want_all(whole, now))
        for want in wants if len(whole) < len(wants) else ():
            if want.basis and self._machine.copies:
                self._bases.append(want)
            elif want.held is not None or want.basis:
                self._perform(self._machine.want(want.number, want.held, now))

    def _answered(self, outcome: store.Answer) -> None:
        machine = self._machine
        match outcome:
            case store.Made(number=number):
                self._perform(machine.made(number))
            case store.Skip(number=number):
                self._perform(machine.skip(number))
            case store.Refuse(number=number, error=error):
                self._perform(machine.refuse(number, error))

    # -- older copies --------------------------------------------------------------------------------------

    def next_basis(self) -> None:
        """Find out the digests of the next older copy, one at a time, as long as few enough are on offer."""
        if not self._bases or self._finding or self._over():
            return
        files, blocks = self._machine.bases
        if files >= limits.BASES or blocks >= limits.BASIS_BLOCKS:
            return
        self._finding = True
        want = self._bases.popleft()

        def found(digests: bytes) -> None:
            self._finding = False
            self._perform(self._machine.want(want.number, want.held, self._clock.seconds(), digests))
            self.next_basis()

        def failed(error: FtxError) -> None:
            self._finding = False
            self._failed(error)

        self._backlog.run(self._basis_strand, found, self._basis, want.number, blocks, failed=failed)

    def _basis(self, number: int, offered: int) -> bytes:
        return self._store.basis(number)[: (limits.BASIS_BLOCKS - offered) * limits.DIGEST]

    def _copy_block(self, effect: CopyBlock) -> None:
        number, block = effect.number, effect.block

        def copied(ok: bool) -> None:
            self._perform(self._machine.block_written(number, block, ok, self._clock.seconds()))

        strand, failed = self._file(number).strand, self._entry_failed(number)
        copy = (self._store.copy_block, number, block, effect.offset, effect.digest)
        self._backlog.hold(limits.WORD)
        self._backlog.run(strand, copied, *copy, failed=failed, release=limits.WORD)

    # -- files of one block, and folders -------------------------------------------------------------------

    def gather(self, files: Sequence[Whole]) -> None:
        """Store these small files, each in one piece."""
        if files:
            self._backlog.hold(self._gathered.add(files))
            self._store_soon()

    def _store_soon(self) -> None:
        # The first batch goes when the turn is over, later ones when the disk is ready for more: under load batches
        # grow by themselves, and a single file does not wait. A batch that cannot grow has nothing to wait for.
        if not self.busy:
            self.busy = True
            self._clock.callLater(0, self._store_gathered)
        elif len(self._idle) == 1 and self._gathered.full:
            self._store_gathered()

    def _store_gathered(self) -> None:
        alone = len(self._idle) == 2
        while self._idle and not self._revoked and (alone or self._gathered.full):
            alone = False
            batch = self._gathered.take()
            if batch.files or batch.folders:
                self._run_batch(batch, self._idle.pop())
        self.busy = len(self._idle) < 2
        if not self.busy:
            self._rested()

    def _run_batch(self, batch: Batch, strand: Strand) -> None:
        def failed(error: FtxError) -> None:
            for number in batch.numbers:
                self._perform(self._machine.failed(number, error.name))

        def ended(_: object) -> None:
            self._idle.append(strand)
            self._store_gathered()

        ran = self._backlog.run(strand, self._stored, batch.store, self._store, failed=failed, release=batch.size)
        ran.addCallback(ended)

    def _stored(self, outcomes: Sequence[store.Stored | store.Failed]) -> None:
        machine = self._machine
        effects: list[Effect] = []
        files = [
            (one.number, one.stored_as, one.digest) for one in outcomes if type(one) is store.Stored and one.digest
        ]
        if files:
            effects += machine.stored(files)
        for outcome in outcomes if len(files) < len(outcomes) else ():
            if isinstance(outcome, store.Failed):
                effects += machine.failed(outcome.number, outcome.error)
            elif not outcome.digest:
                effects += machine.finished(outcome.number, outcome.stored_as)
        self._perform(effects)

    # -- links ---------------------------------------------------------------------------------------------

    def _make_links(self, effect: MakeLinks) -> None:
        entries = effect.entries
        links = [store.LinkEntry(entry.number, tuple(entry.path), entry.target, entry.mtime) for entry in entries]

        def failed(error: FtxError) -> None:
            for link in links:
                self._perform(self._machine.failed(link.number, error.name))

        self._backlog.run(self.strand, self._linked, self._store.make_links, links, failed=failed)

    def _linked(self, outcomes: Sequence[Any]) -> None:
        for outcome in outcomes:
            match outcome:
                case store.Stored(number=number, stored_as=stored_as):
                    self._perform(self._machine.link_made(number, stored_as, identical=False))
                case store.Have(number=number, stored_as=stored_as):
                    self._perform(self._machine.link_made(number, stored_as, identical=True))
                case store.Skip(number=number):
                    self._perform(self._machine.skip(number))
                case store.Want(number=number):
                    self._perform(self._machine.link_wanted(number))
                case store.Failed(number=number, error=error):
                    self._perform(self._machine.failed(number, error))

    # -- larger files --------------------------------------------------------------------------------------

    def _file(self, number: int) -> _Large:
        large = self._large.get(number)
        if large is None:
            large = self._large[number] = _Large(self._worker.strand())
        return large

    def _write_block(self, effect: WriteBlock) -> None:
        number, block = effect.number, effect.block

        def write() -> bool:
            chunks: Sequence[bytes | memoryview] | None = effect.chunks
            if effect.packed and chunks is not None:
                content = unpack(chunks, effect.length)
                if content is None:
                    return False
                chunks = [content]
            return self._store.write_block(number, block, chunks, effect.digest)

        def written(ok: bool) -> None:
            self._perform(self._machine.block_written(number, block, ok, self._clock.seconds()))

        held = limits.WORD if effect.chunks is None else effect.length
        self._backlog.hold(held)
        failed = self._entry_failed(number)
        self._backlog.run(self._file(number).strand, written, write, failed=failed, release=held)

    def _sync(self, number: int) -> None:
        large = self._file(number)

        def synced(durable: int) -> None:
            large.sync = None
            self._perform(self._machine.synced(number, durable, self._clock.seconds()))

        def failed(error: FtxError) -> None:
            large.sync = None
            self._entry_failed(number)(error)

        large.sync = self._backlog.run(self._worker.strand(), synced, self._store.sync, number, failed=failed)

    def _publish(self, effect: Publish) -> None:
        number, strand = effect.number, self._file(effect.number).strand
        failed = self._entry_failed(number)

        def published(outcome: store.Stored | store.Failed) -> None:
            if isinstance(outcome, store.Stored):
                self._large.pop(number, None)
            self._stored([outcome])

        self._backlog.run(strand, published, self._store.publish, number, effect.digest, failed=failed)

    def _discard(self, effect: Discard) -> None:
        """Give the entry up, behind its writes and after a sync that is under way."""
        large = self._large.pop(effect.number, None)
        strand = self.strand if large is None else large.strand

        def discard(_: object) -> None:
            self._backlog.run(
                strand,
                lambda _: None,
                self._store.discard,
                effect.number,
                effect.keep,
                failed=lambda error: _log.warn("a partial could not be given up: {error}", error=error.message),
            )

        if large is None or large.sync is None:
            discard(None)
        else:
            self._backlog.expect()  # the job must not end in between
            large.sync.addCallback(discard).addCallback(lambda _: self._backlog.expected())


def _store_entry(entry: FileEntry | PipeEntry | FolderEntry) -> StoreEntry:
    """An entry of the wire as the storage has it."""
    path = tuple(entry.path)
    if isinstance(entry, FolderEntry):
        return store.FolderEntry(entry.number, path)
    if isinstance(entry, PipeEntry):
        return store.PipeEntry(entry.number, path, entry.mtime, entry.mode)
    digest = entry.digest if isinstance(entry, DigestedEntry) else None
    return store.FileEntry(entry.number, path, entry.size, entry.mtime, entry.mode, digest)
