"""What the sender supplies: the blocks that the receiver wants, as disk work for the owner, one piece at a time.

Theory. What the receiver wants is worked off in the order in which it asked: `next_work()` hands out one piece of
disk work at a time, so that the owner reads ahead as far as it likes and no further. Files of one block are read in
batches; a larger file is opened, its blocks are read one by one (a block that the receiver has but whose digest is
not remembered is read and hashed, not sent), and it is closed with the digest. A block that arrived broken is asked
for again: a file that was closed is opened, that block sent, the file closed anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence, Set
from typing import Any

from ftx import limits
from ftx.core.announcing import Announcing
from ftx.core.blocks import BlockSet, block_count
from ftx.core.concluding import Concluded
from ftx.core.departing import Departing
from ftx.core.events import CloseEntry, Effect, OpenEntry, ReadBlock, ReadPipe, ReadWhole, Send
from ftx.core.table import Trace
from ftx.errors import KINDS, ProtocolError
from ftx.wire.messages import DRY_RUN, Basis, EntryEnd, EntryFailed, Offer, WantAgain, WantAll, WantGroup

__all__ = ["Supplying"]


class Supplying(Announcing):
    """The layer of a sender that knows what is wanted."""

    def __init__(
        self,
        offer: Offer,
        concluded: Concluded | None = None,
        trace: Trace | None = None,
        *,
        features: Set[str] = frozenset(),
    ) -> None:
        super().__init__(offer, concluded, trace, features=features)
        self._ready: deque[Departing] = deque()
        self._current: Departing | None = None
        self._blocks: Iterator[tuple[int, bool]] | None = None
        #: Bytes of digests of older copies that are on offer for all entries together.
        self._basis_held = 0

    def source(self, number: int) -> Any:
        """What the owner gave with the file."""
        return self._entries[number].source

    def sources(self, numbers: Sequence[int]) -> list[tuple[int, Any]]:
        """What the owner gave with each of these files, behind its number."""
        entries = self._entries
        return [(number, entries[number].source) for number in numbers]

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

    def wholes_read(self, read: Sequence[tuple[int, bytes]]) -> list[Effect]:
        """Files of one block, by their numbers, were read, have these file digests, and are with the transport.

        That closes them.
        """
        effects: list[Effect] = []
        entries = self._entries
        for number, digest in read:
            entry = entries[number]
            entry.active, entry.closed, entry.again, entry.digest = False, True, (), digest
            if entry.failed:
                effects += self._forget(entry)
        return effects

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

    # -- what is wanted ----------------------------------------------------------------------------------------

    def _wants(self, wants: Sequence[WantAll | WantGroup | WantAgain]) -> None:
        """What is wanted, in order: nearly always all of a small file, about which nothing more has to be asked."""
        entries, ready, dry = self._entries, self._ready, self.offer.kind == DRY_RUN
        for want in wants:
            entry = entries.get(want.number)
            if (
                type(want) is not WantAll
                or entry is None
                or entry.size > limits.BLOCK
                or entry.answered
                or entry.folder
                or dry
            ):
                self._want(want, entry)
                continue
            entry.answered = entry.asked = True
            self._unanswered -= 1
            ready.append(entry)

    def _want(self, want: WantAll | WantGroup | WantAgain, entry: Departing | None) -> None:
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
        if message.first % limits.BASIS_DIGESTS:
            raise ProtocolError("protocol-error", "the digests of an older copy came in crumbs")
        entry.basis = entry.basis or bytearray()
        entry.basis += message.digests
        self._basis_held += len(message.digests)
        most = limits.BASIS_BLOCKS * limits.DIGEST
        if len(entry.basis) > block_count(entry.size) * limits.DIGEST or self._basis_held > most:
            raise ProtocolError("protocol-error", "more digests of older copies came than there may be")

    def _want_again(self, entry: Departing | None, block: int) -> None:
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
        entry.again += (block,)
        if entry.closed:
            entry.closed, entry.digest = False, None
            self._ready.append(entry)

    # -- within ------------------------------------------------------------------------------------------------

    def _forget(self, entry: Departing) -> list[Effect]:
        self._basis_held -= len(entry.basis)
        return super()._forget(entry)

    def _close_failed(self, entry: Departing, number: int) -> list[Effect]:
        entry.active, entry.closed, entry.withdrawn = False, True, True
        close = Send(EntryFailed(entry.number, number))
        return [close, *self._forget(entry)] if entry.failed else [close]

    def _leave(self, number: int) -> Departing:
        if self._current is not None and self._current.number == number:
            self._current, self._blocks = None, None
        return self._entries[number]

    def _next_of_current(self, entry: Departing) -> ReadBlock | ReadPipe | CloseEntry | None:
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
            *again, block = entry.again
            entry.again, step = tuple(again), (block, True)
        if step is None:
            entry.wanted = BlockSet(block_count(entry.size))  # all sent: opened once more, only repeats are
            self._blocks = None
            return CloseEntry(entry.number, not entry.failed)
        block, send = step
        basis = bytes(entry.basis[block * limits.DIGEST : (block + 1) * limits.DIGEST]) if send and not repeat else b""
        return ReadBlock(entry.number, block, send, basis or None, repeat)

    def _whole_batch(self, first: Departing) -> ReadWhole:
        ready, numbers, size = self._ready, [first.number], first.size
        while ready and len(numbers) < limits.DISK_BATCH:
            entry = ready[0]
            size += entry.size
            if entry.pipe or entry.size > limits.BLOCK or size > limits.DISK_BATCH_BYTES:
                break
            ready.popleft()
            entry.active = True
            numbers.append(entry.number)
        return ReadWhole(numbers)
