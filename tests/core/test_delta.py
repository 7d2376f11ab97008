"""Delta: of a large file that has changed only the blocks travel that are not in the older copy."""

from __future__ import annotations

import random
from typing import Any

import pytest
from support.memory_disk import MTIME, File, MemoryDisk
from support.pair import Pair, offer

from ftx import limits
from ftx.core.receiver import Receiver
from ftx.core.sender import Sender
from ftx.errors import ProtocolError
from ftx.wire.frames import Encoding, Piece, copy_frame
from ftx.wire.messages import Accept, Basis, EntryEnd, Failed, FileEntry, Manifest, Needs, Results, WantAll

MIB = limits.BLOCK
OLD = random.Random(11).randbytes(6 * MIB + 777)


def changed(old: bytes, *blocks: int, more: bytes = b"") -> bytes:
    """`old` with one byte different in each of these blocks, and `more` behind it."""
    new = bytearray(old)
    for block in blocks:
        new[block * MIB + 5] ^= 1
    return bytes(new) + more


def send(disk: MemoryDisk, content: bytes, mtime: int, **how: Any) -> Pair:
    """Send one file, and see it stored."""
    pair = Pair([File((b"f",), content, mtime)], disk, **how).run()
    assert pair.complete, pair.explain()
    assert [entry.status for entry in pair.client.resolved] == ["stored"]
    assert content in disk.files.values()
    return pair


def received(pair: Pair) -> int:
    """Content bytes that travelled."""
    assert pair.server.machine is not None
    return pair.server.machine.received


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("new", "travels"),
    [
        (changed(OLD, 2), MIB),
        (changed(OLD, 0, 5), 2 * MIB),
        (changed(OLD, more=b"x"), 778),
        (OLD[: 4 * MIB], 0),
        (OLD + OLD[: 3 * MIB], MIB * 3 + 777),
        (changed(OLD), 0),
    ],
)
def test_only_different_blocks_travel(new: bytes, travels: int, seed: int) -> None:
    """Changed, grown, cut short, or touched only."""
    disk = MemoryDisk()
    send(disk, OLD, MTIME)
    pair = send(disk, new, MTIME + 1, seed=seed, cut="random")
    assert received(pair) == travels, pair.explain()
    assert OLD in disk.files.values()


@pytest.mark.parametrize("seed", range(6))
def test_an_older_copy_that_changes_meanwhile_does_no_harm(seed: int) -> None:
    """What was to be copied does not verify, is asked for again, and travels."""
    disk = MemoryDisk()
    send(disk, OLD, MTIME)
    pair = send(disk, changed(OLD, 3), MTIME + 1, seed=seed, cut="random", spoil=True)
    assert received(pair) == 2 * MIB, pair.explain()


@pytest.mark.parametrize("features", [(), ("delta",), ("repair",), ("repair", "checksum", "zstd")])
def test_without_the_features_everything_travels(features: tuple[str, ...]) -> None:
    """What cannot be asked for again is not offered."""
    disk = MemoryDisk()
    send(disk, OLD, MTIME)
    assert received(send(disk, changed(OLD, 2), MTIME + 1, features=features)) == len(OLD)


def _offered(blocks: int) -> Sender:
    machine = Sender(offer(), features=frozenset({"delta", "repair"}))
    machine.receive(Accept(machine.offer.job, 2048, 4096, 2, 0))
    machine.add_file((b"f",), blocks * MIB, 0, 0o644, None)
    machine.add_file((b"g",), 1, 0, 0o644, None)
    machine.end_manifest()
    return machine


@pytest.mark.parametrize(
    "said",
    [
        [Basis(0, 1, bytes(32))],
        [Basis(0, 0, bytes(33))],
        [Basis(0, 0, bytes(96)), Basis(0, 3, bytes(32))],
        [Basis(0, 0, bytes(32)), Basis(0, 0, bytes(32))],
        [Basis(1, 0, bytes(32))],
        [Basis(9, 0, bytes(32))],
        [Needs([WantAll(0)]), Basis(0, 0, bytes(32))],
    ],
)
def test_what_cannot_be_a_basis(said: list[Any]) -> None:
    """A gap, half a digest, crumbs, a second beginning, a file of one block, none, one that was answered."""
    machine = _offered(3)
    with pytest.raises(ProtocolError):
        [machine.receive(message) for message in said]


