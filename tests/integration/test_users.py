"""Ordinary users: both sides without rights, two users of one machine, and what they may not read or write.

Root starts these processes and gives its rights up first; who is not root cannot play two users, and skips by name.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.lab import NOBODY, Lab
from support.trees import make_tree, snapshot, visible

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")

OTHER = NOBODY - 1


def own(root: Path, user: int) -> None:
    """Give a tree to a user."""
    for folder, _, names in os.walk(root):
        os.chown(folder, user, user)
        for name in names:
            os.chown(os.path.join(folder, name), user, user)


def test_an_ordinary_user_on_both_sides(lab: Lab) -> None:
    """No rights are needed for anything; modes and times arrive as they were."""
    theirs = lab.folder_of(NOBODY, "theirs")
    make_tree(theirs / "source", {"a": 10, "b/c": 2_000_000})
    own(theirs / "source", NOBODY)
    daemon = lab.daemon("theirs/home", user=NOBODY)
    lab.send(daemon, theirs / "source", home="theirs/home", user=NOBODY)
    assert snapshot(daemon.inbox / "source") == snapshot(theirs / "source")
    assert os.stat(daemon.inbox / "source" / "a").st_uid == NOBODY
    assert os.stat(theirs / "home" / "identity.key").st_mode & 0o777 == 0o600
    assert daemon.call("daemon.status")["inbox"] == str(daemon.inbox)
    daemon.clean_log()


def test_two_users_of_one_machine(lab: Lab) -> None:
    """Each has a key of its own; paired, one sends to the other, and neither reads the other's home."""
    for user, name in ((NOBODY, "one"), (OTHER, "two")):
        lab.folder_of(user, name)
    (lab.root / "one" / "a").write_bytes(b"1")
    daemon = lab.daemon("two/home", user=OTHER)
    strangers = lab.send(daemon, lab.root / "one" / "a", home="one/home", user=NOBODY, code=5)
    assert strangers.failure()["name"] == "unknown-peer"
    identity = lab.client("id", home="one/home", user=NOBODY).ends().events[0]["id"]
    theirs = lab.client("id", home="two/home", user=OTHER).ends().events[0]["id"]
    assert identity != theirs
    lab.client("peers", "add", "two", theirs, home="one/home", user=NOBODY).ends()
    lab.client("peers", "add", "one", identity, home="two/home", user=OTHER).ends()
    lab.send(daemon, lab.root / "one" / "a", home="one/home", user=NOBODY)
    assert (daemon.inbox / "a").read_bytes() == b"1"
    assert os.stat(daemon.inbox / "a").st_uid == OTHER
    # the other's home is closed, with a sentence
    client = lab.client("id", home="two/home", user=NOBODY)
    assert client.wait() in (1, 3)
    assert "Traceback" not in client.text()


def test_what_cannot_be_read(lab: Lab) -> None:
    """One file of several: exit 9, named, the rest arrives. Nothing else: exit 3. A folder that cannot be read too."""
    theirs = lab.folder_of(NOBODY, "theirs")
    make_tree(theirs / "source", {"a": 10, "closed": 20, "folder/b": 30})
    own(theirs / "source", NOBODY)
    os.chown(theirs / "source" / "closed", 0, 0)
    (theirs / "source" / "closed").chmod(0o600)
    daemon = lab.daemon("theirs/home", user=NOBODY)
    client = lab.send(daemon, theirs / "source", home="theirs/home", user=NOBODY, code=9)
    failed = [event for event in client.of("file") if event["status"] == "failed"]
    assert [(event["path"], event["error"]["name"]) for event in failed] == [("source/closed", "source-unreadable")]
    assert sorted(visible(daemon.inbox)) == [b"source/a", b"source/folder/b"]
    alone = lab.send(daemon, theirs / "source" / "closed", home="theirs/home", user=NOBODY, code=3)
    assert alone.one("summary")["exit"] == 3
    os.chown(theirs / "source" / "folder", 0, 0)
    (theirs / "source" / "folder").chmod(0o700)
    folder = lab.send(daemon, theirs / "source", home="theirs/home", user=NOBODY, code=9)
    assert {event["path"] for event in folder.of("file") if event["status"] == "failed"} == {
        "source/closed",
        "source/folder",
    }
    # mended, the same command brings the rest
    own(theirs / "source", NOBODY)
    done = lab.send(daemon, theirs / "source", home="theirs/home", user=NOBODY).one("done")
    assert (done["files"], done["files_identical"]) == (3, 2)


@pytest.mark.case("D81")
def test_an_inbox_that_cannot_be_written(lab: Lab) -> None:
    """At the start: one sentence, exit 1. Later: each file fails with a stable name, the daemon lives, and goes on."""
    theirs = lab.folder_of(NOBODY, "theirs")
    closed = lab.root / "closed"
    closed.mkdir(0o755)
    code, said = lab.refused("theirs/home", inbox=closed, user=NOBODY)
    assert code == 1
    assert said.startswith("ftx-server: ")
    assert str(closed) in said
    assert "Traceback" not in said
    inbox = theirs / "inbox"
    daemon = lab.daemon("theirs/home", inbox=inbox, user=NOBODY)
    make_tree(theirs / "source", {"a": 10, "b": 2_000_000})
    own(theirs / "source", NOBODY)
    os.chown(inbox, 0, 0)
    inbox.chmod(0o555)
    client = lab.send(daemon, theirs / "source", home="theirs/home", user=NOBODY, code=6)
    assert {event["error"]["name"] for event in client.of("file")} == {"storage-failed"}
    assert visible(inbox) == {}
    os.chown(inbox, NOBODY, NOBODY)
    inbox.chmod(0o700)
    lab.send(daemon, theirs / "source", home="theirs/home", user=NOBODY)
    assert snapshot(inbox / "source") == snapshot(theirs / "source")
    assert "Traceback" not in daemon.text()


def test_a_key_of_somebody_else(lab: Lab) -> None:
    """A key that others may read is not used: exit 3 for the client, exit 1 for the daemon, and nothing is made."""
    theirs = lab.folder_of(NOBODY, "theirs")
    lab.client("id", home="theirs/home", user=NOBODY).ends()
    key = theirs / "home" / "identity.key"
    before = key.read_bytes()
    key.chmod(0o644)
    client = lab.client("id", home="theirs/home", user=NOBODY).ends(3)
    assert str(key) in client.text()
    code, said = lab.refused("theirs/home", user=NOBODY)
    assert code == 1
    assert str(key) in said
    assert key.read_bytes() == before
    shutil.rmtree(theirs)
