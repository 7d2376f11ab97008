"""A power cut, as near as a process can make one: a copy of a mounted file system's image, taken between two calls.

What the file system has not written to its device by then is not in the copy, just as it is not on a disk whose power
fails. Run as a program, in a mount name space of its own, by root: `power_cut.py FOLDER`, FOLDER being empty. It cuts
in the middle of a transfer, again and again, and looks at what is left each time; it says `all is well` or raises.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from support.inboxes import Sending, content, digest_of_content, snapshot
from support.kills import changes_the_disk

from ftx.disk.inbox import Inbox
from ftx.disk.store import Have, Want
from ftx.limits import BLOCK, SYNC_EACH

TREE: dict[str, bytes | None] = {
    "small": b"small",
    "into": None,
    "into/one": b"1",
    "into/deep": None,
    "into/deep/two": b"22",
    "into/deep/large": content(3 * BLOCK + 5),
    "large": content(2 * BLOCK, 7),
    "many": None,
    **{f"many/{number:02}": b"%d" % number for number in range(SYNC_EACH + 4)},
}
#: A cut after each so-many-th change of the disk, besides those after every promise.
EVERY = 4
#: Fewer cuts than that would not be worth the name.
LEAST = 50


def run(*command: str | Path) -> None:
    """Run a command, which must succeed."""
    subprocess.run(command, check=True, capture_output=True)


class Cuts:
    """The copies taken so far, each with what had been promised by then: names, and durable bytes of partials."""

    def __init__(self, image: Path) -> None:
        self.image = image
        self.stored: set[str] = set()
        self.durable: dict[str, int] = {}
        self.taken: list[tuple[Path, set[str], dict[str, int]]] = []
        self._changes = 0

    def cut(self) -> None:
        """Take a copy."""
        copy = self.image.with_name(f"cut{len(self.taken)}")
        run("cp", "--sparse=always", self.image, copy)
        self.taken.append((copy, set(self.stored), dict(self.durable)))

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        """Take one after every so-many-th change of the disk; for `sys.setprofile()`."""
        if changes_the_disk(frame, event, argument):
            self._changes += 1
            if self._changes % EVERY == 0:
                self.cut()

    def watched(self, action: Callable[[], Any]) -> Any:
        """Run `action` and take copies on the way."""
        sys.setprofile(self.profile)
        try:
            return action()
        finally:
            sys.setprofile(None)


def transfer(folder: Path, cuts: Cuts) -> None:
    """Send the tree into an inbox below `folder`; a cut after each promise, and some between."""
    inbox = cuts.watched(lambda: Inbox.open(str(folder / "inbox")))
    sending = Sending(inbox, TREE)
    cuts.watched(sending.offer)
    cuts.watched(sending.send_small)
    cuts.stored = {name for name in TREE if sending.result(name) == f"stored {name}"}
    assert len(cuts.stored) == 3 + SYNC_EACH + 4, "one batch with a shared sync"
    cuts.cut()
    for path, want in sending.wanted(large=True):
        name = os.fsdecode(b"/".join(path))
        data = TREE[name] or b""
        sending.sent_blocks = 0
        cuts.watched(partial(sending.send_blocks, path, want, stop=2, sync_every=9))
        cuts.durable[name] = cuts.watched(partial(sending.store.sync, want.number))
        assert cuts.durable[name] == 2 * BLOCK
        cuts.cut()
        sending.sent_blocks = -99
        cuts.watched(partial(sending.send_blocks, path, want, sync_every=9))
        publishing = partial(sending.store.publish, want.number, digest_of_content(data))
        sending.outcomes[name] = cuts.watched(publishing)
        assert sending.result(name) == f"stored {name}"
        cuts.stored.add(name)
        cuts.cut()
    cuts.watched(sending.finish_folders)
    cuts.stored |= {name for name, data in TREE.items() if data is None}
    cuts.cut()
    cuts.watched(sending.store.close)
    cuts.watched(inbox.close)
    cuts.cut()


def look(folder: Path, stored: set[str], durable: dict[str, int], final: bool) -> None:
    """What a cut has left: what was promised is there and known, nothing partial is to be seen, and all can go on."""
    path = folder / "inbox"
    found = snapshot(path) if path.exists() else {}
    assert all(TREE[name] == data for name, data in found.items()), f"partial: {found.keys()}"
    assert stored <= found.keys(), f"lost: {stored - found.keys()}"
    inbox = Inbox.open(str(path))
    again = Sending(inbox, TREE)
    answers = again.offer()
    for name in stored:
        assert TREE[name] is None or isinstance(answers[name], Have), f"forgotten: {name}"
    for name, size in durable.items():
        answer = answers[name]
        if name not in stored and isinstance(answer, Want):
            assert answer.held is not None, f"forgotten: {name}"
            assert answer.held.bytes_in(len(TREE[name] or b"")) >= size
    again.complete()
    inbox.close()
    assert snapshot(path) == TREE
    assert not final or stored == TREE.keys()


def main(folder: Path) -> None:
    """Make the image, send, cut, look."""
    image, mounted = folder / "image", folder / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(32 * BLOCK)
    run("mkfs.ext4", "-q", "-F", image)
    # nothing is written but what is asked for: the next commit by itself comes in ten minutes
    run("mount", "-o", "loop,commit=600", image, mounted)
    os.sync()
    print("mounted", flush=True)
    cuts = Cuts(image)
    try:
        (mounted / "unsynced").write_bytes(b"never asked to be durable")
        cuts.cut()
        transfer(mounted, cuts)
    finally:
        run("umount", "-l", mounted)
    assert len(cuts.taken) >= LEAST, f"{len(cuts.taken)} cuts"
    for number, (copy, stored, durable) in enumerate(cuts.taken):
        run("mount", "-o", "loop", copy, mounted)
        try:
            if number == 0:
                assert not (mounted / "unsynced").exists(), "this is no power cut"
            look(mounted, stored, durable, final=copy is cuts.taken[-1][0])
        except BaseException as error:
            error.add_note(f"cut {number} of {len(cuts.taken)}, promised: {sorted(stored)} {durable}")
            raise
        finally:
            run("umount", "-l", mounted)
        copy.unlink()
    print(f"{len(cuts.taken)} cuts: all is well")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
