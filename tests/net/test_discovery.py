"""Discovery over real sockets on loopback: responder and finder in one process, every test on a port of its own."""

from __future__ import annotations

import errno
import itertools
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.bounded import Patient, bounded, until
from support.other_user import as_nobody
from support.ports import free_port
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogEvent, globalLogPublisher

from ftx import limits
from ftx.core.blind import Asking
from ftx.core.discovery import GROUP4, Reply
from ftx.core.identity import SIGN_DISCOVERY
from ftx.disk.keys import Identity
from ftx.net.datagrams import shared_sockets
from ftx.net.discovery import Finder, Responder, find
from ftx.net.interfaces import interfaces, own_addresses
from ftx.wire.announce import (
    Announcement,
    Kind,
    Query,
    ReplyBody,
    SignedReply,
    Way,
    decode,
    encode_query,
    encode_reply,
)

NONCE = bytes(range(16))
ON_LO = ("lo",)


@pytest.fixture
def port() -> int:
    """A free UDP port."""
    return free_port(socket.SOCK_DGRAM)


@pytest.fixture
def respond(reactor: Any) -> Iterator[Callable[..., Responder]]:
    """Make and start responders on lo; they are stopped behind the test."""
    made: list[Responder] = []

    def start(port: int, **more: Any) -> Responder:
        arguments: dict[str, Any] = {"name": "peer", "tcp_port": 7389, "include": ON_LO, **more}
        identity = arguments.pop("identity", None) or Identity.generate()
        responder = Responder(reactor, identity, port=port, **arguments)
        made.append(responder)
        responder.start()
        return responder

    yield start
    for responder in made:
        responder.stop()


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What is logged by the namespaces of discovery, as text."""
    texts: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_namespace"].startswith("ftx.net.discovery"):
            texts.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield texts
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def client() -> Iterator[socket.socket]:
    """A plain UDP socket on 127.0.0.1, which may broadcast."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        made.bind(("127.0.0.1", 0))
        made.setblocking(False)
        yield made


async def turns(reactor: Any, count: int = 20) -> None:
    """Let the reactor turn: what was sent over loopback before has arrived by then."""
    for _ in range(count):
        await deferLater(reactor, 0)


def readable(sock: socket.socket) -> bool:
    """Whether a datagram has arrived at `sock`."""
    return bool(select.select([sock], [], [], 0)[0])


def waiting(sock: socket.socket) -> list[bytes]:
    """The datagrams that have arrived at `sock`."""
    found = []
    while readable(sock):
        found.append(sock.recv(2048))
    return found


async def first(reactor: Any, port: int, **more: Any) -> Reply:
    """The first peer that answers."""
    answer: Deferred[Reply] = Deferred()

    def take(reply: Reply) -> None:
        if not answer.called:
            answer.callback(reply)

    finder = Finder(reactor, port=port, **{"include": ON_LO, **more}, on_reply=take)
    finder.start()
    try:
        return await answer
    finally:
        finder.stop()


# -- found -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [Way.BROADCAST, Way.MULTICAST4, Way.UNICAST])
@bounded(10)
async def test_found_by_every_way(reactor: Any, respond: Any, port: int, way: Way) -> None:
    """Each way that loopback has reaches a daemon on it, and the reply says which it was."""
    identity = Identity.generate()
    responder = respond(port, identity=identity, name="Küche", tcp_port=4711, versions=(1, 3))
    hosts = ("127.0.0.1",) if way == Way.UNICAST else ()
    reply = await first(reactor, port, ways={way}, hosts=hosts)
    assert reply.via == way.label
    assert reply.name == "Küche"
    assert reply.id == identity.id
    assert reply.public_raw == identity.public_raw
    assert (reply.port, reply.versions) == (4711, (1, 2, 3))
    assert (reply.address, reply.interface) in {("127.0.0.1", "lo"), ("::1", "lo")}
    assert reply.instance == responder.instance


@bounded(10)
async def test_found_by_ipv6(reactor: Any, respond: Any, port: int) -> None:
    """A daemon that listens on ::1 alone is found, though Linux has no IPv6 multicast on loopback."""
    if not any(str(ip) == "::1" for ip in own_addresses(interfaces())):
        pytest.skip("no ::1 on this host")
    respond(port, listen_addresses=("::1",))
    reply = await first(reactor, port)
    assert (reply.address, reply.via) == ("::1", "unicast")


