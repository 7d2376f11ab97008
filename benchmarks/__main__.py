"""`python -m benchmarks [P1 P2 ...]`: see `benchmarks/README.md`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import attrs

from benchmarks.finding import MiB, Scale, Setting
from benchmarks.goals import GOALS
from benchmarks.measure import BenchmarkError
from benchmarks.memory import kept
from benchmarks.processes import end_all, interrupted_once
from benchmarks.report import Report, as_markdown, draw, put_into, reload, save, surroundings

QUICK = Scale(
    large=24 * MiB, small=300, clients=2, rounds=1,
    trees=(100, 300), changing=24 * MiB, far=(100, 8 * MiB), wide=16 * MiB, lanes=(1, 2),
    sizes=(1,), counts=(10,), crowds=(), delays=(0, 20),
)  # fmt: skip
#: The sizes that the goals are defined for; the longest points of the curves are beyond them.
FULL = Scale(
    large=4096 * MiB, small=100_000, clients=500, rounds=5,
    trees=(20_000, 200_000), changing=1024 * MiB, far=(10_000, 64 * MiB), wide=256 * MiB, lanes=(1, 2, 4, 8),
    sizes=(1, 8, 64, 512, 1024, 4096, 8192), counts=(10, 100, 1000, 10_000, 50_000, 200_000),
    crowds=(1, 10, 50, 100, 250), delays=(0, 20, 50, 100, 200),
)  # fmt: skip


def _positive(text: str) -> int:
    """A number above 0; without rounds a run would only take long."""
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("goals", nargs="*", metavar="GOAL", help=f"one or more of {' '.join(GOALS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="little of everything, once: does the runner work?")
    parser.add_argument("--rounds", type=_positive, help=f"rounds, of which medians are taken (default: {FULL.rounds})")
    parser.add_argument("--large", type=_positive, metavar="MIB", help="size of the large file, and no other larger")
    parser.add_argument("--small", type=_positive, metavar="FILES", help="number of small files, and no tree larger")
    parser.add_argument("--folder", type=Path, help="where to work (default: /dev/shm if it is there)")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="where further programs of peers are")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep everything there, and go on from there")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put tables and pictures there (default: stdout)")
    return parser


def _scale(asked: argparse.Namespace) -> Scale:
    base = QUICK if asked.quick else FULL
    scale = attrs.evolve(base, rounds=asked.rounds or base.rounds)
    if asked.large:
        most = asked.large * MiB
        far = (scale.far[0], min(most, scale.far[1]))
        changing, wide = min(most, scale.changing), min(most, scale.wide)
        scale = attrs.evolve(scale, large=most, changing=changing, wide=wide, far=far)
    if asked.small:
        trees = tuple(sorted({min(asked.small, count) for count in scale.trees}))
        far = (min(asked.small, scale.far[0]), scale.far[1])
        scale = attrs.evolve(scale, small=asked.small, trees=trees, far=far)
    return scale


def _run(report: Report, goals: list[str], folder: Path, file: Path | None) -> bool:
    """Run these goals, keeping each as soon as it is done; whether all could be run."""
    complete = True
    for name in goals:
        begun, started, load = time.monotonic(), datetime.now(), os.getloadavg()[0]
        print(name, file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=folder) as own:
            try:
                report.findings[name] = found = GOALS[name](Setting(Path(own), report.scale))
                loaded = "a loaded machine" if load >= 0.5 else "a machine"
                found.when = f"{started:%Y-%m-%d %H:%M}, on {loaded} with {os.cpu_count()} processors"
            except BenchmarkError as error:
                print(f"  {name} could not be run: {error}", file=sys.stderr)
                complete = False
        print(f"  {name} took {time.monotonic() - begun:.0f} s", file=sys.stderr)
        report.findings = {one: report.findings[one] for one in GOALS if one in report.findings}
        if file is not None:
            save(report, file)
    return complete


def _publish(report: Report, page: Path | None) -> None:
    if page is None:
        print(as_markdown(report))
        return
    draw(report, page.parent / "benchmarks")
    put_into(page, as_markdown(report, "benchmarks"))


def main() -> int:
    """Run the goals that are named, or all; 1 if one of them could not be run.

    Where the last run over all goals was interrupted, the next goes on behind the last goal that it finished.
    """
    parser = _parser()
    asked = parser.parse_args()
    unknown = [name for name in asked.goals if name not in GOALS]
    if unknown:
        parser.error(f"there is no goal {unknown[0]}; there are {', '.join(GOALS)}")
    if asked.peers is not None:
        os.environ["PATH"] += f"{os.pathsep}{asked.peers.resolve()}"
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each program in Python would be compiled at each start
    scale = _scale(asked)
    below = asked.folder or (Path("/dev/shm") if Path("/dev/shm").is_dir() else None)
    begun = None if asked.json is None else asked.json.with_name(asked.json.name + ".part")
    interrupted_once()
    try:
        with tempfile.TemporaryDirectory(prefix="ftx-bench-", dir=below) as top:
            report = Report(surroundings(Setting(Path(top), scale)), scale)
            file, goals = asked.json, asked.goals
            earlier = None if file is None or begun is None else reload(file if goals else begun)
            if earlier is not None and earlier.scale == scale:
                report.findings = earlier.findings
            if not goals:
                file, goals = begun, [name for name in GOALS if name not in report.findings]
            try:
                with contextlib.nullcontext() if asked.quick else kept():
                    complete = _run(report, goals, Path(top), file)
            finally:
                end_all()
    except KeyboardInterrupt:
        print("interrupted; everything that was started has been ended", file=sys.stderr)
        return 130
    if begun is not None and not asked.goals and complete:
        begun.replace(asked.json) if begun.exists() else save(report, asked.json)
    _publish(report, asked.page)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
