"""A basis: what is there of an older version of a file, whose blocks need not travel again.

It is an older copy under the name that a record of the same peer has, the file of that name where the peer may read it,
what an interrupted transfer of another version left, or what one of this version left whose journal cannot be believed.
Its digests are only an offer: whatever is taken over from it is verified in its new place, so a basis may change at any
time and nothing goes wrong but that blocks travel after all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from blake3 import blake3

from ftx.core.blocks import block_count, block_length
from ftx.disk import fds
from ftx.disk.journal import Journal
from ftx.disk.root import Root
from ftx.disk.sparse import Holes
from ftx.disk.staging import Staging
from ftx.limits import BASIS_BLOCKS, BLOCK, DIGEST

__all__ = ["Basis"]


class Basis:
    """An open basis. Its owner closes it."""

    __slots__ = ("_digests", "fd", "size")

    def __init__(self, fd: int, size: int, digests: bytes | None = None) -> None:
        """Take over `fd`, a file of `size` bytes; `digests` of its blocks, where they are known, spare the reading."""
        self.fd = fd
        self.size = size
        self._digests = digests

    @classmethod
    def of_copy(
        cls, root: Root, folder_fd: int, name: bytes, remembered: Callable[[os.stat_result], bytes | None]
    ) -> Basis | None:
        """The file `name` in a folder of the inbox, if it is a regular one that may be read. OSError as it comes.

        `remembered` gives the digests of a file of this status, if they are known.
        """
        try:
            fd = root.open_file(folder_fd, name)
        except PermissionError:
            return None
        if fd is None:
            return None
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            fds.close(fd)
            return None
        return cls(fd, status.st_size, remembered(status))

    @classmethod
    def of_partial(cls, staging: Staging, key: bytes, size: int) -> Basis | None:
        """What is staged under `key` for a version of `size` bytes, if it can be believed. OSError as it comes."""
        opened = staging.open_partial(key, size)
        if opened is None:
            return None
        fd, journal = opened
        try:
            return cls(fd, size, _known(journal))
        finally:
            journal.close()

    @classmethod
    def of_left_over(cls, staging: Staging, key: bytes) -> Basis | None:
        """What is staged under `key` and has no journal to say what it is. OSError as it comes.

        It may lose its name meanwhile, which harms nobody who has it open.
        """
        fd = staging.open_left_over(key)
        return None if fd is None else cls(fd, os.fstat(fd).st_size)

    def digests(self, size: int, check: Callable[[], None]) -> bytes:
        """The digests of its blocks, joined; as many as a file of `size` bytes and `limits.BASIS_BLOCKS` allow.

        A block that is not known has 32 zero bytes, which no block has; so has one that is a hole: its zeros travel as
        no more than the word, and what was never written is not read. `check` is called before each block that has to
        be read, and what it raises ends the reading. OSError as it comes. Digests that were known are let go of: they
        may be four MiB, and are needed once, while the file is open for as long as blocks are taken over.
        """
        blocks = min(block_count(self.size), block_count(size), BASIS_BLOCKS) if self.size else 0
        known, self._digests = self._digests, None
        if known is not None:
            return known[: blocks * DIGEST]
        found = bytearray()
        buffer = memoryview(bytearray(min(self.size, BLOCK)))
        holes = Holes(self.fd)
        for index in range(blocks):
            length = block_length(self.size, index)
            if holes.covers(index * BLOCK, index * BLOCK + length):
                found += bytes(DIGEST)
                continue
            check()
            if os.preadv(self.fd, [buffer[:length]], index * BLOCK) != length:
                break
            found += blake3(buffer[:length]).digest()
        return bytes(found)

    def close(self) -> None:
        """Let it go. May be called again."""
        if self.fd >= 0:
            fds.close(self.fd)
            self.fd = -1


def _known(journal: Journal) -> bytes:
    """The digests of a journal up to `limits.BASIS_BLOCKS`, zeros where it knows none."""
    blocks = min(journal.blocks.blocks, BASIS_BLOCKS)
    return b"".join(journal.digest(index) or bytes(DIGEST) for index in range(blocks))
