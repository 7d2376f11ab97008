"""What the daemon says when things go wrong for a reason that others can repeat as often as they like: bounded."""

from __future__ import annotations

from collections.abc import Hashable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ftx import limits

__all__ = ["Said", "StorageComplaints"]

_log = Logger()


class Said:
    """Whether something has been said lately: about a bounded number of things, the oldest forgotten first."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._said: dict[Hashable, float] = {}

    def is_news(self, thing: Hashable) -> bool:
        """Whether `thing` was not said within `limits.COMPLAINT_INTERVAL`; from now on it was."""
        now = self._clock.seconds()
        if now - self._said.get(thing, float("-inf")) < limits.COMPLAINT_INTERVAL:
            return False
        self._said.pop(thing, None)
        while len(self._said) >= limits.COMPLAINT_SOURCES:
            del self._said[next(iter(self._said))]
        self._said[thing] = now
        return True


class StorageComplaints:
    """Logs the first failures of each minute one by one and counts the others, which a peer may cause as it likes.

    What a person has to do is said whatever came before, each thing once a minute while it lasts.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._urged = Said(clock)
        self._since = float("-inf")
        self._count = 0

    def say(self, sentence: str) -> None:
        """A failure, as one clean sentence. In the reactor's thread."""
        now = self._clock.seconds()
        if now - self._since >= limits.COMPLAINT_INTERVAL:
            if self._count > limits.STORAGE_LINES:
                _log.warn("storage: {count} more failures", count=self._count - limits.STORAGE_LINES)
            self._since, self._count = now, 0
        self._count += 1
        if self._count <= limits.STORAGE_LINES:
            _log.warn("storage: {sentence}", sentence=sentence)

    def urge(self, sentence: str) -> None:
        """What a person has to do: one of a few clean sentences, which are the same each time. In the reactor."""
        if self._urged.is_news(sentence):
            _log.warn("storage: {sentence}", sentence=sentence)
