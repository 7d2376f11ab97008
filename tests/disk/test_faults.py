"""One system call fails, wherever: nothing is acknowledged that is not durable, nothing half is visible, all goes on.

Each kind of call that the storage of a job makes, at each of its occurrences, with each error that a disk has.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import KINDS, Fault
from support.inboxes import JOB, MTIME, PEER, Sending, content, digest_of_content, snapshot

from ftx.disk.inbox import Inbox
from ftx.disk.root import Means
from ftx.errors import FtxError
from ftx.limits import BLOCK, SYNC_EACH

TREE: dict[str, bytes | None] = {
    "small": b"small",
    "folder": None,
    "folder/large": content(BLOCK) + bytes(BLOCK) + b"the end",
    **{f"folder/{number}": b"%d" % number for number in range(SYNC_EACH + 1)},
}
#: The kinds of calls that both kinds of kernels make: with the newer calls, and without. Each call is Python's here:
#: how those of many files together fail is in `test_many.py`.
MEANS = {
    "all": Means(many=False),
    "bare": Means(tmpfile=False, noreplace=False, syncfs=False, fallocate=False),
}
#: Calls that take no space.
FREE = {"utime", "fchmod", "close"}
#: What a call that only helps may answer without any harm.
HELPFUL = {"fallocate"}


@pytest.fixture
def quick_tmp() -> Iterator[Path]:
    """A folder in memory."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="ftx-fault-", dir=base)
    yield Path(folder)
    shutil.rmtree(folder)


#: Permissions of the folder at the sender.
MODE = 0o710


def drive(inbox: Inbox) -> dict[str, str]:
    """The tree, as a session sends it: what a large file fails with is its result, and what there is of it stays."""
    sending = Sending(inbox, TREE)
    try:
        sending.offer()
    except FtxError as error:
        sending.store.close()
        return {name: error.name for name in TREE}
    failed: dict[str, str] = {}
    sending.send_small()
    for path, want in sending.wanted(large=True):
        name = os.fsdecode(b"/".join(path))
        try:
            sending.send_blocks(path, want)
            sending.outcomes[name] = sending.store.publish(want.number, digest_of_content(TREE[name] or b""))
        except FtxError as error:
            sending.store.discard(want.number, keep=True)
            failed[name] = error.name
    sending.finish_folders(MODE)
    sending.store.close()
    return {name: failed.get(name, sending.result(name)) for name in TREE}


def descriptors() -> int:
    """How many are open."""
    return len(os.listdir("/proc/self/fd"))