@bounded(10)
async def test_merged_by_key(reactor: Any, respond: Any, port: int) -> None:
    """A daemon that answers over IPv4 and IPv6 is reported once, with both addresses."""
    respond(port)
    reported: list[Reply] = []
    hosts = ("127.0.0.1", "[::1]")
    replies = await find(
        Patient(reactor), port=port, interfaces=ON_LO, extra_hosts=hosts, wait=0.6, on_reply=reported.append
    )
    assert len(replies) == len(reported) == 1
    assert "127.0.0.1" in replies[0].addresses
    assert set(replies[0].addresses) <= {"127.0.0.1", "::1"}


@bounded(10)
async def test_known_peers_come_first(reactor: Any, respond: Any, port: int) -> None:
    """Two daemons of one user share the port, a broadcast reaches both, and the known one is listed first."""
    one, two = Identity.generate(), Identity.generate()
    respond(port, identity=one, name="same name")
    respond(port, identity=two, name="same name")
    for known in (one, two):
        replies = await find(Patient(reactor), port=port, interfaces=ON_LO, wait=0.3, known={known.id})
        assert {reply.id for reply in replies} == {one.id, two.id}
        assert replies[0].id == known.id


@bounded(10)
async def test_found_by_host_name(reactor: Any, respond: Any, port: int) -> None:
    """Names are resolved beside the reactor; what cannot be a name is passed over."""
    respond(port)
    reply = await first(reactor, port, include=("none",), hosts=("a..b", "x" * 300, "fe80::1%none", "localhost"))
    assert reply.via == "unicast"


@bounded(10)
async def test_a_restart_shows(reactor: Any, respond: Any, port: int) -> None:
    """The instance differs from run to run, the key does not."""
    identity = Identity.generate()
    before = respond(port, identity=identity)
    one = await first(reactor, port)
    before.stop()
    respond(port, identity=identity)
    two = await first(reactor, port)
    assert one.id == two.id
    assert one.instance != two.instance


@bounded(10)
async def test_second_client_in_the_same_second(reactor: Any, respond: Any, port: int) -> None:
    """Programs of one host share the loopback address; each is answered all the same."""
    respond(port)
    for _ in range(3):
        await first(reactor, port)


# -- not answered ------------------------------------------------------------------------------------------


@bounded(10)
async def test_I137_I138_malformed_datagrams(
    reactor: Any, respond: Any, port: int, client: socket.socket, warnings: list[str]
) -> None:
    """Datagrams of every wrong size and content are dropped and counted, and nothing is logged."""
    responder = respond(port)
    await turns(reactor)
    before = responder.counters.received
    query = encode_query(Query(Way.UNICAST, NONCE))
    wrong = [b"", b"x", query[:7], query[:134], query[:511], query + b"\0", bytes(1471), b"\xff" * 65_507]
    for data in wrong:
        client.sendto(data, ("127.0.0.1", port))
    await until(lambda: responder.counters.malformed == len(wrong))
    assert responder.counters.received >= before + len(wrong)
    assert responder.counters.answered == 0
    assert waiting(client) == []
    assert warnings == []


@bounded(10)
async def test_reply_is_never_longer_than_the_query(
    reactor: Any, respond: Any, port: int, client: socket.socket
) -> None:
    """Not with the longest of names, either."""
    respond(port, name="\U0001f600" * 100)
    client.sendto(encode_query(Query(Way.UNICAST, NONCE)), ("127.0.0.1", port))
    await until(lambda: readable(client))
    (reply,) = waiting(client)
    assert len(reply) <= limits.DISCOVERY_QUERY
    message = decode(reply)
    assert isinstance(message, SignedReply)
    assert (message.body.nonce, message.body.way) == (NONCE, Way.UNICAST)


@bounded(10)
async def test_I139_replies_and_announcements_are_not_answered(
    reactor: Any, respond: Any, port: int, client: socket.socket
) -> None:
    """Only queries are: what a responder says starts nothing."""
    responder = respond(port)
    client.sendto(encode_query(Query(Way.UNICAST, NONCE)), ("127.0.0.1", port))
    await until(lambda: readable(client))
    (reply,) = waiting(client)
    others = responder.counters.other
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        for _ in range(10):
            stranger.sendto(reply, ("127.0.0.1", port))
        await until(lambda: responder.counters.other == others + 10)
        assert responder.counters.answered == 1
        assert waiting(stranger) == []


