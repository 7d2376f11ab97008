"""Progress as numbers: a smoothed rate and the time left, from what the receiver confirmed.

Two averages run side by side, as in Tailscale's file transfer: one with a half-life of a second is lively enough to
be shown as the rate, one of ten seconds is calm enough to divide by for the time left. Both are exponential averages
over *time*, not over samples, so uneven feeding does not distort them, and both are corrected for their start, so
the first second does not read low.

Bytes that were there before (resumed blocks, identical files) count as confirmed but never as speed.
"""

from __future__ import annotations

import math

from ftx.limits import ETA_HALF_LIFE, ETA_LONGEST, RATE_HALF_LIFE

__all__ = ["Meter"]


class _Average:
    """An exponential average of a rate with a half-life in seconds, corrected for its start."""

    __slots__ = ("_half_life", "_sum", "_weight")

    def __init__(self, half_life: float) -> None:
        self._half_life = half_life
        self._sum = 0.0
        self._weight = 0.0

    def add(self, amount: float, seconds: float) -> None:
        """`amount` passed within the last `seconds` (above 0)."""
        keep = 0.5 ** (seconds / self._half_life)
        self._sum = self._sum * keep + (amount / seconds) * (1.0 - keep)
        self._weight = self._weight * keep + (1.0 - keep)

    @property
    def value(self) -> float | None:
        """Per second; None before the first amount."""
        return self._sum / self._weight if self._weight > 0.0 else None


class Meter:
    """The rate and the time left of one job.

    Feed it whenever the numbers may have changed, and at least once a second while nothing does: a rate only falls
    when it is told that time passed.
    """

    __slots__ = ("_calm", "_confirmed", "_last", "_lively", "_moved", "_pending", "_total")

    #: Intervals shorter than this many seconds are gathered into one: two readings of a clock may be equal.
    SHORTEST = 0.001

    def __init__(self) -> None:
        self._lively = _Average(RATE_HALF_LIFE)
        self._calm = _Average(ETA_HALF_LIFE)
        self._last: float | None = None
        self._moved = 0
        self._pending = 0
        self._confirmed = 0
        self._total: int | None = None

    def feed(self, now: float, confirmed: int, total: int | None = None, present: int = 0) -> None:
        """Take a reading.

        `now` is in seconds on a clock that does not go back (a reading that does is counted when time goes on).
        `confirmed` is how many bytes the receiver has verified, `total` how many there will be (None: not known
        yet), and `present` how many of the confirmed ones were there already and did not travel. The first
        reading is the starting point: what it reports as confirmed is no speed either.
        """
        moved = max(confirmed - present, 0)
        self._confirmed = confirmed
        self._total = total
        if self._last is None:
            self._last = now
            self._moved = moved
            return
        self._pending += max(moved - self._moved, 0)
        self._moved = moved
        seconds = now - self._last
        if seconds < self.SHORTEST:
            return
        self._lively.add(self._pending, seconds)
        self._calm.add(self._pending, seconds)
        self._pending = 0
        self._last = now

    @property
    def rate(self) -> float | None:
        """Bytes per second, never negative; None before two readings some time apart."""
        return self._lively.value

    @property
    def eta_s(self) -> float | None:
        """Seconds left, 0 when all is confirmed; None while the total or the rate is unknown, or nothing moves."""
        if self._total is None:
            return None
        left = self._total - self._confirmed
        if left <= 0:
            return 0.0
        rate = self._calm.value
        if not rate:
            return None
        seconds = left / rate
        return seconds if math.isfinite(seconds) and seconds <= ETA_LONGEST else None
