"""Discovery on the network: the daemon's responder here, the client's search in `ftx.net.finder`.

The rules are in `ftx.core.discovery`, the datagrams in `ftx.wire.announce`, both as `docs/discovery.md` says. What
is left for this module is when: start, look at the interfaces again whenever they change, answer, stop.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from ftx import limits
from ftx.core.blind import Circle
from ftx.core.discovery import (
    Address,
    Counters,
    Interface,
    Network,
    Reply,
    ReplyLimiter,
    chosen,
    destinations,
    forged,
    on_link,
    reachable,
    reply_source,
)
from ftx.core.identity import SIGN_DISCOVERY, identity_of
from ftx.errors import ProtocolError
from ftx.net.datagrams import Datagram, DatagramSocket, adopted_sockets, shared_sockets
from ftx.net.finder import Finder, find
from ftx.net.interfaces import interfaces, missing, own_addresses
from ftx.net.links import LinkWatch
from ftx.text import show
from ftx.wire.announce import (
    INSTANCE_BYTES,
    SALT_BYTES,
    Announcement,
    BlindQuery,
    Kind,
    Query,
    ReplyBody,
    Way,
    decode,
    encode_announcement,
    encode_reply,
    fit_name,
)

__all__ = ["Finder", "Reply", "Responder", "Signer", "find"]


class Signer(Protocol):
    """What the responder needs of the daemon's identity (`ftx.disk.keys.Identity`)."""

    @property
    def public_raw(self) -> bytes:
        """The raw Ed25519 public key, 32 bytes."""

    def sign(self, context: bytes, message: bytes) -> bytes:
        """64 bytes over `message`, good for `context` only."""


