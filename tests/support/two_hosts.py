"""Two hosts on a private link, run as `unshare -rn python two_hosts.py`: prints how each way of discovery went.

Two network namespaces joined by a veth pair; nothing reaches the machine's own network. The parent is the host that
searches, on `near`; its child, in a namespace of its own, is the daemon's, on `far`. The result is one line of JSON:
for every way the replies found, as `[via, address, interface]`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PORT = 7389


def ip(*words: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *words], check=True)


def configure(name: str, number: int) -> None:
    """Addresses without the seconds that looking for duplicates takes."""
    ip("link", "set", name, "addrgenmode", "none")
    ip("addr", "add", f"192.0.2.{number}/24", "broadcast", "+", "dev", name)
    ip("addr", "add", f"fe80::{number}/64", "dev", name, "nodad")
    ip("link", "set", name, "up")


def daemon() -> None:
    """The other host: a responder for as long as standard input is open."""
    from twisted.internet import reactor as any_reactor

    from ftx.disk.keys import Identity
    from ftx.net.discovery import Responder

    reactor: Any = any_reactor
    print("here", flush=True)
    sys.stdin.readline()  # the link has been moved into this namespace
    configure("far", 2)
    responder = Responder(reactor, Identity.generate(), name="far", tcp_port=7389, port=PORT)
    responder.start()
    print(json.dumps({"interfaces": responder.interfaces, "problem": responder.problem}), flush=True)
    reactor.callInThread(lambda: (sys.stdin.readline(), reactor.callFromThread(reactor.stop)))
    reactor.run()
    responder.stop()


def search() -> None:
    """This host: make the link, start the other host, and search by every way alone."""
    from twisted.internet import reactor as any_reactor
    from twisted.internet.defer import Deferred

    from ftx.core.discovery import Reply
    from ftx.net.discovery import Finder
    from ftx.wire.announce import Way

    reactor: Any = any_reactor
    ip("link", "add", "near", "type", "veth", "peer", "name", "far")
    child = subprocess.Popen(
        ["unshare", "-n", sys.executable, __file__, "daemon"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    if child.stdin is None or child.stdout is None:
        raise AssertionError("pipes were asked for")
    child.stdout.readline()
    ip("link", "set", "far", "netns", str(child.pid))
    configure("near", 1)
    child.stdin.write("go\n")
    child.stdin.flush()
    found: dict[str, Any] = {"daemon": json.loads(child.stdout.readline())}

    async def one(way: Way) -> Reply:
        """The first reply by this way alone."""
        answer: Deferred[Reply] = Deferred()
        finder = Finder(
            reactor,
            port=PORT,
            include=("near",),
            hosts=("192.0.2.2", "fe80::2%near") if way == Way.UNICAST else (),
            ways={way},
            on_reply=answer.callback,
        )
        finder.start()
        try:
            return await answer.addTimeout(10, reactor)
        finally:
            finder.stop()

    async def every() -> None:
        for way in Way:
            reply = await one(way)
            found[way.label] = [reply.via, reply.address, reply.interface]

    done = Deferred.fromCoroutine(every())
    done.addErrback(lambda failure: found.__setitem__("error", failure.getErrorMessage()))
    done.addBoth(lambda _: reactor.stop())
    reactor.run()
    child.stdin.close()
    child.wait(10)
    print(json.dumps(found))


if __name__ == "__main__":
    daemon() if sys.argv[1:] == ["daemon"] else search()
