"""Ports that are known before anybody listens on them, and that nobody else gets meanwhile.

A port that the kernel chose and that was let go again may be anybody's a moment later: it gives the same ones to every
other socket of this machine, and tests run beside each other. So these are none of those that the kernel chooses from,
and each process has a block of its own. A block is claimed by the name of an abstract Unix socket, which ends with its
process, whatever becomes of that.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator

__all__ = ["free_port", "low_port"]

#: Below what Linux chooses from (`net.ipv4.ip_local_port_range`, 32768 where nobody changed it).
_FIRST, _BLOCK, _BLOCKS = 10_000, 256, 88
#: Those that only root may bind, without the well-known ones.
_LOW = range(1023, 600, -1)

_claims: list[socket.socket] = []
_own: dict[int, Iterator[int]] = {}


def _claimed(name: str) -> bool:
    """Whether nobody else has claimed this; then it is ours until this process ends."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0ftx-tests-{name}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def _free(port: int, kind: socket.SocketKind) -> bool:
    """Whether nobody is bound to this port, at any address."""
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def _block() -> Iterator[int]:
    """The ports of this process, round and round; a process that was forked off has others."""
    process = os.getpid()
    if process not in _own:
        order = (number % _BLOCKS for number in range(process, process + _BLOCKS))
        first = next((_FIRST + _BLOCK * number for number in order if _claimed(f"ports-{number}")), None)
        if first is None:
            raise AssertionError("every block of ports is taken")
        _own[process] = itertools.cycle(range(first, first + _BLOCK))
    return _own[process]


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nobody uses, and nobody will be given: it comes round again after many others."""
    return next(port for port in itertools.islice(_block(), _BLOCK) if _free(port, kind))


def low_port() -> int:
    """A port that only root may bind, and nobody has."""
    found = next((port for port in _LOW if _free(port, socket.SOCK_STREAM) and _claimed(f"low-{port}")), None)
    if found is None:
        raise AssertionError("there is no free port")
    return found
