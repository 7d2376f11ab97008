"""Transport security: who gets through a handshake, who does not, and who the peer then is."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, X509, load_certificate
from OpenSSL.crypto import Error as CryptoError
from support.bounded import bounded, until
from support.tls_peers import Pair, Plain, Recorder, certificate, factory_of, odd_context, odd_factory
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionClosed
from twisted.internet.testing import StringTransport

from ftx import limits
from ftx.core.identity import identity_of
from ftx.disk.keys import Identity
from ftx.errors import FtxError
from ftx.net.tls import ALPN, Credentials, PeerKey, _acceptable, peer_of

ME = Identity.generate()
YOU = Identity.generate()
MINE = Credentials(ME)
YOURS = Credentials(YOU)
STRANGER = Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())

both_ends = pytest.mark.parametrize("odd_end", ["client", "server"])


def meet(odd_end: str, **odd: Any) -> tuple[Recorder, Recorder, Pair]:
    """Connect ftx with an odd peer at `odd_end`: ftx's protocol, the odd one's, and the pair."""
    server = odd_end == "server"
    odd.setdefault("key", YOU.private_key)
    return meet_context(odd_end, odd_context(server=server, **odd))


def meet_context(
    odd_end: str, context: SSL.Context, prepare: Callable[[SSL.Connection], None] = lambda _: None
) -> tuple[Recorder, Recorder, Pair]:
    """As `meet`, with a context made before; `prepare` is called with the odd end's connection."""
    server = odd_end == "server"

    def make(factory: Any) -> Any:
        protocol = factory.buildProtocol(None)
        return odd_factory(context, protocol, server=server, clock=factory.clock, prepare=prepare)

    if server:
        pair = Pair(MINE.client, make, server_protocol=Plain())
    else:
        pair = Pair(make, MINE.server, client_protocol=Plain())
    pair.flush()
    ours, theirs = (pair.client, pair.server) if server else (pair.server, pair.client)
    return ours, theirs, pair


def assert_no_way_in(ours: Recorder, pair: Pair) -> None:
    """The peer was refused: never named, nothing it says is taken, and the connection is gone."""
    assert ours.peer is None
    assert ours.received == b""
    assert ours.lost is not None
    assert pair.client_io.disconnected
    assert pair.server_io.disconnected


def test_each_end_learns_the_key_of_the_other() -> None:
    """Two ends with different keys know each other's identity and key, and data flows both ways."""
    pair = Pair(MINE.client, YOURS.server)
    pair.flush()
    assert pair.client.peer == PeerKey(YOU.id, YOU.public_raw)
    assert pair.server.peer == PeerKey(ME.id, ME.public_raw)
    assert identity_of(YOU.public_raw) == YOU.id
    pair.client.transport.write(b"ping")
    pair.server.transport.write(b"pong" * 100_000)
    pair.flush()
    assert pair.server.received == b"ping"
    assert pair.client.received == b"pong" * 100_000


def test_it_is_tls_1_3_with_our_alpn() -> None:
    """What was agreed on: TLS 1.3, an AEAD cipher, `ftx/1`."""
    pair = Pair(MINE.client, YOURS.server)
    pair.flush()
    for end in (pair.client, pair.server):
        connection = end.transport.connection
        assert connection.get_protocol_version_name() == "TLSv1.3"
        assert connection.get_cipher_name() == "TLS_AES_128_GCM_SHA256"
        assert connection.get_alpn_proto_negotiated() == ALPN == b"ftx/1"


@pytest.mark.case("B31")
@both_ends
def test_b31_another_certificate_for_the_same_key_is_the_same_peer(odd_end: str) -> None:
    """The identity is the key's: serial number, dates and names of the certificate do not matter."""
    leaf = certificate(YOU.private_key, serial=99, begin=2020, end=2030, issuer_name="ftx")
    ours, _theirs, _pair = meet(odd_end, leaf=leaf)
    assert ours.peer == PeerKey(YOU.id, YOU.public_raw)


