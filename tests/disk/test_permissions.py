"""Permissions of a file that is there already: they follow the sender's, until somebody here has chosen others."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.inboxes import MTIME, PEER, Sending, content, snapshot

from ftx.disk.inbox import Inbox
from ftx.limits import BLOCK

TREE = {"small": b"small", "sub/large": content(2 * BLOCK + 5), "sub": None}
HAVE = {"small": "have small", "sub": "stored sub", "sub/large": "have sub/large"}


@pytest.fixture
def inbox(root: Path) -> Iterator[Inbox]:
    """An inbox there."""
    held = Inbox.open(str(root))
    yield held
    held.close()


def modes(root: Path) -> set[int]:
    """Those of the two files."""
    return {stat.S_IMODE((root / name).stat().st_mode) for name in ("small", "sub/large")}


@pytest.mark.parametrize("checksum", [False, True])
def test_they_follow_without_content(checksum: bool, inbox: Inbox, root: Path) -> None:
    """Changed there, changed here, less the umask and never with set-id bits; times and content stay as they are."""
    Sending(inbox, TREE).run()
    inodes = (root / "small").stat().st_ino, (root / "sub" / "large").stat().st_ino
    for mode, given in ((0o755, {0o755}), (0o6777, {0o755}), (0o400, {0o400}), (0o000, {0o000}), (0o644, {0o644})):
        assert Sending(inbox, TREE, mode=mode, checksum=checksum).run() == HAVE
        assert modes(root) == given
    assert ((root / "small").stat().st_ino, (root / "sub" / "large").stat().st_ino) == inodes
    assert (root / "small").stat().st_mtime_ns == MTIME
    assert snapshot(root) == TREE


def test_what_somebody_here_has_chosen_stays(inbox: Inbox, root: Path) -> None:
    """Also the next time, when the record knows the file again; and the sender's very choice makes it theirs again."""
    Sending(inbox, TREE).run()
    (root / "small").chmod(0o600)
    for _ in range(3):
        assert Sending(inbox, TREE, mode=0o755).run() == HAVE
        assert stat.S_IMODE((root / "small").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "sub" / "large").stat().st_mode) == 0o755
    Sending(inbox, TREE, mode=0o600).run()
    Sending(inbox, TREE, mode=0o640).run()
    assert modes(root) == {0o640}


def test_only_the_own_file_under_its_only_name(inbox: Inbox, root: Path) -> None:
    """A second name may be anywhere; another peer's file, and one put there by hand, are nobody's to change."""
    Sending(inbox, {"small": b"small"}).run()
    os.link(root / "small", root / "second")
    assert Sending(inbox, {"small": b"small"}, mode=0o755).run() == {"small": "have small"}
    assert stat.S_IMODE((root / "small").stat().st_mode) == 0o644
    (root / "mine").write_bytes(b"mine")
    (root / "mine").chmod(0o600)
    for mode in (0o644, 0o755):
        own = Sending(inbox, {"mine": b"mine"}, mode=mode, checksum=True, reads=True)
        assert own.run() == {"mine": "have mine"}
        assert stat.S_IMODE((root / "mine").stat().st_mode) == 0o600
    Sending(inbox, {"small": b"small"}, peer=b"q" * 32, mode=0o777).run()
    assert stat.S_IMODE((root / "small").stat().st_mode) == 0o644


def test_a_kill_before_the_record_costs_a_look(inbox: Inbox, root: Path) -> None:
    """The file has its new permissions and the record does not say so: the content is compared, and it is theirs."""
    Sending(inbox, TREE).run()
    for name in ("small", "sub/large"):
        (root / name).chmod(0o755)  # as if the process had died behind its own change
    assert Sending(inbox, TREE, mode=0o755).run() == HAVE
    assert Sending(inbox, TREE, mode=0o700).run() == HAVE
    assert modes(root) == {0o700}


def test_records_of_version_2(root: Path) -> None:
    """They have no permissions: they are taken over, the files are found again, and keep what they have."""
    first = Inbox.open(str(root))
    Sending(first, TREE).run()
    first.close()
    with sqlite3.connect(root / ".ftx" / "records.db") as older:
        older.execute("DROP TRIGGER forgotten")
        older.execute("DROP TABLE blocks")
        older.execute("DROP TABLE intents")
        older.execute("DROP TABLE segments")
        older.execute("ALTER TABLE names DROP COLUMN mode")
        older.execute("PRAGMA user_version = 2")
    older.close()
    inbox = Inbox.open(str(root))
    assert Sending(inbox, TREE, peer=PEER, mode=0o755).run() == HAVE
    assert modes(root) == {0o644}
    assert Sending(inbox, {"new": b"new"}).run() == {"new": "stored new"}
    assert Sending(inbox, {"new": b"new"}, mode=0o600).run() == {"new": "have new"}
    assert stat.S_IMODE((root / "new").stat().st_mode) == 0o600
    inbox.close()
