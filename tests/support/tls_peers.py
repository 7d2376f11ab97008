"""Both ends of TLS connections for tests: honest protocols that record, odd certificates and odd contexts.

Everything is real: real keys, OpenSSL on both ends, Twisted's transports, sockets; either joined by a socket pair in a
reactor that is turned by hand (`Pair`), or over TCP.
"""

from __future__ import annotations

import datetime
import select
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from ftx.errors import FtxError
from ftx.net.tls import ALPN, PeerKey, peer_of


@implementer(IHandshakeListener)
class Recorder(Protocol):
    """Notes who the peer is, what it said and how the connection ended; behaves as ftx does."""

    def __init__(self) -> None:
        self.peer: PeerKey | None = None
        self.refused: FtxError | None = None
        self.shaken = False
        self.received = b""
        self.lost: Failure | None = None
        self.on_change: Callable[[], None] = lambda: None

    def handshakeCompleted(self) -> None:
        """Ask who it is; abort when that cannot be said."""
        self.shaken = True
        try:
            self.peer = peer_of(self.transport)
        except FtxError as error:
            self.refused = error
            self.transport.abortConnection()
        self.on_change()

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data
        self.on_change()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep the reason."""
        self.lost = reason
        self.on_change()


@implementer(IHandshakeListener)
class Plain(Recorder):
    """The other end, which believes anything."""

    def handshakeCompleted(self) -> None:
        """Only note it."""
        self.shaken = True
        self.on_change()


def certificate(
    key: Any,
    *,
    issuer: Any = None,
    issuer_name: str = "ftx",
    ca: bool = False,
    begin: int = 2000,
    end: int = 2100,
    serial: int = 7,
    alternative_names: int = 0,
) -> x509.Certificate:
    """A certificate for `key`, signed by itself or by `issuer`."""

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(name("ftx" if issuer is None else "leaf"))
        .issuer_name(name(issuer_name))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(datetime.datetime(begin, 1, 1))
        .not_valid_after(datetime.datetime(end, 1, 1))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    if alternative_names:
        names = [x509.DNSName(f"host{number:05d}.example") for number in range(alternative_names)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signer = issuer or key
    return builder.sign(signer, None if isinstance(signer, Ed25519PrivateKey) else hashes.SHA256())


def odd_context(
    *,
    server: bool,
    key: Any = None,
    leaf: x509.Certificate | Path | None = None,
    extra: Sequence[x509.Certificate] = (),
    alpn: Sequence[bytes] | None = (ALPN,),
    version: int = SSL.TLS1_3_VERSION,
) -> SSL.Context:
    """A context that believes anything of the other end; without `key` it presents no certificate.

    `leaf` is the certificate to present, or a file with one in DER that only OpenSSL can parse.
    """
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    if key is not None:
        if isinstance(leaf, Path):
            context.use_certificate_file(str(leaf), FILETYPE_ASN1)
        else:
            context.use_certificate(leaf or certificate(key))
        context.use_privatekey(key)
    for one in extra:
        context.add_extra_chain_cert(one)
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    if server and alpn:
        chosen = alpn[0]
        context.set_alpn_select_callback(lambda _connection, _offered: chosen)
    elif alpn:
        context.set_alpn_protos(list(alpn))
    return context


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class _Creator:
    def __init__(self, context: SSL.Context, prepare: Callable[[SSL.Connection], None]) -> None:
        self._context = context
        self._prepare = prepare

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        self._prepare(connection)
        return connection

    serverConnectionForTLS = clientConnectionForTLS


def odd_factory(
    context: SSL.Context,
    protocol: Protocol,
    *,
    server: bool,
    clock: Any = None,
    prepare: Callable[[SSL.Connection], None] = lambda _: None,
) -> IProtocolFactory:
    """A factory for the odd end, whose protocol is `protocol`; `prepare` is called with each connection."""
    return TLSMemoryBIOFactory(_Creator(context, prepare), not server, factory_of(protocol), clock)


def factory_of(protocol: Protocol, clock: Any = None) -> Factory:
    """A factory that hands out this one protocol; `clock` is for those who wrap it."""
    factory = Factory()
    factory.clock = clock  # type: ignore[attr-defined]
    factory.buildProtocol = lambda address: protocol  # type: ignore[method-assign]
    return factory


class Pair:
    """A client's and a server's factory connected by a socket pair; nothing moves but by `flush()`.

    Both ends are Twisted's TCP transports over real descriptors, in a reactor that runs only inside `flush()`. Those
    that a test leaves open are closed by `Pair.close_all()`.
    """

    _made: ClassVar[list[Pair]] = []

    def __init__(
        self,
        client: Callable[[Factory], IProtocolFactory],
        server: Callable[[Factory], IProtocolFactory],
        *,
        client_protocol: Recorder | None = None,
        server_protocol: Recorder | None = None,
    ) -> None:
        self.reactor = PumpReactor()
        self.client = client_protocol or Recorder()
        self.server = server_protocol or Recorder()
        one, two = socket.socketpair()
        self.client_io = self._end(one, client, self.client)
        self.server_io = self._end(two, server, self.server)
        self._made.append(self)

    @classmethod
    def close_all(cls) -> None:
        """End every pair's connections, whatever state they are in."""
        while cls._made:
            pair = cls._made.pop()
            pair.client_io.abortConnection()
            pair.server_io.abortConnection()
            pair.flush()

    def _end(self, end: socket.socket, make: Callable[[Factory], IProtocolFactory], protocol: Recorder) -> Server:
        end.setblocking(False)
        outer = make(factory_of(protocol, self.reactor)).buildProtocol(None)
        transport = Server(end, outer, ("", 0), None, 0, self.reactor)  # type: ignore[arg-type]
        outer.makeConnection(transport)
        return transport

    def flush(self) -> None:
        """Let everything arrive that is on its way, delayed writes too."""
        self.reactor.settle()


class PumpReactor(Clock):
    """A reactor over real descriptors, whose time stands still and which runs only while it is told to."""

    def __init__(self) -> None:
        super().__init__()
        # by descriptor, as Twisted's epoll reactor does it: who takes one over must not be undone by who had it
        self._readers: dict[int, Any] = {}
        self._writers: dict[int, Any] = {}
        #: How often it was to say when something can be written.
        self.asked = 0

    def addReader(self, reader: Any) -> None:
        """See IReactorFDSet."""
        self._readers.setdefault(reader.fileno(), reader)

    def removeReader(self, reader: Any) -> None:
        """See IReactorFDSet."""
        self._readers.pop(reader.fileno(), None)

    def addWriter(self, writer: Any) -> None:
        """See IReactorFDSet."""
        self._writers.setdefault(writer.fileno(), writer)
        self.asked += 1

    def removeWriter(self, writer: Any) -> None:
        """See IReactorFDSet."""
        self._writers.pop(writer.fileno(), None)

    def settle(self) -> None:
        """Run until nothing can be read, written or called any more."""
        busy = True
        while busy:
            busy = any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())
            self.advance(0)
            can_read, can_write, _ = select.select(self._readers, self._writers, [], 0)
            # what was ready for both is asked for both, whatever its read has done, again as Twisted does it
            reading = [(self._readers[fd], "doRead") for fd in can_read]
            writing = [(self._writers[fd], "doWrite") for fd in can_write]
            for one, work in reading + writing:
                if one.fileno() >= 0:
                    busy |= self._do(one, getattr(one, work))

    def _do(self, one: Any, work: Callable[[], Any]) -> bool:
        why = work()
        if why is not None:
            self.removeReader(one)
            self.removeWriter(one)
            one.connectionLost(Failure(why))
        return True
