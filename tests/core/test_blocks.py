"""Blocks: counts, lengths, digests, and sets of them against a plain set."""

from __future__ import annotations

from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ftx.core.blocks import (
    FILE_CONTEXT,
    BlockSet,
    FileDigest,
    block_count,
    block_digest,
    block_length,
    file_digest,
    group_count,
    whole_digests,
    zero_digest,
)
from ftx.limits import BLOCK, FILE_SIZE, GROUP


@pytest.mark.parametrize(
    ("size", "count", "last"),
    [
        (0, 1, 0),
        (1, 1, 1),
        (BLOCK - 1, 1, BLOCK - 1),
        (BLOCK, 1, BLOCK),
        (BLOCK + 1, 2, 1),
        (2 * BLOCK, 2, BLOCK),
        (FILE_SIZE, 2**43, BLOCK - 1),
    ],
)
def test_counts_and_lengths(size: int, count: int, last: int) -> None:
    """All blocks are 1 MiB but the last; an empty file has an empty one."""
    assert block_count(size) == count
    assert block_length(size, count - 1) == last
    if count > 1:
        assert block_length(size, 0) == BLOCK
    assert (count - 1) * BLOCK + last == size


@pytest.mark.parametrize(
    ("blocks", "groups"), [(1, 1), (GROUP - 1, 1), (GROUP, 1), (GROUP + 1, 2), (2 * GROUP, 2), (2 * GROUP + 1, 3)]
)
def test_groups(blocks: int, groups: int) -> None:
    """8,192 blocks to a group."""
    assert group_count(blocks * BLOCK) == groups
    assert group_count((blocks - 1) * BLOCK + 1) == groups


def test_digests() -> None:
    """By the letter of the specification, in one piece or many."""
    assert block_digest([b"he", memoryview(b"llo"), bytearray()]) == blake3(b"hello").digest()
    assert zero_digest(5) == blake3(bytes(5)).digest()
    first, second = blake3(b"1").digest(), blake3(b"2").digest()
    expected = blake3((BLOCK + 1).to_bytes(8, "big") + first + second, derive_key_context=FILE_CONTEXT).digest()
    assert file_digest(BLOCK + 1, [first, second]) == expected
    whole = FileDigest(BLOCK + 1)
    whole.update(first + second)
    assert whole.digest() == whole.digest() == expected
    assert FILE_CONTEXT == "ftx 2026-11-22 file digest v1"


def test_digests_of_many_files() -> None:
    """They are those of one after the other, which leave nothing behind for the next."""
    files = [(size, blake3(b"%d" % size).digest()) for size in (0, 1, BLOCK, 1)]
    assert whole_digests(files) == [file_digest(size, [digest]) for size, digest in files]
    assert whole_digests([]) == []


COUNTS = st.integers(1, 70) | st.sampled_from([GROUP - 1, GROUP, GROUP + 1, 2 * GROUP + 9])


