"""Offers with a digest: what is recognised by its content, and for whom."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.inboxes import MTIME, Sending, content, snapshot

from ftx.disk.inbox import Inbox
from ftx.limits import BLOCK

TREE = {"small": b"small", "large": content(2 * BLOCK + 5)}
HAVE = {"small": "have small", "large": "have large"}
LATER = MTIME + 1_000_000_000


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    """An inbox in `tmp_path/inbox`."""
    held = Inbox.open(str(tmp_path / "inbox"))
    yield held
    held.close()


def test_a_touched_file_is_there_already(inbox: Inbox, root: Path) -> None:
    """Another time, the same content: have it; the file keeps its time, and next time the record answers."""
    Sending(inbox, TREE).run()
    before = {name: (root / name).stat() for name in TREE}
    assert Sending(inbox, TREE, mtime_ns=LATER, checksum=True).run() == HAVE
    assert {name: (root / name).stat() for name in TREE} == before
    assert Sending(inbox, TREE, mtime_ns=LATER).run() == HAVE
    assert snapshot(root) == TREE


def test_without_a_digest_a_touched_file_is_sent(inbox: Inbox) -> None:
    """Size and time are all there is to go by."""
    Sending(inbox, TREE).run()
    assert Sending(inbox, TREE, mtime_ns=LATER).run() == {"small": "stored small (1)", "large": "stored large (1)"}


def test_the_same_time_with_other_content_is_not_there(inbox: Inbox, root: Path) -> None:
    """A program that sets times back deceives a look at size and time, not a digest."""
    Sending(inbox, TREE).run()
    changed = {name: data[:-1] + b"!" for name, data in TREE.items()}
    assert Sending(inbox, changed, checksum=True).run() == {"small": "stored small (1)", "large": "stored large (1)"}
    assert snapshot(root) == TREE | {f"{name} (1)": data for name, data in changed.items()}
    # both versions are known from now on, each by its content
    assert Sending(inbox, TREE, checksum=True).run()["large"] in ("have large", "stored large (2)")


def test_a_file_that_was_edited_there_is_not_the_same(inbox: Inbox, root: Path) -> None:
    """What the record says counts for nothing when the file has changed since."""
    Sending(inbox, TREE).run()
    times = (root / "large").stat()
    with (root / "large").open("r+b") as file:
        file.write(b"edited")
    os.utime(root / "large", ns=(times.st_atime_ns, times.st_mtime_ns))
    outcome = Sending(inbox, TREE, mtime_ns=LATER, checksum=True).run()
    assert outcome == {"small": "have small", "large": "stored large (1)"}


def test_nobody_learns_what_others_own(inbox: Inbox, root: Path) -> None:
    """Another peer that knows name and content sends it; so does the same peer for what it did not store."""
    Sending(inbox, TREE).run()
    (root / "mine").write_bytes(b"mine")
    other = Sending(inbox, TREE, peer=b"q" * 32, checksum=True).run()
    assert other == {"small": "stored small (1)", "large": "stored large (1)"}
    assert Sending(inbox, {"mine": b"mine"}, checksum=True).run() == {"mine": "stored mine (1)"}


def test_my_own_key_recognises_what_is_there_anyway(inbox: Inbox, root: Path) -> None:
    """It may read the inbox: a file that came another way is not sent, and known from then on."""
    for name, data in TREE.items():
        (root / name).write_bytes(data)
    assert Sending(inbox, TREE, checksum=True, reads=True).run() == HAVE
    assert Sending(inbox, TREE).run() == HAVE
    assert Sending(inbox, {"large": TREE["large"][:-1] + b"!"}, checksum=True, reads=True).run() == {
        "large": "stored large (1)"
    }
    (root / "folder").mkdir()
    (root / "link").symlink_to(root / "small")
    odd = Sending(inbox, {"folder": b"", "link": b"small"}, checksum=True, reads=True, conflict="fail").run()
    assert odd == {"folder": "exists", "link": "exists"}