@pytest.mark.case("B47")
@both_ends
@pytest.mark.parametrize(("begin", "end"), [(1970, 1971), (2090, 2100)], ids=["expired", "not yet valid"])
def test_b47_validity_is_not_looked_at(odd_end: str, begin: int, end: int) -> None:
    """A peer whose clock or certificate is off by decades is who it is."""
    ours, _theirs, _pair = meet(odd_end, leaf=certificate(YOU.private_key, begin=begin, end=end))
    assert ours.peer == PeerKey(YOU.id, YOU.public_raw)


@pytest.mark.case("B28")
def test_b28_a_client_without_a_certificate_is_refused() -> None:
    """No client certificate: the handshake fails at the server."""
    ours, theirs, pair = meet("client", key=None)
    assert_no_way_in(ours, pair)
    assert not ours.shaken
    assert theirs.lost is not None
    assert "certificate required" in str(theirs.lost.value)


@pytest.mark.case("B29")
@both_ends
@pytest.mark.parametrize("key", [RSA, P256], ids=["rsa", "p256"])
def test_b29_other_kinds_of_keys_are_refused(odd_end: str, key: Any) -> None:
    """Only Ed25519: one kind of key, one kind of identity."""
    ours, _theirs, pair = meet(odd_end, key=key)
    assert_no_way_in(ours, pair)
    assert not ours.shaken


@pytest.mark.case("B30")
@both_ends
@pytest.mark.parametrize("with_issuer", [True, False], ids=["whole chain", "leaf alone"])
@pytest.mark.parametrize("name", ["ftx", "leaf"], ids=["named", "looks self-signed"])
def test_b30_a_certificate_issued_with_a_known_key_is_refused(odd_end: str, with_issuer: bool, name: str) -> None:
    """A leaf for another key, signed by a known one: not that peer, and no peer at all."""
    leaf = certificate(STRANGER, issuer=YOU.private_key, issuer_name=name)
    extra = [certificate(YOU.private_key, ca=True)] if with_issuer else []
    ours, _theirs, pair = meet(odd_end, key=STRANGER, leaf=leaf, extra=extra)
    if name == "leaf":
        # The names say self-signed and OpenSSL does not check such signatures: then it is the stranger itself.
        assert ours.peer is None or ours.peer.id != YOU.id
    else:
        assert_no_way_in(ours, pair)
        assert not ours.shaken


@pytest.mark.case("B32")
@both_ends
@pytest.mark.parametrize("count", [1, 20])
def test_b32_more_than_one_certificate_is_refused(odd_end: str, count: int) -> None:
    """Certificates that belong to no chain, which OpenSSL passes over."""
    extra = [certificate(STRANGER, serial=number + 1) for number in range(count)]
    ours, _theirs, pair = meet(odd_end, extra=extra)
    assert_no_way_in(ours, pair)
    assert ours.refused is not None
    assert ours.refused.name == "tls-failed"


@pytest.mark.case("B32")
@both_ends
def test_b32_a_certificate_with_100_names_is_refused(odd_end: str) -> None:
    """Small enough for a handshake, too large for a certificate of ftx."""
    leaf = certificate(YOU.private_key, alternative_names=100)
    assert limits.CERTIFICATE < len(leaf.public_bytes(Encoding.DER)) < limits.HANDSHAKE
    ours, _theirs, pair = meet(odd_end, leaf=leaf)
    assert_no_way_in(ours, pair)
    assert not ours.shaken


