"""Evidence: a line of JSON for every point that was run, appended to one file, and what they come to.

The file can be added to by any number of runs, in any pieces; of several lines about one point the last counts. What is
kept in the repository is the summary (`evidence.json`), from which docs/faults.md is made.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faults.model import BROKEN, HELD, MISSED, Outcome, Point, Survey

__all__ = ["EVIDENCE", "Report", "commit", "main", "merged", "summary"]

HERE = Path(__file__).resolve().parent
#: The summary that is kept.
EVIDENCE = HERE / "evidence.json"


def commit() -> str:
    """The last commit that changed the program, shortened, with a `+` where the code differs; empty outside of git."""
    package = str(HERE.parent.parent / "ftx")
    try:
        log = ["git", "log", "-1", "--format=%h", "--abbrev=10", "--", package]
        last = subprocess.run(log, cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", package], cwd=HERE, check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return ""
    return last + ("+" if changed and last else "")


class Report:
    """The file of evidence at `path`; None keeps nothing but what this run adds."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._commit = commit()
        #: The last line about each point.
        self.points: dict[str, dict[str, Any]] = {}
        #: Calls of a fault-free run, by scenario and victim.
        self.surveys: dict[tuple[str, str], dict[str, int]] = {}
        if path is not None and path.exists():
            for line in path.read_text("utf-8").splitlines():
                self._take(json.loads(line))

    def _take(self, line: dict[str, Any]) -> None:
        if "point" in line:
            self.points[line["point"]] = line
        else:
            self.surveys[line["survey"], line["victim"]] = line["calls"]

    def _append(self, line: dict[str, Any]) -> None:
        self._take(line)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def recall(self) -> None:
        """Take the surveys of the summary that is kept, in the place of surveys of our own."""
        if EVIDENCE.exists():
            for scenario, victims in json.loads(EVIDENCE.read_text("utf-8"))["surveys"].items():
                self.surveys |= {(scenario, victim): calls for victim, calls in victims.items()}

    def add(self, point: Point, outcome: Outcome, seconds: float) -> None:
        """What became of a point, which took so long."""
        self._append(
            {
                "point": point.name,
                "verdict": outcome.verdict,
                "broken": list(outcome.broken),
                "call": outcome.call,
                "code": outcome.code,
                "seconds": round(seconds, 3),
                "commit": self._commit,
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )

    def add_survey(self, scenario: str, victim: str, calls: Survey) -> None:
        """What a fault-free run of a scenario calls."""
        self._append({"survey": scenario, "victim": victim, "calls": dict(calls)})

    def done(self, point: Point) -> bool:
        """Whether this very commit has been tried at that point already."""
        line = self.points.get(point.name)
        return line is not None and line["commit"] == self._commit


def summary(report: Report, about: Mapping[str, str], scenarios: Mapping[str, str]) -> dict[str, Any]:
    """What the evidence comes to, by kind; `about` says what each kind is, `scenarios` what each scenario is.

    For each kind: commits, dates, seconds, how many points held, were broken or missed in each scenario and victim, and
    what was hit how often. And what each scenario calls when nothing is hurt, so that a sample need not find out.
    """
    kinds: dict[str, dict[str, Any]] = {}
    for line in report.points.values():
        point = Point.parse(line["point"])
        kind = kinds.setdefault(
            point.kind,
            {"about": about.get(point.kind, ""), "commits": [], "from": line["at"], "to": line["at"], "seconds": 0.0}
            | {"points": {}, "hit": {}},
        )
        if line["commit"] not in kind["commits"]:
            kind["commits"].append(line["commit"])
        kind["from"], kind["to"] = min(kind["from"], line["at"]), max(kind["to"], line["at"])
        kind["seconds"] += line["seconds"]
        counts = kind["points"].setdefault(f"{point.scenario}/{point.victim}", [0, 0, 0])
        counts[(HELD, BROKEN, MISSED).index(line["verdict"])] += 1
        what = _what(point, line["call"])
        if what and line["verdict"] != MISSED:
            kind["hit"][what] = kind["hit"].get(what, 0) + 1
    for kind in kinds.values():
        kind["seconds"] = round(kind["seconds"])
        kind["points"] = dict(sorted(kind["points"].items()))
        kind["hit"] = dict(sorted(kind["hit"].items()))
    surveys: dict[str, dict[str, Any]] = {}
    for (scenario, victim), calls in sorted(report.surveys.items()):
        surveys.setdefault(scenario, {})[victim] = dict(sorted(calls.items()))
    return {"kinds": dict(sorted(kinds.items())), "scenarios": dict(scenarios), "surveys": surveys}


def _what(point: Point, call: str) -> str:
    """What was hit: the call, or what the label says before its number; empty where it says nothing."""
    if point.label.startswith(("after/", "torn/")):
        return call.partition(" ")[0]
    return point.label.rpartition("/")[0]


def added(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The summary `old`, and what is in `new` of further scenarios. ValueError for one that is there already."""
    kinds = dict(old["kinds"])
    for name, kind in new["kinds"].items():
        before = kinds.get(name)
        if before is not None:
            if twice := before["points"].keys() & kind["points"].keys():
                raise ValueError(f"counted already, for {name}: {', '.join(sorted(twice))}")
            hits = {what: before["hit"].get(what, 0) + kind["hit"].get(what, 0) for what in before["hit"] | kind["hit"]}
            kind = {
                **kind,
                "commits": list(dict.fromkeys([*before["commits"], *kind["commits"]])),
                "from": min(before["from"], kind["from"]),
                "to": max(before["to"], kind["to"]),
                "seconds": before["seconds"] + kind["seconds"],
                "points": dict(sorted({**before["points"], **kind["points"]}.items())),
                "hit": dict(sorted(hits.items())),
            }
        kinds[name] = kind
    return merged(old, {**new, "kinds": kinds})


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The summary `old`, with the kinds, scenarios and surveys that are in `new` taken from there."""
    return {part: dict(sorted({**old.get(part, {}), **new[part]}.items())) for part in new}


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m faults.report [--add] FILE...`: put what these files come to into the summary that is kept.

    Of a kind that is in them they have all there is; with `--add`, scenarios that the summary has not.
    """
    from faults import cut_scenarios, cuts
    from faults.kinds import KINDS, SCENARIOS

    about = {kind.name: kind.about for kind in KINDS.values()} | {cuts.KIND: cuts.ABOUT}
    scenarios = {scenario.name: scenario.about for scenario in SCENARIOS.values()}
    scenarios |= {f"cut-{name}": scenario.about for name, scenario in cut_scenarios.SCENARIOS.items()}
    kept = json.loads(EVIDENCE.read_text("utf-8")) if EVIDENCE.exists() else {}
    words = list(sys.argv[1:] if arguments is None else arguments)
    into = added if words[:1] == ["--add"] else merged
    for name in words[into is added :]:
        kept = into(kept, summary(Report(Path(name)), about, scenarios))
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    # the innermost lists and objects in one line each
    text = re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda found: " ".join(found[0].split()), text)
    EVIDENCE.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
