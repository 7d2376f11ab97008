"""What a daemon tells of its jobs, whichever way they go: events, lines of the log, and rows for `ftx-client ctl jobs`.

The jobs themselves are in `ftx.daemon.jobs` and `ftx.daemon.serving`; each tells here what happens to one, and gives a
function for its figures, so that both directions are told of in the same words.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ftx import limits
from ftx.core.events import Resolved
from ftx.core.identity import format_id
from ftx.core.progress import Meter
from ftx.core.receipt import Counts
from ftx.core.trust import Trusted
from ftx.daemon.events import EventStream
from ftx.daemon.view import JobInfo, JobState
from ftx.daemon.words import job_result
from ftx.errors import Error, FtxError, kind, kind_by_number
from ftx.net.idle import Idle
from ftx.net.transfer import Connection
from ftx.text import kept, show
from ftx.wire import events

__all__ = ["PAUSED", "Figures", "Reported", "Reports", "peer_info"]

_log = Logger()


def peer_info(connection: Connection, trusted: Trusted) -> events.PeerInfo:
    """The peer on `connection`, for events and rows."""
    peer = connection.transport.getPeer()  # type: ignore[union-attr]
    return events.PeerInfo(
        trusted.name, format_id(trusted.id), str(getattr(peer, "host", "")), int(getattr(peer, "port", 0))
    )


#: (by us, by the peer) in the words of `JobInfo.paused`.
PAUSED: Final = {(False, False): "", (True, False): "here", (False, True): "peer", (True, True): "both"}


@attrs.frozen
class Figures:
    """How far a job is. Sizes are in bytes of content."""

    #: What there is in all, None as long as nobody knows.
    files: int | None
    bytes: int | None
    verified: int
    durable: int
    #: What has come or gone over the wire, compressed where it is.
    wire: int
    #: What was there already.
    present: int
    counts: Counts
    #: Who has paused it: `here`, `peer`, `both`, or empty for nobody.
    paused: str = ""
    #: Of a job that was cancelled: files, and their content, that the receiver said it keeps, where it has said so.
    kept: tuple[int, int] | None = None

    @property
    def stays(self) -> tuple[int, int]:
        """Files, and their content, that are at the receiver, whole, whatever becomes of the job."""
        return self.kept or (self.counts.files, self.counts.bytes)


@attrs.define(eq=False)
class Reported:
    """One job, as it is told of."""

    hex: str
    trusted: Trusted
    peer: events.PeerInfo
    #: What is sent, or where it goes, for people.
    path: str
    figures: Callable[[], Figures]
    #: On the clock of the reactor.
    began: float = 0.0
    #: The same as ISO 8601 in UTC.
    started: str = ""
    meter: Meter = attrs.field(factory=Meter)
    #: Files that are here under another name than the sender's.
    renamed: int = 0
    #: Nothing is stored: it is only asked what would be.
    dry: bool = False


class Reports:
    """The jobs of one daemon in one direction. `stream` is where events go; it is set before the first connection."""

    def __init__(self, reactor: Any, direction: Literal["in", "out"], wall: Callable[[], float]) -> None:
        self.stream: EventStream | None = None
        #: Content bytes over the wire, of jobs that have ended.
        self.wire = 0
        self.done = 0
        self.partial = 0
        self.failed = 0
        #: How many jobs ended for each reason; the reasons are rows of one table, so this is bounded.
        self.errors: dict[str, int] = {}
        self._reactor = reactor
        self._direction = direction
        self._wall = wall
        self._running: list[Reported] = []
        self._finished: deque[JobInfo] = deque(maxlen=limits.JOBS_REMEMBERED)
        self._idle = Idle(lambda: self._running)
        self._reporting = LoopingCall(self.report)
        self._reporting.clock = reactor

    @property
    def _incoming(self) -> bool:
        return self._direction == "in"

    @property
    def heard(self) -> bool:
        """Whether anybody listens."""
        return self.stream is not None and self.stream.subscribers > 0

    def publish(self, event: events.Event) -> None:
        """To whoever listens."""
        if self.stream is not None:
            self.stream.publish(event)

    # -- one job -------------------------------------------------------------------------------------------

    def begin(self, job: Reported) -> None:
        """It begins now; from here on it is reported."""
        job.began = self._reactor.seconds()
        job.started = events.iso_time(self._wall())
        self._running.append(job)
        if not self._reporting.running:
            self._reporting.start(limits.PROGRESS_FASTEST, now=False)

    def resolved(self, job: Reported, entry: Resolved) -> None:
        """An entry that is no folder has its result: an event, if anybody listens."""
        if not self.heard:
            return
        error = None
        if entry.error:
            row = kind_by_number(entry.error)
            error = Error(row.name, row.sentence, row.hint)
        self.publish(
            events.file_event(
                entry.path,
                job=job.hex,
                peer=job.peer,
                status=entry.status,
                size=entry.size,
                digest=entry.digest,
                stored_as=entry.stored_as if self._incoming else None,
                error=error,
                direction=self._direction,
            )
        )

    def end(self, job: Reported, error: FtxError | None) -> None:
        """It is over, and so is its disk work: with a receipt, or for a reason."""
        self._running.remove(job)
        figures = job.figures()
        self.wire += figures.wire
        if error is None:
            self._end_well(job, figures)
        else:
            error = self._end_badly(job, figures, error)
        state: JobState = "done" if error is None else "failed"
        self._finished.append(self._info(job, state, error, events.iso_time(self._wall())))
        if not self._running and self._reporting.running:
            self._reporting.stop()
        self._idle.look()

    def _end_well(self, job: Reported, figures: Figures) -> None:
        counts = figures.counts
        seconds = self._reactor.seconds() - job.began
        self.done += 1
        self.partial += counts.failed > 0
        self.publish(
            events.Done(
                job=job.hex,
                peer=job.peer,
                result="partial" if counts.failed else "ok",
                files=counts.files,
                directories=counts.folders,
                bytes=counts.bytes,
                bytes_wire=figures.wire,
                files_identical=counts.identical,
                files_skipped=counts.skipped,
                files_failed=counts.failed,
                seconds=seconds,
                receipt=None,
                exit=kind("partial").exit_code if counts.failed else 0,
                dry_run=job.dry,
                direction=self._direction,
            )
        )
        said = job_result(counts, job.renamed, seconds)
        way = "from" if self._incoming else "to"
        _log.info("job {job} {way} {peer}: {result}", job=job.hex, way=way, peer=show(job.peer.name), result=said)

    def _end_badly(self, job: Reported, figures: Figures, error: FtxError) -> FtxError:
        """Returns the error as it is shown: of a job that was cancelled, with what stays of it."""
        self.failed += 1
        self.errors[error.name] = self.errors.get(error.name, 0) + 1
        cancelled = error.name == "cancelled"
        files, content = figures.stays
        if cancelled:
            error = FtxError(error.name, f"{error.message}; {kept(files, content)}", error.hint)
        info = events.error_info(error.as_value())
        if info is not None:
            code = error.exit_code
            self.publish(
                events.Failed(
                    job=job.hex,
                    peer=job.peer,
                    error=info,
                    exit=code,
                    resumable=code == kind("connection-lost").exit_code or cancelled,
                    files_stored=files,
                    bytes_stored=content,
                    direction=self._direction,
                )
            )
        _log.info(
            "job {job} {way} {peer} ended: {reason}",
            job=job.hex,
            way="from" if self._incoming else "to",
            peer=show(job.peer.name),
            reason=show(error.message),
        )
        return error

    # -- all jobs ------------------------------------------------------------------------------------------

    def finished(self) -> list[JobInfo]:
        """The last ones that ended, oldest first."""
        return list(self._finished)

    def running(self) -> list[JobInfo]:
        """Those that run, oldest first."""
        return [self._info(job, "active") for job in self._running]

    def wire_so_far(self) -> int:
        """Content bytes over the wire since the start."""
        return self.wire + sum(job.figures().wire for job in self._running)

    def wait_idle(self) -> Deferred[None]:
        """Fires when none runs."""
        return self._idle.wait()

    def report(self) -> None:
        """Publish how far each job is; done by itself as long as one runs."""
        now = self._reactor.seconds()
        for job in self._running:
            figures = job.figures()
            job.meter.feed(now, figures.verified, figures.bytes, figures.present)
            counts = figures.counts
            self.publish(
                events.Progress(
                    job=job.hex,
                    peer=job.peer,
                    stage="paused" if figures.paused else "transferring",
                    bytes_confirmed=figures.verified,
                    bytes_durable=figures.durable,
                    bytes_sent=figures.wire,
                    bytes_total=figures.bytes,
                    files_done=counts.files + counts.skipped + counts.failed,
                    files_total=figures.files,
                    rate=None if figures.paused else job.meter.rate,
                    eta_s=None if figures.paused else job.meter.eta_s,
                )
            )

    def _info(
        self, job: Reported, state: JobState, error: FtxError | None = None, ended: str | None = None
    ) -> JobInfo:
        figures = job.figures()
        counts = figures.counts
        return JobInfo(
            job=job.hex,
            state=state,
            peer=job.peer,
            direction=self._direction,
            files=figures.files,
            bytes_total=figures.bytes,
            bytes_confirmed=figures.verified,
            bytes_durable=figures.durable,
            rate=job.meter.rate if state == "active" and not figures.paused else None,
            path=job.path,
            error=None if error is None else events.error_info(error.as_value()),
            files_done=counts.files + counts.skipped + counts.failed,
            files_failed=counts.failed,
            files_skipped=counts.skipped,
            dry_run=job.dry,
            files_stored=figures.stays[0],
            paused=figures.paused if state == "active" else "",
            started=job.started,
            ended=ended,
        )
