"""Pulls that are paused, resumed and cancelled while they run, from either side; and ids that mean one job only."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.bounded import bounded, until
from support.hostile import JOB, entry
from support.receiving_end import ReceivingEnd
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread

from ftx import limits
from ftx.errors import FtxError, kind
from ftx.wire.events import Done, Event, Failed, Progress
from ftx.wire.messages import Accept, Offer, Refuse, Request

MiB = limits.MiB
SIZE = 24 * MiB


@pytest_twisted.async_yield_fixture
async def end(reactor: Any, short_tmp: Path) -> AsyncIterator[ReceivingEnd]:
    """A daemon with a share that has something large in it."""
    share = short_tmp / "shared"
    (share / "some").mkdir(parents=True)
    for name in "abc":
        (share / "some" / name).write_bytes(name.encode())
    with (share / "some" / "large").open("wb") as file:
        for _ in range(SIZE // MiB):
            file.write(os.urandom(MiB))
    made = ReceivingEnd(reactor, short_tmp, share=share)
    made.jobs.rates.change("daemon", None, 12 * MiB)
    yield made
    await made.stop()


def pull(end: ReceivingEnd, heard: list[Event]) -> Deferred[Done | Failed]:
    """Get the folder, from this process; what its screen shows is in `heard`."""
    return Deferred.fromCoroutine(end.get("some", end.folder / "got", on_event=heard.append))


async def begun(end: ReceivingEnd) -> str:
    """The id of the pull, once the client has some of its content."""
    await until(lambda: any(job.bytes_confirmed for job in end.jobs.list("active")))
    return end.jobs.list("active")[0].job


def stage(heard: list[Event]) -> str:
    """The stage that the client's screen shows."""
    shown = [event.stage for event in heard if isinstance(event, Progress)]
    return shown[-1] if shown else ""


@bounded(60)
async def test_a_pause_is_seen_on_both_ends_and_nothing_moves(end: ReceivingEnd) -> None:
    heard: list[Event] = []
    getting = pull(end, heard)
    job = await begun(end)
    assert end.jobs.pause(job, True).paused == "here"
    await until(lambda: stage(heard) == "paused")
    settled = [-1]

    def still() -> bool:
        settled.append(end.jobs.sent_so_far())
        return settled[-1] == settled[-2]

    await until(still, interval=0.3)
    assert end.jobs.sent_so_far() < SIZE
    assert end.jobs.pause(job, True).paused == "here", "once more changes nothing"
    end.jobs.rates.change("daemon", None, 0)
    assert end.jobs.pause(job, False).paused == ""
    done = await getting
    assert isinstance(done, Done)
    assert done.bytes_wire == SIZE + 3, "nothing travelled twice"
    await until(lambda: not end.jobs.list("active"))
    with pytest.raises(FtxError) as caught:
        end.jobs.pause(job, True)
    assert caught.value.name == "job-over"


@bounded(60)
async def test_cancelled_here(end: ReceivingEnd) -> None:
    """Both ends say so, with what stays at the client, and the same command goes on where it was."""
    heard: list[Event] = []
    getting = pull(end, heard)
    job = await begun(end)
    await until(lambda: end.jobs.find(job).files_stored == 3)
    shown = await end.jobs.cancel(job)
    assert (shown.state, shown.direction, shown.files_stored) == ("failed", "out", 3)
    assert shown.error is not None
    assert shown.error.message == "cancelled here; 3 files (3 B) are published, whole and verified"
    failed = await getting
    assert isinstance(failed, Failed)
    assert (failed.error.name, failed.exit, failed.resumable) == ("cancelled", 6, True)
    assert failed.error.message.startswith("cancelled by ")
    assert failed.error.message.endswith("3 files (3 B) are published, whole and verified")
    assert sorted(path.name for path in (end.folder / "got" / "some").iterdir() if path.suffix == "") == ["a", "b", "c"]
    with pytest.raises(FtxError) as caught:
        await end.jobs.cancel(job)
    assert caught.value.name == "job-over"
    end.jobs.rates.change("daemon", None, 0)
    done = await end.get("some", end.folder / "got")
    assert isinstance(done, Done)
    assert done.files_identical == 3
    assert done.bytes_wire < SIZE


