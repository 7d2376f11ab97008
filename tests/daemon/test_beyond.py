"""One step beyond the limits that no other test steps beyond: who is let in, what is said, held and waited for."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from support.bounded import bounded, until
from support.hostile import Hostile, data, entry
from support.receiving_end import ReceivingEnd
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from ftx import limits
from ftx.client.attempts import Attempts
from ftx.core.blocks import block_digest, file_digest
from ftx.core.receipt import Transcript
from ftx.core.stages import Role
from ftx.core.trust import Trusted
from ftx.daemon.complaints import Said
from ftx.disk import peers
from ftx.disk.keys import Identity
from ftx.disk.space import Space
from ftx.errors import FtxError, kind
from ftx.net.acceptor import Acceptor
from ftx.net.alive import proves_alive
from ftx.net.backlog import Backlog
from ftx.net.dial import Place, dial
from ftx.net.discovery import Finder
from ftx.net.gathered import Gathered
from ftx.net.storing import Storing
from ftx.net.tls import Credentials
from ftx.net.transfer import Connection, our_hello
from ftx.wire.announce import Way
from ftx.wire.frames import Whole
from ftx.wire.jsonlines import decode_request
from ftx.wire.messages import (
    Accept,
    Basis,
    End,
    EntryEnd,
    Manifest,
    Needs,
    Offer,
    Ping,
    Receipt,
    Results,
    encode,
)


@pytest_twisted.async_yield_fixture
async def end(reactor: Any, short_tmp: Path) -> AsyncIterator[ReceivingEnd]:
    """A receiving end."""
    made = ReceivingEnd(reactor, short_tmp)
    yield made
    await made.stop()


# -- who is let in, and what is said of it -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "own"), [(limits.SIGNED_IN_PER_KEY, True), (limits.SIGNED_IN_TOTAL, False)], ids=["of a key", "in all"]
)
@bounded(30)
async def test_one_connection_too_many(count: int, own: bool, end: ReceivingEnd) -> None:
    """Signed in, of one key and in all: the next is told that it is too many, and one less lets it in."""
    known: dict[Any, Trusted] = end.reception._known
    trusted = Trusted(end.identity.id if own else bytes(32), "me", own=own)
    crowd = [Connection(Clock(), Role.SERVER, "attic", end.reception, "elsewhere") for _ in range(count)]
    known.update(dict.fromkeys(crowd, trusted))

    def refused() -> int | None:
        with end.hostile() as client:
            client.send(our_hello("desk"))
            return client.end()

    assert await deferToThread(refused) == kind("busy").number
    del known[crowd.pop()]

    def let_in() -> bool:
        with end.hostile() as client:
            return client.greet().signed_in

    assert await deferToThread(let_in)
    for one in crowd:
        del known[one]


def test_what_was_said_is_said_again_after_a_while_and_forgotten_when_there_is_too_much() -> None:
    """A thing is news once in COMPLAINT_INTERVAL; of more than COMPLAINT_SOURCES things the oldest is forgotten."""
    clock = Clock()
    said = Said(clock)
    assert said.is_news("thing")
    clock.advance(limits.COMPLAINT_INTERVAL - 1)
    assert not said.is_news("thing")
    clock.advance(1.5)
    assert said.is_news("thing")
    for number in range(limits.COMPLAINT_SOURCES):
        assert said.is_news(number)
    assert len(said._said) == limits.COMPLAINT_SOURCES
    assert said.is_news("thing"), "it was forgotten"


@pytest.mark.slow
@bounded(60)
async def test_finished_jobs_are_forgotten(end: ReceivingEnd) -> None:
    """Of more jobs than JOBS_REMEMBERED the latest are listed, and all are counted."""
    count = limits.JOBS_REMEMBERED + 5

    def many_jobs() -> list[bytes]:
        jobs = []
        with end.hostile(seconds=30) as client:
            client.greet()
            for _ in range(count):
                jobs.append(os.urandom(16))
                client.send(Offer(jobs[-1], 0, [], None, None, None, None))
                client.until(Accept)
                client.send(Manifest([], True), End(0, 0, 0, Transcript().digest()))
                client.until(Receipt)
        return jobs

    jobs = await deferToThread(many_jobs)
    await until(lambda: end.jobs.counts.active == 0)  # a receipt is out before its job is closed
    listed = [info.job for info in end.jobs.list(None)]
    assert listed == [job.hex() for job in jobs[-limits.JOBS_REMEMBERED :]]
    assert end.jobs.counts.done == count


# -- what is taken and held at once ------------------------------------------------------------------------


def test_accepts_of_one_turn() -> None:
    """Twenty arrive: sixteen are taken in the first turn, the others in the next."""

    class Reactor(MemoryReactorClock):
        """Asks nobody whether anything can be read."""

    taken: list[socket.socket] = []
    arriving: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        listening.setblocking(False)
        acceptor = Acceptor(Reactor(), listening, taken.append)  # type: ignore[arg-type]
        try:
            arriving += [socket.create_connection(listening.getsockname()) for _ in range(limits.ACCEPTS_PER_TURN + 4)]
            acceptor.doRead()
            assert len(taken) == limits.ACCEPTS_PER_TURN
            acceptor.doRead()
            assert len(taken) == limits.ACCEPTS_PER_TURN + 4
        finally:
            for one in (*taken, *arriving):
                one.close()


@bounded(60)
async def test_older_copies_on_offer_at_once(reactor: Any, short_tmp: Path) -> None:
    """With more older copies than BASES: as one file is done the next copy is offered, and not before."""
    count = limits.BASES + 4
    names = [b"%02d" % number for number in range(count)]
    end = ReceivingEnd(reactor, short_tmp)

    def pieces(number: int) -> list[bytes]:
        contents = bytes(limits.BLOCK), b"%d" % number
        return [data(number, block, content) for block, content in enumerate(contents)]

    def session(mtime: int, features: list[str]) -> Hostile:
        one = end.hostile()
        one.greet(features=features)
        one.offer(job=os.urandom(16), conflict=2)
        one.announce([entry(number, name, size=limits.BLOCK + len(b"%d" % number), mtime=mtime)
                      for number, name in enumerate(names)])  # fmt: skip
        return one

    def first() -> None:
        with session(1, []) as one:
            wanted = 0
            while wanted < count:
                wanted += len(one.until(Needs).wants)
            for number in range(count):
                one.send(*pieces(number), EntryEnd(number, *ended(number)))
            stored = 0
            while stored < count:
                stored += len(one.until(Results).results)

    def ended(number: int) -> tuple[int, bytes]:
        blocks = [bytes(limits.BLOCK), b"%d" % number]
        size = sum(map(len, blocks))
        return size, file_digest(size, (block_digest([block]) for block in blocks))

    def second() -> list[int]:
        """How many were on offer, each time that one was done."""
        offered: set[int] = set()
        wanted: list[int] = []
        seen, done = [], 0
        with session(2, ["delta", "repair"]) as one:
            while done < count:
                message = one.receive()
                if isinstance(message, Basis):
                    offered.add(message.number)
                    seen.append(len(offered) - done)
                elif isinstance(message, Needs):
                    wanted += [want.number for want in message.wants]
                elif isinstance(message, Results):
                    done += len(message.results)
                assert message is not None
                if len(wanted) > done and len(offered) >= min(limits.BASES, count - done) and wanted[done] >= 0:
                    number, wanted[done] = wanted[done], -1
                    one.send(*pieces(number), EntryEnd(number, *ended(number)))
        assert len(offered) == count
        return seen

    try:
        await deferToThread(first)
        assert max(await deferToThread(second)) == limits.BASES
    finally:
        await end.stop()


class Paused:
    """Stands where a connection stands for a backlog: notes whether it reads."""

    def __init__(self) -> None:
        self.reads = True

    def pause_reading(self, paused: bool) -> None:
        self.reads = not paused


def test_content_that_waits_for_the_disk() -> None:
    """One byte more than RECEIVE_QUEUE stops the reading; half of that lets it go on."""
    connection: Any = Paused()
    backlog = Backlog(connection, SimpleNamespace(over=False, settled=lambda: None))
    backlog.hold(limits.RECEIVE_QUEUE)
    assert connection.reads
    backlog.hold(1)
    assert not connection.reads
    backlog.hold(-limits.RECEIVE_QUEUE // 2)
    assert not connection.reads
    backlog.hold(-1)
    assert connection.reads


@pytest.mark.parametrize("size", [0, limits.DISK_BATCH_BYTES // 3])
def test_a_batch_for_the_disk(size: int) -> None:
    """At most so many files, and no further one once there are so many bytes."""
    gathered = Gathered()
    for number in range(limits.DISK_BATCH + 50):
        gathered.add([Whole(number, [memoryview(bytes(size))], bytes(32))])
    batch = gathered.take()
    expected = limits.DISK_BATCH if not size else -(-limits.DISK_BATCH_BYTES // size)
    assert batch.numbers == list(range(expected))
    assert gathered.take().numbers[0] == expected


class Held:
    """A worker that begins what it is given, and ends nothing by itself."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, Deferred[Any]]] = []

    def strand(self) -> Any:
        """A strand through it."""
        return SimpleNamespace(run=self._run)

    def _run(self, function: Any, *args: object) -> Deferred[Any]:
        running: Deferred[Any] = Deferred()
        self.begun.append((len(function.__self__.files), running))
        return running


