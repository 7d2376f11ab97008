"""Holes travel as holes and stay holes: found without reading, left out when writing, whatever is cut on the way."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.inboxes import MTIME, Sending, content, digest_of_content

from ftx.core.blocks import block_digest, zero_digest
from ftx.disk.inbox import Inbox
from ftx.disk.memory import DigestMemory
from ftx.disk.outgoing import LargeSource
from ftx.disk.root import Means
from ftx.disk.source import OpenSource, SourceFile, Walk, roots
from ftx.disk.sparse import PAGE, Holes, data_runs
from ftx.limits import BLOCK

KiB = 1024


def islands(size: int, *places: int, length: int = PAGE) -> bytes:
    """Zeros, but for some data at these offsets."""
    data = bytearray(size)
    dice = random.Random(size)
    for place in places:
        data[place : place + length] = dice.randbytes(length)
    return bytes(data)


def make_sparse(path: Path, data: bytes) -> int:
    """A file of that content whose pages of zeros are holes; the bytes on disk."""
    with path.open("wb") as file:
        file.truncate(len(data))
        for start in range(0, len(data), PAGE):
            page = data[start : start + PAGE]
            if any(page):
                file.seek(start)
                file.write(page)
        os.fsync(file.fileno())
    return path.stat().st_blocks * 512


def source(path: Path) -> SourceFile:
    (item,) = Walk(roots([str(path)], "/")).batch(1)
    assert isinstance(item, SourceFile)
    return item


PAGES = st.lists(st.tuples(st.booleans(), st.integers(1, 3)), max_size=8)


@given(PAGES, st.binary(max_size=50), st.integers(0, 2 * PAGE))
def test_runs_are_all_that_is_not_zero(pages: list[tuple[bool, int]], tail: bytes, zeros: int) -> None:
    """Every byte outside the runs is zero, every run begins and ends at a page, and no page of zeros is inside."""
    data = b"".join((b"x" if full else b"\0") * (count * PAGE) for full, count in pages) + bytes(zeros) + tail
    runs = data_runs(data)
    if runs is None:
        assert bytes(PAGE) not in data
        return
    rest = bytearray(data)
    last = -1
    for start, end in runs:
        assert start > last
        assert start % PAGE == 0
        assert end % PAGE == 0 or end == len(data)
        assert all(any(data[page : page + PAGE]) for page in range(start, end, PAGE))
        rest[start:end] = bytes(end - start)
        last = end
    assert not any(rest)


def test_holes_are_found(tmp_path: Path) -> None:
    """By the file system's word, also behind the last data, and in any order of questions."""
    path = tmp_path / "a"
    make_sparse(path, islands(40 * PAGE, 10 * PAGE))
    fd = os.open(path, os.O_RDONLY)
    holes = Holes(fd)
    wanted = {page: page != 10 for page in range(40)}
    assert {page: holes.covers(page * PAGE, (page + 1) * PAGE) for page in wanted} == wanted
    assert {page: holes.covers(page * PAGE, (page + 1) * PAGE) for page in reversed(wanted)} == wanted
    assert not holes.covers(9 * PAGE, 11 * PAGE)
    assert holes.covers(0, 10 * PAGE)
    os.close(fd)


def test_a_hole_is_not_read(tmp_path: Path) -> None:
    """Its blocks have their digests without a byte from the disk; the file digest is that of the content."""
    path = tmp_path / "a"
    data = islands(24 * BLOCK + 5, 3 * BLOCK, 20 * BLOCK + 77 * PAGE)
    make_sparse(path, data)
    os.utime(path, ns=(1, MTIME))
    memory = DigestMemory(str(tmp_path / "memory"))
    large = LargeSource.open(0, source(path), memory, 0.0)

    def read_so_far() -> int:
        line = Path("/proc/self/io").read_text("ascii").splitlines()[0]
        return int(line.removeprefix("rchar: "))

    before = read_so_far()
    sent = {index: large.block(index, True) for index in range(25)}
    assert read_so_far() - before < 2 * BLOCK + 64 * KiB, "only the two blocks with data, and what the memory takes"
    assert [index for index, (_, size) in sent.items() if size] == [3, 20]
    assert all(sum(map(len, frames)) < 100 for index, (frames, size) in sent.items() if not size)
    assert large.digest() == digest_of_content(data)
    large.close()
    opened = OpenSource.open(source(path))
    assert [index for index in range(25) if not opened.is_hole(index)] == [3, 20]
    assert block_digest([opened.read(24)]) == zero_digest(5)
    opened.close()


MEANS = {"all": Means(), "bare": Means(openat2=False, tmpfile=False, noreplace=False, syncfs=False, fallocate=False)}
FILES = {
    "small": islands(600 * KiB, 100 * PAGE),
    "all zeros": bytes(BLOCK),
    "tail": islands(300 * KiB + 1, 0),
    "two pages": bytes(2 * PAGE),
    "large": islands(12 * BLOCK + 9, 0, 5 * BLOCK + 3 * PAGE, 11 * BLOCK),
    "nothing": bytes(9 * BLOCK + 1),
    "full": content(3 * BLOCK),
}


@pytest.mark.parametrize("means", MEANS)
def test_holes_stay_holes(tmp_path: Path, means: str) -> None:
    """What has no data takes no space in the inbox, also in files of one block; the content is the same."""
    inbox = Inbox.open(str(tmp_path / "inbox"), means=MEANS[means])
    assert Sending(inbox, FILES).run() == {name: f"stored {name}" for name in FILES}
    inbox.close()
    for name, data in FILES.items():
        path = tmp_path / "inbox" / name
        assert path.read_bytes() == data
        most = make_sparse(tmp_path / "reference", data)
        taken = path.stat().st_blocks * 512
        # a page more where the file system keeps the list of pieces in one of its own
        assert taken <= most + (PAGE if name == "large" else 0), f"{name}: {taken} of {most} bytes"


@pytest.mark.parametrize("stop", [1, 4, 7, 11])
def test_holes_stay_holes_through_a_cut(tmp_path: Path, stop: int) -> None:
    """Wherever it is cut: what the second job reserves does not fill what the first one left as holes."""
    data = islands(12 * BLOCK + 9, 0, 2 * BLOCK + 5 * PAGE, 8 * BLOCK, 11 * BLOCK)
    inbox = Inbox.open(str(tmp_path / "inbox"))
    first = Sending(inbox, {"a": data})
    first.offer()
    ((path, want),) = first.wanted(large=True)
    first.send_blocks(path, want, stop=stop, sync_every=1)
    first.store.close()
    second = Sending(inbox, {"a": data})
    second.offer()
    assert second.wanted(large=True)[0][1].held is not None
    assert second.complete() == {"a": "stored a"}
    inbox.close()
    arrived = tmp_path / "inbox" / "a"
    assert arrived.read_bytes() == data
    assert arrived.stat().st_blocks * 512 <= make_sparse(tmp_path / "reference", data) + PAGE
