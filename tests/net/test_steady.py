"""Deadlines do not move with the time of day."""

from __future__ import annotations

import time

import pytest
from twisted.internet.epollreactor import EPollReactor

from ftx.net.steady import steady


@pytest.mark.case("G123")
@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_is_set(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """An hour either way: what is due in a minute is not due now, and what is due now is not due in an hour."""
    reactor = EPollReactor()
    fired: list[str] = []
    early = reactor.callLater(60, fired.append, "before")
    reactor.callLater(0, fired.append, "at once")
    steady(reactor)
    steady(reactor)
    late = reactor.callLater(60, fired.append, "after")
    real = time.time
    monkeypatch.setattr("twisted.internet.base.runtimeSeconds", lambda: real() + jump)
    reactor.callLater(0, fired.append, "at once, too")
    reactor.runUntilCurrent()
    assert sorted(fired) == ["at once", "at once, too"]
    for call in (early, late):
        assert 50 < call.getTime() - reactor.seconds() <= 60
        call.cancel()
    reactor.removeAll()
    for waker in list(reactor._internalReaders):
        waker.connectionLost(None)
    reactor._poller.close()
