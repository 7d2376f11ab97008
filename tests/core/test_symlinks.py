"""Symbolic links in a job: last of all, answered without content, and only where both sides and the rules agree."""

from __future__ import annotations

from typing import Any

import pytest
from support.memory_disk import Link, MemoryDisk, items
from support.pair import Pair

from ftx import limits
from ftx.core.blocks import content_digest
from ftx.core.links import in_force
from ftx.core.receiver import Receiver
from ftx.errors import KINDS, ProtocolError
from ftx.wire.messages import (
    FEATURES,
    PULL,
    PUSH,
    FileEntry,
    FolderEnd,
    FolderEntry,
    Manifest,
    Offer,
    SymlinkEntry,
)

BIG = bytes(range(256)) * (3 * limits.BLOCK // 256 + 1)
TREE: dict[bytes, Any] = {b"t": {b"a": b"content", b"big": BIG, b"d": {b"x": b"1"}, b"empty": {}}}
LINKS = [Link((b"t", b"b"), b"a"), Link((b"t", b"d", b"up"), b"../a"), Link((b"t", b"empty", b"l"), b"nowhere")]


def agreed(pair: Pair) -> None:
    """Both ends came to the same."""
    assert pair.complete, pair.explain()
    assert pair.server.machine is not None
    assert [entry.line for entry in pair.client.resolved] == [entry.line for entry in pair.server.resolved]
    assert pair.client.receipt is not None
    assert pair.client.receipt.transcript == pair.server.machine.transcript.digest()
    assert pair.server.machine.verified == pair.server.machine.durable == pair.client.receipt.bytes


@pytest.mark.parametrize("seed", range(8))
def test_links_are_made_when_all_else_is_done(seed: int) -> None:
    """Whatever comes back first: every file is published and every folder finished before the first link is made."""
    disk = MemoryDisk()
    pair = Pair([*items(TREE), *LINKS], disk, seed=seed).run()
    agreed(pair)
    assert disk.links == {link.path: link.target for link in LINKS}
    kinds = [kind for kind, _ in disk.trail]
    assert kinds.index("link") == len(kinds) - len(LINKS)
    by_path = {entry.path: entry for entry in pair.client.resolved}
    assert by_path[b"t", b"b"].digest == content_digest(b"a")
    assert pair.client.receipt is not None
    assert (pair.client.receipt.files, pair.client.receipt.folders) == (6, 3)
    again = Pair([*items(TREE), *LINKS], disk, seed=seed).run()
    agreed(again)
    assert {entry.status for entry in again.client.resolved if not entry.folder} == {"identical"}


def test_a_link_that_fails_fails_alone() -> None:
    """Of a taken name, of a disk that fails; and a failed file does not hold the links up."""
    disk = MemoryDisk(faults={(b"t", b"b"): "link storage-failed", (b"t", b"a"): "store storage-failed"})
    disk.files[b"t", b"d", b"up"] = b"mine"
    pair = Pair([*items(TREE), *LINKS], disk).run()
    agreed(pair)
    failed = {entry.path: entry.error for entry in pair.client.resolved if entry.status == "failed"}
    assert failed == {
        (b"t", b"a"): KINDS["storage-failed"].number,
        (b"t", b"b"): KINDS["storage-failed"].number,
        (b"t", b"d", b"up"): KINDS["exists"].number,
    }
    assert list(disk.links) == [(b"t", b"empty", b"l")]


def test_more_links_than_the_windows() -> None:
    """They wait for each other, not for ever."""
    many = [Link((b"t", b"%06d" % number), b"a") for number in range(limits.WINDOW_UNACKNOWLEDGED + 700)]
    disk = MemoryDisk()
    pair = Pair([*items({b"t": {b"a": b"1"}}), *many], disk).run()
    agreed(pair)
    assert len(disk.links) == len(many)


def receiver(features: frozenset[str] = frozenset(FEATURES), **how: Any) -> Receiver:
    return Receiver(Offer(bytes(16), 0, [], None, None, None, None), 0.0, features=features, **how)


def test_a_receiver_that_lets_none_in_gets_none() -> None:
    """Nor one that pulls, and has asked for none, or for another tree."""
    manifest = Manifest([SymlinkEntry(0, [b"t", b"b"], b"a", 0)], True)
    unasked = in_force(frozenset(FEATURES), PULL, False)
    for refusing in (receiver(frozenset({"repair"})), receiver(unasked, tops=[b"t"])):
        with pytest.raises(ProtocolError) as caught:
            refusing.receive(manifest, 0.0)
        assert caught.value.name == "bad-message"


def test_a_link_that_leads_out_is_refused_by_the_receiver_too() -> None:
    """A sender that does not keep to the rule gets `bad-name`, and no link is made."""
    machine = receiver()
    entries = [SymlinkEntry(0, [b"t", b"b"], b"/etc/passwd", 0), SymlinkEntry(1, [b"t", b"c"], b"../x", 0)]
    effects = machine.receive(Manifest(entries, True), 0.0)
    assert [(getattr(one, "status", None), getattr(one, "error", 0)) for one in effects] == [
        ("failed", KINDS["bad-name"].number)
    ] * 2


def test_nothing_follows_a_link() -> None:
    """A file behind a link ends the session: it could be meant to go through it."""
    machine = receiver()
    entries = [FolderEntry(0, [b"t"]), FolderEnd(0, 0o755, 0), SymlinkEntry(1, [b"t", b"b"], b"a", 0)]
    machine.receive(Manifest(entries, False), 0.0)
    with pytest.raises(ProtocolError):
        machine.receive(Manifest([FileEntry(2, [b"u"], 1, 0, 0o644)], True), 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_links_that_were_asked_for_are_pulled(seed: int) -> None:
    """Whatever is pushed: in a pull the request decides, where both ends know of it."""
    disk = MemoryDisk()
    agreed(Pair([*items(TREE), *LINKS], disk, seed=seed, pull=[b"t"], links=True).run())
    assert disk.links == {link.path: link.target for link in LINKS}
    machine = receiver(in_force(frozenset(FEATURES), PULL, True), tops=[b"other"])
    with pytest.raises(ProtocolError):
        machine.receive(Manifest([SymlinkEntry(0, [b"t", b"b"], b"a", 0)], True), 0.0)


def test_which_links_are_in_force() -> None:
    """A push has what both hellos listed for it; a pull what was asked for, where both know that it can be."""
    both = frozenset({"symlinks", "links"})
    assert "symlinks" in in_force(both, PUSH, False)
    assert "symlinks" not in in_force(frozenset({"links"}), PUSH, True)
    assert "symlinks" in in_force(frozenset({"links"}), PULL, True)
    assert "symlinks" not in in_force(both, PULL, False)
    assert "symlinks" not in in_force(frozenset({"symlinks"}), PULL, True)
