"""Free space: promised once, counted down to nothing, and really used up; and disks that are not ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from support.inboxes import JOB, PEER
from support.private_mount import with_private_mount

from ftx.disk.inbox import Inbox
from ftx.disk.jobstore import InboxJob
from ftx.disk.space import Space
from ftx.disk.store import FileEntry, Refuse, Want
from ftx.limits import BLOCK, SPACE_FRESH


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    """An inbox in `tmp_path/inbox`."""
    held = Inbox.open(str(tmp_path / "inbox"))
    yield held
    held.close()


@pytest.mark.case("E91", "E92")
def test_promises_add_up(inbox: Inbox) -> None:
    """What does not fit is refused before its data; two that fit alone but not together are not both taken."""
    free = inbox.free()
    size = free // 2 + 200 * BLOCK
    first, second = (inbox.begin(peer * 32, JOB, (), "rename") for peer in (b"1", b"2"))
    assert first.look_up([FileEntry(0, (b"a",), free + 2**40, 0, 0)]) == [Refuse(0, "no-space")]
    assert first.look_up([FileEntry(0, (b"a",), size, 0, 0)]) == [Want(0, None)]
    assert inbox.free() < free - size // 2
    assert second.look_up([FileEntry(0, (b"a",), size, 0, 0)]) == [Refuse(0, "no-space")]
    first.discard(0, keep=False)
    assert second.look_up([FileEntry(0, (b"a",), size, 0, 0)]) == [Want(0, None)]
    first.close()
    second.close()


def test_space_counts_down_to_nothing(tmp_path: Path) -> None:
    """Free space is never negative, and what is released can be promised again."""
    fd = os.open(tmp_path, os.O_RDONLY)
    space = Space(fd)
    free = space.free()
    assert space.promise(free // 2)
    assert not space.promise(free)
    space.release(free // 2)
    assert space.promise(free // 2)
    os.close(fd)


def test_a_batch_asks_for_the_free_space_once(inbox: Inbox, tmp_path: Path) -> None:
    """Not once for each file; but whatever was written since is taken off, and nothing is refused on hearsay."""
    asked: list[int] = []
    now = [0.0]

    def statvfs(fd: int) -> os.statvfs_result:
        asked.append(fd)
        return os.fstatvfs(fd)

    fd = os.open(tmp_path, os.O_RDONLY)
    space = Space(fd, statvfs=statvfs, clock=lambda: now[0])
    job = InboxJob(attrs.evolve(inbox._device, space=space), PEER, JOB, (), "rename")
    answers = job.look_up([FileEntry(n, (b"%d" % n,), 10, 0, 0o644) for n in range(100)])
    assert answers == [Want(n, None) for n in range(100)]
    assert len(asked) == 1
    now[0] = SPACE_FRESH
    assert space.promise(1)
    assert len(asked) == 2
    free = space.free()
    assert space.promise(free // 2)
    space.release(free // 2)  # written, for all that is known
    asked.clear()
    assert space.promise(free // 4)
    assert not asked
    assert space.promise(free // 2)
    assert len(asked) == 1
    assert not space.promise(free // 2)
    job.close()
    os.close(fd)


FULL_DISK = """
import errno, os, sys
sys.path.insert(0, sys.argv[2])
from support.inboxes import Sending, blocks_of, content, snapshot
from ftx.core.blocks import block_digest
from ftx.disk.inbox import Inbox
from ftx.disk.root import Means
from ftx.errors import FtxError
from ftx.limits import BLOCK

path = sys.argv[1] + "/inbox"
said = []
inbox = Inbox.open(path, report=said.append, means=Means(fallocate=False))
tree = {"big": content(6 * BLOCK), "small": b"x" * 50000}
sending = Sending(inbox, tree)
sending.offer()
(name, want), = sending.wanted(large=True)
sending.send_blocks(name, want, stop=3, sync_every=1)
hog = os.open(path + "/hog", os.O_RDWR | os.O_CREAT)
try:
    while True:
        os.write(hog, bytes(4096))
except OSError as error:
    assert error.errno == errno.ENOSPC
block = blocks_of(tree["big"])[4]
try:
    sending.store.write_block(want.number, 4, [block], block_digest([block]))
except FtxError as error:
    assert error.name == "no-space", error
else:
    raise AssertionError("there was space")
sending.store.discard(want.number, keep=True)
sending.send_small()
assert sending.result("small") == "no-space", sending.result("small")
sending.store.close()
assert any("no space" in sentence for sentence in said), said
assert sorted(name for name in snapshot(path)) == ["hog"]
os.close(hog)
os.unlink(path + "/hog")
again = Sending(inbox, tree)
answer = again.offer()["big"]
assert sorted(answer.held) == [0, 1, 2], answer
assert again.complete() == {"big": "stored big", "small": "stored small"}
assert again.sent_blocks == 3
assert snapshot(path) == tree
inbox.close()
print("all is well")
"""


@pytest.mark.case("E86")
def test_full_disk(tmp_path: Path) -> None:
    """A disk that fills up fails files with `no-space`, keeps what was durable, and is usable again after it."""
    (tmp_path / "inbox").mkdir()
    with_private_mount(tmp_path / "inbox", "size=9m", FULL_DISK)


OTHER_DISK = """
import os, sys
sys.path.insert(0, sys.argv[2])
from support.inboxes import Sending, snapshot
from ftx.disk.inbox import Inbox
from ftx.disk.root import Means

for means in (Means(), Means(openat2=False)):
    inbox = Inbox.open(sys.argv[1], means=means)
    results = Sending(inbox, {"inbox": None, "inbox/a": b"a", "b": b"b"}, job=os.urandom(16)).run()
    assert results["inbox"] == results["inbox/a"] == "storage-failed", results
    inbox.close()
assert snapshot(sys.argv[1] + "/inbox") == {}
print("all is well")
"""


def test_another_file_system_below_the_inbox_is_not_entered(tmp_path: Path) -> None:
    """Files cannot be linked or renamed into it, so it is refused before any data."""
    (tmp_path / "inbox").mkdir()
    with_private_mount(tmp_path / "inbox", "size=1m", OTHER_DISK)
