"""Symbolic links in an inbox: made as they are, known again, and never a way to anything."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.faults import Fault
from support.inboxes import JOB, MTIME, PEER, Sending, snapshot
from support.kills import killed_after

from ftx.core.blocks import content_digest
from ftx.disk.inbox import Inbox
from ftx.disk.store import Failed, Have, LinkEntry, Skip, Stored

TREE: dict[str, bytes | None] = {"t": None, "t/a": b"content", "t/d": None}
LINKS = {"t/b": b"a", "t/d/up": b"../a", "t/loop": b"loop", "t/to-d": b"d", os.fsdecode(b"t/\xff"): b"\xff\n x"}


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    made = Inbox.open(str(tmp_path / "inbox"))
    yield made
    made.close()


def entries(links: dict[str, bytes], mtime_ns: int = MTIME) -> list[LinkEntry]:
    paths = [(tuple(os.fsencode(name).split(b"/")), target) for name, target in links.items()]
    return [LinkEntry(100 + number, path, target, mtime_ns) for number, (path, target) in enumerate(paths)]


def keep(inbox: Inbox, links: dict[str, bytes], *, conflict: str = "rename", peer: bytes = PEER) -> dict[str, str]:
    """A job that sends the tree and then these links; what became of each."""
    sending = Sending(inbox, TREE, conflict=conflict, peer=peer)
    sending.offer()
    sending.send_small()
    sending.finish_folders()
    outcomes = sending.store.make_links(entries(links))
    sending.store.close()
    told = {}
    for name, outcome in zip(links, outcomes, strict=True):
        match outcome:
            case Stored(stored_as=path, digest=digest) | Have(stored_as=path, digest=digest):
                assert digest == content_digest(links[name])
                told[name] = f"{type(outcome).__name__.lower()} {os.fsdecode(b'/'.join(path))}"
            case Skip():
                told[name] = "skip"
            case Failed(error=error):
                told[name] = error
    return told


def found(folder: Path) -> dict[str, bytes]:
    """Every link below, and where it leads."""
    links = {}
    for here, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(here, name)
            if os.path.islink(path):
                links[os.path.relpath(path, folder)] = os.fsencode(os.readlink(path))
    return links


def test_links_arrive_and_are_known_again(inbox: Inbox, tmp_path: Path) -> None:
    """With their targets and times; the folders they are in keep theirs; a second run makes nothing."""
    folder = tmp_path / "inbox"
    assert keep(inbox, LINKS) == {name: f"stored {name}" for name in LINKS}
    assert found(folder) == LINKS
    for name in LINKS:
        assert (folder / name).lstat().st_mtime_ns == MTIME
    for name in ("t", "t/d"):
        assert (folder / name).stat().st_mtime_ns == MTIME
    assert keep(inbox, LINKS) == {name: f"have {name}" for name in LINKS}
    inbox.close()
    again = Inbox.open(str(folder))
    assert keep(again, LINKS) == {name: f"have {name}" for name in LINKS}
    # what another key sent is not told of
    assert keep(again, {"t/b": b"a"}, peer=b"o" * 32) == {"t/b": "stored t/b (1)"}
    again.close()


@pytest.mark.parametrize(
    ("conflict", "expected"),
    [("fail", "exists"), ("skip", "skip"), ("rename", "stored t/b (1)"), ("backup", "exists"), ("overwrite", "exists")],
)
@pytest.mark.parametrize("there", ["file", "link", "pipe"])
def test_a_link_takes_the_place_of_nothing(
    inbox: Inbox, tmp_path: Path, conflict: str, expected: str, there: str
) -> None:
    """Whatever has its name keeps it, under every rule; a folder is always `exists`."""
    folder = tmp_path / "inbox" / "t"
    folder.mkdir()
    {"file": lambda path: path.write_bytes(b"mine"), "link": lambda path: path.symlink_to("mine"), "pipe": os.mkfifo}[
        there
    ](folder / "b")
    (folder / "d").mkdir()
    before = (folder / "b").lstat()
    assert keep(inbox, {"t/b": b"a", "t/d": b"a"}, conflict=conflict) == {"t/b": expected, "t/d": "exists"}
    assert (folder / "b").lstat().st_ino == before.st_ino
    assert (folder / "d").is_dir()
    if conflict == "rename":
        assert keep(inbox, {"t/b": b"a"}) == {"t/b": "have t/b (1)"}


def test_a_changed_link_is_another_one(inbox: Inbox, tmp_path: Path) -> None:
    """Retargeted at the sender, or exchanged here: it is not what the record says."""
    assert keep(inbox, {"t/b": b"a"}) == {"t/b": "stored t/b"}
    assert keep(inbox, {"t/b": b"d"}) == {"t/b": "stored t/b (1)"}
    path = tmp_path / "inbox" / "t" / "b"
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert keep(inbox, {"t/b": b"a"}) == {"t/b": "stored t/b (2)"}
    assert os.readlink(path) == "/etc/passwd"


def test_no_link_is_part_of_a_way(inbox: Inbox, tmp_path: Path) -> None:
    """Neither files nor folders nor links go through one, our own or somebody else's."""
    outside = tmp_path / "outside"
    outside.mkdir()
    keep(inbox, {"t/to-d": b"d"})
    (tmp_path / "inbox" / "t" / "out").symlink_to(outside)
    through = Sending(inbox, {"t/to-d/f": b"1", "t/out/f": b"1", "t/to-d/sub": None}).run()
    assert set(through.values()) == {"bad-name"}
    assert keep(inbox, {"t/to-d/l": b"a", "t/out/l": b"a"}) == {"t/to-d/l": "bad-name", "t/out/l": "bad-name"}
    assert list(outside.iterdir()) == []
    assert list((tmp_path / "inbox" / "t" / "d").iterdir()) == []


