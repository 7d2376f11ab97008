"""Rates as values: what passes in any second and on average, changes, timetables, and how people write them."""

from __future__ import annotations

import random

import pytest

from ftx import limits
from ftx.core.bucket import Bucket, Timetable, parse_rate, parse_timetable


def passed(rate: int, seconds: float, late: float, seed: int = 1) -> list[tuple[float, int]]:
    """When how much passes: portions as large as allowed, with timers that fire up to `late` seconds late."""
    chance = random.Random(seed)
    bucket, now, found = Bucket().with_rate(rate, 0.0), 0.0, []
    while now < seconds:
        wait = bucket.wait(now)
        if wait > 0:
            now += wait + chance.uniform(0, late)
            continue
        portion = bucket.portion()
        found.append((now, portion))
        bucket = bucket.take(portion, now)
    return found


@pytest.mark.parametrize("late", [0.0, 0.005, 0.04])
@pytest.mark.parametrize("rate", [100_000, 2_000_000, 2**30])
def test_the_average_is_the_rate_and_no_second_is_much_above(rate: int, late: float) -> None:
    found = passed(rate, 10.0, late)
    assert sum(size for _, size in found) == pytest.approx(10 * rate, rel=0.03)
    for start, _ in found:
        assert sum(size for when, size in found if start <= when < start + 1) <= 1.2 * rate


def test_idle_time_is_not_saved_up() -> None:
    bucket = Bucket().with_rate(1000, 0.0)
    bucket = bucket.take(0, 3600.0)
    assert bucket.take(int(1000 * limits.RATE_CREDIT) + 100, 3600.0).wait(3600.0) == pytest.approx(0.1)


def test_what_passes_at_once() -> None:
    """A share of a second, or of a slow rate a little more, so that a frame goes through; its debt is paid off."""
    assert Bucket().with_rate(2**30, 0.0).portion() == int(2**30 * limits.RATE_PORTION)
    slow = Bucket().with_rate(limits.RATE_LEAST, 0.0)
    assert slow.portion() == limits.RATE_PORTION_LEAST
    least = int(limits.RATE_PORTION_LEAST / limits.RATE_PORTION)
    assert Bucket().with_rate(least - 1, 0.0).portion() == limits.RATE_PORTION_LEAST
    assert Bucket().with_rate(2 * least, 0.0).portion() == 2 * limits.RATE_PORTION_LEAST
    assert slow.take(slow.portion(), 0.0).wait(0.0) == pytest.approx(limits.RATE_PORTION_LEAST / limits.RATE_LEAST)


def test_a_debt_is_paid_off_at_the_new_rate() -> None:
    bucket = Bucket().with_rate(1000, 0.0).take(10_100, 0.0)
    assert bucket.wait(0.0) == pytest.approx(10.1)
    assert bucket.with_rate(100_000, 0.0).wait(0.0) == pytest.approx(0.101)
    assert bucket.with_rate(0, 0.0).wait(0.0) == 0
    assert bucket.with_rate(0, 0.0).with_rate(1000, 5.0).wait(5.0) == 0
    assert Bucket().take(10**12, 0.0).wait(0.0) == 0, "no rate, no limit"


def test_a_timetable() -> None:
    day = parse_timetable("08:00 2M, 19:30 0, 7:00 500Ki")
    assert day.steps == ((25_200, 512_000), (28_800, 2_000_000), (70_200, 0))
    assert [day.rate_at(second) for second in (0, 25_199, 25_200, 28_800, 70_199, 70_200, 86_399)] == [
        0,
        0,
        512_000,
        2_000_000,
        2_000_000,
        0,
        0,
    ]
    assert parse_timetable("20M") == Timetable(((0, 20_000_000),))
    assert Timetable().rate_at(5) == 0


@pytest.mark.parametrize(
    "text", ["", "fast", "08:00", "25:00 2M", "08:00 2M, 08:00 3M", "08:00 2M 19:00 0", "-1", "20M, 30M", "08:60 1M"]
)
def test_what_is_no_timetable(text: str) -> None:
    with pytest.raises(ValueError, match=r"[a-z]"):
        parse_timetable(text)


def test_rates_as_people_write_them() -> None:
    assert [parse_rate(text) for text in ("0", "20M", "512Ki", "1.5M/s", "1000")] == [
        0,
        20_000_000,
        524_288,
        1_500_000,
        1000,
    ]
    with pytest.raises(ValueError, match="at least 1,000"):
        parse_rate("999")
