"""What a goal is given, and what it gives: values, as they are kept in JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from benchmarks.measure import Run, Spread

__all__ = ["Curve", "Finding", "MiB", "Scale", "Setting", "Verdict"]

MiB = 1 << 20


@attrs.frozen
class Scale:
    """How much is sent: bytes of the large file, number of small files, clients at once, rounds.

    `sizes` (in MiB), `counts`, `crowds` and `delays` (milliseconds of round trip) are the points of the cost curves.
    """

    large: int
    small: int
    clients: int
    rounds: int
    #: Files of the trees that are sent again (P4); the bound of the last one is without start-up.
    trees: tuple[int, ...] = ()
    #: Bytes of the file of which little changes (P5).
    changing: int = 0
    #: Small files, and bytes of a large one, that go a long way (P10).
    far: tuple[int, int] = (0, 0)
    #: Bytes of the file that is sent with more and fewer lanes (P12), and how many.
    wide: int = 0
    lanes: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    crowds: tuple[int, ...] = ()
    delays: tuple[int, ...] = ()


@attrs.frozen
class Setting:
    """Where it happens: an empty folder on a fast file system, and how much of everything."""

    folder: Path
    scale: Scale


@attrs.frozen
class Verdict:
    """A bound that a goal sets, and what was found: `reached` says whether it is kept."""

    what: str
    bound: str
    found: str
    reached: bool
    #: From least to most, where some rounds keep the bound and others do not.
    spread: str = ""


@attrs.define
class Curve:
    """What something costs against how much of it there is: a plot."""

    #: The stem of the picture's file name.
    name: str
    title: str
    across: str
    up: str
    #: Points by the name of the line, in the order of x; x and y both above zero where the axis is logarithmic.
    lines: dict[str, list[tuple[float, float]]] = attrs.field(factory=dict)
    log_across: bool = True
    log_up: bool = True
    #: What the picture shows, in a sentence with its figures.
    claim: str = ""


@attrs.define
class Finding:
    """What was found for one goal."""

    goal: str
    title: str
    #: When it began, and whether the machine was busy with anything else then.
    when: str = ""
    #: Runs by contestant, in the order of the rounds.
    runs: dict[str, list[Run]] = attrs.field(factory=dict)
    #: How many times as fast ftx was as each other, or what else is compared, by name.
    ratios: dict[str, Spread] = attrs.field(factory=dict)
    #: Figures that are no ratios, by name, with their units in the text.
    figures: dict[str, str] = attrs.field(factory=dict)
    #: The bounds of this goal.
    verdicts: list[Verdict] = attrs.field(factory=list)
    curves: list[Curve] = attrs.field(factory=list)
    #: Who could not take part, and why.
    absent: dict[str, str] = attrs.field(factory=dict)

    def at_least(self, what: str, bound: float, found: float | Spread | None, form: str = "{:.2f}") -> None:
        """Judge `found`, which should be no less than `bound`; None when nothing was found."""
        self._judge(what, f"at least {form.format(bound)}", found, form, lambda value: value >= bound)

    def at_most(self, what: str, bound: float, found: float | Spread | None, form: str = "{:.2f}") -> None:
        """Judge `found`, which should be no more than `bound`; None when nothing was found."""
        self._judge(what, f"at most {form.format(bound)}", found, form, lambda value: value <= bound)

    def _judge(
        self, what: str, bound: str, found: float | Spread | None, form: str, keeps: Callable[[float], bool]
    ) -> None:
        """The median decides."""
        if found is None:
            return
        one = found if isinstance(found, Spread) else Spread(found, found, found, 1)
        said = form.format(one.median) if one.median >= 0 else "not above the noise"  # nothing costs less than nothing
        disagree = keeps(one.least) != keeps(one.most)
        spread = f"{form.format(one.least)} to {form.format(one.most)}" if disagree else ""
        self.verdicts.append(Verdict(what, bound, said, keeps(one.median), spread))

    def ratio(self, name: str) -> Spread | None:
        """How many times as fast ftx was, or None when that was not compared."""
        return self.ratios.get(name)
