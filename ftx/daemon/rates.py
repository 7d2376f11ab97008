"""The rate limits of a daemon: its own, those of peers and of jobs, each in both directions, changed while it runs.

A job counts against all that concern it. A limit that nobody has set is a bucket without a rate, which holds nothing
up; so a limit can come into force in the middle of a job. The daemon's own may follow a timetable: what is set by hand
counts until its next step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import localtime
from typing import Any

import attrs

from ftx.core.bucket import Timetable
from ftx.core.trust import Trusted
from ftx.daemon.view import ScopedLimits
from ftx.errors import FtxError
from ftx.net.throttle import Limit
from ftx.text import show

__all__ = ["Rates"]


@attrs.define(eq=False)
class _Pair:
    """Both directions of one scope."""

    incoming: Limit
    outgoing: Limit

    @property
    def set(self) -> bool:
        return bool(self.incoming.rate or self.outgoing.rate)


def _second_of_day(wall: float) -> int:
    now = localtime(wall)
    return now.tm_hour * 3600 + now.tm_min * 60 + now.tm_sec


class Rates:
    """All limits of one daemon. Scopes are `daemon`, `peer:NAME` and `job:ID`."""

    def __init__(self, clock: Any, wall: Callable[[], float]) -> None:
        """`wall` is the time since the epoch, for timetables, which speak of the local time of day."""
        self._clock = clock
        self._wall = wall
        self._daemon = self._pair()
        self._peers: dict[str, _Pair] = {}
        self._jobs: dict[str, _Pair] = {}
        self._tables = (Timetable(), Timetable())
        #: The rates that the timetables asked for last.
        self._asked: list[int | None] = [None, None]

    # -- for the jobs --------------------------------------------------------------------------------------

    def begin(self, trusted: Trusted, job: str | None) -> tuple[Sequence[Limit], Sequence[Limit]]:
        """A job of this peer begins: the limits that count for what comes, and for what goes.

        A stranger's name is its own choice, so it shares the limit of no peer. What has no limit of its own, such as a
        probe, is None: its number is the peer's choice, and must not be that of a job.
        """
        pairs = [self._daemon]
        if job is not None:
            pairs.append(self._jobs.setdefault(job, self._pair()))
        if trusted.known:
            pairs.append(self._peers.setdefault(trusted.name, self._pair()))
        return [pair.incoming for pair in pairs], [pair.outgoing for pair in pairs]

    def end(self, job: str) -> None:
        """A job has ended, and its own limit with it."""
        self._jobs.pop(job, None)

    # -- for the control socket ----------------------------------------------------------------------------

    @property
    def daemon(self) -> tuple[int, int]:
        """The daemon's own limits in force: of what comes, of what goes."""
        return self._daemon.incoming.rate, self._daemon.outgoing.rate

    def list(self) -> Sequence[ScopedLimits]:
        """The daemon's own limits, and all others that are set."""
        scopes = [("daemon", self._daemon)]
        scopes += [(f"peer:{name}", pair) for name, pair in sorted(self._peers.items()) if pair.set]
        scopes += [(f"job:{job}", pair) for job, pair in self._jobs.items() if pair.set]
        return [ScopedLimits(scope, pair.incoming.rate, pair.outgoing.rate) for scope, pair in scopes]

    def change(self, scope: str, rate_in: int | None, rate_out: int | None) -> ScopedLimits:
        """Set the limits of a scope, None for no change; at once, also for what runs. FtxError `no-such-job`.

        That a peer is known is for the caller to make sure.
        """
        kind, _, name = scope.partition(":")
        if kind == "job":
            pair = self._jobs.get(name)
            if pair is None:
                raise FtxError("no-such-job", f"no job {show(name, 64)} is running")
        elif kind == "peer":
            pair = self._peers.setdefault(name, self._pair())
        else:
            pair = self._daemon
        for limit, rate in ((pair.incoming, rate_in), (pair.outgoing, rate_out)):
            if rate is not None:
                limit.change(rate)
        return ScopedLimits(scope, pair.incoming.rate, pair.outgoing.rate)

    # -- for the service -----------------------------------------------------------------------------------

    def follow(self, incoming: Timetable, outgoing: Timetable) -> None:
        """These timetables hold for the daemon from now on."""
        if (incoming, outgoing) != self._tables:
            self._tables = (incoming, outgoing)
            self._asked = [None, None]
        self.look()

    def look(self) -> None:
        """Apply what the timetables say now, where that has changed."""
        second = _second_of_day(self._wall())
        for place, limit in enumerate((self._daemon.incoming, self._daemon.outgoing)):
            rate = self._tables[place].rate_at(second)
            if rate != self._asked[place]:
                self._asked[place] = rate
                limit.change(rate)

    def _pair(self) -> _Pair:
        return _Pair(Limit(self._clock), Limit(self._clock))
