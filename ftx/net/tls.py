"""Transport security: TLS 1.3 between two keys, and nothing else.

Every connection is TLS 1.3 (RFC 8446) with ALPN `ftx/1` (RFC 7301), and both ends present a self-signed
certificate for their Ed25519 key (RFC 8410). A certificate is only an envelope for the key: name, dates and
issuer mean nothing, and who the peer is follows from the key that the handshake proved, by `peer_of()`.

What is decided where:

- OpenSSL proves that the peer holds the key of its leaf certificate.
- `_acceptable()`, OpenSSL's verify callback, lets only a leaf without issuers pass, and only a small one for
  an Ed25519 key. A certificate *issued* with a known key is refused, so that trust cannot be passed on;
  validity dates are not looked at, so that a wrong clock locks nobody out.
- `peer_of()`, called in `handshakeCompleted`, checks what OpenSSL does not enforce (the ALPN name, a lone
  certificate) and names the peer. Whether that peer is known is the caller's business.

Two properties of TLS 1.3 that callers must live with. A client's handshake completes before the server has
looked at the client's certificate: a client knows that it was let in only when it has read something of the
server's. And `loseConnection` is no refusal, for data keeps arriving and a silent peer keeps the connection
open: refusals end with `abortConnection`.

Sessions are never resumed: nothing is kept that a ticket or an early-data attempt could refer to, and every
connection is a full handshake with both certificates.
"""

from __future__ import annotations

import datetime
import os
from functools import cached_property
from typing import Any, ClassVar, Final
from weakref import WeakValueDictionary

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, X509, dump_certificate
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure

from ftx import limits
from ftx.core.identity import identity_of
from ftx.disk.keys import Identity
from ftx.errors import FtxError
from ftx.net.secure import SecureTransport

__all__ = ["ALPN", "Credentials", "PeerKey", "peer_of"]

#: The one application protocol. It stays the same for as long as the hello can be parsed.
ALPN: Final = b"ftx/1"

# AES-128 first: with AES instructions it is the fastest, and 128 bits are what X25519 gives anyway.
_CIPHERS: Final = b"TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"

# The only findings of X509_verify_cert(3) that do not end a handshake. The others (unknown issuer, issuer in
# the chain, wrong purpose, ...) are about chains or odd leaves.
_TOLERATED: Final = frozenset(
    {
        SSL.X509VerificationCodes.OK,
        SSL.X509VerificationCodes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
        SSL.X509VerificationCodes.ERR_CERT_NOT_YET_VALID,
        SSL.X509VerificationCodes.ERR_CERT_HAS_EXPIRED,
    }
)

# Fixed dates, so that the same key always makes the same certificate. RFC 5280 section 4.1.2.5 defines the
# last moment of 9999 as "no end".
_NOT_BEFORE: Final = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)

# SSL_MODE_ENABLE_PARTIAL_WRITE of SSL_CTX_set_mode(3); pyOpenSSL sets it and has no name for it.
_PARTIAL_WRITE: Final = 1


@attrs.frozen
class PeerKey:
    """Who the other end of a connection proved to be."""

    #: SHA-256 of the key's SubjectPublicKeyInfo, 32 bytes.
    id: bytes
    #: The raw Ed25519 public key, 32 bytes.
    public_raw: bytes


class _Takeover(Protocol):
    """What Twisted's TCP transport takes for its protocol: it hears of the beginning and of the end."""

    def __init__(self, factory: _SecureFactory, protocol: IProtocol) -> None:
        self._factory = factory
        self._protocol: IProtocol | None = protocol
        self._secure: SecureTransport | None = None

    def connectionMade(self) -> None:
        """The TCP connection stands: from here on the secure transport has its descriptor."""
        self._factory.registerProtocol(self)
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            self._secure = SecureTransport(self.transport, protocol, self._factory.connection(), self._factory.client)
            self._secure.begin()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The TCP connection is gone."""
        self._factory.unregisterProtocol(self)
        secure, self._secure = self._secure, None
        if secure is not None:
            secure.lost(reason)


class _SecureFactory(WrappingFactory):
    """The protocols of `factory`, each behind a `SecureTransport` of its own, as TLS client or server.

    `context` is never changed: OpenSSL's contexts must not be once a connection was made from them.
    """

    noisy = False

    def __init__(self, context: SSL.Context, factory: IProtocolFactory, *, client: bool) -> None:
        super().__init__(factory)
        self.client = client
        self._context = context

    def connection(self) -> SSL.Connection:
        """A connection of OpenSSL over memory BIOs."""
        return SSL.Connection(self._context, None)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """See IProtocolFactory; None when the wrapped factory wants no connection."""
        protocol = self.wrappedFactory.buildProtocol(addr)
        return None if protocol is None else _Takeover(self, protocol)


class Credentials:
    """What this machine proves itself with: its certificate and one unchanging TLS context per role.

    The certificate exists in memory only and is the same for the same key. It and a context take some milliseconds to
    make, so both are made when they are first needed; `of()` gives what somebody else has already. Make another when
    the key is renewed.
    """

    _used: ClassVar[WeakValueDictionary[bytes, Credentials]] = WeakValueDictionary()

    def __init__(self, identity: Identity) -> None:
        self.identity = identity

    @classmethod
    def of(cls, identity: Identity) -> Credentials:
        """The credentials of `identity` that are in use in this process, or new ones."""
        found = cls._used.get(identity.public_raw)
        if found is None:
            found = cls._used[identity.public_raw] = cls(identity)
        return found

    @cached_property
    def _server(self) -> SSL.Context:
        return _context(self.identity, self._certificate, server=True)

    @cached_property
    def _client(self) -> SSL.Context:
        return _context(self.identity, self._certificate, server=False)

    @cached_property
    def _certificate(self) -> x509.Certificate:
        return _certificate(self.identity)

    def server(self, factory: IProtocolFactory) -> IProtocolFactory:
        """A factory to listen with: the protocols of `factory`, with a `SecureTransport` as the server's end.

        A protocol that provides `IHandshakeListener` learns when to call `peer_of(self.transport)`; before
        that it must not believe anything.
        """
        return _SecureFactory(self._server, factory, client=False)

    def client(self, factory: IProtocolFactory) -> IProtocolFactory:
        """A factory to connect with; as `server()`, for the client's end."""
        return _SecureFactory(self._client, factory, client=True)


