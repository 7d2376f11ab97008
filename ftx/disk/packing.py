"""Compression of blocks: decided by a sample of each file, a zstd frame for each block, never a shared stream.

What one block looks like tells nothing about another, and can be sent, repaired and resumed alone. The decompressor
believes nothing: the frame has to say the block's size and gets room for that and no more (`docs/protocol.md`,
section 6).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Final

from ftx import limits

if sys.version_info >= (3, 14):  # pragma: no cover - the same library, then part of Python
    from compression import zstd
else:
    from backports import zstd

__all__ = ["Packer", "unpack"]

_SLICES: Final = 4
#: zstd's own name for a window of `limits.BLOCK` bytes.
_WINDOW: Final[Mapping[int, int]] = {zstd.DecompressionParameter.window_log_max: limits.BLOCK.bit_length() - 1}


class Packer:
    """Compresses the blocks of one file after the other. Not thread-safe."""

    __slots__ = ("_compressor", "_left")

    def __init__(self) -> None:
        self._compressor = zstd.ZstdCompressor(level=limits.ZSTD_LEVEL)
        #: Blocks for which the last sample still speaks: positive when it gained, negative when it did not.
        self._left = 0

    def begin(self) -> None:
        """Another file: nothing is known of it."""
        self._left = 0

    def pack(self, content: bytes | memoryview) -> bytes | None:
        """The block `content` as a zstd frame, or None when that is not worth it.

        The first block of a file is sampled, and one in `limits.SAMPLE_EVERY` after that, for files that are not the
        same all the way through. A sample is 64 KiB from four places of the block.
        """
        if len(content) < limits.PACKED_LEAST:
            return None
        if self._left == 0:
            sampled = self._sampled(content)
            if sampled is not None and len(content) <= limits.SAMPLE:
                return sampled
            self._left = limits.SAMPLE_EVERY if sampled is not None else -limits.SAMPLE_EVERY
        worth = self._left > 0
        self._left -= 1 if worth else -1
        return self._gain(content) if worth else None

    def _sampled(self, content: bytes | memoryview) -> bytes | None:
        if len(content) <= limits.SAMPLE:
            return self._gain(content)
        step, length = len(content) // _SLICES, limits.SAMPLE // _SLICES
        return self._gain(b"".join(content[start * step : start * step + length] for start in range(_SLICES)))

    def _gain(self, content: bytes | memoryview) -> bytes | None:
        """`content` compressed, if that saves enough."""
        packed = self._compressor.compress(content, mode=zstd.ZstdCompressor.FLUSH_FRAME)
        return packed if len(packed) <= len(content) * (1 - limits.ZSTD_GAIN) else None


def unpack(chunks: Iterable[bytes | memoryview], length: int) -> bytes | None:
    """The `length` bytes of the block whose zstd frame `chunks` are, or None when they are not that.

    Not that: no frame, one that says another size or none, one that needs a larger window than a block or a
    dictionary, more or fewer bytes than it says, anything behind it. It never makes more than `length` bytes.
    """
    packed = b"".join(chunks)
    try:
        said = zstd.get_frame_info(packed)
        if said.decompressed_size != length or said.dictionary_id:
            return None
        decompressor = zstd.ZstdDecompressor(options=_WINDOW)
        content = decompressor.decompress(packed, max_length=length)
    except zstd.ZstdError:
        return None
    whole = decompressor.eof and not decompressor.unused_data
    return content if whole and len(content) == length else None
