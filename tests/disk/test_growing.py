"""Files of unknown size in an inbox: staged without a key, published whole, gone when they are cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.inboxes import JOB, MTIME, PEER, content, digest_of_content, snapshot

from ftx.core.blocks import block_digest, file_digest
from ftx.disk.inbox import Inbox
from ftx.disk.pipe import DigestList, PipeSource
from ftx.disk.store import Failed, JobStore, PipeEntry, Refuse, Skip, Stored, Want
from ftx.errors import FtxError
from ftx.limits import BLOCK, OPEN_PARTIALS

DATA = content(3 * BLOCK + 9)


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    made = Inbox.open(str(tmp_path / "inbox"))
    yield made
    made.close()


def staged(tmp_path: Path) -> list[str]:
    return os.listdir(tmp_path / "inbox" / ".ftx" / "partial")


def write(job: JobStore, number: int, data: bytes) -> None:
    for index, start in enumerate(range(0, len(data), BLOCK)):
        block = data[start : start + BLOCK]
        assert job.write_block(number, index, [block], block_digest([block]))


def entry(number: int, *path: bytes) -> PipeEntry:
    return PipeEntry(number, path, MTIME, 0o640)


@pytest.mark.parametrize("data", [b"", b"1", content(BLOCK), DATA])
def test_it_is_stored_whole(inbox: Inbox, tmp_path: Path, data: bytes) -> None:
    """With mode and time; two of one name are two files."""
    for name in ("p", "p (1)"):
        job = inbox.begin(PEER, JOB, (), "rename")
        assert job.look_up([entry(0, b"p")]) == [Want(0, None)]
        write(job, 0, data)
        assert "p" not in snapshot(tmp_path / "inbox") or name != "p"
        digest = digest_of_content(data)
        assert job.publish(0, digest) == Stored(0, (os.fsencode(name),), digest)
        job.close()
        path = tmp_path / "inbox" / name
        assert path.read_bytes() == data
        assert (path.stat().st_mode & 0o777, path.stat().st_mtime_ns) == (0o640, MTIME)
    assert staged(tmp_path) == []


def test_what_is_cut_is_gone(inbox: Inbox, tmp_path: Path) -> None:
    """By the end of the job, by a discard, by a wrong digest."""
    job = inbox.begin(PEER, JOB, (), "rename")
    job.look_up([entry(0, b"a"), entry(1, b"b"), entry(2, b"c")])
    for number in range(3):
        write(job, number, DATA)
    job.discard(0, True)
    assert isinstance(job.publish(1, b"d" * 32), Failed)
    assert not job.write_block(2, 4, [b"x"], block_digest([b"y"]))
    assert len(staged(tmp_path)) == 1
    job.close()
    assert staged(tmp_path) == []
    assert snapshot(tmp_path / "inbox") == {}


@pytest.mark.parametrize("path", [(b"p",), (b"new", b"p")])
def test_no_name_where_it_could_not_last(inbox: Inbox, tmp_path: Path, path: tuple[bytes, ...]) -> None:
    """A sync of the folder has failed in this process: no attempt leaves anything, and the next process goes on."""
    inbox._device.names.note_failure(inbox._device.root.fd)
    for _ in range(2):
        job = inbox.begin(PEER, JOB, path[:-1], "rename")
        job.look_up([entry(0, path[-1])])
        write(job, 0, DATA)
        assert job.publish(0, digest_of_content(DATA)) == Failed(0, "storage-failed")
        job.close()
        assert not any(isinstance(found, bytes) for found in snapshot(tmp_path / "inbox").values())
    assert staged(tmp_path) == []
    inbox.close()
    with closing(Inbox.open(str(tmp_path / "inbox"))) as again:
        job = again.begin(PEER, JOB, path[:-1], "rename")
        job.look_up([entry(0, path[-1])])
        write(job, 0, DATA)
        assert job.publish(0, digest_of_content(DATA)) == Stored(0, path, digest_of_content(DATA))
        job.close()


def test_names_and_rules_are_those_of_other_files(inbox: Inbox, tmp_path: Path) -> None:
    """Taken names, names that are not accepted, two of one name at once."""
    (tmp_path / "inbox" / "a").write_bytes(b"mine")
    for conflict, expected in (("fail", Refuse(0, "exists")), ("skip", Skip(0)), ("backup", Want(0, None))):
        job = inbox.begin(PEER, JOB, (), conflict)
        answers = job.look_up([entry(0, b"a"), entry(1, b".ftx"), entry(2, b"b")])
        assert answers == [expected, Refuse(1, "bad-name"), Want(2, None)]
        other = inbox.begin(PEER, b"k" * 16, (), conflict)
        assert other.look_up([entry(0, b"b")]) == [Refuse(0, "busy")]
        other.close()
        job.close()


def test_too_many_at_once_fail_and_harm_nobody(inbox: Inbox, tmp_path: Path) -> None:
    """A pipe cannot be put aside: the oldest ends when there is no place for one more."""
    job = inbox.begin(PEER, JOB, (), "rename")
    count = OPEN_PARTIALS + 1
    job.look_up([entry(number, b"%02d" % number) for number in range(count)])
    for number in range(count):
        write(job, number, b"first")
    with pytest.raises(FtxError) as caught:
        job.write_block(0, 1, [b"x"], block_digest([b"x"]))
    assert caught.value.name == "storage-failed"
    assert isinstance(job.publish(count - 1, digest_of_content(b"first")), Stored)
    job.close()
    assert staged(tmp_path) == []


def test_a_source_is_read_to_its_end(tmp_path: Path) -> None:
    """In blocks, however the writer cuts it; the digest is that of the file."""
    for data in (b"", b"1", content(BLOCK), DATA):
        path = tmp_path / "stdin"
        path.write_bytes(data)
        fd = os.open(path, os.O_RDONLY)
        source = PipeSource(fd, lambda: False)
        sizes = []
        digest = None
        while digest is None:
            frames, size, digest = source.block(0, len(sizes))
            assert bool(frames) is bool(size)
            sizes.append(size)
        assert sum(sizes) == len(data)
        assert all(size == BLOCK for size in sizes[:-1])
        assert digest == digest_of_content(data)
        source.close()
        os.close(fd)


def test_a_silent_source_can_be_left(tmp_path: Path) -> None:
    """Whoever waits for it is not held up; one that is no file cannot be read."""
    reading, writing = os.pipe()
    source = PipeSource(reading, lambda: True)
    with pytest.raises(FtxError) as caught:
        source.block(0, 0)
    assert caught.value.name == "interrupted"
    source.close()
    os.close(reading)
    os.close(writing)
    folder = os.open(tmp_path, os.O_RDONLY)
    unreadable = PipeSource(folder, lambda: False)
    with pytest.raises(FtxError) as caught:
        unreadable.block(0, 0)
    assert caught.value.name == "source-unreadable"
    unreadable.close()
    os.close(folder)


def test_many_digests() -> None:
    """More than one read brings back."""
    digests = DigestList()
    one = block_digest([b"x"])
    count = BLOCK // 32 + 3
    for _ in range(count):
        digests.add(one)
    assert digests.file_digest(7) == file_digest(7, [one] * count)
    digests.close()
    digests.close()