@bounded(60)
async def test_cancelled_by_the_client(end: ReceivingEnd) -> None:
    """The daemon knows that it was no lost connection, and what the client keeps."""
    heard: list[Event] = []
    getting = pull(end, heard)
    job = await begun(end)
    await until(lambda: end.jobs.find(job).files_stored == 3)
    getting.cancel()
    with pytest.raises(CancelledError):
        await getting
    failed = heard[-1]
    assert isinstance(failed, Failed)
    assert (failed.error.name, failed.files_stored) == ("interrupted", 3)
    await until(lambda: not end.jobs.list("active"))
    shown = end.jobs.find(job)
    assert shown.error is not None
    assert shown.error.message == "cancelled by the receiver; 3 files (3 B) are published, whole and verified"


@pytest.mark.case("F107")
@bounded(60)
async def test_one_id_one_job(end: ReceivingEnd) -> None:
    """A pull cannot have the id of a push that runs, nor a push that of a pull: `cancel` ends the one meant."""
    request = Request(JOB, [[b"share", b"some"]], [], 0)
    with (
        await deferToThread(end.hostile, seconds=20) as pushing,
        await deferToThread(end.hostile, seconds=20) as pulling,
    ):
        await deferToThread(pushing.job, entry(0, b"f", size=2 * MiB), features=["steer"])
        await deferToThread(pulling.greet, features=["pull", "steer"])
        pulling.send(request)
        assert (await deferToThread(pulling.until, Refuse)).number == kind("busy").number
        shown = await end.jobs.cancel(JOB.hex())
        assert (shown.direction, shown.state) == ("in", "failed")
        pulling.send(request)
        await deferToThread(pulling.until, Offer)
        pulling.send(Accept(JOB, 2048, 4096, 0, 0))
        await until(lambda: [job.direction for job in end.jobs.list("active")] == ["out"])
        with await deferToThread(end.hostile, seconds=20) as again:
            await deferToThread(again.greet, features=["steer"])
            again.send(Offer(JOB, 0, [], None, None, None, None))
            assert (await deferToThread(again.until, Refuse)).number == kind("busy").number
        with await deferToThread(end.hostile, seconds=20) as twice:
            await deferToThread(twice.greet, features=["pull"])
            twice.send(request)
            assert (await deferToThread(twice.until, Refuse)).number == kind("busy").number
        assert (await end.jobs.cancel(JOB.hex())).direction == "out"
        await until(lambda: not end.jobs.list("active"))


@bounded(60)
async def test_a_pull_that_its_client_has_lost_makes_room_for_the_next_try(end: ReceivingEnd) -> None:
    """The same id again, behind a connection that was cut, is the same job going on."""
    heard: list[Event] = []
    getting = pull(end, heard)
    await begun(end)
    end.jobs.rates.change("daemon", None, 0)
    end.cut()
    done = await getting
    assert isinstance(done, Done)
    assert sum(type(event).__name__ == "Retry" for event in heard) == 1


@pytest.mark.parametrize("scope", ["daemon", "peer:attic", "job"])
@bounded(60)
async def test_a_limit_holds_a_pull_and_is_lifted_while_it_runs(end: ReceivingEnd, reactor: Any, scope: str) -> None:
    """Each scope for itself: what has gone is never more than the rate allows, and lifted, the rest goes at once."""
    end.jobs.rates.change("daemon", None, 0)
    rate = 1_000_000
    heard: list[Event] = []
    if scope != "job":
        end.jobs.rates.change(scope, None, rate)
        began = reactor.seconds()
        getting = pull(end, heard)
        await until(lambda: bool(end.jobs.list("active")))
    else:
        end.jobs.rates.change("daemon", None, limits.RATE_LEAST)  # so that it has not ended when its own limit comes
        getting = pull(end, heard)
        await until(lambda: bool(end.jobs.list("active")))
        scope = f"job:{end.jobs.list('active')[0].job}"
        end.jobs.rates.change(scope, None, rate)
        end.jobs.rates.change("daemon", None, 0)
        began = reactor.seconds()
    await until(lambda: end.jobs.list("active")[0].bytes_confirmed > rate)
    confirmed = end.jobs.list("active")[0].bytes_confirmed
    assert confirmed <= 1.2 * rate * (reactor.seconds() - began) + 2 * MiB  # whole blocks, and what was on its way
    assert scope in [one.scope for one in end.jobs.rates.list()]
    end.jobs.rates.change(scope, None, 0)
    assert isinstance(await getting, Done)
