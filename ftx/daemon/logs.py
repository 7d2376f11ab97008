"""The log, with a level that can be changed: as text, or as JSON, one object a line (`--log-format json`).

Under twistd: `twistd --logger ftx.daemon.logs.text_lines`, or `json_lines`.
"""

from __future__ import annotations

import json
import sys
from typing import Final, TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    textFileLogObserver,
)
from zope.interface import implementer

from ftx.errors import FtxError
from ftx.wire.events import iso_time

__all__ = ["LEVELS", "JsonLines", "json_line", "json_lines", "log_level", "text_lines"]

#: How much a log says: each says what those behind it say, too.
LEVELS: Final = ("debug", "info", "warn", "error")

#: Values that go into a line as they are; anything else is in the message already.
_PLAIN = (str, int, float, bool)
_INSTEAD: Final = "run it with ftx-server, or as twistd -n --logger ftx.daemon.logs.text_lines ftx"


class _Threshold(LogLevelFilterPredicate):
    """The level from which events count, for every log that we write ourselves."""

    def __init__(self) -> None:
        super().__init__(LogLevel.info)
        #: Whether there is a log that asks this.
        self.used = False


_THRESHOLD: Final = _Threshold()


def log_level(level: str | None) -> str:
    """The level of the log, changed first to one of `LEVELS` unless that is None.

    FtxError `not-supported` where the log is that of `twistd` or of another application, which decides itself.
    """
    if not _THRESHOLD.used:
        raise FtxError("not-supported", "the log is kept by the program that runs the daemon", _INSTEAD)
    if level is not None:
        _THRESHOLD.defaultLogLevel = LogLevel.levelWithName(level)
    found: str = _THRESHOLD.defaultLogLevel.name
    return found


def text_lines(stream: TextIO | None = None) -> ILogObserver:
    """An observer that writes events as text, one line each, to `stream`, else to stderr."""
    _THRESHOLD.used = True
    observer: ILogObserver = FilteringLogObserver(textFileLogObserver(stream or sys.stderr), [_THRESHOLD])
    return observer


def json_line(event: LogEvent) -> str:
    """`event` as one line of JSON without its end: `time`, `level`, `source`, `message`, the fields of the message, and
    the `traceback` where there is one. Pure ASCII: what a peer said is harmless on any terminal.
    """
    level = event.get("log_level", LogLevel.info)
    line: dict[str, object] = {
        "time": iso_time(event.get("log_time")),
        "level": level.name,
        "source": str(event.get("log_namespace", "")),
        "message": formatEvent(event),
    }
    for key, value in event.items():
        if not key.startswith("log_") and key not in line and isinstance(value, _PLAIN):
            line[key] = value
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    return json.dumps(line)


@implementer(ILogObserver)
class JsonLines:
    """Writes every event of the level in force (`log_level`) and above to `stream`, until that is gone."""

    def __init__(self, stream: TextIO) -> None:
        _THRESHOLD.used = True
        self._stream: TextIO | None = stream

    def __call__(self, event: LogEvent) -> None:
        """Write one line."""
        if self._stream is None or event.get("log_level", LogLevel.info) < _THRESHOLD.defaultLogLevel:
            return
        try:
            self._stream.write(json_line(event) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None


def json_lines() -> JsonLines:
    """An observer for stderr."""
    return JsonLines(sys.stderr)
