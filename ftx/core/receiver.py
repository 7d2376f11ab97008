"""The receiver of a job, as a machine: manifest in, wants and results out, and effects for the disk.

Theory. The job has three states (table below); each entry has a small life of its own (`ftx.core.incoming`). A file
is LOOKING while the disk is asked what there is of it; WANTED while blocks travel; CLOSING when the sender has closed
it and the last writes and the publishing are under way. Then it has a result and is forgotten: what is remembered is
bounded by the windows, never by the size of the job. A block that does not verify is asked for once more, alone: a
file that was CLOSING is WANTED again by that, and the sender closes it anew behind the block. A file that fails
before the sender has closed it is DRAINING: what still comes for it is dropped until the sender closes it.

The module is over 400 lines because the machine is one thing: the table, what the sender may say, what the disk
answers, and what follows.

A folder has its result after its folder-end and after the results of everything in it, so a folder's time stamp is set
when nothing in it changes any more.

Wants and results are gathered in `ftx.core.answers` and go out with `flush()`.
"""

from __future__ import annotations

from collections.abc import Collection, Set
from enum import Enum

from ftx import limits
from ftx.core.answers import Answers
from ftx.core.blocks import BlockSet, block_count, block_length, content_digest
from ftx.core.events import (
    Conclude,
    CopyBlock,
    Discard,
    Effect,
    FinishFolder,
    GiveUp,
    LeftOut,
    LookUp,
    MakeLinks,
    Publish,
    Send,
    StoreWhole,
    Sync,
    WriteBlock,
)
from ftx.core.incoming import File, Folder, Life
from ftx.core.links import stays_inside
from ftx.core.order import ManifestOrder
from ftx.core.receipt import Transcript
from ftx.core.table import Table, Trace, advance
from ftx.errors import KINDS, ProtocolError, kind_from_peer
from ftx.wire.frames import Encoding, Piece, copied
from ftx.wire.messages import (
    DRY_RUN,
    Cancel,
    DigestedEntry,
    End,
    EntryEnd,
    EntryFailed,
    FileEntry,
    FolderEnd,
    FolderEntry,
    Manifest,
    Message,
    Offer,
    Omitted,
    Pause,
    PipeEntry,
    ProgressMessage,
    Resume,
    SymlinkEntry,
    Totals,
    WantAgain,
    WantAll,
    WantGroup,
)

__all__ = ["RECEIVER_TABLE", "Receiver", "ReceiverState"]


class ReceiverState(Enum):
    """Where the job stands, for the receiver."""

    #: Entries and content may come.
    RECEIVING = 1
    #: The last manifest frame has come; content may still come.
    FILLING = 2
    #: The sender's end has come and agrees; the receipt is being made.
    CONCLUDING = 3


class LastManifest:
    """The event that a manifest frame with `last` set is, in the table."""


_STEERING = (Pause, Resume, Cancel)
RECEIVER_TABLE: Table[ReceiverState] = {
    ReceiverState.RECEIVING: dict.fromkeys(
        (Totals, Manifest, Omitted, Piece, EntryFailed, EntryEnd, *_STEERING), ReceiverState.RECEIVING
    )
    | {LastManifest: ReceiverState.FILLING},
    ReceiverState.FILLING: dict.fromkeys((Totals, Piece, EntryFailed, EntryEnd, *_STEERING), ReceiverState.FILLING)
    | {End: ReceiverState.CONCLUDING},
    # What crosses the receipt comes too late to change anything.
    ReceiverState.CONCLUDING: dict.fromkeys(_STEERING, ReceiverState.CONCLUDING),
}


#: What every zero run stands for: one block for all of them, so that a few bytes of a peer never become a megabyte.
_ZEROS = memoryview(bytes(limits.BLOCK))


