"""Compressing only where the network is the limit: played with networks of all speeds, and counted."""

from __future__ import annotations

import pytest

from ftx import limits
from ftx.core.bottleneck import Bottleneck, is_slow

MIB = 1 << 20
#: Seconds in which a block of text is read and hashed, and compressed to a quarter.
READ, PACK = 0.0005, 0.0015


def send(rate: float, blocks: int, *, rates: dict[int, float] | None = None) -> list[bool]:
    """Which of `blocks` blocks were compressed over a network of `rate` bytes per second; `rates` change it at blocks.

    The transport is full with a block in its queue and wants more when a quarter of one is left, as ours.
    """
    bottleneck, now, queue, packed = Bottleneck(), 0.0, 0.0, []
    for block in range(blocks):
        rate = (rates or {}).get(block, rate)
        packs = bottleneck.packs
        packed.append(packs)
        took = READ + PACK * packs
        now += took
        size = MIB // 4 if packs else MIB
        queue = max(0.0, queue - took * rate) + size
        bottleneck.sent(size)
        if queue >= limits.WRITE_QUEUE_HIGH:
            bottleneck.full(now)
            now += (queue - limits.WRITE_QUEUE_LOW) / rate
            queue = limits.WRITE_QUEUE_LOW
            bottleneck.drained(now)
    return packed


def first_term() -> int:
    """Blocks of text in the first term, which is compressed in any case."""
    return limits.ZSTD_TERM // (MIB // 4)


@pytest.mark.parametrize("rate", [100_000, 1_250_000, 12_500_000, 60_000_000])
def test_a_slow_network_gets_nearly_everything_compressed(rate: int) -> None:
    """Up to half a Gbit/s: of 4 GiB all but a few blocks, for which it is looked how slow it is."""
    packed = send(rate, 4096)
    assert packed.count(False) <= 4096 // 50


@pytest.mark.parametrize("rate", [117e6, 300e6, 1e9, 5e9])
def test_only_where_the_network_is_the_limit(rate: float) -> None:
    """On one machine, or on a fast wire, nothing is compressed after the first term."""
    packed = send(rate, 4096)
    assert packed.count(True) == first_term()
    assert not any(packed[first_term() :])


def test_a_network_that_changes() -> None:
    """It gets slow, then fast again: found out within a few blocks, and within the longest term."""
    packed = send(1e9, 8192, rates={1000: 1e6, 3000: 1e9})
    assert not any(packed[first_term() : 1000])
    assert packed[1000:3000].count(False) < 100
    longest = limits.ZSTD_LONGEST // (MIB // 4)
    assert not any(packed[3000 + longest + 4 :])


def test_a_slow_network_is_looked_at_ever_less_often() -> None:
    """Terms of twice the length each time, up to the longest."""
    bottleneck = Bottleneck()
    terms, term, now = [], 0, 0.0
    while len(terms) < 7:
        if bottleneck.packs:
            term += MIB
        elif term:
            terms.append(term)
            term = 0
        bottleneck.sent(MIB)
        bottleneck.full(now)
        now += 1.0
        bottleneck.drained(now)
    assert terms == [min(limits.ZSTD_TERM << step, limits.ZSTD_LONGEST) for step in range(7)]


def test_who_never_waits_is_not_held_up() -> None:
    """Nothing is compressed after the first term when the disk is the limit, however slow that is."""
    bottleneck = Bottleneck()
    bottleneck.sent(limits.ZSTD_TERM)
    for _ in range(100):
        bottleneck.sent(MIB)
        assert not bottleneck.packs
    assert not is_slow(1, 0.0)
    assert is_slow(0, 0.001)


@pytest.mark.parametrize(("rate", "slow"), [(500, True), (2_000, True), (5_000, False), (20_000, False)])
def test_a_receiver_of_small_files_is_no_slow_network(rate: int, slow: bool) -> None:
    """Thousands of files of 4 KiB a second are 20 MiB/s, and yet it is the other end that takes its time."""
    bottleneck = Bottleneck()
    bottleneck.sent(limits.ZSTD_TERM)
    now = 0.0
    for _ in range(2):
        bottleneck.sent(4096 * 256, 256)
        bottleneck.full(now)
        now += 256 / rate
        bottleneck.drained(now)
    assert bottleneck.packs is slow
