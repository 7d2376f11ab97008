"""A dry run in an inbox: the answers of a real one, and not a byte or a name is different afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.inboxes import JOB, MTIME, PEER, Sending, content

from ftx.disk.inbox import Inbox
from ftx.disk.store import Answer, FileEntry, FolderEntry, Have, LinkEntry, Made, Refuse, Skip, Want
from ftx.limits import BLOCK

TREE: dict[str, bytes | None] = {"t": None, "t/a": b"1", "t/big": content(2 * BLOCK), "u": None, "u/new": b"2"}


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    made = Inbox.open(str(tmp_path / "inbox"))
    yield made
    made.close()


def state(folder: Path) -> dict[str, tuple[int, ...]]:
    """Everything there, with what any change would change; of the records what is in them is compared elsewhere."""
    found = {}
    for here, folders, files in os.walk(folder):
        for name in (*folders, *files, "."):
            path = os.path.join(here, name)
            status = os.lstat(path)
            if "records.db" not in path:
                found[path] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def rehearse(inbox: Inbox, entries: list[FileEntry | FolderEntry], conflict: str = "rename") -> list[Answer]:
    job = inbox.begin(PEER, JOB, (), conflict, dry=True)
    answers = job.look_up(entries)
    job.close()
    return answers


def file(number: int, path: str, size: int = 1, mtime_ns: int = MTIME) -> FileEntry:
    return FileEntry(number, tuple(os.fsencode(path).split(b"/")), size, mtime_ns, 0o644)


def test_the_answers_are_those_of_a_real_run(inbox: Inbox, tmp_path: Path) -> None:
    """Have, want, skip and every refusal; folders that are missing are not made for it."""
    folder = tmp_path / "inbox"
    Sending(inbox, {"t": None, "t/a": b"1"}).run()
    (folder / "taken").write_bytes(b"mine")
    (folder / "link").symlink_to("t")
    entries: list[FileEntry | FolderEntry] = [
        FolderEntry(0, (b"t",)),
        file(1, "t/a"),
        file(2, "t/new"),
        FolderEntry(3, (b"u",)),
        FolderEntry(4, (b"u", b"v")),
        file(5, "u/v/x"),
        file(6, "taken"),
        FolderEntry(7, (b"taken",)),
        file(8, "taken/x"),
        file(9, ".ftx"),
        file(10, "link/x"),
        file(11, "huge", 2**60),
        file(12, "t"),
    ]
    before = state(folder)
    answers = rehearse(inbox, entries, "skip")
    assert [type(answer) for answer in answers[:6]] == [Made, Have, Want, Made, Made, Want]
    assert answers[6] == Skip(6)
    refusals = {answer.number: answer.error for answer in answers[7:] if isinstance(answer, Refuse)}
    assert refusals == {7: "exists", 8: "exists", 9: "bad-name", 10: "bad-name", 11: "no-space", 12: "exists"}
    assert state(folder) == before


def test_it_holds_nobody_up_and_promises_nothing(inbox: Inbox, tmp_path: Path) -> None:
    """The files it asks about are free for others, and a partial is left alone."""
    first = Sending(inbox, {"big": content(3 * BLOCK)})
    first.offer()
    ((path, want),) = first.wanted(large=True)
    first.send_blocks(path, want, stop=2, sync_every=1)
    first.store.close()
    before, free = state(tmp_path / "inbox"), inbox.free()
    job = inbox.begin(PEER, JOB, (), "rename", dry=True)
    assert job.look_up([file(0, "big", 3 * BLOCK), file(1, "other", 5)]) == [Want(0, None), Want(1, None)]
    assert state(tmp_path / "inbox") == before
    assert abs(inbox.free() - free) < 64 * BLOCK
    second = Sending(inbox, {"big": content(3 * BLOCK), "other": b"other"}, job=b"k" * 16)
    assert second.run() == {"big": "stored big", "other": "stored other"}
    job.close()


def test_a_file_that_must_be_hashed_is_recognised(inbox: Inbox, tmp_path: Path) -> None:
    """Its permissions were changed: the content decides, and its record stays as it was."""
    Sending(inbox, {"a": content(2 * BLOCK)}).run()
    (tmp_path / "inbox" / "a").chmod(0o600)
    before = state(tmp_path / "inbox")
    (answer,) = rehearse(inbox, [file(0, "a", 2 * BLOCK)])
    assert isinstance(answer, Have)
    assert state(tmp_path / "inbox") == before


def test_links_and_receipts(inbox: Inbox, tmp_path: Path) -> None:
    """Links are looked up, not made; the receipt of a dry run is not kept."""
    made = Sending(inbox, {"t": None})
    made.offer()
    made.finish_folders()
    made.store.make_links([LinkEntry(5, (b"t", b"there"), b"x", MTIME)])
    made.store.close()
    job = inbox.begin(PEER, JOB, (), "fail", dry=True)
    (tmp_path / "inbox" / "t" / "taken").write_bytes(b"")
    before = state(tmp_path / "inbox")
    outcomes = job.make_links(
        [LinkEntry(n, path, b"x", MTIME) for n, path in enumerate([(b"t", b"there"), (b"t", b"new"), (b"u", b"new")])]
    )
    assert [type(outcome) for outcome in outcomes] == [Have, Want, Want]
    (failed,) = job.make_links([LinkEntry(9, (b"t", b"taken"), b"x", MTIME)])
    assert getattr(failed, "error", "") == "exists"
    job.save_receipt(b"receipt")
    job.close()
    assert inbox.receipt(PEER, JOB) is None
    assert state(tmp_path / "inbox") == before
