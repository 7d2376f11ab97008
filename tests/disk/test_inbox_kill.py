"""A kill after every single change of the disk: nothing half-done is visible, and the next run mends it all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.inboxes import MTIME, Sending, content, snapshot
from support.kills import killed_after

from ftx.disk.inbox import Inbox
from ftx.disk.root import Means
from ftx.limits import BLOCK

MEANS = {
    "all": Means(),
    "bare": Means(openat2=False, tmpfile=False, noreplace=False, syncfs=False, fallocate=False),
}
TREE: dict[str, bytes | None] = {
    "small": b"small",
    "taken.txt": b"theirs",
    "folder": None,
    "folder/one": b"1",
    "folder/large": content(2 * BLOCK + 5),
    "large": content(BLOCK + 1, 7),
    "empty folder": None,
}


@pytest.fixture
def quick_tmp() -> Iterator[Path]:
    """A folder in memory, where a thousand syncs cost nothing."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="ftx-kill-", dir=base)
    yield Path(folder)
    shutil.rmtree(folder)


def transfer(path: Path, means: Means = MEANS["all"]) -> dict[str, str]:
    """One run of the sender's command, as a process of the receiver sees it."""
    inbox = Inbox.open(str(path), means=means)
    try:
        results: dict[str, str] = Sending(inbox, TREE).run()
        return results
    finally:
        inbox.close()


def prepare(path: Path) -> None:
    """An inbox with a file of the user's own."""
    path.mkdir(mode=0o700)
    (path / "taken.txt").write_bytes(b"mine")


def expected() -> dict[str, bytes | None]:
    """What must be there in the end: each file once, and the user's own."""
    return {**TREE, "taken.txt": b"mine", "taken (1).txt": TREE["taken.txt"]}


@pytest.mark.case("D83", "G112")
@pytest.mark.slow
@pytest.mark.parametrize("means", MEANS)
def test_kill_after_every_change(quick_tmp: Path, means: str) -> None:
    """For each point: visible files are complete, and a second run ends as if nothing had happened."""
    final = expected()
    count = 0
    killed = True
    while killed:
        count += 1
        path = quick_tmp / f"inbox{count}"
        prepare(path)
        killed = killed_after(count, partial(transfer, path, MEANS[means]))
        for name, data in snapshot(path).items():
            assert name in final, f"point {count}: {name} is visible"
            assert data == final[name], f"point {count}: {name} is not complete"
        results = transfer(path, MEANS[means])
        assert set(results.values()) <= {
            f"{word} {name}" for word in ("have", "stored") for name in final
        }, f"point {count}: {results}"
        assert snapshot(path) == final, f"point {count}"
        for name in ("folder", "empty folder", "small", "folder/large"):
            assert (path / name).stat().st_mtime_ns == MTIME, f"point {count}: time of {name}"
        staging = path / ".ftx" / "partial"
        inbox = Inbox.open(str(path))
        inbox.clean(0.0)
        assert os.listdir(staging) == [], f"point {count}"
        assert all((path / name).stat().st_nlink == 1 for name, data in final.items() if data is not None)
        assert Sending(inbox, TREE).run() == {
            name: f"stored {name}" if data is None else f"have {'taken (1).txt' if name == 'taken.txt' else name}"
            for name, data in TREE.items()
        }
        inbox.close()
        shutil.rmtree(path)
    assert count > 60, "the profile function saw too little"


@pytest.mark.case("G112")
@pytest.mark.parametrize("means", MEANS)
def test_kill_while_a_newer_version_comes(quick_tmp: Path, means: str) -> None:
    """Wherever it hits: the older version is still known under its name, and the newer one is there once in the end."""
    older, newer = {"a": b"older"}, {"a": b"the newer"}

    def send(path: Path, tree: dict[str, bytes], mtime_ns: int) -> dict[str, str]:
        inbox = Inbox.open(str(path), means=MEANS[means])
        results: dict[str, str] = Sending(inbox, tree, mtime_ns=mtime_ns).run()
        inbox.close()
        return results

    count = 0
    killed = True
    while killed:
        count += 1
        path = quick_tmp / f"inbox{count}"
        assert send(path, older, MTIME) == {"a": "stored a"}
        killed = killed_after(count, partial(send, path, newer, MTIME + 1))
        assert send(path, older, MTIME) == {"a": "have a"}, f"point {count}"
        assert send(path, newer, MTIME + 1)["a"] in ("stored a (1)", "have a (1)"), f"point {count}"
        assert send(path, older, MTIME) == {"a": "have a"}, f"point {count}"
        assert snapshot(path) == {"a": b"older", "a (1)": b"the newer"}, f"point {count}"
        shutil.rmtree(path)
    assert count > 10


