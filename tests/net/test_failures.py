"""Every way a connection can fail, as the kind and the sentence that ftx gives it.

Where loopback can make the failure it is the real one; the others are the exceptions that Twisted documents.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL
from support.bounded import bounded, until
from support.ports import free_port
from support.tls_peers import Pair, Plain, Recorder, factory_of, odd_context, odd_factory
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from ftx.disk.keys import Identity
from ftx.errors import FtxError
from ftx.net.failures import connection_failure
from ftx.net.tls import Credentials

WHERE = "pi.local port 7389"
ME = Credentials(Identity.generate())


def assert_is(problem: Failure | BaseException, kind: str, *words: str) -> None:
    """`problem` becomes `kind`, with a sentence that names the address and says all `words`."""
    made = connection_failure(problem, WHERE)
    assert made.name == kind, made
    assert WHERE in made.message
    for word in words:
        assert word in made.message
    assert "Traceback" not in made.message
    assert made.message[0].islower()  # it follows "ftx-client: ..."


async def failure_of(attempt: Deferred[Any]) -> Failure:
    """The failure that `attempt` ends with."""
    try:
        got = await attempt
    except BaseException:
        return Failure()
    pytest.fail(f"it did not fail: {got}")


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A plain listening socket on loopback."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        yield listener


def connect(reactor: Any, host: str, port: int, *, timeout: float = 5.0) -> Deferred[Any]:
    """Try to connect with Twisted."""
    endpoint = TCP4ClientEndpoint(reactor, host, port, timeout=timeout)
    return endpoint.connect(factory_of(Recorder()))


@bounded(20)
async def test_refused(reactor: Any) -> None:
    """Nothing listens."""
    problem = await failure_of(connect(reactor, "127.0.0.1", free_port()))
    assert_is(problem, "connection-refused", "refused")


@bounded(20)
async def test_refused_by_host_name(reactor: Any) -> None:
    """The same through name resolution, where several addresses are tried."""
    endpoint = HostnameEndpoint(reactor, "localhost", free_port())
    problem = await failure_of(endpoint.connect(factory_of(Recorder())))
    assert_is(problem, "connection-refused")


def fill(listener: socket.socket) -> list[socket.socket]:
    """Connections that fill the queue of `listener`, so that the kernel drops the next."""
    taken = []
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        taken.append(client)
    return taken


@bounded(20)
async def test_connect_timeout(reactor: Any, listening: socket.socket) -> None:
    """A peer that does not answer: Twisted's own time-out."""
    taken = fill(listening)
    try:
        attempt = connect(reactor, "127.0.0.1", listening.getsockname()[1], timeout=0.2)
        assert_is(await failure_of(attempt), "connect-timeout", "did not answer")
    finally:
        for client in taken:
            client.close()


@bounded(20)
async def test_connect_given_up_by_add_timeout(reactor: Any, listening: socket.socket) -> None:
    """The same given up by `Deferred.addTimeout`, which fails with another exception."""
    taken = fill(listening)
    try:
        attempt = connect(reactor, "127.0.0.1", listening.getsockname()[1]).addTimeout(0.2, reactor)
        problem = await failure_of(attempt)
        assert problem.check(error.ConnectingCancelledError)
        assert_is(problem, "connect-timeout", "did not answer")
    finally:
        for client in taken:
            client.close()


@bounded(20)
async def test_unreachable(reactor: Any) -> None:
    """TCP to a broadcast address of loopback: ENETUNREACH, from the kernel."""
    problem = await failure_of(connect(reactor, "127.255.255.255", 9))
    assert_is(problem, "network-unreachable")


@bounded(20)
async def test_reset_while_connected(reactor: Any, listening: socket.socket) -> None:
    """A reset in the middle, which Twisted reports without its number."""
    recorder = Recorder()
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", listening.getsockname()[1])
    await endpoint.connect(factory_of(recorder))
    accepted, _ = listening.accept()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    accepted.close()
    await until(lambda: recorder.lost is not None)
    assert recorder.lost is not None
    assert_is(recorder.lost, "connection-lost")