@bounded(10)
async def test_I142_two_responders_do_not_keep_each_other_busy(reactor: Any, respond: Any, port: int) -> None:
    """A query that seems to come from a responder is answered at most once by each, and then all is quiet."""
    both = [respond(port), respond(port)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forged:
        forged.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        forged.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        forged.bind(("0.0.0.0", port))
        forged.sendto(encode_query(Query(Way.BROADCAST, NONCE)), ("127.255.255.255", port))
    await until(lambda: all(one.counters.answered > 0 for one in both))
    await turns(reactor, 100)
    quiet = [one.counters.received for one in both]
    await deferLater(reactor, 0.2)
    assert [one.counters.received for one in both] == quiet
    assert [one.counters.answered for one in both] == [1, 1]


@bounded(10)
async def test_I141_flood_of_queries(reactor: Any, respond: Any, port: int, client: socket.socket) -> None:
    """A source that asks a hundred times is answered once."""
    clock = Clock()
    responder = respond(port, clock=clock)
    await turns(reactor)
    before = responder.counters.received
    query = encode_query(Query(Way.UNICAST, NONCE))
    for _ in range(100):
        client.sendto(query, ("127.0.0.1", port))
    await until(lambda: responder.counters.received >= before + 100)
    await until(lambda: (responder.counters.answered, responder.counters.limited) == (1, 99))
    clock.advance(1.0)
    client.sendto(query, ("127.0.0.1", port))
    await until(lambda: responder.counters.answered == 2)


@bounded(10)
async def test_I141_flood_from_many_sources(reactor: Any, respond: Any, port: int) -> None:
    """However many ask, fifty are answered in one second."""
    responder = respond(port, clock=Clock())
    query = encode_query(Query(Way.UNICAST, NONCE))
    for number in range(80):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.bind((f"127.0.1.{number + 1}", 0))
            one.sendto(query, ("127.0.0.1", port))
    await until(lambda: responder.counters.answered + responder.counters.limited >= 80)
    assert responder.counters.answered == limits.REPLIES_TOTAL


@bounded(20)
async def test_I136_datagrams_per_turn_are_bounded(
    reactor: Any, respond: Any, port: int, client: socket.socket
) -> None:
    """A flood of empty datagrams gets no more of one turn of the reactor than a flood of full ones."""
    for data in (b"", bytes(limits.DISCOVERY_QUERY)):
        responder = respond(free_port(socket.SOCK_DGRAM))
        await turns(reactor)
        counts = [responder.counters.received]
        for _ in range(100):  # what the socket's buffer holds
            client.sendto(data, ("127.0.0.1", responder.port))
        while counts[-1] < counts[0] + 100:
            await deferLater(reactor, 0)
            counts.append(responder.counters.received)
        steps = [after - before for before, after in itertools.pairwise(counts)]
        assert max(steps) == limits.DATAGRAMS_PER_TURN
        responder.stop()


@bounded(10)
async def test_no_answer_without_a_tcp_port(
    reactor: Any, respond: Any, port: int, client: socket.socket
) -> None:
    """A daemon that has no port yet has nothing to say; the port is asked for with every reply."""
    ports = [0]
    responder = respond(port, tcp_port=lambda: ports[0])
    client.sendto(encode_query(Query(Way.UNICAST, NONCE)), ("127.0.0.1", port))
    await until(lambda: responder.counters.elsewhere > 0)
    ports[0] = 5000
    assert (await first(reactor, port)).port == 5000


# -- paired only -------------------------------------------------------------------------------------------


@bounded(10)
async def test_paired_peers_find_who_answers_no_one_else(reactor: Any, respond: Any, port: int) -> None:
    """Whoever is paired, and the daemon's own key, finds it; who knows its identity but is not paired does not."""
    daemon, friend, stranger = Identity.generate(), Identity.generate(), Identity.generate()
    responder = respond(port, identity=daemon, name="attic", peers=lambda: {friend.id: "friend"})
    for asker in (friend, daemon):
        reply = await first(reactor, port, own=asker.id, known={daemon.id})
        assert (reply.id, reply.name, reply.port) == (daemon.id, "attic", 7389)
        assert (reply.address, reply.interface) in {("127.0.0.1", "lo"), ("::1", "lo")}
    answered = responder.counters.answered
    for own, known in ((stranger.id, {daemon.id}), (None, {daemon.id}), (friend.id, {stranger.id})):
        assert await find(reactor, port=port, interfaces=ON_LO, wait=0.2, own=own, known=known) == []
    assert responder.counters.answered == answered


@bounded(10)
async def test_paired_only_says_nothing_by_itself(reactor: Any, respond: Any, port: int) -> None:
    """Neither at the start nor at the end."""
    (listener, *rest) = shared_sockets(port)
    for made in rest:
        made.close()
    with listener:
        responder = respond(port, peers=tuple)
        assert responder.running
        responder.stop()
        assert waiting(listener) == []


@bounded(10)
async def test_I144_an_answer_has_a_key_a_name_a_port_and_versions(
    reactor: Any, respond: Any, port: int, client: socket.socket
) -> None:
    """Every byte of it is accounted for: nothing of the user, the host, the program's version, files or peers."""
    identity = Identity.generate()
    responder = respond(port, identity=identity, name="attic", tcp_port=4711)
    client.sendto(encode_query(Query(Way.UNICAST, NONCE)), ("127.0.0.1", port))
    await until(lambda: readable(client))
    (reply,) = waiting(client)
    header = bytes.fromhex("e674784401020400")
    fields = identity.public_raw + responder.instance + (4711).to_bytes(2, "big") + bytes([1, 1, 5]) + b"attic"
    signed, signature = reply[:-64], reply[-64:]
    assert signed == header + NONCE + fields
    assert identity.sign(SIGN_DISCOVERY, signed) == signature


@bounded(10)
async def test_I138_I141_more_goes_in_than_comes_out(
    reactor: Any, respond: Any, port: int, client: socket.socket
) -> None:
    """Of a hundred queries of each kind, some too short, the bytes answered are at most the bytes asked with."""
    clock, friend, daemon = Clock(), Identity.generate(), Identity.generate()
    more = {"clock": clock, "identity": daemon}
    ways = [respond(port, **more), respond(free_port(socket.SOCK_DGRAM), **more, peers=lambda: [friend.id])]
    sent = came = 0
    for responder in ways:
        asking = Asking(friend.id, [daemon.id], NONCE)
        both = [encode_query(Query(Way.UNICAST, NONCE)), *asking.queries(Way.UNICAST, bytes(asking.fill))]
        for number in range(100):
            data = both[number % 2][: 512 if number % 3 else 300]
            before = responder.counters.received
            client.sendto(data, ("127.0.0.1", responder.port))
            sent += len(data)
            await until(lambda responder=responder, before=before: responder.counters.received > before)
            clock.advance(1.0)
        came += sum(map(len, waiting(client)))
        assert responder.counters.answered > 30
    assert 0 < came <= sent


# -- where it is served ------------------------------------------------------------------------------------


def test_interfaces_of_this_host() -> None:
    """Loopback is there, with the broadcast address that works on it."""
    (lo,) = [interface for interface in interfaces() if interface.name == "lo"]
    assert lo.loopback
    assert lo.index == socket.if_nametoindex("lo")
    assert [str(broadcast) for _, broadcast in lo.broadcasts()] == ["127.255.255.255"]


@bounded(10)
async def test_listening_on_loopback_stays_on_lo(reactor: Any, respond: Any, port: int) -> None:
    """Discovery uses only interfaces on which a listener can be reached."""
    responder = respond(port, include=(), listen_addresses=("127.0.0.1",))
    assert responder.interfaces == ("lo",)
    assert responder.running
    assert responder.problem == ""


@bounded(10)
async def test_an_interface_that_is_left_out(reactor: Any, respond: Any, port: int) -> None:
    """Neither answered on nor asked on, whatever the list of those to use says."""
    responder = respond(port, exclude=ON_LO)
    assert responder.interfaces == ()
    finder = Finder(reactor, port=port, include=ON_LO, exclude=ON_LO)
    finder.start()
    assert finder.problem
    finder.stop()


@bounded(10)
async def test_nothing_to_serve(reactor: Any, respond: Any, port: int, warnings: list[str]) -> None:
    """No such interface, or no listener on it: it says so, once, and goes on looking."""
    responder = respond(port, include=("nosuch0",))
    assert responder.interfaces == ()
    assert "nosuch0" in responder.problem
    other = respond(port, listen_addresses=())
    assert "listens on no address" in other.problem
    assert len(warnings) == 2


def test_I149_port_taken_by_another_program(
    reactor: Any, respond: Any, port: int, warnings: list[str]
) -> None:
    """One clear warning, no responder, and the daemon goes on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", port))
        responder = respond(port)
        assert not responder.running
        assert responder.interfaces == ()
        assert str(port) in responder.problem
        assert len(warnings) == 1
        assert responder.problem in warnings[0]
    responder.start()
    assert responder.running
    assert responder.problem == ""


def bound_by_another(port: int) -> str:
    """Share the port as much as Linux lets anybody; `bound`, or the name of the error."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind(("0.0.0.0", port))
        except OSError as error:
            return errno.errorcode[error.errno or 0]
    return "bound"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_cannot_share_the_port(respond: Any, port: int) -> None:
    """Nobody else's socket can take our unicast queries, whatever options it sets."""
    responder = respond(port)
    assert as_nobody(lambda: bound_by_another(port)) == "EADDRINUSE"
    responder.stop()
    assert as_nobody(lambda: bound_by_another(port)) == "bound"


@pytest.mark.case("F109")
@bounded(10)
async def test_interfaces_are_looked_at_again(reactor: Any, respond: Any, port: int) -> None:
    """The responder looks again every ten seconds, keeps its groups, and announces itself only once."""
    clock = Clock()
    responder = respond(port, clock=clock)
    await turns(reactor)
    heard = responder.counters.received
    for _ in range(3):
        clock.advance(limits.INTERFACES_REFRESH)
    await turns(reactor)
    assert responder.counters.received == heard
    assert responder.interfaces == ON_LO
    assert (await first(reactor, port, ways={Way.MULTICAST4})).via == "multicast4"
    responder.stop()
    assert clock.getDelayedCalls() == []


@bounded(10)
async def test_announcements(reactor: Any, respond: Any, port: int) -> None:
    """Start and stop are announced by broadcast and to the group, with the daemon's key and instance."""
    identity = Identity.generate()
    (listener, *rest) = shared_sockets(port)
    for made in rest:
        made.close()
    index = socket.if_nametoindex("lo").to_bytes(4, sys.byteorder)
    listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, GROUP4.packed + bytes(4) + index)
    with listener:
        responder = respond(port, identity=identity)
        responder.stop()
        responder.stop()
        heard: list[bytes] = []

        def all_came() -> bool:  # the loopback is quick, and need not be done when the call that sends it is
            heard.extend(waiting(listener))
            return len(heard) >= 4

        await until(all_came)
        assert [decode(data) for data in heard] == [
            Announcement(kind, way, identity.public_raw, responder.instance)
            for kind in (Kind.STARTED, Kind.STOPPING)
            for way in (Way.BROADCAST, Way.MULTICAST4)
        ]


