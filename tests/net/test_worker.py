"""The pool: results, order, exceptions, the end; with real threads."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from support.bounded import bounded, until
from twisted.internet.defer import CancelledError, gatherResults

from ftx import limits
from ftx.errors import FtxError
from ftx.net.worker import Worker


@pytest_twisted.async_yield_fixture
async def worker(reactor: Any) -> AsyncIterator[Worker]:
    """A worker with four threads, stopped afterwards."""
    made = Worker(reactor, 4)
    made.start()
    yield made
    await made.stop()


def working_threads() -> list[str]:
    """The names of the worker threads there are."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ftx-worker")]


@bounded(20)
async def test_a_result_comes_back_to_the_reactors_thread(worker: Worker) -> None:
    """The call is made elsewhere, its result arrives here."""
    here = threading.get_ident()
    seen: list[int] = []

    def where(one: int, two: int) -> tuple[int, int]:
        return threading.get_ident(), one + two

    fired = worker.run(where, 1, 2)
    fired.addCallback(lambda result: (seen.append(threading.get_ident()), result)[1])
    there, total = await fired
    assert there != here
    assert total == 3
    assert seen == [here]
    assert worker.outstanding == 0


@bounded(20)
async def test_an_exception_comes_back(worker: Worker) -> None:
    """What a job raises is what its Deferred fails with; even what is meant to end a process."""
    for kind in (OSError, KeyboardInterrupt, SystemExit):

        def work(kind: type[BaseException] = kind) -> None:
            raise kind("no")

        with pytest.raises(kind):
            await worker.run(work)
    assert await worker.run(int, "7") == 7


@bounded(20)
async def test_jobs_run_side_by_side(worker: Worker) -> None:
    """As many at once as there are threads: four that wait for each other all get on."""
    meeting = threading.Barrier(4)
    await gatherResults([worker.run(meeting.wait, 10) for _ in range(4)])


@bounded(20)
async def test_threads_begin_when_they_are_needed(reactor: Any) -> None:
    """One for all that comes one after the other; then one for each of what is at once, up to the number given."""
    worker = Worker(reactor, 4)
    worker.start()
    strands = [worker.strand() for _ in range(3)]
    for number in range(60):
        await (strands[number % 3].run(int) if number % 4 else worker.run(int))
    for _ in range(20):
        jobs = [strands[0].run(int) for _ in range(9)]
        await gatherResults(jobs)
    assert len(working_threads()) == 1
    gate = threading.Event()
    held = [worker.run(gate.wait, 10)]
    assert len(working_threads()) == 1
    held += [strands[number % 3].run(gate.wait, 10) for number in range(2)]
    assert len(working_threads()) == 3
    await worker.strand().run(int)
    await worker.run(int)
    assert len(working_threads()) == 4
    held += [worker.run(gate.wait, 10) for _ in range(9)]
    assert len(working_threads()) == 4
    gate.set()
    await gatherResults(held)
    await worker.stop()
    assert working_threads() == []


@bounded(20)
async def test_a_strand_keeps_order(worker: Worker) -> None:
    """Many jobs of many strands: each strand's in order and never two at once, the strands side by side."""
    strands = [worker.strand() for _ in range(9)]
    order: list[list[int]] = [[] for _ in strands]
    inside = [0] * len(strands)
    overlaps: list[int] = []

    def work(which: int, number: int) -> None:
        inside[which] += 1
        if inside[which] != 1:
            overlaps.append(which)
        order[which].append(number)
        inside[which] -= 1

    jobs = [strand.run(work, which, number) for number in range(200) for which, strand in enumerate(strands)]
    await gatherResults(jobs)
    assert order == [list(range(200)) for _ in strands]
    assert overlaps == []


@bounded(20)
async def test_strands_run_side_by_side(worker: Worker) -> None:
    """Jobs of different strands wait for each other and all get on."""
    meeting = threading.Barrier(3)
    await gatherResults([worker.strand().run(meeting.wait, 10) for _ in range(3)])


@bounded(20)
async def test_a_busy_strand_does_not_keep_a_thread(reactor: Any) -> None:
    """With one thread, a strand with much to do takes turns with another after every job."""
    worker = Worker(reactor, 1)
    worker.start()
    try:
        order: list[str] = []
        gate = threading.Event()
        long, short = worker.strand(), worker.strand()
        blocked = long.run(gate.wait, 10)
        jobs = [long.run(order.append, "long") for _ in range(10)]
        jobs.append(short.run(order.append, "short"))
        jobs.append(worker.run(order.append, "single"))
        gate.set()
        await gatherResults([blocked, *jobs])
        assert order.index("short") <= 1
        assert order.index("single") <= 2
    finally:
        await worker.stop()


@bounded(20)
async def test_results_of_a_strand_arrive_in_order(worker: Worker) -> None:
    """Deferreds of a strand fire in the order of its jobs, and a job may be given from within."""
    strand = worker.strand()
    fired: list[int] = []
    inner: list[Any] = []

    def more(number: int) -> None:
        fired.append(number)
        if number == 3:
            inner.append(strand.run(lambda: 100).addCallback(fired.append))

    for number in range(50):
        strand.run(lambda number=number: number).addCallback(more)
    await strand.drained()
    await gatherResults(inner)
    assert fired == [*range(50), 100]


