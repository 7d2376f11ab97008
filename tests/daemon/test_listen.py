"""Listening sockets: what an endpoint means, what is said when it cannot be had, and the service."""

from __future__ import annotations

import errno
import socket
import struct
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from support.bounded import bounded, until
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Server

from ftx.daemon.listen import DEFAULT_ENDPOINTS, Endpoint, Listeners, ListeningService, parse_endpoint
from ftx.errors import StartupError
from ftx.limits import LISTEN_BACKLOG

LOOPBACK = Endpoint(socket.AF_INET, 0, "127.0.0.1")
LOOPBACK6 = Endpoint(socket.AF_INET6, 0, "::1")


def has_ipv6() -> bool:
    """Whether ::1 can be bound here."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 on which another program listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize(
    ("description", "endpoint"),
    [
        ("tcp:7389", Endpoint(socket.AF_INET, 7389)),
        ("tcp:port=0", Endpoint(socket.AF_INET, 0)),
        ("tcp:65535:interface=127.0.0.1", Endpoint(socket.AF_INET, 65535, "127.0.0.1")),
        ("tcp:80:backlog=5", Endpoint(socket.AF_INET, 80, "", 5)),
        ("tcp6:7389", Endpoint(socket.AF_INET6, 7389)),
        ("tcp6:7389:interface=\\:\\:1", Endpoint(socket.AF_INET6, 7389, "::1")),
        ("tcp6:1:interface=fe80\\:\\:1%eth0", Endpoint(socket.AF_INET6, 1, "fe80::1%eth0")),
        ("tcp:1:interface=\\:\\:1", Endpoint(socket.AF_INET6, 1, "::1")),
        ("tcp:interface=127.0.0.1:port=9", Endpoint(socket.AF_INET, 9, "127.0.0.1")),
    ],
)
def test_endpoint_descriptions(description: str, endpoint: Endpoint) -> None:
    """Twisted's descriptions, and back."""
    assert parse_endpoint(description) == endpoint
    if endpoint.backlog == LISTEN_BACKLOG:
        assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("description", "says"),
    [
        ("7389", "write tcp:7389"),
        ("", "is not a type of endpoint"),
        ("tpc:99", "tcp and tcp6 are"),
        ("unix:/tmp/x", '"unix" is not a type'),
        ("ssl:443", '"ssl" is not a type'),
        ("tcp", "has no port"),
        ("tcp:interface=127.0.0.1", "has no port"),
        ("tcp:", 'the port "" is not a number'),
        ("tcp:65536", "is not a number from 0 to 65535"),
        ("tcp:-1", "is not a number"),
        ("tcp:\u0661", "is not a number"),
        ("tcp:99999999999999999999", "is not a number"),
        ("tcp:http", "is not a number"),
        ("tcp:1:port=2", "port is given twice"),
        ("tcp:1:127.0.0.1", "write interface=ADDRESS"),
        ("tcp6:1:interface=::1", "with \\: for each colon"),
        ("tcp6:1:interface=127.0.0.1", "not an IPv6 address"),
        ("tcp:1:interface=localhost", "is not an address"),
        ("tcp:1:reuse=1", '"reuse" is not known'),
        ("tcp:1\\", "ends in a single backslash"),
    ],
)
def test_endpoints_that_are_none(description: str, says: str) -> None:
    """Each mistake has a sentence."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the sentence is compared below)
        parse_endpoint(description)
    assert says in str(caught.value)


def test_default_is_two_sockets_of_their_own_family() -> None:
    """Both families on the default port; IPv6 sockets never take IPv4."""
    assert [str(endpoint) for endpoint in DEFAULT_ENDPOINTS] == ["tcp:7389", "tcp6:7389"]
    listeners = Listeners([Endpoint(one.family, 0, optional=True) for one in DEFAULT_ENDPOINTS])
    listeners.bind()
    families = {made.family: made for made in listeners.sockets}
    assert socket.AF_INET in families
    if socket.AF_INET6 in families:
        assert families[socket.AF_INET6].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    listeners.close()


@needs_ipv6
def test_both_families_share_a_port() -> None:
    """The same number on 0.0.0.0 and on :: at once."""
    first = Listeners([Endpoint(socket.AF_INET, 0)])
    first.bind()
    ((_, port),) = first.addresses
    second = Listeners([Endpoint(socket.AF_INET6, port)])
    second.bind()
    assert second.addresses == (("::", port),)
    first.close()
    second.close()


@pytest.mark.case("F108")
def test_port_in_use(taken: int) -> None:
    """The sentence of the contract, and nothing stays bound."""
    listeners = Listeners([LOOPBACK, Endpoint(socket.AF_INET, taken)])
    with pytest.raises(StartupError) as caught:
        listeners.bind()
    assert caught.value.name == "port-in-use"
    assert caught.value.message == f"port {taken} is in use; stop the other program or use --listen tcp:PORT"
    assert listeners.addresses == ()


@pytest.mark.parametrize("interface", ["192.0.2.1", "2001:db8::1", "fe80::1%nosuch0"])
def test_addresses_of_others(interface: str) -> None:
    """An address that this machine does not have (documentation ranges, RFC 5737 and 3849), a zone neither."""
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    with pytest.raises(StartupError) as caught:
        Listeners([Endpoint(family, 0, interface)]).bind()
    assert caught.value.name == "listen-failed"


def test_an_optional_family_may_be_missing_but_not_all() -> None:
    """What cannot be had is left out; a daemon that listens nowhere does not start."""
    missing = Endpoint(socket.AF_INET, 0, "192.0.2.1", optional=True)
    listeners = Listeners([missing, LOOPBACK])
    listeners.bind()
    assert [address for address, _ in listeners.addresses] == ["127.0.0.1"]
    listeners.close()
    with pytest.raises(StartupError):
        Listeners([missing]).bind()
    with pytest.raises(StartupError, match="nothing to listen on"):
        Listeners([]).bind()


def test_bind_twice_is_once() -> None:
    """The second bind changes nothing, and after a close it binds anew."""
    listeners = Listeners([LOOPBACK])
    listeners.bind()
    before = listeners.addresses
    listeners.bind()
    assert listeners.addresses == before
    listeners.close()
    listeners.close()
    assert listeners.addresses == ()


class Greeter(Protocol):
    """Says hello and hangs up."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")
        self.transport.loseConnection()


