"""Probes on real connections: measured both ways, under the limits, stored nowhere, refusable, and in no one's way."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.bounded import bounded, until
from support.hostile import JOB, data
from support.receiving_end import ReceivingEnd
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from ftx import limits
from ftx.core.trust import Trusted
from ftx.errors import FtxError, kind
from ftx.net.dial import Dialled, Place, dial
from ftx.net.probing import Measuring
from ftx.net.tls import Credentials
from ftx.wire.messages import FEATURES, Ping, Probe, ProbeDone, ProbeEnd, ProbeKind, ProbeReady, Refuse

MiB = limits.MiB


@pytest_twisted.async_yield_fixture
async def end(reactor: Any, short_tmp: Path) -> AsyncIterator[ReceivingEnd]:
    """A receiving end."""
    made = ReceivingEnd(reactor, short_tmp)
    yield made
    await made.stop()


async def dialled(reactor: Any, end: ReceivingEnd) -> Dialled:
    """A connection of the receiver's own key that is ready."""
    accept: Callable[[bytes, str], Trusted] = lambda key, _: Trusted(key, "me", own=True)  # noqa: E731
    places = [Place("127.0.0.1", end.port)]
    return await dial(reactor, Credentials(end.identity), places, name="here", accept=accept, features=FEATURES)


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every name below a folder, with its size, time and mode."""
    found = {}
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            status = os.lstat(os.path.join(top, name))
            found[os.path.join(top, name)] = (status.st_size, status.st_mtime_ns, status.st_mode)
    return found


@bounded(60)
async def test_each_kind_one_after_the_other_and_nothing_is_kept(reactor: Any, end: ReceivingEnd) -> None:
    """16 MiB each way and to the disk, on one connection, which is ready again in between; the home is as it was."""
    before = state(end.home)
    there = await dialled(reactor, end)
    measuring = Measuring(there.connection)
    for what in (ProbeKind.UP, ProbeKind.DOWN, ProbeKind.DISK):
        measured = await measuring.run(what)
        assert (measured.kind, measured.bytes) == (what, limits.PROBE)
        assert measured.rate > 0
        assert measured.account.rate == 0
        assert 0 <= measured.here <= 1
        assert 0 <= measured.there <= 1
        assert abs(measured.ahead) < 5
        if what is not ProbeKind.DISK:
            assert measured.account.round_trip > 0, "the server's kernel was asked"
            assert measured.info.window_bytes > 0, "and ours"
    there.connection.goodbye()
    await until(lambda: end.connections[0].over)
    assert state(end.home) == before
    assert end.jobs.list(None) == []
    assert end.jobs.received_so_far() == 0


@bounded(60)
async def test_a_small_probe_and_one_that_is_no_multiple_of_a_block(reactor: Any, end: ReceivingEnd) -> None:
    """One byte, and a little more than a block."""
    there = await dialled(reactor, end)
    measuring = Measuring(there.connection)
    for what in (ProbeKind.UP, ProbeKind.DOWN):
        for size in (1, limits.PIECE + 1):
            assert (await measuring.run(what, size)).bytes == size
    there.connection.goodbye()


@pytest.mark.parametrize("what", [ProbeKind.UP, ProbeKind.DOWN])
@bounded(60)
async def test_the_limits_hold_for_probes(reactor: Any, end: ReceivingEnd, what: ProbeKind) -> None:
    """1 MB at 2 MB/s takes its time, and the account names the limit; afterwards it holds nothing up."""
    end.jobs.rates.change("daemon", 2_000_000, 2_000_000)
    there = await dialled(reactor, end)
    began = reactor.seconds()
    measured = await Measuring(there.connection).run(what, MiB)
    assert reactor.seconds() - began > 0.25
    assert measured.account.rate == 2_000_000
    assert measured.rate < 5_000_000
    assert end.jobs.rates.list()[0].scope == "daemon"
    there.connection.goodbye()


@bounded(60)
async def test_too_many_are_refused_and_the_connection_is_ready_again(reactor: Any, end: ReceivingEnd) -> None:
    """The thirteenth of a minute hears `busy`; it may go on with something else."""
    there = await dialled(reactor, end)
    measuring = Measuring(there.connection)
    for _ in range(limits.PROBES_PER_KEY):
        await measuring.run(ProbeKind.DOWN, 1)
    with pytest.raises(FtxError) as caught:
        await measuring.run(ProbeKind.UP, 1)
    assert caught.value.name == "busy"
    assert not there.connection.over
    there.connection.goodbye()


@bounded(60)
async def test_a_daemon_that_wants_none(reactor: Any, end: ReceivingEnd) -> None:
    """It does not list the feature, and whoever asks all the same has broken the protocol."""
    probes = end.reception._probes
    assert probes is not None
    probes.wanted = False
    there = await dialled(reactor, end)
    with pytest.raises(FtxError) as caught:
        await Measuring(there.connection).run(ProbeKind.UP)
    assert caught.value.name == "not-supported"
    there.connection.goodbye()

    def hostile() -> int | None:
        with end.hostile() as peer:
            peer.greet(features=["probe"])
            peer.send(Probe(JOB, ProbeKind.UP, 1))
            return peer.end()

    assert await deferToThread(hostile) == kind("wrong-state").number


@bounded(60)
async def test_a_peer_that_keeps_no_rules(reactor: Any, end: ReceivingEnd) -> None:
    """Content nobody asked for, too much of it, of another kind, a false account: each ends the session."""
    large = b"x" * limits.PIECE

    def tried(*said: Any, ready: bool = True) -> int | None:
        with end.hostile() as peer:
            peer.greet(features=["probe"])
            peer.send(Probe(JOB, ProbeKind.UP, limits.PIECE + 1))
            if ready:
                assert peer.until(ProbeReady).job == JOB
            peer.send(*said)
            return peer.end()

    other = b"another job 0001"
    for name, said in [
        ("protocol-error", [data(0, 1, large)]),
        ("protocol-error", [data(1, 0, large)]),
        ("protocol-error", [data(0, 0, large), data(0, 1, b"xy")]),
        ("protocol-error", [data(0, 0, large), data(0, 1, b"x"), data(0, 2, b"x")]),
        ("digest-mismatch", [data(0, 0, large, bytes(32))]),
        ("protocol-error", [data(0, 0, large), ProbeEnd(JOB, 1)]),
        ("protocol-error", [ProbeEnd(other, 0)]),
        ("wrong-state", [Probe(other, ProbeKind.UP, 1)]),
    ]:
        assert await deferToThread(tried, *said) == kind(name).number, said[-1]
    await until(lambda: all(one.over for one in end.connections))
    there = await dialled(reactor, end)
    assert (await Measuring(there.connection).run(ProbeKind.UP, 1)).bytes == 1, "none of them keeps a place"
    there.connection.goodbye()


@bounded(60)
async def test_who_stops_early_and_who_leaves(reactor: Any, end: ReceivingEnd) -> None:
    """An end before the last byte is an account of less; a connection that goes takes its place with it."""

    def early() -> ProbeDone:
        with end.hostile() as peer:
            peer.greet(features=["probe"])
            peer.send(Probe(JOB, ProbeKind.UP, limits.PROBE), Ping(1))
            peer.until(ProbeReady)
            peer.send(data(0, 0, b"x" * limits.PIECE), ProbeEnd(JOB, limits.PIECE))
            done: ProbeDone = peer.until(ProbeDone)
            return done

    def leave(what: ProbeKind) -> None:
        with end.hostile() as peer:
            peer.greet(features=["probe"])
            peer.send(Probe(JOB, what, limits.PROBE))
            peer.receive()

    assert (await deferToThread(early)).bytes == limits.PIECE
    for what in (ProbeKind.UP, ProbeKind.DOWN, ProbeKind.DISK):
        await deferToThread(leave, what)
    await until(lambda: all(one.over for one in end.connections))

    def asks() -> type:
        with end.hostile() as peer:
            peer.greet(features=["probe"])
            peer.send(Probe(JOB, ProbeKind.UP, 1))
            return type(peer.receive())

    assert await deferToThread(asks) is ProbeReady


@bounded(60)
async def test_a_client_that_sends_nothing_loses_its_place(reactor: Any, short_tmp: Path) -> None:
    """Pings alone keep none: after twenty seconds without content the session is over."""
    clock = Clock()
    end = ReceivingEnd(reactor, short_tmp, clock=clock)
    clock.advance(100)
    try:

        def waits() -> int | None:
            with end.hostile() as peer:
                peer.greet(features=["probe"])
                peer.send(Probe(JOB, ProbeKind.UP, 1))
                peer.until(ProbeReady)
                reactor.callFromThread(clock.advance, limits.PROBE_SILENCE - 0.5)
                peer.until(Ping)
                peer.send(Ping(7))
                reactor.callFromThread(clock.advance, 1.0)
                return peer.end()

        assert await deferToThread(waits) == kind("peer-silent").number
    finally:
        stopping = end.stop()
        clock.advance(limits.ABORT_AFTER)
        await stopping


@bounded(60)
async def test_a_client_that_takes_nothing_loses_its_place(reactor: Any, short_tmp: Path) -> None:
    """Nor do pings keep the place of one that asks for content and does not read it."""
    clock = Clock()
    end = ReceivingEnd(reactor, short_tmp, clock=clock)
    clock.advance(100)
    probes = end.reception._probes
    assert probes is not None

    def takes_nothing() -> None:
        with end.hostile() as peer:
            peer.greet(features=["probe"])
            peer.send(Probe(JOB, ProbeKind.DOWN, limits.PROBE))
            released.wait(30)

    released = threading.Event()
    holding = deferToThread(takes_nothing)
    try:
        await until(lambda: probes._allowance._running == 1)
        clock.advance(limits.PROBE_SECONDS + limits.PROBE_SILENCE - 1)
        assert probes._allowance._running == 1
        clock.advance(2)
        clock.advance(limits.ABORT_AFTER)
        await until(lambda: probes._allowance._running == 0)
    finally:
        released.set()
        await holding
        stopping = end.stop()
        clock.advance(limits.ABORT_AFTER)
        await stopping


@bounded(60)
async def test_a_disk_that_is_still_writing_keeps_its_place(reactor: Any, end: ReceivingEnd) -> None:
    """Clients that leave do not make room for more writes at once than there may be."""
    probes = end.reception._probes
    assert probes is not None
    written, begun = threading.Event(), []

    def slow(_: int) -> float:
        begun.append(1)
        written.wait(30)
        return 1.0

    def leave(number: int) -> None:
        with end.hostile() as peer:
            peer.greet(features=["probe"])
            peer.send(Probe(JOB, ProbeKind.DISK, 1))
            if number == limits.PROBES_AT_ONCE:
                assert isinstance(peer.receive(), Refuse)
            else:
                reached.wait(30)

    probes._write_disk = slow
    try:
        for number in range(limits.PROBES_AT_ONCE + 1):
            reached = threading.Event()
            leaving = deferToThread(leave, number)
            await until(lambda number=number: len(begun) > min(number, limits.PROBES_AT_ONCE - 1))  # type: ignore[misc]
            reached.set()
            await leaving
            await until(lambda: all(one.over for one in end.connections))
        assert probes._allowance._running == len(begun) == limits.PROBES_AT_ONCE
    finally:
        written.set()
    await until(lambda: probes._allowance._running == 0)


@bounded(60)
async def test_a_probe_with_the_number_of_a_job_ends_no_limit(reactor: Any, end: ReceivingEnd) -> None:
    """What a probe is called is its client's choice: the limit of a running job stays."""
    rates, job = end.jobs.rates, JOB.hex()
    rates.begin(Trusted(bytes(32), "me", own=True), job)
    rates.change(f"job:{job}", 1000, 1000)

    def asks() -> ProbeDone:
        with end.hostile() as peer:
            peer.greet(features=["probe"])
            peer.send(Probe(JOB, ProbeKind.DISK, 1))
            done: ProbeDone = peer.until(ProbeDone)
            return done

    assert (await deferToThread(asks)).rate == 0
    await until(lambda: all(one.over for one in end.connections))
    assert f"job:{job}" in [one.scope for one in rates.list()]


@bounded(60)
async def test_a_disk_that_cannot_be_measured_is_a_refusal(reactor: Any, end: ReceivingEnd) -> None:
    """The reason crosses as a number, and the connection goes on."""
    probes = end.reception._probes
    assert probes is not None

    def full(_: int) -> float:
        raise FtxError("no-space")

    probes._write_disk = full
    there = await dialled(reactor, end)
    measuring = Measuring(there.connection)
    with pytest.raises(FtxError) as caught:
        await measuring.run(ProbeKind.DISK)
    assert caught.value.name == "no-space"
    assert (await measuring.run(ProbeKind.DOWN, 1)).bytes == 1
    there.connection.goodbye()


def test_refusals_are_numbers_of_the_registry() -> None:
    """Those that section 19 names."""
    assert [Refuse(JOB, kind(name).number).number for name in ("busy", "not-supported", "no-space")] == [605, 611, 606]
