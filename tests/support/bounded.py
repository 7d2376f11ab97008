"""An async test that ends: `@bounded(seconds)` fails just the test that hangs.

pytest-timeout can only end the whole run: a signal is swallowed by the reactor's loop, so it uses a thread.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest_twisted
from support.processor import held_up
from twisted.internet.defer import Deferred

__all__ = ["Patient", "bounded", "until"]


def bounded(seconds: float) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., Any]]:
    """Run the decorated coroutine function as a test; cancelled and failed after `seconds`, counted as by `until()`."""

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
        @pytest_twisted.ensureDeferred
        @functools.wraps(test)
        async def run(*args: Any, **kwargs: Any) -> None:
            from twisted.internet import reactor

            await Deferred.fromCoroutine(test(*args, **kwargs)).addTimeout(seconds, _Unhurried(reactor))

        return run

    return decorate


async def until(
    condition: Callable[[], bool | Awaitable[bool]], *, seconds: float = 10.0, interval: float = 0.01
) -> None:
    """Wait until `condition()` is true, looking every `interval`; TimeoutError after `seconds`.

    The condition may be a coroutine function. Tests never sleep for a fixed time. Seconds in which this process waits
    for a processor do not count.
    """
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    clock: Any = reactor
    begun, waited = clock.seconds(), held_up(os.getpid())
    while True:
        answer = condition()
        if not isinstance(answer, bool):
            answer = await answer
        if answer:
            return
        passed = clock.seconds() - begun
        if passed > seconds and passed > seconds + held_up(os.getpid()) - waited:
            raise TimeoutError(f"not true after {seconds} s: {condition}")
        await deferLater(clock, interval)


class Patient:
    """The reactor, with times that are over only when a few turns more have passed.

    For who gives another end in this same process a short time to answer: where the machine lets neither of them run
    meanwhile, both have their turns all the same.
    """

    TURNS = 10

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def callLater(self, delay: float, call: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
        """As the reactor's, but later."""
        turns = iter([0.0] * self.TURNS)
        return _Later(self._reactor, delay, functools.partial(call, *args, **kwargs), lambda: next(turns, -1.0))


class _Unhurried:
    """A clock that gives back the seconds in which this process waits for a processor, up to forty of them."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def callLater(self, delay: float, call: Callable[[], object]) -> Any:
        """As the reactor's, but later."""
        due, waited = self._reactor.seconds() + delay, held_up(os.getpid())

        def left() -> float:
            return float(due + min(held_up(os.getpid()) - waited, 40.0) - self._reactor.seconds())

        return _Later(self._reactor, delay, call, left)


class _Later:
    """A delayed call that asks, when it is due, how long it has still to wait: less than 0 when that was all."""

    def __init__(
        self, reactor: Any, delay: float, call: Callable[[], object], left: Callable[[], float]
    ) -> None:
        self._reactor, self._call, self._left = reactor, call, left
        self._due = reactor.callLater(delay, self._is_due)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._due, name)

    def _is_due(self) -> None:
        left = self._left()
        if left < 0:
            self._call()
        else:
            self._due = self._reactor.callLater(left, self._is_due)
