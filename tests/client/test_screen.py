"""What the live screen does about mistakes of our own."""

from __future__ import annotations

import os
from typing import Any

import pytest
from support.bounded import bounded
from twisted.internet.defer import CancelledError, Deferred

from ftx.client.screen import Screen, _either, _Watching


@bounded(10)
async def test_a_mistake_of_ours_ends_the_screen(reactor: Any) -> None:
    """It is raised where the screen is waited for, and the subscription ends with it."""
    ended: list[bool] = []
    events: Deferred[None] = Deferred(lambda _: ended.append(True))
    with open(os.devnull, "w") as stream:
        watching = _Watching(reactor, "", Screen(reactor, stream, 0, lambda: None))
        waiting = Deferred.fromCoroutine(_either(events, watching.broken))
        cancelled: Deferred[None] = Deferred()
        cancelled.addErrback(watching.fails)
        cancelled.cancel()
        assert not waiting.called
        broken: Deferred[None] = Deferred()
        broken.addErrback(watching.fails)
        broken.errback(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await waiting
    assert ended == [True]


@bounded(10)
async def test_the_end_of_the_events_and_a_cancelled_screen(reactor: Any) -> None:
    """Both are as they were."""
    events: Deferred[None] = Deferred()
    waiting = Deferred.fromCoroutine(_either(events, Deferred()))
    events.callback(None)
    await waiting
    waiting = Deferred.fromCoroutine(_either(Deferred(), Deferred()))
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
