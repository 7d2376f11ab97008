"""Pairing: the exchange, everything a hostile end can send, and what it is bound to."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftx.core.pairing import CLIENT_TABLE, EXPORTER, SERVER_TABLE, Binding, PairingClient, PairingServer, PairingState
from ftx.errors import FtxError, ProtocolError
from ftx.wire.messages import PairConfirm, PairDone, PairReply, PairStart

CODE = "7-acorn-willow"
BINDING = Binding(b"C" * 32, b"S" * 32, b"X" * 32)
#: Encodings of points that no honest end sends: the neutral element, points of small order, none of the curve.
POINTS = {
    "identity": (1).to_bytes(32, "little"),
    "order 2": (2**255 - 20).to_bytes(32, "little"),
    "order 4": bytes(32),
    "order 8": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "off the curve": (2).to_bytes(32, "little"),
    "beyond the field": b"\xff" * 32,
}


def ends(code: str = CODE, other: str = CODE, **differ: Any) -> tuple[PairingClient, PairingServer]:
    """A client with one code and a server with another; `differ` changes what the server is bound to."""
    return PairingClient(code, BINDING), PairingServer(other, attrs.evolve(BINDING, **differ))


def exchange(client: PairingClient, server: PairingServer) -> None:
    """All four messages."""
    server.verify(client.confirm(server.reply(client.start()), 7389))
    client.finish(server.done())


def test_the_same_code_pairs() -> None:
    """Both ends are sure of each other at the end, and only then."""
    client, server = ends()
    reply = server.reply(client.start())
    confirm = client.confirm(reply, 7389)
    assert confirm.port == 7389
    server.verify(confirm)
    assert server.state is PairingState.PROVED
    done = server.done()
    assert done.proof != confirm.proof
    client.finish(done)
    assert client.state is server.state is PairingState.PAIRED


@pytest.mark.parametrize(
    ("other", "differ"),
    [
        ("7-acorn-wheat", {}),
        ("8-acorn-willow", {}),
        (CODE, {"client": b"D" * 32}),
        (CODE, {"server": b"T" * 32}),
        (CODE, {"exporter": b"Y" * 32}),
        (CODE, {"client": b"S" * 32, "server": b"C" * 32}),
    ],
)
def test_anything_else_does_not(other: str, differ: dict[str, bytes]) -> None:
    """Another code, identity on either side, or TLS session: the proof is wrong, and the server is silent."""
    client, server = ends(other=other, **differ)
    confirm = client.confirm(server.reply(client.start()))
    with pytest.raises(FtxError) as caught:
        server.verify(confirm)
    assert caught.value.name == "wrong-code"
    client, server = ends(other=other, **differ)
    client.confirm(server.reply(client.start()))
    with pytest.raises(FtxError) as caught:
        client.finish(PairDone(server._proof("server")))  # what a server that verified nothing would send
    assert caught.value.name == "wrong-code"


def test_the_proofs_are_those_of_the_specification() -> None:
    """Computed from the SPAKE2 key by hand: HKDF with SHA-256, then HMAC over exporter and elements."""
    client, server = ends()
    start = client.start()
    reply = server.reply(start)
    confirm = client.confirm(reply)
    server.verify(confirm)
    done = server.done()
    for role, proof in ((b"client", confirm.proof), (b"server", done.proof)):
        extracted = hmac.digest(bytes(32), client._key, hashlib.sha256)
        key = hmac.digest(extracted, b"ftx pairing v1 " + role + b"\x01", hashlib.sha256)
        assert proof == hmac.digest(key, BINDING.exporter + start.element + reply.element, hashlib.sha256)
    assert EXPORTER == (b"EXPORTER-ftx-pairing-v1", 32)


def test_the_clients_proof_is_no_proof_of_the_server() -> None:
    """Sent back, it is wrong: each role has a key of its own."""
    client, server = ends()
    confirm = client.confirm(server.reply(client.start()))
    with pytest.raises(FtxError, match="wrong"):
        client.finish(PairDone(confirm.proof))


@pytest.mark.parametrize("length", [0, 1, 32, 34, 10_000])
def test_elements_of_another_length(length: int) -> None:
    """Refused before anything is computed with them."""
    client, server = ends()
    with pytest.raises(ProtocolError):
        server.reply(PairStart((b"A" + bytes(10_000))[:length]))
    client.start()
    with pytest.raises(ProtocolError):
        client.confirm(PairReply((b"B" + bytes(10_000))[:length]))


@pytest.mark.parametrize("letter", [b"A", b"B", b"S", b"\0"])
@pytest.mark.parametrize("point", POINTS)
def test_elements_that_are_none(point: str, letter: bytes) -> None:
    """The neutral element, points of small order, points of no curve, under any side's letter."""
    client, server = ends()
    with pytest.raises(ProtocolError):
        server.reply(PairStart(letter + POINTS[point]))
    client.start()
    with pytest.raises(ProtocolError):
        client.confirm(PairReply(letter + POINTS[point]))


