"""See what a peer shares, and get it: python get_and_list.py TARGET:SHARE[/PATH] [DIR]

Uses the identity and the known peers of this user, or those below FTX_HOME, like `ftx-client ls` and `get`.
"""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from ftx.client.api import Settings, get, ls
from ftx.errors import FtxError
from ftx.wire.events import Done, Failed, FileEvent, Progress

#: Items named before the rest is left alone: nobody knows how many there are.
SHOWN = 20


async def main(reactor: Any, source: str, folder: str = ".") -> None:
    """List, get, and end the process with the exit code that `ftx-client get` would have."""
    settings = Settings.from_environment()
    code = 1
    try:
        async with aclosing(aiter(ls(reactor, settings, source))) as items:
            shown = 0
            async for item in items:
                shown += 1
                if shown > SHOWN:
                    print("...")
                    break
                print(f"{item.kind}: {item.path!a}")
        async for event in get(reactor, settings, [source], folder):
            match event:
                case Progress(bytes_total=int(total)) if total:
                    print(f"{event.stage}: {event.bytes_confirmed * 100 // total} %")
                case FileEvent(status="failed"):
                    print(f"failed: {event.path!a}")
                case Done():
                    print(f"done: {event.files} files, {event.files_identical} were here already")
                    code = event.exit
                case Failed():
                    print(f"{event.error.message}\nhint: {event.error.hint}", file=sys.stderr)
                    code = event.exit
    except FtxError as error:  # it could not even begin: nobody there, not paired, no such share
        print(f"{error.message}\nhint: {error.hint}", file=sys.stderr)
        code = error.exit_code
    sys.exit(code)


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.exit(print(__doc__))
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: get_and_list.py TARGET:SHARE[/PATH] [FOLDER]")
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))