# -- what a client believes --------------------------------------------------------------------------------


class Impostor:
    """Answers the queries that come to a UDP port of 127.0.0.1 with whatever a function makes of them."""

    def __init__(self, port: int, answers: Callable[[Query], list[bytes]]) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        self.socket.setblocking(False)
        self._answers = answers

    def turn(self) -> None:
        """Answer what has come."""
        while readable(self.socket):
            data, asker = self.socket.recvfrom(2048)
            query = decode(data)
            if isinstance(query, Query):
                for answer in self._answers(query):
                    self.socket.sendto(answer, asker)


def made_up(query: Query, identity: Identity, **changes: Any) -> bytes:
    """A reply to `query`, signed, with some fields changed."""
    fields: dict[str, Any] = {
        "way": query.way,
        "nonce": query.nonce,
        "public_raw": identity.public_raw,
        "instance": b"instance",
        "port": 22,
        "lowest": 1,
        "highest": 1,
        "name": "me",
    }
    unsigned = encode_reply(ReplyBody(**{**fields, **changes}))
    return unsigned + identity.sign(SIGN_DISCOVERY, unsigned)


@bounded(20)
async def test_I145_I148_forged_replies_are_not_believed(reactor: Any, port: int) -> None:
    """Another's key, a wrong nonce, a way not used, a changed byte, another context: dropped and counted."""
    victim, forger = Identity.generate(), Identity.generate()

    def answers(query: Query) -> list[bytes]:
        honest = made_up(query, victim)
        other = encode_reply(decode(honest).body)  # type: ignore[union-attr]
        return [
            made_up(query, forger, public_raw=victim.public_raw),
            made_up(query, forger, nonce=bytes(16)),
            made_up(query, forger, way=Way.BROADCAST),
            honest[:64] + b"\x00\x17" + honest[66:],
            honest[:-1] + bytes([honest[-1] ^ 1]),
            other + victim.sign(b"ftx 1 receipt", other),
            b"nonsense",
            encode_query(query),
        ]

    impostor = Impostor(port, answers)
    finder = Finder(reactor, port=port, include=("none",), hosts=("127.0.0.1",), ways={Way.UNICAST})
    finder.start()
    try:
        while finder.counters.received < 16:
            impostor.turn()
            await deferLater(reactor, 0.01)
    finally:
        finder.stop()
        impostor.socket.close()
    counters = finder.counters
    assert finder.replies() == []
    assert counters.answered == 0
    assert counters.received == counters.malformed + counters.refused + counters.other
    assert counters.malformed >= counters.refused >= counters.other > 0


