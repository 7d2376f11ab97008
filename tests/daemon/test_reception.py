"""The door: who has to make room when too many strangers stand in it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.bounded import bounded, until
from support.hostile import Hostile
from support.receiving_end import ReceivingEnd
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from ftx import limits
from ftx.disk.keys import load_or_create
from ftx.wire.events import Done
from ftx.wire.messages import Hello


@pytest_twisted.async_yield_fixture
async def end(reactor: Any, short_tmp: Path) -> AsyncIterator[ReceivingEnd]:
    """A receiving end."""
    made = ReceivingEnd(reactor, short_tmp)
    yield made
    await made.stop()


@pytest.fixture
def crowd() -> Iterator[contextlib.ExitStack]:
    """Sockets that are closed in the end."""
    with contextlib.ExitStack() as stack:
        yield stack


async def arrive(end: ReceivingEnd, crowd: contextlib.ExitStack, count: int, say: bytes = b"") -> list[socket.socket]:
    """So many more connections, each accepted before the next; each says this."""
    made = []
    for _ in range(count):
        before = len(end.connections)
        one = crowd.enter_context(socket.create_connection(("127.0.0.1", end.port), 5))
        one.setblocking(False)
        one.sendall(say)
        await until(lambda before=before: len(end.connections) > before, interval=0)  # type: ignore[misc]
        made.append(one)
    return made


async def gone(one: socket.socket) -> None:
    """Wait until the other end has reset this one."""

    def closed() -> bool:
        try:
            return one.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    await until(closed)


@pytest.mark.case("B26")
@bounded(30)
async def test_who_said_nothing_goes_first(end: ReceivingEnd, crowd: contextlib.ExitStack) -> None:
    """The oldest connection stays when it has said a byte and younger ones have not; else the oldest goes."""
    [talker] = await arrive(end, crowd, 1, b"\x16")
    await until(lambda: end.connections[0].spoke)
    silent = await arrive(end, crowd, limits.UNSIGNED_TOTAL - 1)
    assert end.reception.connections == (limits.UNSIGNED_TOTAL, 0)
    await arrive(end, crowd, 2)
    await gone(silent[0])
    await gone(silent[1])
    assert not end.connections[0].over
    assert not end.connections[3].over
    with pytest.raises(BlockingIOError):
        talker.recv(1)
    assert end.reception.connections == (limits.UNSIGNED_TOTAL, 0)


@bounded(30)
async def test_when_all_have_spoken(end: ReceivingEnd, crowd: contextlib.ExitStack) -> None:
    """Who has said something, and no more, goes before who has proved a key."""

    def shake_hands() -> Any:
        return crowd.enter_context(end.hostile())

    await deferToThread(shake_hands)
    await until(lambda: end.connections[0].peer is not None)
    talkers = await arrive(end, crowd, limits.UNSIGNED_TOTAL - 1, b"\x16")
    await until(lambda: all(connection.spoke for connection in end.connections))
    await arrive(end, crowd, 1, b"\x16")
    await gone(talkers[0])
    assert not end.connections[0].over


@pytest.mark.case("B26")
@bounded(30)
async def test_a_crowd_locks_nobody_out(end: ReceivingEnd, crowd: contextlib.ExitStack) -> None:
    """With every place taken by somebody silent, an honest sender gets in, and so does the next."""
    await arrive(end, crowd, limits.UNSIGNED_TOTAL)
    (end.folder / "f").write_bytes(b"content")
    for into in ("one", "two"):
        last = await end.send(end.folder / "f", into=into)
        assert isinstance(last, Done)


@pytest.mark.case("B48")
@bounded(30)
async def test_refusals_come_later_and_later(reactor: Any, short_tmp: Path) -> None:
    """The first five of a source at once, the next one only after its time; who is known is not kept waiting."""
    clock = Clock()
    end = ReceivingEnd(reactor, short_tmp, clock=clock)
    stranger = load_or_create(str(short_tmp / "stranger.key"))

    def knock() -> int | None:
        with Hostile(end.port, stranger) as there:
            there.send(Hello("ftx", 1, 1, [], "x", "x", False))
            return there.end()

    def greet() -> bool:
        with end.hostile() as there:
            return there.greet().signed_in

    try:
        for _ in range(limits.PENALTY_FREE):
            assert await deferToThread(knock) == 501
        late = deferToThread(knock)
        await until(lambda: end.reception.held_back == 1)
        assert await deferToThread(greet)
        assert end.reception.held_back == 1
        clock.advance(limits.PENALTY_FIRST)
        assert await late == 501
        await until(lambda: end.reception.held_back == 0)
    finally:
        await end.stop()
