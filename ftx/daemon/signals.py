"""The signals of a daemon's process: taken over while it runs, given back when it has ended."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads

__all__ = ["Signals"]


class Signals:
    """Hands signals to the reactor's thread as calls. To be used in the main thread, while the reactor runs.

    `reactor.run()` sets handlers of its own for SIGTERM and SIGINT, so ours come after it (`callWhenRunning`).
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._before: dict[int, Any] = {}

    def take(self, actions: Mapping[int, Callable[[], None]]) -> None:
        """Call these from now on. Elsewhere than in the main thread nothing happens: an application that embeds us
        has signals of its own.
        """
        for number, action in actions.items():

            def handler(_number: int, _frame: FrameType | None, action: Callable[[], None] = action) -> None:
                self._reactor.callFromThread(action)

            try:
                self._before[number] = signal.signal(number, handler)
            except ValueError:
                return

    def pass_on(self, number: int) -> bool:
        """Give a signal to the handler that was there before; whether there was one."""
        handler = self._before.get(number)
        if not callable(handler):
            return False
        handler(number, None)
        return True

    def give_back(self) -> None:
        """Put the former handlers back."""
        before, self._before = self._before, {}
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
