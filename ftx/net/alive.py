"""Whether the other end of a connection is still there: asked of the peer, and of the kernel."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.internet.task import deferLater

from ftx import limits
from ftx.net.secure import SecureTransport
from ftx.net.transfer import Connection
from ftx.wire.messages import Ping

__all__ = ["hung_up", "proves_alive"]

#: Seconds between two looks at whether a peer has answered.
_STEP = 0.05


async def proves_alive(connection: Connection) -> bool:
    """Whether the peer says anything within `limits.PROVE_ALIVE`, having been asked.

    A slow disk of ours is no death of theirs, but while we do not read, we cannot hear that they have gone: their
    end waits behind what they had sent. So we wait for the disk first, within bounds.
    """
    session = connection.session
    paused = session.paused
    await _wait(connection, lambda: not session.paused or hung_up(connection), limits.PAUSED_WAIT)
    if hung_up(connection):
        return False
    asked = session.last_received
    if session.paused or (not paused and connection.clock.seconds() - asked < limits.ALIVE):
        return True
    connection.send(Ping(0))
    await _wait(connection, lambda: session.last_received != asked, limits.PROVE_ALIVE)
    return not connection.over and session.last_received != asked


async def _wait(connection: Connection, condition: Callable[[], bool], seconds: float) -> None:
    """Wait until `condition` holds or the connection is over, but no longer than that."""
    until = connection.clock.seconds() + seconds
    while not connection.over and not condition() and connection.clock.seconds() < until:
        await deferLater(connection.clock, _STEP, lambda: None)


def hung_up(connection: Connection) -> bool:
    """Whether the kernel knows that the peer has gone, even while we do not read (poll(2), POLLRDHUP)."""
    transport: Any = connection.transport
    if connection.over or not isinstance(transport, SecureTransport):
        return connection.over
    poll = select.poll()
    poll.register(transport.getHandle(), select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))
