"""A program that embeds the engine (`docs/embedding.md`): `faults.embedded HOME SOURCE TARGET` sends.

It prints events and ends as the client would. The fork server starts it like the two programs of ftx.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["main"]


def main() -> int:
    """Send; the exit code."""
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    from ftx.client.api import Settings, send
    from ftx.disk.places import places, prepare_home
    from ftx.errors import FtxError
    from ftx.wire.events import Event, encode

    home, source, target = sys.argv[1:]

    def show(event: Event) -> None:
        print(encode(event).decode(), flush=True)

    async def run(reactor: Any) -> None:
        found = places(home, {}, 0, "/")
        prepare_home(found)
        try:
            last = await send(reactor, Settings(found, retries=0), [source], target, on_event=show)
        except FtxError as error:
            print(error.message, file=sys.stderr)
            raise SystemExit(error.exit_code) from None
        raise SystemExit(last.exit)

    try:
        react(lambda reactor: Deferred.fromCoroutine(run(reactor)))
    except SystemExit as end:
        return int(end.code or 0)
    return 0
