"""The fault lab itself: it sees every call, it finds what is careless, and it leaves what is careful alone."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from faults.errors import Errors
from faults.forks import missing_means
from faults.kill import Kill
from faults.kinds import KINDS, SCENARIOS
from faults.model import BROKEN, HELD, Outcome, Point, Scenario
from faults.page import CHANGES, Fault
from faults.report import Report, added, summary
from faults.run import survey
from faults.stage import Bench, Stage
from support.trees import digest_of

from ftx.disk import many


class Copying(Scenario):
    """A program copies a file into a folder."""

    about = "a copy"
    victims = ("client",)

    def __init__(self, name: str) -> None:
        self.name = name

    def prepare(self, bench: Bench) -> None:
        bench.source("copied", {"file": 5000})

    def _source(self, stage: Stage) -> Path:
        return stage.bench.source("copied", {}) / "file"

    def before(self, stage: Stage) -> None:
        self.place(stage).mkdir()

    def act(self, stage: Stage) -> int:
        return stage.program("faults.careless", self.name, self._source(stage), self.place(stage)).wait()

    def place(self, stage: Stage) -> Path:
        return stage.root / "there"

    def allowed(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        return {b"file": frozenset([digest_of(self._source(stage))])}

    def after(self, stage: Stage) -> None:
        assert digest_of(self.place(stage) / "file") == digest_of(self._source(stage))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """What the points share."""
    lacking = missing_means()
    if lacking is not None:
        pytest.skip(lacking)
    with Bench() as made:
        yield made


def _all_points(bench: Bench, kind: Kill | Errors, scenario: Scenario) -> dict[str, tuple[str, str]]:
    scenario.prepare(bench)
    calls = survey(bench, scenario)["client"]
    found = {}
    for label in kind.labels(scenario, "client", calls):
        point = Point(kind.name, scenario.name, "client", label)
        outcome = kind.run(bench, scenario, point)
        found[label] = (outcome.verdict, " ".join(outcome.broken))
    return found


def test_every_call_is_seen(bench: Bench) -> None:
    """Those of `os`, those that have no name in Python, and those of SQLite."""
    scenario = Copying("every-call")
    scenario.prepare(bench)
    with bench.stage() as stage:
        scenario.before(stage)
        stage.arm("client", Fault("count"))
        assert scenario.act(stage) == 0, stage.said()
        trace = stage.pages["client"].trace()
    assert {call.kind for call in trace} == CHANGES - {"send"}
    assert "pwrite records.db-wal" in {f"{call.kind} {call.path.rpartition('/')[2]}" for call in trace}, "SQLite's"
    assert [call.path.rpartition("/")[2] for call in trace if call.kind in ("rename", "symlink")] == ["d", "e"]


def test_the_calls_of_the_native_library_are_seen(bench: Bench) -> None:
    """Those for each of its files, although Python makes one call for all of them."""
    if not many.available():
        pytest.skip("many.c was not built: no C compiler")
    scenario = Copying("many")
    scenario.prepare(bench)
    with bench.stage() as stage:
        scenario.before(stage)
        stage.arm("client", Fault("count"))
        assert scenario.act(stage) == 0, stage.said()
        trace = stage.pages["client"].trace()
    assert [call.kind for call in trace] == ["create", "pwrite", "utimens", "chmod"] * 2 + ["link"] * 2
    assert [call.path.rpartition("/")[2] for call in trace if call.kind == "link"] == ["a", "b"]


def test_what_is_careless_is_found(bench: Bench) -> None:
    """Half a file under its own name breaks the first invariant, wherever it is not whole, and nowhere else."""
    found = _all_points(bench, Kill(), Copying("in-place"))
    broken = {label for label, (verdict, why) in found.items() if verdict == BROKEN and "I1" in why}
    assert broken == {"after/1", "after/2", "torn/1", "torn/2"}
    assert found["after/3"][0] == HELD


def test_what_is_careful_is_not(bench: Bench) -> None:
    """A file that gets its name when it is whole holds at every point."""
    found = _all_points(bench, Kill(), Copying("renamed"))
    assert len(found) >= 6
    assert {verdict for verdict, _ in found.values()} == {HELD}, found


def test_tracebacks_are_found(bench: Bench) -> None:
    """A program that says nothing of errors in words of its own breaks the eighth."""
    scenario = Copying("renamed")
    scenario.prepare(bench)
    outcome = Errors().run(bench, scenario, Point("errno", "renamed", "client", "renameat2-EIO/1"))
    assert outcome.verdict == BROKEN
    assert any(why.startswith("I8: Traceback") for why in outcome.broken)


@pytest.mark.parametrize("name", ["errno/checksum/client/pread-EIO/1", "errno/stdin/daemon/fsync-EMFILE+/2"])
def test_a_point_that_was_broken_holds(bench: Bench, name: str) -> None:
    """What was found, and no smaller test can show, is tried each time."""
    point = Point.parse(name)
    scenario = SCENARIOS[point.scenario]
    scenario.prepare(bench)
    bench.settled()
    outcome = KINDS[point.kind].run(bench, scenario, point)
    assert outcome.verdict == HELD, outcome


def test_what_was_found_is_looked_for() -> None:
    """Each regression test that is named beside a finding is there."""
    root = Path(__file__).parent.parent.parent
    findings = tomllib.loads((Path(__file__).parent / "findings.toml").read_text("utf-8"))["found"]
    for one in findings:
        assert one["tests"], one
        for test in one["tests"]:
            path, _, name = test.partition("::")
            assert f"def {name}(" in (root / path).read_text("utf-8"), test


def test_evidence_outlives_a_run(tmp_path: Path) -> None:
    """What was written down is there in the next run, the last line about a point counts, nothing is tried twice."""
    point = Point("kill", "renamed", "client", "after/1")
    report = Report(tmp_path / "report")
    assert not report.done(point)
    report.add(point, Outcome(BROKEN, ["I1: half"]), 0.5)
    report.add(point, Outcome(HELD, call="write a"), 0.5)
    report.add_survey("renamed", "client", {"write": 2})
    again = Report(tmp_path / "report")
    assert again.done(point)
    assert again.points[point.name]["verdict"] == HELD
    assert again.surveys == {("renamed", "client"): {"write": 2}}


def test_evidence_of_further_scenarios_is_added(tmp_path: Path) -> None:
    """What there was stays, and nothing is counted twice."""
    first, second = (Report(tmp_path / name) for name in ("first", "second"))
    first.add(Point("kill", "renamed", "client", "after/1"), Outcome(HELD, call="write a"), 0.5)
    second.add(Point("kill", "lanes", "client", "after/1"), Outcome(HELD, call="write a"), 0.5)
    both = added(summary(first, {}, {"renamed": "one"}), summary(second, {}, {"lanes": "other"}))
    assert both["kinds"]["kill"]["points"] == {"lanes/client": [1, 0, 0], "renamed/client": [1, 0, 0]}
    assert both["kinds"]["kill"]["hit"] == {"write": 2}
    assert set(both["scenarios"]) == {"lanes", "renamed"}
    with pytest.raises(ValueError, match="counted already"):
        added(both, summary(second, {}, {}))
