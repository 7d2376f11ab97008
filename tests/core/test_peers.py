"""The trust store as a value."""

import attrs
import pytest

from ftx import limits
from ftx.core.identity import format_id
from ftx.core.peers import Peer, TrustStore, peer_address, peer_name
from ftx.errors import FtxError

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))
DAY = "2026-11-22T09:30:00Z"
LATER = "2026-11-23T09:30:00Z"


def store() -> TrustStore:
    return TrustStore((Peer("pi", A, ("192.0.2.1",), DAY), Peer("nas", B, (), DAY)))


def test_peers_are_found_by_name_and_identity() -> None:
    peers = store()
    found = peers.by_name("pi")
    assert found is not None
    assert found.id == A
    assert peers.by_name(" PI ") == found
    assert peers.by_id(A) == found
    assert peers.by_name("pie") is None
    assert peers.by_id(C) is None


@pytest.mark.parametrize(
    "name",
    [
        *["", "  ", "x" * 65, "a:b", "a/b", "a@b", "a[b", "a]b", "-v"],
        *["a\nb", "a\x1b[31m", "a\u202eb", "a\u200bb", "\udc80"],
    ],
)
def test_names_that_would_mislead_are_refused(name: str) -> None:
    with pytest.raises(FtxError) as caught:
        Peer(name, A)
    assert caught.value.name == "usage"
    assert caught.value.message.isprintable()


def test_an_identity_is_no_name() -> None:
    with pytest.raises(FtxError, match="cannot be an identity"):
        peer_name(format_id(A))


def test_names_are_cleaned() -> None:
    assert peer_name("  Anna's Pi \n") == "Anna's Pi"
    assert peer_name("cafe\u0301") == "caf\u00e9"
    assert peer_name("x" * 64) == "x" * 64


def test_addresses_are_checked_deduplicated_and_bounded() -> None:
    for wrong in ("", " ", "a b", "a\x1b", "x" * 256):
        with pytest.raises(FtxError, match="address"):
            peer_address(wrong)
    many = tuple(f"192.0.2.{number}" for number in range(20))
    assert Peer("pi", A, (*many, *many)).addresses == many[: limits.PEER_ADDRESSES]


def test_adding_keeps_order_and_refuses_a_taken_name() -> None:
    peers = store().add(Peer("laptop", C))
    assert [peer.name for peer in peers.peers] == ["pi", "nas", "laptop"]
    for name in ("pi", "Pi"):
        with pytest.raises(FtxError) as caught:
            store().add(Peer(name, C))
        assert caught.value.name == "name-taken"


def test_adding_a_known_identity_updates_it() -> None:
    peers = store().add(Peer("berry", A, ("192.0.2.9",), LATER, LATER))
    assert peers.peers[0] == Peer("berry", A, ("192.0.2.9", "192.0.2.1"), DAY, LATER)
    assert len(peers.peers) == 2
    assert peers.by_name("pi") is None
    with pytest.raises(FtxError, match="another peer is called nas"):
        store().add(Peer("nas", A))


def test_removing_and_renaming() -> None:
    assert store().remove("PI").peers == (Peer("nas", B, (), DAY),)
    renamed = store().rename("nas", "NAS")
    assert [peer.name for peer in renamed.peers] == ["pi", "NAS"]
    for wrong in (lambda: store().remove("x"), lambda: store().rename("x", "y")):
        with pytest.raises(FtxError) as caught:
            wrong()
        assert caught.value.name == "no-such-peer"
    with pytest.raises(FtxError, match="another peer is called pi"):
        store().rename("nas", "pi")
    with pytest.raises(FtxError, match="cannot contain"):
        store().rename("nas", "a:b")


def test_being_seen_moves_the_address_to_the_front() -> None:
    peers = store().touch(A, "192.0.2.2", LATER).touch(A, "192.0.2.1", LATER).touch(A, None, LATER)
    assert peers.peers[0].addresses == ("192.0.2.1", "192.0.2.2")
    assert peers.peers[0].seen == LATER
    assert peers.peers[0].added == DAY


def test_being_seen_pairs_nobody() -> None:
    assert store().touch(C, "192.0.2.2", LATER) == store()


def test_a_store_with_doubles_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="same name"):
        TrustStore((Peer("pi", A), Peer("PI", B)))
    with pytest.raises(ValueError, match="same identity"):
        TrustStore((Peer("pi", A), Peer("nas", A)))
    with pytest.raises(ValueError, match="32 bytes"):
        Peer("pi", b"short")


def test_the_number_of_peers_is_bounded() -> None:
    full = TrustStore(tuple(Peer(f"p{n}", n.to_bytes(32, "big")) for n in range(limits.PEERS)))
    with pytest.raises(FtxError, match="already"):
        full.add(Peer("one more", bytes([255]) * 32))
    assert len(full.add(Peer("renamed", bytes(32))).peers) == limits.PEERS


def test_a_store_is_a_value() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        store().peers = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("suggested", "name"),
    [
        ("desk", "desk"),
        ("attic", "attic-2"),
        ("ATTIC", "ATTIC-2"),
        ("pi", "pi-3"),
        ("", "peer"),
        ("---", "peer"),
        ("a/b:c@[d]", "a-b-c--d"),
        ("x" * 200, None),
        ("192.0.2.1", "peer-192.0.2.1"),
        ("\x1b[31mred", None),
        (format_id(bytes(32)), "peer"),
    ],
)
def test_a_free_name(suggested: str, name: str | None) -> None:
    """As like the suggestion as can be, always a name, never one that somebody has."""
    store = TrustStore((Peer("attic", b"1" * 32), Peer("Pi", b"2" * 32), Peer("pi-2", b"3" * 32)))
    free = store.free_name(suggested)
    assert store.by_name(free) is None
    assert Peer(free, b"4" * 32).name == free
    assert name is None or free == name