def finished(folder: Path) -> bool:
    """Whether it has the permissions and the time that the sender gave it."""
    status = folder.stat()
    return (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (MODE, MTIME)


def held_to_its_word(path: Path, results: dict[str, str]) -> None:
    """What is visible is complete, and what was called stored is there."""
    found = snapshot(path)
    for name, data in found.items():
        assert TREE[name] == data, name
    for name, result in results.items():
        if result.startswith(("stored", "have")):
            assert found[name] == TREE[name], name


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_a_folder_that_cannot_be_opened(quick_tmp: Path, number: int) -> None:
    """At each opening of a folder: what was made meanwhile is known as ours, and the next run finishes it."""
    nth, hit = 0, True
    while hit:
        nth += 1
        path = quick_tmp / f"inbox-{nth}"
        inbox = Inbox.open(str(path), means=Means(openat2=False, tmpfile=False))
        assert inbox.receipt(PEER, JOB) is None
        with Fault("folder", nth, number) as fault:
            held_to_its_word(path, drive(inbox))
            hit = fault.hit
        inbox.close()
        inbox = Inbox.open(str(path))  # a folder that could not be synced is not believed by this process again
        again = drive(inbox)
        assert all(result.startswith(("stored", "have")) for result in again.values()), f"{nth}: {again}"
        assert snapshot(path) == TREE
        assert finished(path / "folder"), nth
        inbox.close()
        shutil.rmtree(path)
    assert nth > 5


@pytest.mark.case("E86", "E88", "E89", "D85")
@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_call_fails(quick_tmp: Path, kind: str, means: str) -> None:
    """At each occurrence of each call, with EIO, and with ENOSPC where it takes space; EDQUOT is the same to us."""
    occurrences = 0
    for number in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
        nth, hit = 0, number == errno.EIO or kind not in FREE
        while hit and not (number == errno.EDQUOT and nth):
            nth += 1
            path = quick_tmp / f"inbox-{number}-{nth}"
            said: list[str] = []
            inbox = Inbox.open(str(path), means=MEANS[means], report=said.append)
            assert inbox.receipt(PEER, JOB) is None  # the records are open from now on
            before = descriptors()
            with Fault(kind, nth, number) as fault:
                results = drive(inbox)
                found, hit = descriptors(), fault.hit
                if hit and number == errno.EIO:  # its inode is left alone, whatever else fails by that
                    held_to_its_word(path, drive(inbox))
            occurrences += hit
            where = f"{kind} {nth} {errno.errorcode[number]}: {results}"
            assert found == before, where
            assert number != errno.EIO or not fault.retried, f"synced again: {where}"
            assert inbox._device.space._promised == 0, where
            held_to_its_word(path, results)
            if results["folder"] == "no-space":  # what is in it fails because it is not there
                results = {name: result for name, result in results.items() if not name.startswith("folder/")}
            bad = {result for result in results.values() if not result.startswith(("stored", "have"))}
            assert bad <= {"storage-failed" if number == errno.EIO else "no-space"}, where
            assert not bad or said, f"nobody was told: {where}"
            assert not hit or bad or kind in HELPFUL or kind == "close", f"nobody noticed: {where}"
            if number == errno.EIO:
                inbox.close()
                inbox = Inbox.open(str(path), means=MEANS[means])
            again = drive(inbox)
            assert all(result.startswith(("stored", "have")) for result in again.values()), f"{where}, then {again}"
            assert snapshot(path) == TREE, where
            assert finished(path / "folder"), where
            inbox.clean(0.0)
            assert os.listdir(path / ".ftx" / "partial") == [], where
            inbox.close()
            shutil.rmtree(path)
    # some are not called where others are to be had
    assert occurrences or (kind, means) in {
        ("tmpfile", "bare"),
        ("renameat2", "bare"),
        ("syncfs", "bare"),
        ("fallocate", "bare"),
        ("link", "all"),
        ("linkat", "bare"),
    }


@pytest.mark.case("E94")
def test_a_file_system_that_cannot_sync_folders(quick_tmp: Path) -> None:
    """EINVAL for every folder: what the file system orders by itself is all there is, and files are stored."""
    inbox = Inbox.open(str(quick_tmp / "inbox"), means=MEANS["bare"])
    patch = pytest.MonkeyPatch()
    fsync = os.fsync

    def no_folders(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(fd)

    patch.setattr(os, "fsync", no_folders)
    try:
        results = drive(inbox)
    finally:
        patch.undo()
    inbox.close()
    assert results == {name: f"stored {name}" for name in TREE}


@pytest.mark.case("E87")
@pytest.mark.parametrize("means", MEANS)
def test_every_write_is_short(quick_tmp: Path, means: str) -> None:
    """A few bytes at a time, down to one: the rest follows, and every byte is where it belongs."""
    inbox = Inbox.open(str(quick_tmp / "inbox"), means=MEANS[means])
    patch = pytest.MonkeyPatch()
    pwritev = os.pwritev
    lengths = iter(range(1, 10**9))

    def short(fd: int, buffers: list[bytes], offset: int) -> int:
        return pwritev(fd, [memoryview(buffers[0])[: next(lengths) * 977 % 65536 + 1]], offset)

    patch.setattr(os, "pwritev", short)
    try:
        results = drive(inbox)
    finally:
        patch.undo()
    inbox.close()
    assert results == {name: f"stored {name}" for name in TREE}
    assert snapshot(quick_tmp / "inbox") == TREE


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in HELPFUL])
def test_one_call_fails_at_the_start(quick_tmp: Path, kind: str) -> None:
    """An inbox that cannot be opened says so, and leaves nothing open; the next try goes well."""
    nth, hit = 0, True
    while hit:
        nth += 1
        path = quick_tmp / f"inbox{nth}"
        before = descriptors()
        said = "opened"
        with Fault(kind, nth, errno.EIO) as fault:
            try:
                Inbox.open(str(path)).close()
            except FtxError as error:
                said = error.name
        assert said == "opened" or (fault.hit and said == "inbox-unusable")
        hit = fault.hit
        assert descriptors() == before, f"{kind} {nth}"
        Inbox.open(str(path)).close()
