"""The bridge between a verb and the reactor: one asynchronous main, its signals, its time limit, its exit code.

`twisted.internet.task.react` is not used: it exits 0 on a signal, and a script would take a copy that was cut short
for a success. Here the first SIGINT or SIGTERM says what happened and cancels the main; it has `STOP_GRACE` seconds
to put things away, and the exit code is 130 or 143. A second one leaves at once. Running out of `--timeout` takes
the same way, with exit code 10.

A main that returns has the last word even then: its result was printed already, and the exit code must agree.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import attrs

from ftx.errors import FtxError
from ftx.limits import BAR_REFRESH, STOP_GRACE
from ftx.text import duration, show

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.logger import LogEvent
    from twisted.python.failure import Failure

    from ftx.client.options import Options

__all__ = ["Main", "Stop", "report_unexpected", "run", "write_lines"]

_SIGNALS: Final = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@attrs.define(eq=False)
class Stop:
    """How a run is cut short, and why, for the main that sees its CancelledError."""

    #: `interrupted`, `terminated` or `timeout`; None while nothing has happened.
    error: FtxError | None = attrs.field(default=None, init=False)
    _enough: Callable[[], object]

    def enough(self) -> None:
        """End the run with exit code 0 in the next turn of the reactor: nobody wants to know more."""
        self._enough()


#: What is run: it gets the reactor and the `Stop`, and returns the exit code.
Main = Callable[[Any, Stop], Coroutine["Deferred[Any]", Any, int]]


def run(main: Main, options: Options, *, what: str, resume: str = "", endless: bool = False) -> int:
    """Run `main` on the reactor until it ends, and return the exit code. Once per process.

    `what` begins an error's sentence (`cannot send to pi`). `resume` is shown as advice when the run is cut short.
    What is `endless` goes on until its user has seen enough: SIGINT is how it ends, silently and with exit code 0.
    An FtxError is reported with its hint and gives its exit code; anything else that is raised is reported in one
    sentence (and, with `--debug`, a traceback) and gives 1.
    """
    from twisted.internet import reactor

    from ftx.net.steady import steady

    steady(reactor)
    _begin_logging(options)
    bridge = _Bridge(reactor, main, options, what, resume, endless)
    bridge.reactor.callWhenRunning(bridge.start)
    bridge.reactor.run()
    options.output.close_view()
    return bridge.code


class _Bridge:
    """One run: from the first turn of the reactor to its stop."""

    def __init__(self, reactor: Any, main: Main, options: Options, what: str, resume: str, endless: bool) -> None:
        self.reactor = reactor
        self.code = 1
        self._main = main
        self._options = options
        self._what = what
        self._resume = resume
        self._endless = endless
        self._stop = Stop(lambda: reactor.callLater(0, self._finish))
        self._signals = 0
        self._ended = False
        self._enough = False
        self._running: Deferred[int] | None = None

    def start(self) -> None:
        """Take over the signals, which the reactor has just set for itself, and begin."""
        from twisted.internet.defer import Deferred
        from twisted.internet.task import LoopingCall

        for number in _SIGNALS:
            # A shell without job control starts what runs in the background with SIGINT ignored, so that Ctrl-C
            # stops only what is in front (POSIX, "Signals and Error Handling" of the shell): it stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._signalled)
        if self._options.timeout is not None:
            self.reactor.callLater(self._options.timeout, self._timed_out)
        drawing = LoopingCall(self._options.output.poll)
        drawing.clock = self.reactor
        drawing.start(BAR_REFRESH).addErrback(self._failed)
        self._running = Deferred.fromCoroutine(self._main(self.reactor, self._stop))
        self._running.addCallbacks(self._returned, self._failed)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        """The handler itself: only what is safe in the middle of anything."""
        self._signals += 1
        if self._signals > 1:
            with contextlib.suppress(OSError):
                os.write(2, b"\n")
            os._exit(128 + number)
        self.reactor.callFromThread(self._cut, FtxError(_SIGNALS[signal.Signals(number)]))

    def _timed_out(self) -> None:
        seconds = duration(self._options.timeout or 0.0)
        self._cut(FtxError("timeout", f"the time set with --timeout ran out ({seconds})"))

    def _cut(self, error: FtxError) -> None:
        """Say what happened, cancel the main, and end soon whatever it does."""
        if self._stop.error is not None or self._ended or self._running is None:
            return
        if self._endless and error.name == "interrupted":
            self._finish()
            return
        error.hint = f"to resume: {self._resume}" if self._resume else ""
        self._stop.error = error
        self._options.output.close_view()
        self._options.output.error(error, self._what if error.name == "timeout" else "")
        self.reactor.callLater(STOP_GRACE, self._end, error.exit_code)
        # A worker thread that hangs in a system call would keep the reactor from stopping: nobody waits for it.
        watchdog = threading.Timer(2 * STOP_GRACE, os._exit, (error.exit_code,))
        watchdog.daemon = True
        watchdog.start()
        self._running.cancel()

    def _finish(self) -> None:
        if not self._ended and not self._enough and self._running is not None:
            self._enough = True
            self.reactor.callLater(STOP_GRACE, self._end, 0)
            self._running.cancel()

    def _returned(self, code: int) -> None:
        self._end(code)

    def _failed(self, failure: Failure) -> None:
        from twisted.internet.defer import CancelledError

        error = failure.value
        if self._enough and isinstance(error, CancelledError):
            self._end(0)
        elif self._stop.error is not None and isinstance(error, CancelledError | FtxError):
            self._end(self._stop.error.exit_code)
        elif isinstance(error, FtxError):
            self._options.output.close_view()
            self._options.output.error(error, self._what)
            self._traceback(failure)
            self._end(error.exit_code)
        else:
            self._options.output.close_view()
            report_unexpected(self._options, error, self._what, failure.getTraceback())
            self._end(1)

    def _traceback(self, failure: Failure) -> None:
        if self._options.debug:
            write_lines(self._options, failure.getTraceback())

    def _end(self, code: int) -> None:
        if not self._ended:
            self._ended = True
            self.code = code
            self.reactor.callLater(0, self.reactor.stop)  # after what was aborted just now has been closed


def report_unexpected(options: Options, error: BaseException | None, what: str, trace: str = "") -> None:
    """Say in one sentence that something broke inside ftx, and all of it with `--debug`."""
    told = FtxError("internal", f"something went wrong inside ftx ({type(error).__name__}: {show(str(error))})")
    if options.debug and error is not None:
        told.hint = ""
        write_lines(options, trace or "".join(traceback.format_exception(error)))
    options.output.error(told, what)


def write_lines(options: Options, text: str) -> None:
    """Write `text` to stderr line by line, cleaned: it may quote what a peer said."""
    for line in text.splitlines():
        options.output.stderr(show(line, 2000))


def _begin_logging(options: Options) -> None:
    """Send the log to stderr: what warns and our own with `-v`, our details too with `-vv`, all with `--debug`."""
    from twisted.logger import ILogObserver, LogLevel, eventAsText, globalLogBeginner
    from zope.interface import implementer

    ours_from = LogLevel.debug if options.verbose > 1 else LogLevel.info

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        level = event.get("log_level")
        if level is None:
            return
        ours = str(event.get("log_namespace", "")).startswith("ftx.")
        if not options.debug and level < (ours_from if ours else LogLevel.warn):
            return
        said = eventAsText(event, includeTraceback=options.debug, includeTimestamp=False, includeSystem=False)
        write_lines(options, f"{level.name}: {said}")

    observers = [observe] if options.debug or options.verbose else []
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False)
