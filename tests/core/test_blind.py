"""The blinded form of discovery: recognised by who is meant, random bytes to everybody else."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ftx import limits
from ftx.core.blind import Asking, Circle, pair_key
from ftx.core.identity import SIGN_DISCOVERY
from ftx.disk.keys import Identity
from ftx.wire.announce import (
    TAGS_BYTES,
    BlindQuery,
    BlindReply,
    ReplyBody,
    Way,
    decode,
    encode_reply,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "discovery"
DAEMON = Identity.of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
ASKER, STRANGER = bytes(32), b"\x55" * 32
NONCE = bytes(range(0xA0, 0xB0))
SALT = bytes(range(0x40, 0x50))


def plain(name: str = "Küche") -> bytes:
    """What the daemon says within."""
    body = ReplyBody(Way.MULTICAST6, NONCE, DAEMON.public_raw, bytes.fromhex("0123456789abcdef"), 7389, 1, 2, name)
    unsigned = encode_reply(body)
    return unsigned + DAEMON.sign(SIGN_DISCOVERY, unsigned)


def asked(asking: Asking, fill: bytes = b"\xff") -> BlindQuery:
    """The first query of a search."""
    query = decode(asking.queries(Way.MULTICAST6, fill * asking.fill)[0])
    assert isinstance(query, BlindQuery)
    return query


def circle(*known: bytes) -> Circle:
    """The daemon's."""
    made = Circle(DAEMON.id)
    made.follow(known)
    return made


def answer(made: Circle, query: BlindQuery, salt: bytes = SALT, name: str = "Küche") -> bytes:
    """The daemon's answer to whoever it knows."""
    pair = made.asker(query)
    assert pair is not None
    return made.seal(pair, query, plain(name), salt)


def opened(asking: Asking, datagram: bytes) -> tuple[bytes, bytes] | None:
    """What somebody makes of an answer."""
    reply = decode(datagram)
    assert isinstance(reply, BlindReply)
    return asking.open(reply)


def vector(name: str) -> bytes:
    """The datagram in a vector file."""
    lines = (VECTORS / name).read_text("ascii").splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


def test_who_is_meant_recognises_and_is_recognised() -> None:
    asking = Asking(ASKER, [STRANGER, DAEMON.id], NONCE)
    assert opened(asking, answer(circle(ASKER), asked(asking))) == (DAEMON.id, plain())


def test_vectors_byte_by_byte() -> None:
    asking = Asking(ASKER, [DAEMON.id], NONCE)
    (query,) = asking.queries(Way.MULTICAST6, b"\xff" * asking.fill)
    assert query == vector("blind-query.hex")
    assert answer(circle(ASKER), asked(asking)) == vector("blind-reply.hex")


def test_the_specification_leads_to_the_vectors() -> None:
    """Computed as the page says, without this program's functions."""
    pair = hashlib.sha256(b"ftx 1 blinded discovery\0" + ASKER + DAEMON.id).digest()

    def mac(text: bytes) -> bytes:
        return hmac.new(pair, text, "sha256").digest()

    query, reply = vector("blind-query.hex"), vector("blind-reply.hex")
    assert query[:32] == bytes.fromhex("e674784401050300") + NONCE + mac(b"query\0" + NONCE)[:8]
    assert reply[:48] == bytes.fromhex("e674784401060300") + NONCE + SALT + mac(b"reply\0" + NONCE + SALT)[:8]
    inside = ChaCha20Poly1305(mac(b"seal\0" + NONCE + SALT)).decrypt(bytes(12), reply[48:], None)
    assert inside == plain().ljust(388, b"\0")
    assert (len(query), len(reply)) == (512, 452)


@pytest.mark.parametrize("known", [(), (STRANGER,)])
def test_strangers_are_not_recognised(known: tuple[bytes, ...]) -> None:
    assert circle(*known).asker(asked(Asking(ASKER, [DAEMON.id], NONCE))) is None


def test_a_query_for_others_is_not_for_us() -> None:
    assert circle(ASKER).asker(asked(Asking(ASKER, [STRANGER], NONCE))) is None


