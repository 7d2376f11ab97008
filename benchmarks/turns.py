"""A daemon or a client that measures its own reactor: `python -m benchmarks.turns FILE daemon|client WORDS...`.

A call that is due every `EVERY` seconds notes by how much it came late; FILE gets these delays in the end, in seconds,
as JSON. That is what others wait for when a turn of the reactor takes long, whether by work in it or because another
thread, or another process, had the processor.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

EVERY = 0.005


def watch(reactor: Any, delays: list[float]) -> None:
    """Begin to note delays."""
    due = reactor.seconds() + EVERY

    def tick() -> None:
        nonlocal due
        now = reactor.seconds()
        delays.append(max(0.0, now - due))
        due = now + EVERY
        reactor.callLater(EVERY, tick)

    reactor.callLater(EVERY, tick)


def main() -> int:
    """Run the program with its words; returns its exit code."""
    file, kind, *words = sys.argv[1:]
    from twisted.internet import reactor

    delays: list[float] = []
    watch(reactor, delays)
    if kind == "daemon":
        from ftx.daemon.main import main as daemon

        code = daemon(words)
    else:
        from ftx.client.cli import main as client

        code = client(words)
    Path(file).write_text(json.dumps(delays))
    return code


if __name__ == "__main__":
    sys.exit(main())
