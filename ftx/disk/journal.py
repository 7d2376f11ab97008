"""Journal: which blocks of a file are known, and their digests, in one flat file that survives torn writes.

The format is specified in `docs/storage.md`, "Journal": a checksummed header, then groups of 8,192 blocks, each with
two alternating checksummed copies of its bitmap and a flat array of digests. Nothing is parsed block by block and
nothing is held whole: a file of 1 TiB has a million digests, of which at most `limits.JOURNAL_GROUPS` groups are in
memory.

Two users: beside a partial the journal covers what is verified *and durable* (`commit(sync=True)` after the data was
synced); as the sender's memory of digests it is committed without syncs.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from blake3 import blake3

from ftx.core.blocks import BlockSet, FileDigest, block_count, group_count
from ftx.disk.fds import close
from ftx.limits import BLOCK, DIGEST, GROUP, JOURNAL_GROUPS

__all__ = ["HEADER", "STRIDE", "Journal", "peek"]

_MAGIC: Final = b"\x89ftxj\r\n\x1a"
_VERSION: Final = 1
#: Bytes of the header, and from one group to the next.
HEADER: Final = 4096
_COPY: Final = 2048
_BITMAP: Final = GROUP // 8
_STATE: Final = 8 + _BITMAP + DIGEST
STRIDE: Final = 2 * _COPY + GROUP * DIGEST


#: What of the header says whether a journal fits; behind it is the tag.
_FITS: Final = 88
_NO_TAG: Final = bytes(32)


def _header(key: bytes, size: int, tag: bytes = _NO_TAG) -> bytes:
    fields = b"".join(
        (_MAGIC, _VERSION.to_bytes(4, "big"), BLOCK.to_bytes(4, "big"), size.to_bytes(8, "big"), key)
    )
    return (fields + blake3(fields).digest() + tag).ljust(HEADER, b"\0")


def peek(fd: int) -> tuple[bytes, bytes, int] | None:
    """Tag, key and size in the header of the journal `fd`; None when it is none, or has no tag. OSError as it comes."""
    head = _pread(fd, HEADER, 0)
    size, key, tag = int.from_bytes(head[16:24], "big"), head[24:56], head[_FITS : _FITS + 32]
    return (tag, key, size) if tag != _NO_TAG and head == _header(key, size, tag) else None


def _pread(fd: int, length: int, offset: int) -> bytes:
    """`length` bytes at `offset`, zeros beyond the end of the file."""
    data = os.pread(fd, length, offset)
    while 0 < len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data if len(data) == length else data.ljust(length, b"\0")


def _pwrite(fd: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _runs(bitmap: bytes) -> Iterator[tuple[int, int]]:
    """The runs of set bits as (first, after the last)."""
    bits, base = int.from_bytes(bitmap, "little"), 0
    while bits:
        gap = (bits & -bits).bit_length() - 1
        bits >>= gap
        length = (~bits & (bits + 1)).bit_length() - 1
        yield base + gap, base + gap + length
        bits >>= length
        base += gap + length


class _Group:
    """The digests of one group in memory, and which of them the file does not have yet."""

    __slots__ = ("digests", "first", "last")

    def __init__(self, digests: bytearray) -> None:
        self.digests = digests
        self.first = len(digests)
        self.last = 0


class Journal:
    """The journal of one file. Not thread-safe. Owns its descriptor, which must be open for reading and writing."""

    __slots__ = ("_committed", "_fd", "_generations", "_groups", "_size", "_uncommitted", "blocks", "key")

    def __init__(self, fd: int, key: bytes, size: int) -> None:
        """Use `create()` or `load()`."""
        self._fd = fd
        self._size = size
        #: The 32 bytes that name what this journal is about.
        self.key = key
        #: The blocks whose digests are known. To be read, never changed, by others.
        self.blocks = BlockSet(block_count(size))
        self._generations = [0] * group_count(size)
        self._groups: OrderedDict[int, _Group] = OrderedDict()
        self._uncommitted: set[int] = set()
        self._committed = 0

    @classmethod
    def create(cls, fd: int, key: bytes, size: int, tag: bytes = _NO_TAG) -> Journal:
        """Begin an empty journal in the empty file `fd` for a file of `size` bytes; `key` and `tag` are 32 bytes.

        By its tag others find it, whatever its key: see `peek()`.

        Takes over `fd`, also when it raises OSError.
        """
        journal = cls(fd, key, size)
        try:
            _pwrite(fd, _header(key, size, tag), 0)
        except OSError:
            journal.close()
            raise
        return journal

    @classmethod
    def load(cls, fd: int, key: bytes, size: int) -> Journal | None:
        """The journal in `fd`, or None (and `fd` closed) when its header does not fit `key` and `size`.

        Groups of which neither copy checks count as empty. Takes over `fd`, also when it raises OSError.
        """
        journal = cls(fd, key, size)
        try:
            if _pread(fd, _FITS, 0) != _header(key, size)[:_FITS]:
                journal.close()
                return None
            end = os.fstat(fd).st_size
            for group in range(group_count(size)):
                if journal._offset(group) >= end:
                    break
                journal._load_group(group)
        except OSError:
            journal.close()
            raise
        journal._committed = journal.blocks.count
        return journal

    def moved(self, fd: int) -> Journal:
        """A journal in the empty file `fd` that goes on where this one cannot: also after an OSError of this one.

        It knows what this one knows, committed or not, except for groups that cannot be read any more. Takes over `fd`,
        also when it raises OSError because of it; this one stays open.
        """
        journal = Journal.create(fd, self.key, self._size)
        try:
            for group in range(len(self._generations)):
                bitmap = self.blocks.group(group)
                if any(bitmap):
                    journal._take_over(group, bitmap, self._readable(group))
        except OSError:
            journal.close()
            raise
        return journal

    def _readable(self, group: int) -> bytes | bytearray | None:
        """The digests of `group`, None when they cannot be read."""
        cached = self._groups.get(group)
        if cached is not None:
            return cached.digests
        try:
            return _pread(self._fd, self._blocks_in(group) * DIGEST, self._offset(group) + 2 * _COPY)
        except OSError:
            return None

    def _take_over(self, group: int, bitmap: bytes, digests: bytes | bytearray | None) -> None:
        if digests is not None:
            _pwrite(self._fd, memoryview(digests), self._offset(group) + 2 * _COPY)
            self.blocks.load_group(group, bitmap)
            self._uncommitted.add(group)

    @property
    def committed(self) -> int:
        """How many blocks were known at the last commit."""
        return self._committed

    @staticmethod
    def _offset(group: int) -> int:
        return HEADER + group * STRIDE

    def _blocks_in(self, group: int) -> int:
        return min(GROUP, self.blocks.blocks - group * GROUP)

    def _check(self, group: int, generation: int, bitmap: bytes, digests: bytes | bytearray) -> bytes:
        """The check of a state copy, as specified."""
        hasher = blake3(key=self.key)
        hasher.update(group.to_bytes(8, "big") + generation.to_bytes(8, "big") + bitmap)
        whole = memoryview(digests)
        for first, after in _runs(bitmap):
            hasher.update(whole[first * DIGEST : after * DIGEST])
        return hasher.digest()

    def _load_group(self, group: int) -> None:
        """Take over the newest state copy of `group` that checks."""
        offset = self._offset(group)
        states = _pread(self._fd, 2 * _COPY, offset)
        copies = [states[start : start + _STATE] for start in (0, _COPY)]
        copies = [copy for copy in copies if any(copy)]
        if not copies:
            return
        expected = -(-self._blocks_in(group) // 8)
        digests = _pread(self._fd, self._blocks_in(group) * DIGEST, offset + 2 * _COPY)
        for copy in sorted(copies, reverse=True):  # the generation comes first and is big-endian
            generation, bitmap = int.from_bytes(copy[:8], "big"), copy[8 : 8 + _BITMAP]
            if any(bitmap[expected:]) or self._check(group, generation, bitmap, digests) != copy[-DIGEST:]:
                continue
            try:
                self.blocks.load_group(group, bitmap[:expected])
            except ValueError:
                continue
            self._generations[group] = generation
            return

    def _group(self, group: int) -> _Group:
        """The digests of `group`, from memory or from the file."""
        cached = self._groups.get(group)
        if cached is not None:
            self._groups.move_to_end(group)
            return cached
        length = self._blocks_in(group) * DIGEST
        cached = _Group(bytearray(_pread(self._fd, length, self._offset(group) + 2 * _COPY)))
        self._groups[group] = cached
        if len(self._groups) > JOURNAL_GROUPS:
            # the digests may go to the file early: no committed bitmap speaks of them yet
            oldest, dropped = next(iter(self._groups.items()))
            self._write_digests(oldest, dropped)
            del self._groups[oldest]
        return cached

    def _write_digests(self, group: int, cached: _Group) -> None:
        if cached.first < cached.last:
            changed = memoryview(cached.digests)[cached.first : cached.last]
            _pwrite(self._fd, changed, self._offset(group) + 2 * _COPY + cached.first)
            cached.first, cached.last = len(cached.digests), 0

    def set(self, block: int, digest: bytes) -> None:
        """Know that `block` has `digest`; in the file with the next `commit()`. IndexError beyond the file's end."""
        if len(digest) != DIGEST:
            raise ValueError("a digest has 32 bytes")
        self.blocks.add(block)
        group, index = divmod(block, GROUP)
        cached = self._group(group)
        start = index * DIGEST
        cached.digests[start : start + DIGEST] = digest
        cached.first = min(cached.first, start)
        cached.last = max(cached.last, start + DIGEST)
        self._uncommitted.add(group)

    def digest(self, block: int) -> bytes | None:
        """The digest of `block`, or None when it is not known."""
        if block not in self.blocks:
            return None
        group, index = divmod(block, GROUP)
        return bytes(self._group(group).digests[index * DIGEST : (index + 1) * DIGEST])

    def commit(self, sync: bool) -> None:
        """Write what changed; with `sync` it is durable on return (fdatasync(2)). OSError as it comes.

        After an OSError the journal must not be used again: the file still describes an earlier commit.
        """
        for group in sorted(self._uncommitted):
            cached = self._group(group)
            self._write_digests(group, cached)
            generation = self._generations[group] + 1
            bitmap = self.blocks.group(group).ljust(_BITMAP, b"\0")
            state = generation.to_bytes(8, "big") + bitmap + self._check(group, generation, bitmap, cached.digests)
            _pwrite(self._fd, state, self._offset(group) + (generation % 2) * _COPY)
            self._generations[group] = generation
        self._uncommitted.clear()
        if sync:
            os.fdatasync(self._fd)
        self._committed = self.blocks.count

    def joined(self) -> bytes:
        """All digests up to the end of the file, joined; zeros where they are not known. Held whole by the caller."""
        return b"".join(self._group(group).digests for group in range(len(self._generations)))

    def file_digest(self) -> bytes:
        """The digest of the file; ValueError unless every block is known. Read group by group."""
        if not self.blocks.complete:
            raise ValueError("not every block is known")
        whole = FileDigest(self._size)
        for group in range(len(self._generations)):
            whole.update(self._group(group).digests)
        return whole.digest()

    def close(self) -> None:
        """Close the descriptor; what was not committed is forgotten. May be called again."""
        if self._fd >= 0:
            close(self._fd)
            self._fd = -1
