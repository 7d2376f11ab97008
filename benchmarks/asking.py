"""Asks who is there, again and again, and says after how long each answer was there: `python -m benchmarks.asking N`.

Prints JSON: for each query the seconds until the first, the second, ... peer was reported, by the engine that
`ftx-client discover` uses. A responder answers one source once a second, so there is a pause between queries.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from ftx.client.api import Settings, discover

_WAIT = 0.3
_PAUSE = 1.2


async def run(reactor: Any, times: str) -> None:
    """Ask so many times."""
    settings = Settings.from_environment()
    found: list[list[float]] = []
    for _ in range(int(times)):
        await deferLater(reactor, _PAUSE)
        begun, after = time.monotonic(), dict[str, float]()
        await discover(
            reactor,
            settings,
            _WAIT,
            on_event=lambda one, begun=begun, after=after: after.setdefault(one.id, time.monotonic() - begun),  # type: ignore[misc]
        )
        found.append(sorted(after.values()))
    print(json.dumps(found))


if __name__ == "__main__":
    react(lambda *words: Deferred.fromCoroutine(run(*words)), sys.argv[1:])
