"""Journal files: what survives torn writes, and what is not believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftx.core.blocks import file_digest
from ftx.disk.journal import HEADER, STRIDE, Journal
from ftx.limits import BLOCK, GROUP

KEY = bytes(range(32))


def digest(block: int, salt: int = 0) -> bytes:
    """Some digest that says which block it is for."""
    return block.to_bytes(16, "big") + salt.to_bytes(16, "big")


def create(path: Path, size: int, key: bytes = KEY) -> Journal:
    """A new journal file."""
    return Journal.create(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL), key, size)


def load(path: Path, size: int, key: bytes = KEY) -> Journal | None:
    """The journal file opened again."""
    return Journal.load(os.open(path, os.O_RDWR), key, size)


def blocks(path: Path, size: int) -> set[int]:
    """The blocks that the file vouches for, after checking that their digests are right."""
    journal = load(path, size)
    assert journal is not None
    found = set(journal.blocks)
    assert all((journal.digest(block) or b"")[:16] == digest(block)[:16] for block in found)
    journal.close()
    return found


def test_round_trip(tmp_path: Path) -> None:
    """What was committed is there again; what was only set is not."""
    size = 10 * BLOCK + 1
    journal = create(tmp_path / "j", size)
    for block in (0, 3, 10):
        journal.set(block, digest(block))
    assert journal.digest(3) == digest(3)
    assert journal.digest(4) is None
    journal.commit(sync=True)
    assert journal.committed == 3
    journal.set(4, digest(4))
    journal.close()
    assert blocks(tmp_path / "j", size) == {0, 3, 10}


def test_layout_is_as_specified(tmp_path: Path) -> None:
    """Magic, version, sizes and the places of state copies and digests, byte by byte."""
    journal = create(tmp_path / "j", (GROUP + 5) * BLOCK)
    journal.set(2, digest(2))
    journal.set(GROUP + 1, digest(GROUP + 1))
    journal.commit(sync=False)
    journal.close()
    raw = (tmp_path / "j").read_bytes()
    assert raw[:16] == b"\x89ftxj\r\n\x1a" + (1).to_bytes(4, "big") + BLOCK.to_bytes(4, "big")
    assert raw[16:56] == ((GROUP + 5) * BLOCK).to_bytes(8, "big") + KEY
    assert HEADER == 4096
    assert STRIDE == 266240
    for group, bit in ((0, 2), (1, 1)):
        start = HEADER + group * STRIDE
        assert not any(raw[start : start + 2048])  # generation 1 is in copy 1
        copy = raw[start + 2048 :]
        assert copy[:8] == (1).to_bytes(8, "big")
        assert copy[8] == 1 << bit
        place = start + 4096 + bit * 32
        assert raw[place : place + 32] == digest(group * GROUP + bit)


@pytest.mark.case("G126")
@pytest.mark.parametrize("change", ["magic", "version", "size", "key", "checksum", "truncated", "empty"])
def test_header_that_does_not_fit_is_no_journal(tmp_path: Path, change: str) -> None:
    """A journal of another format, file or key is not used at all."""
    path, size = tmp_path / "j", 3 * BLOCK
    journal = create(path, size)
    journal.set(0, digest(0))
    journal.commit(sync=True)
    journal.close()
    raw = bytearray(path.read_bytes())
    place = {"magic": 0, "version": 11, "size": 20, "key": 30, "checksum": 60}.get(change)
    if place is None:
        raw = raw[: 80 if change == "truncated" else 0]
    else:
        raw[place] ^= 1
    path.write_bytes(raw)
    assert load(path, size) is None


def test_other_size_or_key_is_no_journal(tmp_path: Path) -> None:
    """The same file name does not make it the same file."""
    create(tmp_path / "j", 3 * BLOCK).close()
    assert load(tmp_path / "j", 3 * BLOCK + 1) is None
    assert load(tmp_path / "j", 3 * BLOCK, bytes(32)) is None
    journal = load(tmp_path / "j", 3 * BLOCK)
    assert journal is not None
    journal.close()


@pytest.mark.case("E96")
@settings(max_examples=150)
@given(
    first=st.sets(st.integers(0, 40)),
    second=st.sets(st.integers(0, 40)),
    torn=st.integers(0, 2**16),
    flip=st.integers(0, 7),
    kind=st.sampled_from(["cut", "flip", "zero"]),
)
def test_torn_commit_leaves_the_commit_before(
    tmp_path_factory: pytest.TempPathFactory, first: set[int], second: set[int], torn: int, flip: int, kind: str
) -> None:
    """Any part of the second commit may be missing or wrong: the first commit's blocks are all still there."""
    path = tmp_path_factory.mktemp("torn") / "j"
    size = 41 * BLOCK
    journal = create(path, size)
    for block in first:
        journal.set(block, digest(block))
    journal.commit(sync=False)
    before = path.read_bytes()
    for block in second - first:
        journal.set(block, digest(block))
    journal.commit(sync=False)
    journal.close()
    after = path.read_bytes()
    changed = [place for place in range(len(after)) if after[place] != (before[place : place + 1] or b"\0")[0]]
    if not changed:
        return
    raw = bytearray(after)
    place = changed[torn % len(changed)]
    if kind == "cut":  # everything from here on did not reach the disk
        for later in changed:
            if later >= place:
                raw[later] = before[later] if later < len(before) else 0
    elif kind == "zero":
        raw[place] = 0
    else:
        raw[place] ^= 1 << flip
    path.write_bytes(raw)
    assert first <= blocks(path, size) <= first | second


