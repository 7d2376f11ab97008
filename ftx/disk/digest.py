"""The digest of a file that is on disk, read once, block by block."""

from __future__ import annotations

import os
from collections.abc import Callable

from blake3 import blake3

from ftx.core.blocks import FileDigest, block_count, block_length
from ftx.limits import BLOCK

__all__ = ["digest_of"]


def digest_of(fd: int, size: int, check: Callable[[], None]) -> bytes | None:
    """The file digest of the first `size` bytes of `fd`, or None when it has fewer. OSError as it comes.

    This can take hours: `check` is called before each block, and what it raises ends the reading.
    """
    whole = FileDigest(size)
    buffer = memoryview(bytearray(min(size, BLOCK)))
    for index in range(block_count(size)):
        check()
        length = block_length(size, index)
        done = 0
        while done < length:
            count = os.preadv(fd, [buffer[done:length]], index * BLOCK + done)
            if not count:
                return None
            done += count
        whole.update(blake3(buffer[:length]).digest())
    return whole.digest()
