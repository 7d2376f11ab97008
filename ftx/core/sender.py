"""The sender of a job, as a machine: entries in, manifest and content out, results checked.

Theory. The job has four states (table below). Entries are numbered as they are added and remembered until their result
comes, so memory is bounded by the windows. What the receiver wants is worked off in the order in which it asked:
`next_work()` hands out one piece of disk work at a time, so that the owner reads ahead as far as it likes and no
further. Files of one block are read in batches; a larger file is opened, its blocks are read one by one (a block that
the receiver has but whose digest is not remembered is read and hashed, not sent), and it is closed with the digest. A
block that arrived broken is asked for again: a file that was closed is opened, that block sent, the file closed anew.

The sender keeps the same transcript as the receiver and sends `end` when every entry has its result.

The module is over 400 lines for the same reason as `ftx.core.receiver`: the machine is one thing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence, Set
from enum import Enum
from typing import Any

import attrs

from ftx import limits
from ftx.core.blocks import BlockSet, block_count, content_digest, file_digest
from ftx.core.events import (
    CloseEntry,
    Effect,
    OpenEntry,
    ReadBlock,
    ReadPipe,
    ReadWhole,
    Resolved,
    Send,
    VerifyReceipt,
    Waited,
)
from ftx.core.receipt import Transcript
from ftx.core.table import Table, Trace, advance
from ftx.errors import KINDS, FtxError, ProtocolError, kind_from_peer
from ftx.wire.messages import (
    DRY_RUN,
    PULL,
    Accept,
    Basis,
    Cancel,
    DigestedEntry,
    End,
    EntryEnd,
    EntryFailed,
    Failed,
    FileEntry,
    FolderEnd,
    FolderEntry,
    Identical,
    Manifest,
    Message,
    Needs,
    Offer,
    Omission,
    Omitted,
    Pause,
    PipeEntry,
    ProgressMessage,
    Receipt,
    Refuse,
    Results,
    Resume,
    Skipped,
    Stored,
    SymlinkEntry,
    Totals,
    Waiting,
    WantAgain,
    WantAll,
    Wanted,
    WantGroup,
    decode_receipt_body,
)

__all__ = ["SENDER_TABLE", "Sender", "SenderState"]


class SenderState(Enum):
    """Where the job stands, for the sender."""

    #: Offered; the receiver is thinking.
    OFFERED = 1
    #: Somebody at the receiver's end is being asked.
    WAITING = 5
    #: Accepted: entries and content go out.
    STREAMING = 2
    #: `end` is out; the receipt is awaited.
    ENDING = 3
    #: The receipt came, or the offer was refused.
    DONE = 4


def _each(state: SenderState, *events: type) -> dict[type, SenderState]:
    return dict.fromkeys(events, state)


SENDER_TABLE: Table[SenderState] = {
    SenderState.OFFERED: {
        Waiting: SenderState.WAITING,
        Accept: SenderState.STREAMING,
        Refuse: SenderState.DONE,
        Receipt: SenderState.DONE,
    },
    SenderState.WAITING: {
        Waiting: SenderState.WAITING,
        Accept: SenderState.STREAMING,
        Refuse: SenderState.DONE,
    },
    SenderState.STREAMING: _each(SenderState.STREAMING, Basis, Needs, Results, ProgressMessage, Pause, Resume)
    | {End: SenderState.ENDING, Cancel: SenderState.DONE},
    SenderState.ENDING: _each(SenderState.ENDING, ProgressMessage, Pause, Resume)
    | {Receipt: SenderState.DONE, Cancel: SenderState.DONE},
}


@attrs.define(eq=False)
class _Entry:
    number: int
    path: tuple[bytes, ...]
    size: int
    folder: bool
    #: The owner's own note of where the file is.
    source: Any
    #: Blocks asked for, None until the whole answer is here; a file of one block needs none.
    wanted: BlockSet | None = None
    next_group: int = 0
    #: Content bytes that the receiver holds already.
    present: int = 0
    #: A want or a result has come.
    answered: bool = False
    #: A whole want has come: the file must be closed, once.
    asked: bool = False
    #: Handed out as disk work that has not come back.
    active: bool = False
    #: We have sent its last piece, its entry-end or its entry-failed.
    closed: bool = False
    #: The receiver gave its result before we closed the file: close it, and that is all.
    failed: bool = False
    #: Its size is what has been read so far: its blocks, of which one at a time is read.
    pipe: bool = False
    blocks: int = 0
    reading: bool = False
    #: We have closed it with an entry-failed: nothing opens it again.
    withdrawn: bool = False
    #: Blocks to be sent once more, and how often that was asked of us.
    again: list[int] = attrs.field(factory=list)
    repeats: int = 0
    digest: bytes | None = None
    #: The digests of the receiver's older copy, joined.
    basis: bytearray = attrs.field(factory=bytearray)
    #: The digest that it was announced with.
    claimed: bytes | None = None


#: The account and the terms of a job whose `end` was sent.
Concluded = tuple[Transcript, Accept]


class Sender:
    """The sending half of one job.

    Methods that take a message or an outcome return effects. The owner calls `room()` and the `add_*` methods to
    announce entries, and `next_work()` whenever it can take another piece of disk work.
    """

    def __init__(
        self,
        offer: Offer,
        concluded: Concluded | None = None,
        trace: Trace | None = None,
        *,
        features: Set[str] = frozenset(),
    ) -> None:
        """`concluded` is that of the machine that tried the same job before, if it got that far.

        `features` are those that both hellos listed.
        """
        self.state = SenderState.OFFERED
        self._concluded = concluded
        self.offer = offer
        self._features = features
        self.transcript = Transcript()
        self.accepted: Accept | None = None
        #: Content bytes that need not travel: identical files, and blocks that the receiver holds.
        self.present = 0
        #: What the receiver confirmed last.
        self.progress = ProgressMessage(0, 0, 0)
        self.totals: Totals | None = None
        #: Set when a finished job was answered with its receipt at once.
        self.repeated = False
        #: The receiver wants no content for now; and we send none.
        self.paused_there = False
        self.paused_here = False
        #: What the receiver keeps of a job that was cancelled: files and content bytes.
        self.kept: Cancel | None = None
        self._trace = trace
        self._entries: dict[int, _Entry] = {}
        self._next = 0
        self._unanswered = 0
        self._manifest: list[FileEntry | PipeEntry | FolderEntry | FolderEnd | SymlinkEntry] = []
        self._manifest_size = 0
        self._manifest_done = False
        self._omissions: list[Omission] = []
        self._omission_size = 0
        self._last_sent = False
        self._totals_said = False
        self._ready: deque[_Entry] = deque()
        self._current: _Entry | None = None
        self._blocks: Iterator[tuple[int, bool]] | None = None

    # -- what the receiver sends ---------------------------------------------------------------------------

    def receive(self, message: Message) -> list[Effect]:
        """A message of the job from the receiver.

        A `refuse` raises FtxError with the receiver's reason, a `cancel` FtxError `cancelled`; `kept` says what stays.
        """
        self.state = advance(SENDER_TABLE, self.state, type(message), self._trace)
        match message:
            case Waiting():
                if message.job != self.offer.job:
                    raise ProtocolError("protocol-error", "another job is waiting than was offered")
                return [Waited(message), *self._say_totals()]
            case Accept():
                if message.job != self.offer.job:
                    raise ProtocolError("protocol-error", "another job was accepted than was offered")
                self.accepted = message
                return self._say_totals()
            case Refuse():
                if message.job != self.offer.job:
                    raise ProtocolError("protocol-error", "another job was refused than was offered")
                raise FtxError(kind_from_peer(message.number, (4, 5, 6, 7, 8), "refused").name)
            case Basis():
                self._basis(message)
            case Needs():
                for want in message.wants:
                    self._want(want)
            case Results():
                effects: list[Effect] = []
                for result in message.results:
                    effects += self._result(result)
                return effects + self._end_if_complete()
            case ProgressMessage():
                # A receiver that exaggerates must not make our bar do so.
                verified = message.verified if self.totals is None else min(message.verified, self.totals.bytes)
                self.progress = ProgressMessage(verified, min(message.durable, verified), message.stage)
            case Pause() | Resume():
                self._check_job(message.job)
                self.paused_there = isinstance(message, Pause)
            case Cancel():
                self._check_job(message.job)
                self.kept = message
                raise FtxError("cancelled")
            case Receipt():
                return self._receipt(message)
        return []

    # -- the manifest --------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether either side wants no content to travel for now."""
        return self.paused_here or self.paused_there

    def steer(self, paused: bool) -> list[Effect]:
        """Pause or go on, from this side; nothing when it is so already, or before the receiver has accepted."""
        if self.state not in (SenderState.STREAMING, SenderState.ENDING) or paused is self.paused_here:
            return []
        self.paused_here = paused
        return [Send(Pause(self.offer.job) if paused else Resume(self.offer.job))]

    def cancel(self) -> list[Effect]:
        """Give the job up; the receiver answers with a cancel of its own, or with the receipt if it was done."""
        running = self.state in (SenderState.STREAMING, SenderState.ENDING)
        return [Send(Cancel(self.offer.job, 0, 0))] if running else []

    def _check_job(self, job: bytes) -> None:
        if job != self.offer.job:
            raise ProtocolError("protocol-error", "the receiver spoke of another job")

    def room(self) -> int:
        """How many entries may be added now without going over the windows."""
        if self.accepted is None or self._manifest_done or self.paused:
            return 0
        # What is announced is held here until its result: a receiver may want less of that than our limits, never more.
        unanswered = min(self.accepted.unanswered, limits.WINDOW_UNANSWERED) - self._unanswered
        unacknowledged = min(self.accepted.unacknowledged, limits.WINDOW_UNACKNOWLEDGED) - len(self._entries)
        return min(unanswered, unacknowledged, limits.BATCH)

    @property
    def idle(self) -> bool:
        """Whether nothing announced is without its result: the receiver has nothing to do."""
        return not self._entries

    @property
    def concluded(self) -> Concluded | None:
        """Once `end` is out: what a receipt has to agree with, on this connection or on a later one."""
        if self.state in (SenderState.ENDING, SenderState.DONE) and self.accepted is not None:
            return self.transcript, self.accepted
        return self._concluded

    def add_file(
        self,
        path: tuple[bytes, ...],
        size: int,
        mtime: int,
        mode: int,
        source: Any,
        digest: bytes | None = None,
    ) -> list[Effect]:
        """Announce a file; `mtime` in ns since 1970, `source` is given back by `source()`.

        `digest` is the file's, when it was read before: the receiver, if it knows the feature, may find it by that.
        """
        number = self._add(path, size, False, source)
        self._unanswered += 1
        entry = FileEntry(number, list(path), size, mtime, mode)
        if digest is not None and "checksum" in self._features:
            entry = DigestedEntry(number, entry.path, size, mtime, mode, digest)
            self._entries[number].claimed = digest
        return self._announce(entry, path)

    def add_folder(self, path: tuple[bytes, ...]) -> tuple[int, list[Effect]]:
        """Announce a folder; its number is needed for `end_folder`."""
        number = self._add(path, 0, True, None)
        return number, self._announce(FolderEntry(number, list(path)), path)

    def end_folder(self, number: int, mode: int, mtime: int) -> list[Effect]:
        """The folder `number` is complete."""
        return self._announce(FolderEnd(number, mode, mtime), ())

    @property
    def takes_pipes(self) -> bool:
        """Whether the receiver takes files of unknown size."""
        return "pipes" in self._features

    def add_pipe(self, path: tuple[bytes, ...], mtime: int, mode: int, source: Any) -> list[Effect]:
        """Announce a file of unknown size, where `takes_pipes`; `source` is given back by `source()`."""
        number = self._add(path, 0, False, source)
        self._entries[number].pipe = True
        self._unanswered += 1
        return self._announce(PipeEntry(number, list(path), mtime, mode), path)

    @property
    def keeps_links(self) -> bool:
        """Whether the receiver takes symbolic links."""
        return "symlinks" in self._features

    def add_link(self, path: tuple[bytes, ...], target: bytes, mtime: int) -> list[Effect]:
        """Announce a symbolic link, where `keeps_links`; after all files and folders."""
        number = self._add(path, len(target), False, None)
        entry = self._entries[number]
        # There is nothing to ask for, and what it is has been said.
        entry.answered = entry.closed = True
        entry.digest = content_digest(target)
        return self._announce(SymlinkEntry(number, list(path), target, mtime), path, len(target))

    def omit(self, path: tuple[bytes, ...], error: str) -> list[Effect]:
        """Something cannot be sent, for the reason of kind `error`: who has asked for it is told. Not in a push."""
        if self.offer.kind != PULL:
            return []
        path = path[: limits.DEPTH]
        while sum(map(len, path)) + len(path) - 1 > limits.PATH:
            path = path[:-1]
        self._omissions.append(Omission(list(path), KINDS[error].number))
        self._omission_size += 16 + sum(map(len, path)) + 3 * len(path)
        full = len(self._omissions) >= limits.BATCH or self._omission_size > limits.FRAME_BATCH - 2 * limits.PATH
        return self._flush_omissions() if full else []

    def end_manifest(self) -> list[Effect]:
        """There are no more entries."""
        self._manifest_done = True
        return self._flush_omissions() + self._flush_manifest() + self._end_if_complete()

    def flush_manifest(self) -> list[Effect]:
        """Send what was announced so far. `end_manifest` does so by itself."""
        return self._flush_omissions() + (self._flush_manifest() if self._manifest else [])

    def counted(self, files: int, folders: int, size: int) -> list[Effect]:
        """The counting walk has ended."""
        self.totals = Totals(files, folders, size)
        return self._say_totals() if self.state in (SenderState.WAITING, SenderState.STREAMING) else []

    def _say_totals(self) -> list[Effect]:
        """Tell the totals, once, as soon as they are known and wanted."""
        if self.totals is None or self._totals_said or self._last_sent:
            return []
        self._totals_said = True
        return [Send(self.totals)]

    # -- content -------------------------------------------------------------------------------------------

    def source(self, number: int) -> Any:
        """What the owner gave with the file."""
        return self._entries[number].source

    def next_work(self) -> OpenEntry | ReadBlock | ReadPipe | ReadWhole | CloseEntry | None:
        """The next disk work for the owner, or None while there is none (yet)."""
        if self.paused:
            return None
        if self._current is not None:
            return self._next_of_current(self._current)
        if not self._ready:
            return None
        entry = self._ready.popleft()
        entry.active = True
        if entry.pipe:
            self._current = entry
            return self._next_of_current(entry)
        if block_count(entry.size) > 1:
            self._current = entry
            return OpenEntry(entry.number)
        return self._whole_batch(entry)

    def opened(self, number: int, known: BlockSet) -> None:
        """The file is open; the digests of the blocks `known` are remembered and need no reading."""
        wanted = self._entries[number].wanted or BlockSet(known.blocks)
        self._blocks = ((block, block in wanted) for block in wanted.union(known.inverted()))

    def pipe_read(self, number: int, length: int, digest: bytes | None) -> list[Effect]:
        """A block of `length` bytes of a pipe is with the transport; `digest` is the file's, when that was its end."""
        entry = self._entries[number]
        entry.reading = False
        entry.size += length
        entry.blocks += 1
        if digest is None or entry.failed:
            return []
        self._leave(number)
        entry.closed, entry.active, entry.digest = True, False, digest
        return [Send(EntryEnd(number, entry.size, digest))]

    def whole_read(self, number: int, digest: bytes) -> list[Effect]:
        """A file of one block was read, hashed to block digest `digest`, and is with the transport: that closes it."""
        entry = self._entries[number]
        entry.active, entry.closed = False, True
        entry.again.clear()
        entry.digest = file_digest(entry.size, [digest])
        return self._forget(entry) if entry.failed else []

    def closed(self, number: int, digest: bytes) -> list[Effect]:
        """All of the file was read and the source is unchanged; `digest` is the file's."""
        entry = self._leave(number)
        if entry.failed:
            return self._close_failed(entry, KINDS["cancelled"].number)
        if entry.again:  # asked for while we were closing
            entry.active = False
            self._ready.append(entry)
            return []
        entry.active, entry.closed, entry.digest = False, True, digest
        return [Send(EntryEnd(number, entry.size, digest))]

    def source_failed(self, number: int, error: str) -> list[Effect]:
        """The file cannot be sent after all; `error` is the name of a kind. Of what was read ahead, all may say so."""
        entry = self._entries.get(number)
        if entry is None or entry.closed:
            return []
        return self._close_failed(self._leave(number), KINDS[error].number)

    def receipt_verified(self) -> None:
        """The signature under the receipt is right: what it counts is verified and on disk, reported or not."""
        self.state = SenderState.DONE
        signed = max(self.progress.verified, self.transcript.counts.bytes)
        self.progress = ProgressMessage(signed, signed, 0)

    # -- within --------------------------------------------------------------------------------------------

    def _add(self, path: tuple[bytes, ...], size: int, folder: bool, source: Any) -> int:
        number = self._next
        self._next += 1
        self._entries[number] = _Entry(number, path, size, folder, source)
        return number

    def _announce(
        self,
        entry: FileEntry | PipeEntry | FolderEntry | FolderEnd | SymlinkEntry,
        path: Sequence[bytes],
        more: int = 0,
    ) -> list[Effect]:
        size = 40 + sum(map(len, path)) + 3 * len(path) + more + 34 * isinstance(entry, DigestedEntry)
        effects: list[Effect] = []
        if self._manifest_size + size > limits.FRAME_BATCH - 64 or len(self._manifest) >= limits.BATCH:
            effects = self._flush_manifest()
        self._manifest.append(entry)
        self._manifest_size += size
        return effects

    def _flush_manifest(self) -> list[Effect]:
        last = self._manifest_done
        if self._last_sent or not (self._manifest or last):
            return []
        entries, self._manifest, self._manifest_size = self._manifest, [], 0
        self._last_sent = last
        return [Send(Manifest(entries, last))]

    def _flush_omissions(self) -> list[Effect]:
        omissions, self._omissions, self._omission_size = self._omissions, [], 0
        return [Send(Omitted(omissions))] if omissions else []

    def _want(self, want: WantAll | WantGroup | WantAgain) -> None:
        entry = self._entries.get(want.number)
        if isinstance(want, WantAgain):
            self._want_again(entry, want.block)
            return
        if entry is None or entry.folder or entry.answered or self.offer.kind == DRY_RUN:
            raise ProtocolError("protocol-error", "a file was asked for that is not on offer")
        blocks = block_count(entry.size)
        if isinstance(want, WantAll):
            if entry.wanted is not None:
                raise ProtocolError("protocol-error", "a file was asked for in two ways")
            entry.wanted = BlockSet.full(blocks) if blocks > 1 else None
        else:
            if entry.wanted is None:
                entry.wanted = BlockSet(blocks)
            groups = -(-blocks // limits.GROUP)
            if blocks == 1 or want.group != entry.next_group or want.last != (want.group == groups - 1):
                raise ProtocolError("protocol-error", "the groups of a file were not asked for in order")
            try:
                entry.wanted.load_group(want.group, want.bitmap)
            except ValueError as error:
                raise ProtocolError("protocol-error", "blocks were asked for that do not exist") from error
            entry.next_group += 1
            if not want.last:
                return
            entry.present = entry.size - entry.wanted.bytes_in(entry.size)
            self.present += entry.present
        entry.answered = entry.asked = True
        self._unanswered -= 1
        self._ready.append(entry)

    def _basis(self, message: Basis) -> None:
        """Digests of an older copy: of a file that is on offer and not answered, in order, and not without bound."""
        entry = self._entries.get(message.number)
        if entry is None or entry.folder or entry.answered or block_count(entry.size) == 1:
            raise ProtocolError("protocol-error", "an older copy was offered of a file that needs none")
        if len(message.digests) % limits.DIGEST or message.first * limits.DIGEST != len(entry.basis):
            raise ProtocolError("protocol-error", "the digests of an older copy did not follow each other")
        entry.basis += message.digests
        held = sum(len(other.basis) for other in self._entries.values())
        if len(entry.basis) > block_count(entry.size) * limits.DIGEST or held > limits.BASIS_BLOCKS * limits.DIGEST:
            raise ProtocolError("protocol-error", "more digests of older copies came than there may be")

    def _want_again(self, entry: _Entry | None, block: int) -> None:
        if "repair" not in self._features:
            raise ProtocolError("bad-message", "a block was asked for again, and nobody had agreed to that")
        if entry is None or not entry.asked or block >= block_count(entry.size):
            raise ProtocolError("protocol-error", "a block was asked for again that was not sent")
        entry.repeats += 1
        if entry.pipe:
            raise ProtocolError("protocol-error", "a pipe was asked for again")
        if entry.repeats >= limits.BLOCK_TRIES or (block_count(entry.size) == 1 and not entry.closed):
            raise ProtocolError("protocol-error", "blocks were asked for again too often")
        if entry.withdrawn:
            return
        entry.again.append(block)
        if entry.closed:
            entry.closed, entry.digest = False, None
            self._ready.append(entry)

    def _result(self, result: Stored | Identical | Skipped | Failed | Wanted) -> list[Effect]:
        entry = self._entries.get(result.number)
        if entry is None or entry.failed:
            raise ProtocolError("protocol-error", "a result came for an entry that has none coming")
        if not entry.folder and not entry.answered:
            self._unanswered -= 1
            entry.answered = True
        asked = (*self.offer.into, *entry.path)
        if entry.pipe and isinstance(result, Failed | Skipped):
            entry.size = 0
        if isinstance(result, Wanted):
            return self._wanted_dry(entry)
        if isinstance(result, Failed):
            self.present -= entry.present
            number = kind_from_peer(result.error, (3, 4, 5, 6, 7, 8), "refused").number
            line = self.transcript.failed(entry.size, result.error, entry.path)
            effects: list[Effect] = [
                Resolved(entry.path, entry.size, "failed", None, None, number, entry.folder, line)
            ]
            return effects + self._abandon(entry)
        if isinstance(result, Skipped | Identical) and (entry.asked or entry.folder):
            raise ProtocolError("protocol-error", "a file was both asked for and left out")
        if isinstance(result, Skipped):
            line = self.transcript.skipped(entry.size, entry.path)
            del self._entries[entry.number]
            return [Resolved(entry.path, entry.size, "skipped", None, None, 0, False, line)]
        stored_as = asked if result.stored_as is None else tuple(result.stored_as)
        identical = isinstance(result, Identical)
        if entry.folder:
            if result.digest:
                raise ProtocolError("protocol-error", "a folder cannot have a digest")
            line = self.transcript.folder(entry.path, stored_as)
        else:
            if not identical and not entry.closed:
                raise ProtocolError("protocol-error", "a file was stored before all of it was sent")
            if (not identical and entry.digest != result.digest) or len(result.digest) != limits.DIGEST:
                raise ProtocolError("digest-mismatch", "the receiver stored something else than was sent")
            if identical and entry.claimed not in (None, result.digest):
                raise ProtocolError("digest-mismatch", "the receiver took another content for the same")
            line = self.transcript.stored(entry.size, result.digest, entry.path, stored_as, identical=identical)
        del self._entries[entry.number]
        self.present += entry.size if identical else 0
        status = "identical" if identical else "stored"
        return [Resolved(entry.path, entry.size, status, result.digest, stored_as, 0, entry.folder, line)]

    def _wanted_dry(self, entry: _Entry) -> list[Effect]:
        """The receiver would ask for this."""
        if self.offer.kind != DRY_RUN:
            raise ProtocolError("protocol-error", "a result came that only a dry run has")
        del self._entries[entry.number]
        line = self.transcript.wanted(entry.size, entry.path, folder=entry.folder)
        return [Resolved(entry.path, entry.size, "wanted", None, None, 0, entry.folder, line)]

    def _abandon(self, entry: _Entry) -> list[Effect]:
        """The receiver gave an entry up. A file that it asked for must still be closed, if it is not."""
        if not entry.asked or entry.closed:
            return self._forget(entry)
        entry.failed = True
        if entry.active:
            return []  # work is under way, and closes the file when it comes back
        self._ready.remove(entry)
        return self._close_failed(entry, KINDS["cancelled"].number)

    def _close_failed(self, entry: _Entry, number: int) -> list[Effect]:
        entry.active, entry.closed, entry.withdrawn = False, True, True
        close = Send(EntryFailed(entry.number, number))
        return [close, *self._forget(entry)] if entry.failed else [close]

    def _forget(self, entry: _Entry) -> list[Effect]:
        del self._entries[entry.number]
        return self._end_if_complete()

    def _leave(self, number: int) -> _Entry:
        if self._current is not None and self._current.number == number:
            self._current, self._blocks = None, None
        return self._entries[number]

    def _next_of_current(self, entry: _Entry) -> ReadBlock | ReadPipe | CloseEntry | None:
        if entry.pipe:
            if entry.reading:
                return None
            entry.reading = True
            return CloseEntry(entry.number, False) if entry.failed else ReadPipe(entry.number, entry.blocks)
        if self._blocks is None:
            return None  # opened() has not come yet, or the close is under way
        step = None if entry.failed else next(self._blocks, None)
        repeat = step is None and bool(entry.again) and not entry.failed
        if repeat:  # with its content: what could be copied has been tried
            step = entry.again.pop(), True
        if step is None:
            entry.wanted = BlockSet(block_count(entry.size))  # all sent: opened once more, only repeats are
            self._blocks = None
            return CloseEntry(entry.number, not entry.failed)
        block, send = step
        basis = bytes(entry.basis[block * limits.DIGEST : (block + 1) * limits.DIGEST]) if send and not repeat else b""
        return ReadBlock(entry.number, block, send, basis or None)

    def _whole_batch(self, first: _Entry) -> ReadWhole:
        numbers, size = [first.number], first.size
        while self._ready and len(numbers) < limits.DISK_BATCH:
            entry = self._ready[0]
            if entry.pipe or block_count(entry.size) > 1 or size + entry.size > limits.DISK_BATCH_BYTES:
                break
            self._ready.popleft()
            entry.active = True
            numbers.append(entry.number)
            size += entry.size
        return ReadWhole(numbers)

    def _end_if_complete(self) -> list[Effect]:
        if self._entries or not self._last_sent or self.state is not SenderState.STREAMING:
            return []
        counts = self.transcript.counts
        self.state = advance(SENDER_TABLE, self.state, End, self._trace)
        return [Send(End(counts.files, counts.folders, counts.bytes, self.transcript.digest()))]

    def _receipt(self, message: Receipt) -> list[Effect]:
        body = decode_receipt_body(message.body)
        if body.job != self.offer.job:
            raise ProtocolError("protocol-error", "a receipt came for another job")
        if self.accepted is None:
            # Only a job whose end went out before can be answered like this, and only with that end's account.
            if self._concluded is None:
                raise ProtocolError("protocol-error", "a receipt came before anything was sent")
            self.transcript, self.accepted = self._concluded
            self.repeated = True
        counts = self.transcript.counts
        if (
            body.durability != self.accepted.durability
            or (body.files, body.identical, body.skipped) != (counts.files, counts.identical, counts.skipped)
            or (body.folders, body.failed, body.bytes) != (counts.folders, counts.failed, counts.bytes)
            or body.transcript != self.transcript.digest()
        ):
            raise ProtocolError("protocol-error", "the receipt differs from our own account of the job")
        return [VerifyReceipt(message.body, message.signature)]