@pytest.mark.case("B32")
@both_ends
def test_b32_a_certificate_of_64_kib_is_refused(odd_end: str) -> None:
    """Refused when `limits.HANDSHAKE` bytes have come, not when all have."""
    leaf = certificate(YOU.private_key, alternative_names=3500)
    assert len(leaf.public_bytes(Encoding.DER)) > 64 * limits.KiB
    server = odd_end == "server"
    theirs = SSL.Connection(odd_context(server=server, key=YOU.private_key, leaf=leaf))
    (theirs.set_accept_state if server else theirs.set_connect_state)()
    recorder = Recorder()
    make = MINE.client if server else MINE.server
    wire = Plain()
    pair = Pair(lambda _factory: factory_of(wire), lambda _factory: make(factory_of(recorder)))
    fed = 0
    while recorder.lost is None:
        pair.flush()
        if wire.received:
            theirs.bio_write(wire.received)
            wire.received = b""
        with contextlib.suppress(SSL.WantReadError):
            theirs.do_handshake()
        data = theirs.bio_read(1024)
        fed += len(data)
        wire.transport.write(data)  # type: ignore[union-attr]
        pair.flush()
    assert limits.HANDSHAKE < fed <= limits.HANDSHAKE + 1024
    assert recorder.peer is None
    assert not recorder.shaken
    reason = recorder.lost.value
    assert isinstance(reason, FtxError)
    assert reason.name == "tls-failed"


@pytest.mark.case("B33")
@both_ends
def test_b33_tls_1_2_is_refused(odd_end: str) -> None:
    """No fall-back to an older version."""
    ours, _theirs, pair = meet(odd_end, version=SSL.TLS1_2_VERSION)
    assert_no_way_in(ours, pair)
    assert not ours.shaken


@pytest.mark.case("B33")
@both_ends
def test_b33_no_alpn_is_refused(odd_end: str) -> None:
    """OpenSSL completes such a handshake; `peer_of` does not."""
    ours, _theirs, pair = meet(odd_end, alpn=None)
    assert ours.shaken
    assert_no_way_in(ours, pair)
    assert ours.refused is not None
    assert ours.refused.name == "tls-failed"


@pytest.mark.case("B33")
def test_b33_a_client_that_wants_h2_is_refused() -> None:
    """Another protocol over the same keys is not ours (cross-protocol use)."""
    ours, _theirs, pair = meet("client", alpn=[b"h2"])
    assert ours.shaken
    assert_no_way_in(ours, pair)
    assert ours.refused is not None


def test_a_client_that_offers_others_too_speaks_ftx() -> None:
    """Of several names the server takes its own."""
    ours, _theirs, _pair = meet("client", alpn=[b"h2", ALPN])
    assert ours.peer == PeerKey(YOU.id, YOU.public_raw)


@pytest.mark.case("B33")
def test_b33_a_server_that_chooses_h2_is_refused() -> None:
    """A server that answers with a name that was not offered."""
    ours, _theirs, pair = meet("server", alpn=[b"h2"])
    assert_no_way_in(ours, pair)


