"""Watch the daemon of this user from a program: python watch_events.py [EVENT...]

Prints the jobs there are, then every event (or those named) until the daemon stops. FTX_HOME chooses another daemon.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from ftx.client.api import Settings
from ftx.client.control import subscribe
from ftx.errors import FtxError


def on_event(event: dict[str, Any]) -> None:
    """One event, decoded; docs/control.md has the fields of each."""
    match event:
        case {"event": "snapshot", "jobs": jobs}:
            print(f"{len(jobs)} jobs so far", flush=True)
        case {"event": "progress", "job": job, "bytes_confirmed": confirmed, "bytes_total": total}:
            print(f"{job[:8]} progress: {confirmed} of {total} bytes", flush=True)
        case {"event": "file", "job": job, "status": status, "path": path}:
            print(f"{job[:8]} {status}: {path!a}", flush=True)
        case {"event": name, "job": job}:
            print(f"{job[:8]} {name}", flush=True)


async def main(reactor: Any, *types: str) -> None:
    """Watch until the daemon ends the stream."""
    path = Settings.from_environment().places.control
    try:
        await subscribe(reactor, path, types or None, 1.0, on_event)
    except FtxError as error:
        print(f"{error.message}\nhint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    print("the daemon has stopped")


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.exit(print(__doc__))
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))
