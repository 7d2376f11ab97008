"""The queue at work: what waits to be sent is tried, and tried again, until its peer has it.

Each attempt is a process of its own, `ftx-client send --json`: the same engine, resume and receipt as for whoever sends
by hand, and a client is never part of a daemon. Its events are this daemon's events of a job with the entry's id.
Every change is on disk before it is said to be made, so that neither a restart nor a crash forgets an entry; one that
was under way when the daemon died is tried again, and finds at the receiver what it had brought there.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ftx import limits
from ftx.core.queueing import Queued, due, limited, unreached, verdict, wait_after
from ftx.daemon.attempt import Attempt
from ftx.daemon.events import EventStream
from ftx.daemon.queued import error_info, job_info, peer_info, queue_entry
from ftx.daemon.view import JobInfo, JobState, QueueEntry
from ftx.disk.queue import QueueFile
from ftx.errors import FtxError, kind
from ftx.net.idle import Idle
from ftx.net.worker import Worker
from ftx.text import plural, show
from ftx.wire import events

__all__ = ["Queue"]

_log = Logger()


class Queue:
    """The queue of one daemon. `start()` reads it and begins; `stop()` ends what is under way, which stays in it."""

    def __init__(
        self,
        reactor: Any,
        worker: Worker,
        file: QueueFile,
        command: Sequence[str],
        environ: Mapping[str, str],
        stream: EventStream,
        wall: Callable[[], float],
        outgoing: Callable[[], int],
    ) -> None:
        """`command` are the words of an attempt before its own options, `environ` is its environment.

        `outgoing` says what the daemon may send, in bytes per second, 0 for no limit. `worker` is for the file.
        """
        self._outgoing = outgoing
        self._reactor = reactor
        self._worker = worker
        self._strand = worker.strand()
        self._file = file
        self._command = tuple(command)
        self._environ = environ
        self._stream = stream
        self._wall = wall
        self._entries: dict[str, Queued] = {}
        self._running: dict[str, Attempt] = {}
        #: Of these, the ones whose peer has shown itself meanwhile.
        self._seen: set[str] = set()
        #: When the waiting of an entry was last cut short since its peer had shown itself.
        self._urged: dict[str, float] = {}
        self._finished: deque[JobInfo] = deque(maxlen=limits.JOBS_REMEMBERED)
        self._idle = Idle(lambda: self._running)
        self._timer: IDelayedCall | None = None
        #: Why nothing can be taken in, if so.
        self._unusable: FtxError | None = FtxError("busy", "the daemon is starting")
        self._closed = False
        #: Entries that were sent, and those that failed for good, since the start.
        self.sent = 0
        self.failed = 0
        #: The latter by the reason.
        self.errors: dict[str, int] = {}

    async def start(self) -> None:
        """Read the file, and begin. A file that cannot be read is left alone: the queue then takes nothing."""
        try:
            found: list[Queued] = await self._strand.run(self._file.load)
        except FtxError as error:
            self._unusable = error
            _log.error("the queue is not used: {reason}", reason=error.message)
            return
        self._unusable = None
        self._entries = {entry.job: entry for entry in found}
        if found:
            _log.info("the queue has {entries}", entries=plural(len(found), "job"))
        self._look()

    # -- for the control socket ----------------------------------------------------------------------------

    async def add(self, target: str, sources: Sequence[bytes], options: Sequence[str]) -> QueueEntry:
        """Take something into the queue; FtxError `source-missing`, `busy` (full) or `state-unusable`."""
        missing = await self._worker.run(lambda: [path for path in sources if not os.path.lexists(path)])
        if missing:
            what = f"{show(os.fsdecode(missing[0]), limits.PATH)} does not exist, as far as the daemon can see"
            raise FtxError("source-missing", what)
        if self._unusable is not None:
            raise self._unusable
        if len(self._entries) >= limits.QUEUE_ENTRIES:
            raise FtxError("busy", f"the queue is full: it has {limits.QUEUE_ENTRIES:,} jobs", "ftx-client ctl queue")
        entry = Queued(
            job=secrets.token_hex(16),
            target=target,
            sources=[base64.b64encode(path).decode() for path in sources],
            options=list(options),
            added=self._wall(),
        )
        self._entries[entry.job] = entry
        try:
            await self._save(limits.QUEUE_ROOM)
        except FtxError:
            self._entries.pop(entry.job, None)
            self._put_soon()  # what was saved besides, meanwhile, may have it
            raise
        _log.info("job {job} is to be sent to {target}", job=entry.job, target=show(target))
        self._look()
        return queue_entry(entry, self._state(entry), self._wall())

    def list(self) -> Sequence[QueueEntry]:
        """Every entry, oldest first."""
        return [queue_entry(entry, self._state(entry), self._wall()) for entry in self._entries.values()]

    async def remove(self, job: str) -> QueueEntry:
        """Take an entry out; what is under way ends. FtxError `no-such-job`, and `state-unusable` when it stays in."""
        entry = self._entries.get(job)
        if entry is None:
            raise FtxError("no-such-job", f"the queue has no job {show(job, 64)}", "ftx-client ctl queue lists them")
        shown = queue_entry(entry, self._state(entry), self._wall())
        attempt = self._running.get(job)
        del self._entries[job]
        try:
            await self._save()
        except FtxError:
            if attempt is None or not attempt.sent:
                self._entries.setdefault(job, entry)
            self._look()
            raise
        self._urged.pop(job, None)
        if attempt is not None:  # it may have ended by itself meanwhile, and was remembered then
            ended = attempt.wait()
            attempt.end()
            await ended
        elif not entry.failed:
            self._remember(entry, None, FtxError("cancelled", "cancelled here; nothing was published"))
        return shown

    def has(self, job: str) -> bool:
        """Whether there is such an entry."""
        return job in self._entries

    async def pause(self, job: str, paused: bool) -> None:
        """Keep an entry back, or let it go on: what is under way ends, and can be resumed. FtxError `job-over`."""
        entry = self._entries[job]
        if entry.failed:
            hint = "ftx-client ctl queue remove takes it out"
            raise FtxError("job-over", f"job {job[:8]} has failed: {entry.why}", hint)
        changed = self._entries[job] = msgspec.structs.replace(entry, paused=paused, not_before=0.0)
        try:
            await self._save()
        except FtxError:
            if self._entries.get(job) is changed:
                self._entries[job] = entry
            self._look()
            raise
        attempt = self._running.get(job)
        if paused and attempt is not None:
            ended = attempt.wait()
            attempt.end()
            await ended
        self._look()

    def jobs(self) -> Sequence[JobInfo]:
        """The entries as jobs, those that are over first."""
        waiting = (
            job_info(entry, self._state(entry), self._running.get(job)) for job, entry in self._entries.items()
        )
        return [*self._finished, *waiting]

    @property
    def counts(self) -> tuple[int, int]:
        """How many are tried at the moment, and how many wait."""
        waiting = sum(not entry.failed and job not in self._running for job, entry in self._entries.items())
        return len(self._running), waiting

    # -- for the daemon ------------------------------------------------------------------------------------

    def _state(self, entry: Queued) -> JobState:
        if entry.job in self._running:
            return "active"
        return "failed" if entry.failed else "waiting"

    def peer_seen(self, name: str) -> None:
        """A paired peer has signed in here: what waits for it need not wait any longer."""
        for job, entry in self._entries.items():
            if entry.target.partition(":")[0] != name:
                continue
            if job in self._running:
                self._seen.add(job)
            else:
                self._entries[job] = self._urge(entry)
        self._look()

    def _urge(self, entry: Queued) -> Queued:
        """Its peer has shown itself: what could not reach it before need not wait any longer.

        That is done once in so many seconds, or two daemons that have something for each other would never rest.
        """
        if not (entry.not_before and unreached(entry.error)):
            return entry
        now = self._reactor.seconds()
        wait = self._urged.get(entry.job, float("-inf")) + limits.QUEUE_FIRST - now
        if wait > 0:
            return msgspec.structs.replace(entry, not_before=min(entry.not_before, self._wall() + wait))
        self._urged[entry.job] = now
        return msgspec.structs.replace(entry, not_before=0.0)

    def drain(self) -> Deferred[None]:
        """Begin nothing more; fires when nothing is under way."""
        self.close()
        return self._idle.wait()

    async def stop(self) -> None:
        """End what is under way; it stays in the queue."""
        idle = self.drain()
        for attempt in list(self._running.values()):
            attempt.end()
        await idle

    def close(self) -> None:
        """Begin nothing more, and count nothing against an entry: what ends now was ended."""
        self._closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    # -- attempts ------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Begin what is due, and come back when something else is."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._closed or self._unusable is not None:
            return
        now = self._wall()
        entries = list(self._entries.values())
        began = [self._begin(entry) for entry in due(entries, self._running, now)]
        if not all(began):
            self._put_soon()
        later = [entry.not_before - now for entry in self._entries.values() if not entry.failed and not entry.paused]
        later = [seconds for seconds in later if seconds > 0]
        if later:  # the clock on the wall may be set: look again before long in any case
            self._timer = self._reactor.callLater(min(*later, limits.QUEUE_MOST), self._look)

    def _begin(self, entry: Queued) -> bool:
        """Whether an attempt has begun: else there is no process for it, and the entry waits."""
        self._seen.discard(entry.job)
        words = [*self._command, *limited(entry.options, self._outgoing()), f"--to={entry.target}", "--"]
        command = [os.fsencode(word) for word in words] + [base64.b64decode(path) for path in entry.sources]
        attempt = Attempt(self._reactor, entry, command, self._stream.publish)
        try:
            ended = attempt.run(self._environ)
        except OSError as error:
            reason = (error.strerror or "error").lower()
            self._again(entry, None, "internal", f"no process can be started: {reason}", failed=False)
            return False
        self._running[entry.job] = attempt
        ended.addCallback(lambda _: Deferred.fromCoroutine(self._ended(attempt)))
        ended.addErrback(lambda failure: _log.failure("the queue failed", failure=failure))
        return True

    async def _ended(self, attempt: Attempt) -> None:
        """An attempt is over, and its process gone."""
        job = attempt.entry.job
        del self._running[job]
        entry, error = self._entries.get(job), attempt.error
        came_to = verdict(attempt.code, "" if error is None else error.name)
        if came_to == "done":
            self._entries.pop(job, None)
            self._urged.pop(job, None)
            self.sent += 1
            self._remember(attempt.entry, attempt, None)
        elif entry is None:
            self._remember(attempt.entry, attempt, FtxError("cancelled", f"cancelled here; {attempt.kept}"))
        elif not (self._closed or entry.paused):
            if error is None:
                why = f"the attempt ended with exit code {attempt.code} and no reason"
                self._again(entry, attempt, "internal", why, failed=came_to == "failed")
            else:
                self._again(entry, attempt, error.name, error.message, failed=came_to == "failed")
        self._seen.discard(job)
        await self._put()
        self._look()
        self._idle.look()

    def _again(self, entry: Queued, attempt: Attempt | None, error: str, why: str, *, failed: bool) -> None:
        """Note what an attempt came to; unless it `failed` for good, there will be another."""
        attempts = entry.attempts + 1
        seconds, why = wait_after(attempts), show(why, limits.QUEUE_WHY)
        entry = msgspec.structs.replace(
            entry, attempts=attempts, not_before=self._wall() + seconds, error=error, why=why, failed=failed
        )
        if entry.job in self._seen and not failed:
            entry = self._urge(entry)
        seconds = max(entry.not_before - self._wall(), 0.0)
        self._entries[entry.job] = entry
        info = error_info(entry)
        if info is None:
            return
        target, peer = show(entry.target), peer_info(entry, attempt)
        if failed:
            self.failed += 1
            self.errors[error] = self.errors.get(error, 0) + 1
            files, content = (None, None) if attempt is None else attempt.stored
            self._stream.publish(
                events.Failed(
                    job=entry.job,
                    peer=peer,
                    error=info,
                    exit=kind(error).exit_code,
                    resumable=False,
                    files_stored=files,
                    bytes_stored=content,
                    direction="out",
                )
            )
            _log.warn("job {job} to {target} has failed: {why}", job=entry.job, target=target, why=show(why))
        else:
            self._stream.publish(
                events.Retry(job=entry.job, peer=peer, attempt=attempts, delay_s=seconds, error=info)
            )
            if attempts == 1:  # the next ones are no news
                _log.info("job {job} to {target} waits: {why}", job=entry.job, target=target, why=show(why))

    def _remember(self, entry: Queued, attempt: Attempt | None, error: FtxError | None) -> None:
        """An entry has left the queue: tell of it, and keep it among the last jobs."""
        state: JobState = "done" if error is None else "failed"
        peer = peer_info(entry, attempt)
        if attempt is not None and error is None and attempt.done is not None:
            self._stream.publish(msgspec.structs.replace(attempt.done, direction="out"))
        info = None if error is None else events.error_info(error.as_value())
        if error is not None and info is not None:
            files, content = (0, 0) if attempt is None else attempt.stored
            self._stream.publish(
                events.Failed(
                    job=entry.job,
                    peer=peer,
                    error=info,
                    exit=error.exit_code,
                    resumable=True,
                    files_stored=files,
                    bytes_stored=content,
                    direction="out",
                )
            )
        said = "sent" if error is None else error.message
        _log.info("job {job} to {target}: {said}", job=entry.job, target=show(entry.target), said=show(said))
        shown = job_info(entry, self._state(entry), attempt)
        self._finished.append(
            msgspec.structs.replace(
                shown, state=state, peer=peer, error=info, rate=None, paused="", ended=events.iso_time(self._wall())
            )
        )

    # -- the file ------------------------------------------------------------------------------------------

    async def _save(self, room: int = 0) -> None:
        """Put the entries on disk as they are now."""
        entries = list(self._entries.values())
        await self._strand.run(self._file.save, entries, room)

    async def _put(self) -> None:
        """The same where nobody is told whether it can be done, but by the log."""
        try:
            await self._save()
        except FtxError as trouble:
            _log.error("the queue is not on disk as it is: {reason}", reason=trouble.message)

    def _put_soon(self) -> None:
        """The same, and nobody waits."""
        saved = Deferred.fromCoroutine(self._put())
        saved.addErrback(lambda failure: _log.failure("the queue failed", failure=failure))