@pytest.mark.case("B37")
@both_ends
def test_b37_a_certificate_that_cannot_be_parsed_is_refused_quietly(
    odd_end: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenSSL accepts a version 6 certificate, our parser raises: refused, and no traceback anywhere."""
    leaf = tmp_path / "leaf"
    leaf.write_bytes(_version_six(YOU.private_key))
    ours, _theirs, pair = meet(odd_end, leaf=leaf)
    assert_no_way_in(ours, pair)
    assert not ours.shaken
    assert capfd.readouterr() == ("", "")
    # and the context, which keeps what a callback raises, goes on to serve others
    ours, _theirs, _pair = meet(odd_end)
    assert ours.peer is not None


def _version_six(key: Any) -> bytes:
    der = certificate(key).public_bytes(Encoding.DER)
    version = bytes.fromhex("a003020102")
    assert der.count(version) == 1
    return der.replace(version, bytes.fromhex("a003020105"))


@pytest.mark.case("B34")
def test_b34_a_resumed_session_is_a_full_handshake() -> None:
    """A client that returns with what the first session left proves itself again, and changes identity."""
    context = odd_context(server=False, key=YOU.private_key)
    ours, theirs, _pair = meet_context("client", context)
    assert ours.peer == PeerKey(YOU.id, YOU.public_raw)
    session = theirs.transport.getHandle().get_session()  # type: ignore[union-attr]
    assert session is not None

    def resume(connection: SSL.Connection) -> None:
        connection.set_session(session)

    def resume_as_another(connection: SSL.Connection) -> None:
        connection.set_session(session)
        connection.use_certificate(certificate(STRANGER))
        connection.use_privatekey(STRANGER)

    ours, theirs, _pair = meet_context("client", context, resume)
    assert ours.peer == PeerKey(YOU.id, YOU.public_raw)
    ours, theirs, _pair = meet_context("client", context, resume_as_another)
    assert ours.peer is not None
    assert ours.peer.id == Identity.of(STRANGER).id


def test_the_verify_callback_never_raises() -> None:
    """For every finding of OpenSSL, every depth, and every certificate that OpenSSL can read and others cannot."""
    good = X509.from_cryptography(certificate(YOU.private_key))
    connection = SSL.Connection(odd_context(server=False), None)
    tolerated = {0, 9, 10, 18}  # all is well, not valid yet, not any more, self-signed: x509_vfy.h
    for finding in range(-1, 120):
        for depth in (0, 1, 2, 20):
            answer = _acceptable(connection, good, finding, depth, 1)
            assert answer is (depth == 0 and finding in tolerated), (finding, depth)
    der = certificate(YOU.private_key).public_bytes(Encoding.DER)
    answers = set()
    for place in range(len(der)):
        for change in (0x01, 0x80, 0xFF):
            try:
                odd = load_certificate(FILETYPE_ASN1, der[:place] + bytes([der[place] ^ change]) + der[place + 1 :])
            except CryptoError:
                continue
            answers.add(_acceptable(connection, odd, 0, 0, 1))
    assert answers == {True, False}
    assert _acceptable(connection, X509(), 0, 0, 1) is False


def test_contexts_are_shared_and_closed_to_change() -> None:
    """One context per role, which pyOpenSSL no longer lets anyone change after its first connection."""
    first = Pair(MINE.client, YOURS.server)
    second = Pair(MINE.client, YOURS.server)
    first.flush()
    second.flush()
    contexts = [pair.client.transport.connection.get_context() for pair in (first, second)]
    assert contexts[0] is contexts[1]
    servers = [pair.server.transport.connection.get_context() for pair in (first, second)]
    assert servers[0] is servers[1]
    assert contexts[0] is not servers[0]
    for context in (contexts[0], servers[0]):
        with pytest.raises(ValueError, match="mutated"):
            context.set_verify(SSL.VERIFY_NONE)


def test_peer_of_before_and_after_a_connection() -> None:
    """Nobody is named before the handshake is complete, after the connection is lost, or by another transport."""
    pair = Pair(MINE.client, YOURS.server)
    transport = pair.client.transport
    with pytest.raises(FtxError, match="not proved"):
        peer_of(transport)
    pair.flush()
    assert peer_of(transport) == PeerKey(YOU.id, YOU.public_raw)
    pair.server.transport.abortConnection()
    pair.flush()
    assert pair.client.lost is not None
    with pytest.raises(FtxError, match="not proved"):
        peer_of(transport)
    with pytest.raises(FtxError, match="not proved"):
        peer_of(StringTransport())


def test_the_certificate_says_nothing_but_the_key() -> None:
    """The same key makes the same certificate, with no name of host or user in it."""
    pairs = [Pair(Credentials(ME).client, YOURS.server) for _ in range(2)]
    leaves: list[x509.Certificate] = []
    for pair in pairs:
        pair.flush()
        leaves.append(pair.server.transport.connection.get_peer_certificate(as_cryptography=True))
    assert leaves[0] == leaves[1]
    assert leaves[0].subject.rfc4514_string() == leaves[0].issuer.rfc4514_string() == "CN=ftx"
    assert not leaves[0].extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_who_runs_at_once_shares_one_context() -> None:
    """A key's credentials are made once for all that use them, and are gone when nobody does; another key's are others.
    """
    one = Credentials.of(ME)
    again = Credentials.of(Identity.of(ME.private_key))
    assert again is one
    assert again._client is one._client
    assert one._client is not one._server
    assert Credentials.of(YOU) is not one
    gone = weakref.ref(one)
    del one, again
    assert gone() is None
    pair = Pair(Credentials.of(ME).client, Credentials.of(YOU).server)
    pair.flush()
    assert pair.server.peer == PeerKey(ME.id, ME.public_raw)


def test_connections_are_freed_without_the_garbage_collector() -> None:
    """A lost connection leaves no cycle behind: OpenSSL's memory goes when the last reference goes."""
    pair = Pair(MINE.client, YOURS.server)
    pair.flush()
    connection = weakref.ref(pair.server.transport.connection)
    gc.disable()
    try:
        pair.client.transport.abortConnection()
        pair.flush()
        assert pair.server.lost is not None
        assert connection() is None
    finally:
        gc.enable()


KEYLOG = """
import os, sys
sys.path.insert(0, sys.argv[1])
from support.tls_peers import Pair
from ftx.disk.keys import Identity
from ftx.net.tls import Credentials
me = Credentials(Identity.generate())
pair = Pair(me.client, me.server)
pair.flush()
assert pair.client.peer is not None and pair.client.peer == pair.server.peer
assert os.environ["SSLKEYLOGFILE"] == sys.argv[2]
"""


@pytest.mark.case("L178")
def test_the_key_log_variable_is_ignored(tmp_path: Path) -> None:
    """SSLKEYLOGFILE makes nobody write our secrets down; children of ours still inherit it."""
    log = tmp_path / "keys.log"
    tests = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", KEYLOG, tests, str(log)],
        env={**os.environ, "SSLKEYLOGFILE": str(log)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not log.exists()


@bounded(30)
async def test_over_real_tcp(reactor: Any) -> None:
    """The same over loopback TCP: identities, a megabyte each way, an orderly end."""
    client, server = Recorder(), Recorder()
    port = reactor.listenTCP(0, MINE.server(factory_of(server)), interface="127.0.0.1")
    try:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        await endpoint.connect(YOURS.client(factory_of(client)))
        await until(lambda: client.peer is not None and server.peer is not None)
        assert client.peer == PeerKey(ME.id, ME.public_raw)
        assert server.peer == PeerKey(YOU.id, YOU.public_raw)
        megabyte = bytes(range(256)) * 4096
        client.transport.write(megabyte)
        server.transport.write(megabyte)
        await until(lambda: len(client.received) == len(server.received) == len(megabyte))
        assert client.received == server.received == megabyte
        client.transport.loseConnection()
        await until(lambda: client.lost is not None and server.lost is not None)
        assert isinstance(server.lost.value, ConnectionClosed)
    finally:
        await port.stopListening()


@bounded(30)
async def test_b33_over_real_tcp(reactor: Any) -> None:
    """A client without ALPN over loopback TCP is refused and its connection closed."""
    client, server = Plain(), Recorder()
    port = reactor.listenTCP(0, MINE.server(factory_of(server)), interface="127.0.0.1")
    try:
        context = odd_context(server=False, key=YOU.private_key, alpn=None)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        await endpoint.connect(odd_factory(context, client, server=False))
        await until(lambda: server.lost is not None and client.lost is not None)
        assert server.peer is None
        assert server.refused is not None
    finally:
        await port.stopListening()


@pytest.mark.case("A18", "A19")
@pytest.mark.parametrize(
    "greeting",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-x\r\n", b"\0\0\0\x10\x01" + bytes(16)],
    ids=["http", "ssh", "clear ftx"],
)
@bounded(30)
async def test_a18_a19_other_protocols_on_the_port_are_closed(reactor: Any, greeting: bytes) -> None:
    """HTTP, SSH and a clear-text ftx frame end at once, without an answer in their own language."""
    stranger, server = Plain(), Recorder()
    port = reactor.listenTCP(0, MINE.server(factory_of(server)), interface="127.0.0.1")
    try:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        await connectProtocol(endpoint, stranger)
        stranger.transport.write(greeting)
        await until(lambda: stranger.lost is not None and server.lost is not None, seconds=5)
        assert not server.shaken
        assert server.received == b""
        assert stranger.received[:1] in (b"", b"\x15")  # nothing, or a TLS alert record
    finally:
        await port.stopListening()