def greeting(address: tuple[str, int]) -> Deferred[bytes]:
    """What the server at `address` says, read in a thread."""
    from twisted.internet.threads import deferToThread

    def read() -> bytes:
        with socket.create_connection(address, timeout=5) as client:
            said = b""
            while chunk := client.recv(100):
                said += chunk
        return said

    return deferToThread(read)


@bounded(20)
async def test_service_serves_and_stops(reactor: Any) -> None:
    """It serves on the port the kernel chose, knows it before and after the start, and frees it."""
    endpoints = [LOOPBACK, LOOPBACK6] if has_ipv6() else [LOOPBACK]
    service = ListeningService(endpoints, Factory.forProtocol(Greeter), reactor)
    assert service.addresses == ()
    service.privilegedStartService()
    addresses = service.addresses
    assert len(addresses) == len(endpoints)
    assert all(port for _, port in addresses)
    service.startService()
    assert service.addresses == addresses
    for address in addresses:
        assert await greeting(address) == b"hello"
    service.stopService()
    assert service.addresses == ()
    for host, port in addresses:
        again = Listeners([Endpoint(socket.AF_INET6 if ":" in host else socket.AF_INET, port, host)])
        again.bind()
        again.close()


@bounded(20)
async def test_connections_before_the_start_are_served(reactor: Any) -> None:
    """Who connects between the bind and the start waits in the kernel and is not lost."""
    service = ListeningService([LOOPBACK], Factory.forProtocol(Greeter), reactor)
    service.listeners.bind()
    (address,) = service.addresses
    with socket.create_connection(address, timeout=5) as early:
        service.startService()
        early.setblocking(False)
        said = bytearray()

        def heard() -> bool:
            try:
                said.extend(early.recv(100))
            except BlockingIOError:
                return False
            return bytes(said) == b"hello"

        await until(heard)
    service.stopService()


