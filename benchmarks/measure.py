"""Measuring: what a run gives, series of alternating runs, and what may be concluded from them."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

__all__ = ["BenchmarkError", "Run", "Spread", "alternate", "ratio"]


class BenchmarkError(Exception):
    """A contestant did not do what was asked: its figures would mean nothing."""


@attrs.frozen
class Run:
    """One run, from outside: seconds of wall time, seconds of processor time, peak resident memory in bytes.

    `processor` is that of the program that was run, `service` that of what served it meanwhile: a daemon, another end.
    """

    seconds: float
    processor: float
    memory: int
    service: float = 0.0


def alternate(
    work: Mapping[str, Callable[[], Run]], rounds: int, fewer: Mapping[str, int] | None = None
) -> dict[str, list[Run]]:
    """Run every entry of `work` once per round, `rounds` times: what disturbs one disturbs its neighbours too.

    `fewer`: who takes part in the first so many rounds only.
    A contestant that fails is left out from then on, and said so; its runs until then are not given.
    """
    results: dict[str, list[Run]] = {name: [] for name in work}
    for number in range(rounds):
        for name in list(results):
            if fewer is not None and number >= fewer.get(name, rounds):
                continue
            try:
                one = work[name]()
            except BenchmarkError as error:
                print(f"  {name} is left out: {error}", file=sys.stderr)
                del results[name]
                continue
            results[name].append(one)
            print(f"  round {number + 1}: {name} {one.seconds:.2f} s", file=sys.stderr)
    return results


@attrs.frozen
class Spread:
    """A value of each round: the one in the middle, and how far apart they are."""

    median: float
    least: float
    most: float
    times: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of these values, at least one."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found), len(found))

    def inverse(self) -> Spread:
        """The same of one over each value, where an even number of them makes no difference that matters."""
        return Spread(1 / self.median, 1 / self.most, 1 / self.least, self.times)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f}, {self.times} times)"


def ratio(ours: Sequence[Run], theirs: Sequence[Run]) -> Spread:
    """Above 1: ours took less time than theirs in the same round, of those in which both took part."""
    return Spread.of(their.seconds / our.seconds for our, their in zip(ours, theirs, strict=False))