class Responder:
    """Answers discovery queries on the interfaces where a TCP listener of the daemon can be reached.

    `identity` signs the replies; `name` is what they call the daemon; `tcp_port` is its TCP port or a function
    that returns it; `port` is the UDP port. `include` names the interfaces to use (empty: all that are
    suitable), `exclude` those not to use, `listen_addresses` are the addresses the daemon listens on, as text: an
    interface is suitable if one of them can be reached there, so a daemon that listens on loopback stays on `lo`.
    `versions` are the lowest and the highest version of the transfer protocol spoken, `networks` those whose hosts are
    answered beyond the link. With `peers`, which returns the identities that are paired, only they are answered, in
    the form that only they recognise, and nothing is announced. `on_served` is called with the interfaces served, at
    the start and whenever they have changed. `clock` gives the time and the delayed calls, by default the reactor does.

    Discovery is a convenience: nothing that fails here stops the daemon. What did is in `problem`.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        identity: Signer,
        *,
        name: str,
        tcp_port: int | Callable[[], int],
        port: int,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        listen_addresses: Iterable[str] = ("0.0.0.0", "::"),
        versions: tuple[int, int] = (1, 1),
        networks: Iterable[Network] = (),
        peers: Callable[[], Collection[bytes]] | None = None,
        on_served: Callable[[tuple[Interface, ...]], object] = lambda served: None,
        clock: IReactorTime | None = None,
        sockets: Iterable[socket.socket] = (),
    ) -> None:
        self.port = port
        self.counters = Counters()
        #: Why discovery does not work, or works for nobody, as a sentence; empty when it does.
        self.problem = ""
        #: Told apart from an earlier run of this daemon.
        self.instance = secrets.token_bytes(INSTANCE_BYTES)
        self._reactor = reactor
        self._identity = identity
        self._name = fit_name(name)
        self._tcp_port = tcp_port if callable(tcp_port) else lambda: tcp_port
        self._include = tuple(include)
        self._exclude = tuple(exclude)
        self._listening = tuple(listen_addresses)
        self._versions = versions
        self._networks = tuple(networks)
        self._peers = peers
        self._circle = Circle(identity_of(identity.public_raw))
        self._on_served = on_served
        self._clock: IReactorTime = reactor if clock is None else clock
        self._limiter = ReplyLimiter()
        self._sockets: list[DatagramSocket] = []
        self._given = tuple(sockets)
        self._refreshing: IDelayedCall | None = None
        self._links = LinkWatch(reactor, self._look_again, self._clock)
        self._present: dict[int, Interface] = {}
        self._own: frozenset[Address] = frozenset()
        self._served: dict[int, tuple[IPv4Interface | IPv6Interface, ...]] = {}

    def rename(self, name: str) -> None:
        """Be called `name` from the next reply on."""
        self._name = fit_name(name)

    @property
    def running(self) -> bool:
        """Whether the port is open."""
        return bool(self._sockets)

    @property
    def interfaces(self) -> tuple[str, ...]:
        """The names of the interfaces on which queries are answered now."""
        return tuple(self._present[index].name for index in self._served) if self._sockets else ()

    def start(self) -> None:
        """Open the port and announce the daemon; again while it runs does nothing.

        If the port cannot be had, this is logged once, `problem` says why, and nothing else happens: nobody
        can find the daemon, transfers to its address work.
        """
        if self._sockets:
            return
        self.problem = ""
        try:
            if self._given:
                self.port = int(self._given[0].getsockname()[1])
            made = adopted_sockets(self._given) if self._given else shared_sockets(self.port)
        except OSError as error:
            self.problem = _why_not(self.port, error)
        else:
            if not made:
                self.problem = "this host has neither IPv4 nor IPv6"
            self._sockets = [DatagramSocket(self._reactor, one, self._received, self.counters) for one in made]
        if not self._sockets:
            self._log.warn("no discovery: {problem}; transfers by address work", problem=self.problem)
            return
        self._links.start()
        self._refresh()
        if self.problem:
            self._log.warn("discovery waits: {problem}", problem=self.problem)

    def stop(self) -> None:
        """Announce the end and close the port, at once; when not running, nothing."""
        self._links.close()
        if self._refreshing is not None:
            self._refreshing.cancel()
            self._refreshing = None
        self._announce(Kind.STOPPING, self._served)
        for one in self._sockets:
            one.close()
        self._sockets = []

    # -- interfaces ------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        """The kernel says that something has changed."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        self._refresh()

    def _refresh(self) -> None:
        """Take over the interfaces as they are now, and look again later."""
        self._refreshing = self._clock.callLater(limits.INTERFACES_REFRESH, self._refresh)
        present = interfaces()
        before = self._served
        self._present = {interface.index: interface for interface in present}
        self._own = own_addresses(present)
        self._served = {}
        for interface in chosen(present, self._include, self._exclude):
            answering = reachable(interface, self._listening)
            if answering:
                self._served[interface.index] = answering
        self.problem = self._why_nobody(present)
        for one in self._sockets:
            one.join(
                index
                for index, answering in self._served.items()
                if any(item.version == one.version for item in answering)
            )
        self._announce(Kind.STARTED, [index for index in self._served if self._served[index] != before.get(index)])
        if self._served != before:
            self._on_served(tuple(self._present[index] for index in self._served))

    def _why_nobody(self, present: tuple[Interface, ...]) -> str:
        if self._served:
            return ""
        absent = missing(self._include, present)
        if absent:
            return "there is no interface " + ", ".join(show(name) for name in absent)
        return "the daemon listens on no address of the interfaces that are up"

    def _announce(self, kind: Kind, indexes: Iterable[int]) -> None:
        """Say on these interfaces that the daemon has started or is stopping; nothing where only some may know."""
        if self._peers is not None:
            return
        for index in indexes:
            for to in destinations(self._present[index]):
                if to.way == Way.UNICAST or not any(ip.version == to.address.version for ip in self._served[index]):
                    continue
                data = encode_announcement(
                    Announcement(kind, to.way, self._identity.public_raw, self.instance)
                )
                for one in self._sockets:
                    one.send(data, to.address, self.port, source=to.source, interface=index, hops=1)

    # -- queries ---------------------------------------------------------------------------------------------

    def _received(self, one: DatagramSocket, datagram: Datagram) -> None:
        """Answer a datagram or drop it. The cheapest questions come first: most of a flood ends there."""
        counters = self.counters
        now = self._clock.seconds()
        if self._limiter.exhausted(now) or self._circle.exhausted(now):
            counters.limited += 1
            return
        interface = self._present.get(datagram.interface)
        if interface is None:
            counters.elsewhere += 1
            return
        # Programs of this host share the loopback address, and nobody else can send from it.
        asking = (datagram.source, datagram.port if interface.loopback else 0)
        if self._limiter.waiting(asking, now):
            counters.limited += 1
            return
        try:
            query = decode(datagram.data)
        except ProtocolError:
            counters.malformed += 1
            return
        if not isinstance(query, Query if self._peers is None else BlindQuery):
            counters.other += 1
            return
        source, destination = datagram.addresses()
        beyond = not on_link(source, interface)
        if forged(source, datagram.port, interface, self._own) or (
            beyond and not any(source in network for network in self._networks)
        ):
            counters.refused += 1
            return
        answering = reply_source(source, destination, interface, self._served, self._own)
        if answering is None:
            counters.elsewhere += 1
            return
        reply = self._sealed(query, now) if isinstance(query, BlindQuery) else self._reply(query)
        if reply is None or len(reply) > len(datagram.data):
            return
        counters.answered += 1
        self._limiter.answered(asking, now)
        one.send(
            reply,
            source,
            datagram.port,
            source=answering,
            interface=0 if interface.loopback or beyond else interface.index,
            hops=None if beyond else 1,
        )

    def _sealed(self, query: BlindQuery, now: float) -> bytes | None:
        """The reply that only the asker can open; None, and counted, where the query is meant for others."""
        if not self._circle.allowed(now):
            self.counters.limited += 1
            return None
        self._circle.follow(self._peers() if self._peers is not None else ())
        pair = self._circle.asker(query)
        if pair is None:
            self.counters.other += 1
            return None
        reply = self._reply(query)
        return None if reply is None else self._circle.seal(pair, query, reply, secrets.token_bytes(SALT_BYTES))

    def _reply(self, query: Query | BlindQuery) -> bytes | None:
        """The signed reply to `query`; None, and counted, while there is no TCP port to name."""
        port = self._tcp_port()
        if not 0 < port <= 0xFFFF:
            self.counters.elsewhere += 1
            return None
        lowest, highest = self._versions
        unsigned = encode_reply(
            ReplyBody(
                way=query.way,
                nonce=query.nonce,
                public_raw=self._identity.public_raw,
                instance=self.instance,
                port=port,
                lowest=lowest,
                highest=highest,
                name=self._name,
            )
        )
        return unsigned + self._identity.sign(SIGN_DISCOVERY, unsigned)


def _why_not(port: int, error: OSError) -> str:
    """Why the UDP port could not be opened, as a sentence."""
    if error.errno == errno.EADDRINUSE:
        return f"UDP port {port} is used by another user's daemon or by a program that does not share it"
    if error.errno == errno.EACCES:
        return f"UDP port {port} needs rights this user does not have"
    return f"UDP port {port} cannot be opened ({os.strerror(error.errno or 0)})"