def test_both_copies_bad_is_an_empty_group(tmp_path: Path) -> None:
    """Nothing is believed without a check, and the other groups are not affected."""
    path, size = tmp_path / "j", (GROUP + 2) * BLOCK
    journal = create(path, size)
    for block in (0, 1, GROUP):
        journal.set(block, digest(block))
        journal.commit(sync=False)
    journal.close()
    raw = bytearray(path.read_bytes())
    for copy in (0, 2048):
        raw[HEADER + copy + 9] ^= 4
    path.write_bytes(raw)
    assert blocks(path, size) == {GROUP}


@pytest.mark.case("E95")
def test_damaged_digest_is_noticed(tmp_path: Path) -> None:
    """A digest that rotted takes its group along: the blocks are fetched again."""
    path, size = tmp_path / "j", 3 * BLOCK
    journal = create(path, size)
    for block in range(3):
        journal.set(block, digest(block))
    journal.commit(sync=False)
    journal.close()
    raw = bytearray(path.read_bytes())
    raw[HEADER + 4096 + 40] ^= 1
    path.write_bytes(raw)
    assert blocks(path, size) == set()


def test_goes_on_after_a_torn_commit(tmp_path: Path) -> None:
    """The next commit after a recovery overwrites the bad copy, not the good one."""
    path, size = tmp_path / "j", 5 * BLOCK
    journal = create(path, size)
    for block in range(2):
        journal.set(block, digest(block))
        journal.commit(sync=False)
    journal.close()
    raw = bytearray(path.read_bytes())
    raw[HEADER + 500] ^= 1  # generation 2, copy 0
    path.write_bytes(raw)
    again = load(path, size)
    assert again is not None
    assert set(again.blocks) == {0}
    again.set(4, digest(4))
    again.commit(sync=False)
    again.close()
    assert blocks(path, size) == {0, 4}


def test_file_digest_over_many_groups_in_bounded_memory(tmp_path: Path) -> None:
    """Three groups and a bit, set in an order that evicts groups: the digest is that of all blocks in order."""
    count = 3 * GROUP + 7
    size = (count - 1) * BLOCK + 5
    journal = create(tmp_path / "j", size)
    order = [*range(0, count, 4096), *(block for block in range(count) if block % 4096)]
    for number, block in enumerate(order):
        journal.set(block, digest(block, 1))
        if number == 5:
            journal.commit(sync=False)
    with pytest.raises(IndexError):
        journal.set(count, digest(count))
    journal.commit(sync=False)
    expected = file_digest(size, (digest(block, 1) for block in range(count)))
    assert journal.file_digest() == expected
    journal.close()
    again = load(tmp_path / "j", size)
    assert again is not None
    assert again.blocks.complete
    assert again.file_digest() == expected
    again.close()


def test_incomplete_has_no_file_digest(tmp_path: Path) -> None:
    """There is no digest of a file with gaps."""
    journal = create(tmp_path / "j", 2 * BLOCK)
    journal.set(0, digest(0))
    with pytest.raises(ValueError, match="not every block"):
        journal.file_digest()
    journal.close()


@pytest.mark.case("C72")
def test_huge_file_costs_what_was_set(tmp_path: Path) -> None:
    """A journal for 16 TiB is a sparse file, and opening it reads the groups there are."""
    size = 16 * 2**40
    journal = create(tmp_path / "j", size)
    journal.set(0, digest(0))
    journal.set(size // BLOCK - 1, digest(size // BLOCK - 1))
    journal.commit(sync=False)
    journal.close()
    assert (tmp_path / "j").stat().st_blocks * 512 < 2**20
    assert blocks(tmp_path / "j", size) == {0, size // BLOCK - 1}