def test_batches_at_the_disk_at_once() -> None:
    """A second one only when it is full, never a third; one that is not full when there is no other."""
    connection: Any = Paused()
    worker: Any = Held()
    clock, rested, full = Clock(), [], limits.DISK_BATCH
    backlog = Backlog(connection, SimpleNamespace(over=False, settled=lambda: None))
    storing = Storing(
        SimpleNamespace(),  # type: ignore[arg-type]
        SimpleNamespace(),  # type: ignore[arg-type]
        backlog,
        worker,
        clock,  # type: ignore[arg-type]
        perform=lambda _: None,
        failed=lambda _: None,
        rested=lambda: rested.append(storing.busy),
        over=lambda: False,
    )

    def gather(count: int) -> list[int]:
        storing.gather([Whole(number, (b"",), bytes(32)) for number in range(count)])
        return [files for files, _ in worker.begun]

    def end(index: int) -> list[int]:
        worker.begun[index][1].callback([])
        return [files for files, _ in worker.begun]

    assert gather(1) == []
    clock.advance(0)
    assert gather(full - 1) == [1]
    assert gather(1) == [1, full]
    assert gather(2 * full + 5) == [1, full]
    assert end(0) == [1, full, full]
    assert end(2) == [1, full, full, full]
    assert end(1) == [1, full, full, full]
    assert end(3) == [1, full, full, full, 5]
    assert not rested
    assert end(4) == [1, full, full, full, 5]
    assert rested == [False]


