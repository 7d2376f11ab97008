"""Opening lanes: the client of a job connects again, as often as that is of use (`docs/protocol.md`, section 20).

Lanes are a convenience: one that cannot be had is gone without. What is done here ends with `stop()`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ftx import limits
from ftx.core.lanes import FEATURE, lanes_for
from ftx.errors import FtxError, ProtocolError
from ftx.net.bundle import Bundle
from ftx.net.dial import Dialled
from ftx.net.parties import Talk
from ftx.net.transfer import Connection
from ftx.wire.messages import Join, Joined, Message, Ping, Refuse

__all__ = ["Lanes"]

_log = Logger()


class _Joining(Talk):
    """What runs on a connection that is to be a lane, until the server has said whether it is (`parties.Job`)."""

    def __init__(self, connection: Connection, bundle: Bundle, job: bytes, number: int, up: bool) -> None:
        self.done: Deferred[None] = Deferred(lambda _: connection.abort(FtxError("interrupted")))
        self._connection = connection
        self._bundle = bundle
        self._number = number
        self._expected = Joined(job, up)
        proof = bundle.proof(job, number)  # first: when there is none nobody waits for `done`
        connection.job = self
        connection.send(Join(job, number, proof))

    def message(self, message: Message) -> None:
        """It is one, with content behind it perhaps; or not."""
        if isinstance(message, Refuse):
            self._connection.job = None
            self.lost(FtxError("busy", "the peer takes no further connection for this job"))
        elif message == self._expected:
            self._bundle.take(self._number, self._connection)
            self._settle(None)
        else:
            raise ProtocolError("protocol-error", "an answer came to something that was not asked")

    def lost(self, error: FtxError) -> None:
        """It will be none."""
        self._settle(error)

    def _settle(self, error: FtxError | None) -> None:
        if not self.done.called:
            if error is None:
                self.done.callback(None)
            else:
                self.done.errback(error)


class Lanes:
    """The lanes of one attempt at a job, from its client's end.

    Made before the job is offered, so that no content is in the way when the round trip is measured. `bundle` is the
    job's; `up` says whether we send. `dial` makes one more connection to where the job's own leads,
    proved to be the same peer. `wanted` is how many lanes were asked for, None to choose by the round trip and the
    `processors` of this machine. `before` are those of the attempt before, if there was one.
    """

    def __init__(
        self,
        bundle: Bundle,
        job: bytes,
        dial: Callable[[], Awaitable[Dialled]],
        *,
        up: bool,
        wanted: int | None,
        processors: int,
        before: Lanes | None = None,
    ) -> None:
        self._bundle = bundle
        self._most = limits.LANES if before is None else before._most_next
        self._joined_at = 0.0
        self._job = job
        self._dial = dial
        self._up = up
        self._wanted = wanted
        self._processors = processors
        self._decided = False
        self._opening: set[Deferred[None]] = set()
        if wanted is None and self._possible:
            bundle.own.send(Ping(0))  # the hello's answer, which is timed too, took a look at the peers there

    @property
    def _possible(self) -> bool:
        return not self._bundle.own.over and FEATURE in self._bundle.own.session.features

    @property
    def _most_next(self) -> int:
        """How many another attempt opens at most. Where lanes do not live, a job would be lost with each of them."""
        if not len(self._bundle):
            return self._most
        soon = self._bundle.own.clock.seconds() - self._joined_at < limits.LANE_TRIAL
        return self._most // 2 if soon else limits.LANES

    def consider(self, content: int) -> None:
        """The job runs, and so much content is to travel: open what is of use. Only the first call counts."""
        if self._decided or self._bundle.own.over:
            return
        self._decided = True
        count = self._wanted
        if not self._possible:
            if count:
                _log.info("goes on with one connection: the peer is older, and knows no others for a job")
            return
        why = ""
        if count is None:
            took = self._bundle.own.session.round_trip
            count = lanes_for(took, self._processors, content)
            why = f", for a round trip takes {(took or 0.0) * 1000:.0f} ms"
        count = min(count, self._most)
        if count > 0:
            _log.info("takes up to {count} connections for the content{why}", count=count + 1, why=why)
        for number in range(1, count + 1):
            opening = Deferred.fromCoroutine(self._open(number))
            self._opening.add(opening)
            opening.addBoth(self._opened, opening)

    async def _open(self, number: int) -> None:
        dialled = await self._dial()
        connection = dialled.connection
        joined = False
        try:
            if self._bundle.own.over or connection.over or FEATURE not in connection.session.features:
                return
            self._bundle.job.lanes_joined()
            await _Joining(connection, self._bundle, self._job, number, self._up).done
            joined = True
            self._joined_at = connection.clock.seconds()
        finally:
            if not joined:
                connection.finish()

    def _opened(self, outcome: object, opening: Deferred[None]) -> None:
        self._opening.discard(opening)
        if isinstance(outcome, Failure) and not outcome.check(CancelledError):
            if outcome.check(FtxError) is None:
                _log.failure("a lane could not be opened, in an unforeseen way", failure=outcome)
            else:
                _log.info("goes on with fewer connections: {reason}", reason=outcome.getErrorMessage())

    def stop(self) -> None:
        """Open no more; the job is over."""
        self._decided = True
        for opening in list(self._opening):
            opening.cancel()
