"""Refusals come later and later, from one source; others and the patient do not notice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftx import limits
from ftx.core.penalties import Penalties


@pytest.mark.case("B48")
def test_it_grows_and_is_bounded() -> None:
    """Five at once, then a quarter of a second, then twice as long each time, and never more than the most."""
    penalties = Penalties()
    delays = [penalties.refused("a", 0.0) for _ in range(40)]
    assert delays[:10] == [0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0]
    assert set(delays[10:]) == {limits.PENALTY_MOST}
    assert limits.PENALTY_MOST < limits.HELLO_DEADLINE
    assert penalties.refused("b", 0.0) == 0.0, "another source"


def test_quiet_is_forgiven() -> None:
    """One refusal for each so many seconds; a trickle slower than that is never delayed."""
    penalties = Penalties()
    for _ in range(8):
        penalties.refused("a", 0.0)
    assert penalties.refused("a", 0.0) == 2.0
    assert penalties.refused("a", 3 * limits.PENALTY_FORGIVEN) == 0.5
    assert penalties.refused("a", 1000 * limits.PENALTY_FORGIVEN) == 0.0
    trickle = Penalties()
    assert not any(trickle.refused("a", step * limits.PENALTY_FORGIVEN) for step in range(100))


@given(st.lists(st.tuples(st.integers(0, 3000), st.floats(0, 10)), max_size=200))
def test_sources_are_bounded(steps: list[tuple[int, float]]) -> None:
    """However many there are, and whatever the clock does, the table and every delay stay within their bounds."""
    penalties, now = Penalties(), 0.0
    for source, passed in steps:
        now += passed
        assert 0.0 <= penalties.refused(str(source), now) <= limits.PENALTY_MOST
        assert len(penalties) <= limits.PENALTY_SOURCES


@pytest.mark.case("B48")
def test_the_quietest_source_is_forgotten() -> None:
    """A crowd of new sources drives out the one that was refused longest ago, not the one that goes on."""
    penalties = Penalties()
    for number in range(limits.PENALTY_SOURCES):
        penalties.refused(str(number), 0.0)
    penalties.refused("0", 0.0)
    penalties.refused("new", 0.0)
    assert len(penalties) == limits.PENALTY_SOURCES
    for _ in range(3):
        penalties.refused("0", 0.0)
    assert penalties.refused("0", 0.0) == 0.25, "the first one has gone on, and was kept"
