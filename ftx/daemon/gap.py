"""How long the reactor was busy with one thing: the delay of a call that should come regularly."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.task import LoopingCall

from ftx import limits

__all__ = ["Gap"]


class Gap:
    """Measures between `start()` and `stop()`."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._due = 0.0
        #: When, and by how much, oldest first.
        self._late: deque[tuple[float, float]] = deque()
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock

    def start(self) -> None:
        """Begin to measure."""
        self._due = self._clock.seconds()
        self._ticking.start(limits.GAP_EVERY)

    def stop(self) -> None:
        """Measure no more."""
        if self._ticking.running:
            self._ticking.stop()

    @property
    def longest(self) -> float:
        """The longest delay, in seconds, of the last `limits.GAP_SPAN` seconds; never below zero."""
        return max((late for _, late in self._late), default=0.0)

    def _tick(self) -> None:
        now = self._clock.seconds()
        self._late.append((now, max(now - self._due, 0.0)))
        self._due = now + limits.GAP_EVERY
        while self._late and self._late[0][0] < now - limits.GAP_SPAN:
            self._late.popleft()