@pytest.mark.parametrize("means", MEANS)
def test_kill_before_the_answer_makes_no_second_copy(quick_tmp: Path, means: str) -> None:
    """Published but never acknowledged: the file is its sender's own, found by its content."""
    path = quick_tmp / "inbox"
    prepare(path)

    def publish_and_die() -> None:
        inbox = Inbox.open(str(path), means=MEANS[means])
        sending = Sending(inbox, TREE)
        sending.offer()
        sending.send_small()
        sending.send_large()
        os._exit(0)  # nothing was closed, so nothing was written that waits for the next transaction

    assert not killed_after(10**9, publish_and_die)
    inbox = Inbox.open(str(path))
    answers = Sending(inbox, TREE).run()
    inbox.close()
    assert answers["taken.txt"] == "have taken (1).txt"
    assert answers["folder/large"] == "have folder/large"
    assert snapshot(path) == expected()


@pytest.mark.case("C70")
def test_resume_asks_for_what_is_missing_only(quick_tmp: Path) -> None:
    """Killed in the middle of a large file: the next process goes on at the last durable block."""
    path = quick_tmp / "inbox"
    tree: dict[str, bytes | None] = {"large": content(10 * BLOCK + 1)}

    def write_some_and_die() -> None:
        sending = Sending(Inbox.open(str(path)), tree)
        sending.offer()
        for name, want in sending.wanted(large=True):
            sending.send_blocks(name, want, stop=7, sync_every=3)
        os._exit(0)

    assert not killed_after(10**9, write_some_and_die)
    inbox = Inbox.open(str(path))
    sending = Sending(inbox, tree)
    assert sending.run() == {"large": "stored large"}
    assert sending.sent_blocks == 5  # six of eleven were durable
    inbox.close()
    assert snapshot(path) == tree


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("conflict", ["backup", "overwrite"])
def test_kill_while_a_file_makes_room(quick_tmp: Path, means: str, conflict: str) -> None:
    """Wherever it hits: every visible file is whole, nothing that was to be kept is lost, and the next run ends it."""
    older = {"a": b"older", "b": content(BLOCK + 9)}
    newer = {"a": b"the newer", "b": content(BLOCK + 5, 3)}
    asides = {f"{name}.~1~": data for name, data in older.items()} if conflict == "backup" else {}

    def send(path: Path) -> dict[str, str]:
        inbox = Inbox.open(str(path), means=MEANS[means])
        results: dict[str, str] = Sending(inbox, newer, conflict=conflict).run()
        inbox.close()
        return results

    count = 0
    killed = True
    while killed:
        count += 1
        path = quick_tmp / f"inbox{count}"
        path.mkdir(mode=0o700)
        for name, data in older.items():
            (path / name).write_bytes(data)
        killed = killed_after(count, partial(send, path))
        for name, data in snapshot(path).items():
            assert data in (older[name[0]], newer[name[0]]), f"point {count}: {name} is not complete"
        if conflict == "backup":
            assert set(older.values()) <= set(snapshot(path).values()), f"point {count}: the older one is lost"
        else:
            assert set(snapshot(path)) == set(older), f"point {count}"
        for name, result in send(path).items():
            assert result in (f"stored {name}", f"have {name}"), f"point {count}: {result}"
        assert snapshot(path) == {**newer, **asides}, f"point {count}"
        assert all((path / name).stat().st_nlink == 1 for name in asides), f"point {count}"
        inbox = Inbox.open(str(path))
        inbox.clean(0.0)
        inbox.close()
        assert os.listdir(path / ".ftx" / "partial") == [], f"point {count}"
        shutil.rmtree(path)
    assert count > 20
