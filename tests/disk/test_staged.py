"""Staged files that somebody tampers with, and what is done about those that nobody comes back for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.inboxes import PEER, Sending, content, digest_of_content, snapshot
from support.other_user import as_nobody
from support.private_mount import with_private_mount

from ftx.disk.inbox import Inbox
from ftx.disk.root import Means, Root
from ftx.disk.staging import Staging, partial_key
from ftx.disk.store import Failed
from ftx.limits import BLOCK, PARTIAL_FILES

SIZE = 2 * BLOCK + 1


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    """An inbox in `tmp_path/inbox`."""
    held = Inbox.open(str(tmp_path / "inbox"))
    yield held
    held.close()


@pytest.mark.parametrize("harm", ["link", "hard link", "file", "gone"])
def test_D78_what_is_published_is_what_was_verified(inbox: Inbox, tmp_path: Path, harm: str) -> None:
    """Another file, or a link, took the place of the staged one: it does not become a received file."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"not verified")
    sending = Sending(inbox, {"large": content(SIZE)})
    sending.offer()
    ((path, want),) = sending.wanted(large=True)
    sending.send_blocks(path, want)
    staging = tmp_path / "inbox" / ".ftx" / "partial"
    (staged,) = (name for name in staging.iterdir() if name.suffix != ".journal")
    staged.unlink()
    if harm == "link":
        staged.symlink_to(outside)
    elif harm == "hard link":
        os.link(outside, staged)
    elif harm == "file":
        staged.write_bytes(b"not verified")
    outcome = sending.store.publish(want.number, digest_of_content(content(SIZE)))
    assert outcome == Failed(want.number, "storage-failed")
    sending.store.close()
    assert snapshot(tmp_path / "inbox") == {}
    assert outside.read_bytes() == b"not verified"
    assert Sending(inbox, {"large": content(SIZE)}).run() == {"large": "stored large"}
    assert snapshot(tmp_path / "inbox") == {"large": content(SIZE)}


def test_D78_a_partial_with_another_link_is_left_as_it_is(short_tmp: Path) -> None:
    """Not even its permissions are changed: it may be anybody's file. (Root would not need to change them.)"""
    short_tmp.chmod(0o777)
    folder = short_tmp / "nobody's"

    def look() -> str:
        folder.mkdir()
        root = Root(str(folder / "inbox"), Means())
        staging = Staging(root)
        victim = folder / "victim"
        victim.write_bytes(bytes(SIZE))
        victim.chmod(0o400)
        key = partial_key(PEER, b"a", SIZE, 0)
        os.link(victim, folder / "inbox" / ".ftx" / "partial" / key.hex())
        assert staging.held(key, SIZE) is None
        mode = victim.stat().st_mode & 0o777
        staging.close()
        root.close()
        return oct(mode)

    assert as_nobody(look) == "0o400"


@pytest.mark.case("G125")
def test_too_many_partials_go_oldest_first(tmp_path: Path) -> None:
    """Beyond the limit the oldest are removed with their journals, whatever their age; those in use stay."""
    root = Root(str(tmp_path), Means())
    staging = Staging(root)
    folder = tmp_path / ".ftx" / "partial"
    pause = threading.Event()
    old = [folder / f"{number:064x}" for number in range(4)]
    for path in old:
        path.touch()
        path.with_name(path.name + ".journal").touch()
        begun = path.stat().st_ctime_ns
        while time.time_ns() - begun < 20_000_000:  # the clock of a file system ticks slowly
            pause.wait(0.005)
    staging.use(bytes.fromhex(old[0].name))
    for number in range(4, PARTIAL_FILES + 3):
        (folder / f"{number:064x}").touch()
    assert staging.clean(time.time()) == 2
    left = {path.name for path in folder.iterdir()}
    assert old[0].name in left
    assert not {old[1].name, old[2].name, old[1].name + ".journal", old[2].name + ".journal"} & left
    assert old[3].name in left
    assert staging.clean(time.time()) == 0
    staging.close()
    root.close()


TOO_LARGE = """
import os, sys, threading, time
sys.path.insert(0, sys.argv[2])
from ftx.disk.root import Means, Root
from ftx.disk.staging import Staging

root = Root(sys.argv[1] + "/inbox", Means())
staging = Staging(root)
folder = sys.argv[1] + "/inbox/.ftx/partial/"
pause = threading.Event()
def make(number, size):
    path = folder + f"{number:064x}"
    with open(path, "wb") as file:
        file.write(bytes(size))
    begun = os.stat(path).st_ctime_ns
    while time.time_ns() - begun < 20_000_000:
        pause.wait(0.005)
for number, size in enumerate([2 << 20, 3 << 20, 1 << 20]):
    make(number, size)
# 6 MiB of 16: the oldest two MiB go, which is enough
assert staging.clean(time.time()) == 1
assert sorted(int(name, 16) for name in os.listdir(folder)) == [1, 2]
# what a job uses is not abandoned: it does not count, and it stays
make(3, 6 << 20)
staging.use((3).to_bytes(32, "big"))
assert staging.clean(time.time()) == 0
staging.leave((3).to_bytes(32, "big"))
# the youngest stays, however large it is
assert staging.clean(time.time()) == 2
assert [int(name, 16) for name in os.listdir(folder)] == [3]
print("all is well")
"""


def test_too_large_partials_go_oldest_first(tmp_path: Path) -> None:
    """A quarter of the file system is what abandoned partials may take; the youngest is always kept."""
    (tmp_path / "inbox").mkdir()
    with_private_mount(tmp_path / "inbox", "size=16m", TOO_LARGE)
