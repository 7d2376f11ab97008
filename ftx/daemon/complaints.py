"""What the daemon says of its storage when it fails, bounded: a full disk fails thousands of files in a moment."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ftx import limits

__all__ = ["StorageComplaints"]

_log = Logger()


class StorageComplaints:
    """Logs the first failures of each minute one by one and counts the others, which a peer may cause as it likes."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
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
