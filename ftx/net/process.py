"""A process that was started in a thread, followed by the reactor: its end, what it complains of, and its time.

Nobody waits for it in a thread: a descriptor of the process (pidfd_open(2)) becomes readable when it has ended. At the
end of its time its whole process group is asked to end (SIGTERM), and soon after ended (SIGKILL). What it leaves
running in its group ends with it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ftx import limits
from ftx.disk.hooks import Started

__all__ = ["Ended", "Followed"]

_CHUNK = 64 * limits.KiB


@attrs.frozen
class Ended:
    """How a process ended: its exit code, negative for a signal; whether its time was over; its last complaint."""

    code: int
    late: bool
    complaint: bytes


@implementer(IReadDescriptor)
class _Readable:
    """A descriptor that is watched: `ready` when there is something to read, and `over` when there never will be."""

    def __init__(self, descriptor: int, ready: Callable[[], None], over: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._ready = ready
        self._over = over

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "hook"

    def doRead(self) -> None:
        self._ready()

    def connectionLost(self, reason: Failure) -> None:
        self._over()


class Followed:
    """A process from its start to its end. `ended` fires once, with `Ended`; nothing of the process is left then.

    It has `seconds`, and then the grace of `ftx.limits`.
    """

    def __init__(self, reactor: Any, started: Started, seconds: float) -> None:
        self.ended: Deferred[Ended] = Deferred()
        self._reactor = reactor
        self._started = started
        self._late = False
        self._read = 0
        self._last = b""
        self._end = _Readable(started.ended, self._over, self._over)
        self._complaints: _Readable | None = _Readable(started.complaints, self._listen, self._deaf)
        self._timer: IDelayedCall | None = reactor.callLater(seconds, self._time_is_over)
        reactor.addReader(self._end)
        reactor.addReader(self._complaints)

    def stop(self) -> None:
        """End it with all its group, now; `ended` fires when it is gone."""
        self._started.end(signal.SIGKILL)

    def _time_is_over(self) -> None:
        self._late = True
        self._started.end(signal.SIGTERM)
        self._timer = self._reactor.callLater(limits.HOOK_GRACE, self._grace_is_over)

    def _grace_is_over(self) -> None:
        self._timer = None
        self._started.end(signal.SIGKILL)

    def _listen(self) -> None:
        """Take what it complains of, and keep the last of it; who complains without end is not listened to."""
        try:
            said = os.read(self._started.complaints, _CHUNK)
        except BlockingIOError:
            return
        self._read += len(said)
        self._last = (self._last + said)[-limits.HOOK_COMPLAINT :]
        if not said or self._read > limits.HOOK_COMPLAINTS:
            self._deaf()

    def _deaf(self) -> None:
        if self._complaints is not None:
            self._reactor.removeReader(self._complaints)
            os.close(self._started.complaints)
            self._complaints = None

    def _over(self) -> None:
        self._reactor.removeReader(self._end)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        code = self._started.reap()
        if self._complaints is not None:
            self._listen()
            self._deaf()
        self.ended.callback(Ended(code, self._late, self._last))
