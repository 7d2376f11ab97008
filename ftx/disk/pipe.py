"""A source without a size: what a program writes to our standard input, read block by block until it ends."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from typing import Final

from ftx.core.blocks import FileDigest, block_digest
from ftx.disk import fds
from ftx.errors import FtxError
from ftx.limits import BLOCK, DIGEST
from ftx.wire.frames import data_frames

__all__ = ["DigestList", "PipeSource"]

#: Milliseconds after which a reader that waits for a silent program asks whether it should go on.
_ASK_EVERY: Final = 100
_ZEROS: Final = bytes(BLOCK)


class DigestList:
    """The block digests of a file whose size is not known before its end, in a file in memory: 32 bytes a block."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("ftx-digests", os.MFD_CLOEXEC)
        self._count = 0

    def add(self, digest: bytes) -> None:
        """The digest of the next block. OSError when there is no room."""
        os.pwrite(self._fd, digest, self._count * DIGEST)
        self._count += 1

    def file_digest(self, size: int) -> bytes:
        """The digest of the file of `size` bytes; an empty one has one empty block."""
        whole = FileDigest(size)
        if not self._count:
            whole.update(block_digest([b""]))
        for offset in range(0, self._count * DIGEST, BLOCK):
            whole.update(os.pread(self._fd, BLOCK, offset))
        return whole.digest()

    def close(self) -> None:
        """Forget them. May be called again."""
        if self._fd >= 0:
            fds.close(self._fd)
            self._fd = -1


class PipeSource:
    """The descriptor `fd`, which stays the caller's, read to its end once. Blocks; calls must not overlap."""

    def __init__(self, fd: int, stopped: Callable[[], bool]) -> None:
        """While the other end says nothing `stopped` is asked; once it is true, FtxError `interrupted` ends that."""
        self._fd = fd
        self._stopped = stopped
        self._digests = DigestList()
        self._size = 0

    def block(self, number: int, index: int) -> tuple[Sequence[bytes | memoryview], int, bytes | None]:
        """The next block: its frames for entry `number`, its bytes, and at the end the digest of it all.

        The end comes alone, or with a block that is shorter than others. FtxError `source-unreadable`, `local-io`, or
        `interrupted`.
        """
        content = self._read()
        frames: Sequence[bytes | memoryview] = ()
        try:
            if content:
                digest = block_digest([content])
                self._digests.add(digest)
                self._size += len(content)
                frames = data_frames(number, index, content, digest, zero=content == _ZEROS)
            ended = len(content) < BLOCK
            return frames, len(content), self._digests.file_digest(self._size) if ended else None
        except OSError as error:
            raise FtxError("local-io", "there is no room to keep digests in") from error

    def _read(self) -> bytes:
        poll = select.poll()
        try:
            poll.register(self._fd, select.POLLIN)
            parts: list[bytes] = []
            left = BLOCK
            while left:
                while not poll.poll(_ASK_EVERY):
                    if self._stopped():
                        raise FtxError("interrupted")
                part = os.read(self._fd, left)
                if not part:
                    break
                parts.append(part)
                left -= len(part)
        except OSError as error:
            why = (error.strerror or "input/output error").lower()
            raise FtxError("source-unreadable", f"standard input cannot be read: {why}") from error
        return b"".join(parts)

    def close(self) -> None:
        """Let go of what was remembered. May be called again."""
        self._digests.close()
