"""Rates: a smooth token bucket, and timetables of rates, as values. Time comes in as a number.

A bucket is asked before something passes (`wait`) and told afterwards how much did (`take`): what passed is a debt that
is paid off at the rate. A little credit, of at most `limits.RATE_CREDIT` seconds, makes up for timers that fire late,
so that the average is the rate; nothing is saved up beyond it, so that no second gets much more.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from ftx import limits
from ftx.text import parse_size

__all__ = ["Bucket", "Timetable", "parse_rate", "parse_timetable"]

_CLOCK: Final = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_DAY: Final = 86_400
#: Seconds that are not worth waiting: what a subtraction of two readings of a clock leaves.
_MOMENT: Final = 1e-6


@attrs.frozen
class Bucket:
    """What may pass: `rate` bytes per second, 0 for all. `debt` is in bytes, as of second `at`; negative: credit."""

    rate: int = 0
    debt: float = 0.0
    at: float = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next bytes may pass, 0 when they may now."""
        wait = self._debt(now) / self.rate if self.rate else 0.0
        return wait if wait > _MOMENT else 0.0

    def take(self, count: int, now: float) -> Bucket:
        """The bucket after `count` bytes have passed."""
        return Bucket(self.rate, self._debt(now) + count, now) if self.rate else self

    def with_rate(self, rate: int, now: float) -> Bucket:
        """The same from now on with another rate. A debt is forgiven when there is no rate to pay it off with."""
        debt = self._debt(now) if self.rate and rate else 0.0
        return Bucket(rate, max(debt, -rate * limits.RATE_CREDIT), now)

    def portion(self) -> int:
        """How many bytes should pass at once at most, so that all goes smoothly."""
        return max(int(self.rate * limits.RATE_PORTION), limits.RATE_PORTION_LEAST)

    def _debt(self, now: float) -> float:
        return max(self.debt - (now - self.at) * self.rate, -self.rate * limits.RATE_CREDIT)


@attrs.frozen
class Timetable:
    """Rates over the day: pairs of the second of the day at which each begins, rising, and the rate. Never empty."""

    steps: tuple[tuple[int, int], ...] = ((0, 0),)

    def rate_at(self, second: int) -> int:
        """The rate in force at this second of the day: that of the latest step, which may be yesterday's last."""
        past = [rate for start, rate in self.steps if start <= second % _DAY]
        return past[-1] if past else self.steps[-1][1]


def parse_rate(text: str) -> int:
    """Bytes per second as a person writes it: `20M`, `512Ki`, `0` for no limit. ValueError, a sentence, otherwise."""
    rate = parse_size(text.strip().removesuffix("/s"))
    if 0 < rate < limits.RATE_LEAST:
        raise ValueError(f"a rate is 0 or at least {limits.RATE_LEAST:,} bytes per second")
    return rate


def parse_timetable(text: str) -> Timetable:
    """One rate for all day, or `08:00 2M, 19:00 0`: rates by the time at which they begin. ValueError otherwise."""
    steps: dict[int, int] = {}
    parts = [part.split() for part in text.split(",")]
    if len(parts) == 1 and len(parts[0]) == 1:
        return Timetable(((0, parse_rate(parts[0][0])),))
    for part in parts:
        clock = _CLOCK.fullmatch(part[0]) if len(part) == 2 else None
        if clock is None:
            raise ValueError('a rate such as 20M, or a timetable such as "08:00 2M, 19:00 0"')
        start = int(clock[1]) * 3600 + int(clock[2]) * 60
        if start in steps:
            raise ValueError(f"{part[0]} is in the timetable twice")
        steps[start] = parse_rate(part[1])
    return Timetable(tuple(sorted(steps.items())))
