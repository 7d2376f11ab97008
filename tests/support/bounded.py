"""An async test that ends: `@bounded(seconds)` fails just the test that hangs.

pytest-timeout can only end the whole run: a signal is swallowed by the reactor's loop, so it uses a thread.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred

__all__ = ["bounded", "until"]


def bounded(seconds: float) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., Any]]:
    """Run the decorated coroutine function as a test; cancelled and failed after `seconds`."""

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
        @pytest_twisted.ensureDeferred
        @functools.wraps(test)
        async def run(*args: Any, **kwargs: Any) -> None:
            from twisted.internet import reactor

            await Deferred.fromCoroutine(test(*args, **kwargs)).addTimeout(seconds, reactor)

        return run

    return decorate


async def until(
    condition: Callable[[], bool | Awaitable[bool]], *, seconds: float = 10.0, interval: float = 0.01
) -> None:
    """Wait until `condition()` is true, looking every `interval`; TimeoutError after `seconds`.

    The condition may be a coroutine function. Tests never sleep for a fixed time.
    """
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    clock: Any = reactor
    deadline = clock.seconds() + seconds
    while True:
        answer = condition()
        if not isinstance(answer, bool):
            answer = await answer
        if answer:
            return
        if clock.seconds() > deadline:
            raise TimeoutError(f"not true after {seconds} s: {condition}")
        await deferLater(clock, interval)
