"""`ctl watch` on a terminal: the whole screen, drawn again a few times a second, until `q`.

The terminal is given back as it was, whatever ends this. Its size is asked for at each drawing, so nothing has to be
told when it changes. It is a few escape sequences that every terminal of the last decades knows (ECMA-48, and the
alternate screen of xterm), which is why there is no library in between: `curses` would take the signals and the input
for itself, where the reactor has both already.
"""

from __future__ import annotations

import os
import termios
from collections.abc import Callable
from typing import Any, Final, TextIO

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredList, FirstError
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from ftx import limits
from ftx.client import control
from ftx.client.board import Board
from ftx.errors import FtxError

__all__ = ["Screen", "watch"]

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[J"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
#: Everything that the board shows; files alone would be most of a stream.
_TYPES: Final = ("offered", "waiting", "accepted", "refused", "progress", "retry", "done", "failed")


@implementer(IReadDescriptor)
class Screen:
    """The terminal at `stream`, which is read at `keys`, from `enter()` to `leave()`. `on_quit` is called for a `q`."""

    def __init__(self, reactor: Any, stream: TextIO, keys: int, on_quit: Callable[[], object]) -> None:
        self._reactor = reactor
        self._stream = stream
        self._keys = keys
        self._on_quit = on_quit
        self._before: list[Any] | None = None
        self.fancy = "utf" in (stream.encoding or "").lower()

    def enter(self) -> None:
        """Take the screen: no line editing, no echo, no stopping by Ctrl-Z in the middle; Ctrl-C stays what it is."""
        self._before = termios.tcgetattr(self._keys)
        ours = termios.tcgetattr(self._keys)
        ours[3] &= ~(termios.ICANON | termios.ECHO)
        for key in (termios.VSUSP, termios.VSTOP, termios.VSTART):
            ours[6][key] = b"\0"
        termios.tcsetattr(self._keys, termios.TCSADRAIN, ours)
        self._reactor.addReader(self)
        self._write(_ENTER)

    def leave(self) -> None:
        """Give the screen back."""
        if self._before is None:
            return
        self._reactor.removeReader(self)
        self._write(_LEAVE)
        before, self._before = self._before, None
        try:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, before)
        except termios.error:
            return  # there is no terminal any more

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, at this moment."""
        try:
            found = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return 80, 24
        return max(found.columns, 1), max(found.lines, 1)

    def draw(self, lines: list[str]) -> None:
        """Show these lines, which are clean and no longer than the screen is wide, and nothing else."""
        self._write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")

    # -- IReadDescriptor -----------------------------------------------------------------------------------

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._keys

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "keys"

    def doRead(self) -> None:
        """See IReadDescriptor: somebody typed something."""
        try:
            typed = os.read(self._keys, 64)
        except OSError:
            typed = b""
        if not typed or typed[:1] in b"qQ\x04":
            self._on_quit()

    def connectionLost(self, reason: Failure) -> None:
        """See IFileDescriptor: the terminal has gone."""
        self._on_quit()

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._on_quit()


@attrs.define(eq=False)
class _Watching:
    """One run of the live screen."""

    reactor: Any
    path: str
    screen: Screen
    board: Board = attrs.field(factory=Board)
    name: str = ""
    _asking: Deferred[None] | None = None
    #: Fails with what was our own mistake, and with nothing else.
    broken: Deferred[None] = attrs.field(factory=Deferred)

    def on_event(self, event: dict[str, Any]) -> None:
        self.board.take(event, self.reactor.seconds())

    def draw(self) -> None:
        columns, rows = self.screen.size
        now, fancy = self.reactor.seconds(), self.screen.fancy
        self.screen.draw(self.board.lines(columns, rows, now, name=self.name, fancy=fancy))
        if self.board.unknown and self._asking is None:
            self._asking = Deferred.fromCoroutine(self._ask())
            self._asking.addErrback(self.fails).addCallback(self._asked)

    async def _ask(self) -> None:
        """What an event did not say of a job that has begun."""
        while self.board.unknown:
            job = self.board.unknown.pop(0)
            try:
                self.board.know(await control.call(self.reactor, self.path, "jobs.show", {"job": job}))
            except FtxError:
                continue  # it is over and forgotten; the events have said what there was

    def fails(self, failure: Failure) -> None:
        """A part of it has failed: the whole ends. Being cancelled is no failure."""
        if failure.check(CancelledError) is None and not self.broken.called:
            self.broken.errback(failure)

    def _asked(self, _: None) -> None:
        self._asking = None

    def end(self) -> None:
        if self._asking is not None:
            self._asking.cancel()


async def _either(events: Deferred[None], broken: Deferred[None]) -> None:
    """Wait for the events to end, unless something breaks before; both are over then."""
    try:
        await DeferredList([events, broken], fireOnOneCallback=True, fireOnOneErrback=True, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
    finally:
        for one in (events, broken):
            one.addErrback(lambda _: None)  # what has ended it is on its way already
            one.cancel()


async def watch(reactor: Any, path: str, stream: TextIO, keys: int, on_quit: Callable[[], object]) -> None:
    """Show what the daemon at `path` does, until it stops, or until somebody has enough: `on_quit` then ends this.

    Raises what `ftx.client.control.subscribe` raises, the terminal being as it was.
    """
    status = await control.call(reactor, path, "daemon.status")
    screen = Screen(reactor, stream, keys, on_quit)
    watching = _Watching(reactor, path, screen, name=str(status.get("name", "")))
    drawing = LoopingCall(watching.draw)
    drawing.clock = reactor
    screen.enter()
    try:
        drawing.start(limits.PROGRESS_FASTEST).addErrback(watching.fails)
        events = control.subscribe(reactor, path, _TYPES, limits.PROGRESS_FASTEST, watching.on_event)
        await _either(Deferred.fromCoroutine(events), watching.broken)
    finally:
        if drawing.running:
            drawing.stop()
        watching.end()
        screen.leave()