@pytest.mark.case("G120")
@bounded(20)
async def test_a_strand_goes_on_after_an_exception(worker: Worker) -> None:
    """The failure is that job's alone."""
    strand = worker.strand()
    bad = strand.run(int, "x")
    good = strand.run(int, "7")
    with pytest.raises(ValueError, match="invalid literal"):
        await bad
    assert await good == 7


@bounded(20)
async def test_a_cancelled_job_still_runs_in_its_turn(worker: Worker) -> None:
    """Cancelling gives up the result, under way or not yet begun; what follows comes after it all the same."""
    strand = worker.strand()
    gate = threading.Event()
    order: list[str] = []

    def first() -> None:
        gate.wait(10)
        order.append("first")
        raise ValueError("nobody is told")

    under_way = strand.run(first)
    queued = strand.run(order.append, "queued")
    last = strand.run(order.append, "last")
    under_way.cancel()
    queued.cancel()
    for cancelled in (under_way, queued):
        with pytest.raises(CancelledError):
            await cancelled
    assert order == []
    gate.set()
    await last
    assert order == ["first", "queued", "last"]


@bounded(20)
async def test_drained_waits_for_what_was_given_before(worker: Worker) -> None:
    """It fires at once for an empty strand, and is not put off by jobs given later."""
    strand = worker.strand()
    await strand.drained()
    early, late = threading.Event(), threading.Event()
    before = strand.run(early.wait, 10)
    drained = strand.drained()
    after = strand.run(late.wait, 10)
    assert not drained.called
    early.set()
    await drained
    assert before.called
    assert not after.called
    late.set()
    await strand.drained()
    assert after.called


@bounded(20)
async def test_stop_waits_for_everything(reactor: Any) -> None:
    """Queued jobs, strands too, still run; nothing new is taken; the threads are gone when it fires."""
    worker = Worker(reactor, 2)
    worker.start()
    strand = worker.strand()
    gate = threading.Event()
    done: list[int] = []
    jobs = [worker.run(gate.wait, 10), strand.run(gate.wait, 10)]
    jobs += [strand.run(done.append, number) for number in range(20)]
    jobs += [worker.run(done.append, 100) for _ in range(20)]
    stopped, again = worker.stop(), worker.stop()
    for refused in (worker.run(done.append, -1), strand.run(done.append, -1), worker.strand().run(int)):
        with pytest.raises(FtxError) as caught:
            await refused
        assert caught.value.name == "internal"
    assert not stopped.called
    gate.set()
    await stopped
    await again
    assert all(job.called for job in jobs)
    assert len(done) == 40
    assert -1 not in done
    assert working_threads() == []
    assert worker.outstanding == 0
    await strand.drained()
    await worker.stop()


@bounded(20)
async def test_before_the_start_and_twice(reactor: Any) -> None:
    """A worker runs once, between start and stop."""
    worker = Worker(reactor, 1)
    with pytest.raises(FtxError):
        await worker.run(int)
    await worker.stop()
    with pytest.raises(FtxError):
        worker.start()
    other = Worker(reactor, 1)
    other.start()
    with pytest.raises(FtxError):
        other.start()
    await other.stop()
    with pytest.raises(FtxError):
        other.start()


@pytest.mark.parametrize("threads", [0, -1, limits.WORKER_THREADS_MOST + 1])
def test_the_number_of_threads_is_bounded(reactor: Any, threads: int) -> None:
    """At least one, and not a thousand."""
    with pytest.raises(ValueError, match="threads"):
        Worker(reactor, threads)


@bounded(60)
async def test_many_jobs_from_many_turns_lose_nothing(reactor: Any, worker: Worker) -> None:
    """Ten thousand small jobs given in bursts: each fires once, with its own result."""
    strands = [worker.strand() for _ in range(3)]
    got: list[int] = []
    for burst in range(100):
        for number in range(burst * 100, burst * 100 + 100):
            run = worker.run if number % 4 == 3 else strands[number % 4].run
            run(lambda number=number: number).addCallback(got.append)
        if burst % 7 == 0:
            await until(lambda: worker.outstanding < 50)
    await until(lambda: worker.outstanding == 0)
    assert sorted(got) == list(range(10_000))


class Chunk:
    """Something whose life can be watched."""


@bounded(20)
async def test_arguments_are_let_go_when_the_job_has_run(worker: Worker) -> None:
    """A chunk given to a job is freed by its thread, not only when the reactor gets round to the result."""
    chunk = Chunk()
    alive = weakref.ref(chunk)
    gate = threading.Event()
    strand = worker.strand()
    jobs = [strand.run(id, chunk), strand.run(gate.wait, 10)]
    del chunk
    gc.collect()
    await jobs[0]
    await until(lambda: alive() is None)
    gate.set()
    await jobs[1]