def test_names_of_links_are_judged_as_others(inbox: Inbox) -> None:
    """Control characters, `.ftx`, a folder that is not there."""
    assert keep(inbox, {"t/\n": b"a", "t/.FTX": b"a", "t/gone/b": b"a", "t/fine": b"a"}) == {
        "t/\n": "bad-name",
        "t/.FTX": "bad-name",
        "t/gone/b": "storage-failed",
        "t/fine": "stored t/fine",
    }


def test_a_folder_of_its_owner_keeps_its_ways(inbox: Inbox, tmp_path: Path) -> None:
    """A folder that was there before is changed as by any program; a read-only one of ours is so again afterwards."""
    sending = Sending(inbox, {"t": None, "t/d": None})
    sending.offer()
    sending.finish_folders(0o555)
    outcomes = sending.store.make_links(entries({"t/d/l": b"../x"}))
    sending.store.close()
    assert isinstance(outcomes[0], Stored)
    for name in ("t", "t/d"):
        status = (tmp_path / "inbox" / name).stat()
        assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o555, MTIME)


def test_a_revoked_job_makes_no_links(inbox: Inbox, tmp_path: Path) -> None:
    """Nor does one that has ended."""
    job = inbox.begin(PEER, JOB, (), "rename")
    job.revoke()
    with pytest.raises(Exception, match=r"took over|superseded"):
        job.make_links(entries({"t/b": b"a"}))
    job.close()
    assert snapshot(tmp_path / "inbox") == {}


def test_a_link_without_its_time_is_known_again(inbox: Inbox, tmp_path: Path) -> None:
    """It was made, and its time could not be set: it has failed, and is no second link when that is over."""
    assert keep(inbox, {}) == {}
    links = {"t/b": b"a"}
    store = Sending(inbox, TREE).store
    with Fault("utime", 1, errno.ENOSPC) as fault:
        (outcome,) = store.make_links(entries(links))
    assert fault.hit
    assert isinstance(outcome, Failed)
    (outcome,) = store.make_links(entries(links))
    store.close()
    assert isinstance(outcome, Have)
    assert found(tmp_path / "inbox") == links
    assert (tmp_path / "inbox" / "t" / "b").lstat().st_mtime_ns == MTIME


def test_kill_while_links_are_made(tmp_path: Path) -> None:
    """Wherever it hits: the next run ends with every link once, known as this peer's own."""

    def run(path: Path) -> dict[str, str]:
        inbox = Inbox.open(str(path))
        told = keep(inbox, LINKS)
        inbox.close()
        return told

    prepared = tmp_path / "prepared"
    inbox = Inbox.open(str(prepared))
    Sending(inbox, TREE).run()
    inbox.close()
    count = 0
    killed = True
    while killed:
        count += 1
        path = tmp_path / f"inbox{count}"
        shutil.copytree(prepared, path, symlinks=True)
        killed = killed_after(count, partial(run, path))
        assert set(run(path).values()) <= {f"{word} {name}" for word in ("have", "stored") for name in LINKS}, count
        assert found(path) == LINKS, f"point {count}"
        assert set(run(path).values()) == {f"have {name}" for name in LINKS}
        shutil.rmtree(path)
    assert count > 10
