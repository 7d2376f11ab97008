"""Views of progress: one bar on a terminal, a line now and then elsewhere, or nothing.

The bar shows what the receiver confirmed and names the stage it is in; it has no percentage before the total is
known, and shows 100 % only when everything is confirmed. tqdm draws it, but its numbers are ours: the rate and the
time left come with the events (`ftx.core.progress`), so bytes that were there already are position, never speed.

Importing this module is cheap: tqdm is imported when the first bar is made.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ftx.limits import BAR_REFRESH, PLAIN_INTERVAL
from ftx.text import duration, plural, show, size
from ftx.wire.events import Progress

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["Bar", "Nothing", "Plain", "View", "make_view", "progress_parts"]

#: Columns a bar must have left to be worth drawing beside the numbers.
_BAR_COLUMNS = 10


class View(Protocol):
    """What shows the progress of a run on stderr. `say()` is for lines of all kinds, clean ones."""

    def announce(self, text: str) -> None:
        """Say what is being done while there are no numbers: a bar shows it, a log gets it as a line."""

    def show(self, event: Progress) -> None:
        """Take new numbers; they are drawn now, or by a later `poll()`."""

    def poll(self) -> None:
        """Draw what is due."""

    def say(self, line: str) -> None:
        """Write one line that stays."""

    def close(self) -> None:
        """Take away what does not stay."""


def make_view(
    mode: Literal["bar", "plain", "none"], clock: Callable[[], float] = time.monotonic, stream: TextIO | None = None
) -> View:
    """The view for `mode`, on `stream` (default: stderr as it is now). `clock` gives seconds that never go back."""
    stream = stream if stream is not None else sys.stderr
    if stream is None or mode == "none":
        return Nothing(stream)
    return Bar(stream, clock) if mode == "bar" else Plain(stream, clock)


def progress_parts(event: Progress) -> tuple[str, list[str]]:
    """The stage, and what is known besides: bytes, files, rate and time left, in this order."""
    parts = []
    if event.stage == "approval":
        return "waiting for approval" + (f", {duration(event.eta_s)} left" if event.eta_s is not None else ""), []
    if event.stage == "scanning":
        # Nothing has moved: the numbers are those of the counting, and grow.
        if event.bytes_total is not None:
            parts.append(size(event.bytes_total))
        if event.files_total is not None:
            parts.append(plural(event.files_total, "file"))
        return show(event.stage), parts
    if event.bytes_total is None:
        parts.append(size(event.bytes_confirmed))
    else:
        parts.append(f"{size(min(event.bytes_confirmed, event.bytes_total))}/{size(event.bytes_total)}")
    if event.files_total is None:
        parts.append(plural(event.files_done, "file"))
    else:
        parts.append(f"{event.files_done:,}/{plural(event.files_total, 'file')}")
    if event.rate is not None:
        parts.append(f"{size(event.rate)}/s")
    if event.eta_s is not None and event.stage == "transferring":
        parts.append(f"{duration(event.eta_s)} left")
    return show(event.stage), parts


def _percent(event: Progress) -> int | None:
    """Whole percents confirmed, rounded down; None before the total is known, or when there is nothing to move."""
    if event.stage in ("scanning", "approval") or not event.bytes_total:
        return None
    return min(event.bytes_confirmed, event.bytes_total) * 100 // event.bytes_total


class Nothing:
    """No progress at all; lines are written as they come."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def announce(self, text: str) -> None:
        """Nothing."""

    def show(self, event: Progress) -> None:
        """Nothing."""

    def poll(self) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Write `line`."""
        _write(self._stream, line + "\n")

    def close(self) -> None:
        """Nothing."""


class Plain(Nothing):
    """A line every `PLAIN_INTERVAL` seconds, for logs and pipes."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        super().__init__(stream)
        self._clock = clock
        self._due = clock() + PLAIN_INTERVAL
        self._event: Progress | None = None

    def announce(self, text: str) -> None:
        """Write it as a line."""
        self.say(text)

    def show(self, event: Progress) -> None:
        """Keep the numbers for the next line, which may be due."""
        self._event = event
        self.poll()

    def poll(self) -> None:
        """Write the line, when it is due and there are numbers."""
        now = self._clock()
        if self._event is None or now < self._due:
            return
        self._due = now + PLAIN_INTERVAL
        stage, parts = progress_parts(self._event)
        percent = _percent(self._event)
        if percent is not None:
            parts.insert(0, f"{percent} %")
        self.say(f"{stage}: {', '.join(parts)}" if parts else stage)