@bounded(20)
async def test_I148_repeated_replies_are_reported_once(reactor: Any, port: int) -> None:
    """The same reply a hundred times is one peer, its signature checked once."""
    identity = Identity.generate()
    impostor = Impostor(port, lambda query: [made_up(query, identity)] * 100)
    reported: list[Reply] = []
    finder = Finder(
        reactor,
        port=port,
        include=("none",),
        hosts=("127.0.0.1",),
        ways={Way.UNICAST},
        on_reply=reported.append,
        on_address=reported.append,
    )
    finder.start()
    try:
        while finder.counters.received < 100:
            impostor.turn()
            await deferLater(reactor, 0.01)
    finally:
        finder.stop()
        impostor.socket.close()
    assert [reply.id for reply in reported] == [identity.id]
    assert (finder.counters.answered, finder.counters.limited) == (1, 99)


@bounded(10)
async def test_the_search_can_be_ended_from_its_callback(reactor: Any, respond: Any, port: int) -> None:
    """A caller who has found what was sought stops at once."""
    respond(port)
    respond(port)
    seen: list[Reply] = []

    def enough(reply: Reply) -> None:
        seen.append(reply)
        finder.stop()

    finder = Finder(reactor, port=port, include=ON_LO, on_reply=enough)
    finder.start()
    await until(lambda: bool(seen))
    await turns(reactor)
    assert len(seen) == 1
    finder.stop()


