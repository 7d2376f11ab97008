"""Traps of Twisted on our path, each shown with Twisted alone.

These tests are not about ftx: they hold down behaviour that our code is shaped by. When one fails after an
upgrade of Twisted, a trap is gone (or has moved), and what was built around it can be looked at again. What
each trap means for ftx stands in its test.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import os
import socket
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from OpenSSL import SSL
from support.bounded import bounded, until
from support.tls_peers import Pair, Plain, certificate, factory_of, odd_context, odd_factory
from twisted.application.internet import StreamServerEndpointService
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.defer import fail
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import DatagramProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import Logger, formatEvent
from twisted.protocols.basic import Int32StringReceiver
from zope.interface import implementer

import ftx

KEY = Ed25519PrivateKey.generate()


def bare_pair(*, client: Plain | None = None, verify: Any = None, leaf: Any = None) -> Pair:
    """Twisted's own TLS on both ends; the server's verify callback and certificate may be given."""
    server_context = odd_context(server=True, key=KEY, leaf=leaf)
    if verify is not None:
        server_context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)

    def end(context: SSL.Context, *, server: bool) -> Any:
        def make(factory: Any) -> Any:
            return odd_factory(context, factory.buildProtocol(None), server=server, clock=factory.clock)

        return make

    return Pair(
        end(odd_context(server=False, key=KEY), server=False),
        end(server_context, server=True),
        client_protocol=client or Plain(),
        server_protocol=Plain(),
    )


class LoseOnData(Plain):
    """Calls loseConnection at the first data, and counts what still comes."""

    def dataReceived(self, data: bytes) -> None:
        """Keep it, and ask for the end."""
        super().dataReceived(data)
        self.transport.loseConnection()


class AbortOnData(Plain):
    """Calls abortConnection at the first data."""

    def dataReceived(self, data: bytes) -> None:
        """Keep it, and end it."""
        super().dataReceived(data)
        self.transport.abortConnection()


class _Deaf:
    """A TLS client over a plain socket that sends what it is told to and never answers a close alert."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.tls = SSL.Connection(odd_context(server=False, key=KEY))
        self.tls.set_connect_state()
        self.socket.setblocking(False)
        self.shaken = False

    def turn(self) -> bool:
        """Move what can be moved of the handshake; whether it is complete."""
        if not self.shaken:
            try:
                self.tls.do_handshake()
                self.shaken = True
            except SSL.WantReadError:
                pass
            self._flush()
            if not self.shaken:
                with contextlib.suppress(BlockingIOError):
                    self.tls.bio_write(self.socket.recv(65536))
        return self.shaken

    def send(self, data: bytes) -> None:
        """One record with `data`."""
        self.tls.send(data)
        self._flush()

    def _flush(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            self.socket.sendall(self.tls.bio_read(1 << 16))


@pytest.mark.case("A23")
@bounded(20)
async def test_lose_connection_under_tls_is_no_refusal(reactor: Any) -> None:
    """After loseConnection every later record is still delivered, and a silent peer keeps it open.

    In ftx: the protocol looks at its own `dead` flag first, and refusals end with abortConnection.
    """
    server = LoseOnData()
    factory = odd_factory(odd_context(server=True, key=KEY), server, server=True)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    peer = _Deaf(port.getHost().port)
    try:
        await until(peer.turn)
        for number in range(1, 6):
            peer.send(b"x" * 100)
            expected = number * 100
            await until(lambda expected=expected: len(server.received) == expected)
        assert server.lost is None  # five records later
        for _ in range(50):
            await turn(reactor)
        assert server.lost is None
    finally:
        peer.socket.close()
        await until(lambda: server.lost is not None)
        await port.stopListening()


async def turn(reactor: Any) -> None:
    """One turn of the reactor."""
    await deferLater(reactor, 0)


def test_lose_connection_without_tls_closes_at_once() -> None:
    """The same call on plain TCP does what its name says: code that is tested in clear text misleads."""
    transport = StringTransport()
    protocol = LoseOnData()
    protocol.makeConnection(transport)
    protocol.dataReceived(b"x")
    assert transport.disconnecting


@bounded(20)
async def test_abort_connection_really_aborts(reactor: Any) -> None:
    """After abortConnection nothing is delivered, and the connection is lost at once, whatever the peer does."""
    server = AbortOnData()
    factory = odd_factory(odd_context(server=True, key=KEY), server, server=True)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    peer = _Deaf(port.getHost().port)
    try:
        await until(peer.turn)
        for _ in range(5):
            peer.tls.send(b"x" * 100)  # five records in one segment
        peer._flush()
        await until(lambda: server.lost is not None)
        assert server.received == b"x" * 100
    finally:
        peer.socket.close()
        await port.stopListening()


@pytest.mark.case("B36")
def test_a_clients_handshake_ends_before_the_server_has_looked() -> None:
    """With a server that refuses the certificate the client gets handshakeCompleted and may even write.

    In ftx: a client sends only its hello until it has read the server's.
    """
    client = Plain()
    events: list[str] = []
    client.on_change = lambda: events.append("lost" if client.lost is not None else "shaken")
    pair = bare_pair(client=client, verify=lambda *_: False)
    pair.flush()
    assert events[0] == "shaken"
    assert not pair.server.shaken
    assert pair.server.received == b""
    assert client.lost is not None
    assert "alert" in str(client.lost.value)


@bounded(20)
async def test_a_raising_verify_callback_is_logged_with_a_traceback(reactor: Any, logged_errors: list[Any]) -> None:
    """The connection ends, but with a traceback in the log for every attempt of anyone who can connect.

    In ftx: the callback catches everything and says no.
    """

    def verify(*_: Any) -> bool:
        raise RuntimeError("in the callback")

    context = odd_context(server=True, key=KEY)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
    client, server = Plain(), Plain()
    port = reactor.listenTCP(0, odd_factory(context, server, server=True), interface="127.0.0.1")
    try:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        await endpoint.connect(odd_factory(odd_context(server=False, key=KEY), client, server=False))
        await until(lambda: client.lost is not None and server.lost is not None)
        assert not server.shaken
        assert logged_errors[0]["log_failure"].check(RuntimeError)
        logged_errors.clear()
    finally:
        await port.stopListening()


def test_a_large_first_write_of_a_handshake_is_not_sent_whole() -> None:
    """Twisted takes at most 32 KiB at a time out of OpenSSL, and only once per round of a handshake.

    A flight of a handshake that is larger stops there for ever. In ftx: `limits.CERTIFICATE` keeps ours small.
    """
    pair = bare_pair(leaf=certificate(KEY, alternative_names=3500))
    pair.flush()
    assert not pair.client.shaken
    assert pair.client.lost is None


def test_int32_string_receiver_keeps_what_it_has_refused() -> None:
    """Over its limit it asks for the end of the connection again and again, and goes on buffering.

    In ftx: an incremental parser of our own; Twisted's is not used.
    """

    class Limited(Int32StringReceiver):
        MAX_LENGTH = 10
        refusals = 0

        def lengthLimitExceeded(self, length: int) -> None:
            self.refusals += 1

    protocol = Limited()
    protocol.makeConnection(StringTransport())
    protocol.dataReceived(b"\0\0\xff\xff")
    for _ in range(10):
        protocol.dataReceived(b"x" * 100)
    assert protocol.refusals > 1
    assert len(protocol._unprocessed) >= 1000  # type: ignore[attr-defined]


def test_int32_string_receiver_is_not_used() -> None:
    """No module of ftx touches it or its relatives."""
    for path in Path(ftx.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Name | ast.Attribute):
                name = node.id if isinstance(node, ast.Name) else node.attr
                assert not name.endswith("StringReceiver"), path


class Count(DatagramProtocol):
    """Counts datagrams."""

    def __init__(self) -> None:
        self.seen = 0

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Count it."""
        self.seen += 1


@bounded(20)
async def test_a_udp_port_reads_empty_datagrams_without_end(reactor: Any) -> None:
    """One turn of the reactor takes all empty datagrams there are: its bound is in bytes, and they have none.

    In ftx: discovery reads its socket itself, `limits.DATAGRAMS_PER_TURN` at a time.
    """
    protocol = Count()
    port = reactor.listenUDP(0, protocol, interface="127.0.0.1")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(200):  # well below the default receive buffer
                sender.sendto(b"", ("127.0.0.1", port.getHost().port))
        port.doRead()
        assert protocol.seen == 200
    finally:
        await port.stopListening()


@bounded(20)
async def test_a_unix_socket_is_open_to_everyone_by_default(reactor: Any, short_tmp: Path) -> None:
    """listenUNIX makes it 0666, whatever the umask.

    In ftx: mode 0600 in a 0700 folder, always said.
    """
    path = short_tmp / "s"
    before = os.umask(0o077)
    try:
        port = reactor.listenUNIX(str(path), factory_of(Protocol()))
    finally:
        os.umask(before)
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
    finally:
        await port.stopListening()


def test_a_log_format_can_call_methods() -> None:
    """Text of a peer in a format string runs methods of the logged objects.

    In ftx: format strings are literals; what a peer said is only ever a field, cleaned.
    """

    class Treasure:
        wiped = False

        def wipe(self) -> str:
            self.wiped = True
            return "wiped"

    treasure = Treasure()
    events: list[Any] = []
    log = Logger(observer=events.append)  # type: ignore[arg-type]
    said = "{treasure.wipe()}"
    log.info("the peer said " + said, treasure=treasure)
    formatEvent(events[0])
    assert treasure.wiped
    treasure.wiped = False
    log.info("the peer said {said}", said=said, treasure=treasure)
    assert formatEvent(events[1]) == "the peer said {treasure.wipe()}"
    assert not treasure.wiped


def test_a_log_does_not_clean_control_characters() -> None:
    """ESC goes into the text log as it is. In ftx: `show()` first."""
    assert "\x1b" in formatEvent({"log_format": "{name}", "name": "\x1b[31m"})


def _logging_calls(tree: ast.AST) -> list[ast.Call]:
    levels = {"debug", "info", "warn", "error", "critical", "failure"}
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in levels
        and isinstance(node.func.value, ast.Name | ast.Attribute)
        and (node.func.value.id if isinstance(node.func.value, ast.Name) else node.func.value.attr).strip("_")
        in {"log", "logger"}
    ]


def test_our_log_formats_are_literals() -> None:
    """Every call of a logger in ftx has a constant string as its format."""
    for path in Path(ftx.__file__).parent.rglob("*.py"):
        for call in _logging_calls(ast.parse(path.read_text("utf-8"))):
            first = call.args[0] if call.args else None
            assert isinstance(first, ast.Constant), f"{path}:{call.lineno}"


@bounded(20)
async def test_a_half_closed_connection_is_cut_before_its_answer(reactor: Any, short_tmp: Path) -> None:
    """A client that shuts down its side (`nc -N`) gets no answer written a turn later.

    In ftx: the control protocol provides IHalfCloseableProtocol.
    """

    class Late(Protocol):
        def dataReceived(self, data: bytes) -> None:
            reactor.callLater(0.05, self._answer)

        def _answer(self) -> None:
            self.transport.write(b"answer")  # type: ignore[union-attr]
            self.transport.loseConnection()  # type: ignore[union-attr]

    @implementer(IHalfCloseableProtocol)
    class LateAndHalfClosed(Late):
        def readConnectionLost(self) -> None:
            pass

        def writeConnectionLost(self) -> None:
            pass

    for kind, answer in ((Late, b""), (LateAndHalfClosed, b"answer")):
        path = str(short_tmp / kind.__name__)
        port = reactor.listenUNIX(path, factory_of(kind()), mode=0o600)
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(b"status\n")
                client.shutdown(socket.SHUT_WR)
                client.setblocking(False)
                assert await _read_to_end(client) == answer
        finally:
            await port.stopListening()


async def _read_to_end(client: socket.socket) -> bytes:
    parts: list[bytes] = []

    def ended() -> bool:
        try:
            parts.append(client.recv(4096))
        except BlockingIOError:
            return False
        return parts[-1] == b""

    await until(ended)
    return b"".join(parts)


@bounded(20)
async def test_a_port_in_use_is_swallowed_by_the_endpoint_service(reactor: Any, logged_errors: list[Any]) -> None:
    """StreamServerEndpointService logs it and stays alive, listening on nothing.

    In ftx: a listening service of our own, whose failure ends the start.
    """
    taken = reactor.listenTCP(0, factory_of(Protocol()), interface="127.0.0.1")
    try:
        endpoint = TCP4ServerEndpoint(reactor, taken.getHost().port, interface="127.0.0.1")
        service = StreamServerEndpointService(endpoint, factory_of(Protocol()))
        service.privilegedStartService()
        service.startService()
        assert service.running
        assert len(logged_errors) == 1
        logged_errors.clear()
        await service.stopService()
    finally:
        await taken.stopListening()


def test_react_ends_with_zero_when_interrupted() -> None:
    """task.react exits 0 on SIGINT, so a script takes an aborted copy for a success.

    In ftx: the client has signal handlers of its own, and exits 130.
    """
    program = """
        import os, signal
        from twisted.internet.defer import Deferred
        from twisted.internet.task import react
        def main(reactor):
            reactor.callWhenRunning(os.kill, os.getpid(), signal.SIGINT)
            return Deferred()
        react(main)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, timeout=30)
    assert done.returncode == 0


@bounded(20)
async def test_a_lost_failure_is_only_logged_when_it_is_collected(reactor: Any, logged_errors: list[Any]) -> None:
    """A Deferred that nobody keeps fails without a sound until the garbage collector comes by.

    In ftx: every Deferred is kept, returned, or ended with a logged failure; `no_leaks` watches the tests.
    """
    fail(RuntimeError("nobody looks"))
    gc.collect()
    assert len(logged_errors) == 1
    logged_errors.clear()


@bounded(20)
async def test_a_cancelled_connect_does_not_time_out(reactor: Any) -> None:
    """`addTimeout` on a connect fails with ConnectingCancelledError, not with TimeoutError.

    In ftx: `connection_failure` knows it.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        clients = [socket.socket() for _ in range(4)]
        try:
            for client in clients:
                client.setblocking(False)
                client.connect_ex(listener.getsockname())
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", listener.getsockname()[1])
            attempt = connectProtocol(endpoint, Protocol()).addTimeout(0.1, reactor)
            with pytest.raises(ConnectingCancelledError) as caught:
                await attempt
            assert not isinstance(caught.value, DeferredTimeoutError | TimeoutError)
        finally:
            for client in clients:
                client.close()
