"""What compressed content of a peer cannot ask for, and what one file's compression says about another."""

from __future__ import annotations

import os
import sys
import tracemalloc

import pytest

from ftx import limits
from ftx.disk.packing import Packer, unpack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK = limits.BLOCK
TEXT = b"".join(b"line %07d of a text that has more lines\n" % number for number in range(30_000))[:BLOCK]
P = zstd.CompressionParameter


@pytest.mark.parametrize("window", [21, 24, 27, 30])
def test_M182_a_larger_window(window: int) -> None:
    """A frame that wants more than a block of memory to look back to is none, whatever it holds."""
    compressor = zstd.ZstdCompressor(options={P.window_log: window, P.content_size_flag: 1})
    compressor.set_pledged_input_size(BLOCK)
    # The window is written into the header unless the content is one segment: so it is made in two.
    frame = bytearray(compressor.compress(TEXT[:1000], mode=zstd.ZstdCompressor.FLUSH_BLOCK))
    frame += compressor.compress(TEXT[1000:], mode=zstd.ZstdCompressor.FLUSH_FRAME)
    tracemalloc.start()
    try:
        content = unpack([bytes(frame)], BLOCK)
        assert content in (None, TEXT)  # zstd makes the window no larger than a content that it knows
        assert tracemalloc.get_traced_memory()[1] < 4 * BLOCK
    finally:
        tracemalloc.stop()
    unknown = zstd.ZstdCompressor(options={P.window_log: window, P.content_size_flag: 0})
    assert unpack([unknown.compress(TEXT, mode=zstd.ZstdCompressor.FLUSH_FRAME)], BLOCK) is None


def test_M182_a_level_is_our_own() -> None:
    """Any level unpacks, and what we pack with is not in any message: the peer chooses nothing."""
    for level in (-5, 1, 19, 22):
        frame = zstd.ZstdCompressor(level=level).compress(TEXT, mode=zstd.ZstdCompressor.FLUSH_FRAME)
        assert unpack([frame], BLOCK) in (TEXT, None)
    assert Packer().pack(TEXT) == Packer().pack(TEXT)


def test_M183_a_dictionary() -> None:
    """A frame that names a dictionary is none."""
    samples = [b"line %07d of a text that has more lines, %d\n" % (number, number * 7) * 4 for number in range(2000)]
    dictionary = zstd.train_dict(samples, 4096)
    frame = zstd.ZstdCompressor(zstd_dict=dictionary).compress(TEXT, mode=zstd.ZstdCompressor.FLUSH_FRAME)
    assert zstd.get_frame_info(frame).dictionary_id
    assert unpack([frame], BLOCK) is None


def test_M184_nothing_is_remembered() -> None:
    """What a block becomes does not depend on the blocks before it, of this file or another."""
    secret = os.urandom(2000) * 500
    after_a_secret, fresh = Packer(), Packer()
    after_a_secret.pack(secret[:BLOCK])
    after_a_secret.begin()
    probe = (secret[:3000] * 350)[:BLOCK]
    assert after_a_secret.pack(probe) == fresh.pack(probe)
    assert after_a_secret.pack(probe) == fresh.pack(probe)
