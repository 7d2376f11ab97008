"""A receiver inside a Twisted application: python embed_receiver.py HOME [ENDPOINT]

The application here has one other service, which says now and then that it is alive; yours will have better ones.
Send to it with `FTX_HOME=HOME ftx-client send FILE ftx://127.0.0.1:PORT`, or with send_from_script.py.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import MultiService
from twisted.internet import reactor as installed

from ftx.daemon.embed import receiver
from ftx.errors import FtxError
from ftx.wire.events import Done, Event, FileEvent


def on_event(event: Event) -> None:
    """The receiver's events, the same that `ftx-client ctl watch` shows."""
    match event:
        case FileEvent(status="stored"):
            print(f"stored {event.stored_as!a}, {event.size} bytes", flush=True)
        case Done():
            print(f"done: {event.files} files, {event.bytes} bytes", flush=True)


def main(home: str, endpoint: str = "tcp:0:interface=127.0.0.1") -> int:
    """Run until Ctrl-C or SIGTERM."""
    reactor: Any = installed
    application = MultiService()
    TimerService(60, print, "still here", flush=True).setServiceParent(application)
    try:
        files = receiver(reactor, home, listen=[endpoint], discovery=False, on_event=on_event)
    except FtxError as error:
        print(f"{error.message} ({error.hint})", file=sys.stderr)
        return 1
    files.setServiceParent(application)
    application.startService()
    host, port = files.addresses[0]
    print(f"send to ftx://{host}:{port}; files appear in {files.inbox}", flush=True)
    reactor.addSystemEventTrigger("before", "shutdown", application.stopService)
    reactor.run()
    return 0


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.exit(print(__doc__))
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: embed_receiver.py HOME [ENDPOINT]")
    sys.exit(main(*sys.argv[1:]))
