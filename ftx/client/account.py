"""What a client says of its job, whichever way the files go: an event per entry, progress, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from ftx import limits
from ftx.client.attempts import Attempts
from ftx.core.events import Resolved, There
from ftx.core.progress import Meter
from ftx.core.receipt import Counts
from ftx.errors import Error, FtxError
from ftx.wire import events
from ftx.wire.messages import ReceiptBody

__all__ = ["Account", "Totals"]


class Totals(Protocol):
    """What there is in all."""

    @property
    def files(self) -> int:
        """How many files."""

    @property
    def bytes(self) -> int:
        """Their content."""


class Account:
    """The events of the job `job` (hex) and the sums behind its exit code; `on_event` gets each event.

    Unless `every_file` is wanted, files have none that are where they were asked to be below `into`, or were skipped.
    """

    def __init__(
        self,
        clock: IReactorTime,
        job: str,
        attempts: Attempts,
        on_event: Callable[[events.Event], object],
        *,
        into: tuple[bytes, ...] = (),
        every_file: bool = True,
    ) -> None:
        self.job = job
        #: Gives every event away.
        self.emit = on_event
        #: What was left out and is no entry: things that are skipped, and things that have failed.
        self.skipped = 0
        self.problems = 0
        self._clock = clock
        self._began = clock.seconds()
        self._attempts = attempts
        self._into = into
        self._every_file = every_file
        self._reasons: set[str] = set()
        self._meter = Meter()
        self._said: tuple[object, ...] = ()
        self._said_at = float("-inf")

    def begin_anew(self) -> None:
        """Another attempt: all entries will be told of once more."""
        self.skipped = self.problems = 0
        self._reasons = set()

    def resolved(self, entry: Resolved, error: Error | None) -> None:
        """An entry has its result, `error` if it failed. Of folders only failures are told."""
        if error is not None:
            self._reasons.add(error.name)
        elif entry.folder or not (self._every_file or self._remarkable(entry)):
            return
        self._file(entry.path, entry.status, error, entry.size, entry.digest, entry.stored_as)

    def _remarkable(self, entry: Resolved) -> bool:
        """Whether a person would be told who did not ask for every file."""
        there = entry.stored_as
        return entry.status == "wanted" or (there is not None and there != self._asked(entry.path))

    def _asked(self, path: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return (*self._into, *path) if self._into else path

    def there(self, run: There) -> None:
        """Files are there now: the same as `resolved()` of each."""
        into = self._into
        if self._every_file or any([there != ((*into, *path) if into else path) for _, _, path, there in run.files]):
            for entry in run.each():
                self.resolved(entry, None)

    def left_out(self, path: tuple[bytes, ...], error: Error) -> None:
        """Something is no entry for this reason. Links and devices are skipped, anything else has failed."""
        if error.name == "special-file":
            self.skipped += 1
            self._file(path, "skipped", error)
        else:
            self.problems += 1
            self._reasons.add(error.name)
            self._file(path, "failed", error)

    def _file(
        self,
        path: tuple[bytes, ...],
        status: str,
        error: Error | None,
        size: int | None = None,
        digest: bytes | None = None,
        stored_as: tuple[bytes, ...] | None = None,
    ) -> None:
        self.emit(
            events.file_event(
                path,
                job=self.job,
                peer=self._attempts.peer,
                status=status,
                size=size,
                digest=digest,
                stored_as=stored_as,
                error=error,
            )
        )

    def progress(
        self,
        stage: str,
        *,
        confirmed: int,
        durable: int,
        sent: int,
        present: int,
        counts: Counts,
        totals: Totals | None,
        until: float | None = None,
    ) -> None:
        """Where the job stands: told when that has changed, and once a second in any case.

        Bytes: verified, on the receiver's disk, sent in all attempts, and verified without having travelled. `until` is
        a moment on the clock that is waited for, and stands in the place of the time left.
        """
        now, away = self._clock.seconds(), self._attempts.away
        total = None if totals is None else totals.bytes
        self._meter.feed(now, confirmed, total, present)
        figures = (stage, confirmed, durable, sent, counts.files, counts.failed)
        if figures == self._said and now - self._said_at < limits.PROGRESS_SLOWEST:
            return
        self._said, self._said_at = figures, now
        left = self._meter.eta_s if until is None else max(until - now, 0.0)
        self.emit(
            events.Progress(
                job=self.job,
                peer=self._attempts.peer,
                stage=stage,
                bytes_confirmed=confirmed,
                bytes_durable=durable,
                bytes_sent=sent,
                bytes_total=total,
                files_done=counts.files + counts.skipped + counts.failed,
                files_total=None if totals is None else totals.files,
                rate=None if away else self._meter.rate,
                eta_s=None if away else left,
            )
        )

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return self._clock.seconds() - self._began

    def exit_code(self, counts: Counts | ReceiptBody) -> int:
        """Of a job that came to its end: 0, or that of `partial`, or of the only reason when nothing else happened."""
        if not counts.failed and not self.problems:
            return 0
        alone = not counts.files and not counts.skipped and len(self._reasons) == 1
        return FtxError(next(iter(self._reasons)) if alone else "partial").exit_code

    def failed(
        self, error: FtxError, info: events.ErrorInfo, *, resumable: bool = True, files: int = 0, content: int = 0
    ) -> events.Failed:
        """Tell that the job ended with `error`, shown as `info`; `files` with that much `content` are kept there.

        Whether the same command goes on with it follows from the error, unless the job is not `resumable` at all.
        """
        code, peer = error.exit_code, self._attempts.peer
        resumable = resumable and (code in (4, 130, 143) or error.name in ("no-space", "busy", "cancelled"))
        if code == 6:
            self.emit(events.Refused(job=self.job, peer=peer, error=info))
        event = events.Failed(
            job=self.job,
            peer=peer,
            error=info,
            exit=code,
            resumable=resumable,
            files_stored=files,
            bytes_stored=content,
        )
        self.emit(event)
        return event
