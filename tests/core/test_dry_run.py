"""Dry runs: a job of questions and answers, in which no content travels and nothing is claimed to be stored."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.memory_disk import MemoryDisk, items
from support.pair import Pair, offer

from ftx import limits
from ftx.core.sender import Sender
from ftx.errors import ProtocolError
from ftx.wire.messages import DRY_RUN, FEATURES, PUSH, Accept, Needs, Results, WantAll, Wanted

TREE: dict[bytes, Any] = {b"t": {b"a": b"content", b"big": bytes(3 * limits.BLOCK), b"d": {b"x": b"1"}, b"e": {}}}
DRY = msgspec.structs.replace(offer(), kind=DRY_RUN)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_travels_and_both_agree(seed: int) -> None:
    """Files are wanted or there; the receipt counts nothing as stored; the disk is as before."""
    disk = MemoryDisk()
    pair = Pair(items(TREE), disk, seed=seed, job_offer=DRY).run()
    assert pair.complete, pair.explain()
    assert [entry.line for entry in pair.client.resolved] == [entry.line for entry in pair.server.resolved]
    assert {entry.status for entry in pair.client.resolved} == {"wanted"}
    assert pair.client.reads == []
    assert pair.client.receipt is not None
    assert (pair.client.receipt.files, pair.client.receipt.skipped, pair.client.receipt.bytes) == (0, 3, 0)
    assert (disk.files, disk.partials) == ({}, {})


def sender(kind: int) -> Sender:
    machine = Sender(msgspec.structs.replace(offer(), kind=kind), features=frozenset(FEATURES))
    machine.receive(Accept(machine.offer.job, 2048, 4096, 2, 0))
    machine.add_file((b"a",), 1, 1, 0o644, None)
    machine.end_manifest()
    return machine


def test_answers_of_the_other_kind_of_job_end_the_session() -> None:
    """A push has no wanted results, a dry run no wants."""
    with pytest.raises(ProtocolError):
        sender(PUSH).receive(Results([Wanted(0)]))
    with pytest.raises(ProtocolError):
        sender(DRY_RUN).receive(Needs([WantAll(0)]))


def test_a_receiver_that_knows_none_refuses_the_offer() -> None:
    """It is of no kind that was agreed."""
    pair = Pair(items(TREE), MemoryDisk(), job_offer=DRY, features=("repair",)).run()
    assert pair.server.error is not None
    assert pair.server.error.name == "bad-message"
