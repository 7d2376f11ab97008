"""Blocks: how a file is cut, what its digest is, and which of its blocks are still missing.

A file of `size` bytes has `max(1, ceil(size / BLOCK))` blocks; an empty file has one empty block. A block's digest
is plain BLAKE3 of its bytes. The file's digest is BLAKE3 in derive-key mode over the size and the block digests, so
it can be computed in one pass, checked block by block, and resumed without reading again
(`docs/protocol.md`, section "Blocks and digests").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from ftx.limits import BLOCK, GROUP

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "FILE_CONTEXT",
    "BlockSet",
    "FileDigest",
    "block_count",
    "block_digest",
    "block_length",
    "file_digest",
    "group_count",
    "whole_digest",
    "whole_digests",
    "zero_digest",
]

#: Derive-key context of the file digest; part of the protocol.
FILE_CONTEXT: Final = "ftx 2026-11-22 file digest v1"
#: To be copied: the context is hashed anew for each hasher that is made with it.
_FILE: Final = blake3(derive_key_context=FILE_CONTEXT)


def block_count(size: int) -> int:
    """How many blocks a file of `size` bytes has; never 0."""
    return max(1, -(-size // BLOCK))


def block_length(size: int, index: int) -> int:
    """Bytes in block `index` of a file of `size` bytes."""
    return min(BLOCK, size - index * BLOCK)


def group_count(size: int) -> int:
    """How many groups of `GROUP` blocks a file of `size` bytes has."""
    return -(-block_count(size) // GROUP)


def block_digest(chunks: Iterable[Buffer]) -> bytes:
    """BLAKE3 over the chunks of one block, 32 bytes. Releases the GIL for large chunks."""
    hasher = blake3()
    for chunk in chunks:
        hasher.update(chunk)
    return hasher.digest()


@lru_cache(maxsize=64)
def zero_digest(length: int) -> bytes:
    """The digest of a block of `length` zero bytes."""
    return blake3(bytes(length)).digest()


class FileDigest:
    """The file digest, fed with block digests in order. `digest()` after the last one."""

    __slots__ = ("_hasher",)

    def __init__(self, size: int) -> None:
        self._hasher = blake3(size.to_bytes(8, "big"), derive_key_context=FILE_CONTEXT)

    def update(self, digests: Buffer) -> None:
        """Add one block digest, or several joined, in block order."""
        self._hasher.update(digests)

    def digest(self) -> bytes:
        """32 bytes."""
        return self._hasher.digest()


def file_digest(size: int, digests: Iterable[Buffer]) -> bytes:
    """The digest of a file of `size` bytes whose blocks have these digests, in order."""
    whole = FileDigest(size)
    for digest in digests:
        whole.update(digest)
    return whole.digest()


def whole_digest(size: int, digest: Buffer) -> bytes:
    """The digest of a file of `size` bytes and one block, which has this digest."""
    hasher = _FILE.copy()
    hasher.update(size.to_bytes(8, "big") + digest)
    return hasher.digest()


def whole_digests(files: Iterable[tuple[int, Buffer]]) -> list[bytes]:
    """As `whole_digest()` of each, given with size and digest: one hasher serves all of them."""
    hasher, digests = _FILE.copy(), []
    for size, digest in files:
        hasher.reset()
        hasher.update(size.to_bytes(8, "big") + digest)
        digests.append(hasher.digest())
    return digests


def content_digest(content: bytes) -> bytes:
    """The file digest of `content`, at most one block of it."""
    return whole_digest(len(content), block_digest([content]))


class BlockSet:
    """A set of block numbers below a fixed count, one bit each: 128 KiB for a file of 1 TiB.

    Bit `i` of a group's bitmap is bit `i % 8` (least significant first) of byte `i // 8`, on the wire, in journals
    and here alike.
    """

    __slots__ = ("_bits", "blocks", "count")

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        #: How many blocks are in the set.
        self.count = 0
        self._bits = bytearray(-(-blocks // 8))

    @classmethod
    def full(cls, blocks: int) -> BlockSet:
        """The set of all blocks."""
        whole = cls(blocks)
        whole._bits = bytearray(b"\xff" * len(whole._bits))
        if blocks % 8:
            whole._bits[-1] = (1 << (blocks % 8)) - 1
        whole.count = blocks
        return whole

    def __contains__(self, block: int) -> bool:
        return 0 <= block < self.blocks and bool(self._bits[block >> 3] & (1 << (block & 7)))

    def add(self, block: int) -> None:
        """Put `block` into the set; IndexError when it is not below `blocks`."""
        if not 0 <= block < self.blocks:
            raise IndexError(block)
        mask = 1 << (block & 7)
        if not self._bits[block >> 3] & mask:
            self._bits[block >> 3] |= mask
            self.count += 1

    def discard(self, block: int) -> None:
        """Take `block` out of the set, if it is there."""
        if block in self:
            self._bits[block >> 3] &= ~(1 << (block & 7)) & 0xFF
            self.count -= 1

    @property
    def complete(self) -> bool:
        """Whether every block is in the set."""
        return self.count == self.blocks

    def __iter__(self) -> Iterator[int]:
        for position, byte in enumerate(self._bits):
            if byte:
                for bit in range(8):
                    if byte & (1 << bit):
                        yield position * 8 + bit

    def inverted(self) -> BlockSet:
        """The set of the blocks that are not in this one."""
        return self._of(int.from_bytes(self._bits, "little") ^ ((1 << self.blocks) - 1), self.blocks - self.count)

    def union(self, other: BlockSet) -> BlockSet:
        """The set of the blocks that are in this one or in `other`, which has as many blocks."""
        bits = int.from_bytes(self._bits, "little") | int.from_bytes(other._bits, "little")
        return self._of(bits, bits.bit_count())

    def _of(self, bits: int, count: int) -> BlockSet:
        # as one number: a million blocks take well below a millisecond, one by one they would take a second
        made = BlockSet(self.blocks)
        made._bits = bytearray(bits.to_bytes(len(self._bits), "little"))
        made.count = count
        return made

    def copy(self) -> BlockSet:
        """An independent copy."""
        other = BlockSet(self.blocks)
        other._bits = bytearray(self._bits)
        other.count = self.count
        return other

    def group(self, index: int) -> bytes:
        """The bitmap of group `index`, cut to the blocks there are (at most 1,024 bytes)."""
        return bytes(self._bits[index * (GROUP // 8) : (index + 1) * (GROUP // 8)])

    def load_group(self, index: int, bitmap: bytes) -> None:
        """Replace group `index` by `bitmap`; ValueError when its length or its unused bits are wrong."""
        start = index * (GROUP // 8)
        expected = len(self._bits[start : start + GROUP // 8])
        if index < 0 or not bitmap or len(bitmap) != expected:
            raise ValueError("bitmap has the wrong length")
        last = start + expected == len(self._bits)
        if last and self.blocks % 8 and bitmap[-1] >> (self.blocks % 8):
            raise ValueError("bitmap names blocks that do not exist")
        old = int.from_bytes(self._bits[start : start + expected], "little").bit_count()
        self._bits[start : start + expected] = bitmap
        self.count += int.from_bytes(bitmap, "little").bit_count() - old

    def bytes_in(self, size: int) -> int:
        """Content bytes of a file of `size` bytes that the blocks of this set cover."""
        covered = self.count * BLOCK
        if self.blocks - 1 in self:
            covered -= BLOCK - block_length(size, self.blocks - 1)
        return covered
