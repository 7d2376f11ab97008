"""A sample of the fault lab, drawn by a seed: `make faults` runs all of it.

FAULT_SECONDS: how long each part of it takes; FAULT_SEED: which sample. A point that is broken is run again by its
name: `cd tests && python -m faults.run --only NAME`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from faults.kinds import KINDS, SCENARIOS
from faults.model import Point
from faults.report import Report
from faults.run import planned, run_points, survey
from faults.stage import Bench

SECONDS = float(os.environ.get("FAULT_SECONDS", "6"))
SEED = int(os.environ.get("FAULT_SEED", "1"))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """What the points share."""
    with Bench() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_sample(kind: str, bench: Bench) -> None:
    """Hurt at moments drawn from the seed, nothing is lost, and the same command again ends byte-identical."""
    lacking = KINDS[kind].missing()
    if lacking is not None:
        pytest.skip(lacking)
    report = Report(None)
    dice = random.Random(SEED)
    names = sorted(SCENARIOS)
    dice.shuffle(names)
    points: list[Point] = []
    while not points:
        name = names.pop()
        SCENARIOS[name].prepare(bench)
        bench.settled()
        for victim, calls in survey(bench, SCENARIOS[name]).items():
            report.add_survey(name, victim, calls)
        points = list(planned(report, [kind], [name]))
    dice.shuffle(points)
    assert not run_points(bench, report, points, SECONDS, loud=False)
    assert report.points
