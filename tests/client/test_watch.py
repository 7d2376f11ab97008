"""`discover` while somebody watches: who comes, who goes, and nothing left behind."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from support.bounded import bounded, until
from support.ports import free_port
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from ftx import limits
from ftx.client.api import Settings
from ftx.client.discovering import watch
from ftx.disk.keys import Identity
from ftx.disk.places import places
from ftx.disk.seen import names
from ftx.net.discovery import Responder
from ftx.wire.events import Discovered


class Timed:
    """The reactor, with delayed calls and time of our own: rounds go by as they are told."""

    def __init__(self, reactor: Any, clock: Clock) -> None:
        self._reactor = reactor
        self.callLater = clock.callLater
        self.seconds = clock.seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@bounded(20)
async def test_who_comes_and_who_goes(reactor: Any, tmp_path: Any) -> None:
    """A peer is `here` once, `still` in the rounds after, and `gone` when it has missed three; its name is kept."""
    port = free_port(socket.SOCK_DGRAM)
    settings = Settings(places(str(tmp_path), {}, 0, "/"), port, ("lo",))
    clock = Clock()
    heard: list[Discovered] = []
    watching = Deferred.fromCoroutine(watch(Timed(reactor, clock), settings, heard.append))
    responder = Responder(reactor, Identity.generate(), name="attic", tcp_port=7389, port=port, include=("lo",))
    responder.start()

    async def round_with(state: str) -> None:
        def goes_on() -> bool:
            clock.advance(0.1)
            return any(one.state == state for one in heard)

        heard.clear()
        await until(goes_on)

    try:
        await round_with("here")
        assert {(one.name, one.verified, one.paired, one.interface) for one in heard} == {("attic", False, False, "lo")}
        await round_with("still")
        responder.stop()
        before = clock.seconds()
        await round_with("gone")
        assert clock.seconds() - before >= (limits.DISCOVERY_MISSED - 1) * limits.DISCOVERY_WATCH
        assert [one.name for one in heard if one.state == "gone"] == ["attic"]
    finally:
        responder.stop()
        watching.cancel()
        with pytest.raises(CancelledError):
            await watching
    assert clock.getDelayedCalls() == []
    assert [one.name for one in names(str(tmp_path / "state"), time.time())] == ["attic"]
