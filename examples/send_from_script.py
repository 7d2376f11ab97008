"""Send files from a program: python send_from_script.py SRC... TARGET

Uses the identity and the known peers of this user, or those below FTX_HOME, like `ftx-client send`.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from ftx.client.api import Settings, send
from ftx.errors import FtxError
from ftx.wire.events import Done, Event, FileEvent, Progress


def on_event(event: Event) -> None:
    """What happens, as it happens; the events of `ftx-client --json`."""
    match event:
        case Progress(bytes_total=int(total)) if total:
            print(f"{event.stage}: {event.bytes_confirmed * 100 // total} %")
        case FileEvent():
            print(f"{event.status}: {event.path!a}")


async def main(reactor: Any, *words: str) -> None:
    """Send, and end the process with the exit code that `ftx-client` would have."""
    *sources, target = words
    try:
        last = await send(reactor, Settings.from_environment(), sources, target, on_event=on_event)
    except FtxError as error:  # it could not even begin: nobody there, no such file, not paired
        print(f"{error.message}\nhint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    if isinstance(last, Done):
        print(f"done: {last.files} files, {last.bytes_wire} bytes travelled, receipt in {last.receipt}")
    else:
        print(f"{last.error.message}\nhint: {last.error.hint}", file=sys.stderr)
    sys.exit(last.exit)


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.exit(print(__doc__))
    if len(sys.argv) < 3:
        sys.exit("usage: send_from_script.py SRC... TARGET")
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))