def peer_of(transport: object) -> PeerKey:
    """Who the other end of `transport`, a `SecureTransport`, is; to be called in `handshakeCompleted`.

    Raises FtxError `tls-failed` if no handshake is complete, if the peer did not agree on `ftx/1` (OpenSSL
    lets that pass on both ends), or if it presented anything but one lone certificate for an Ed25519 key. The
    caller then aborts the connection.
    """
    connection = transport.connection if isinstance(transport, SecureTransport) else None
    leaf = None if connection is None else connection.get_peer_certificate()
    if connection is None or leaf is None or connection.get_peer_finished() is None:
        raise FtxError("tls-failed", "the peer has not proved who it is")
    if connection.get_alpn_proto_negotiated() != ALPN:
        raise FtxError("tls-failed", "the peer did not agree to speak ftx/1")
    # OpenSSL ignores what does not belong to a chain. On the server's side this list is without the leaf.
    der = dump_certificate(FILETYPE_ASN1, leaf)
    if any(dump_certificate(FILETYPE_ASN1, other) != der for other in connection.get_peer_cert_chain() or ()):
        raise FtxError("tls-failed", "the peer presented more than one certificate")
    public_raw = _public_raw(leaf.to_cryptography())  # the verify callback has parsed it before
    if public_raw is None:
        raise FtxError("tls-failed", "the peer's certificate is not one of ftx")
    return PeerKey(identity_of(public_raw), public_raw)


def _public_raw(certificate: x509.Certificate) -> bytes | None:
    """The raw Ed25519 key of `certificate`; None if it is too large or for another kind of key.

    For a certificate that cannot be parsed it raises what the parser raises, usually a ValueError.
    """
    if len(certificate.public_bytes(Encoding.DER)) > limits.CERTIFICATE:
        return None
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey):
        return None
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _acceptable(_connection: SSL.Connection, certificate: X509, finding: int, depth: int, _ok: int) -> bool:
    """OpenSSL's verify callback: whether the handshake may go on after `finding` about `certificate`.

    Called for every finding and, at the end, with finding 0 for every certificate of the chain; depth 0 is
    the leaf.
    """
    if depth != 0 or finding not in _TOLERATED:
        return False
    try:
        return _public_raw(certificate.to_cryptography()) is not None
    except Exception:
        # The certificate is hostile input to two parsers. An exception that left this callback would print a
        # traceback for every attempt, and pyOpenSSL keeps it with the context, which all connections share.
        return False


def _agree(_connection: SSL.Connection, offered: list[bytes]) -> Any:
    """OpenSSL's ALPN callback, on the server. What it cannot refuse here, `peer_of()` refuses."""
    return ALPN if ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _context(identity: Identity, certificate: x509.Certificate, *, server: bool) -> SSL.Context:
    """The context of one role; OpenSSL contexts must not be changed once a connection was made from them."""
    # An OpenSSL built with its key log would write every session's secrets to the file that this variable
    # names at the moment a context is made (SSL_CTX_new(3)).
    withheld = os.environ.pop("SSLKEYLOGFILE", None)
    try:
        context = SSL.Context(SSL.TLS_SERVER_METHOD if server else SSL.TLS_CLIENT_METHOD)
    finally:
        if withheld is not None:
            os.environ["SSLKEYLOGFILE"] = withheld
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(_CIPHERS)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.clear_mode(_PARTIAL_WRITE)  # one call encrypts a whole write, not only its first record
    context.use_certificate(certificate)
    context.use_privatekey(identity.private_key)
    # Without FAIL_IF_NO_PEER_CERT a server takes a client that presents no certificate at all.
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _acceptable)
    context.set_verify_depth(0)
    if server:
        context.set_alpn_select_callback(_agree)
    else:
        context.set_alpn_protos([ALPN])
    return context


def _certificate(identity: Identity) -> x509.Certificate:
    """The self-signed certificate of `identity`: it says nothing that the key does not say."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ftx")])
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(identity.private_key.public_key())
        # Positive and below 20 octets, RFC 5280 section 4.1.2.2.
        .serial_number(int.from_bytes(identity.id[:16], "big") | 1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    )
    return builder.sign(identity.private_key, algorithm=None)
