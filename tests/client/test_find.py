"""Where a target is looked for, and who may answer there: what is written explicitly is taken exactly."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.bounded import Patient, bounded
from support.ports import free_port

from ftx.client.alike import alike
from ftx.client.api import Settings, discover
from ftx.client.find import Found, locate
from ftx.client.pairing import pair
from ftx.client.target import parse_target
from ftx.core.identity import format_id, words
from ftx.core.peers import Peer, TrustStore
from ftx.disk.keys import Identity
from ftx.disk.peers import update
from ftx.disk.places import places, prepare_home
from ftx.errors import FtxError
from ftx.net.dial import Place
from ftx.net.discovery import Responder

ATTIC, CELLAR, OWN = bytes(32), bytes([1]) * 32, bytes([2]) * 32
REMEMBERED = ("10.0.0.7:38911", "[fe80::1%lo]:38911", "attic.lan")
PEERS = TrustStore((Peer("attic", ATTIC, REMEMBERED), Peer("cellar", CELLAR)))


async def search(reactor: Any, text: str, peers: TrustStore = PEERS, port: int = 1, **more: Any) -> Found:
    """Look for `text`; on `port` nobody answers."""
    target = parse_target(text).with_port(more.get("dial"))
    warn = more.get("warn", lambda _: None)
    return await locate(Patient(reactor), target, peers, own_id=OWN, port=port, interfaces=("lo",), warn=warn)


@pytest.mark.parametrize(
    ("text", "dial", "place", "key"),
    [
        ("attic@10.0.0.9:", None, Place("10.0.0.9", 7389), ATTIC),
        ("attic@10.0.0.9:", 38917, Place("10.0.0.9", 38917), ATTIC),
        ("ftx://attic@10.0.0.9:38917/", None, Place("10.0.0.9", 38917), ATTIC),
        ("cellar@[::1]:", 38917, Place("::1", 38917), CELLAR),
        ("cellar@localhost:", None, Place("localhost", 7389), CELLAR),
        ("cellar@gate.lan:", 38917, Place("gate.lan", 38917), CELLAR),
        ("attic@attic:", None, Place("attic", 7389), ATTIC),
        ("ftx://ATTIC@attic:38917", None, Place("attic", 38917), ATTIC),
        ("10.0.0.9:", 38917, Place("10.0.0.9", 38917), None),
        ("ftx://[::1]:38917", None, Place("::1", 38917), None),
    ],
)
@bounded(5)
async def test_what_is_written_is_dialled_and_nothing_else(reactor, text, dial, place, key):
    found = await search(reactor, text, dial=dial)
    assert (found.places, found.expected) == ((place,), key)


@pytest.mark.parametrize(("text", "dial"), [("attic:", 38917), ("ftx://attic:38917/in", None)])
@bounded(5)
async def test_a_port_replaces_those_that_are_remembered(reactor, text, dial):
    found = await search(reactor, text, dial=dial)
    assert found.places == tuple(Place(host, 38917) for host in ("10.0.0.7", "fe80::1%lo", "attic.lan"))
    assert found.expected == ATTIC


@bounded(5)
async def test_without_a_port_the_remembered_ones_count(reactor):
    found = await search(reactor, "attic:")
    assert found.places == (Place("10.0.0.7", 38911), Place("fe80::1%lo", 38911), Place("attic.lan", 7389))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("user@attic:", "ftx has no accounts: write attic:"),
        ("user@[::1]:", "write [::1]:"),
        ("atic@10.0.0.7:", "did you mean attic?"),
    ],
)
@bounded(5)
async def test_an_account_is_no_peer(reactor, text, hint):
    with pytest.raises(FtxError, match="no peer is called") as caught:
        await search(reactor, text)
    assert caught.value.name == "no-such-peer"
    assert hint in caught.value.hint


@bounded(5)
async def test_a_mistyped_name_goes_to_the_resolver_with_a_guess_at_hand(reactor):
    found = await search(reactor, "atic:")
    assert found.places == (Place("atic", 7389),)
    assert found.hint == "did you mean attic?"


def test_the_guess_does_not_mind_case_and_is_clean():
    assert alike("ATTIC", ["attic"]) == "did you mean attic?"
    assert alike("attic", ["atti\x1b[2J"]) == "did you mean atti\\x1b[2J?"
    assert alike("attic", ["cellar"]) == ""


Announce = Callable[..., int]


@pytest.fixture
def announce(reactor: Any) -> Iterator[Announce]:
    """Starts responders on one UDP port of `lo`; returns the port."""
    running: list[Responder] = []
    port = free_port(socket.SOCK_DGRAM)

    def start(identity: Identity, name: str, tcp_port: int = 38911) -> int:
        one = Responder(reactor, identity, name=name, tcp_port=tcp_port, port=port, include=("lo",))
        one.start()
        running.append(one)
        return port

    yield start
    for one in running:
        one.stop()


@bounded(10)
async def test_every_address_of_a_reply_is_dialled_on_the_port_that_was_named(reactor, announce):
    me = Identity.generate()
    port = announce(me, "attic")
    peers = TrustStore((Peer("loft", me.id),))
    found = await search(reactor, "loft:", peers, port)
    hosts = {"127.0.0.1", "::1"} if socket.has_ipv6 else {"127.0.0.1"}
    assert set(found.places) == {Place(host, 38911) for host in hosts}
    named = await search(reactor, "loft:", peers, port, dial=38917)
    assert set(named.places) == {Place(host, 38917) for host in hosts}
    unpaired = await search(reactor, "attic:", TrustStore(), port)
    assert set(unpaired.places) == set(found.places)
    assert unpaired.expected == me.id


@bounded(10)
async def test_another_machine_of_that_name_is_said_with_the_way_out(reactor, announce):
    port = announce(Identity.generate(), "cellar")
    warnings: list[str] = []
    with pytest.raises(FtxError, match="was not found") as caught:
        await search(reactor, "cellar:", PEERS, port, warn=warnings.append)
    assert "another machine calls itself cellar" in warnings[0]
    assert "peers remove cellar" in caught.value.hint
    assert "ftx-client pair cellar" in caught.value.hint


@bounded(10)
async def test_a_stranger_with_a_paired_name_only_causes_a_warning(reactor, announce):
    """The paired key is dialled where it was last, and where it answers; the namesake nowhere."""
    paired, stranger = Identity.generate(), Identity.generate()
    port = announce(stranger, "attic", 38999)
    warnings: list[str] = []
    remembered = TrustStore((Peer("attic", paired.id, ("10.0.0.7:38911",)),))
    found = await search(reactor, "attic:", remembered, port, warn=warnings.append)
    assert (found.places, found.expected) == ((Place("10.0.0.7", 38911),), paired.id)
    assert len(warnings) == 1
    assert warnings[0].startswith("another machine calls itself attic; it is not the one that is paired")
    announce(paired, "attic", 38911)
    unremembered = TrustStore((Peer("attic", paired.id),))
    found = await search(reactor, "attic:", unremembered, port, warn=warnings.append)
    assert {place.port for place in found.places} == {38911}
    assert found.expected == paired.id


@bounded(10)
async def test_two_unpaired_machines_of_one_name_are_an_error(reactor, announce, tmp_path):
    """For whoever sends and for whoever pairs: nobody is dialled, no code is asked for, both identities are shown."""
    one, other = Identity.generate(), Identity.generate()
    port = announce(one, "attic")
    announce(other, "attic", 38912)

    async def typed(_):
        raise AssertionError("a code was asked for")

    where = places(str(tmp_path / "home"), {}, 0, "/")
    settings = Settings(where, discovery_port=port, discovery_interfaces=("lo",))
    for attempt in (
        search(reactor, "attic:", TrustStore(), port),
        pair(Patient(reactor), settings, parse_target("attic:"), typed),
    ):
        with pytest.raises(FtxError, match="2 machines call themselves attic") as caught:
            await attempt
        assert caught.value.name == "ambiguous-name"
        assert format_id(one.id) in caught.value.message
        assert format_id(other.id) in caught.value.message


@bounded(5)
async def test_a_short_form_of_an_identity_is_a_name_like_any_other(reactor):
    """What `discover` shows of an identity finds nobody by that identity, nor do its words."""
    written = format_id(ATTIC)
    for short in (written[:15], written[:31], written[:-1], words(ATTIC).replace(" ", "-")):
        found = await search(reactor, f"{short}:")
        assert found.expected is None
        assert not any(place.host in ("10.0.0.7", "attic.lan") for place in found.places)


@bounded(10)
async def test_discover_calls_a_paired_peer_by_the_name_that_reaches_it(reactor, announce, tmp_path):
    me = Identity.generate()
    port = announce(me, "attic")
    settings = Settings(places(str(tmp_path), {}, 0, "/"), port, ("lo",))
    prepare_home(settings.places)
    update(settings.places.peers, lambda store: store.add(Peer("loft", me.id, ("127.0.0.1:38911",))))
    heard: list[Any] = []
    found = await discover(Patient(reactor), settings, 0.5, on_event=heard.append)
    assert {(one.name, one.announced, one.paired) for one in [*found, *heard]} == {("loft", "attic", True)}
    assert {one.address for one in found} == {one.address for one in heard} >= {"127.0.0.1"}


@bounded(5)
async def test_discover_names_an_interface_that_does_not_exist(reactor, tmp_path):
    settings = Settings(places(str(tmp_path), {}, 0, "/"), 1, ("nope",))
    with pytest.raises(FtxError, match="no network interface nope"):
        await discover(reactor, settings, 0.1, on_event=print)


@bounded(10)
async def test_discover_asks_at_the_hosts_that_are_named(reactor, announce, tmp_path):
    """Also where no interface is used: what a person names is asked wherever it is; what is no host finds nobody."""
    port = announce(Identity.generate(), "attic")
    settings = Settings(places(str(tmp_path), {}, 0, "/"), port, ("lo",), discovery_exclude=("lo",))
    assert await discover(reactor, settings, 0.2) == []
    found = await discover(Patient(reactor), settings, 0.5, hosts=["a..b", "127.0.0.1"])
    assert {(one.address, one.via) for one in found} == {("127.0.0.1", "unicast")}