def test_reset_of_a_socket(listening: socket.socket) -> None:
    """The same seen by a plain socket."""
    with closing(socket.create_connection(listening.getsockname())) as client:
        accepted, _ = listening.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        with pytest.raises(ConnectionResetError) as caught:
            client.recv(1)
    assert_is(caught.value, "connection-reset", "reset")


@bounded(20)
async def test_closed_by_the_peer(reactor: Any, listening: socket.socket) -> None:
    """An orderly end of TCP where none was due."""
    recorder = Recorder()
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", listening.getsockname()[1])
    await endpoint.connect(factory_of(recorder))
    listening.accept()[0].close()
    await until(lambda: recorder.lost is not None)
    assert recorder.lost is not None
    assert_is(recorder.lost, "connection-lost", "closed")


@bounded(20)
async def test_port_in_use(reactor: Any) -> None:
    """Two listeners on one port."""
    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await endpoint.listen(factory_of(Recorder()))
    try:
        again = TCP4ServerEndpoint(reactor, port.getHost().port, interface="127.0.0.1")
        assert_is(await failure_of(again.listen(factory_of(Recorder()))), "port-in-use", "is in use")
    finally:
        await port.stopListening()


@bounded(20)
async def test_not_an_address_of_this_machine(reactor: Any) -> None:
    """Listening on somebody else's address (TEST-NET-1 of RFC 5737)."""
    endpoint = TCP4ServerEndpoint(reactor, 0, interface="192.0.2.1")
    assert_is(await failure_of(endpoint.listen(factory_of(Recorder()))), "listen-failed", "not an address")


def test_names() -> None:
    """Names that do not exist, as the resolver and Twisted say it."""
    with pytest.raises(socket.gaierror) as caught:
        socket.getaddrinfo(b"x" * 64, 1)  # a label of more than 63 bytes: refused without asking anyone
    assert_is(caught.value, "name-not-found", "no host called")
    assert_is(error.DNSLookupError("no results for hostname lookup: pi.local"), "name-not-found")
    assert_is(error.UnknownHostError(), "name-not-found")
    with pytest.raises(UnicodeError) as bad:
        "x..y".encode("idna")
    assert_is(bad.value, "name-not-found")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ECONNREFUSED, "connection-refused"),
        (errno.ETIMEDOUT, "connect-timeout"),
        (errno.ENETUNREACH, "network-unreachable"),
        (errno.EHOSTUNREACH, "network-unreachable"),
        (errno.ENETDOWN, "network-unreachable"),
        (errno.EACCES, "network-unreachable"),
        (errno.ECONNRESET, "connection-reset"),
        (errno.EPIPE, "connection-lost"),
        (errno.EPROTO, "connection-lost"),
    ],
    ids=errno.errorcode.get,
)
def test_numbers(number: int, kind: str) -> None:
    """An errno means the same in each of its three wrappings: the kernel's, Twisted's, OpenSSL's."""
    assert_is(OSError(number, "x"), kind)
    assert_is(SSL.SysCallError(number, "x"), kind if number != errno.EPROTO else "tls-failed")
    twisted = error.getConnectError((number, "x"))
    assert_is(twisted, kind if number != errno.EPROTO else "network-unreachable")


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (error.TimeoutError(), "connect-timeout"),
        (error.TCPTimedOutError(), "connect-timeout"),
        (TimeoutError(), "connect-timeout"),
        (CancelledError(), "connect-timeout"),
        (error.NoRouteError(), "network-unreachable"),
        (error.ConnectError(errno.EHOSTUNREACH), "network-unreachable"),
        (error.ConnectError(), "network-unreachable"),
        (error.ConnectionLost(), "connection-lost"),
        (error.ConnectionAborted(), "connection-lost"),
        (error.ConnectionDone(), "connection-lost"),
        (SSL.SysCallError(-1, "Unexpected EOF"), "connection-lost"),
        (SSL.ZeroReturnError(), "connection-lost"),
        (SSL.Error([("SSL routines", "", "tlsv1 alert no application protocol")]), "not-ftx"),
        (SSL.Error([("SSL routines", "", "decryption failed or bad record mac")]), "connection-lost"),
        (SSL.Error([("SSL routines", "", "something new")]), "tls-failed"),
        (SSL.Error([]), "tls-failed"),
        (SSL.Error(), "tls-failed"),
        (error.CannotListenError("", 1, OSError(errno.EACCES, "x")), "listen-failed"),
        (error.CannotListenError("", 1, OSError(errno.EADDRINUSE, "x")), "port-in-use"),
        (KeyError("{secret}"), "internal"),
    ],
    ids=repr,
)
def test_exceptions(problem: BaseException, kind: str) -> None:
    """The rest of what Twisted and OpenSSL raise, bare and in a Failure."""
    assert_is(problem, kind)
    assert_is(Failure(problem), kind)
    assert "secret" not in connection_failure(problem, WHERE).message