@pytest.mark.parametrize(
    ("blocks", "floor"), [(10**3, 50 * 1024), (10**9, limits.SPACE_FLOOR_BYTES)], ids=["a share", "at most"]
)
def test_the_last_of_the_space_is_nobodys(blocks: int, floor: int) -> None:
    """What is free is promised but for the smaller of a share and a number of bytes; not one byte more."""
    status: Any = SimpleNamespace(f_blocks=blocks, f_frsize=1024, f_bavail=blocks)
    space = Space(-1, statvfs=lambda _: status, clock=lambda: 0.0)
    there = blocks * 1024 - floor
    assert not space.promise(there + 1)
    assert space.promise(there)
    assert not space.promise(1)


def test_a_file_of_peers_that_is_too_large(tmp_path: Path) -> None:
    """It is not read at all."""
    path = tmp_path / "peers.toml"
    path.touch(mode=0o600)
    os.truncate(path, limits.PEERS_FILE + 1)
    with pytest.raises(FtxError) as caught:
        peers.load(str(path))
    assert caught.value.name == "state-unusable"
    assert caught.value.message.endswith("too large")


def test_a_word_that_is_too_long() -> None:
    """The longest bare word is a method's name; one letter more is none."""
    request = decode_request(b"a" * limits.CONTROL_WORD)
    assert request is not None
    with pytest.raises(FtxError) as caught:
        decode_request(b"a" * (limits.CONTROL_WORD + 1))
    assert caught.value.name == "bad-request"


# -- what is waited for ------------------------------------------------------------------------------------


class Quiet:
    """An owner who lets everybody in and wants nothing."""

    def greeted(self, connection: Connection, hello: Any) -> None:
        connection.send(our_hello("attic", signed_in=True))

    def ended(self, connection: Connection, error: FtxError | None) -> None: ...


@pytest.fixture
def asked() -> Any:
    """A server's connection that is signed in, and its clock."""
    clock, owner = Clock(), Quiet()
    connection = Connection(clock, Role.SERVER, "attic", owner, "somewhere")  # type: ignore[arg-type]
    connection.makeConnection(StringTransport())
    connection.dataReceived(encode(our_hello("desk")))
    clock.advance(limits.ALIVE + 0.5)
    yield connection, clock
    connection.connectionLost(Failure(ConnectionDone()))


def answer_of(connection: Connection) -> list[bool]:
    """Where the answer to whether its peer is alive will be."""
    found: list[bool] = []
    Deferred.fromCoroutine(proves_alive(connection)).addCallback(found.append)
    return found