@bounded(20)
async def test_a_connection_that_was_reset_before_it_was_taken(reactor: Any) -> None:
    """It is closed in order, not left to the collector; the next one is served."""
    service = ListeningService([LOOPBACK], Factory.forProtocol(Greeter), reactor)
    service.listeners.bind()
    (address,) = service.addresses
    with socket.create_connection(address, timeout=5) as gone:
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    service.startService()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        assert await greeting(address) == b"hello"
    assert caught == []
    service.stopService()


class Refusing(Factory):
    """Takes nobody."""

    def buildProtocol(self, addr: Any) -> None:
        """None."""


@bounded(20)
async def test_a_connection_that_is_not_wanted(reactor: Any) -> None:
    """It is closed at once, and not by the collector."""
    service = ListeningService([LOOPBACK], Refusing(), reactor)
    service.startService()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        assert await greeting(service.addresses[0]) == b""
    assert caught == []
    service.stopService()


class Unwatching:
    """The reactor, but the kernel watches no further connection, once."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.refused = 0

    def addReader(self, reader: Any) -> None:
        if isinstance(reader, Server) and not self.refused:
            self.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        self._reactor.addReader(reader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@bounded(20)
async def test_a_connection_that_cannot_be_watched(reactor: Any) -> None:
    """It is closed, and the next one is served: epoll_ctl(2) says ENOSPC, and may say otherwise later."""
    watching = Unwatching(reactor)
    service = ListeningService([LOOPBACK], Factory.forProtocol(Greeter), watching)
    service.startService()
    (address,) = service.addresses
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        assert await greeting(address) == b""
        assert await greeting(address) == b"hello"
    assert (watching.refused, caught) == (1, [])
    service.stopService()


class FromTheLink(socket.socket):
    """A connection whose peer has a link-local address on the first interface, which is always the loopback."""

    def getpeername(self) -> Any:
        """As the kernel tells it: the zone is a number beside the address."""
        return ("fe80::1", 4711, 0, 1)


class Remembering(Factory):
    """Knows who came."""

    protocol = Protocol

    def __init__(self) -> None:
        self.came: list[Any] = []
        self.made: list[Any] = []

    def buildProtocol(self, addr: Any) -> Protocol | None:
        """Another one."""
        self.came.append(addr)
        self.made.append(super().buildProtocol(addr))
        return self.made[-1]  # type: ignore[no-any-return]


@needs_ipv6
@bounded(20)
async def test_a_link_local_peer_has_its_zone(reactor: Any) -> None:
    """Without it an address that is remembered is of no use; the transport says the same as the factory hears."""
    factory = Remembering()
    service = ListeningService([LOOPBACK6], factory, reactor)
    service.listeners.bind()
    with socket.create_connection(service.addresses[0], timeout=5):
        accepted, _ = service.listeners.sockets[0].accept()
        accepted.setblocking(False)
        service._connected(FromTheLink(fileno=accepted.detach()))
        (address,), (protocol,) = factory.came, factory.made
        assert address == protocol.transport.getPeer() == IPv6Address("TCP", "fe80::1%lo", 4711, 0, 1)
        assert "fe80::1%lo" in repr(protocol.transport)
        protocol.transport.abortConnection()
        await until(lambda: not protocol.transport.connected)
    service.stopService()


@pytest_twisted.ensureDeferred
async def test_service_may_start_again(reactor: Any) -> None:
    """Stopped and started, it binds anew; stopped without a start, it only closes."""
    service = ListeningService([LOOPBACK], Factory.forProtocol(Greeter), reactor)
    service.listeners.bind()
    service.stopService()
    assert service.addresses == ()
    service.startService()
    assert await greeting(service.addresses[0]) == b"hello"
    service.stopService()


def test_service_start_fails_at_once(reactor: Any, taken: int) -> None:
    """The error comes out of the start, not later into a log."""
    endpoint = Endpoint(socket.AF_INET, taken, "127.0.0.1")
    service = ListeningService([endpoint], Factory.forProtocol(Greeter), reactor)
    with pytest.raises(StartupError, match=f"port {taken} of 127.0.0.1 is in use"):
        service.startService()
