"""Limits at work: buckets that several connections share, and what one connection asks before bytes pass.

A `Limit` is one bucket with a clock: the daemon's, a peer's, a job's, each for one direction. A `Throttle` is the chain
of those that count for one direction of one connection: bytes pass when all of them let them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ftx.core.bucket import Bucket

__all__ = ["Limit", "Throttle"]

#: Seconds by which a wait is longer at most, by chance: of several that wait for one bucket, each comes first at times.
_SCATTER: Final = 0.01


@attrs.define(eq=False)
class Limit:
    """A rate that may be changed at any time, in bytes per second; 0 for none."""

    clock: IReactorTime
    _bucket: Bucket = attrs.field(factory=Bucket, init=False)
    _throttles: set[Throttle] = attrs.field(factory=set, init=False)

    @property
    def rate(self) -> int:
        """The rate in force."""
        return self._bucket.rate

    def change(self, rate: int) -> None:
        """From now on this rate, also for what waits."""
        if rate != self.rate:
            self._bucket = self._bucket.with_rate(rate, self.clock.seconds())
            for throttle in list(self._throttles):
                throttle.changed()


@attrs.define(eq=False)
class Throttle:
    """One direction of one connection under `limits`. Its owner calls `close()` in the end."""

    clock: IReactorTime
    limits: Sequence[Limit]
    _again: Callable[[], None] | None = attrs.field(default=None, init=False)
    _timer: IDelayedCall | None = attrs.field(default=None, init=False)
    _closed: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        for limit in self.limits:
            limit._throttles.add(self)

    @property
    def limited(self) -> bool:
        """Whether there is a rate at all."""
        return any(limit.rate for limit in self.limits)

    def portion(self, most: int) -> int:
        """How many bytes should pass at once: `most`, or fewer under a limit."""
        return min((limit._bucket.portion() for limit in self.limits if limit.rate), default=most)

    def passes(self, again: Callable[[], None]) -> bool:
        """Whether bytes may pass now. If not, `again` is called once, when they may."""
        if self._closed:
            return True
        now = self.clock.seconds()
        wait = max((limit._bucket.wait(now) for limit in self.limits), default=0.0)
        if wait <= 0.0:
            return True
        self._again = again
        if self._timer is None:
            self._timer = self.clock.callLater(wait + random.uniform(0, _SCATTER), self._fire)
        return False

    def passed(self, count: int) -> None:
        """`count` bytes have passed."""
        now = self.clock.seconds()
        for limit in self.limits:
            limit._bucket = limit._bucket.take(count, now)

    def changed(self) -> None:
        """A rate is another one: whoever waits asks again."""
        if self._timer is not None:
            self._timer.cancel()
            self._fire()

    def close(self) -> None:
        """Hold nothing up any more; what waits is let go."""
        if self._closed:
            return
        self._closed = True
        for limit in self.limits:
            limit._throttles.discard(self)
        self.changed()

    def _fire(self) -> None:
        self._timer = None
        again, self._again = self._again, None
        if again is not None:
            again()
