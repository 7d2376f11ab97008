"""What ftx costs against how much there is: size, number, distance. Each point has a daemon of its own."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import corpus
from benchmarks.delay import Delaying
from benchmarks.finding import Curve, Finding, MiB, Setting
from benchmarks.measure import Run, run
from benchmarks.ours import Ftx, fresh

__all__ = ["far_away", "size_and_count"]

#: Bytes of memory left to the machine and to its programs.
_SPARE = 2 << 30
#: Points below which a run is short enough to be made three times.
_SHORT = {"MiB": 64, "files": 1000}


def _room(folder: Path, size: int) -> bool:
    """Whether `size` more bytes fit there; in memory, they must be free there too."""
    free = shutil.disk_usage(folder).free
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024
    return free >= size + _SPARE and available >= size + _SPARE


def _point(setting: Setting, source: Path, check: Callable[[Path, Path], None], times: int) -> tuple[Run, int]:
    """The median run of some, with a fresh daemon; and that daemon's peak memory."""
    ours = Ftx()
    service = Path(tempfile.mkdtemp(dir=setting.folder))
    ours.start(service)
    try:

        def once(into: Path) -> Run:
            one = ours.push(source, into)
            check(source, into / source.name)
            return one

        runs = [fresh(setting.folder, once) for _ in range(times)]
        memory = ours.memory()
    finally:
        ours.stop()
        shutil.rmtree(service)
    seconds = statistics.median(one.seconds for one in runs)
    return Run(seconds, statistics.median(one.processor for one in runs), max(one.memory for one in runs)), memory


def _both_curves(
    finding: Finding, name: str, what: str, across: str, unit: str, points: dict[int, tuple[Run, int]]
) -> None:
    """Time and memory of these points, as two curves."""
    time = Curve(f"time-{name}", f"Time against {what}", across, "seconds, whole process")
    time.lines["ftx"] = [(x, one.seconds) for x, (one, _) in points.items()]
    first, last = min(points), max(points)
    rate = last / points[last][0].seconds
    time.claim = (
        f"Beyond start-up ({points[first][0].seconds:.2f} s at {first:,} {unit}) time is proportional to {what}: "
        f"{rate:,.0f} {unit} per second at {last:,} {unit}."
    )
    memory = Curve(f"memory-{name}", f"Peak memory against {what}", across, "MiB, resident at most", log_up=False)
    memory.lines["client"] = [(x, one.memory / MiB) for x, (one, _) in points.items()]
    memory.lines["daemon"] = [(x, daemon / MiB) for x, (_, daemon) in points.items()]
    spans = {side: (min(y for _, y in line), max(y for _, y in line)) for side, line in memory.lines.items()}
    memory.claim = "; ".join(
        f"the {side} peaks between {least:.0f} and {most:.0f} MiB" for side, (least, most) in spans.items()
    ) + f", from {first:,} to {last:,} {unit}."
    finding.curves += [time, memory]
    for side, (_, most) in spans.items():
        finding.at_most(f"goal: peak memory of the {side}, whatever the {what}", 96, most, "{:.0f} MiB")


def size_and_count(setting: Setting) -> Finding:
    """P6: time and memory of client and daemon, against the size of a file and against the number of files."""
    finding = Finding("P6", "time and memory against size and number")
    sizes: dict[int, tuple[Run, int]] = {}
    for mib in setting.scale.sizes:
        size = mib * MiB
        below = setting.folder
        if not _room(setting.folder, 2 * size):
            # What is read may be on a disk, most of it cached; what is written stays where it always was.
            below = Path(tempfile.gettempdir())
            if not (_room(setting.folder, size) and shutil.disk_usage(below).free >= size + _SPARE):
                finding.absent[f"{mib:,} MiB"] = "there is no room for it"
                continue
            finding.figures[f"source of {mib:,} MiB"] = f"on the file system of {below}, for want of memory"
        with tempfile.TemporaryDirectory(prefix="ftx-bench-", dir=below) as top:
            source = corpus.large_file(Path(top) / "large", size)
            times = min(3, setting.scale.rounds) if mib <= _SHORT["MiB"] else 1
            sizes[mib] = _point(setting, source, corpus.check_file, times)
    counts: dict[int, tuple[Run, int]] = {}
    for count in setting.scale.counts:
        with tempfile.TemporaryDirectory(dir=setting.folder) as top:
            source = corpus.small_files(Path(top) / "small", count)
            times = min(3, setting.scale.rounds) if count <= _SHORT["files"] else 1
            counts[count] = _point(setting, source, corpus.check_tree, times)
    _both_curves(finding, "size", "size", "size of the file, MiB", "MiB", sizes)
    _both_curves(finding, "count", "number", "number of files, 4 KiB each", "files", counts)
    return finding


def far_away(setting: Setting) -> Finding:
    """P10: many small files and a large one, through a proxy that adds to every round trip."""
    count, large = max(100, setting.scale.small // 2), min(setting.scale.large, 64 * MiB)
    delays = setting.scale.delays
    finding = Finding("P10", f"{count:,} files of 4 KiB, and one of {large // MiB} MiB, further and further away")
    sources = {
        f"{count:,} files of 4 KiB": (corpus.small_files(setting.folder / "small", count), corpus.check_tree),
        f"one file of {large // MiB} MiB": (corpus.large_file(setting.folder / "large", large), corpus.check_file),
    }
    curve = Curve("time-distance", "Time against distance", "round trip, ms", "seconds, whole process")
    curve.log_across = curve.log_up = False
    ours = Ftx()
    (setting.folder / "service").mkdir()
    ours.start(setting.folder / "service")
    rounds = min(3, setting.scale.rounds)
    try:
        for name, (source, check) in sources.items():
            runs: dict[int, list[Run]] = {delay: [] for delay in delays}
            for _ in range(rounds):
                for delay in delays:
                    runs[delay].append(_through(setting, ours, source, check, delay))
            curve.lines[name] = [(delay, statistics.median(one.seconds for one in runs[delay])) for delay in delays]
            finding.runs |= {f"{name}, {delay} ms": runs[delay] for delay in delays}
    finally:
        ours.stop()
    costs = {name: {x: y - line[0][1] for x, y in line} for name, line in curve.lines.items()}
    trips = {name: 1000 * cost[delays[-1]] / delays[-1] for name, cost in costs.items()}
    curve.claim = "; ".join(
        f"{name}: {delays[-1]} ms further away costs {costs[name][delays[-1]]:.2f} s, {trips[name]:.1f} times that"
        for name in costs
    ) + "."
    finding.curves.append(curve)
    middle = 100 if 100 in delays else delays[-1]
    found = next(iter(costs.values()))[middle]
    finding.at_most(f"goal: what {middle} ms further away cost for the small files, in s", 1.5, found)
    return finding


def _through(setting: Setting, ours: Ftx, source: Path, check: Callable[[Path, Path], None], delay: int) -> Run:
    """One run, through a proxy even if that adds nothing."""
    with Delaying(ours.port, delay / 2000) as proxy:

        def once(into: Path) -> Run:
            one = run(ours.command(source, into, "-q", port=proxy.port), environ=ours.environ)
            check(source, into / source.name)
            return one

        return fresh(setting.folder, once)

