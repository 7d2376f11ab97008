"""How a daemon is asked to end, and how long its end may wait for anything.

Signals: SIGTERM and SIGINT drain, then stop; a second one stops now, everything stays resumable; a third one leaves at
once. SIGHUP reads the configuration and the peers again. SIGUSR1 writes the running jobs into the log.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.logger import Logger

from ftx import limits
from ftx.daemon.signals import Signals
from ftx.errors import FtxError
from ftx.text import duration, plural, size

if TYPE_CHECKING:
    from ftx.daemon.service import Daemon

__all__ = ["Ending"]

_log = Logger()

#: Signals after which a stop that hangs is cut short: the first drains, the second stops now.
_PATIENCE = 2


class Ending:
    """The end of `daemon`. `begun` says that it is on its way; a daemon that does not own its process ends itself."""

    def __init__(self, daemon: Daemon, *, owns_process: bool) -> None:
        self.begun = False
        self._daemon = daemon
        self._owns_process = owns_process
        self._signals = Signals(daemon.reactor)
        #: The first signal that asked for the end, and how many did.
        self._asked_to_stop = 0
        self._stop_requests = 0
        #: What the stop waits for at the moment.
        self._waiting: Deferred[Any] | None = None
        self._ended = False

    def give_back(self) -> None:
        """Listen to no signals any more."""
        self._signals.give_back()

    async def bounded(self, ending: Any, what: str) -> bool:
        """Wait for something to end, but no longer than whoever asked wants to; whether it has ended.

        A thread that hangs in the disk ends with the process; what it was writing can be resumed.
        """
        seconds = limits.STOP_AT_ONCE if self._stop_requests > 1 else limits.STOP_WAIT
        self._waiting = ending if isinstance(ending, Deferred) else Deferred.fromCoroutine(ending)
        try:
            await self._waiting.addTimeout(seconds, self._daemon.reactor)
        except (TimeoutError, CancelledError):  # TimeoutError of Twisted, not Python's own
            _log.warn("{what}: not waited for any longer", what=what)
            return False
        except FtxError as error:
            _log.warn("{what}: {reason}", what=what, reason=error.message)
        finally:
            self._waiting = None
        return True

    async def drain(self) -> None:
        """Take nothing new, wait for what runs (at most `drain_timeout`), then stop the process."""
        if self.begun:
            return
        self.begun = True
        _log.info("draining: no new jobs; stopping in at most {most}", most=duration(self._daemon.config.drain_timeout))
        self._daemon.listening.stopService()
        self._daemon.supervisor.stopping("no new jobs; stopping when the running ones have ended")
        if self._daemon.jobs is not None:
            drained = self._daemon.jobs.drain()
            try:
                await drained.addTimeout(self._daemon.config.drain_timeout, self._daemon.reactor)
            except TimeoutError:  # of Twisted, not Python's own
                _log.warn("jobs are still running; they can be resumed")
        self.end_process()

    def end_process(self) -> None:
        """Stop the reactor, in the way that whoever runs us expects of the signal that asked for it.

        In an application that is not ours, only this service stops.
        """
        self.begun = True
        if self._ended:  # a drain that a second signal has overtaken
            return
        self._ended = True
        if not self._owns_process:
            self._daemon.spawn(self._leave(), "stopping")
            return
        # Twisted's own handler stops the reactor, and makes twistd end by the signal as it always does.
        if not self._signals.pass_on(self._asked_to_stop) and self._daemon.reactor.running:
            self._daemon.reactor.stop()

    async def _leave(self) -> None:
        """Stop this service alone, and be no part of the application any more."""
        if self._daemon.parent is not None:
            await maybeDeferred(self._daemon.disownServiceParent)

    # -- signals -------------------------------------------------------------------------------------------

    def take_signals(self) -> None:
        """Listen to the signals of the process from now on."""
        self._signals.take(
            {
                signal.SIGTERM: lambda: self._asked(signal.SIGTERM),
                signal.SIGINT: lambda: self._asked(signal.SIGINT),
                signal.SIGHUP: lambda: self._daemon.spawn(self._daemon.reload(), "reading the configuration again"),
                signal.SIGUSR1: self._log_jobs,
            }
        )

    def _asked(self, number: int) -> None:
        self._asked_to_stop = self._asked_to_stop or number
        self._stop_requests += 1
        if self._stop_requests == 1 and not self.begun:
            self._daemon.spawn(self.drain(), "draining")
        elif self._stop_requests <= _PATIENCE:
            self.end_process()
            if self._waiting is not None:
                self._waiting.cancel()
        else:
            os._exit(128 + number)  # nothing that was acknowledged is lost by this, as by a kill

    def _log_jobs(self) -> None:
        jobs = self._daemon.jobs.list("active") if self._daemon.jobs is not None else []
        _log.info("{jobs}", jobs=plural(len(jobs), "running job"))
        for job in jobs:
            done = size(job.bytes_confirmed)
            if job.bytes_total is not None:
                done += f" of {size(job.bytes_total)}"
            _log.info("job {job} from {peer}: {done}", job=job.job, peer=job.peer.name, done=done)
