"""Dialling: from a few places where a peer may be to one connection whose other end has proved the right key.

All places are tried at once. The first one that answers, proves a key that the caller accepts and greets us as signed
in is taken; the others are let go. When none does, the error that says most is raised: about trust before about the
network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from ftx import limits
from ftx.core.stages import PAIRING, Role, Stage
from ftx.core.trust import Trusted, canonical_address
from ftx.errors import FtxError
from ftx.net.failures import connection_failure
from ftx.net.tls import Credentials, PeerKey
from ftx.net.transfer import Connection
from ftx.text import show
from ftx.wire.messages import FEATURES, Hello, Join, List, Offer, Probe, Request

__all__ = ["Accept", "Dialled", "Place", "dial"]


@attrs.frozen
class Place:
    """Where to try: a host name or an address (IPv6 with its zone, no brackets), and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


#: Decides about a proved key: (identity, address it answered from) -> who it is, or FtxError.
Accept = Callable[[bytes, str], Trusted]


@attrs.frozen(eq=False)
class Dialled:
    """A connection that is ready for an offer, or in stage pairing if that is what it was dialled for."""

    connection: Connection
    trusted: Trusted
    address: str
    port: int


class _Attempt:
    """The owner of one connection attempt."""

    def __init__(
        self,
        reactor: Any,
        credentials: Credentials,
        place: Place,
        name: str,
        accept: Accept,
        features: Sequence[str],
        timeout: float,
    ) -> None:
        self.done: Deferred[Dialled] = Deferred()
        self._reactor = reactor
        self._place = place
        self._accept = accept
        self._trusted: Trusted | None = None
        self._address = place.host
        self._pairs = PAIRING in features
        self.connection = Connection(reactor, Role.CLIENT, name, self, str(place), features)
        self._connecting: Deferred[Any] = _endpoint(reactor, place, timeout).connect(
            credentials.client(_Single(self.connection))
        )
        self._connecting.addCallbacks(self._connected, self._failed)

    def cancel(self) -> None:
        """Give this attempt up."""
        self._connecting.cancel()
        self.connection.abort(FtxError("interrupted"))

    # -- Owner ---------------------------------------------------------------------------------------------

    def key_proved(self, connection: Connection, peer: PeerKey) -> None:
        """The server proved its key: is it one that we want?"""
        address = connection.transport.getPeer()  # type: ignore[union-attr]
        self._address = str(getattr(address, "host", self._place.host))
        self._trusted = self._accept(peer.id, self._address)

    def greeted(self, connection: Connection, hello: Hello) -> None:
        """The server lets us in."""
        if not self._pairs:
            connection.signed_in()
        elif connection.session.stage is not Stage.PAIRING:
            raise FtxError("not-supported", "the ftx there does not pair by code", "pair by id: ftx-client peers add")
        if self._trusted is not None and not self.done.called:
            self.done.callback(Dialled(connection, self._trusted, self._address, self._place.port))

    def offered(self, connection: Connection, offer: Offer) -> None:
        """Never: only clients offer."""
        raise FtxError("wrong-state")

    def asked(self, connection: Connection, message: List | Request | Probe | Join) -> None:
        """Never: only clients ask."""
        raise FtxError("wrong-state")

    def ended(self, connection: Connection, error: FtxError | None) -> None:
        """The connection is over, before or after it was ready."""
        if not self.done.called:
            self.done.errback(error or FtxError("connection-lost"))

    # -- connecting ----------------------------------------------------------------------------------------

    def _connected(self, _protocol: object) -> None:
        pass

    def _failed(self, failure: Failure) -> None:
        if self.done.called:
            return
        error = connection_failure(failure, str(self._place))
        if error.name == "name-not-found":
            error = FtxError("name-not-found", f"there is no host called {show(self._place.host)}")
        self.done.errback(error)


class _Single(Factory):
    """A factory of one connection, which exists already."""

    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        return self._connection


def _endpoint(reactor: Any, place: Place, timeout: float) -> IStreamClientEndpoint:
    address = canonical_address(place.host)
    if address is None:
        return HostnameEndpoint(reactor, place.host.encode("idna"), place.port, timeout=timeout)
    kind = TCP4ClientEndpoint if address.version == 4 else TCP6ClientEndpoint
    host = str(address) if address.version == 4 else place.host
    return kind(reactor, host, place.port, timeout=timeout)


def _weight(error: FtxError) -> int:
    """Which of several errors says most: what a peer said before what the network said."""
    order = {5: 0, 6: 1, 8: 2}
    return order.get(error.exit_code, 3)


async def dial(
    reactor: Any,
    credentials: Credentials,
    places: Sequence[Place],
    *,
    name: str,
    accept: Accept,
    features: Sequence[str] = FEATURES,
    timeout: float = limits.CONNECT_TIMEOUT,
) -> Dialled:
    """Try all `places` at once and return the first connection that is ready.

    `name` is what we call ourselves, `features` what our hello lists: with `pairing` in it we come to pair. `timeout`
    is for TCP to connect, in seconds. Raises FtxError: of the attempts' errors the one that says most. Cancelling gives
    all attempts up.
    """
    if not places:
        raise FtxError("name-not-found")
    attempts: list[_Attempt] = []
    first: Deferred[Dialled] = Deferred()
    errors: list[FtxError] = []

    def succeeded(dialled: Dialled) -> None:
        if first.called:
            dialled.connection.goodbye()
        else:
            first.callback(dialled)

    def failed(failure: Failure) -> None:
        error = failure.value
        errors.append(error if isinstance(error, FtxError) else connection_failure(failure, "the peer"))
        if len(errors) == len(places) and not first.called:
            first.errback(min(errors, key=_weight))

    for place in places:
        try:
            attempt = _Attempt(reactor, credentials, place, name, accept, features, timeout)
        except UnicodeError:
            failed(Failure(FtxError("name-not-found", f"{place} is not a host name")))
            continue
        attempts.append(attempt)
        attempt.done.addCallbacks(succeeded, failed)
    try:
        chosen = await first
    except BaseException:
        for attempt in attempts:
            attempt.cancel()
        raise
    for attempt in attempts:
        if attempt.connection is not chosen.connection:
            attempt.cancel()
    return chosen
