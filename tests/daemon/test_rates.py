"""Limits on real connections: what passes under them, for whom, and that they change while jobs run."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.bounded import bounded, until
from support.receiving_end import ReceivingEnd
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from ftx import limits
from ftx.core.bucket import parse_timetable
from ftx.core.peers import Peer
from ftx.core.trust import Trusted
from ftx.daemon.rates import Rates
from ftx.errors import FtxError
from ftx.wire.events import Done

MiB = limits.MiB


@pytest_twisted.async_yield_fixture
async def end(reactor: Any, short_tmp: Path) -> AsyncIterator[ReceivingEnd]:
    """A receiving end."""
    made = ReceivingEnd(reactor, short_tmp)
    yield made
    await made.stop()


def source(end: ReceivingEnd, size: int) -> Path:
    path = end.folder / "source"
    path.write_bytes(os.urandom(size))
    return path


@pytest.mark.parametrize("side", ["sender", "receiver"])
@bounded(60)
async def test_a_limit_holds_and_is_lifted_while_the_job_runs(reactor: Any, end: ReceivingEnd, side: str) -> None:
    """At 400 kB/s, 30 MiB would take more than a minute; lifted, they are there at once."""
    path = source(end, 30 * MiB)
    if side == "receiver":
        end.jobs.rates.change("daemon", 400_000, None)
    began = reactor.seconds()
    sending = Deferred.fromCoroutine(end.send(path, limit=400_000 if side == "sender" else 0))
    await until(lambda: end.jobs.received_so_far() > 400_000)
    assert reactor.seconds() - began > 0.5, "it took its time"
    assert end.jobs.received_so_far() < 2 * MiB
    if side == "receiver":
        job = end.jobs.list("active")[0].job
        assert [one.scope for one in end.jobs.rates.list()] == ["daemon"]
        end.jobs.rates.change(f"job:{job}", 300_000, 0)
        assert [one.scope for one in end.jobs.rates.list()] == ["daemon", f"job:{job}"]
        end.jobs.rates.change(f"job:{job}", 0, None)
        end.jobs.rates.change("daemon", 0, None)
        done = await sending
        assert isinstance(done, Done)
        await until(lambda: not end.jobs.list("active"))  # its sender has the receipt before it is closed
        with pytest.raises(FtxError) as caught:
            end.jobs.rates.change(f"job:{job}", 1000, None)
        assert caught.value.name == "no-such-job"
    else:
        await end.jobs.cancel(end.jobs.list("active")[0].job)
        await sending


@bounded(60)
async def test_the_limit_of_a_peer_counts_for_its_jobs_alone(end: ReceivingEnd) -> None:
    path = source(end, 8 * MiB)
    end.jobs.rates.change("peer:somebody", 1000, 1000)
    assert isinstance(await end.send(path), Done)
    await until(lambda: not end.jobs.list("active"))
    end.jobs.rates.change("peer:attic", 200_000, None)  # our own key goes by our own name
    (end.folder / "source").write_bytes(os.urandom(8 * MiB))
    sending = Deferred.fromCoroutine(end.send(path))
    await until(lambda: bool(end.jobs.list("active")))
    before = end.jobs.received_so_far()
    await until(lambda: end.jobs.received_so_far() > before + 100_000)
    assert end.jobs.counts.active == 1
    end.jobs.rates.change("peer:attic", 0, None)
    assert isinstance(await sending, Done)


def test_a_stranger_shares_the_limit_of_no_peer() -> None:
    """Whatever it calls itself: its name is its own choice."""
    rates = Rates(Clock(), lambda: 0.0)
    attic = Trusted(b"1" * 32, "attic", own=False, peer=Peer("attic", b"1" * 32, (), ""))
    stranger = Trusted(b"2" * 32, "attic", own=False)
    rates.change("peer:attic", 1_000_000, None)
    theirs, _ = rates.begin(attic, "1" * 32)
    others, _ = rates.begin(stranger, "2" * 32)
    assert sorted(limit.rate for limit in theirs) == [0, 0, 1_000_000]
    assert [limit.rate for limit in others] == [0, 0]
    assert set(map(id, theirs)) & set(map(id, others)) == {id(rates.begin(stranger, "2" * 32)[0][0])}


def test_a_timetable_changes_the_limit_and_what_is_set_by_hand_counts_until_then() -> None:
    wall = [1_700_000_000.0]
    rates = Rates(Clock(), lambda: wall[0])
    from time import localtime

    hour = localtime(wall[0]).tm_hour
    later = f"{(hour + 1) % 24:02}:00 2M, {(hour + 2) % 24:02}:00 0"
    rates.follow(parse_timetable(later), parse_timetable("5M"))
    assert rates.daemon == (0, 5_000_000)
    wall[0] += 3600
    rates.look()
    assert rates.daemon == (2_000_000, 5_000_000)
    rates.change("daemon", 7_000_000, None)
    rates.look()
    assert rates.daemon == (7_000_000, 5_000_000)
    rates.follow(parse_timetable(later), parse_timetable("5M"))  # a reload that changes nothing
    assert rates.daemon == (7_000_000, 5_000_000)
    wall[0] += 3600
    rates.look()
    assert rates.daemon == (0, 5_000_000)