def test_the_own_key_is_recognised_without_being_paired() -> None:
    asking = Asking(DAEMON.id, [DAEMON.id], NONCE)
    assert opened(asking, answer(circle(), asked(asking))) == (DAEMON.id, plain())


def test_who_does_not_know_the_asker_opens_nothing() -> None:
    """Not even somebody who knows whom was asked, and listens."""
    query = asked(Asking(ASKER, [DAEMON.id], NONCE))
    listening = Asking(STRANGER, [DAEMON.id, ASKER], NONCE)
    assert opened(listening, answer(circle(ASKER), query)) is None


def test_I144_nothing_of_a_blinded_answer_repeats() -> None:
    """Asked twice with one nonce, which a stranger may choose: no bytes in common beyond header and nonce."""
    query = asked(Asking(ASKER, [DAEMON.id], NONCE))
    one = answer(circle(ASKER), query)
    two = answer(circle(ASKER), query, salt=bytes(range(0x50, 0x60)))
    assert one[:24] == two[:24]
    starts = range(24, len(one) - 4)
    assert not {one[at : at + 4] for at in starts} & {two[at : at + 4] for at in starts}
    assert DAEMON.public_raw not in one


def test_I144_the_length_says_nothing_of_the_name() -> None:
    query = asked(Asking(ASKER, [DAEMON.id], NONCE))
    lengths = {len(answer(circle(ASKER), query, name=name)) for name in ("x", "\U0001f600" * 63)}
    assert lengths == {452}
    assert max(lengths) <= limits.DISCOVERY_QUERY


def test_a_query_does_not_say_how_many_are_looked_for() -> None:
    for count in (1, 2, limits.BLIND_TAGS):
        asking = Asking(ASKER, [bytes([number]) * 32 for number in range(count)], NONCE)
        assert [len(one) for one in asking.queries(Way.UNICAST, bytes(asking.fill))] == [limits.DISCOVERY_QUERY]


def test_more_peers_than_one_query_holds() -> None:
    """They go into further queries, up to a bound; the first ones are asked for."""
    many = [number.to_bytes(32, "big") for number in range(1, 400)]
    asking = Asking(ASKER, many, NONCE)
    queries = asking.queries(Way.UNICAST, b"")
    assert (len(queries), asking.fill) == (limits.BLIND_QUERIES, 0)
    most = limits.BLIND_QUERIES * limits.BLIND_TAGS

    def found(who: bytes) -> bool:
        made = Circle(who)
        made.follow([ASKER])
        return any(made.asker(decode(one)) is not None for one in queries)  # type: ignore[arg-type]

    assert found(many[0])
    assert found(many[most - 1])
    assert not found(many[most])


def test_wrong_fill_is_our_mistake() -> None:
    asking = Asking(ASKER, [DAEMON.id], NONCE)
    with pytest.raises(ValueError, match="tags"):
        asking.queries(Way.UNICAST, bytes(TAGS_BYTES))


@pytest.mark.parametrize("at", [24, 40, 48, 100, 451])
def test_a_changed_answer_is_dropped(at: int) -> None:
    asking = Asking(ASKER, [DAEMON.id], NONCE)
    data = bytearray(answer(circle(ASKER), asked(asking)))
    data[at] ^= 1
    assert opened(asking, bytes(data)) is None


def test_work_for_strangers_is_bounded() -> None:
    """However many ask and however many are known: so many tags a second, and at least one query."""
    made = circle(*(number.to_bytes(32, "big") for number in range(999)))
    allowed = sum(made.allowed(number / 10_000) for number in range(9_999))
    assert allowed == limits.BLIND_WORK // (1000 + limits.BLIND_TAGS)
    assert made.allowed(1.0)
    crowd = circle(*(number.to_bytes(32, "big") for number in range(limits.BLIND_WORK + 1)))
    assert [crowd.allowed(0.0), crowd.allowed(0.5), crowd.allowed(1.0)] == [True, False, True]


def test_who_is_unpaired_is_recognised_no_more() -> None:
    made = circle(ASKER)
    query = asked(Asking(ASKER, [DAEMON.id], NONCE))
    made.follow([STRANGER])
    assert made.asker(query) is None
    made.follow([STRANGER, ASKER])
    assert made.asker(query) == pair_key(ASKER, DAEMON.id)
