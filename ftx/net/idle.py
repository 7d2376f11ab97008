"""Waiting until nothing is under way any more."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

__all__ = ["Idle"]


class Idle:
    """Those who wait until `busy` says no; whoever ends something calls `look()`."""

    def __init__(self, busy: Callable[[], object]) -> None:
        """`busy` is true or false, as a collection of what runs is."""
        self._busy = busy
        self._waiting: list[Deferred[None]] = []

    def wait(self) -> Deferred[None]:
        """Fires when nothing is under way, now if nothing is."""
        waiting: Deferred[None] = Deferred()
        if self._busy():
            self._waiting.append(waiting)
        else:
            waiting.callback(None)
        return waiting

    def look(self) -> None:
        """Something ended: if it was the last, tell those who wait."""
        if not self._busy():
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)
