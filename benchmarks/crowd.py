"""Clients at once, in one process: `python -m benchmarks.crowd URL INTO SOURCE...`, each source by a client of its own.

Prints `ready` when everything is imported, begins at a line on standard input, and prints as JSON how many were stored,
and how many failed for which reason: a hundred processes that start would measure how long Python takes to start. Each
client has its own connection, job and threads, as `ftx.client.api` makes them, in a process that is set up as
`ftx-client` is.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from ftx import limits
from ftx.client.api import Settings, send
from ftx.disk.heap import settle
from ftx.errors import FtxError
from ftx.wire.events import Done


async def run(reactor: Any, url: str, into: str, *sources: str) -> None:
    """Send every source, all at once."""
    settle(limits.GARBAGE_CLIENT)
    settings = Settings.from_environment()
    print("ready", flush=True)
    sys.stdin.readline()
    sending = [Deferred.fromCoroutine(_one(reactor, settings, source, url, into)) for source in sources]
    print(json.dumps(Counter(await gatherResults(sending, consumeErrors=True))), flush=True)


async def _one(reactor: Any, settings: Settings, source: str, url: str, into: str) -> str:
    try:
        last = await send(reactor, settings, [source], url, into=into)
    except FtxError as error:
        return f"{error.name}: {error.message}"
    return "stored" if isinstance(last, Done) else f"{last.error.name}: {last.error.message}"


if __name__ == "__main__":
    react(lambda *words: Deferred.fromCoroutine(run(*words)), sys.argv[1:])