def test_crumbs_end_the_session() -> None:
    """Only the last message of a file may be short, so that there cannot be a message for each block."""
    machine = _offered(3000)
    machine.receive(Basis(0, 0, bytes(limits.BASIS_DIGESTS * limits.DIGEST)))
    machine.receive(Basis(0, limits.BASIS_DIGESTS, bytes(limits.DIGEST)))
    with pytest.raises(ProtocolError, match="crumbs"):
        machine.receive(Basis(0, limits.BASIS_DIGESTS + 1, bytes(limits.DIGEST)))


def test_what_has_a_result_makes_room() -> None:
    """The bound is over the files without a result."""
    machine = Sender(offer(), features=frozenset({"delta", "repair"}))
    machine.receive(Accept(machine.offer.job, 2048, 4096, 2, 0))
    for name in (b"f", b"g"):
        machine.add_file((name,), limits.BASIS_BLOCKS * MIB, 0, 0o644, None)
    machine.end_manifest()
    digests = bytes(limits.BASIS_DIGESTS * limits.DIGEST)
    for first in range(0, limits.BASIS_BLOCKS, limits.BASIS_DIGESTS):
        machine.receive(Basis(0, first, digests))
    machine.receive(Results([Failed(0, 607)]))
    for first in range(0, limits.BASIS_BLOCKS, limits.BASIS_DIGESTS):
        machine.receive(Basis(1, first, digests))


def test_no_more_is_remembered_than_there_may_be() -> None:
    """A receiver that offers and offers ends the session, not the memory of the sender."""
    machine = _offered(limits.BASIS_BLOCKS + 2)
    digests = bytes(limits.BASIS_DIGESTS * limits.DIGEST)
    for first in range(0, limits.BASIS_BLOCKS, limits.BASIS_DIGESTS):
        machine.receive(Basis(0, first, digests))
    with pytest.raises(ProtocolError, match="more digests"):
        machine.receive(Basis(0, limits.BASIS_BLOCKS, digests))


def _receiving(basis: bytes, features: frozenset[str] = frozenset({"delta", "repair"})) -> Receiver:
    machine = Receiver(offer(), 0.0, features=features)
    machine.receive(Manifest([FileEntry(0, [b"f"], 2 * MIB, 0, 0)], True), 0.0)
    machine.want(0, None, 0.0, basis)
    return machine


def _copy(block: int, offset: int, length: int) -> Piece:
    body = copy_frame(0, block, offset, length, bytes(32))[19:-32]
    return Piece(0, block, Encoding.COPY, [memoryview(body)], 16, bytes(32))


@pytest.mark.parametrize(
    "piece",
    [_copy(0, 2 * MIB, MIB), _copy(0, 5, MIB), _copy(0, 0, MIB - 1), _copy(0, 2**64 - MIB, MIB), _copy(2, 0, MIB)],
)
def test_what_is_not_on_offer_cannot_be_copied(piece: Piece) -> None:
    """Behind the older copy, between its blocks, another length, far away, or a block that the file has not."""
    with pytest.raises(ProtocolError):
        _receiving(bytes(64)).piece(piece)


def test_nothing_can_be_copied_of_nothing() -> None:
    """Without a basis no copy; and what failed may still be copied until the sender knows, to no effect."""
    with pytest.raises(ProtocolError):
        _receiving(b"").piece(_copy(0, 0, MIB))
    machine = _receiving(bytes(64))
    machine.failed(0, "no-space")
    assert machine.piece(_copy(0, 0, MIB)) == []
    assert machine.piece(_copy(1, 0, MIB)) == []
    assert machine.receive(EntryEnd(0, 2 * MIB, bytes(32)), 0.0) == []