def wait(clock: Clock, seconds: float, until: Callable[[], bool]) -> float:
    """Let time pass in small steps; how much did."""
    passed = 0.0
    while not until() and passed < seconds:
        clock.advance(0.05)
        passed += 0.05
    return passed


@pytest.mark.case("F107")
def test_a_peer_that_does_not_answer_in_time_is_not_alive(asked: tuple[Connection, Clock]) -> None:
    """It has PROVE_ALIVE seconds; a word in time is enough, and who was heard within ALIVE is not asked."""
    connection, clock = asked
    found = answer_of(connection)
    passed = wait(clock, 60, lambda: bool(found))
    assert found == [False]
    assert limits.PROVE_ALIVE - 0.2 < passed < limits.PROVE_ALIVE + 0.2
    found = answer_of(connection)
    clock.advance(limits.PROVE_ALIVE / 2)
    connection.dataReceived(encode(Ping(1)))
    wait(clock, 1, lambda: bool(found))
    assert found == [True]
    assert answer_of(connection) == [True]


def test_a_disk_that_holds_up_the_question(asked: tuple[Connection, Clock]) -> None:
    """While we do not read we cannot hear: after PAUSED_WAIT seconds the peer has the benefit of the doubt."""
    connection, clock = asked
    connection.pause_reading(True)
    found = answer_of(connection)
    passed = wait(clock, 60, lambda: bool(found))
    assert found == [True]
    assert limits.PAUSED_WAIT - 0.2 < passed < limits.PAUSED_WAIT + 0.2


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_place_that_does_not_answer(host: str) -> None:
    """Each attempt to connect has CONNECT_TIMEOUT seconds."""
    reactor: Any = MemoryReactorClock()
    dialling = Deferred.fromCoroutine(
        dial(reactor, Credentials(Identity.generate()), [Place(host, 7389)], name="desk", accept=lambda *_: None)  # type: ignore[arg-type,return-value]
    )
    assert reactor.tcpClients[0][3] == limits.CONNECT_TIMEOUT
    dialling.addErrback(lambda _: None)
    dialling.cancel()


def test_a_peer_that_stays_away() -> None:
    """A connection that was lost is tried again for RETRY_FOR seconds after the last word, however few the tries."""
    clock = Clock()
    attempts: Any = SimpleNamespace(begun=True, _retries=None, _reactor=clock)
    lost = FtxError("connection-lost")
    clock.advance(100.0)
    assert Attempts._may_retry(attempts, lost, 1, 100.0 - limits.RETRY_FOR + 0.1)
    assert not Attempts._may_retry(attempts, lost, 1, 100.0 - limits.RETRY_FOR)
    assert not Attempts._may_retry(attempts, FtxError("refused"), 1, 100.0)


@pytest.mark.parametrize("begun", [True, False])
def test_tries_that_were_counted(begun: bool) -> None:
    """With `--retries N` it is N of them, however long they take; and no others."""
    clock = Clock()
    clock.advance(1000.0)
    attempts: Any = SimpleNamespace(begun=begun, _retries=9, _reactor=clock)
    lost = FtxError("connection-lost")
    assert [Attempts._may_retry(attempts, lost, tried, 0.0) for tried in range(11)] == [True] * 9 + [False] * 2


def test_a_first_connection_that_nobody_greets() -> None:
    """A server with too many to greet is tried again for RETRY_FOR seconds; one that refuses is not tried again."""
    clock = Clock()
    attempts: Any = SimpleNamespace(begun=False, _retries=None, _reactor=clock)
    late = FtxError("hello-timeout")
    clock.advance(limits.RETRY_FOR - 0.1)
    assert Attempts._may_retry(attempts, late, limits.RETRY_DROPPED, 0.0)
    assert not Attempts._may_retry(attempts, FtxError("connection-refused"), 0, 0.0)
    clock.advance(0.2)
    assert not Attempts._may_retry(attempts, late, 0, 0.0)


@bounded(20)
async def test_hosts_that_are_asked_by_name(reactor: Any) -> None:
    """Of more than DISCOVERY_HOSTS the others are not asked."""
    hosts = [f"127.0.1.{number}" for number in range(1, limits.DISCOVERY_HOSTS + 10)]
    finder = Finder(reactor, port=1, include=("lo",), hosts=hosts, ways={Way.UNICAST})
    finder.start()
    try:
        assert len(finder._named) == limits.DISCOVERY_HOSTS
    finally:
        finder.stop()
