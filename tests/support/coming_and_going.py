"""Interfaces that come and go under a running daemon, run as `unshare -rn python coming_and_going.py`.

A network namespace of its own, with nothing but `lo` at first. Prints `all is well`, or raises.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.bounded import until

PORT = 7389


def ip(*words: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *words], check=True)


async def check(reactor: Any) -> None:
    """Follow an interface from its coming to its going."""
    from twisted.internet.task import Clock

    from ftx import limits
    from ftx.daemon.listen import Endpoint, ListeningService
    from ftx.disk.keys import Identity
    from ftx.net.discovery import Responder

    from twisted.internet.protocol import Protocol, ServerFactory  # isort: skip

    class Talks(Protocol):
        def connectionMade(self) -> None:
            self.transport.write(b"here")

    ip("link", "set", "lo", "up")
    clock = Clock()
    listening = ListeningService([Endpoint(socket.AF_INET, PORT)], ServerFactory.forProtocol(Talks), reactor)
    listening.privilegedStartService()
    listening.startService()
    responder = Responder(reactor, Identity.generate(), name="here", tcp_port=PORT, port=PORT, clock=clock)
    responder.start()
    try:
        assert "near" not in responder.interfaces, responder.interfaces
        ip("link", "add", "near", "type", "veth", "peer", "name", "far")
        ip("addr", "add", "192.0.2.1/24", "broadcast", "+", "dev", "near")
        ip("link", "set", "far", "up")
        ip("link", "set", "near", "up")
        clock.advance(limits.INTERFACES_REFRESH)
        await until(lambda: "near" in responder.interfaces)
        with socket.create_connection(("192.0.2.1", PORT), 5) as client:
            client.setblocking(False)
            said = b""

            def arrived() -> bool:
                nonlocal said
                with contextlib.suppress(BlockingIOError):
                    said += client.recv(10)
                return said == b"here"

            await until(arrived)
        ip("link", "del", "near")
        clock.advance(limits.INTERFACES_REFRESH)
        await until(lambda: "near" not in responder.interfaces)
        assert responder.problem == "", responder.problem
    finally:
        responder.stop()
        listening.stopService()


def main() -> None:
    """Run the check on the reactor."""
    from twisted.internet import reactor as any_reactor
    from twisted.internet.defer import Deferred

    reactor: Any = any_reactor
    said: list[str] = ["all is well"]

    def begin() -> None:
        done = Deferred.fromCoroutine(check(reactor))
        done.addErrback(lambda failure: said.insert(0, failure.getTraceback()) or said.pop())
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    print("\n".join(said))


if __name__ == "__main__":
    main()
