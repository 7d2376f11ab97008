"""From a source to data frames, in one worker job each: read, hash, encode.

A job of the disk's thread does everything that can be done there, so the reactor only passes finished bytes on to the
transport: a batch of small files, or one block of a larger one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs
from blake3 import blake3

from ftx.core.blocks import BlockSet, block_count, block_digest, block_length, file_digest, whole_digests, zero_digest
from ftx.disk.journal import Journal
from ftx.disk.memory import DigestMemory
from ftx.disk.packing import Packer
from ftx.disk.source import OpenSource, SourceFile, read_all, read_whole
from ftx.disk.sparse import PAGE
from ftx.errors import FtxError
from ftx.limits import BLOCK, PIECE
from ftx.wire.frames import Encoding, copy_frame, data_frames, data_head

__all__ = ["LargeSource", "WholeBatch", "checksum", "read_batch"]

_ZEROS: Final = bytes(BLOCK)
#: Small files that are read with one call, or are open at once, to be closed with one.
_TOGETHER: Final = 32


@attrs.frozen
class WholeBatch:
    """What became of a batch of files of one block.

    `frames` are the data frames of those in `read` (entry number, file digest), in order; `failed` has (entry number,
    name of the error).
    """

    frames: bytes
    #: Content bytes in the frames, compressed where they are.
    size: int
    read: Sequence[tuple[int, bytes]]
    failed: Sequence[tuple[int, str]]


def read_batch(files: Sequence[tuple[int, SourceFile]], packer: Packer | None = None) -> WholeBatch:
    """Read, hash and encode files of one block, given with their entry numbers. Never raises for a file.

    With a `packer` those are compressed for which that is worth it.
    """
    frames: list[bytes | memoryview] = []
    numbers: list[int] = []
    hashed: list[tuple[int, bytes]] = []
    failed: list[tuple[int, str]] = []
    size, hasher = 0, blake3()
    for first in range(0, len(files), _TOGETHER):
        some = files[first : first + _TOGETHER]
        for (number, file), content in zip(some, read_all([file for _, file in some]), strict=True):
            if isinstance(content, str):
                failed.append((number, content))
                continue
            length = file.size
            hasher.reset()  # cheaper than another one
            hasher.update(content)
            digest = hasher.digest()
            numbers.append(number)
            hashed.append((length, digest))
            if length >= PAGE and not content[0] and content == _ZEROS[:length]:
                frames += data_frames(number, 0, content, digest, zero=True)
            elif packer is None and length <= PIECE:  # nearly everything
                frames += (data_head(number, 0, length), content, digest)
                size += length
            else:
                if packer is not None:
                    packer.begin()
                encoded, sent = _encoded(number, 0, content, digest, packer)
                frames += encoded
                size += sent
    read = list(zip(numbers, whole_digests(hashed), strict=True))
    return WholeBatch(b"".join(frames), size, read, failed)


def _encoded(
    number: int, block: int, content: bytes | memoryview, digest: bytes, packer: Packer | None
) -> tuple[Sequence[bytes | memoryview], int]:
    """The data frames of a block, and the content bytes in them: compressed where a packer finds that worth it."""
    packed = None if packer is None else packer.pack(content)
    if packed is None:
        return data_frames(number, block, content, digest), len(content)
    return data_frames(number, block, packed, digest, encoding=Encoding.ZSTD), len(packed)


class LargeSource:
    """A file of several blocks while it is sent, with what is remembered of its digests.

    All methods block; calls must not overlap. FtxError `source-changed`, `source-vanished` or `source-unreadable` end
    the file; `close()` follows in any case. Where the memory on disk cannot be used (any more), digests are kept in
    memory for as long as this file takes; only when there is no room there either, that is `local-io`.
    """

    def __init__(
        self, number: int, source: OpenSource, journal: Journal, memory: DigestMemory, packer: Packer | None = None
    ) -> None:
        self._packer = packer
        self._number = number
        self._source = source
        self._journal = journal
        self._memory = memory

    @classmethod
    def open(
        cls, number: int, file: SourceFile, memory: DigestMemory, now: float, packer: Packer | None = None
    ) -> LargeSource:
        """Open `file`; `now` in seconds since 1970. With a `packer` blocks are compressed where that is worth it."""
        source = OpenSource.open(file)
        try:
            journal = memory.recall(file) or memory.start(file, now)
        except OSError as error:
            source.close()
            raise _no_room() from error
        if packer is not None:
            packer.begin()
        return cls(number, source, journal, memory, packer)

    @property
    def known(self) -> BlockSet:
        """The blocks whose digests are remembered."""
        return self._journal.blocks

    def block(
        self, index: int, send: bool, basis: bytes | None = None, *, packs: bool = True
    ) -> tuple[Sequence[bytes | memoryview], int]:
        """Read and hash block `index`; its frames (none unless `send`), and the content bytes in them (a zero run has
        none).

        Where `basis`, the digest of that block in the receiver's older copy, is the same, there is only the word to
        copy it; and a block whose digest is remembered is not even read for that. Compressed it is only if `packs`.
        """
        if self._source.is_hole(index):
            digest = zero_digest(block_length(self._source.file.size, index))
            self._know(index, digest, read=False)
            return (data_frames(self._number, index, b"", digest, zero=True) if send else ()), 0
        if basis is not None and self._remembered(index) == basis:
            return [self._copy(index, basis)], 0
        content = self._source.read(index)
        digest = block_digest([content])
        self._know(index, digest)
        if not send:
            return (), 0
        if content == _ZEROS[: len(content)]:
            return data_frames(self._number, index, content, digest, zero=True), 0
        if digest == basis:
            return [self._copy(index, digest)], 0
        return _encoded(self._number, index, content, digest, self._packer if packs else None)

    def _remembered(self, index: int) -> bytes | None:
        try:
            return self._journal.digest(index)
        except OSError:
            return None

    def _copy(self, index: int, digest: bytes) -> bytes:
        length = block_length(self._source.file.size, index)
        return copy_frame(self._number, index, index * BLOCK, length, digest)

    def _know(self, index: int, digest: bytes, *, read: bool = True) -> None:
        try:
            self._note(index, digest, read)
        except OSError:
            self._move()
            try:
                self._note(index, digest, read)
            except OSError as error:
                raise _no_room() from error

    def _note(self, index: int, digest: bytes, read: bool) -> None:
        # Holes wait for the next block that had to be read: they are found again for nothing.
        # Memory is committed block by block: whatever the receiver has made durable is then remembered here too, even
        # if this process is killed. It costs two writes to the page cache, and no sync.
        self._journal.set(index, digest)
        if read:
            self._journal.commit(sync=False)

    def _move(self) -> None:
        """Go on without the disk that keeps the memory."""
        try:
            self._journal = self._memory.moved(self._journal)
        except OSError as error:
            raise _no_room() from error

    def digest(self) -> bytes:
        """The file digest, after the last block: the source is still what it was when the sending began."""
        self._source.unchanged()
        try:
            return self._whole_digest()
        except OSError:
            self._move()
        try:
            return self._whole_digest()
        except OSError as error:
            raise _no_room() from error

    def _whole_digest(self) -> bytes:
        # what was known and could not be read again from the disk that kept it is found out anew
        for index in self._journal.blocks.inverted():
            self._know(index, block_digest([self._source.read(index)]))
        return self._journal.file_digest()

    def close(self, *, forget: bool = False) -> None:
        """Let go of the file; `forget` what is remembered of it, when it turned out to have changed."""
        self._journal.close()
        if forget:
            self._memory.forget(self._source.file)
        self._source.close()


def checksum(file: SourceFile, memory: DigestMemory, now: float, check: Callable[[], None]) -> bytes:
    """The file digest of `file`, read as far as `memory` does not know its blocks; `now` in seconds since 1970.

    `check` is called before each block, and what it raises ends the reading. FtxError as for `LargeSource`.
    """
    check()
    if block_count(file.size) == 1:
        return file_digest(file.size, [block_digest([read_whole(file)])])
    large = LargeSource.open(0, file, memory, now)
    changed = False
    try:
        for index in large.known.inverted():
            check()
            large.block(index, False)
        return large.digest()
    except FtxError as error:
        changed = error.name == "source-changed"
        raise
    finally:
        large.close(forget=changed)


def _no_room() -> FtxError:
    return FtxError("local-io", "there is no room to keep digests in")
