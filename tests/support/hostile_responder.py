"""A neighbour who answers every query under many forged identities, run as `hostile_responder.py PORT COUNT NAME`.

Each answer is properly signed by a key of its own, calls itself NAME, and claims TCP port 22 of this host, where this
program listens. It prints `ready`, and then, for every connection, what it begins with.
"""

from __future__ import annotations

import select
import socket
import sys

from ftx.core.identity import SIGN_DISCOVERY
from ftx.disk.keys import Identity
from ftx.errors import ProtocolError
from ftx.wire.announce import Query, ReplyBody, decode, encode_reply


def answer(query: Query, key: Identity, name: str) -> bytes:
    """One forged answer."""
    body = ReplyBody(query.way, query.nonce, key.public_raw, b"instance", 22, 1, 1, name)
    unsigned = encode_reply(body)
    return unsigned + key.sign(SIGN_DISCOVERY, unsigned)


def main(port: int, count: int, name: str) -> None:
    """Answer until killed."""
    keys = [Identity.generate() for _ in range(count)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked, socket.create_server(("", 22)) as door:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        asked.bind(("", port))
        print("ready", flush=True)
        while True:
            for one in select.select([asked, door], [], [])[0]:
                if one is door:
                    with door.accept()[0] as connected:
                        print("connected", connected.recv(3).hex(), flush=True)
                    continue
                data, source = asked.recvfrom(2048)
                try:
                    query = decode(data)
                except ProtocolError:
                    continue
                if isinstance(query, Query):
                    for key in keys:
                        asked.sendto(answer(query, key, name), source)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
