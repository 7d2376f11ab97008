"""Runs: awaited, iterated, left early, and consumed slowly."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from ftx.client.running import Flow, Run
from ftx.errors import FtxError


class Work:
    """Gives numbers while it is let, and remembers what was done to it."""

    def __init__(self, reactor: Any, count: int, error: FtxError | None = None) -> None:
        self.reactor, self.count, self.error = reactor, count, error
        self.given = 0
        self.brakes: list[bool] = []
        self.cancelled = False
        self._go_on: Deferred[None] | None = None

    def _braked(self, full: bool) -> None:
        self.brakes.append(full)
        if not full and self._go_on is not None:
            waiting, self._go_on = self._go_on, None
            waiting.callback(None)

    async def start(self, put: Callable[[int], object], flow: Flow) -> str:
        flow.on_change = self._braked
        try:
            for number in range(self.count):
                if flow.full:
                    self._go_on = Deferred()
                    await self._go_on
                await deferLater(self.reactor, 0, lambda: None)
                self.given += 1
                put(number)
        except CancelledError:
            self.cancelled = True
            raise
        if self.error is not None:
            raise self.error
        return "done"


@pytest_twisted.ensureDeferred
async def test_awaited_and_iterated(reactor: Any) -> None:
    """The result, or every item; `on_item` hears them in both."""
    heard: list[int] = []
    assert await Run(reactor, Work(reactor, 3).start, heard.append, 10) == "done"
    assert [item async for item in Run(reactor, Work(reactor, 5).start, heard.append, 10)] == [0, 1, 2, 3, 4]
    assert heard == [0, 1, 2, 0, 1, 2, 3, 4]
    assert [item async for item in Run(reactor, Work(reactor, 0).start, None, 10)] == []


@pytest_twisted.ensureDeferred
async def test_an_error_comes_after_what_came_before(reactor: Any) -> None:
    """Both ways raise it."""
    with pytest.raises(FtxError):
        await Run(reactor, Work(reactor, 2, FtxError("not-shared")).start, None, 10)
    seen = []
    items = aiter(Run(reactor, Work(reactor, 2, FtxError("not-shared")).start, None, 10))
    seen += [await anext(items), await anext(items)]
    with pytest.raises(FtxError) as caught:
        await anext(items)
    assert (seen, caught.value.name) == ([0, 1], "not-shared")


@pytest_twisted.ensureDeferred
async def test_a_slow_consumer_slows_the_work(reactor: Any) -> None:
    """Never more than so many wait; nothing is lost, and the brake is let go."""
    work = Work(reactor, 50)
    seen = []
    async for item in Run(reactor, work.start, None, 4):
        for _ in range(20):
            await deferLater(reactor, 0, lambda: None)
        seen.append(item)
        assert work.given - len(seen) <= 5
    assert seen == list(range(50))
    assert True in work.brakes
    assert work.brakes[-1] is False


@pytest_twisted.ensureDeferred
async def test_what_may_be_dropped_is_dropped(reactor: Any) -> None:
    """Progress that nobody takes is no reason to wait."""
    flows: list[Flow] = []

    async def start(put: Callable[[int], object], flow: Flow) -> None:
        flows.append(flow)
        for number in range(100):
            put(number)

    seen = [item async for item in Run(reactor, start, None, 8, lambda item: item % 2 == 1)]
    assert [item for item in seen if item % 2 == 0] == list(range(0, 100, 2))
    assert len([item for item in seen if item % 2]) == 4


@pytest_twisted.ensureDeferred
async def test_leaving_early_ends_the_work(reactor: Any) -> None:
    """At once when the iterator is closed."""
    work = Work(reactor, 1000)
    async with aclosing(aiter(Run(reactor, work.start, None, 10))) as items:
        async for item in items:
            if item == 3:
                break
    assert work.cancelled
    assert work.given < 20
