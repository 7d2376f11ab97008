"""What the calls of `ftx.client.api` return: something to wait for, or to go through event by event."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Flow", "Run"]

_Item = TypeVar("_Item")
_Last = TypeVar("_Last")


class Flow:
    """The brake of a run. Whoever makes the items sets `on_change`; it is told when there are enough, and when not."""

    def __init__(self) -> None:
        self.full = False
        self.on_change: Callable[[bool], object] = lambda full: None

    def set(self, full: bool) -> None:
        """There are enough for now, or more are wanted."""
        if full != self.full:
            self.full = full
            self.on_change(full)


#: Begins the work: gets where its items go, and its brake.
Start = Callable[[Callable[[_Item], object], Flow], Coroutine["Deferred[Any]", Any, _Last]]


class Run(Generic[_Item, _Last]):
    """Begins when it is awaited, or iterated over; once.

    `await run` gives the last item, or the result. `async for item in run` gives every item as it comes; what waits is
    bounded, and a consumer that takes its time slows the other side down. Leaving the loop early cancels the work (at
    once with `aclose()` of the iterator). Both raise FtxError for what fails before there is a job.
    """

    def __init__(
        self,
        clock: IReactorTime,
        start: Start[_Item, _Last],
        on_item: Callable[[_Item], object] | None,
        most: int,
        droppable: Callable[[_Item], bool] = lambda item: False,
    ) -> None:
        self._clock = clock
        self._start = start
        self._on_item = on_item
        self._most = most
        self._droppable = droppable

    def __await__(self) -> Generator[Deferred[Any], Any, _Last]:
        return self._whole().__await__()

    async def _whole(self) -> _Last:
        return await self._start(self._on_item or (lambda item: None), Flow())

    async def __aiter__(self) -> AsyncGenerator[_Item, None]:
        items: deque[_Item] = deque()
        flow = Flow()
        waiting: list[Deferred[None]] = []
        soon: list[IDelayedCall] = []

        def wake() -> None:
            # Not at once: the loop may leave and cancel the work, which is just calling us.
            if waiting and not soon:
                soon.append(self._clock.callLater(0, resume))

        def resume() -> None:
            soon.clear()
            waiting.pop().callback(None)

        def put(item: _Item) -> None:
            if self._on_item is not None:
                self._on_item(item)
            if len(items) >= self._most and self._droppable(item):
                return
            items.append(item)
            flow.set(len(items) >= self._most)
            wake()

        working: Deferred[_Last] = Deferred.fromCoroutine(self._start(put, flow))
        ended: list[Any] = []

        def end(outcome: object) -> None:
            ended.append(outcome)
            wake()

        working.addBoth(end)
        try:
            while items or not ended:
                if not items:
                    waiting.append(Deferred())
                    await waiting[-1]
                    continue
                item = items.popleft()
                if len(items) <= self._most // 2:
                    flow.set(False)
                yield item
            _reraise(ended[0])
        finally:
            for call in soon:
                call.cancel()
            if not ended:
                working.cancel()


def _reraise(outcome: Any) -> None:
    """Raise what a Deferred failed with; a cancelled one has nothing to say."""
    from twisted.python.failure import Failure

    if isinstance(outcome, Failure) and outcome.check(CancelledError) is None:
        outcome.raiseException()