class BlockSets(RuleBasedStateMachine):
    """Any sequence of changes leaves the same set as a plain Python set."""

    @initialize(count=COUNTS, full=st.booleans())
    def begin(self, count: int, full: bool) -> None:
        self.size = count
        self.blocks = BlockSet.full(count) if full else BlockSet(count)
        self.model = set(range(count)) if full else set()

    @rule(data=st.data())
    def add(self, data: Any) -> None:
        block = data.draw(st.integers(0, self.size - 1))
        self.blocks.add(block)
        self.model.add(block)

    @rule(data=st.data())
    def discard(self, data: Any) -> None:
        block = data.draw(st.integers(-3, self.size + 3))
        self.blocks.discard(block)
        self.model.discard(block)

    @rule()
    def invert(self) -> None:
        self.blocks = self.blocks.inverted()
        self.model = set(range(self.size)) - self.model

    @rule()
    def copy(self) -> None:
        old = self.blocks
        self.blocks = old.copy()
        old.discard(0)
        old.add(self.size - 1)

    @rule(data=st.data())
    def load(self, data: Any) -> None:
        group = data.draw(st.integers(0, (self.size - 1) // GROUP))
        there = min(GROUP, self.size - group * GROUP)
        chosen = data.draw(st.sets(st.integers(0, there - 1), max_size=6))
        bitmap = bytearray(-(-there // 8))
        for bit in chosen:
            bitmap[bit // 8] |= 1 << bit % 8
        self.blocks.load_group(group, bytes(bitmap))
        self.model -= set(range(group * GROUP, group * GROUP + there))
        self.model |= {group * GROUP + bit for bit in chosen}
        assert self.blocks.group(group) == bitmap

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "model"):
            return
        missing = sorted(set(range(self.size)) - self.model)
        assert self.blocks.count == len(self.model)
        assert self.blocks.complete == (not missing)
        if self.size < 100:
            assert list(self.blocks) == sorted(self.model)
            assert list(self.blocks.inverted()) == missing
            assert [block for block in range(-2, self.size + 9) if block in self.blocks] == sorted(self.model)


BlockSets.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestBlockSets = BlockSets.TestCase


@given(st.integers(0, 40 * BLOCK), st.data())
def test_bytes_in(size: int, data: Any) -> None:
    """What the blocks of a set weigh, the short last one counted as it is."""
    blocks = BlockSet(block_count(size))
    chosen = data.draw(st.sets(st.integers(0, blocks.blocks - 1)))
    for block in chosen:
        blocks.add(block)
    assert blocks.bytes_in(size) == sum(block_length(size, block) for block in chosen)


def test_what_is_not_there() -> None:
    """Adding a block that does not exist is a mistake of ours."""
    blocks = BlockSet(9)
    for block in (-1, 9, 2**40):
        with pytest.raises(IndexError):
            blocks.add(block)
        assert block not in blocks


@pytest.mark.parametrize(
    ("blocks", "group", "bitmap"),
    [
        (9, 0, b""),
        (9, 0, b"\x00"),
        (9, 0, b"\x00\x02"),
        (9, 0, b"\x00\x80"),
        (9, 0, b"\x00\x00\x00"),
        (9, 1, b"\x00"),
        (9, 1, b""),
        (9, -1, b"\x00\x00"),
        (9, 2**40, b"\x00"),
        (GROUP, 0, bytes(1023)),
        (GROUP, 0, bytes(1025)),
        (GROUP, 1, b"\x00"),
        (GROUP + 1, 1, b"\x02"),
        (GROUP + 1, 1, bytes(2)),
        (GROUP + 1, -1, bytes(1024)),
    ],
)
def test_bitmaps_that_do_not_fit(blocks: int, group: int, bitmap: bytes) -> None:
    """Wrong lengths, bits past the last block, groups that do not exist: refused, and nothing changed."""
    whole = BlockSet.full(blocks)
    with pytest.raises(ValueError, match="bitmap"):
        whole.load_group(group, bitmap)
    assert whole.complete


def test_the_bit_order_of_the_specification() -> None:
    """Bit `i % 8`, least significant first, of byte `i / 8`."""
    blocks = BlockSet(GROUP + 10)
    for block in (0, 9, GROUP + 1, GROUP + 9):
        blocks.add(block)
    assert blocks.group(0)[:3] == b"\x01\x02\x00"
    assert len(blocks.group(0)) == 1024
    assert blocks.group(1) == b"\x02\x02"
    assert blocks.group(2) == b""


def _two_sets(blocks: int) -> st.SearchStrategy[tuple[int, set[int], set[int]]]:
    members = st.sets(st.integers(0, blocks - 1))
    return st.tuples(st.just(blocks), members, members)


@given(st.integers(1, 3000).flatmap(_two_sets))
def test_sets_are_joined_and_turned_around_as_sets_are(drawn: tuple[int, set[int], set[int]]) -> None:
    """What is done with all blocks at once is what would be done with each."""
    blocks, first, second = drawn
    made = []
    for members in (first, second):
        one = BlockSet(blocks)
        for block in members:
            one.add(block)
        made.append(one)
    both = made[0].union(made[1])
    assert (list(both), both.count) == (sorted(first | second), len(first | second))
    rest = made[0].inverted()
    assert (list(rest), rest.count) == (sorted(set(range(blocks)) - first), blocks - len(first))