class Bar:
    """One bar on a terminal, drawn at most every `BAR_REFRESH` seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._drawn = float("-inf")
        self._event: Progress | None = None
        self._text = ""
        self._changed = False
        self._bar: Any = None
        self._gone = False

    def announce(self, text: str) -> None:
        """Show `text` in place of the bar until numbers come."""
        self._text, self._event, self._changed = text, None, True
        self.poll()

    def show(self, event: Progress) -> None:
        """Keep the numbers, and draw them if the last drawing is long enough ago."""
        self._event, self._changed = event, True
        self.poll()

    def poll(self) -> None:
        """Draw, if something changed and the last drawing is long enough ago."""
        now = self._clock()
        if self._changed and not self._gone and now - self._drawn >= BAR_REFRESH:
            self._changed = False
            self._drawn = now
            self._guarded(self._draw)

    def say(self, line: str) -> None:
        """Write `line` above the bar."""
        if self._bar is None or self._gone:
            _write(self._stream, line + "\n")
        else:
            self._guarded(lambda: self._bar.write(line, file=self._stream))

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None and not self._gone:
            self._guarded(self._bar.close)
        self._bar = None

    def _guarded(self, action: Callable[[], Any]) -> None:
        """A terminal that went away (its window was closed) takes the bar with it, not the transfer."""
        try:
            action()
        except (OSError, ValueError):
            self._gone = True
            if self._bar is not None:
                self._bar.disable = True

    def _draw(self) -> None:
        width = _width(self._stream)
        event = self._event
        if event is None:
            layout, position, total = _literal(self._text), 0, None
        else:
            layout = _layout(event, width)
            total = event.bytes_total
            position = event.bytes_confirmed if total is None else min(event.bytes_confirmed, total)
        if self._bar is None:
            self._bar = _make_bar(self._stream, layout, position, total, width)
            return
        self._bar.bar_format, self._bar.n, self._bar.total, self._bar.ncols = layout, position, total, width
        self._bar.refresh()


def _layout(event: Progress, width: int) -> str:
    """tqdm's format for the line: on narrow terminals the files go first, then the rate, the time left, the bar."""
    stage, parts = progress_parts(event)
    percent = _percent(event)
    if percent is None:
        return _literal(f"{stage}: {', '.join(parts)}" if parts else stage)
    head = f"{stage} {percent:3d}%"
    while len(parts) > 1 and len(head) + len(", ".join(parts)) + _BAR_COLUMNS + 3 > width:
        del parts[1]
    if len(head) + len(parts[0]) + _BAR_COLUMNS + 3 > width:
        return _literal(f"{percent}% {stage} {parts[0]}")
    return _literal(f"{head}|") + "{bar}" + _literal(f"| {', '.join(parts)}")


def _literal(text: str) -> str:
    """`text` for a format string, as it is."""
    return text.replace("{", "{{").replace("}", "}}")


def _width(stream: TextIO) -> int:
    """The columns to use: COLUMNS, else the terminal's, less one, so that no line wraps; at least 1."""
    columns = 0
    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and len(given) <= 5:
        columns = int(given)
    if not columns:
        try:
            columns = os.get_terminal_size(stream.fileno()).columns
        except (OSError, ValueError):
            columns = 0
    return max((columns or 80) - 1, 1)


def _make_bar(stream: TextIO, layout: str, position: int, total: int | None, width: int) -> Any:
    # tqdm takes its defaults from TQDM_* variables while it is imported, and a malformed one makes the import
    # fail; the bar is ours alone to set up.
    for name in [name for name in os.environ if name.startswith("TQDM_")]:
        del os.environ[name]
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread that wakes up to redraw: we do that
    tqdm.set_lock(threading.RLock())  # the default also makes a semaphore for processes that we do not have
    return tqdm(
        total=total,
        initial=position,
        bar_format=layout,
        ncols=width,
        nrows=20,  # left to itself, it hides its only bar on a terminal that does not know its height
        file=stream,
        leave=False,
        mininterval=0,
    )


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        return
