"""Where a run's words go: results to stdout, everything else to stderr, each stream judged by itself.

A reader that goes away (`| head -1`) ends nothing and is no error: a transfer goes on, a verb that only prints sees
`closed` and stops. A stdout that cannot take the result, a full disk for instance, is one: see `problem`.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Literal, TextIO

import attrs

from ftx.client.bars import View, make_view
from ftx.client.render import json_line
from ftx.errors import FtxError
from ftx.text import show
from ftx.wire.events import Event, Progress

__all__ = ["Output", "use_colour"]

_RESET = "\x1b[0m"
_STYLES = {
    "error": "\x1b[1;31m",
    "hint": "\x1b[36m",
    "ok": "\x1b[32m",
    "warn": "\x1b[33m",
    "title": "\x1b[1m",
    "command": "\x1b[36m",
}


def use_colour(choice: str, stream: TextIO | None, environ: dict[str, str]) -> bool:
    """Whether to colour what goes to `stream`.

    `choice` is `always`, `never` or `auto`; `auto` wants a terminal that is not `TERM=dumb`, and no `NO_COLOR`
    with a value (no-color.org).
    """
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    return is_terminal(stream)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether `stream` is an open terminal."""
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):
        return False


@attrs.define(eq=False)
class Output:
    """Both streams of one run."""

    json: bool = False
    quiet: bool = False
    #: 0: what matters; 1: each file, and what ftx logs; 2: the details that it logs as well.
    verbose: int = 0
    color: Literal["auto", "always", "never"] = "auto"
    progress: Literal["auto", "bar", "plain", "none"] = "auto"
    #: Whether stdout takes no more.
    closed: bool = attrs.field(default=False, init=False)
    #: Why stdout took no more, if that is an error.
    problem: FtxError | None = attrs.field(default=None, init=False)
    #: Whether stdout carries the content of a file, so that everything that is said goes to stderr.
    _content: bool = attrs.field(default=False, init=False)
    _view: View | None = attrs.field(default=None, init=False)

    def results_to_stderr(self) -> None:
        """Standard output is for the content of a file: results go to stderr."""
        self._content = True

    def result(self, text: str, style: str = "") -> None:
        """One line of the result, for people: nothing with `--json`. Flushed."""
        if self._content:
            self.note(text, style)
        elif not self.json:
            self._stdout(self._styled(text, style, sys.stdout))

    def record(self, value: Event | dict[str, Any]) -> None:
        """One line of the result, for programs: nothing without `--json`. Flushed."""
        if self.json:
            self._stdout(json_line(value))

    def line(self, text: str) -> None:
        """One line of the result that is made for people or programs already. Flushed."""
        self._stdout(text)

    def note(self, text: str, style: str = "") -> None:
        """One line on stderr, unless `--quiet`. `text` is clean."""
        if not self.quiet:
            self.stderr(text, style)

    def error(self, error: FtxError, what: str = "") -> None:
        """`ftx-client: <what>: <why>` and, where there is one, `hint: …`, on stderr, always."""
        said = ": ".join(part for part in ("ftx-client", show(what, 1000), show(error.message, 1000)) if part)
        self.stderr(said, "error")
        if error.hint:
            self.stderr(f"hint: {show(error.hint, 2000)}", "hint")

    def stderr(self, text: str, style: str = "") -> None:
        """One line on stderr, above the bar while there is one."""
        line = self._styled(text, style, sys.stderr)
        if self._view is not None:
            self._view.say(line)
        else:
            plain_line(line)

    def full_screen(self) -> bool:
        """Whether there is a whole screen to draw on and somebody who types, and nothing else was wished."""
        wanted = self.progress in ("auto", "bar") and not self.json and not self.quiet
        return wanted and is_terminal(sys.stdout) and is_terminal(sys.stdin) and os.environ.get("TERM") != "dumb"

    def open_view(self) -> View:
        """The view of the progress: made at the first call, in the form that options and terminal ask for."""
        if self._view is None:
            self._view = make_view(self._mode())
        return self._view

    def progress_event(self, event: Progress) -> None:
        """Show where the job stands."""
        self.open_view().show(event)

    def close_view(self) -> None:
        """Take the bar away; lines go straight to stderr again."""
        if self._view is not None:
            view, self._view = self._view, None
            view.close()

    def poll(self) -> None:
        """Let the view draw what it held back; called a few times a second."""
        if self._view is not None:
            self._view.poll()

    def _mode(self) -> Literal["bar", "plain", "none"]:
        if self.quiet:
            return "none"
        if self.progress != "auto":
            return self.progress
        terminal = is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
        if self.json:  # a bar between the lines of JSON helps nobody, plain lines are there as events
            return "bar" if terminal and not is_terminal(sys.stdout) else "none"
        return "bar" if terminal else "plain"

    def _styled(self, text: str, style: str, stream: TextIO | None) -> str:
        if style and use_colour(self.color, stream, dict(os.environ)):
            head, colon, rest = text.partition(":") if style in ("error", "hint") else (text, "", "")
            return f"{_STYLES[style]}{head}{colon}{_RESET}{rest}"
        return text

    def _stdout(self, line: str) -> None:
        if self.closed:
            return
        if sys.stdout is None:
            self._stdout_failed("it is closed")
            return
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self._stdout_failed("")
        except (OSError, ValueError) as error:
            self._stdout_failed((getattr(error, "strerror", None) or "it is closed").lower())

    def _stdout_failed(self, why: str) -> None:
        self.closed = True
        if why:
            self.problem = FtxError("local-io", f"standard output cannot be written: {why}")
        # What is left in the buffer would fail once more when the interpreter flushes it at its end.
        try:
            descriptor = sys.stdout.fileno() if sys.stdout is not None else -1
        except (OSError, ValueError):
            return
        if descriptor >= 0:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def plain_line(line: str) -> None:
    """Write `line` to stderr; a stderr that is gone takes nothing with it."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return
