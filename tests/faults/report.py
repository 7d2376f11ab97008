"""Evidence: a line of JSON for every point that was run, appended to one file, and what they come to.

The file can be added to by any number of runs, in any pieces; of several lines about one point the last counts. What is
kept in the repository is the summary (`evidence.json`), from which docs/faults.md is made.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faults.model import BROKEN, HELD, MISSED, Outcome, Point, Survey

__all__ = ["EVIDENCE", "Report", "commit", "summary"]

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


def summary(lines: Iterable[Mapping[str, Any]], surveys: Mapping[tuple[str, str], Survey]) -> dict[str, Any]:
    """What the evidence comes to: for each kind, scenario and victim how many points held, were broken, or missed."""
    rows: dict[tuple[str, str, str], Counter[str]] = {}
    crosses: dict[str, Counter[str]] = {}
    kinds: dict[str, dict[str, Any]] = {}
    for line in lines:
        point = Point.parse(line["point"])
        rows.setdefault((point.kind, point.scenario, point.victim), Counter())[line["verdict"]] += 1
        if line["verdict"] != MISSED:
            what = line["call"].split(" ")[0] if "/" not in point.label else point.label.rpartition("/")[0]
            crosses.setdefault(point.kind, Counter())[what] += 1
        kind = kinds.setdefault(point.kind, {"commits": set(), "from": line["at"], "to": line["at"], "seconds": 0.0})
        kind["commits"].add(line["commit"])
        kind["from"], kind["to"] = min(kind["from"], line["at"]), max(kind["to"], line["at"])
        kind["seconds"] += line["seconds"]
    return {
        "kinds": {
            name: kind | {"commits": sorted(kind["commits"]), "seconds": round(kind["seconds"])}
            for name, kind in sorted(kinds.items())
        },
        "points": [[*key, *(rows[key][verdict] for verdict in (HELD, BROKEN, MISSED))] for key in sorted(rows)],
        "what": {kind: dict(sorted(counts.items())) for kind, counts in sorted(crosses.items())},
        "surveys": [[*key, dict(sorted(calls.items()))] for key, calls in sorted(surveys.items())],
    }
