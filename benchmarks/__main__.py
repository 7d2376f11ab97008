"""`python -m benchmarks [P1 P2 ...]`: see `benchmarks/README.md`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.goals import GOALS, MiB, Scale, Setting
from benchmarks.measure import BenchmarkError
from benchmarks.report import as_json, as_markdown, surroundings

QUICK = Scale(large=24 * MiB, small=300, clients=10, rounds=1)
FULL = Scale(large=1024 * MiB, small=20_000, clients=500, rounds=5)


def main() -> int:
    """Run the goals that are named, or all; 1 if one of them could not be run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("goals", nargs="*", metavar="GOAL", help=f"one or more of {' '.join(GOALS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="little of everything, once: does the runner work?")
    parser.add_argument("--rounds", type=int, help=f"rounds, of which medians are taken (default: {FULL.rounds})")
    parser.add_argument("--large", type=int, metavar="MIB", help="size of the large file (default: 1024)")
    parser.add_argument("--small", type=int, metavar="FILES", help="number of small files (default: 20000)")
    parser.add_argument("--folder", type=Path, help="where to work (default: /dev/shm if it is there)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, every single run too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there (default: stdout)")
    asked = parser.parse_args()
    # Installed packages are compiled; a checkout that may not keep what it compiles would do it at each start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    unknown = [name for name in asked.goals if name not in GOALS]
    if unknown:
        parser.error(f"there is no goal {unknown[0]}; there are {', '.join(GOALS)}")
    base = QUICK if asked.quick else FULL
    scale = Scale(
        large=asked.large * MiB if asked.large else base.large,
        small=asked.small or base.small,
        clients=base.clients,
        rounds=asked.rounds or base.rounds,
    )
    shared = Path("/dev/shm")
    below = asked.folder or (shared if shared.is_dir() else None)
    findings, failed = [], False
    with tempfile.TemporaryDirectory(prefix="ftx-bench-", dir=below) as top:
        where = surroundings(Setting(Path(top), scale))
        for name in asked.goals or GOALS:
            print(f"{name}", file=sys.stderr)
            with tempfile.TemporaryDirectory(dir=top) as folder:
                try:
                    findings.append(GOALS[name](Setting(Path(folder), scale)))
                except BenchmarkError as error:
                    print(f"  {name} could not be run: {error}", file=sys.stderr)
                    failed = True
    if asked.json:
        asked.json.write_text(as_json(where, findings))
    tables = as_markdown(where, findings)
    if asked.markdown:
        asked.markdown.write_text(tables)
    else:
        print(tables)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
