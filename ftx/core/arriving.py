"""What arrives, for the receiver: the pieces of blocks that were asked for, until the sender has closed their file.

A block that does not verify is asked for once more, alone: a file that was CLOSING is WANTED again by that, and the
sender closes it anew behind the block. A file that fails before the sender has closed it is DRAINING: what still
comes for it is dropped until the sender closes it.

With lanes, what is said of a file may overtake blocks of it: its end is kept until the last block that it waits for
has come, and blocks of a file that is over are dropped. What was asked for again never goes over a lane, so an end
that comes while such a block is missing was said before the sender knew, and another one follows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set
from typing import NamedTuple

import attrs

from ftx import limits
from ftx.core.blocks import block_length
from ftx.core.enrolling import Enrolling
from ftx.core.events import CopyBlock, Discard, Effect, StoreWhole, WriteBlock
from ftx.core.incoming import File, Life
from ftx.errors import KINDS, ProtocolError, kind_from_peer
from ftx.wire.frames import Encoding, Piece, copied
from ftx.wire.messages import EntryEnd, EntryFailed, Offer

__all__ = ["Arriving", "Coming"]


class Coming(NamedTuple):
    """A block whose pieces are coming, as it is now: one that is not the same a while later gets on."""

    entry: int
    block: int
    #: Bytes of all of it, and of the pieces that are there, as they came.
    size: int
    come: int


#: What every zero run stands for: one block for all of them, so that a few bytes of a peer never become a megabyte.
_ZEROS = memoryview(bytes(limits.BLOCK))


@attrs.define(eq=False)
class _Open:
    """A block whose pieces are coming."""

    file: File
    block: int
    encoding: Encoding
    chunks: list[memoryview]
    #: Bytes and pieces so far.
    length: int = 0
    pieces: int = 0


class Arriving(Enrolling):
    """The layer of a receiver that takes content."""

    def __init__(
        self, offer: Offer, *, features: Set[str] = frozenset(), tops: Collection[bytes] | None = None
    ) -> None:
        super().__init__(offer, features=features, tops=tops)
        #: Content bytes that came over the wire.
        self.received = 0
        #: The blocks whose pieces are coming, by lane; 0 is the job's own connection.
        self._open: dict[int, _Open] = {}
        #: Whether lanes have joined: then blocks and what is said of their files may overtake each other.
        self._laned = False

    def lanes_joined(self) -> None:
        """From now on pieces may come on lanes."""
        self._laned = True

    def under_way(self, begun: Iterable[tuple[int, tuple[int, int] | None]]) -> dict[int, Coming]:
        """The blocks whose pieces are coming, by lane.

        `begun` are the lanes, each with the entry and the block of the data frame of which the rest has not come on it.
        """
        coming: dict[int, Coming] = {}
        for lane, which in begun:
            current = self._open.get(lane)
            if current is not None:
                which = current.file.number, current.block
            file = None if which is None else self._files.get(which[0])
            if file is None or which is None or file.life is Life.DRAINING:
                continue
            size = limits.BLOCK if file.pipe else block_length(file.size, which[1])
            if size > 0:
                coming[lane] = Coming(*which, size, 0 if current is None else current.length)
        return coming

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

    # -- content -----------------------------------------------------------------------------------------------

    def _piece(self, piece: Piece, lane: int) -> list[Effect]:
        """Part of a block."""
        self.received += piece.length if piece.encoding is not Encoding.COPY else 0
        current = self._open.get(lane)
        if piece.entry in self._withdrawn and (current is None or current.file.number == piece.entry):
            self._open.pop(lane, None)
            return []  # it was under way when its file ended
        if current is None:
            current = self._begin_block(piece, lane)
        elif current.file.number != piece.entry or current.block != piece.block or piece.encoding != current.encoding:
            raise ProtocolError("protocol-error", "the pieces of a block did not follow each other")
        file, block, encoding = current.file, current.block, current.encoding
        if encoding is Encoding.COPY:
            return self._copy(file, block, piece)
        expected = limits.BLOCK if file.pipe else block_length(file.size, block)
        current.length += expected if encoding is Encoding.ZERO else piece.length
        length = current.length
        packed = encoding is Encoding.ZSTD
        short = piece.digest is not None and not packed and (length == 0 if file.pipe else length != expected)
        if length > expected - packed or short or (packed and file.pipe):
            raise ProtocolError("protocol-error", "a block had the wrong length")
        current.pieces += piece.pieces
        if current.pieces > limits.BLOCK_PIECES:
            raise ProtocolError("protocol-error", "a block came in too many pieces")
        if file.life is not Life.DRAINING:
            current.chunks.extend(piece.chunks)
        if piece.digest is None:
            self._open[lane] = current
            return []
        self._open.pop(lane, None)
        zero = encoding is Encoding.ZERO
        whole = length if file.pipe else expected
        return self._block(file, block, None if zero else current.chunks, whole, piece.digest, packed)

    def _begin_block(self, piece: Piece, lane: int) -> _Open:
        """The first piece of a block has come."""
        file = self._expected(piece.entry)
        elsewhere = any(one.file is file and one.block == piece.block for one in self._open.values())
        if file.life is not Life.DRAINING and (not _is_wanted(file, piece.block) or elsewhere):
            raise ProtocolError("protocol-error", "a block came that was not asked for")
        if lane and (file.pipe or piece.block in file.again):
            raise ProtocolError("protocol-error", "a block came on a lane that must not")
        return _Open(file, piece.block, piece.encoding, [])

    def _copy(self, file: File, block: int, piece: Piece) -> list[Effect]:
        offset, length = copied(piece)
        inside = offset % limits.BLOCK == 0 and offset // limits.BLOCK < file.basis
        if file.missing is None or piece.digest is None:
            raise ProtocolError("protocol-error", "a copy came for a file of one block, or without a digest")
        if file.life is not Life.DRAINING and not (inside and length == block_length(file.size, block)):
            raise ProtocolError("protocol-error", "a block was to be copied from where nothing was offered")
        file.missing.discard(block)
        file.again -= {block}
        if file.life is Life.DRAINING:
            return []
        file.writing += 1
        return [CopyBlock(file.number, block, offset, piece.digest), *self._ended_before(file)]

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
        file.again -= {block}
        if file.life is Life.DRAINING:
            return []
        file.writing += 1
        return [WriteBlock(file.number, block, chunks, length, digest, packed), *self._ended_before(file)]

    def _pipe_block(self, file: File, write: WriteBlock) -> list[Effect]:
        if file.life is Life.DRAINING:
            return []
        file.size += write.length
        file.blocks += 1
        file.ended = write.length < limits.BLOCK
        file.writing += 1
        return [write]

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
        if file.again and (missing == len(file.again) or self._laned):
            return []  # sent before what we asked for once more was known there: the file is closed anew behind it
        if file.life is Life.DRAINING:
            self._over(file)
            self._drained(file)
            return []
        if message.size != file.size or file.early is not None or (missing and not self._laned):
            raise ProtocolError("protocol-error", "a file was closed before all of it had come")
        if missing:
            file.early = message.digest
            return []
        file.life = Life.CLOSING
        file.digest = message.digest
        return self._publish_if_complete(file)

    def _ended_before(self, file: File) -> list[Effect]:
        """The last block of a file whose end had overtaken it has come."""
        if file.early is None or file.missing is None or file.missing.count:
            return []
        file.life = Life.CLOSING
        file.digest, file.early = file.early, None
        return self._publish_if_complete(file)

    def _over(self, file: File) -> None:
        """A file is done with, before all of it has come: some may be under way on lanes."""
        opened = [lane for lane, current in self._open.items() if current.file is file]
        for lane in opened:
            del self._open[lane]
        if self._laned and (opened or (file.missing is not None and file.missing.count)):
            self._withdrawn.add(file.number)

    def _entry_failed(self, message: EntryFailed) -> list[Effect]:
        file = self._expected(message.number)
        if file.early is not None:
            raise ProtocolError("protocol-error", "a file was closed in two ways")
        self._over(file)
        if file.life is Life.DRAINING:
            self._drained(file)
            return []
        number = kind_from_peer(message.error, (3, 6, 7), "local-io").number
        file.life = Life.CLOSING
        keep = number != KINDS["source-changed"].number
        return [Discard(file.number, keep), *self._fail(file, number)]

    def _fail(self, file: File, number: int) -> list[Effect]:
        effects = super()._fail(file, number)
        for current in self._open.values():
            if current.file is file:
                current.chunks.clear()  # nobody waits for the rest, which may never come
        return effects

    def _opened(self, file: File) -> bool:
        """Whether a block of it has begun on the connection on which files are closed."""
        current = self._open.get(0)
        return current is not None and current.file is file


def _is_wanted(file: File, block: int) -> bool:
    """Whether this block may come: a pipe's come one after the other."""
    if file.pipe:
        return block == file.blocks and not file.ended
    return block in file.missing if file.missing is not None else block == 0
