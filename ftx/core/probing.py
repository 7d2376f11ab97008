"""Probes: content that is measured and not kept, as both ends see it, and who may ask for one how often.

Rules of `docs/protocol.md`, section 19. The content of a probe has no meaning, but it is verified like any other: what
is measured is what a transfer would get, without the disk.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import attrs

from ftx import limits
from ftx.core.blocks import block_digest
from ftx.errors import FtxError, ProtocolError
from ftx.wire.frames import Encoding, Piece

__all__ = ["Allowance", "Inflow", "Outflow"]


@attrs.define(eq=False)
class Outflow:
    """The sender's side: which piece comes next. It ends early, `limits.PROBE_SECONDS` after `began`."""

    total: int
    began: float
    sent: int = attrs.field(default=0, init=False)
    _block: int = attrs.field(default=0, init=False)

    def next(self, now: float) -> tuple[int, int] | None:
        """Number and length of the next block, which then counts as sent; None when there are no more."""
        length = min(limits.PIECE, self.total - self.sent)
        if not length or (self.sent and now >= self.began + limits.PROBE_SECONDS):
            return None
        block, self._block = self._block, self._block + 1
        self.sent += length
        return block, length


@attrs.define(eq=False)
class Inflow:
    """The receiver's side: at most `total` bytes, block by block, each verified and let go of."""

    total: int
    received: int = attrs.field(default=0, init=False)
    #: When the first and the last block were there.
    first: float = attrs.field(default=0.0, init=False)
    last: float = attrs.field(default=0.0, init=False)
    _block: int = attrs.field(default=0, init=False)

    def piece(self, piece: Piece, now: float) -> None:
        """A block came. ProtocolError when it is not the one that had to come, or does not verify."""
        due = min(limits.PIECE, self.total - self.received)
        in_turn = piece.entry == 0 and piece.block == self._block and piece.encoding == Encoding.RAW
        if not in_turn or not due or piece.length != due:
            raise ProtocolError("protocol-error", "content of a probe came that was not due")
        if piece.digest is None or block_digest(piece.chunks) != piece.digest:
            raise ProtocolError("digest-mismatch", "content of a probe did not verify")
        if not self._block:
            self.first = now
        self.last = now
        self._block += 1
        self.received += piece.length

    def ended(self, count: int) -> None:
        """The sender says that this was all. ProtocolError when it is not what came."""
        if count != self.received:
            raise ProtocolError("protocol-error", "the account of a probe does not agree with what came")

    @property
    def elapsed(self) -> float:
        """Seconds from the first block to the last."""
        return self.last - self.first


class Allowance:
    """How many probes a daemon takes part in: at once, and of one key in a span of time. Bounded memory."""

    def __init__(self) -> None:
        self._running = 0
        self._lately: OrderedDict[bytes, deque[float]] = OrderedDict()

    def take(self, key: bytes, now: float) -> None:
        """A probe of `key` begins at `now`; `give_back()` follows. FtxError `busy` when it may not."""
        lately = self._lately.setdefault(key, deque(maxlen=limits.PROBES_PER_KEY))
        self._lately.move_to_end(key)
        while len(self._lately) > limits.PROBE_KEYS:
            self._lately.popitem(last=False)
        if len(lately) == limits.PROBES_PER_KEY and now - lately[0] < limits.PROBE_SPAN:
            raise FtxError("busy", "it has asked for too many probes in the last minute")
        if self._running >= limits.PROBES_AT_ONCE:
            raise FtxError("busy", "enough probes are under way")
        lately.append(now)
        self._running += 1

    def give_back(self) -> None:
        """A probe has ended."""
        self._running -= 1
