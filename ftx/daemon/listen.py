"""Listening: endpoint descriptions, sockets that are bound before anything else happens, and the service.

Twisted's `StreamServerEndpointService` logs a traceback when a port is taken, and stays alive listening
on nothing. So the sockets are ours: `Listeners.bind()` makes them and sets them listening, early (before
a daemon forks, where an error can still be said in one sentence on the terminal, and before privileges
are dropped), and `ListeningService` takes connections from them. What was checked is what is used: there is
no time between a check and a bind in which another program could take the port.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import Any, Final

import attrs
from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.tcp import Server

from ftx import limits
from ftx.disk.defaults import DEFAULT_PORT
from ftx.errors import StartupError
from ftx.net.acceptor import Acceptor
from ftx.text import show

__all__ = ["DEFAULT_ENDPOINTS", "Endpoint", "Listeners", "ListeningService", "parse_endpoint"]


@attrs.frozen
class Endpoint:
    """One socket to listen on. `interface` is an address, empty for every address of the family.

    An `optional` endpoint is left out when the machine has no such address family.
    """

    family: socket.AddressFamily
    port: int
    interface: str = ""
    backlog: int = limits.LISTEN_BACKLOG
    optional: bool = False

    def __str__(self) -> str:
        """The description that `parse_endpoint` understands."""
        kind = "tcp6" if self.family == socket.AF_INET6 else "tcp"
        interface = self.interface.replace(":", "\\:")
        return f"{kind}:{self.port}:interface={interface}" if interface else f"{kind}:{self.port}"


#: Port 7389 on every IPv4 and every IPv6 address: two sockets, on machines that have both.
DEFAULT_ENDPOINTS: Final = (
    Endpoint(socket.AF_INET, DEFAULT_PORT, optional=True),
    Endpoint(socket.AF_INET6, DEFAULT_PORT, optional=True),
)

# A field ends at a colon, a key at an equals sign; a backslash takes the next character as it is.
_FIELD: Final = re.compile(r"((?:[^:\\]|\\.)*)(:|$)", re.DOTALL)


def _fields(description: str) -> list[str]:
    """The colon-separated fields, escapes still in them."""
    fields, position = [], 0
    while True:
        found = _FIELD.match(description, position)
        if found is None:
            raise ValueError(f'"{show(description)}" ends in a single backslash')
        fields.append(found[1])
        position = found.end()
        if not found[2]:
            return fields


def _number(text: str, name: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > most:
        raise ValueError(f'the {name} "{show(text)}" is not a number from 0 to {most}')
    return int(text)


def _split(description: str) -> tuple[str, dict[str, str]]:
    """Kind and named arguments of an endpoint description; the first unnamed one is the port."""
    kind, *fields = _fields(description)
    arguments: dict[str, str] = {}
    for place, field in enumerate(fields):
        key, equals, value = field.partition("=")
        if not equals:
            if place > 0:
                raise ValueError(
                    f'"{show(description)}" has an unnamed "{show(field)}"; write interface=ADDRESS, '
                    "with \\: for each colon in it"
                )
            key, value = "port", field
        if key not in ("port", "interface", "backlog"):
            raise ValueError(f'"{show(key)}" is not known; port, interface and backlog are')
        if key in arguments:
            raise ValueError(f"{key} is given twice")
        arguments[key] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
    return kind, arguments


def parse_endpoint(description: str) -> Endpoint:
    """A Twisted endpoint description of the type `tcp:` or `tcp6:` as an `Endpoint`.

    `tcp:7389`, `tcp:port=0:interface=127.0.0.1`, `tcp6:7389:interface=\\:\\:1`, `backlog=N`; port 0 is
    any free one. An interface is an address, with a zone if need be (`fe80\\:\\:1%eth0`), never a name:
    nothing is resolved. `tcp:` with an IPv6 interface listens on IPv6, as in Twisted. Raises ValueError
    with a sentence.
    """
    if description.isascii() and description.isdigit():
        raise ValueError(f'"{description}" has no type; write tcp:{description}')
    kind, arguments = _split(description)
    if kind not in ("tcp", "tcp6"):
        raise ValueError(f'"{show(kind)}" is not a type of endpoint; tcp and tcp6 are')
    if "port" not in arguments:
        raise ValueError(f'"{show(description)}" has no port')
    family = socket.AF_INET6 if kind == "tcp6" else socket.AF_INET
    interface = arguments.get("interface", "")
    if interface:
        try:
            address = ipaddress.ip_address(interface)
        except ValueError:
            raise ValueError(f'the interface "{show(interface)}" is not an address') from None
        if address.version == 4 and kind == "tcp6":
            raise ValueError(f"{interface} is not an IPv6 address; use tcp")
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    port = _number(arguments["port"], "port", 65535)
    backlog = limits.LISTEN_BACKLOG
    if "backlog" in arguments:
        backlog = _number(arguments["backlog"], "backlog", 65535)
    return Endpoint(family, port, interface, backlog)


# What a machine without the address family says: at socket(2), or at bind(2) where it is switched off.
_NO_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


def _cannot(endpoint: Endpoint, error: OSError, option: str) -> StartupError:
    """The sentence for a socket that could not be made; `option` is where its port was chosen."""
    where = f"port {endpoint.port}" + (f" of {endpoint.interface}" if endpoint.interface else "")
    if error.errno == errno.EADDRINUSE:
        return StartupError("port-in-use", f"{where} is in use; stop the other program or use {option} tcp:PORT")
    if error.errno == errno.EACCES:
        return StartupError("listen-failed", f"{where} needs more rights", "use a port above 1023")
    if error.errno == errno.EADDRNOTAVAIL:
        return StartupError("listen-failed", f"{endpoint.interface or where} is not an address of this machine")
    reason = (error.strerror or "error").lower()
    return StartupError("listen-failed", f"{where} cannot be listened on: {reason}")


def _listening_socket(endpoint: Endpoint) -> socket.socket:
    """A socket bound and listening, non-blocking; OSError as it comes.

    IPv6 sockets take IPv6 only, whatever the system's default: IPv4 has its own socket, and no peer appears
    under a mapped address.
    """
    made = socket.socket(endpoint.family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host, _, zone = endpoint.interface.partition("%")
        if endpoint.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            scope = 0
            if zone:
                scope = int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
            made.bind((host or "::", endpoint.port, 0, scope))
        else:
            made.bind((host or "0.0.0.0", endpoint.port))
        made.listen(endpoint.backlog)
    except BaseException:
        made.close()
        raise
    return made


class Listeners:
    """The listening sockets of a daemon, from `bind()` until a `ListeningService` has them, or `close()`."""

    def __init__(
        self, endpoints: Sequence[Endpoint], given: Sequence[socket.socket] = (), option: str = "--listen"
    ) -> None:
        """`given` are sockets that listen already, in the place of `endpoints`; `option` is what names those."""
        self._endpoints = tuple(endpoints)
        self._option = option
        self._sockets: list[socket.socket] = list(given)

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Address and real port of every bound socket, in the order of the endpoints."""
        return tuple(made.getsockname()[:2] for made in self._sockets)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The sockets themselves."""
        return tuple(self._sockets)

    def bind(self) -> None:
        """Make every socket, all or none. Raises StartupError `port-in-use` or `listen-failed`.

        From here on the kernel completes connections and keeps them until somebody accepts. Optional
        endpoints are left out where the machine lacks the family, but one socket there must be.
        """
        if self._sockets:
            return
        refused: StartupError | None = None
        for endpoint in self._endpoints:
            try:
                self._sockets.append(_listening_socket(endpoint))
            except OSError as error:
                refused = _cannot(endpoint, error, self._option)
                if endpoint.optional and error.errno in _NO_FAMILY:
                    continue
                self.close()
                raise refused from error
        if not self._sockets:
            raise refused or StartupError("listen-failed", "there is nothing to listen on")

    def close(self) -> None:
        """Close the sockets that nobody has taken over. May be called twice."""
        while self._sockets:
            self._sockets.pop().close()


class ListeningService(Service):
    """Listens with `factory` on every endpoint while it runs; may be stopped and started again.

    Bind the listeners beforehand where a failure must be told before a fork; otherwise the privileged
    start does it (`twist` has none: then the start). Both raise StartupError at once.

    Connections are taken by `ftx.net.acceptor`, a bounded number in one turn of the reactor: Twisted's own
    port takes more and more of them per turn, so that in a flood those who have said something are not
    heard before the next hundreds are there.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        factory: IProtocolFactory,
        reactor: Any,
        given: Sequence[socket.socket] = (),
        option: str = "--listen",
    ) -> None:
        self.listeners = Listeners(endpoints, given, option)
        self._factory = factory
        self._reactor = reactor
        self._acceptors: list[Acceptor] = []

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Address and real port of every socket that is bound or listening."""
        return self.listeners.addresses

    def privilegedStartService(self) -> None:
        """Bind, while the process may still use low ports."""
        super().privilegedStartService()
        self.listeners.bind()

    def startService(self) -> None:
        """Take connections from now on."""
        self.listeners.bind()
        super().startService()
        for made in self.listeners.sockets:
            acceptor = Acceptor(self._reactor, made, self._connected)
            self._acceptors.append(acceptor)
            acceptor.start()

    def stopService(self) -> None:
        """Accept no more. Connections there are stay."""
        super().stopService()
        while self._acceptors:
            self._acceptors.pop().stop()
        self.listeners.close()

    def _connected(self, connection: socket.socket) -> None:
        # As the reactor's adoptStreamConnection() does it, but without the duplicate of the descriptor, which it
        # leaves to the collector when the connection is reset just then.
        try:
            self._take(connection)
        except OSError:  # it has gone already, or the kernel watches no more for us
            connection.close()

    def _take(self, connection: socket.socket) -> None:
        client = connection.getpeername()
        kind: type[IPv4Address | IPv6Address] = IPv4Address
        if connection.family == socket.AF_INET6:
            kind = IPv6Address
            # with its zone, without which nobody can be called back at a link-local address
            host, *_, zone = client
            client = (f"{host}%{socket.if_indextoname(zone)}" if zone else host, *client[1:])
        protocol = self._factory.buildProtocol(kind("TCP", *client))
        if protocol is None:
            connection.close()
            return
        no_port: Any = None  # of Twisted's
        transport = Server(connection, protocol, client, no_port, client[1], self._reactor)
        transport.repstr = f"<{type(protocol).__name__} of {client[0]}>"
        protocol.makeConnection(transport)
