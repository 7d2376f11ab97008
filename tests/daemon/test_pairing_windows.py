"""Pairing windows by a clock of the test's own: how long they are open, and what is told of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import pytest_twisted
from support.bounded import bounded
from twisted.internet.task import Clock

from ftx import limits
from ftx.core.peers import Peer
from ftx.daemon.pairing import Pairings
from ftx.disk.peers import Watched, load, update
from ftx.errors import FtxError
from ftx.net.pairing import Showing
from ftx.net.worker import Worker
from ftx.wire.events import Event, Pairing
from ftx.wire.messages import PairStart


@attrs.define(eq=False)
class Daemon:
    """What of a daemon a window needs."""

    clock: Clock
    watched: Watched
    windows: Pairings
    events: list[Event]

    def states(self) -> list[str]:
        """What was told, and forget it."""
        found = [one.state for one in self.events if isinstance(one, Pairing)]
        self.events.clear()
        return found


@pytest_twisted.async_yield_fixture
async def daemon(reactor: Any, tmp_path: Path) -> AsyncIterator[Daemon]:
    """One without a network."""
    worker, clock, events = Worker(reactor, 1), Clock(), []  # type: ignore[var-annotated]
    worker.start()
    tmp_path.chmod(0o700)
    watched = Watched(str(tmp_path / "peers.toml"))
    made = Daemon(clock, watched, Pairings(clock, worker, b"S" * 32, lambda: "attic", watched, events.append), events)
    yield made
    await made.windows.stop()
    await worker.stop()
    assert not clock.getDelayedCalls()


@bounded(20)
async def test_a_window_closes_in_time(daemon: Daemon) -> None:
    """After the seconds it was opened for, and not before."""
    await daemon.windows.open(120.0, 2, "", True)
    daemon.clock.advance(119.9)
    assert daemon.states() == ["opened"]
    daemon.clock.advance(0.1)
    assert daemon.states() == ["closed"]
    assert daemon.windows.close() is False
    assert not daemon.clock.getDelayedCalls()


@bounded(20)
async def test_every_window_has_a_code_of_its_own(daemon: Daemon) -> None:
    """One at a time: a new one closes the one before."""
    codes = {await daemon.windows.open(120.0, 4, "", True) for _ in range(20)}
    assert len(codes) == 20
    assert daemon.states() == ["opened", *["closed", "opened"] * 19]
    assert daemon.windows.close() is True
    assert daemon.states() == ["closed"]


@bounded(20)
async def test_a_name_is_checked_when_the_window_opens(daemon: Daemon) -> None:
    """One that is taken or none is told to who can still choose another."""
    update(daemon.watched.path, lambda store: store.add(Peer("desk", b"D" * 32)))
    for name, error in (("desk", "name-taken"), ("a/b", "usage")):
        with pytest.raises(FtxError) as caught:
            await daemon.windows.open(120.0, 2, name, True)
        assert caught.value.name == error
    assert daemon.states() == []
    assert [peer.name for peer in load(daemon.watched.path).peers] == ["desk"]


def test_an_attempt_takes_only_so_long() -> None:
    """Who stands there waits for the person who types; from the first message on there are PAIRING_ATTEMPT seconds."""
    clock = Clock()
    clock.advance(100.0)
    connection: Any = SimpleNamespace(job=None, over=False)
    showing = Showing(connection, clock, lambda: "7-word-word")
    assert showing.next_deadline() is None
    showing.message(PairStart(b"A" + bytes(32)))
    assert showing.next_deadline() == 100.0 + limits.PAIRING_ATTEMPT
    with pytest.raises(FtxError) as caught:
        showing.tick(100.0 + limits.PAIRING_ATTEMPT)
    assert caught.value.name == "pairing-closed"
