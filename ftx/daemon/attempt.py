"""One attempt to send what is in the queue: a process `ftx-client send --json`, its events, and how it ended.

The process ends with the daemon, whatever ends that (`ftx.client.bound`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from ftx import limits
from ftx.core.queueing import Queued, passing
from ftx.errors import KINDS, FtxError
from ftx.net.idle import Idle
from ftx.text import kept, plural
from ftx.wire import events

__all__ = ["Attempt"]

_Told = events.Offered | events.Accepted | events.Waiting | events.Progress | events.FileEvent | events.Retry
_Ends = events.Refused | events.Done | events.Failed
_Known: Final = msgspec.json.Decoder(_Told | _Ends)
_Tagged: Final = msgspec.json.Decoder(dict[str, Any])
#: Events that are passed on as they come; how it ended is the queue's to say.
_PASSED: Final = frozenset({"offered", "accepted", "waiting", "progress", "file", "retry"})
_OWN_ENDS: Final = frozenset({"done", "failed"})


class Attempt(ProcessProtocol):
    """Sends `entry` by running `command`; `publish` gets its events, which speak of the entry's job.

    `run()` fires when the process is gone; all else is for reading then, and `progress` and `peer` before, too.
    """

    transport: IProcessTransport

    def __init__(
        self, reactor: Any, entry: Queued, command: Sequence[bytes], publish: Callable[[events.Event], None]
    ) -> None:
        self.entry = entry
        #: The exit code, or minus the number of the signal that ended it.
        self.code = 1
        self.peer: events.PeerInfo | None = None
        self.progress: events.Progress | None = None
        self.done: events.Done | None = None
        self.failed: events.Failed | None = None
        self.started = events.iso_time()
        self._reactor = reactor
        self._command = list(command)
        self._publish = publish
        self._unread = b""
        self._grace: IDelayedCall | None = None
        self._ended: Deferred[None] = Deferred()
        self._gone = Idle(lambda: not self._over)
        #: Why files of it failed: for each kind of error the first one.
        self._reasons: dict[str, events.ErrorInfo] = {}
        self._over = False

    def run(self, environ: Mapping[str, str]) -> Deferred[None]:
        """Begin; OSError when no process can be started."""
        nothing = os.open(os.devnull, os.O_RDWR)
        try:
            descriptors = {0: nothing, 1: "r", 2: nothing}
            self._reactor.spawnProcess(self, self._command[0], self._command, dict(environ), childFDs=descriptors)
        finally:
            os.close(nothing)
        return self._ended

    def end(self) -> None:
        """Let it tell the receiver that it ends, and see that it does."""
        if not self._over and self._grace is None:
            self._signal("TERM")
            self._grace = self._reactor.callLater(limits.QUEUE_GRACE, self._signal, "KILL")

    def wait(self) -> Deferred[None]:
        """Fires when the process is gone."""
        return self._gone.wait()

    @property
    def sent(self) -> bool:
        """Whether all is at the receiver."""
        return self._over and self.code == 0

    @property
    def error(self) -> events.ErrorInfo | None:
        """Why it failed, in the client's own words; None when all went well, and when it had no words.

        Where only files failed it is an error of theirs that may pass, or else `partial`.
        """
        if self.failed is not None:
            return self.failed.error
        if self.done is None or not self.done.exit:
            return self._signalled()
        for name, reason in self._reasons.items():
            if passing(name):
                return reason
        what = f"{plural(self.done.files_failed, 'file')} failed"
        first = next(iter(self._reasons.values()), None)
        said = what if first is None else f"{what}: {first.message}"
        return events.error_info(FtxError("partial", said).as_value())

    def _signalled(self) -> events.ErrorInfo | None:
        """That a signal ended it, if so; a client that is still being loaded leaves with the code of that."""
        terminated = KINDS["terminated"]
        if self.code >= 0 and self.code != terminated.exit_code:
            return None
        number = -self.code if self.code < 0 else signal.SIGTERM
        why = f"its process was ended by signal {int(number)}"
        return events.error_info(FtxError(terminated.name, why).as_value())

    @property
    def kept(self) -> str:
        """What the receiver has of it."""
        return kept(*self.stored)

    @property
    def stored(self) -> tuple[int, int]:
        """Files that are at the receiver, and their content."""
        if self.done is not None:
            return self.done.files, self.done.bytes
        if self.failed is not None:
            return self.failed.files_stored or 0, self.failed.bytes_stored or 0
        return 0, 0

    # -- from the process ----------------------------------------------------------------------------------

    def outReceived(self, data: bytes) -> None:
        """Lines of its standard output: events."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._unread) > limits.QUEUE_LINE:
            self._unread = b""
            self._signal("KILL")

    def processEnded(self, reason: Failure) -> None:
        """It is gone, and all of its output was read."""
        self._over = True
        if self._grace is not None and self._grace.active():
            self._grace.cancel()
        value = reason.value
        if isinstance(value, ProcessDone):
            self.code = 0
        elif isinstance(value, ProcessTerminated):
            self.code = value.exitCode if value.exitCode is not None else -(value.signal or 0)
        self._ended.callback(None)
        self._gone.look()

    def _line(self, line: bytes) -> None:
        try:
            name = _Tagged.decode(line).get("event")
            if name not in _PASSED and name not in _OWN_ENDS:
                return
            event: events.Event = _Known.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        event = msgspec.structs.replace(event, job=self.entry.job)
        if event.peer is not None:
            self.peer = event.peer
        if isinstance(event, events.Progress):
            self.progress = event
        elif isinstance(event, events.FileEvent):
            event = msgspec.structs.replace(event, direction="out")
            if event.status == "failed" and event.error is not None and event.error.name in KINDS:
                self._reasons.setdefault(event.error.name, event.error)
        elif isinstance(event, events.Retry):  # the client will tell of every file once more
            self._reasons.clear()
        elif isinstance(event, events.Done):
            self.done = event
        elif isinstance(event, events.Failed):
            self.failed = event if event.error.name in KINDS else None
        if name in _PASSED:
            self._publish(event)

    def _signal(self, name: str) -> None:
        try:
            self.transport.signalProcess(name)
        except ProcessExitedAlready:
            return