@bounded(10)
async def test_cancelling_ends_the_search(reactor: Any, port: int) -> None:
    """Nothing is left behind, which the fixtures check."""
    searching = Deferred.fromCoroutine(find(reactor, port=port, interfaces=ON_LO, wait=60.0))
    searching.cancel()
    with pytest.raises(CancelledError):
        await searching


@bounded(10)
async def test_nobody_there(reactor: Any, port: int) -> None:
    """An empty list, without a problem: somebody could have answered."""
    assert await find(reactor, port=port, interfaces=ON_LO, wait=0.05) == []
    finder = Finder(reactor, port=port, include=ON_LO)
    finder.start()
    assert finder.problem == ""
    finder.stop()


@bounded(10)
async def test_I149_nobody_could_be_asked(reactor: Any, port: int) -> None:
    """A search that cannot ask says why."""
    finder = Finder(reactor, port=port, include=("nosuch0",))
    finder.start()
    assert "nosuch0" in finder.problem
    finder.stop()


@bounded(10)
async def test_a_long_search_asks_again(reactor: Any, port: int) -> None:
    """Three queries at first, and more for a client that waits: a daemon may start, or have been busy."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", port))
        finder = Finder(reactor, port=port, include=("none",), hosts=("127.0.0.1",), ways={Way.UNICAST})
        start = reactor.seconds()
        finder.start()
        times: list[float] = []
        queries: set[bytes] = set()
        while len(times) < 4:
            for data in waiting(daemon):
                times.append(reactor.seconds() - start)
                queries.add(data)
            await deferLater(reactor, 0.01)
        finder.stop()
    assert len(queries) == 1  # one nonce
    assert times[1] >= 0.15
    assert times[2] >= 0.4
    assert times[3] >= 0.4 + limits.DISCOVERY_REPEAT - 0.05
