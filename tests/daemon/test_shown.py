"""What people were shown of offers: the same digits stand for the same terms for as long as somebody may answer."""

from __future__ import annotations

from ftx import limits
from ftx.daemon.shown import Shown

JOB = "5d0c12ab" + 24 * "0"
ALIKE = "5d0c12ab" + 24 * "1"


def test_other_terms_under_the_same_digits() -> None:
    """Not while the first waits, and not until everybody who saw it has had their time."""
    shown = Shown()
    assert shown.add(JOB, "small", 0.0)
    assert not shown.add(ALIKE, "large", 1000.0)
    shown.over(JOB, 1120.0)
    assert not shown.add(ALIKE, "large", 1119.0)
    assert shown.add(JOB, "small", 1119.0), "a sender that was cut off may come back"
    shown.over(JOB, 1300.0)
    assert shown.add(ALIKE, "large", 1300.0)


def test_it_is_bounded() -> None:
    """Too many at once are not shown; the next may be when their time is over."""
    shown = Shown()
    jobs = [f"{number:032x}"[::-1] for number in range(limits.OFFERS_SHOWN + 1)]
    assert [shown.add(job, 1, 0.0) for job in jobs] == [True] * limits.OFFERS_SHOWN + [False]
    shown.over(jobs[0], 5.0)
    assert not shown.add(jobs[-1], 1, 4.0)
    assert shown.add(jobs[-1], 1, 5.0)
