"""TLS records without a transport: the direct way into OpenSSL, and the way through pyOpenSSL beside it.

What one way gives the other gives as well: each test is made with both.
"""

from __future__ import annotations

import hashlib
import hmac
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from OpenSSL import SSL

from ftx import limits
from ftx.disk.keys import Identity
from ftx.net import records
from ftx.net.records import Records
from ftx.net.tls import Credentials

MINE = Credentials(Identity.generate())
YOURS = Credentials(Identity.generate())
CONTENT = bytes(range(256)) * 2000
#: Of SSL_get_error(3): something else than that there is no more for now.
SSL_ERROR_SSL: Final = 1


@pytest.fixture(params=["found", "elsewhere"], autouse=True)
def direct(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With pyOpenSSL's binding where it is, and elsewhere. Whether it is there."""
    found: bool = request.param == "found"
    if not found:
        monkeypatch.setattr(records, "_BINDING", None)
    return found


def sealed(end: Records) -> Iterator[bytes]:
    """What it has for the network, as it gives it; not looked at before it is asked for the next."""
    while (data := end.sealed()) is not None:
        assert 0 < len(data) <= limits.SEALED
        yield bytes(data)


def everything(end: Records) -> bytes:
    """Seal all that waits; what comes of it."""
    found = b""
    while end.waiting:
        end.seal()
        found += b"".join(sealed(end))
    return found


class Without:
    """A connection that has not this one attribute."""

    def __init__(self, connection: SSL.Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            raise AttributeError(name)
        return getattr(self._connection, name)


def joined(mine: Credentials = MINE, without: str = "") -> tuple[Records, Records]:
    """Both ends of one connection, the handshake complete; the server's connection has not the attribute `without`."""
    client = Records(SSL.Connection(mine._client, None), client=True)
    accepting: Any = SSL.Connection(YOURS._server, None)
    server = Records(Without(accepting, without) if without else accepting, client=False)  # type: ignore[arg-type]
    while not (client.shake_hands() and server.shake_hands()):
        for one, other in ((client, server), (server, client)):
            for data in sealed(one):
                other.feed(memoryview(data))
            other.shake_hands()
    return client, server


def test_both_ways_are_taken(direct: bool) -> None:
    """Neither is tested in the name of the other."""
    client, _ = joined()
    assert (records._BINDING is not None) is direct
    assert (client._openssl is not None) is direct


@pytest.mark.parametrize("piece", [1, 1000, 16 * 1024, 100_000])
def test_content_in_any_pieces(piece: int) -> None:
    """Written in parts and read in pieces it is the same; of empty parts nothing is seen."""
    client, server = joined()
    content = CONTENT[: 50 * piece]
    for start in range(0, len(content), 3333):
        client.write(memoryview(content)[start : start + 3333])
    data, found = memoryview(everything(client)), b""
    for start in range(0, len(data), piece):
        server.feed(data[start : start + piece])
        opened = server.opened(1000)
        assert (opened.ended, opened.more) == (None, False)
        found += opened.content
    assert found == content
    assert client.waiting == 0


def test_what_fails_directly_is_asked_again(direct: bool) -> None:
    """Each call by itself: pyOpenSSL does what the direct way did not, and nothing is lost."""
    failing = {"give": -1, "take": -1, "read": -1, "write": 0}
    for name, result in failing.items():
        client, server = joined()
        if direct:
            binding = records._BINDING
            assert binding is not None
            instead: dict[str, Any] = {name: lambda *_, result=result: result, "error": lambda *_: SSL_ERROR_SSL}
            client._openssl = server._openssl = binding._replace(**instead)
        client.write(CONTENT[:40_000])
        server.feed(memoryview(everything(client)))
        opened = server.opened(10)
        assert opened == (CONTENT[:40_000], 3, None, False), name


@pytest.mark.parametrize("module", [None, SimpleNamespace(), SimpleNamespace(ffi=object(), lib=object())])
def test_no_binding(module: SimpleNamespace | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pyOpenSSL that keeps it elsewhere, or other things there."""
    monkeypatch.setitem(sys.modules, "OpenSSL._util", module)
    assert records._binding() is None


@pytest.mark.parametrize("name", ["_ssl", "_into_ssl", "_from_ssl"])
def test_a_connection_that_keeps_its_own_elsewhere(name: str) -> None:
    """All goes through pyOpenSSL then."""
    client, server = joined(without=name)
    assert server._openssl is None
    for one, other in ((client, server), (server, client)):
        one.write(CONTENT[:40_000])
        other.feed(memoryview(everything(one)))
        assert other.opened(10).content == CONTENT[:40_000]


def test_the_end_of_one_is_nothing_to_another() -> None:
    """OpenSSL has one queue of errors for all connections of a thread."""
    client, server = joined()
    for end in (b"\x17\x03\x03\0\x20" + bytes(32), b""):
        _, other = joined()
        other.feed(memoryview(end))
        ended = other.opened(10).ended
        assert ended is not None
        assert not isinstance(ended, SSL.ZeroReturnError)
        with pytest.raises(SSL.Error):
            other.close()
        assert server.opened(10) == (b"", 0, None, False)
        client.write(b"content")
        server.feed(memoryview(everything(client)))
        assert server.opened(10) == (b"content", 1, None, False)


def test_a_bounded_number_of_records_is_opened() -> None:
    """The rest is there when it is asked for again."""
    client, server = joined()
    client.write(CONTENT[: 5 * 16384])
    server.feed(memoryview(everything(client)))
    first, second = server.opened(3), server.opened(3)
    assert (first.records, first.more, second.records, second.more) == (3, True, 2, False)
    assert first.content + second.content == CONTENT[: 5 * 16384]


def test_ciphertext_is_given_in_bounded_pieces() -> None:
    """However much OpenSSL has; and what one connection gave is not what the next one gives."""
    pairs = [joined(), joined()]
    contents = [CONTENT, CONTENT[::-1]]
    for (client, _), content in zip(pairs, contents, strict=True):
        client.write(content)
        client.seal(len(content))
    given = [bytes(client.sealed() or b"") for client, _ in pairs]
    assert [len(data) for data in given] == [limits.SEALED] * 2
    for (client, server), data, content in zip(pairs, given, contents, strict=True):
        server.feed(memoryview(data + b"".join(sealed(client))))
        assert server.opened(1000).content + server.opened(1000).content == content


@pytest.mark.case("F110")
def test_damage() -> None:
    """What came before it is delivered, and OpenSSL's reason is told."""
    client, server = joined()
    client.write(b"whole")
    data = everything(client)
    client.write(b"broken")
    broken = bytearray(everything(client))
    broken[-1] ^= 1
    server.feed(memoryview(data + broken))
    opened = server.opened(10)
    assert opened.content == b"whole"
    assert isinstance(opened.ended, SSL.Error)
    assert "bad record mac" in str(opened.ended)
    server.write(b"late")
    with pytest.raises(SSL.Error):  # nothing is sealed after that
        server.seal()


def test_the_closing_alert() -> None:
    """Behind what was written before; and nothing is sealed behind it."""
    client, server = joined()
    client.write(b"last")
    data = everything(client)
    client.close()
    server.feed(memoryview(data + b"".join(sealed(client))))
    opened = server.opened(10)
    assert opened.content == b"last"
    assert isinstance(opened.ended, SSL.ZeroReturnError)
    client.write(b"late")
    with pytest.raises(SSL.Error, match="shutdown"):
        client.seal()
    assert client.sealed() is None


@pytest.mark.case("F100")
def test_an_end_without_it() -> None:
    """In the middle of a record, too."""
    client, server = joined()
    client.write(b"whole")
    data = everything(client)
    client.write(b"half")
    server.feed(memoryview(data + everything(client)[:-3]))
    server.feed(memoryview(b""))
    opened = server.opened(10)
    assert opened.content == b"whole"
    assert isinstance(opened.ended, SSL.Error)
    assert "unexpected eof" in str(opened.ended).lower()


class Sender:
    """A peer that seals its records itself (RFC 8446, sections 5.2 and 7), as no OpenSSL of ours changes its keys."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.number = 0

    def _expanded(self, label: bytes, size: int) -> bytes:
        text = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes([len(text)]) + text + b"\0\1"
        return hmac.digest(self.secret, info, hashlib.sha256)[:size]

    def record(self, content: bytes, kind: int) -> bytes:
        """The next record."""
        nonce = int.from_bytes(self._expanded(b"iv", 12), "big") ^ self.number
        self.number += 1
        head = b"\x17\x03\x03" + (len(content) + 17).to_bytes(2, "big")
        key = AESGCM(self._expanded(b"key", 16))
        return head + key.encrypt(nonce.to_bytes(12, "big"), content + bytes([kind]), head)

    def update(self, *, answer: bool) -> bytes:
        """A KeyUpdate (section 4.6.3); what follows has the new key."""
        record = self.record(b"\x18\0\0\1" + bytes([answer]), 22)
        self.secret, self.number = self._expanded(b"traffic upd", 32), 0
        return record


@pytest.mark.parametrize("piece", [1, 1000])
@pytest.mark.parametrize("answer", [False, True])
def test_new_keys(piece: int, answer: bool) -> None:
    """A record that has no content is no end, and the answer to it goes out before the next content."""
    credentials = Credentials(Identity.generate())
    secrets: list[bytes] = []
    credentials._client.set_keylog_callback(lambda _, line: secrets.append(line))
    client, server = joined(credentials)
    (secret,) = (line.split()[2] for line in secrets if line.startswith(b"CLIENT_TRAFFIC_SECRET_0 "))
    peer = Sender(bytes.fromhex(secret.decode()))
    data = memoryview(
        peer.record(b"before", 23) + peer.update(answer=answer) + peer.record(b"after", 23) + peer.update(answer=answer)
    )
    found = b""
    for start in range(0, len(data), piece):
        server.feed(data[start : start + piece])
        opened = server.opened(10)
        assert (opened.ended, opened.more) == (None, False)
        found += opened.content
    assert found == b"beforeafter"
    server.write(CONTENT[:40_000])
    client.feed(memoryview(everything(server)))
    assert client.opened(10).content == CONTENT[:40_000]
