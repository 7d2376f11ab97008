"""One question to the daemon on this machine, blocking and without Twisted: for completion, which must be quick."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ftx import limits
from ftx.errors import FtxError
from ftx.net.local import reachable
from ftx.wire.jsonlines import decode_reply, encode_request

__all__ = ["ask"]

#: Seconds that somebody who pressed Tab is made to wait at most.
_PATIENCE: Final = 0.5


def ask(path: str, method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result of `method` from the daemon whose control socket is at `path`; empty when there is none, whatever
    the reason: who completes a command line wants no errors.
    """
    try:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(_PATIENCE)
            with reachable(path) as address:
                door.connect(address)
            door.sendall(encode_request(method, dict(params)) + b"\n")
            received = bytearray()
            while b"\n" not in received and len(received) <= limits.CONTROL_LINE:
                part = door.recv(65_536)
                if not part:
                    return {}
                received += part
        found = msgspec.json.decode(decode_reply(bytes(received).partition(b"\n")[0]))
    except (OSError, FtxError, msgspec.DecodeError, UnicodeError):
        return {}
    return found if isinstance(found, dict) else {}
