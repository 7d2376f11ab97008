"""Several at once at one receiver: the same name, a cancel at the last moment, a disk that comes and goes."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.bounded import bounded, until
from support.receiving_end import ReceivingEnd, small_buffers
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall

from ftx import limits
from ftx.core.peers import Peer
from ftx.disk import peers
from ftx.disk.keys import load_or_create
from ftx.disk.places import places, prepare_home
from ftx.wire.events import Done, Failed

MiB = limits.MiB


@pytest_twisted.async_yield_fixture
async def end(reactor: Any, short_tmp: Path) -> AsyncIterator[ReceivingEnd]:
    """A receiving end."""
    made = ReceivingEnd(reactor, short_tmp)
    yield made
    await made.stop()


def reached(end: ReceivingEnd, name: str) -> int:
    """How often jobs have called this."""
    return [call for call, _ in end.store.calls].count(name)


def pair(end: ReceivingEnd, home: str) -> None:
    """Make a home for another sender, and let each trust the other."""
    where = places(str(end.folder / home), {}, os.geteuid(), "/")
    prepare_home(where)
    other = load_or_create(where.key)
    peers.update(end.peers_file, lambda store: store.add(Peer(home, other.id, (), "2026-11-22", None)))
    peers.update(where.peers, lambda store: store.add(Peer("attic", end.identity.id, (), "2026-11-22", None)))


@bounded(60)
async def test_H128_one_name_from_two_peers_at_once(end: ReceivingEnd) -> None:
    """Both are on their way at the same time: both arrive, under two names, each with its own content."""
    contents = {}
    for home in ("one", "two"):
        pair(end, home)
        source = end.folder / f"of {home}"
        source.mkdir()
        contents[home] = os.urandom(2 * MiB + 5)
        (source / "same").write_bytes(contents[home])
    end.store.hold("publish")
    running = [
        Deferred.fromCoroutine(end.send(end.folder / f"of {home}" / "same", home=home)) for home in ("one", "two")
    ]
    await until(lambda: reached(end, "publish") == 2)
    end.store.release()
    results = await gatherResults(running, consumeErrors=True)
    assert all(isinstance(result, Done) for result in results), results
    stored = {path.name: path.read_bytes() for path in end.inbox_path.iterdir() if path.is_file()}
    assert sorted(stored) == ["same", "same (1)"]
    assert sorted(stored.values()) == sorted(contents.values())


@pytest.mark.parametrize("moment", ["before", "after"])
@bounded(60)
async def test_H131_a_cancel_while_publishing(moment: str, end: ReceivingEnd) -> None:
    """Whether the disk has done it or not when the answer comes: the file is whole or absent, never anything else."""
    source = end.folder / "source"
    content = os.urandom(2 * MiB + 5)
    source.write_bytes(content)
    end.store.hold("publish")
    sending = Deferred.fromCoroutine(end.send(source, settings={"retries": 0}))
    await until(lambda: reached(end, "publish") == 1)
    cancelling = Deferred.fromCoroutine(end.jobs.cancel(end.jobs.list("active")[0].job))
    end.store.release("storage-failed" if moment == "before" else "")
    info = await cancelling
    assert info.state == "failed"
    assert info.error is not None
    assert info.error.name == "cancelled"
    assert isinstance(await sending, Failed)
    there = end.inbox_path / "source"
    assert there.exists() == (moment == "after")
    assert not there.exists() or there.read_bytes() == content
    end.store.release()
    again = await end.send(source)
    assert isinstance(again, Done)
    assert again.files_identical == (moment == "after")
    assert there.read_bytes() == content
    assert sorted(path.name for path in end.inbox_path.iterdir() if path.is_file()) == ["source"]


@pytest.mark.parametrize("seed", range(3))
@bounded(60)
async def test_H134_a_disk_that_comes_and_goes(seed: int, end: ReceivingEnd) -> None:
    """The disk stops and goes on at moments drawn at random, with small buffers between: nothing is lost or doubled."""
    draw = random.Random(seed)
    small_buffers(end)
    source = end.folder / "source"
    source.mkdir()
    contents = {f"{number}": draw.randbytes(draw.choice([0, 100, 70_000, MiB, 3 * MiB + 1])) for number in range(12)}
    for name, content in contents.items():
        (source / name).write_bytes(content)
    pauses = 0

    def toggle() -> None:
        nonlocal pauses
        pauses += 1
        end.store.release()
        if pauses % 2:
            end.store.hold(*draw.sample(["write_block", "store_whole", "sync", "publish", "look_up"], 2))

    toggling = LoopingCall(toggle)
    toggling.start(0.01)
    try:
        sending = Deferred.fromCoroutine(end.send(source))
        await until(lambda: bool(sending.called), seconds=40)
        result = await sending
    finally:
        toggling.stop()
        end.store.release()
    assert isinstance(result, Done), result
    assert {path.name: path.read_bytes() for path in (end.inbox_path / "source").iterdir()} == contents
    assert result.bytes_wire == sum(map(len, contents.values()))
    assert pauses
