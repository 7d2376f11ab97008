"""P10: what ftx costs against how far away the peer is, however much the path carries."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import corpus
from benchmarks.delay import Delaying
from benchmarks.finding import Curve, Finding, MiB, Setting
from benchmarks.measure import BenchmarkError, Run, Spread, alternate
from benchmarks.ours import Ftx, fresh, serving

__all__ = ["far_away", "through"]

Check = Callable[[Path, Path], None]


def through(
    setting: Setting,
    ours: Ftx,
    source: Path,
    check: Check,
    delay: int,
    *,
    window: int | None = None,
    lanes: int | None = None,
) -> Run:
    """One run, through a proxy even if that adds nothing; the processor time is without that of the proxy."""

    def once(into: Path) -> Run:
        with Delaying(ours.port, delay / 1000, window) as proxy:
            one = ours.push(source, into, port=proxy.port, lanes=lanes)
        check(source, into / source.name)
        return one

    return fresh(setting.folder, once)


def far_away(setting: Setting) -> Finding:
    """P10: many small files and a large one, through a proxy that adds to every round trip."""
    count, large = setting.scale.far
    delays = setting.scale.delays
    small, big = f"{count:,} files of 4 KiB", f"one file of {large // MiB} MiB"
    finding = Finding("P10", f"{small}, and {big}, further and further away")
    sources: dict[str, tuple[Path, Check]] = {
        small: (corpus.small_files(setting.folder / "small", count), corpus.check_tree),
        big: (corpus.large_file(setting.folder / "large", large), corpus.check_file),
    }
    curve = Curve("time-distance", "Time against distance", "round trip, ms", "seconds, whole process")
    curve.log_across = curve.log_up = False
    with serving(setting.folder) as ours:
        work = {
            f"{name}, {delay} ms": partial(through, setting, ours, *source, delay)
            for name, source in sources.items()
            for delay in delays
        }
        runs = finding.runs = alternate(work, setting.scale.rounds)
    if len(runs) < len(work):
        raise BenchmarkError("ftx failed at some distance")
    costs: dict[str, dict[int, Spread]] = {}
    for name in sources:
        near = runs[f"{name}, {delays[0]} ms"]
        far = {delay: runs[f"{name}, {delay} ms"] for delay in delays}
        curve.lines[name] = [(delay, statistics.median(one.seconds for one in far[delay])) for delay in delays]
        costs[name] = {
            delay: Spread.of(one.seconds - beside.seconds for one, beside in zip(far[delay], near, strict=True))
            for delay in delays
        }
    curve.claim = _claim(costs, delays[-1])
    finding.curves.append(curve)
    middle = 100 if 100 in delays else delays[-1]
    found = costs[small][middle]
    finding.at_most(f"goal: what {middle} ms further away cost for the small files, in s", 1.5, found)
    return finding


def _claim(costs: dict[str, dict[int, Spread]], delay: int) -> str:
    """What the longest way costs, and how many round trips that is."""
    said = []
    for name, cost in costs.items():
        found = cost[delay]
        if found.median <= 0:
            said.append(f"{name}: {delay} ms further away costs no more than the runs differ anyway")
            continue
        trips = 1000 * found.median / delay
        said.append(f"{name}: {delay} ms further away costs {found.median:.2f} s, as long as {trips:.1f} round trips")
    return "; ".join(said) + "."
