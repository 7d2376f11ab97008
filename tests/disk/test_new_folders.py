"""Folders that this job has not made: their names are made durable before anything below them counts as stored."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.inboxes import JOB, PEER

from ftx.core.blocks import block_digest
from ftx.disk.inbox import Inbox
from ftx.disk.jobstore import InboxJob
from ftx.disk.store import FileEntry, FolderEntry, Made, Stored, Want, Whole


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    """An inbox in `tmp_path/inbox`."""
    held = Inbox.open(str(tmp_path / "inbox"))
    yield held
    held.close()


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of what was given to fsync(2), in order."""
    paths: list[str] = []
    fsync = os.fsync

    def record(fd: int) -> None:
        paths.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", record)
    return paths


def stored_below(job: InboxJob, number: int, path: tuple[bytes, ...], synced: list[str]) -> set[str]:
    """Store a small file; the folders that were synced for it, as their last components."""
    assert job.look_up([FileEntry(number, path, 1, 0, 0o644)]) == [Want(number, None)]
    synced.clear()
    (outcome,) = job.store_whole([Whole(number, [b"x"], block_digest([b"x"]))])
    assert isinstance(outcome, Stored)
    return {os.path.basename(name) for name in synced if not name.endswith("(deleted)")}


def test_the_parent_of_a_folder_that_another_job_made_is_synced(inbox: Inbox, synced: list[str]) -> None:
    """`stored` below a folder whose maker has not synced yet: not before its name is durable. And only once."""
    first = inbox.begin(PEER, JOB, (), "rename")
    entries = [FolderEntry(0, (b"new",)), FolderEntry(1, (b"new", b"inner"))]
    assert first.look_up(entries) == [Made(0), Made(1)]
    second = inbox.begin(b"o" * 32, JOB, (), "rename")
    assert second.look_up(entries) == [Made(0), Made(1)]
    assert stored_below(second, 2, (b"new", b"inner", b"a"), synced) == {"inner", "new", "inbox"}
    assert stored_below(second, 3, (b"new", b"inner", b"b"), synced) == {"inner"}
    assert stored_below(first, 2, (b"new", b"inner", b"c"), synced) == {"inner"}
    first.close()
    second.close()


def test_the_parent_of_a_folder_from_before_is_synced_once(inbox: Inbox, tmp_path: Path, synced: list[str]) -> None:
    """A process that was killed, or its user, made the `into` folder: nobody knows whether its name is durable."""
    (tmp_path / "inbox" / "in" / "to").mkdir(parents=True)
    for number, expected in enumerate(({"to", "in", "inbox"}, {"to"})):
        job = inbox.begin(PEER, bytes([number]) * 16, (b"in", b"to"), "rename")
        assert stored_below(job, 0, (b"%d" % number,), synced) == expected
        job.close()


def test_a_folder_made_anew_is_synced_anew(inbox: Inbox, tmp_path: Path, synced: list[str]) -> None:
    """Its user has removed it meanwhile; that it was durable once says nothing."""
    for number in range(2):
        job = inbox.begin(PEER, JOB, (b"in",), "rename")
        assert stored_below(job, number, (b"%d" % number,), synced) == {"in", "inbox"}
        job.close()
        shutil.rmtree(tmp_path / "inbox" / "in")
