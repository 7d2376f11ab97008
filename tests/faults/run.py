"""Run points of the fault lab: `python -m faults.run`, from the folder `tests`. See `make faults`.

Which points there are follows from a fault-free run of each scenario (a survey, taken once for each report). They are
shuffled by the seed, and the kinds take turns, so that any number of them is a sample; a part takes every n-th of each
kind. What the report has for this commit already is not run again.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from faults.kinds import KINDS, SCENARIOS
from faults.model import BROKEN, MISSED, Outcome, Point, Scenario, UnreadyError
from faults.page import CALLS, Fault
from faults.report import Report
from faults.stage import Bench

__all__ = ["main", "planned", "run_points", "survey"]


def survey(bench: Bench, scenario: Scenario) -> dict[str, dict[str, int]]:
    """What each victim of the scenario calls when nothing is hurt; AssertionError when that does not end well."""
    with bench.stage() as stage:
        scenario.before(stage)
        for victim in scenario.victims:
            stage.arm(victim, Fault("count", calls=frozenset(CALLS)))
        code = scenario.act(stage)
        stage.disarm()
        assert code == 0, f"{scenario.name} ends with {code} though nothing was hurt: {stage.said()}"
        scenario.after(stage)
        found = {}
        for victim in scenario.victims:
            counts: dict[str, int] = {}
            for call in stage.pages[victim].trace():
                counts[call.kind] = counts.get(call.kind, 0) + 1
            found[victim] = counts
        return found


def planned(report: Report, kinds: Sequence[str], scenarios: Sequence[str]) -> Iterator[Point]:
    """Every point that the surveys in the report give rise to."""
    for kind in kinds:
        for name in scenarios:
            for victim in SCENARIOS[name].victims:
                calls = report.surveys.get((name, victim), {})
                for label in KINDS[kind].labels(SCENARIOS[name], victim, calls):
                    yield Point(kind, name, victim, label)


def run_points(
    bench: Bench, report: Report, points: Sequence[Point], seconds: float, least: int = 0
) -> dict[str, list[Outcome]]:
    """Run points, in order, until the time is over and `least` of each kind were not missed; what became of them."""
    begun = time.monotonic()
    found: dict[str, list[Outcome]] = {point.kind: [] for point in points}
    for number, point in enumerate(points):
        started = time.monotonic()
        outcomes = found[point.kind]
        if started - begun > seconds and len(outcomes) - _missed(outcomes) >= least:
            continue
        try:
            outcome = KINDS[point.kind].run(bench, SCENARIOS[point.scenario], point)
        except UnreadyError as error:
            outcome = Outcome(MISSED, call=str(error))
        report.add(point, outcome, time.monotonic() - started)
        outcomes.append(outcome)
        if outcome.verdict == BROKEN:
            print(f"BROKEN {point.name} ({outcome.call})", *outcome.broken[:8], sep="\n    ", flush=True)
        elif number % 100 == 99:
            print(f"{number + 1} of {len(points)}, {time.monotonic() - begun:.0f} s", flush=True)
    return found


def _missed(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome.verdict == MISSED for outcome in outcomes)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults.run", description="Run points of the fault lab.")
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="only this kind; may be repeated")
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS), help="only this one; may be repeated")
    parser.add_argument("--only", action="append", default=[], metavar="POINT", help="only the point of that name")
    parser.add_argument("--seed", type=int, default=1, help="which order; default 1")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="every N-th point, beginning with the K-th")
    parser.add_argument("--most", type=int, default=1 << 30, metavar="N", help="at most N for each of the above")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    parser.add_argument("--least", type=int, default=0, metavar="N", help="but not before N of each kind were hit")
    parser.add_argument("--report", type=Path, default=None, help="the file that takes the evidence")
    parser.add_argument("--sample", action="store_true", help="take the surveys of the summary that is kept")
    parser.add_argument("--within", type=Path, default=None, help="the folder to work in")
    return parser.parse_args(arguments)


def _chosen(options: argparse.Namespace, report: Report, kinds: list[str], scenarios: list[str]) -> list[Point]:
    part, parts = map(int, options.part.split("/"))
    points = list(planned(report, kinds, scenarios))
    random.Random(options.seed).shuffle(points)
    taken: dict[tuple[str, str, str], int] = {}
    chosen: dict[str, list[Point]] = {kind: [] for kind in kinds}
    for point in points:
        line = (point.kind, point.scenario, point.victim)
        taken[line] = taken.get(line, 0) + 1
        if taken[line] <= options.most:
            chosen[point.kind].append(point)
    turns = itertools.zip_longest(*(found[part - 1 :: parts] for found in chosen.values()))
    return [point for turn in turns for point in turn if point is not None and not report.done(point)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 when something was broken."""
    options = _options(arguments)
    report = Report(options.report)
    if options.sample:
        report.recall()
    asked = [Point.parse(name) for name in options.only]
    kinds = options.kind or sorted(KINDS)
    for name in list(kinds):
        lacking = KINDS[name].missing()
        if lacking is not None:
            print(f"skipped: {name}: {lacking}")
            kinds.remove(name)
    scenarios = options.scenario or sorted(SCENARIOS)
    with Bench(options.within) as bench:
        for scenario in {point.scenario for point in asked} or scenarios:
            SCENARIOS[scenario].prepare(bench)
        bench.settled()
        if not asked:
            for name in scenarios:
                if (name, SCENARIOS[name].victims[0]) not in report.surveys:
                    for victim, calls in survey(bench, SCENARIOS[name]).items():
                        report.add_survey(name, victim, calls)
        points = asked or _chosen(options, report, kinds, scenarios)
        print(f"{len(points)} points, seed {options.seed}", flush=True)
        found = run_points(bench, report, points, options.seconds, options.least)
    broken = {kind: sum(one.verdict == BROKEN for one in outcomes) for kind, outcomes in found.items()}
    for kind, outcomes in found.items():
        print(f"{kind}: {len(outcomes)} points tried, {_missed(outcomes)} missed, {broken[kind]} broken")
    return 1 if any(broken.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