def test_our_own_errors_stay_what_they_are() -> None:
    """An FtxError goes through, also in a Failure."""
    ours = FtxError("busy")
    assert connection_failure(ours, WHERE) is ours
    assert connection_failure(Failure(ours), WHERE) is ours


def test_the_address_is_cleaned_and_the_cause_is_kept() -> None:
    """An address may come from a peer; the exception stays reachable for --debug."""
    cause = error.ConnectionRefusedError()
    made = connection_failure(cause, "x\x1b[31m{0}")
    assert made.message == "x\\x1b[31m{0} refused the connection"
    assert made.__cause__ is cause


def handshake_failures(*, server: bool, **odd: Any) -> tuple[Failure | None, Failure | None]:
    """How ftx and an odd server (or client) each lose a connection that was never made."""
    context = odd_context(server=server, **odd)

    def make(factory: Any) -> Any:
        return odd_factory(context, factory.buildProtocol(None), server=server, clock=factory.clock)

    if server:
        pair = Pair(ME.client, make, server_protocol=Plain())
        pair.flush()
        return pair.client.lost, pair.server.lost
    pair = Pair(make, ME.server, client_protocol=Plain())
    pair.flush()
    return pair.server.lost, pair.client.lost


def test_real_handshakes() -> None:
    """What OpenSSL says on both ends of handshakes that fail."""
    key = rsa.generate_private_key(65537, 2048)
    no_certificate = handshake_failures(server=False)
    wrong_key = handshake_failures(server=True, key=key)
    old = handshake_failures(server=True, key=key, version=SSL.TLS1_2_VERSION)
    for problem, kind, words in [
        (no_certificate[0], "tls-failed", "did not prove"),
        (no_certificate[1], "tls-failed", "did not get our certificate"),
        (wrong_key[0], "tls-failed", "is not one of ftx"),
        (wrong_key[1], "tls-failed", "does not accept our certificate"),
        (old[0], "not-ftx", "TLS 1.3"),
        (old[1], "not-ftx", "TLS 1.3"),
    ]:
        assert problem is not None
        assert_is(problem, kind, words)


class _Http(Protocol):
    """Answers like a web server that was not spoken to in HTTP."""

    def dataReceived(self, data: bytes) -> None:
        """Answer and close."""
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]


@bounded(20)
async def test_a_web_server_is_not_ftx(reactor: Any) -> None:
    """The commonest wrong port."""
    port = reactor.listenTCP(0, factory_of(_Http()), interface="127.0.0.1")
    try:
        recorder = Recorder()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        await endpoint.connect(ME.client(factory_of(recorder)))
        await until(lambda: recorder.lost is not None)
        assert recorder.lost is not None
        assert_is(recorder.lost, "not-ftx")
    finally:
        await port.stopListening()