def test_reflected_elements() -> None:
    """Our own element, as it was or with the other side's letter, is no answer."""
    for letter in (b"A", b"B"):
        client, _ = ends()
        start = client.start()
        with pytest.raises(ProtocolError):
            client.confirm(PairReply(letter + start.element[1:]))
    client, server = ends()
    other = PairingServer(CODE, BINDING)
    with pytest.raises(ProtocolError):  # a server's element where a client's belongs
        server.reply(PairStart(other.reply(client.start()).element))


def outcome(element: bytes) -> set[str]:
    """The errors with which a server and a client answer an element, followed by a proof that is none."""
    client, server = ends()
    start = client.start()
    names = set()
    try:
        server.reply(PairStart(element))
        server.verify(PairConfirm(bytes(32), 0))
    except FtxError as error:
        names.add(error.name)
    try:
        client.confirm(PairReply(start.element if element == start.element else element))
        client.finish(PairDone(bytes(32)))
    except FtxError as error:
        names.add(error.name)
    return names


@settings(max_examples=30)
@given(st.binary(min_size=32, max_size=32), st.sampled_from([b"A", b"B"]))
def test_any_32_bytes(point: bytes, letter: bytes) -> None:
    """Refused, or an element with which no proof is right; nothing else ever comes out."""
    assert outcome(letter + point) in ({"bad-message"}, {"bad-message", "wrong-code"})


def test_each_step_once_and_in_its_order() -> None:
    """Every pair of state and step that is not in the table is a violation, at both ends."""
    steps: dict[type, Callable[[Any], Any]] = {
        PairStart: lambda end: end.start() if isinstance(end, PairingClient) else end.reply(PairStart(bytes(33))),
        PairReply: lambda end: end.confirm(PairReply(bytes(33))),
        PairConfirm: lambda end: end.verify(PairConfirm(bytes(32), 0)),
        PairDone: lambda end: end.finish(PairDone(bytes(32))) if isinstance(end, PairingClient) else end.done(),
    }
    can = {PairingClient: (PairStart, PairReply, PairDone), PairingServer: (PairStart, PairConfirm, PairDone)}
    for kind, table in ((PairingClient, CLIENT_TABLE), (PairingServer, SERVER_TABLE)):
        for state in PairingState:
            for event in can[kind]:
                end = kind(CODE, BINDING)
                end.state = state
                if event not in table.get(state, {}):
                    with pytest.raises(ProtocolError) as caught:
                        steps[event](end)
                    assert caught.value.name == "wrong-state"
                    assert end.state is state


def test_secrets_are_not_shown() -> None:
    """Neither the code nor what follows from it is in a representation, which may reach a log."""
    client, server = ends()
    exchange(client, server)
    for end in (client, server):
        text = repr(end)
        assert CODE not in text
        assert repr(end._key) not in text
        assert repr(BINDING.exporter) not in text
