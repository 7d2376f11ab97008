"""The meter: a rate between the slowest and the fastest that was fed, and a time left that is honest or absent."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftx.core.progress import Meter
from ftx.limits import ETA_HALF_LIFE, RATE_HALF_LIFE

READING = st.tuples(
    st.floats(min_value=-10.0, max_value=1000.0, allow_nan=False),
    st.integers(min_value=0, max_value=2**63 - 1),
    st.one_of(st.none(), st.integers(min_value=0, max_value=2**63 - 1)),
    st.integers(min_value=0, max_value=2**63 - 1),
)


@pytest.mark.case("K165")
@given(st.lists(READING, max_size=50))
def test_no_reading_whatever_makes_it_negative_infinite_or_raise(readings: list[tuple[float, int, int | None, int]]):
    meter = Meter()
    for now, confirmed, total, present in readings:
        meter.feed(now, confirmed, total, present)
        assert meter.rate is None or (meter.rate >= 0 and math.isfinite(meter.rate))
        assert meter.eta_s is None or (meter.eta_s >= 0 and math.isfinite(meter.eta_s))


@given(st.lists(st.tuples(st.floats(0.01, 10), st.integers(0, 10**9)), min_size=1, max_size=50))
def test_the_rate_lies_between_the_slowest_and_the_fastest_interval(steps: list[tuple[float, int]]):
    meter = Meter()
    now, confirmed = 0.0, 0
    meter.feed(now, confirmed)
    rates = []
    for seconds, amount in steps:
        before = now
        now += seconds
        confirmed += amount
        rates.append(amount / (now - before))
        meter.feed(now, confirmed)
    assert meter.rate is not None
    assert min(rates) * 0.999999 - 1e-6 <= meter.rate <= max(rates) * 1.000001 + 1e-6


def test_nothing_is_known_before_two_readings():
    meter = Meter()
    assert (meter.rate, meter.eta_s) == (None, None)
    meter.feed(5.0, 1000, 2000)
    assert (meter.rate, meter.eta_s) == (None, None)


def test_a_steady_rate_is_right_from_the_first_interval():
    meter = Meter()
    meter.feed(0.0, 0, 10_000)
    meter.feed(0.25, 250, 10_000)
    assert meter.rate is not None
    assert math.isclose(meter.rate, 1000.0)
    assert meter.eta_s is not None
    assert math.isclose(meter.eta_s, 9.75)


def test_what_was_there_already_is_no_speed():
    meter = Meter()
    meter.feed(0.0, 5_000_000, 20_000_000, present=5_000_000)
    meter.feed(1.0, 5_001_000, 20_000_000, present=5_000_000)
    meter.feed(2.0, 15_002_000, 20_000_000, present=15_000_000)
    assert meter.rate is not None
    assert math.isclose(meter.rate, 1000.0)


def test_the_first_reading_is_the_starting_point():
    meter = Meter()
    meter.feed(0.0, 10**9)
    meter.feed(1.0, 10**9)
    assert meter.rate == 0.0


def test_a_change_of_pace_is_half_seen_after_one_half_life():
    meter = Meter()
    meter.feed(0.0, 0)
    meter.feed(1000.0, 0)
    meter.feed(1000.0 + RATE_HALF_LIFE, int(1000 * RATE_HALF_LIFE))
    assert meter.rate is not None
    assert math.isclose(meter.rate, 500.0, rel_tol=0.01)


def test_the_time_left_is_calmer_than_the_rate():
    meter = Meter()
    meter.feed(0.0, 0, 10**9)
    meter.feed(100.0, 100_000, 10**9)
    meter.feed(100.0 + ETA_HALF_LIFE / 10, 100_000, 10**9)
    assert meter.rate is not None
    assert meter.eta_s is not None
    assert meter.rate < 600
    assert meter.eta_s < 10**9 / 900


def test_a_stall_ends_in_an_unknown_time_left_and_not_in_a_huge_one():
    meter = Meter()
    meter.feed(0.0, 0, 10**12)
    meter.feed(1.0, 10**6, 10**12)
    meter.feed(1000.0, 10**6, 10**12)
    assert meter.eta_s is None


def test_two_readings_at_one_instant_lose_nothing():
    meter = Meter()
    meter.feed(0.0, 0)
    meter.feed(0.0, 500)
    meter.feed(0.0, 900)
    meter.feed(1.0, 1000)
    assert meter.rate is not None
    assert math.isclose(meter.rate, 1000.0)


def test_all_confirmed_means_no_time_left():
    meter = Meter()
    meter.feed(0.0, 10, 10)
    assert meter.eta_s == 0.0
