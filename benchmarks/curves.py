"""P6: what ftx costs against how much there is: size and number. Each point has a daemon of its own."""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from benchmarks import corpus
from benchmarks.finding import Curve, Finding, MiB, Setting
from benchmarks.measure import Run
from benchmarks.ours import fresh, serving

__all__ = ["size_and_count"]

#: How many times as much memory is still the same, for eight times as much content or more.
_FLAT = 1.1
#: Seconds that a run may take to be made as often as others; what takes longer is no more than once.
_SHORT = 20.0


def _point(setting: Setting, source: Path, check: Callable[[Path, Path], None]) -> tuple[Run, int]:
    """The medians of some runs, or one that is long, with a fresh daemon; and that daemon's peak memory."""
    with serving(setting.folder) as ours:

        def once(into: Path) -> Run:
            one = ours.push(source, into)
            check(source, into / source.name)
            return one

        runs = [fresh(setting.folder, once)]
        times = setting.scale.rounds if runs[0].seconds < _SHORT else 1
        runs += [fresh(setting.folder, once) for _ in range(times - 1)]
        memory = ours.memory()
    seconds, processor, service = (
        statistics.median(getattr(one, name) for one in runs) for name in ("seconds", "processor", "service")
    )
    print(f"  {source.name}: {seconds:.2f} s, median of {times}", file=sys.stderr)
    return Run(seconds, processor, max(one.memory for one in runs), service), memory


def _both_curves(
    finding: Finding, name: str, what: str, across: str, unit: str, gate: int, points: dict[int, tuple[Run, int]]
) -> None:
    """Time and memory of these points, as two curves."""
    time = Curve(f"time-{name}", f"Time against {what}", across, "seconds, whole process")
    time.lines["ftx"] = [(x, one.seconds) for x, (one, _) in points.items()]
    first, last = min(points), max(points)
    time.claim = f"{first:,} {unit}: {points[first][0].seconds:.2f} s, start-up included."
    before = _much_less(points)
    if before is not None:
        times = points[last][0].seconds / points[before][0].seconds
        time.claim = (
            f"{time.claim[:-1]}; from {before:,} to {last:,} {unit}, {last / before:,.0f} times as much, time grows "
            f"{times:.1f} times, to {points[last][0].seconds:.1f} s: {last / points[last][0].seconds:,.0f} {unit} per "
            "second."
        )
    memory = Curve(f"memory-{name}", f"Peak memory against {what}", across, "MiB, resident at most", log_up=False)
    memory.lines["client"] = [(x, one.memory / MiB) for x, (one, _) in points.items()]
    memory.lines["daemon"] = [(x, daemon / MiB) for x, (_, daemon) in points.items()]
    spans = {side: (min(y for _, y in line), max(y for _, y in line)) for side, line in memory.lines.items()}
    said = [f"the {side} peaks between {least:.0f} and {most:.0f} MiB" for side, (least, most) in spans.items()]
    memory.claim = f"From {first:,} to {last:,} {unit} {' and '.join(said)}."
    finding.curves += [time, memory]
    for side, line in memory.lines.items():
        _judge(finding, side, unit, dict(line), gate)


def _much_less(points: Collection[int]) -> int | None:
    """The largest point that is no more than an eighth of the last one."""
    return max((x for x in points if 8 * x <= max(points)), default=None)


def _judge(finding: Finding, side: str, unit: str, line: dict[float, float], gate: int) -> None:
    """What must be small at `gate`, and no larger for many times as much."""
    at = gate if gate in line else max(line)
    finding.at_most(f"gate: peak memory of the {side}, {at:,.0f} {unit}", 96, line[at], "{:.0f} MiB")
    last, before = max(line), _much_less([int(x) for x in line])
    if before is not None:
        what = f"gate: peak memory of the {side}, {last:,.0f} {unit} in times of {before:,}"
        finding.at_most(what, _FLAT, line[last] / line[before])


def size_and_count(setting: Setting) -> Finding:
    """P6: time and memory of client and daemon, against the size of a file and against the number of files."""
    finding = Finding("P6", "time and memory against size and number")
    sizes: dict[int, tuple[Run, int]] = {}
    for mib in setting.scale.sizes:
        size = mib * MiB
        below = setting.folder
        if not corpus.room(setting.folder, 2 * size):
            # What is read may be on a disk, most of it cached; what is written stays where it always was.
            below = Path(tempfile.gettempdir())
            if not (corpus.room(setting.folder, size) and shutil.disk_usage(below).free >= size + corpus.SPARE):
                finding.absent[f"{mib:,} MiB"] = "there is no room for it"
                continue
            finding.figures[f"source of {mib:,} MiB"] = f"on the file system of {below}, for want of memory"
        with tempfile.TemporaryDirectory(prefix="ftx-bench-", dir=below) as top:
            source = corpus.large_file(Path(top) / f"{mib} MiB", size)
            sizes[mib] = _point(setting, source, corpus.check_file)
    counts: dict[int, tuple[Run, int]] = {}
    for count in setting.scale.counts:
        with tempfile.TemporaryDirectory(dir=setting.folder) as top:
            source = corpus.small_files(Path(top) / f"{count} files", count)
            counts[count] = _point(setting, source, corpus.check_tree)
    _both_curves(finding, "size", "size of the file", "size of the file, MiB", "MiB", 1024, sizes)
    _both_curves(finding, "count", "number of files", "number of files, 4 KiB each", "files", 200_000, counts)
    return finding
