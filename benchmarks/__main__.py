"""`python -m benchmarks [P1 P2 ...]`: see `benchmarks/README.md`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from benchmarks.finding import MiB, Scale, Setting
from benchmarks.goals import GOALS
from benchmarks.measure import BenchmarkError
from benchmarks.report import Report, as_markdown, draw, put_into, reload, save, surroundings

QUICK = Scale(
    large=24 * MiB, small=300, clients=2, rounds=1,
    sizes=(1,), counts=(10,), crowds=(), delays=(0, 20),
)  # fmt: skip
FULL = Scale(
    large=1024 * MiB, small=20_000, clients=500, rounds=5,
    sizes=(1, 8, 64, 512, 1024, 4096, 8192), counts=(10, 100, 1000, 10_000, 50_000, 200_000),
    crowds=(1, 10, 50, 100, 250), delays=(0, 20, 50, 100, 200),
)  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("goals", nargs="*", metavar="GOAL", help=f"one or more of {' '.join(GOALS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="little of everything, once: does the runner work?")
    parser.add_argument("--rounds", type=int, help=f"rounds, of which medians are taken (default: {FULL.rounds})")
    parser.add_argument("--large", type=int, metavar="MIB", help="size of the large file (default: 1024)")
    parser.add_argument("--small", type=int, metavar="FILES", help="number of small files (default: 20000)")
    parser.add_argument("--folder", type=Path, help="where to work (default: /dev/shm if it is there)")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="where further programs of peers are")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep everything there, and go on from there")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put tables and pictures there (default: stdout)")
    return parser


def _scale(asked: argparse.Namespace) -> Scale:
    base = QUICK if asked.quick else FULL
    return Scale(
        large=asked.large * MiB if asked.large else base.large,
        small=asked.small or base.small,
        clients=base.clients,
        rounds=asked.rounds or base.rounds,
        sizes=base.sizes,
        counts=base.counts,
        crowds=base.crowds,
        delays=base.delays,
    )


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
    scale = _scale(asked)
    below = asked.folder or (Path("/dev/shm") if Path("/dev/shm").is_dir() else None)
    begun = None if asked.json is None else asked.json.with_name(asked.json.name + ".part")
    with tempfile.TemporaryDirectory(prefix="ftx-bench-", dir=below) as top:
        report = Report(surroundings(Setting(Path(top), scale)), scale)
        file, goals = asked.json, asked.goals
        earlier = None if file is None or begun is None else reload(file if goals else begun)
        if earlier is not None and earlier.scale == scale:
            report.findings = earlier.findings
        if not goals:
            file, goals = begun, [name for name in GOALS if name not in report.findings]
        complete = _run(report, goals, Path(top), file)
    if begun is not None and not asked.goals and complete:
        begun.replace(asked.json) if begun.exists() else save(report, asked.json)
    _publish(report, asked.page)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
