"""Several jobs and threads on one inbox: claims, supersession, bounds, failing syncs."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest
from support.inboxes import JOB, PEER, Sending, blocks_of, content, digest_of_content, snapshot

from ftx.core.blocks import block_digest
from ftx.disk.inbox import Inbox
from ftx.disk.jobstore import InboxJob
from ftx.disk.namerecord import NameRecord
from ftx.disk.store import Failed, FileEntry, FolderEnd, FolderEntry, Have, Made, Refuse, Stored, Want, Whole
from ftx.disk.syncing import Syncs
from ftx.disk.tree import DurableNames
from ftx.errors import FtxError
from ftx.limits import BLOCK, OPEN_PARTIALS


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    """An inbox in `tmp_path/inbox`."""
    held = Inbox.open(str(tmp_path / "inbox"))
    yield held
    held.close()


# -- claims ----------------------------------------------------------------------------------------------------


def test_one_job_at_a_time_has_a_file(inbox: Inbox) -> None:
    """The second job of the same peer gets `busy`, another peer is not affected, and the claim ends with the file."""
    tree: dict[str, bytes | None] = {"a": b"a", "big": content(2 * BLOCK)}
    first, second = Sending(inbox, tree), Sending(inbox, tree, job=b"2" * 16)
    first.offer()
    assert second.offer() == {"a": Refuse(0, "busy"), "big": Refuse(1, "busy")}
    other = Sending(inbox, tree, peer=b"o" * 32)
    assert all(isinstance(answer, Want) for answer in other.offer().values())
    first.send_small()
    first.store.discard(first.numbers[(b"big",)], keep=True)
    answers = second.offer()
    assert isinstance(answers["a"], Have)
    assert answers["big"] == Want(1, None)
    for sending in (first, second, other):
        sending.store.close()


@pytest.mark.case("F107", "H129")
def test_superseded_job_changes_nothing_more(inbox: Inbox, tmp_path: Path) -> None:
    """Once revoked, every change is refused. Once closed, its files and what it had durable go to the newer job."""
    tree: dict[str, bytes | None] = {"a": b"a", "big": content(4 * BLOCK), "folder": None}
    old = Sending(inbox, tree)
    old.offer()
    for path, want in old.wanted(large=True):
        old.send_blocks(path, want, stop=2)
    old.store.revoke()
    number = old.numbers[(b"big",)]
    for call in (
        lambda: old.offer(),
        lambda: old.send_small(),
        lambda: old.store.write_block(number, 3, None, b"?" * 32),
        lambda: old.store.sync(number),
        lambda: old.store.publish(number, b"?" * 32),
        lambda: old.finish_folders(),
        lambda: old.store.discard(number, keep=False),
        lambda: old.store.save_receipt(b"r"),
    ):
        with pytest.raises(FtxError) as caught:
            call()
        assert caught.value.name == "superseded"
    new = Sending(inbox, tree)
    assert new.offer()["big"] == Refuse(1, "busy"), "what it holds is let go of by its end, and by nothing else"
    new.store.close()
    old.store.close()
    new = Sending(inbox, tree)
    answers = new.offer()
    wanted = answers["big"]
    assert isinstance(wanted, Want)
    assert wanted.held is not None
    assert sorted(wanted.held) == [0, 1]
    assert isinstance(answers["a"], Want)
    assert new.complete()["big"] == "stored big"
    old.store.close()
    assert snapshot(tmp_path / "inbox") == tree


def wait_until(true: Callable[[], bool]) -> None:
    """Come back when `true()` is, or fail after ten seconds."""
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until, "in vain"
        os.sched_yield()


def is_open(path: Path) -> bool:
    """Whether this process has `path` open."""
    found = False
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found = found or os.readlink(f"/proc/self/fd/{name}") == str(path)
    return found


@pytest.mark.parametrize("ending", ["revoke", "close", "stop_looking"])
def test_hashing_in_a_look_up_ends_early(inbox: Inbox, tmp_path: Path, ending: str) -> None:
    """A file that must be hashed for hours holds up neither a newer connection, nor a stop, nor a lost connection."""
    size = 1 << 40
    path = tmp_path / "inbox" / "huge"
    with path.open("wb") as file:
        file.truncate(size)
    status = path.stat()
    stale = NameRecord(b"huge", status.st_ino, size, 1, status.st_mtime_ns, status.st_ctime_ns - 1, b"d" * 32)
    inbox._device.records.write(PEER, [(b"huge", stale)])
    job = inbox.begin(PEER, JOB, (), "rename")
    assert job.look_up([FileEntry(1, (b"small",), 5, 0, 0o644)]) == [Want(1, None)]
    said: list[str] = []

    def look() -> None:
        try:
            job.look_up([FileEntry(2, (b"huge",), size, 1, 0o644)])
        except FtxError as error:
            said.append(error.name)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    wait_until(lambda: is_open(path))
    closing = threading.Thread(target=getattr(job, ending), daemon=True)  # close() waits for what runs
    closing.start()
    for ended in (thread, closing):
        ended.join(10)
        assert not ended.is_alive()
    assert said == ["superseded"]
    if ending == "stop_looking":
        # what has arrived is still stored, only nothing more is looked up
        digest = block_digest([b"small"])
        assert job.store_whole([Whole(1, [b"small"], digest)]) == [Stored(1, (b"small",), digest_of_content(b"small"))]
        with pytest.raises(FtxError) as caught:
            job.look_up([FileEntry(3, (b"another",), 5, 0, 0o644)])
        assert caught.value.name == "superseded"
    job.close()


def test_two_peers_one_name(inbox: Inbox, tmp_path: Path) -> None:
    """The same name from two peers at once: both arrive, under different names, unmixed."""
    trees = [{f"f{n}": b"%d" % peer * 10 for n in range(40)} for peer in range(4)]

    def send(peer: int) -> dict[str, str]:
        return Sending(inbox, trees[peer], peer=bytes([peer]) * 32).run()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(send, range(4)))
    found = snapshot(tmp_path / "inbox")
    assert len(found) == 160
    for peer, result in enumerate(results):
        for name, said in result.items():
            assert found[said.removeprefix("stored ")] == trees[peer][name]


def test_same_tree_from_one_peer_in_many_threads(inbox: Inbox, tmp_path: Path) -> None:
    """Jobs that race for the same files: each file is stored once, the others are told so."""
    tree: dict[str, bytes | None] = {f"f{n}": b"%d" % n for n in range(60)}

    def send(job: int) -> dict[str, str]:
        return Sending(inbox, tree, job=bytes([job]) * 16).run()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(send, range(8)))
    assert snapshot(tmp_path / "inbox") == tree
    for name in tree:
        said = [result[name] for result in results]
        assert said.count(f"stored {name}") == 1
        assert set(said) <= {f"stored {name}", f"have {name}", "busy"}


def test_closing_waits_for_what_runs(inbox: Inbox, tmp_path: Path) -> None:
    """A job that is closed while threads store for it leaves whole files or none."""
    tree: dict[str, bytes | None] = {f"f{n}": b"%d" % n for n in range(300)}
    sending = Sending(inbox, tree)
    sending.offer()
    begun = threading.Event()
    ended: list[str] = []

    def store() -> None:
        for (name,), number in sending.numbers.items():
            data = tree[name.decode()] or b""
            begun.set()
            try:
                sending.store.store_whole([Whole(number, [data], block_digest([data]))])
            except FtxError as error:
                ended.append(error.name)
                return

    thread = threading.Thread(target=store)
    thread.start()
    begun.wait()
    sending.store.revoke()
    sending.store.close()
    found = snapshot(tmp_path / "inbox")
    thread.join()
    assert snapshot(tmp_path / "inbox") == found
    assert all(tree[name] == data for name, data in found.items())
    assert ended in ([], ["superseded"])


@pytest.mark.case("G118")
def test_many_partials_in_any_order(inbox: Inbox, tmp_path: Path) -> None:
    """Blocks of more files than may be open at once, round and round: descriptors stay bounded, all arrive."""
    count = OPEN_PARTIALS * 2
    tree: dict[str, bytes | None] = {f"f{n:03}": content(2 * BLOCK + n + 1, n) for n in range(count)}
    sending = Sending(inbox, tree)
    sending.offer()
    before = len(os.listdir("/proc/self/fd"))
    most = 0
    for index in range(3):
        for path, want in sending.wanted(large=True):
            block = blocks_of(tree[path[0].decode()] or b"")[index]
            assert sending.store.write_block(want.number, index, [block], block_digest([block]))
            most = max(most, len(os.listdir("/proc/self/fd")))
    assert most - before <= 2 * OPEN_PARTIALS + 4
    for path, want in sending.wanted(large=True):
        outcome = sending.store.publish(want.number, digest_of_content(tree[path[0].decode()] or b""))
        assert isinstance(outcome, Stored)
    sending.store.close()
    assert snapshot(tmp_path / "inbox") == tree


@pytest.mark.case("G118")
def test_out_of_descriptors_stores_in_smaller_batches(inbox: Inbox, tmp_path: Path) -> None:
    """A batch with more files than descriptors is stored all the same."""
    tree: dict[str, bytes | None] = {f"f{n}": b"%d" % n for n in range(100)}
    sending = Sending(inbox, tree)
    sending.offer()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 30, hard))
    try:
        sending.send_small()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    sending.store.close()
    assert {sending.result(name) for name in tree} == {f"stored {name}" for name in tree}
    assert snapshot(tmp_path / "inbox") == tree


def test_many_folders_share_their_syncs(inbox: Inbox, tmp_path: Path) -> None:
    """More folders than are kept open: made, merged and finished in batches."""
    job = inbox.begin(PEER, JOB, (), "rename")
    entries = [FolderEntry(0, (b"d",)), *(FolderEntry(n, (b"d", b"%d" % n)) for n in range(1, 201))]
    assert job.look_up(entries) == [Made(n) for n in range(201)]
    ends = [FolderEnd(n, 0o750, 1_000_000_000) for n in range(200, -1, -1)]
    assert {type(outcome) for outcome in job.finish_folders(ends)} == {Stored}
    job.close()
    for path in ((tmp_path / "inbox" / "d"), (tmp_path / "inbox" / "d" / "77")):
        assert (path.stat().st_mode & 0o777, path.stat().st_mtime) == (0o750, 1.0)


@pytest.mark.case("D84")
def test_folder_removed_by_its_user(inbox: Inbox, tmp_path: Path) -> None:
    """A folder that vanishes fails what is in it, not the job."""
    sending = Sending(inbox, {"a": None, "a/b": None, "a/b/file": b"x", "c": b"c"})
    sending.offer()
    (tmp_path / "inbox" / "a" / "b").rmdir()
    (tmp_path / "inbox" / "a").rmdir()
    sending.send_small()
    sending.store.close()
    assert sending.result("a/b/file") == "storage-failed"
    assert sending.result("c") == "stored c"


def test_a_batch_is_written_while_another_waits_for_its_sync(inbox: Inbox, tmp_path: Path) -> None:
    """Batches of a job take turns with their calls, but the syncs of two run at once: here each waits for the other."""
    folder = os.open(tmp_path / "inbox", os.O_RDONLY)
    both = threading.Barrier(2, timeout=30)
    syncs = Syncs(folder, syncfs=lambda fd: both.wait() and None)
    job = InboxJob(attrs.evolve(inbox._device, syncs=syncs), PEER, JOB, (), "rename")
    names = {number: b"%d" % number for number in range(20)}
    job.look_up([FileEntry(number, (name,), 1, 0, 0o644) for number, name in names.items()])
    batches = [[Whole(number, [b"x"], block_digest([b"x"])) for number in part] for part in (range(10), range(10, 20))]
    with ThreadPoolExecutor(2) as pool:
        outcomes = [outcome for batch in pool.map(job.store_whole, batches) for outcome in batch]
    assert {type(outcome) for outcome in outcomes} == {Stored}
    job.close()
    os.close(folder)
    assert snapshot(tmp_path / "inbox") == {f"{number}": b"x" for number in names}


# -- failing syncs ---------------------------------------------------------------------------------------------


class FailingDisk:
    """A shared sync that fails at chosen calls."""

    def __init__(self, *fail_at: int) -> None:
        self.calls = 0
        self.fail_at = fail_at

    def syncfs(self, fd: int) -> None:
        """Count, and fail where asked to."""
        self.calls += 1
        if self.calls in self.fail_at:
            raise OSError(errno.EIO, "Input/output error")


@pytest.mark.case("E88", "E89")
@pytest.mark.parametrize("failing", [1, 2])
def test_failed_sync_fails_the_whole_batch(inbox: Inbox, tmp_path: Path, failing: int) -> None:
    """Of the data: nothing becomes visible. Of the folders: nothing is reported stored."""
    folder = os.open(tmp_path / "inbox", os.O_RDONLY)
    disk = FailingDisk(failing)
    said: list[str] = []
    syncs = Syncs(folder, syncfs=disk.syncfs)
    urged: list[str] = []
    device = attrs.evolve(inbox._device, syncs=syncs, report=said.append, names=DurableNames(urged.append))
    tree = [(b"d%d" % n, b"f") for n in range(20)]
    job = InboxJob(device, PEER, JOB, (), "rename")
    assert {type(answer) for answer in job.look_up([FolderEntry(n, path[:1]) for n, path in enumerate(tree)])} == {Made}
    job.look_up([FileEntry(n + 100, path, 1, 0, 0o644) for n, path in enumerate(tree)])
    outcomes = job.store_whole([Whole(n + 100, [b"x"], block_digest([b"x"])) for n in range(20)])
    assert outcomes == [Failed(n + 100, "storage-failed") for n in range(20)]
    assert said == ["d0/f: input/output error"]
    assert len(set(urged)) == failing - 1
    assert all("restart the daemon" in sentence for sentence in urged)
    assert ("d0/f" in snapshot(tmp_path / "inbox")) is (failing == 2)
    job.close()
    # the next job stores it again; what lies in a folder whose sync has failed is believed by the next process only
    entries = [FileEntry(n + 100, path, 1, 0, 0o644) for n, path in enumerate(tree)]
    again = InboxJob(device, PEER, JOB, (), "rename")
    assert {type(answer) for answer in again.look_up(entries)} == ({Want} if failing == 1 else {Refuse})
    assert "restart the daemon" in said[-1] or failing == 1
    again.close()
    calls = disk.calls
    other = InboxJob(attrs.evolve(device, names=DurableNames()), PEER, JOB, (), "rename")
    assert {type(answer) for answer in other.look_up(entries)} == ({Want} if failing == 1 else {Have})
    assert failing == 1 or disk.calls == calls + 1
    other.close()
    os.close(folder)
