"""Networks that fail: resets, ends, silence, slow and narrow lines, damage, dead addresses (cases F99 to F111)."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import support.coming_and_going
from faults.wire import Link
from support.bounded import bounded, until
from support.durable import durable_bytes
from support.hostile import data, entry
from support.hostile_server import HostileServer
from support.receiving_end import ReceivingEnd
from support.shaped import Shaped
from support.trees import MiB, make_tree, snapshot, visible
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from twisted.internet.task import Clock, LoopingCall
from twisted.internet.threads import deferToThread
from zope.interface import implementer

import ftx
from ftx import limits
from ftx.client.api import send
from ftx.wire.events import Done, Event, Failed, Progress, Retry

#: Boundaries of records, and bytes, at which a connection is reset.
RESETS = int(os.environ.get("RESETS", "8"))


@pytest_twisted.async_yield_fixture
async def end(reactor: Any, short_tmp: Path) -> AsyncIterator[ReceivingEnd]:
    """A receiving end."""
    made = ReceivingEnd(reactor, short_tmp)
    yield made
    await made.stop()


async def through(reactor: Any, end: ReceivingEnd, url: str, source: Path, **how: Any) -> Any:
    """Send by a link, one connection only; the error when there was not even a job."""
    heard: list[Event] = how.pop("heard", [])
    settings = end.settings(retries=how.pop("retries", 0))
    try:
        return await send(reactor, settings, [str(source)], url, on_event=heard.append, **how)
    except Exception as error:
        return error


@bounded(60 + RESETS)
async def test_F99_resets(end: ReceivingEnd, reactor: Any) -> None:
    """At boundaries of records and anywhere: what was verified is not sent again, but for one block at most."""
    dice = random.Random(99)
    struck = 0
    for number in range(RESETS):
        source = end.folder / f"source{number}"
        total = make_tree(source, {"large": 3 * MiB + 17, "d/e": 5000}, seed=number)
        where: dict[str, int] = {"record": number % 60} if number % 2 else {"byte": int(3.2e6 ** dice.random())}
        with Link(end.port, "cut", inward=bool(number % 3), **where) as link:  # type: ignore[arg-type]
            first = await through(reactor, end, link.url, source)
            struck += link.struck.is_set()
            assert isinstance(first, Done) is not link.struck.is_set() or number % 3 == 0
        await until(lambda: end.jobs.counts.active == 0)
        jobs = [job for job in end.jobs.list(None) if job.path.startswith(f"source{number}")]
        verified = jobs[-1].bytes_confirmed if jobs else 0
        there = sum(size for name, size in visible(end.inbox_path).items() if name.startswith(source.name.encode()))
        held = durable_bytes(end.inbox_path)
        assert verified - there - held <= MiB, "what was verified is lost"
        again = await end.send(source)
        assert isinstance(again, Done)
        assert again.bytes_wire == total - there - held
        assert snapshot(end.inbox_path / source.name) == snapshot(source)
        end.store.calls.clear()  # which hold what was written
        shutil.rmtree(source)
        shutil.rmtree(end.inbox_path / source.name)
    assert struck >= RESETS // 2


@bounded(30)
async def test_F100_a_clean_end_in_the_middle_of_a_file(end: ReceivingEnd, reactor: Any) -> None:
    """TLS is closed in order, after one block of three: nothing is published, what came is kept."""

    def end_early() -> None:
        with end.hostile() as client:
            client.job(entry(0, b"file", size=3 * MiB))
            client.send(data(0, 0, bytes(range(256)) * 4096))
            client.close_in_order()

    await deferToThread(end_early)
    await until(lambda: end.jobs.counts.active == 0)
    job = end.jobs.list(None)[-1]
    assert job.error is not None
    assert job.error.name in ("connection-lost", "connection-reset")
    assert visible(end.inbox_path) == {}
    assert durable_bytes(end.inbox_path) == MiB


@bounded(30)
async def test_F100_a_server_that_ends_in_order(end: ReceivingEnd, reactor: Any) -> None:
    """TLS is closed in order in the middle of a job: the client does not take that for success."""
    source = end.folder / "source"
    source.write_bytes(os.urandom(4 * MiB))
    with HostileServer(end.identity) as server:

        def end_early() -> None:
            server.accept()
            server.job()
            server.close_in_order()

        ending = deferToThread(end_early)
        result = await through(reactor, end, server.url, source)
        await ending
    assert isinstance(result, Failed)
    assert result.error.name in ("connection-lost", "connection-reset")
    assert result.resumable


@pytest.mark.case("F101", "F102")
@pytest.mark.parametrize("inward", [True, False], ids=["to-the-daemon", "to-the-client"])
@bounded(60)
async def test_a_line_that_is_dead(inward: bool, reactor: Any, short_tmp: Path) -> None:
    """Nothing passes any more, one way: after thirty seconds the daemon lets go of the connection and the job.

    (The client's end is the same machine: `tests/core/test_session.py`.) Then the rest is sent by another way.
    """
    clock = Clock()
    ticking = LoopingCall(lambda: clock.advance(0.005))
    ticking.start(0.005)
    end = ReceivingEnd(reactor, short_tmp, clock=clock)
    source = short_tmp / "source"
    source.write_bytes(os.urandom(3 * MiB))
    try:
        end.store.hold("publish")
        with Link(end.port, "half-open", inward=inward, record=1 << 20) as link:
            sending = Deferred.fromCoroutine(through(reactor, end, link.url, source))
            await until(lambda: end.jobs.counts.active == 1)
            link.strike()
            end.store.release()
            await until(link.struck.is_set)
            link.abandon()
            assert isinstance(await sending, Failed)
            descriptors = len(os.listdir("/proc/self/fd"))
            clock.advance(limits.SILENCE / 2)
            assert end.jobs.counts.active == 1
            clock.advance(limits.SILENCE / 2)
            await until(lambda: end.jobs.counts.active == 0)
            await until(lambda: end.reception.connections == (0, 0))
            assert len(os.listdir("/proc/self/fd")) < descriptors
            assert end.jobs.list(None)[-1].error.name == "peer-silent"
        assert isinstance(await end.send(source), Done)
        assert (end.inbox_path / "source").read_bytes() == source.read_bytes()
    finally:
        await end.stop()
        ticking.stop()


@bounded(60)
async def test_F103_a_slow_and_narrow_line(end: ReceivingEnd, reactor: Any) -> None:
    """Late, uneven, lossy and narrow: it completes at the first attempt, and never says more than has passed."""
    source = end.folder / "source"
    make_tree(source, {"one": 24_000, "two": 12_000, "three": 3})
    heard: list[Event] = []
    with Shaped(end.port, rate=100_000, delay=0.05, jitter=0.1, loss=0.08) as line:

        def hear(event: Event) -> None:
            heard.append(event)
            if isinstance(event, Progress):
                assert event.bytes_confirmed <= line.arrived[True]

        result = await send(reactor, end.settings(retries=0), [str(source)], line.url, on_event=hear)
        assert line.lost
    assert isinstance(result, Done)
    assert [event for event in heard if isinstance(event, Retry)] == []
    assert snapshot(end.inbox_path / "source") == snapshot(source)


@pytest.mark.parametrize("inward", [True, False], ids=["to-the-daemon", "to-the-client"])
@bounded(60)
async def test_F106_segments_of_one_byte(inward: bool, end: ReceivingEnd, reactor: Any) -> None:
    """At the beginning, in the middle, and where a record ends: nobody minds."""
    source = end.folder / "source"
    make_tree(source, {"one": 30_000, "two": 200})
    for number, record in enumerate((0, 2, 5)):
        with Link(end.port, "trickle", inward=inward, record=record) as link:
            result = await through(reactor, end, link.url, source, into=str(number))
            assert link.struck.is_set()
        assert isinstance(result, Done), result
        assert snapshot(end.inbox_path / str(number) / "source") == snapshot(source)


@pytest.mark.parametrize("inward", [True, False], ids=["to-the-daemon", "to-the-client"])
@bounded(60)
async def test_F110_a_bit_on_the_way(inward: bool, end: ReceivingEnd, reactor: Any) -> None:
    """In any record: the connection ends, whatever is there is right, and the rest is sent."""
    for record in (0, 1, 2, 4, 7):
        source = end.folder / f"source{record}"
        make_tree(source, {"one": 30_000, "two": 2 * MiB + record}, seed=record)
        with Link(end.port, "flip", inward=inward, record=record, seed=record) as link:
            result = await through(reactor, end, link.url, source)
            assert link.struck.is_set() is not isinstance(result, Done)
        there = end.inbox_path / source.name
        for path in there.rglob("*"):
            assert not path.is_file() or path.read_bytes() == (source / path.relative_to(there)).read_bytes()
        assert isinstance(await end.send(source), Done)
        assert snapshot(there) == snapshot(source)


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        raise NotImplementedError


@implementer(IHostnameResolver)
class _TwoFamilies:
    """Every name has an IPv6 address, first, and an IPv4 one."""

    def resolveHostName(
        self,
        receiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> _Resolution:
        receiver.resolutionBegan(_Resolution(hostName))
        receiver.addressResolved(IPv6Address(transportSemantics, "::1", portNumber))
        receiver.addressResolved(IPv4Address(transportSemantics, "127.0.0.1", portNumber))
        receiver.resolutionComplete()
        return _Resolution(hostName)


@pytest.fixture
def two_families(reactor: Any) -> Iterator[None]:
    """The resolver of this process, for a while."""
    before = reactor.installNameResolver(_TwoFamilies())
    yield
    reactor.installNameResolver(before)


@bounded(limits.CONNECT_TIMEOUT - 2)
async def test_F111_a_dead_address_beside_a_live_one(end: ReceivingEnd, reactor: Any, two_families: None) -> None:
    """IPv6 comes first and never answers: the other is tried beside it, and not only when it has timed out."""
    try:
        dead = socket.create_server(("::1", end.port), family=socket.AF_INET6, backlog=0)
    except OSError:
        pytest.skip("no IPv6 here")
    source = end.folder / "source"
    source.write_bytes(b"content")
    with dead, contextlib.ExitStack() as stack:
        for _ in range(4):  # a full backlog: what else comes is not even refused
            one = stack.enter_context(socket.socket(socket.AF_INET6))
            one.setblocking(False)
            one.connect_ex(("::1", end.port))
        result = await through(reactor, end, f"ftx://two.families.test:{end.port}", source)
    assert isinstance(result, Done), result


def test_F111_names_of_addresses_are_never_asked_for() -> None:
    """No decision can hang on a PTR record: nobody looks one up."""
    asked = re.compile(r"gethostbyaddr|getnameinfo|getfqdn|lookupPointer|reverse_?lookup", re.IGNORECASE)
    package = Path(ftx.__file__).parent
    found = [str(path) for path in package.rglob("*.py") if asked.search(path.read_text("utf-8"))]
    assert found == []


def test_F109_interfaces_come_and_go() -> None:
    """One that comes later is answered on, one that goes is given up; who listens everywhere listens there too."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare and ip")
    words = ["unshare", "-rn", sys.executable, support.coming_and_going.__file__]
    run = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if run.stderr.startswith("unshare"):
        pytest.skip("network namespaces cannot be made here")
    assert run.stdout.splitlines()[-1:] == ["all is well"], run.stdout + run.stderr
