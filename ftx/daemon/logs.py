"""The log as JSON, one object a line: `--log-format json`, or `twistd --logger ftx.daemon.logs.json_lines`."""

from __future__ import annotations

import json
import sys
from typing import TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

from ftx.wire.events import iso_time

__all__ = ["JsonLines", "json_line", "json_lines"]

#: Values that go into a line as they are; anything else is in the message already.
_PLAIN = (str, int, float, bool)


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
    """Writes every event of level info and above to `stream`; one that is gone is written to no more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def __call__(self, event: LogEvent) -> None:
        """Write one line."""
        if self._stream is None or event.get("log_level", LogLevel.info) < LogLevel.info:
            return
        try:
            self._stream.write(json_line(event) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None


def json_lines() -> JsonLines:
    """An observer for stderr."""
    return JsonLines(sys.stderr)