class Receiver:
    """The receiving half of one job.

    `into` is where the offer wants its entries, below the inbox. `tops` are the names at the top that were asked for,
    in a pull: a sender that announces others breaks the protocol. Methods that take an outcome and `receive()` return
    effects in order; `flush()` gives what was gathered for sending. Every violation by the sender raises ProtocolError.
    `features` are those that both hellos listed.
    """

    def __init__(
        self,
        offer: Offer,
        now: float,
        trace: Trace | None = None,
        *,
        features: Set[str] = frozenset(),
        tops: Collection[bytes] | None = None,
    ) -> None:
        self.state = ReceiverState.RECEIVING
        self.totals: Totals | None = None
        #: Content bytes verified, and on disk; files that were there already count.
        self.verified = 0
        self.durable = 0
        #: Those among the verified that were there before the job.
        self.present = 0
        #: Content bytes that came over the wire.
        self.received = 0
        #: The sender sends no content for now; and we want none.
        self.paused_there = False
        self.paused_here = False
        self._offer = offer
        self._dry = offer.kind == DRY_RUN
        self._features = features
        self._tops = tops
        self._trace = trace
        self._order = ManifestOrder()
        self._files: dict[int, File] = {}
        self._folders: dict[int, Folder] = {}
        #: Symlinks without their results, and those of them that wait until everything else has its own.
        self._links: dict[int, tuple[File, bytes]] = {}
        self._waiting_links: list[SymlinkEntry] = []
        self._unanswered = 0
        self._announced_bytes = 0
        self._announced_files = 0
        self._announced_folders = 0
        self._draining = 0
        #: The block whose pieces are coming: file, block, encoding, chunks, length and pieces so far.
        self._open: tuple[File, int, Encoding, list[memoryview], int, int] | None = None
        self._answers = Answers(tuple(offer.into))
        self._reported = (0, 0)
        self._reported_at = now

    @property
    def transcript(self) -> Transcript:
        """Every result so far, hashed and counted."""
        return self._answers.transcript

    # -- what the sender sends -----------------------------------------------------------------------------

    def receive(self, message: Message, now: float) -> list[Effect]:
        """A message of the job from the sender."""
        event = LastManifest if isinstance(message, Manifest) and message.last else type(message)
        self.state = advance(RECEIVER_TABLE, self.state, event, self._trace)
        match message:
            case Manifest():
                return self._manifest(message)
            case EntryEnd():
                return self._entry_end(message)
            case EntryFailed():
                return self._entry_failed(message)
            case End():
                return self._end(message)
            case Totals():
                self.totals = message
            case Omitted():
                return [self._left_out(tuple(item.path), item.error) for item in message.items]
            case Pause() | Resume() | Cancel():
                return self._steered(message)
        return []

    def _steered(self, message: Pause | Resume | Cancel) -> list[Effect]:
        if message.job != self._offer.job:
            raise ProtocolError("protocol-error", "the sender spoke of another job")
        if isinstance(message, Cancel):
            return [] if self.state is ReceiverState.CONCLUDING else [GiveUp()]
        self.paused_there = isinstance(message, Pause)
        return []

    @property
    def paused(self) -> bool:
        """Whether either side wants no content to travel for now."""
        return self.paused_here or self.paused_there

    def steer(self, paused: bool) -> list[Effect]:
        """Pause or go on, from this side; nothing when it is so already, or when all has come."""
        if self.state is ReceiverState.CONCLUDING or paused is self.paused_here:
            return []
        self.paused_here = paused
        return [Send(Pause(self._offer.job) if paused else Resume(self._offer.job))]

    def farewell(self) -> Cancel:
        """What to tell the sender when the job is cancelled: the files that stay, and their content."""
        counts = self.transcript.counts
        return Cancel(self._offer.job, counts.files, counts.bytes)

    def piece(self, piece: Piece) -> list[Effect]:
        """Part of a block."""
        self.state = advance(RECEIVER_TABLE, self.state, Piece)
        self.received += piece.length if piece.encoding is not Encoding.COPY else 0
        if self._open is not None:
            file, block, encoding, chunks, length, pieces = self._open
            if file.number != piece.entry or block != piece.block or piece.encoding is not encoding:
                raise ProtocolError("protocol-error", "the pieces of a block did not follow each other")
        else:
            file = self._expected(piece.entry)
            block, encoding, chunks, length, pieces = piece.block, piece.encoding, [], 0, 0
            if file.life is not Life.DRAINING and not _is_wanted(file, block):
                raise ProtocolError("protocol-error", "a block came that was not asked for")
        if encoding is Encoding.COPY:
            return self._copy(file, block, piece)
        expected = limits.BLOCK if file.pipe else block_length(file.size, block)
        length += expected if encoding is Encoding.ZERO else piece.length
        packed = encoding is Encoding.ZSTD
        short = piece.digest is not None and not packed and (length == 0 if file.pipe else length != expected)
        if length > expected - packed or short or (packed and file.pipe):
            raise ProtocolError("protocol-error", "a block had the wrong length")
        pieces += 1
        if pieces > limits.BLOCK_PIECES:
            raise ProtocolError("protocol-error", "a block came in too many pieces")
        if file.life is not Life.DRAINING:
            chunks.extend(piece.chunks)
        if piece.digest is None:
            self._open = (file, block, encoding, chunks, length, pieces)
            return []
        self._open = None
        zero = encoding is Encoding.ZERO
        whole = length if file.pipe else expected
        return self._block(file, block, None if zero else chunks, whole, piece.digest, packed)

    def _copy(self, file: File, block: int, piece: Piece) -> list[Effect]:
        offset, length = copied(piece)
        inside = offset % limits.BLOCK == 0 and offset // limits.BLOCK < file.basis
        if self._open is not None or file.missing is None or piece.digest is None:
            raise ProtocolError("protocol-error", "a copy came for a file of one block, or in the middle of one")
        if file.life is not Life.DRAINING and not (inside and length == block_length(file.size, block)):
            raise ProtocolError("protocol-error", "a block was to be copied from where nothing was offered")
        file.missing.discard(block)
        file.again.discard(block)
        if file.life is Life.DRAINING:
            return []
        file.writing += 1
        return [CopyBlock(file.number, block, offset, piece.digest)]

    def _block(
        self, file: File, block: int, chunks: list[memoryview] | None, length: int, digest: bytes, packed: bool
    ) -> list[Effect]:
        if file.pipe:
            return self._pipe_block(file, WriteBlock(file.number, block, chunks, length, digest))
        if file.missing is None:
            if file.life is Life.DRAINING:
                self._drained(file)
                return []
            file.life = Life.CLOSING
            return [StoreWhole(file.number, [_ZEROS[:length]] if chunks is None else chunks, length, digest, packed)]
        file.missing.discard(block)
        file.again.discard(block)
        if file.life is Life.DRAINING:
            return []
        file.writing += 1
        return [WriteBlock(file.number, block, chunks, length, digest, packed)]

    def _pipe_block(self, file: File, write: WriteBlock) -> list[Effect]:
        if file.life is Life.DRAINING:
            return []
        file.size += write.length
        file.blocks += 1
        file.ended = write.length < limits.BLOCK
        file.writing += 1
        return [write]

    def _manifest(self, message: Manifest) -> list[Effect]:
        if not message.entries and not message.last:
            raise ProtocolError("bad-message", "a manifest frame was empty")
        asked: list[FileEntry | PipeEntry | FolderEntry] = []
        effects: list[Effect] = []
        for entry in message.entries:
            if isinstance(entry, DigestedEntry) and "checksum" not in self._features:
                raise ProtocolError("bad-message", "a file came with a digest, and nobody had agreed to that")
            if isinstance(entry, FolderEnd):
                self._order.folder_end(entry.number)
                folder = self._folders.get(entry.number)
                if folder is not None:
                    folder.end = entry
                    # A folder may be complete before the disk has even been asked to make it: then the
                    # look-up's answer finishes it.
                    effects += self._finish(folder)
                continue
            if isinstance(entry, PipeEntry) and "pipes" not in self._features:
                raise ProtocolError("bad-message", "a pipe came, and nobody had agreed to that")
            if isinstance(entry, SymlinkEntry):
                effects += self._symlink(entry)
                continue
            parent = self._folders.get(self._order.open_folder)
            is_folder = isinstance(entry, FolderEntry)
            path = self._order.entry(entry.number, entry.path, folder=is_folder)
            self._check_asked(path)
            if parent is not None:
                parent.open_entries += 1
            if isinstance(entry, FolderEntry):
                self._announced_folders += 1
                self._folders[entry.number] = Folder(entry.number, path, parent)
            else:
                self._announced_files += 1
                pipe = isinstance(entry, PipeEntry)
                size = 0 if isinstance(entry, PipeEntry) else entry.size
                self._announced_bytes += size
                self._files[entry.number] = File(entry.number, path, size, parent, pipe=pipe)
                self._unanswered += 1
            asked.append(entry)
        self._check_windows()
        if message.last and not self._order.complete:
            raise ProtocolError("bad-message", "the manifest ended inside a folder")
        effects += self._links_if_ready()
        return [LookUp(asked), *effects] if asked else effects

    def _symlink(self, entry: SymlinkEntry) -> list[Effect]:
        if "symlinks" not in self._features or self._tops is not None:
            raise ProtocolError("bad-message", "a symlink came, and nobody had agreed to that")
        path = self._order.symlink(entry.number, entry.path)
        link = File(entry.number, path, len(entry.target), None)
        self._announced_files += 1
        self._announced_bytes += link.size
        self._links[entry.number] = link, entry.target
        if not stays_inside(path, entry.target):
            return self._resolve_link(entry.number, "failed", error=KINDS["bad-name"].number)
        self._waiting_links.append(entry)
        return []

    def _links_if_ready(self) -> list[Effect]:
        """Links are made when nothing else is left to do: nothing is ever written through one."""
        if not self._waiting_links or self._folders or len(self._files) > self._draining:
            return []
        entries, self._waiting_links = self._waiting_links, []
        return [MakeLinks(entries)]

    def _left_out(self, path: tuple[bytes, ...], error: int) -> Effect:
        self._check_asked(path)
        return LeftOut(path, kind_from_peer(error, (3, 6), "source-unreadable").number)

    def _check_asked(self, path: tuple[bytes, ...]) -> None:
        """What was not asked for does not come in: a sender does not choose which files of ours it writes."""
        if self._tops is not None and path[0] not in self._tops:
            raise ProtocolError("protocol-error", "the sender announced something that nobody had asked for")

    def _check_windows(self) -> None:
        if (
            self._unanswered > limits.WINDOW_UNANSWERED
            or len(self._files) + len(self._folders) + len(self._links) - self._draining > limits.WINDOW_UNACKNOWLEDGED
        ):
            raise ProtocolError("protocol-error", "the sender announced more entries than its window")
        offer = self._offer
        if (
            (offer.files is not None and self._announced_files > offer.files)
            or (offer.folders is not None and self._announced_folders > offer.folders)
            or (offer.bytes is not None and self._announced_bytes > offer.bytes)
        ):
            raise ProtocolError("over-offer")

    def _expected(self, number: int) -> File:
        file = self._files.get(number)
        if file is None or file.life not in (Life.WANTED, Life.DRAINING):
            raise ProtocolError("protocol-error", "content came for an entry that was not asked for")
        return file

    def _entry_end(self, message: EntryEnd) -> list[Effect]:
        file = self._expected(message.number)
        if (file.missing is None and not file.pipe) or self._opened(file):
            raise ProtocolError("protocol-error", "a file was closed in the middle of a block")
        missing = 0 if file.missing is None else file.missing.count
        if file.again and missing == len(file.again):
            return []  # sent before what we asked for once more was known there: the file is closed anew behind it
        if file.life is Life.DRAINING:
            self._drained(file)
            return []
        if missing or message.size != file.size:
            raise ProtocolError("protocol-error", "a file was closed before all of it had come")
        file.life = Life.CLOSING
        file.digest = message.digest
        return self._publish_if_complete(file)

    def _entry_failed(self, message: EntryFailed) -> list[Effect]:
        file = self._expected(message.number)
        if self._opened(file):
            self._open = None
        if file.life is Life.DRAINING:
            self._drained(file)
            return []
        number = kind_from_peer(message.error, (3, 6, 7), "local-io").number
        file.life = Life.CLOSING
        keep = number != KINDS["source-changed"].number
        return [Discard(file.number, keep), *self._fail(file, number)]

    def _opened(self, file: File) -> bool:
        return self._open is not None and self._open[0] is file

    def _end(self, message: End) -> list[Effect]:
        counts = self.transcript.counts
        if (
            self._files
            or self._folders
            or self._links
            or self._answers.waiting
            or (message.files, message.folders, message.bytes) != (counts.files, counts.folders, counts.bytes)
            or message.transcript != self.transcript.digest()
        ):
            raise ProtocolError("protocol-error", "the sender's account of the job differs from ours")
        return [Conclude()]

    # -- what the disk answers -----------------------------------------------------------------------------

    def made(self, number: int) -> list[Effect]:
        """The folder is there."""
        folder = self._folders[number]
        folder.made = True
        return self._finish(folder)

    def have(self, number: int, stored_as: tuple[bytes, ...], digest: bytes) -> list[Effect]:
        """The file is there already, verified, under this path below the inbox."""
        file = self._answered(number)
        self.verified += file.size
        self.durable += file.size
        self.present += file.size
        return self._resolve_file(file, "identical", digest=digest, stored_as=stored_as)

    @property
    def bases(self) -> tuple[int, int]:
        """How many files have an older copy on offer, and how many of its blocks they have together."""
        offered = [file.basis for file in self._files.values() if file.basis]
        return len(offered), sum(offered)

    @property
    def copies(self) -> bool:
        """Whether blocks of older copies may be offered: what cannot be taken over has to be asked for again."""
        return {"delta", "repair"} <= self._features

    def want(self, number: int, held: BlockSet | None, now: float, basis: bytes = b"") -> list[Effect]:
        """The file is wanted; `held` names the blocks that are durable already, None for none.

        `basis` has the digests of the blocks of an older copy, joined, in order.
        """
        file = self._answered(number)
        if self._dry:
            return self._resolve_file(file, "wanted")
        if basis and self.copies:
            file.basis = len(basis) // limits.DIGEST
            self._answers.basis(number, basis)
        file.life = Life.WANTED
        file.synced_at = now
        blocks = block_count(file.size)
        if blocks == 1:  # a pipe, too
            self._answers.want(WantAll(number))
            return []
        file.missing = held.inverted() if held is not None else BlockSet.full(blocks)
        if held is None or not held.count:
            self._answers.want(WantAll(number))
            return []
        file.verified = file.durable = held.bytes_in(file.size)
        self.verified += file.verified
        self.durable += file.durable
        file.present = file.verified
        self.present += file.present
        groups = -(-blocks // limits.GROUP)
        for group in range(groups):
            self._answers.want(WantGroup(number, group, file.missing.group(group), group == groups - 1))
        return []

    def skip(self, number: int) -> list[Effect]:
        """The file or link is left out, as the conflict policy says."""
        if number in self._links:
            return self._resolve_link(number, "skipped")
        return self._resolve_file(self._answered(number), "skipped")

    def refuse(self, number: int, error: str) -> list[Effect]:
        """The entry cannot be taken; `error` is the name of a kind."""
        folder = self._folders.get(number)
        if folder is None:
            return self._resolve_file(self._answered(number), "failed", error=KINDS[error].number)
        return self._resolve_folder(folder, KINDS[error].number)

    def block_written(self, number: int, block: int, ok: bool, now: float) -> list[Effect]:
        """A block was compared and written (not yet durable), or did not verify."""
        file = self._files.get(number)
        if file is None or file.life is Life.DRAINING:
            return []
        file.writing -= 1
        if not ok:
            return self._mismatch(file, block)
        length = block_length(file.size, block)
        file.verified += length
        self.verified += length
        return self._publish_if_complete(file) or self._sync_if_due(file, now)

    def synced(self, number: int, durable: int, now: float) -> list[Effect]:
        """`durable` content bytes of this file are on disk now."""
        file = self._files.get(number)
        if file is None or file.life is Life.DRAINING:
            return []
        file.syncing = False
        file.synced_at = now
        self.durable += durable - file.durable
        file.durable = durable
        return self._publish_if_complete(file)

    def stored(self, number: int, stored_as: tuple[bytes, ...], digest: bytes) -> list[Effect]:
        """The entry is durable under its final name."""
        folder = self._folders.get(number)
        if folder is not None:
            return self._resolve_folder(folder, 0, stored_as)
        file = self._files[number]
        self.verified += file.size - file.verified
        self.durable += file.size - file.durable
        file.verified = file.durable = file.size
        return self._resolve_file(file, "stored", digest=digest, stored_as=stored_as)

    def link_made(self, number: int, stored_as: tuple[bytes, ...], *, identical: bool) -> list[Effect]:
        """The link is durable under its final name, or (`identical`) was there already."""
        link, target = self._links[number]
        self.verified += link.size
        self.durable += link.size
        self.present += link.size if identical else 0
        status = "identical" if identical else "stored"
        return self._resolve_link(number, status, digest=content_digest(target), stored_as=stored_as)

    def link_wanted(self, number: int) -> list[Effect]:
        """The link would be made, were it not a dry run."""
        return self._resolve_link(number, "wanted")

    def failed(self, number: int, error: str) -> list[Effect]:
        """The disk could not do it; `error` is the name of a kind."""
        if number in self._links:
            return self._resolve_link(number, "failed", error=KINDS[error].number)
        folder = self._folders.get(number)
        if folder is not None:
            return self._resolve_folder(folder, KINDS[error].number)
        file = self._files.get(number)
        if file is None or file.life is Life.DRAINING:
            return []
        if error == "digest-mismatch" and file.missing is None and not file.pipe:
            return self._mismatch(file, 0)
        return [Discard(number, error != "digest-mismatch"), *self._fail(file, KINDS[error].number)]

    # -- what goes out -------------------------------------------------------------------------------------

    def flush(self, now: float) -> list[Effect]:
        """Everything gathered for sending: wants, results, and progress when it is due. Call it after each turn."""
        effects: list[Effect] = [Send(message) for message in self._answers.take()]
        if self.state is not ReceiverState.CONCLUDING:
            effects += self._progress(now)
        return effects

    def tick(self, now: float) -> list[Effect]:
        """Call it at least every `PROGRESS_FASTEST` seconds while the job runs: syncs that are due, progress."""
        effects: list[Effect] = []
        for file in self._files.values():
            if file.missing is not None and file.life is Life.WANTED:
                effects += self._sync_if_due(file, now)
        return effects + self.flush(now)

    def _progress(self, now: float) -> list[Effect]:
        figures = (self.verified, self.durable)
        waited = now - self._reported_at
        pending = self.verified > self.durable or bool(self._files)
        if waited < limits.PROGRESS_FASTEST or (figures == self._reported and waited < limits.PROGRESS_SLOWEST):
            return []
        if figures == self._reported and not pending:
            return []
        self._reported, self._reported_at = figures, now
        syncing = self.verified > self.durable and not any(f.life is Life.WANTED for f in self._files.values())
        return [Send(ProgressMessage(max(self.verified, 0), max(self.durable, 0), 1 if syncing else 0))]

    # -- lives ---------------------------------------------------------------------------------------------

    def _answered(self, number: int) -> File:
        file = self._files[number]
        self._unanswered -= 1
        return file

    def _sync_if_due(self, file: File, now: float) -> list[Effect]:
        waiting = file.verified - file.durable
        late = now - file.synced_at >= limits.SYNC_INTERVAL
        if file.pipe or file.syncing or not waiting or (waiting < limits.SYNC_BYTES and not late):
            return []
        file.syncing = True
        return [Sync(file.number)]

    def _publish_if_complete(self, file: File) -> list[Effect]:
        if file.life is not Life.CLOSING or file.digest is None or file.writing or file.syncing or file.publishing:
            return []
        file.publishing = True
        return [Publish(file.number, file.digest)]

    def _mismatch(self, file: File, block: int) -> list[Effect]:
        """A block did not verify: ask for it once more, unless that was the last try of the file."""
        file.mismatches += 1
        if "repair" not in self._features or file.mismatches >= limits.BLOCK_TRIES or file.pipe:
            keep = file.missing is not None
            return [Discard(file.number, keep), *self._fail(file, KINDS["digest-mismatch"].number)]
        if file.missing is not None:
            file.missing.add(block)
            file.again.add(block)
        file.life, file.digest = Life.WANTED, None
        self._answers.want(WantAgain(file.number, block))
        return []

    def _fail(self, file: File, number: int) -> list[Effect]:
        """The file failed: it has its result now, but the sender may not have closed it."""
        self.verified -= file.verified
        self.durable -= file.durable
        self.present -= file.present
        file.verified = file.durable = 0
        drain = file.life is Life.WANTED
        effects = self._resolve_file(file, "failed", error=number)
        if drain:
            file.life = Life.DRAINING
            self._files[file.number] = file
            self._draining += 1
            if self._draining > limits.WINDOW_UNACKNOWLEDGED:
                raise ProtocolError("protocol-error", "the sender does not close files that failed")
        return effects

    def _drained(self, file: File) -> None:
        del self._files[file.number]
        self._draining -= 1

    def _resolve_file(
        self,
        file: File,
        status: str,
        *,
        digest: bytes | None = None,
        stored_as: tuple[bytes, ...] | None = None,
        error: int = 0,
    ) -> list[Effect]:
        del self._files[file.number]
        if file.pipe and digest is None:
            file.size = 0  # how much had come is known on one side only
        resolved = self._answers.file(file, status, digest, stored_as, error)
        return [resolved, *self._child_done(file.parent), *self._links_if_ready()]

    def _resolve_link(
        self,
        number: int,
        status: str,
        *,
        digest: bytes | None = None,
        stored_as: tuple[bytes, ...] | None = None,
        error: int = 0,
    ) -> list[Effect]:
        link, _ = self._links.pop(number)
        return [self._answers.file(link, status, digest, stored_as, error)]

    def _resolve_folder(self, folder: Folder, error: int, stored_as: tuple[bytes, ...] | None = None) -> list[Effect]:
        # A folder that could not be made fails at once; the disk refuses its entries one by one, with the same reason.
        del self._folders[folder.number]
        resolved = self._answers.folder(folder, stored_as, error)
        return [resolved, *self._child_done(folder.parent), *self._links_if_ready()]

    def _child_done(self, folder: Folder | None) -> list[Effect]:
        if folder is None:
            return []
        folder.open_entries -= 1
        return self._finish(folder)

    def _finish(self, folder: Folder) -> list[Effect]:
        if folder.end is None or folder.open_entries or not folder.made or folder.number not in self._folders:
            return []
        if self._dry:
            del self._folders[folder.number]
            wanted = self._answers.wanted_folder(folder)
            return [wanted, *self._child_done(folder.parent), *self._links_if_ready()]
        return [FinishFolder(folder.number, folder.end.mode, folder.end.mtime)]


def _is_wanted(file: File, block: int) -> bool:
    """Whether this block may come: a pipe's come one after the other."""
    if file.pipe:
        return block == file.blocks and not file.ended
    return block in file.missing if file.missing is not None else block == 0
