"""What is under way when the power is cut: scenarios in one process, which say exactly when something was promised.

Each makes a state before, does something on a file system that is recorded, and tells of every promise as it is made.
Afterwards it is shown what a cut has left: everything promised by then must be there, nothing half done may be visible,
and the same once more must end as if nothing had been.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import ClassVar

from support.inboxes import JOB, MTIME, PEER, Sending, blocks_of, content, digest_of_content, snapshot
from support.kills import killed_after

from ftx.core.blocks import block_digest, content_digest
from ftx.core.peers import Peer
from ftx.core.rights import Rights
from ftx.disk import keys, ledger, peers, receipts
from ftx.disk.inbox import Inbox
from ftx.disk.places import places, prepare_home
from ftx.disk.store import Have, LinkEntry, PipeEntry, Want
from ftx.limits import BLOCK, DIGEST, SYNC_EACH

__all__ = ["SCENARIOS", "CutScenario"]

#: Tells that something is promised from now on.
Promise = Callable[[str], None]
Tree = Mapping[str, bytes | None]

FRESH: Tree = {
    "small": b"small",
    "into": None,
    "into/one": b"1",
    "into/deep": None,
    "into/deep/two": b"22",
    "into/deep/large": content(2 * BLOCK + 5),
    "large": content(BLOCK + 7, 7),
    "many": None,
    **{f"many/{number:02}": b"%d" % number for number in range(SYNC_EACH + 4)},
}
OLD: Tree = {"a": b"old", "d": None, "d/large": content(BLOCK + 9, 1), "d/small": b"old too"}
NEW: Tree = {"a": b"newer", "d": None, "d/large": content(BLOCK + 9, 1)[:-5] + b"new", "d/small": b"new too"}
LATER = MTIME + 5_000_000_000


def expect(truth: object, why: str) -> None:
    """AssertionError with `why`, unless it is so; also where assertions are not rewritten."""
    if not truth:
        raise AssertionError(why)


class CutScenario:
    """Something that is cut. `folder` is on the disk that is recorded, or mounted anew after a cut."""

    name: ClassVar[str]
    about: ClassVar[str]

    def before(self, folder: Path) -> None:
        """Make the state before; it is synced before any cut."""

    def act(self, folder: Path, promise: Promise) -> None:
        """Do it; tell of each promise."""
        raise NotImplementedError

    def check(self, folder: Path, promised: Set[str]) -> None:
        """Look at what a cut has left, then do the same again; AssertionError where something is not as it must be."""
        raise NotImplementedError


class Sent(CutScenario):
    """A tree that is sent by one job, over what is there. Promises are names, and `durable NAME N`."""

    there: ClassVar[Tree] = {}
    tree: ClassVar[Tree] = FRESH
    conflict: ClassVar[str] = "rename"
    time: ClassVar[int] = MTIME
    #: Whether half of every larger file is there already.
    resumed: ClassVar[bool] = False

    def finally_there(self) -> Tree:
        """What a user sees in the end."""
        return self.tree

    def may_be(self, name: str, data: bytes | None) -> bool:
        """Whether that may be visible at any moment."""
        return data == self.tree.get(name, b"?") or data == self.there.get(name, b"?")

    def keeps(self, found: Tree) -> bool:
        """Whether all that was there before still is, as far as it must be."""
        return all(name in found for name in self.there)

    def _sending(self, inbox: Inbox) -> Sending:
        return Sending(inbox, self.tree, conflict=self.conflict, mtime_ns=self.time)

    def before(self, folder: Path) -> None:
        inbox = Inbox.open(str(folder / "inbox"))
        Sending(inbox, self.there).run()
        if self.resumed:
            sending = self._sending(inbox)
            sending.offer()
            for path, want in sending.wanted(large=True):
                sending.sent_blocks = 0
                sending.send_blocks(path, want, stop=1, sync_every=1)
            sending.store.close()
        inbox.close()

    def act(self, folder: Path, promise: Promise) -> None:
        inbox = Inbox.open(str(folder / "inbox"))
        sending = self._sending(inbox)
        sending.offer()
        sending.send_small()
        for name, data in self.tree.items():
            if data is not None and sending.result(name).startswith("stored"):
                promise(name)
        for path, want in sending.wanted(large=True):
            name = os.fsdecode(b"/".join(path))
            self._large(sending, name, path, want, promise)
        sending.finish_folders()
        for name, data in self.tree.items():
            expect(data is None or sending.result(name).startswith("stored"), f"{name}: {sending.result(name)}")
            promise(name)
        sending.store.close()
        inbox.close()

    def _large(self, sending: Sending, name: str, path: tuple[bytes, ...], want: Want, promise: Promise) -> None:
        sending.sent_blocks = 0
        sending.send_blocks(path, want, stop=1, sync_every=9)
        promise(f"durable {name} {sending.store.sync(want.number)}")
        data = self.tree[name] or b""
        sending.sent_blocks = -99
        sending.send_blocks(path, want, sync_every=9)
        sending.outcomes[name] = sending.store.publish(want.number, digest_of_content(data))
        if sending.result(name).startswith("stored"):
            promise(name)

    def check(self, folder: Path, promised: Set[str]) -> None:
        path = folder / "inbox"
        found = snapshot(path) if path.exists() else {}
        for name, data in found.items():
            expect(self.may_be(name, data), f"not complete, or nobody sent it: {name}")
        expect(self.keeps(found), f"gone: {set(self.there) - set(found)}")
        inbox = Inbox.open(str(path))
        again = self._sending(inbox)
        answers = again.offer()
        for one in promised:
            if one.startswith("durable "):
                _, name, size = one.split(" ")
                answer = answers[name]
                if name not in promised and isinstance(answer, Want):
                    expect(answer.held is not None, f"forgotten: {one}")
                    if answer.held is not None:
                        expect(answer.held.bytes_in(len(self.tree[name] or b"")) >= int(size), f"less held: {one}")
            elif self.tree[one] is None:
                expect(one in found, f"lost: {one}")
            else:
                expect(self.tree[one] in found.values(), f"lost: {one}")
                expect(isinstance(answers[one], Have), f"forgotten: {one}: {answers[one]}")
        outcomes = again.complete()
        inbox.close()
        expect(snapshot(path) == self.finally_there(), f"in the end: {outcomes} {list(snapshot(path))}")
        expect(os.listdir(path / ".ftx" / "partial") == [], "left among the partials")


class Fresh(Sent):
    name, about = "tree", "a tree of small files in one batch, folders, and files of several blocks"


class Resumed(Sent):
    name, about = "resumed", "the same when half of each larger file is there"
    resumed = True


class Overwritten(Sent):
    name, about = "overwrite", "newer versions take the place of older ones"
    there, tree, conflict, time = OLD, NEW, "overwrite", LATER


class BackedUp(Sent):
    name, about = "backup", "older versions are moved aside for newer ones"
    there, tree, conflict, time = OLD, NEW, "backup", LATER

    def finally_there(self) -> Tree:
        return {**NEW, **{f"{name}.~1~": data for name, data in OLD.items() if data is not None}}

    def may_be(self, name: str, data: bytes | None) -> bool:
        return super().may_be(name, data) or self.finally_there().get(name, b"?") == data

    def keeps(self, found: Tree) -> bool:
        return all(data in found.values() for data in OLD.values())


class Renamed(BackedUp):
    name, about = "rename", "newer versions get names of their own"
    conflict = "rename"

    def finally_there(self) -> Tree:
        beside = {f"{name} (1)": data for name, data in NEW.items() if data is not None}
        return {**OLD, **beside}


class Delta(CutScenario):
    """A newer version of which only one block is new."""

    name, about = "delta", "a newer version whose other blocks are taken over from the older one"
    old, new = content(3 * BLOCK), content(BLOCK, 3) + content(3 * BLOCK)[BLOCK:]

    def before(self, folder: Path) -> None:
        inbox = Inbox.open(str(folder / "inbox"))
        Sending(inbox, {"f": self.old}).run()
        inbox.close()

    def _send(self, inbox: Inbox) -> None:
        sending = Sending(inbox, {"f": self.new}, conflict="overwrite", mtime_ns=LATER)
        answer = sending.offer()["f"]
        if isinstance(answer, Want):
            joined = sending.store.basis(answer.number)
            offered = [joined[start : start + DIGEST] for start in range(0, len(joined), DIGEST)]
            for index, block in enumerate(blocks_of(self.new)):
                if answer.held is not None and index in answer.held:
                    continue
                digest = block_digest([block])
                same = index < len(offered) and offered[index] == digest
                if not (same and sending.store.copy_block(answer.number, index, index * BLOCK, digest)):
                    expect(sending.store.write_block(answer.number, index, [block], digest), "written")
            sending.outcomes["f"] = sending.store.publish(answer.number, digest_of_content(self.new))
        expect(sending.result("f") in ("stored f", "have f"), sending.result("f"))
        sending.store.close()

    def act(self, folder: Path, promise: Promise) -> None:
        inbox = Inbox.open(str(folder / "inbox"))
        self._send(inbox)
        promise("new")
        inbox.close()

    def check(self, folder: Path, promised: Set[str]) -> None:
        found = snapshot(folder / "inbox")
        expect(found in ({"f": self.old}, {"f": self.new}), f"neither the old nor the new: {list(found)}")
        expect("new" not in promised or found == {"f": self.new}, "lost")
        inbox = Inbox.open(str(folder / "inbox"))
        self._send(inbox)
        inbox.close()
        expect(snapshot(folder / "inbox") == {"f": self.new}, "not the new one in the end")
        expect(os.listdir(folder / "inbox" / ".ftx" / "partial") == [], "left among the partials")


class Piped(CutScenario):
    """A file of unknown size."""

    name, about = "pipe", "a file of unknown size"
    data = content(2 * BLOCK + 9)

    def _send(self, inbox: Inbox) -> None:
        job = inbox.begin(PEER, JOB, (), "overwrite")
        expect(job.look_up([PipeEntry(0, (b"p",), MTIME, 0o640)]) == [Want(0, None)], "wanted")
        for index, block in enumerate(blocks_of(self.data)):
            expect(job.write_block(0, index, [block], block_digest([block])), "written")
        job.publish(0, digest_of_content(self.data))
        job.close()

    def act(self, folder: Path, promise: Promise) -> None:
        inbox = Inbox.open(str(folder / "inbox"))
        self._send(inbox)
        promise("p")
        inbox.close()

    def check(self, folder: Path, promised: Set[str]) -> None:
        path = folder / "inbox"
        found = snapshot(path) if path.exists() else {}
        expect(found in ({}, {"p": self.data}), "not complete")
        expect("p" not in promised or found, "lost")
        inbox = Inbox.open(str(path))
        self._send(inbox)
        inbox.close()
        expect(snapshot(path) == {"p": self.data}, "not there in the end")


class Links(CutScenario):
    """Symbolic links, made after all else."""

    name, about = "links", "symbolic links, in a batch"
    tree: ClassVar[Tree] = {"t": None, "t/a": b"content"}
    links: ClassVar[Sequence[tuple[str, bytes]]] = [("t/b", b"a"), ("t/c", b"./a"), ("t/loop", b"loop")]

    def _send(self, inbox: Inbox) -> None:
        sending = Sending(inbox, self.tree)
        sending.offer()
        sending.send_small()
        sending.finish_folders()
        entries = [
            LinkEntry(100 + number, tuple(os.fsencode(name).split(b"/")), target, MTIME)
            for number, (name, target) in enumerate(self.links)
        ]
        for (_, target), outcome in zip(self.links, sending.store.make_links(entries), strict=True):
            expect(getattr(outcome, "digest", b"") == content_digest(target), f"{outcome}")
        sending.store.close()

    def act(self, folder: Path, promise: Promise) -> None:
        inbox = Inbox.open(str(folder / "inbox"))
        self._send(inbox)
        promise("links")
        inbox.close()

    def _found(self, folder: Path) -> list[tuple[str, bytes]]:
        top = folder / "inbox"
        paths = sorted(path for path in top.glob("t/*") if path.is_symlink())
        return [(str(path.relative_to(top)), os.fsencode(os.readlink(path))) for path in paths]

    def check(self, folder: Path, promised: Set[str]) -> None:
        found = self._found(folder)
        expect(set(found) <= set(self.links), f"links that nobody sent: {found}")
        expect("links" not in promised or found == self.links, f"lost: {found}")
        inbox = Inbox.open(str(folder / "inbox"))
        self._send(inbox)
        inbox.close()
        expect(self._found(folder) == self.links, f"in the end: {self._found(folder)}")


class State(CutScenario):
    """What a machine knows: its key, its peers, what they have used, receipts on both sides."""

    name, about = "state", "identity, peers, quotas, and receipts on both sides"

    def act(self, folder: Path, promise: Promise) -> None:
        home = folder / "home"
        prepare_home(places(str(home), {}, os.geteuid(), "/"))
        identity = keys.load_or_create(str(home / "identity.key"))
        promise(f"key {identity.id.hex()}")
        for number in range(6):
            peer = Peer(f"p{number}", bytes([number]) * 32, (), "2026-11-22T00:00:00Z")
            peers.update(str(home / "peers.toml"), lambda store, peer=peer: store.add(peer))  # type: ignore[misc]
            promise(f"peer p{number}")
        book = ledger.Ledger(str(home / "quota.json"))
        for number in range(1, 4):
            book.charge(PEER, "2026-11-22", Rights(), 100)
            book.save()
            promise(f"used {100 * number}")
        for number in range(3):
            writer = receipts.ReceiptWriter(str(home / "receipts"), f"{number:032x}")
            writer.add(b"a line\n" * 200)
            writer.finish(b"body", bytes(64), bytes(32))
            promise(f"receipt {number:032x}")
        inbox = Inbox.open(str(folder / "inbox"))
        for number in range(3):
            job = inbox.begin(PEER, bytes([number]) * 16, (), "rename")
            job.save_receipt(b"receipt %d" % number)
            promise(f"answer {number}")
            job.close()
        inbox.close()

    def check(self, folder: Path, promised: Set[str]) -> None:
        home = folder / "home"
        prepare_home(places(str(home), {}, os.geteuid(), "/"))
        identity = keys.load_or_create(str(home / "identity.key"))
        known = peers.load(str(home / "peers.toml"))
        names = {peer.name for peer in known.peers}
        used = ledger.Ledger(str(home / "quota.json")).used(PEER, "2026-11-22")[0]
        inbox = Inbox.open(str(folder / "inbox"))
        for one in sorted(promised):
            what, _, which = one.partition(" ")
            match what:
                case "key":
                    expect(identity.id.hex() == which, "another key")
                case "peer":
                    expect(which in names, f"lost: {one}")
                case "used":
                    expect(used >= int(which), f"lost: {one}")
                case "receipt":
                    text = (home / "receipts" / f"{which}.receipt").read_bytes()
                    expect(text.count(b"a line\n") == 200 and text.endswith(b"0\n"), f"not whole: {one}")
                case _:
                    number = int(which)
                    found = inbox.receipt(PEER, bytes([number]) * 16)
                    expect(found == b"receipt %d" % number, f"lost: {one}: {found!r}")
        inbox.close()
        for path in home.glob("receipts/*.receipt"):
            expect(path.read_bytes().count(b"a line\n") == 200, "a receipt that is not whole")


class Killed(CutScenario):
    """The process is killed, the machine goes on; somebody sends the same again, and only then is the power cut.

    What the killed one had published is there, and nobody has synced it: who calls it stored must do that first.
    """

    name, about = "after-a-kill", "the same again after a kill, at several moments, which finds what was never synced"
    moments: ClassVar[Sequence[int]] = range(6, 60, 6)
    tree: ClassVar[Tree] = {"a": b"first", "d": None, "d/b": b"second", "d/large": content(BLOCK + 3, 4)}

    def act(self, folder: Path, promise: Promise) -> None:
        for moment in self.moments:
            path = str(folder / f"inbox-{moment}")
            killed_after(moment, lambda path=path: Sending(Inbox.open(path), self.tree).run())  # type: ignore[misc]
            inbox = Inbox.open(path)
            again = Sending(inbox, self.tree)
            again.offer()
            for name, data in self.tree.items():
                if data is not None and again.result(name).startswith("have"):
                    promise(f"{moment} {name}")
            again.complete()
            for name in self.tree:
                promise(f"{moment} {name}")
            inbox.close()

    def check(self, folder: Path, promised: Set[str]) -> None:
        for moment in self.moments:
            path = folder / f"inbox-{moment}"
            found = snapshot(path) if path.exists() else {}
            for name, data in found.items():
                expect(data == self.tree.get(name, b"?"), f"not complete, or nobody sent it: {moment} {name}")
            for name in self.tree:
                expect(f"{moment} {name}" not in promised or name in found, f"lost: {moment} {name}")
        for moment in self.moments[-2:]:
            inbox = Inbox.open(str(folder / f"inbox-{moment}"))
            Sending(inbox, self.tree).run()
            inbox.close()
            expect(snapshot(folder / f"inbox-{moment}") == self.tree, f"in the end: {moment}")


class Several(CutScenario):
    """Two jobs at once: one sends small files while the other has a larger one under way."""

    name, about = "two-jobs", "two jobs of two peers that take turns"
    one: ClassVar[Tree] = {f"o{number}": b"%d" % number for number in range(SYNC_EACH + 2)}
    two: ClassVar[Tree] = {"big": content(2 * BLOCK + 1, 5)}

    def _jobs(self, inbox: Inbox) -> tuple[Sending, Sending]:
        return Sending(inbox, self.one, into=(b"x",)), Sending(inbox, self.two, peer=b"q" * 32, job=b"k" * 16)

    def act(self, folder: Path, promise: Promise) -> None:
        inbox = Inbox.open(str(folder / "inbox"))
        first, second = self._jobs(inbox)
        second.offer()
        path, want = second.wanted(large=True)[0]
        second.send_blocks(path, want, stop=2, sync_every=9)
        first.offer()
        first.send_small()
        promise("one")
        publish = partial(second.store.publish, want.number, digest_of_content(self.two["big"] or b""))
        block = blocks_of(self.two["big"] or b"")[2]
        expect(second.store.write_block(want.number, 2, [block], block_digest([block])), "written")
        second.outcomes["big"] = publish()
        promise("two")
        first.store.close()
        second.store.close()
        inbox.close()

    def check(self, folder: Path, promised: Set[str]) -> None:
        path = folder / "inbox"
        wanted: Tree = {"x": None, **{f"x/{name}": data for name, data in self.one.items()}, **self.two}
        found = snapshot(path) if path.exists() else {}
        expect(all(name in wanted and wanted[name] == data for name, data in found.items()), "not complete")
        expect("one" not in promised or all(f"x/{name}" in found for name in self.one), "lost: one")
        expect("two" not in promised or "big" in found, "lost: two")
        inbox = Inbox.open(str(path))
        for sending in self._jobs(inbox):
            sending.run()
        inbox.close()
        expect(snapshot(path) == wanted, f"in the end: {list(snapshot(path))}")


_ALL: Sequence[CutScenario] = (
    *(Fresh(), Resumed(), Overwritten(), BackedUp(), Renamed()),
    *(Delta(), Piped(), Links(), State(), Several(), Killed()),
)
#: Every scenario, by its name.
SCENARIOS: Mapping[str, CutScenario] = {scenario.name: scenario for scenario in _ALL}
