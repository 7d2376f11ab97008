"""SIGKILL: after each call that changes something, and in the middle of each that writes to a file.

What has been done by then stays done: a kill takes the process, not the machine. A call that is torn has written half.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

from faults.forks import missing_means
from faults.invariants import after_the_fault, at_the_end, came_back
from faults.model import BROKEN, HELD, MISSED, Outcome, Point, Scenario, Survey, Verdict
from faults.page import CHANGES, Fault
from faults.stage import Bench

__all__ = ["Kill"]

_TORN = ("write", "pwrite")


class Kill:
    """The kind `kill`. Labels: `after/N`, `torn/N`."""

    name = "kill"
    about = "SIGKILL just after the N-th call that changes something, or in the middle of the N-th write"

    def missing(self) -> str | None:
        """A compiler, for the shim."""
        return missing_means()

    def labels(self, scenario: Scenario, victim: str, survey: Survey) -> Sequence[str]:
        """A point for each call of the survey."""
        changes = sum(count for call, count in survey.items() if call in CHANGES)
        torn = sum(survey.get(call, 0) for call in _TORN)
        return [f"after/{nth}" for nth in range(1, changes + 1)] + [f"torn/{nth}" for nth in range(1, torn + 1)]

    def run(self, bench: Bench, scenario: Scenario, point: Point) -> Outcome:
        """Kill, look, run the same command again, look."""
        how, _, nth = point.label.partition("/")
        fault = Fault("kill", int(nth)) if how == "after" else Fault("tear", int(nth), frozenset(_TORN))
        verdict = Verdict()
        with bench.stage() as stage:
            scenario.before(stage)
            stage.arm(point.victim, fault)
            code = None
            with verdict.holds("I10"):
                code = scenario.act(stage)
            hit = stage.hit(point.victim)
            stage.disarm()
            if hit is not None and point.victim == "daemon" and stage.running is not None:
                stage.running.wait()  # the client may know the end before the signal has done its work
            if stage.running is not None and point.victim == "client" and code == -signal.SIGKILL:
                with verdict.holds("I10"):
                    stage.running.idle()
            after_the_fault(scenario, stage, code, verdict)
            if came_back(stage, verdict):
                with verdict.holds("I9"):
                    at_the_end(scenario, stage, scenario.act(stage), verdict)
        if hit is None and not verdict.broken:
            return Outcome(MISSED, code=code)
        return Outcome(BROKEN if verdict.broken else HELD, verdict.broken, str(hit or ""), code)
