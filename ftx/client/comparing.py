"""Asking a person whether the words on both screens are the same, while a connection waits.

A prompt that blocks would stop the reactor, and with it the pings that keep the other side waiting: the line is read as
it comes. Where nobody can be asked the answer is no: files do not go to somebody whom nobody has compared.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from ftx.errors import FtxError
from ftx.text import show

if TYPE_CHECKING:
    from ftx.client.options import Options

__all__ = ["compare"]


async def compare(reactor: Any, options: Options, name: str, phrase: str) -> bool:
    """Whether the person here sees `phrase` on the screen of `name`, too. With `--yes` it is taken for granted.

    FtxError `unknown-peer` where there is nobody to ask.
    """
    if options.yes:
        options.output.note(f"the words were not compared, as --yes asks: {show(phrase)}", "warn")
        return True
    terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
    if options.no_input or not terminal:
        why = "--no-input was given" if options.no_input else "this is no terminal"
        hint = "run it again where somebody can answer; or pair the two first: ftx-client pair --open there"
        raise FtxError("unknown-peer", f"nobody can compare the words, since {why}; so nothing was sent", hint)
    options.output.note(f"does the screen of {show(name)} show the same words, {show(phrase)}? [y/N]")
    line = await _line(reactor, sys.stdin.fileno())
    return line.strip().lower() in (b"y", b"yes")


def _line(reactor: Any, fd: int) -> Any:
    """A Deferred of the next line at `fd`; it can be cancelled."""
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReadDescriptor
    from zope.interface import implementer

    @implementer(IReadDescriptor)
    class Line:
        got = b""

        def fileno(self) -> int:
            return fd

        def logPrefix(self) -> str:
            return "line"

        def connectionLost(self, reason: object) -> None:
            reactor.removeReader(self)

        def doRead(self) -> None:
            chunk = os.read(fd, 1024)
            self.got += chunk
            if not chunk or b"\n" in self.got or len(self.got) > 1024:
                reactor.removeReader(self)
                answered.callback(self.got)

    reader = Line()
    answered: Deferred[bytes] = Deferred(lambda _: reactor.removeReader(reader))
    reactor.addReader(reader)
    return answered
