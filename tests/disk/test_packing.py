"""Compression of blocks: when it is tried, and what is never believed about it."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from backports import zstd

from ftx import limits
from ftx.disk.packing import Packer, unpack

BLOCK = limits.BLOCK
NOISE = random.Random(4).randbytes(BLOCK)
TEXT = b"".join(b"%d bottles of beer on the wall\n" % number for number in range(40_000))[:BLOCK]


def frame(content: bytes) -> bytes:
    """An honest zstd frame."""
    return zstd.compress(content)


def run(count: int, said: int) -> bytes:
    """A frame of `count` runs of 128 KiB zeros that says it has `said` bytes: the stuff of bombs (RFC 8878, 3.1.1)."""
    descriptor = b"\xe0" + said.to_bytes(8, "little")  # one segment, eight bytes of content size
    head = (128 * 1024) << 3 | 1 << 1  # size, a run; bit 0: the last
    block, last = (number.to_bytes(3, "little") + b"\0" for number in (head, head | 1))
    return b"\x28\xb5\x2f\xfd" + descriptor + block * (count - 1) + last


@pytest.mark.parametrize("size", [limits.PACKED_LEAST, 4096, limits.SAMPLE, limits.SAMPLE + 1, BLOCK])
def test_what_gains_is_compressed_and_comes_back(size: int) -> None:
    """Text of any size, in any chunks."""
    packer = Packer()
    packer.begin()
    packed = packer.pack(TEXT[:size])
    assert packed is not None
    assert len(packed) <= size * (1 - limits.ZSTD_GAIN)
    assert unpack([packed[:7], packed[7:]], size) == TEXT[:size]


def test_what_does_not_gain_is_sent_as_it_is() -> None:
    """Noise, and what is too small to matter."""
    packer = Packer()
    packer.begin()
    assert [packer.pack(NOISE[:size]) for size in (0, 1, 300, 5000, BLOCK)] == [None] * 5
    packer.begin()
    assert packer.pack(b"a" * (limits.PACKED_LEAST - 1)) is None


def test_a_file_is_judged_by_a_sample_now_and_then() -> None:
    """After a noisy block text goes raw until the next sample; after that noise is tried, and goes raw by itself."""
    packer = Packer()
    packer.begin()
    assert packer.pack(NOISE) is None
    raw = [packer.pack(TEXT) for _ in range(limits.SAMPLE_EVERY - 1)]
    assert raw == [None] * (limits.SAMPLE_EVERY - 1)
    assert packer.pack(TEXT) is not None
    assert packer.pack(NOISE) is None
    assert packer.pack(TEXT) is not None
    packer.begin()  # another file has its own sample
    assert packer.pack(NOISE) is None
    assert packer.pack(TEXT) is None


def test_a_block_whose_head_alone_is_noise_is_still_text() -> None:
    """The sample is from all over the block."""
    packer = Packer()
    packer.begin()
    assert packer.pack(NOISE[: BLOCK // 8] + TEXT[: BLOCK - BLOCK // 8]) is not None


LIES = {
    "no frame": NOISE[:100],
    "nothing": b"",
    "cut short": frame(TEXT[:BLOCK])[:-1],
    "something behind it": frame(TEXT[:BLOCK]) + b"x",
    "a second frame": frame(TEXT[: BLOCK // 2]) + frame(TEXT[BLOCK // 2 :]),
    "smaller": frame(TEXT[: BLOCK - 1]),
    "larger": frame(TEXT + b"x"),
    "says less than it has": run(9, BLOCK),
    "says more than it has": run(7, BLOCK),
    "a bomb": run(100_000, BLOCK),
    "a bomb that says so": run(100_000, 100_000 * 128 * 1024),
    "says nothing": zstd.ZstdCompressor(options={zstd.CompressionParameter.content_size_flag: 0}).compress(
        TEXT, mode=zstd.ZstdCompressor.FLUSH_FRAME
    ),
    "a skippable frame": b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd",
}


@pytest.mark.case("M181", "M183")
@pytest.mark.parametrize("lie", LIES)
def test_what_is_not_exactly_the_block_does_not_match(lie: str) -> None:
    """Whatever it is, it makes no more than a block, and is no content."""
    assert run(8, BLOCK) != LIES[lie]
    tracemalloc.start()
    try:
        assert unpack([LIES[lie]], BLOCK) is None
        assert tracemalloc.get_traced_memory()[1] < 4 * BLOCK
    finally:
        tracemalloc.stop()


def test_the_runs_of_the_lies_are_sound() -> None:
    """The same, honestly said, are a block of zeros: it is the lie that is refused."""
    assert unpack([run(8, BLOCK)], BLOCK) == bytes(BLOCK)
