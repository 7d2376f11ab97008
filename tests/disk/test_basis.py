"""Older copies as a basis: for whom, from where, and that nothing wrong can come of them."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.inboxes import MTIME, PEER, Sending, blocks_of, content, digest_of_content, snapshot

from ftx.core.blocks import block_digest
from ftx.disk.basis import Basis
from ftx.disk.inbox import Inbox
from ftx.disk.store import Want
from ftx.errors import FtxError
from ftx.limits import BLOCK, DIGEST

OLD = content(4 * BLOCK + 99)
NEW = OLD[:BLOCK] + b"!" + OLD[BLOCK + 1 :]
LATER = MTIME + 1_000_000_000


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    """An inbox in `tmp_path/inbox`."""
    held = Inbox.open(str(tmp_path / "inbox"))
    yield held
    held.close()


def digests(data: bytes) -> list[bytes]:
    """The digests of its blocks."""
    return [block_digest([block]) for block in blocks_of(data)]


class Newer(Sending):
    """An offer of a newer version of the one file `f`, sent with the help of the basis."""

    def __init__(self, inbox: Inbox, data: bytes = NEW, **how: object) -> None:
        super().__init__(inbox, {"f": data}, **{"mtime_ns": LATER} | how)  # type: ignore[arg-type]
        self.data = data
        answer = self.offer()["f"]
        assert isinstance(answer, Want)
        self.want = answer
        self.copied: list[int] = []

    def basis(self) -> list[bytes]:
        """The digests on offer."""
        joined = self.store.basis(self.want.number)
        return [joined[start : start + DIGEST] for start in range(0, len(joined), DIGEST)]

    def finish(self, meanwhile: Callable[[], object] = lambda: None) -> str:
        """Copy what is on offer, send the rest, publish; what became of it."""
        offered = self.basis()
        meanwhile()
        for index, block in enumerate(blocks_of(self.data)):
            digest = block_digest([block])
            same = index < len(offered) and offered[index] == digest
            if same and self.store.copy_block(self.want.number, index, index * BLOCK, digest):
                self.copied.append(index)
                continue
            assert self.store.write_block(self.want.number, index, [block], digest)
        self.outcomes["f"] = self.store.publish(self.want.number, digest_of_content(self.data))
        self.store.close()
        return self.result("f")


def test_blocks_of_the_older_version_are_taken_over(inbox: Inbox, tmp_path: Path) -> None:
    """All but the changed one; the older version stays as it is."""
    Sending(inbox, {"f": OLD}).run()
    newer = Newer(inbox)
    assert newer.want.basis
    assert newer.finish() == "stored f (1)"
    assert newer.copied == [0, 2, 3, 4]
    assert snapshot(tmp_path / "inbox") == {"f": OLD, "f (1)": NEW}


@pytest.mark.parametrize("size", [BLOCK + 1, 3 * BLOCK, 6 * BLOCK + 1])
def test_no_more_is_offered_than_either_has(inbox: Inbox, size: int) -> None:
    """Longer or shorter than what is there."""
    Sending(inbox, {"f": OLD}).run()
    newer = Newer(inbox, content(size))
    assert len(newer.basis()) == min(len(digests(OLD)), len(digests(content(size))))
    newer.store.close()


def test_the_latest_version_is_the_basis(inbox: Inbox) -> None:
    """Of several the one that was stored last and is still there."""
    Sending(inbox, {"f": OLD}).run()
    Sending(inbox, {"f": NEW}, mtime_ns=MTIME + 5).run()
    newer = Newer(inbox, NEW + b"more")
    assert newer.basis()[:4] == digests(NEW)[:4]
    newer.store.close()


def test_holes_of_the_older_version_stay_holes(inbox: Inbox, tmp_path: Path) -> None:
    """A block that is taken over takes no more place than its pages that are not zeros, however the kernel copies."""
    old = bytes(2 * BLOCK) + content(8192) + bytes(2 * BLOCK - 8192) + b"end"
    new = old[:-3] + b"END"
    Sending(inbox, {"f": old}).run()
    newer = Newer(inbox, new)
    assert newer.finish() == "stored f (1)"
    assert 2 in newer.copied
    found = tmp_path / "inbox" / "f (1)"
    assert found.read_bytes() == new
    assert found.stat().st_blocks * 512 <= 64 << 10


def test_nobody_has_a_basis_in_what_others_stored(inbox: Inbox, tmp_path: Path) -> None:
    """Not another peer, not what was put there by hand, not what was edited there; my own key may read it all."""
    root = tmp_path / "inbox"
    Sending(inbox, {"f": OLD}, peer=b"q" * 32).run()
    stranger = Newer(inbox)
    assert not stranger.want.basis
    stranger.store.close()
    (root / "f").write_bytes(OLD[:-1] + b"?")
    for peer in (PEER, b"q" * 32):
        job = Newer(inbox, peer=peer)
        assert not job.want.basis
        assert job.basis() == []
        assert not job.store.copy_block(job.want.number, 0, 0, digests(OLD)[0])
        job.store.close()
    own = Newer(inbox, reads=True)
    assert own.want.basis
    assert own.finish() == "stored f (1)"
    assert own.copied == [0, 2, 3]


def test_a_basis_that_changes_does_no_harm(inbox: Inbox, tmp_path: Path) -> None:
    """What is copied is verified where it is; what does not verify is not known."""
    Sending(inbox, {"f": OLD}).run()
    path = tmp_path / "inbox" / "f"

    def spoil() -> None:
        with path.open("r+b") as file:
            file.seek(2 * BLOCK)
            file.write(b"spoiled")
            file.truncate(3 * BLOCK + 5)

    newer = Newer(inbox)
    assert newer.finish(spoil) == "stored f (1)"
    assert newer.copied == [0]
    assert (tmp_path / "inbox" / "f (1)").read_bytes() == NEW


def test_what_an_interrupted_transfer_left_is_a_basis(inbox: Inbox, tmp_path: Path) -> None:
    """The source has changed: the durable blocks are taken over, and what they were in goes when it has served."""
    first = Sending(inbox, {"f": OLD})
    answer = first.offer()["f"]
    assert isinstance(answer, Want)
    first.send_blocks((b"f",), answer, stop=3)
    first.store.sync(answer.number)
    first.store.close()
    staging = tmp_path / "inbox" / ".ftx" / "partial"
    assert len(os.listdir(staging)) == 2
    newer = Newer(inbox)
    assert newer.want.basis
    assert newer.basis() == [*digests(OLD)[:3], bytes(DIGEST), bytes(DIGEST)]
    assert newer.finish() == "stored f"
    assert newer.copied == [0, 2]
    assert os.listdir(staging) == []
    assert snapshot(tmp_path / "inbox") == {"f": NEW}
    # and nobody else's
    assert not Newer(inbox, peer=b"q" * 32).want.basis


def test_small_files_have_no_basis(inbox: Inbox) -> None:
    """One block travels whole."""
    Sending(inbox, {"f": b"small"}).run()
    newer = Newer(inbox, b"other")
    assert not newer.want.basis
    newer.store.close()


def test_where_blocks_can_be_shared(inbox: Inbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Few file systems can: one that does is played by a copy. Nothing of what is shared is written once more."""
    shared: list[int] = []

    def share(target: int, request: int, argument: bytes) -> int:
        assert request == 0x4020940D  # FICLONERANGE
        source, offset, length, start = struct.unpack("=qQQQ", argument)
        os.pwrite(target, os.pread(source, length, offset), start)
        shared.append(start // BLOCK)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", share)
    Sending(inbox, {"f": OLD}).run()
    newer = Newer(inbox)
    assert newer.finish() == "stored f (1)"
    assert newer.copied == shared == [0, 2, 3, 4]
    assert (tmp_path / "inbox" / "f (1)").read_bytes() == NEW


@pytest.mark.parametrize("shares", [False, True])
def test_a_block_that_cannot_be_read_travels(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shares: bool
) -> None:
    """The disk has lost one of the older copy: that ends nothing, where blocks are shared neither."""
    Sending(inbox, {"f": OLD}).run()
    newer = Newer(inbox)
    pread = os.pread

    def failing(fd: int, length: int, offset: int) -> bytes:
        if (length, offset) == (BLOCK, 3 * BLOCK):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(fd, length, offset)

    def share(target: int, request: int, argument: bytes) -> int:
        source, offset, length, start = struct.unpack("=qQQQ", argument)
        os.pwrite(target, pread(source, length, offset), start)
        return 0

    def spoil() -> None:
        monkeypatch.setattr(os, "pread", failing)
        if shares:
            monkeypatch.setattr(fcntl, "ioctl", share)

    assert newer.finish(spoil) == "stored f (1)"
    assert newer.copied == [0, 2, 4]
    assert (tmp_path / "inbox" / "f (1)").read_bytes() == NEW


def test_reading_a_basis_ends_when_nobody_waits_for_it(inbox: Inbox) -> None:
    """A job whose connection is lost does not go on hashing."""
    Sending(inbox, {"f": OLD}).run()
    newer = Newer(inbox)
    newer.store.stop_looking()
    with pytest.raises(FtxError) as caught:
        newer.basis()
    assert caught.value.name == "superseded"
    newer.store.close()


def test_known_digests_are_handed_over_and_let_go_of(tmp_path: Path) -> None:
    """They spare the first reading; whoever asks once more finds that nobody has kept them."""
    (tmp_path / "f").write_bytes(OLD)
    known = b"".join(digests(OLD))[::-1]
    basis = Basis(os.open(tmp_path / "f", os.O_RDONLY), len(OLD), known)
    assert basis.digests(2 * BLOCK, lambda: None) == known[: 2 * DIGEST]
    assert basis.digests(2 * BLOCK, lambda: None) == b"".join(digests(OLD))[: 2 * DIGEST]
    basis.close()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_left_over_without_a_journal_is_a_basis(inbox: Inbox, tmp_path: Path, damaged: bool) -> None:
    """The journal is gone, or says nothing: what is staged is read instead, and what was never written is not."""
    first = Sending(inbox, {"f": OLD})
    answer = first.offer()["f"]
    assert isinstance(answer, Want)
    first.send_blocks((b"f",), answer, stop=3)
    first.store.sync(answer.number)
    first.store.close()
    staging = tmp_path / "inbox" / ".ftx" / "partial"
    (journal,) = staging.glob("*.journal")
    if damaged:
        journal.write_bytes(os.urandom(journal.stat().st_size))
    else:
        journal.unlink()
    again = Newer(inbox, OLD, mtime_ns=MTIME)
    assert again.want.held is None
    assert again.want.basis
    assert again.basis()[:3] == digests(OLD)[:3]
    assert set(again.basis()[3:]) == {bytes(DIGEST)}
    assert again.finish() == "stored f"
    assert again.copied == [0, 1, 2]
    assert os.listdir(staging) == []
    assert snapshot(tmp_path / "inbox") == {"f": OLD}


def test_no_basis_in_a_left_over_of_somebody_else(inbox: Inbox, tmp_path: Path) -> None:
    """Another key has another partial; one with two names is nobody's."""
    first = Sending(inbox, {"f": OLD})
    answer = first.offer()["f"]
    assert isinstance(answer, Want)
    first.send_blocks((b"f",), answer, stop=3)
    first.store.sync(answer.number)
    first.store.close()
    staging = tmp_path / "inbox" / ".ftx" / "partial"
    (journal,) = staging.glob("*.journal")
    journal.unlink()
    stranger = Newer(inbox, OLD, mtime_ns=MTIME, peer=b"q" * 32)
    assert not stranger.want.basis
    stranger.store.close()
    os.link(staging / journal.name.removesuffix(".journal"), tmp_path / "other")
    again = Newer(inbox, OLD, mtime_ns=MTIME)
    assert again.basis() == []
    assert again.finish() == "stored f"
