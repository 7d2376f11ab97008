"""Where a pairing code comes from: a file, the variable FTX_CODE, or a person at the terminal. Never an argument.

Other users of a machine can read a command line, and it stays in the shell's history.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ftx import limits
from ftx.core.codes import parse_code
from ftx.errors import FtxError
from ftx.text import show

if TYPE_CHECKING:
    from ftx.client.options import Options

__all__ = ["VARIABLE", "CodeSource", "refuse_code"]

#: The environment variable that may have the code, for programs: what the same user runs can read it.
VARIABLE: Final = "FTX_CODE"
_CODE: Final = re.compile(r"[1-9](-[a-zA-Z]{3,7}){1,4}")


def refuse_code(argument: str) -> None:
    """FtxError `usage` when somebody has written a code where other users can read it."""
    if _CODE.fullmatch(argument):
        raise FtxError(
            "usage",
            "a code is never an argument: everybody on this machine could read it",
            "leave it out, and type it when you are asked; a program uses --code-file or FTX_CODE",
        )


class CodeSource:
    """The code for one pairing. Made before dialling: FtxError `usage` when it can come from nowhere."""

    def __init__(self, options: Options, file: str | None) -> None:
        self._options = options
        self._given: str | None = None
        if file is not None:
            self._given = parse_code(_read(file))
        elif os.environ.get(VARIABLE):
            self._given = parse_code(os.environ[VARIABLE])
        elif options.no_input or not all(one is not None and one.isatty() for one in (sys.stdin, sys.stderr)):
            raise FtxError("usage", "there is nobody to ask for the code", "use --code-file FILE, or FTX_CODE")

    async def get(self, reactor: Any, question: str) -> str:
        """The code, in its final form. A slip of the finger is told and asked for again: it is no attempt yet."""
        if self._given is not None:
            return self._given
        while True:
            typed = await _line(reactor, question)
            try:
                return parse_code(typed)
            except FtxError as error:
                self._options.output.stderr(f"{error.message} ({error.hint})")


def _read(file: str) -> str:
    """The first line of `file`, `-` is standard input."""
    try:
        descriptor = 0 if file == "-" else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        with open(descriptor, "rb", closefd=file != "-") as stream:
            line = stream.readline(4 * limits.PAIRING_CODE_TEXT)
    except OSError as error:
        reason = (error.strerror or "input/output error").lower()
        raise FtxError("source-unreadable", f"the code cannot be read from {show(file)}: {reason}") from error
    return line.decode("utf-8", "replace").strip()


async def _line(reactor: Any, question: str) -> str:
    """One line from the terminal, while everything else goes on; FtxError `usage` at its end."""
    sys.stderr.write(question)
    sys.stderr.flush()
    reader = _Reader()
    reactor.addReader(reader)
    try:
        return await reader.line
    finally:
        reactor.removeReader(reader)


@implementer(IReadDescriptor)
class _Reader:
    """The terminal as the reactor sees it. It gives whole lines: the kernel edits them."""

    def __init__(self) -> None:
        self.line: Deferred[str] = Deferred()

    def fileno(self) -> int:
        """See IReadDescriptor."""
        return sys.stdin.fileno()

    def logPrefix(self) -> str:
        """See IReadDescriptor."""
        return "terminal"

    def doRead(self) -> None:
        """A line is there, or the end."""
        try:
            got = os.read(self.fileno(), 4 * limits.PAIRING_CODE_TEXT)
        except OSError:
            got = b""
        if self.line.called:
            return
        if got:
            self.line.callback(got.decode("utf-8", "replace"))
        else:
            self.line.errback(Failure(FtxError("usage", "no code was given")))

    def connectionLost(self, reason: Failure) -> None:
        """The reactor takes it away."""
        if not self.line.called:
            self.line.errback(Failure(FtxError("usage", "no code was given")))
