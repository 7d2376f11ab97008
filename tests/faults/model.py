"""What the fault lab consists of, as values: scenarios, points, kinds of fault, and what became of a point.

A **scenario** is something that ftx does: a state before, a command, what must be true in the end. A **kind** is a way
to hurt it. A **point** is one scenario hurt in one way at one moment; it has a name that stays the same from run to
run, `kind/scenario/victim/label`, and running it gives an **outcome**. What must hold at every point are the invariants
(`faults.invariants`); a point at which one did not is broken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs

if TYPE_CHECKING:
    from faults.stage import Bench, Stage

__all__ = ["BROKEN", "HELD", "MISSED", "Kind", "Outcome", "Point", "Scenario", "Survey", "UnreadyError", "Verdict"]

#: Every invariant held; at least one did not; the moment never came (the run ended before it).
HELD, BROKEN, MISSED = "held", "broken", "missed"

#: How often a fault-free run of a scenario makes each kind of call in one of its processes, by the name of the call.
Survey = Mapping[str, int]


@attrs.frozen(order=True)
class Point:
    """One scenario, hurt in one way at one moment. `label` is the kind's own."""

    kind: str
    scenario: str
    victim: str
    label: str

    @property
    def name(self) -> str:
        """The name that stays the same from run to run."""
        return f"{self.kind}/{self.scenario}/{self.victim}/{self.label}"

    @classmethod
    def parse(cls, name: str) -> Point:
        """The point of that name; ValueError where it is none."""
        kind, scenario, victim, label = name.split("/", 3)
        return cls(kind, scenario, victim, label)


class UnreadyError(Exception):
    """The state before could not be made this time: what was to be cut had ended already. The point is missed."""


class Verdict:
    """Collects what was broken at one point, by the invariant."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def fails(self, invariant: str, why: str) -> None:
        """`invariant` (its number, "I1") does not hold."""
        self.broken.append(f"{invariant}: {why}")

    @contextlib.contextmanager
    def holds(self, invariant: str) -> Iterator[None]:
        """Whatever is asserted inside is what this invariant asks for."""
        try:
            yield
        except AssertionError as error:
            self.fails(invariant, str(error) or "does not hold")


@attrs.frozen
class Outcome:
    """What became of a point. `call`: what was hit, for whoever reads it; `code`: how the command ended then."""

    verdict: str
    broken: Sequence[str] = ()
    call: str = ""
    code: int | None = None


class Scenario:
    """Something that ftx does. The methods get the `Stage` of one point, with a home and folders of its own.

    The receiving side is the daemon unless `place` says otherwise. `act` is called again, unhurt, for recovery: the
    same command again, which then must end with 0.
    """

    #: Its name: lower-case words and dashes. `about`: one sentence for the report.
    name: str
    about: str
    #: Which of its processes can be hurt.
    victims: Sequence[str] = ("daemon", "client")
    #: Whether what is hurt includes the start of the daemon: it does not run before `act` then.
    from_start = False
    #: Whether anything passes between a client and the daemon.
    connects = True
    #: How many connections its content takes beside the job's own.
    lanes = 0
    #: Which of its processes sends the content, where that is asked: of a job with lanes.
    sends = "client"

    def prepare(self, bench: Bench) -> None:
        """Make the sources that it needs, once for all points."""

    def before(self, stage: Stage) -> None:
        """Make the state before; nothing is hurt yet."""

    def act(self, stage: Stage) -> int:
        """Run the command to its end; its exit code, negative for the signal that ended it."""
        raise NotImplementedError

    def place(self, stage: Stage) -> Path:
        """The folder that receives."""
        return stage.inbox

    def allowed(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        """What may be visible in `place` at any moment: the digests (SHA-256) that each name may have."""
        raise NotImplementedError

    def kept(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        """What must be visible in `place` at every moment: names, with the digests that each may have."""
        return {}

    def always(self, stage: Stage) -> frozenset[str]:
        """Digests of content that must be visible in `place` at every moment, under whatever name."""
        return frozenset()

    def after(self, stage: Stage) -> None:
        """What must be true in the end; AssertionError where it is not."""
        raise NotImplementedError


class Kind(Protocol):
    """A way to hurt."""

    name: str
    #: One sentence for the report.
    about: str

    def missing(self) -> str | None:
        """What this machine lacks for it; None when it has all."""

    def labels(self, scenario: Scenario, victim: str, survey: Survey) -> Sequence[str]:
        """The moments at which this scenario can be hurt, in a fixed order."""

    def run(self, bench: Bench, scenario: Scenario, point: Point) -> Outcome:
        """Hurt it, judge it, recover, judge again. Whatever it raises but AssertionError is a fault of the lab."""


def is_scenario(found: Any) -> bool:
    """Whether `found` is a scenario that can be run."""
    return isinstance(found, Scenario) and hasattr(found, "name")
