"""Disk work of one job that is under way: counted, with the content that waits for it, and followed to its end.

Both ends of a transfer need the same: run something in a strand, hand its outcome on in the reactor's thread unless the
job is over, turn what goes wrong into the end of the connection, and know when nothing is left running. Content that
waits for the disk is counted here, too: above `limits.RECEIVE_QUEUE` the connection stops reading, and TCP passes that
on to the sender.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ftx import limits
from ftx.errors import FtxError
from ftx.net.worker import Strand

__all__ = ["Backlog", "Job", "Way"]

_log = Logger()


class Job(Protocol):
    """Whose work it is."""

    @property
    def over(self) -> bool:
        """Whether outcomes are of no interest any more."""

    def settled(self) -> None:
        """A piece of work has ended, its outcome was handed on."""


class Way(Protocol):
    """How a job hears its peer: one connection, or a bundle of them."""

    def pause_reading(self, paused: bool) -> None:
        """Stop or go on reading."""

    def fail(self, error: FtxError) -> None:
        """End the session with a reason."""


class Backlog:
    """The disk work of `job`, whose content comes by `connection`."""

    def __init__(self, connection: Way, job: Job) -> None:
        self._connection = connection
        self._job = job
        self._working = 0
        self._held = 0
        self._reasons: set[str] = set()

    @property
    def empty(self) -> bool:
        """Whether nothing is under way."""
        return self._working == 0

    @property
    def held(self) -> int:
        """Bytes of content that wait for the disk."""
        return self._held

    def hold(self, size: int) -> None:
        """Content of `size` bytes waits for the disk; negative: no more."""
        self._held += size
        if self._held > limits.RECEIVE_QUEUE:
            self.stop_reading("held", True)
        elif self._held <= limits.RECEIVE_QUEUE // 2:
            self.stop_reading("held", False)

    def stop_reading(self, reason: str, stop: bool) -> None:
        """There is, or is no longer, this reason not to read. The connection reads while there is none."""
        before = bool(self._reasons)
        (self._reasons.add if stop else self._reasons.discard)(reason)
        if bool(self._reasons) != before:
            self._connection.pause_reading(not before)

    def expect(self) -> None:
        """Work will be given later; until `expected()` the backlog is not empty."""
        self._working += 1

    def expected(self) -> None:
        """It was given."""
        self._working -= 1
        self._job.settled()

    def run(
        self,
        strand: Strand,
        done: Callable[[Any], None],
        function: Callable[..., Any],
        *args: Any,
        failed: Callable[[FtxError], None] | None = None,
        release: int = 0,
    ) -> Deferred[None]:
        """Run `function(*args)` in `strand`; give its outcome to `done`, an FtxError to `failed`.

        Without `failed`, an error ends the connection. `release` held bytes are let go when it has run. A failure that
        is no FtxError is a bug: it is logged, and handed on as `storage-failed`. What `done` or `failed` raise ends the
        connection. Fires when all that has happened.
        """
        self._working += 1

        def settle(outcome: Any) -> None:
            self._working -= 1
            self.hold(-release)
            try:
                if isinstance(outcome, Failure):
                    error = self._error(outcome)
                    if not self._job.over:
                        (failed or self._connection.fail)(error)
                elif not self._job.over:
                    done(outcome)
            except FtxError as error:
                self._connection.fail(error)
            self._job.settled()

        return strand.run(function, *args).addBoth(settle)

    def _error(self, failure: Failure) -> FtxError:
        if isinstance(failure.value, FtxError):
            return failure.value
        _log.failure("a disk job failed in an unforeseen way", failure=failure)
        return FtxError("storage-failed")
