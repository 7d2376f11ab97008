"""Threads for what blocks: one small pool, and strands through it in which jobs keep their order.

Disk calls and hashes release the interpreter lock and take from microseconds to, on a stalled disk, minutes.
They run here; the reactor's thread only hands them over and gets their results.

    job -> Worker.run -> queue -> thread -> results -> one wake-up of the reactor -> Deferred

    job -> Strand.run -> the strand's own queue; the strand itself stands in the pool's queue while it has jobs,
                       so one thread at a time works on it

A thread cannot be stopped from outside. Cancelling a Deferred gives up its *result* (an exception too): the job
still runs, in its turn, and what follows it in a strand still comes after it. Whoever must undo something (close
a file, remove a partial) queues that as one more job behind the others.

The pool is our own because the hand-over is the cost of small jobs: Twisted's ThreadPool copies a logging
context into every job and wakes the reactor for every result; here results that arrive together share a
wake-up.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar, TypeVarTuple

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from ftx import limits
from ftx.errors import LocalProtocolError

__all__ = ["Strand", "Worker"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Job:
    """One call: made in the reactor's thread, worked on in a thread, ended in the reactor's thread."""

    __slots__ = ("arguments", "deferred", "failed", "function", "result", "strand")

    def __init__(self, strand: Strand | None, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.strand = strand
        self.function = function
        self.arguments = arguments
        self.deferred: Deferred[Any] = Deferred()
        self.failed = False
        self.result: Any = None

    def work(self) -> None:
        """Make the call and keep what it gave; never raises."""
        try:
            self.result = self.function(*self.arguments)
        except BaseException:
            # Whatever it is, it belongs to the one who waits for the job, and the thread must live on.
            self.result = Failure()
            self.failed = True
        del self.function, self.arguments  # a chunk must not live until the reactor comes by

    def end(self) -> None:
        """Hand the result over."""
        if self.failed:
            self.deferred.errback(self.result)
        else:
            self.deferred.callback(self.result)


class Worker:
    """A pool of threads. Everything but the jobs themselves happens in the reactor's thread.

    `threads` (1 to 64) is how many jobs can be under way at once; there are as many threads as that has needed so
    far. They are daemon threads: a process that has to leave at once does not wait for a stalled disk. In an orderly
    end, `stop()` does.
    """

    def __init__(self, reactor: IReactorFromThreads, threads: int = limits.WORKER_THREADS) -> None:
        if not 1 <= threads <= limits.WORKER_THREADS_MOST:
            raise ValueError(f"a pool has 1 to {limits.WORKER_THREADS_MOST} threads")
        self._reactor = reactor
        self._size = threads
        self._threads: list[threading.Thread] = []
        self._queue: SimpleQueue[_Job | Strand | None] = SimpleQueue()
        # One for each thread that has nothing to do and is not yet meant for a task in the queue.
        self._idle: deque[None] = deque(maxlen=threads)
        self._results: deque[_Job] = deque()
        self._woken = False
        self._open = False
        self._outstanding = 0
        self._stopping: list[Deferred[None]] | None = None
        self._alive = 0

    @property
    def outstanding(self) -> int:
        """Jobs given and not yet ended."""
        return self._outstanding

    def start(self) -> None:
        """Take jobs from now on, with one thread; once only."""
        if self._threads or self._stopping is not None:
            raise LocalProtocolError("the worker was started before")
        self._begin_thread()
        self._idle.append(None)
        self._open = True

    def stop(self) -> Deferred[None]:
        """Take no more jobs; fires when those there are have ended, and the threads with them.

        May be called again, to wait as well.
        """
        self._open = False
        if not self._threads:
            self._stopping = self._stopping or []
            return succeed(None)
        fires: Deferred[None] = Deferred()
        first = self._stopping is None
        self._stopping = [*(self._stopping or ()), fires]
        if first and self._outstanding == 0:
            self._dismiss()
        return fires

    def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> Deferred[T]:
        """Call `function(*arguments)` in a thread, in no order with other jobs.

        Fires with what it returns, or fails with what it raises. Cancelling gives up the result; the call is
        made nevertheless. Fails with FtxError `internal` before `start()` and after `stop()`.
        """
        if not self._open:
            return fail(LocalProtocolError("the worker does not run"))
        job = _Job(None, function, arguments)
        self._outstanding += 1
        self._put(job)
        return job.deferred

    def strand(self) -> Strand:
        """A new strand through this pool. It needs no closing, and costs nothing while it is empty."""
        return Strand(self)

    def _put(self, task: _Job | Strand) -> None:
        """Queue `task`, for a thread that is idle or for one more, as long as there may be more.

        Most pools never have two tasks at once, and a thread that is not needed costs more than its start: all threads
        of a process ask for one interpreter lock. Once all have begun, `_idle` means nothing.
        """
        self._queue.put(task)
        if self._alive == self._size:
            return
        try:
            self._idle.pop()
        except IndexError:
            with suppress(RuntimeError):  # the system has no more of them: the task waits for one that there is
                self._begin_thread()

    def _begin_thread(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"ftx-worker-{self._alive}", daemon=True)
        thread.start()
        self._threads.append(thread)
        self._alive += 1

    # -- in the threads ------------------------------------------------------------------------------------

    def _serve(self) -> None:
        get = self._queue.get
        while (task := get()) is not None:
            if isinstance(task, _Job):
                task.work()
                self._idle.append(None)
                self._results.append(task)
                self._wake()
            else:
                task.work()
        self._reactor.callFromThread(self._left)

    def _wake(self) -> None:
        """A job was put into the results: wake the reactor's thread, unless somebody has just done so.

        `_deliver` clears the flag before it looks, so what is put there after it looked finds the flag cleared
        and wakes it again. Two threads that both find it cleared wake it twice, which does no harm.
        """
        if not self._woken:
            self._woken = True
            self._reactor.callFromThread(self._deliver)

    # -- in the reactor's thread ---------------------------------------------------------------------------

    def _deliver(self) -> None:
        """End the jobs whose results have arrived; those that arrive meanwhile have their own wake-up."""
        self._woken = False
        results = self._results
        for _ in range(len(results)):
            job = results.popleft()
            self._outstanding -= 1
            job.end()
            if job.strand is not None:
                job.strand._ended()
        if self._stopping is not None and self._outstanding == 0:
            self._dismiss()

    def _dismiss(self) -> None:
        """Send the threads home."""
        for _ in range(self._alive):
            self._queue.put(None)

    def _left(self) -> None:
        """A thread has done its last act."""
        self._alive -= 1
        if self._alive:
            return
        for thread in self._threads:
            thread.join()
        waiting, self._stopping = self._stopping or [], []
        self._threads = []
        for fires in waiting:
            fires.callback(None)


class Strand:
    """Jobs that are worked on one after the other, in the order in which they were given.

    Strands of one worker run side by side, as many as there are threads, taking turns after every job when there
    are more. A job that raises fails its own Deferred; the strand goes on.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        # Jobs not yet begun or under way. The strand stands in the pool's queue, or is being worked on, exactly
        # while this is not empty; the lock makes the two change together.
        self._jobs: deque[_Job] = deque()
        self._lock = threading.Lock()
        self._given = 0
        self._finished = 0
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()

    def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> Deferred[T]:
        """As `Worker.run`, but begun only when every job given to this strand before has ended."""
        worker = self._worker
        if not worker._open:
            return fail(LocalProtocolError("the worker does not run"))
        job = _Job(self, function, arguments)
        worker._outstanding += 1
        self._given += 1
        with self._lock:
            self._jobs.append(job)
            idle = len(self._jobs) == 1
        if idle:
            worker._put(self)
        return job.deferred

    def drained(self) -> Deferred[None]:
        """Fires when all jobs given so far have ended and their Deferreds have fired; never fails."""
        if self._finished == self._given:
            return succeed(None)
        fires: Deferred[None] = Deferred()
        self._waiting.append((self._given, fires))
        return fires

    def work(self) -> None:
        """In a thread: work on the jobs until there are none, or until somebody else waits for a thread."""
        worker = self._worker
        more = True
        while more:
            job = self._jobs[0]
            job.work()
            with self._lock:
                self._jobs.popleft()
                worker._results.append(job)  # in here, so that they keep their order
                more = bool(self._jobs)
                if not more:
                    worker._idle.append(None)
            worker._wake()
            if more and not worker._queue.empty():
                worker._queue.put(self)  # this thread goes on with what is in front of it
                return

    def _ended(self) -> None:
        """In the reactor's thread: one more job has ended."""
        self._finished += 1
        while self._waiting and self._waiting[0][0] <= self._finished:
            self._waiting.popleft()[1].callback(None)
