"""Whether the way to a peer still exists while a connection stands, and where the peer is when it does not.

A connection whose address has gone does not end by itself: nothing arrives, and nothing says so, until its end is
taken for silence. Two things are noticed sooner here. Our own address is looked at when the kernel says that addresses
have changed. The peer's is doubted when it says nothing for a while: it is then looked for by its identity, and only if
it answers from elsewhere, and not from where we are connected, is the connection given up. Dialling begins anew then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ftx import limits
from ftx.core.trust import canonical_address
from ftx.errors import FtxError
from ftx.net.alive import proves_alive
from ftx.net.dial import Place
from ftx.net.links import LinkWatch
from ftx.net.own import OwnAddresses
from ftx.net.transfer import Connection

__all__ = ["Look", "Whereabouts"]

_log = Logger()
#: Looks for a peer by its identity; everywhere that it answered from, nothing when it did not.
Look = Callable[[], Awaitable[Sequence[Place]]]


class Whereabouts:
    """Watches over `connection`, from `start` to `stop`. Without `look` the peer is not looked for."""

    def __init__(self, reactor: Any, connection: Connection, look: Look | None) -> None:
        self._reactor = reactor
        self._connection = connection
        self._look = look
        self._links = LinkWatch(reactor, self._check_own)
        self._doubting = LoopingCall(self._doubt)
        self._doubting.clock = reactor
        self._looking: Deferred[None] | None = None
        self._since = reactor.seconds()

    def start(self) -> None:
        """Begin; once."""
        own = _host(self._connection, "getHost")
        if own is None or not own.is_loopback:  # no link of this machine is in its way
            self._links.start()
        if self._look is not None:
            self._doubting.start(limits.DOUBT_AFTER / 2, now=False).addErrback(_failed)

    def stop(self) -> None:
        """End, at once."""
        self._links.close()
        if self._doubting.running:
            self._doubting.stop()
        if self._looking is not None:
            self._looking.cancel()

    def _check_own(self) -> None:
        """Links or addresses have changed: is the address that this connection comes from still ours?"""
        own = _host(self._connection, "getHost")
        if own is not None and not own.is_loopback and own not in OwnAddresses():
            self._give_up("this machine does not have the address any more that the connection came from")

    def _doubt(self) -> None:
        """Look for the peer when it has said nothing for a while."""
        now = self._reactor.seconds()
        heard = max(self._since, self._connection.session.last_received)
        if self._looking is not None or now - heard < limits.DOUBT_AFTER:
            return
        looking = self._looking = Deferred.fromCoroutine(self._ask())
        looking.addErrback(_failed).addCallback(self._asked)

    def _asked(self, _: object) -> None:
        """However that ended, and it ends by being cancelled, too: the next doubt may come."""
        self._looking = None

    async def _ask(self) -> None:
        peer = _host(self._connection, "getPeer")
        places = [] if self._look is None or peer is None else await self._look()
        answering = [canonical_address(place.host) for place in places]
        if not answering or peer in answering or self._connection.over:
            return
        if not await proves_alive(self._connection):  # it may have several addresses, and nothing to say
            self._give_up(f"the peer does not answer there, and is at {places[0]} now")

    def _give_up(self, why: str) -> None:
        self._connection.abort(FtxError("connection-lost", f"the connection was lost: {why}"))


def _failed(failure: Failure) -> None:
    """Looking has ended with an error. Being cancelled is no such thing; that nobody was found is told at length."""
    if isinstance(failure.value, FtxError):
        _log.debug("the peer was not looked for: {why}", why=failure.value.message)
    elif failure.check(CancelledError) is None:
        _log.failure("the peer is not looked for any more", failure)


def _host(connection: Connection, end: str) -> Any:
    """The address of one end of a connection, without a zone; None when it has gone."""
    address = getattr(connection.transport, end, lambda: None)()
    return canonical_address(str(getattr(address, "host", "")))
