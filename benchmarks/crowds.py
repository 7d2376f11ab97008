"""P7: many clients at once at one daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import attrs

from benchmarks import corpus
from benchmarks.finding import Curve, Finding, MiB, Setting
from benchmarks.measure import BenchmarkError, Run, alternate, ratio
from benchmarks.ours import Ftx, fresh, serving
from benchmarks.processes import end, spent, start

__all__ = ["Crowd", "many_clients"]

#: Processes that the clients are spread over: as many as there are processors beside the daemon's. More take these from
#: each other and from the daemon, which costs both more than is measured of either.
_PROCESSES = max(1, (os.cpu_count() or 1) - 1)


class Crowd:
    """Clients that are ready to begin, some in each of a few processes; a context that ends them."""

    def __init__(self, ours: Ftx, into: Path, sources: Sequence[Path]) -> None:
        self._sources = sources
        url, below = f"ftx://127.0.0.1:{ours.port}", str(into.relative_to(ours.inbox))
        self._daemon = ours.pid
        self._processes: list[subprocess.Popen[bytes]] = []
        for first in range(min(_PROCESSES, len(sources))):
            words: list[str | Path] = [
                sys.executable,
                "-m",
                "benchmarks.crowd",
                url,
                below,
                *sources[first::_PROCESSES],
            ]
            self._processes.append(start(words, environ=ours.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    def __enter__(self) -> Crowd:
        for process in self._processes:
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise BenchmarkError("a process of clients did not start")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            end(process, 0)

    def go(self) -> Run:
        """Begin, and wait for all; BenchmarkError unless every client's file is stored. Their start does not count."""
        before, started, begun = spent(self._daemon), self._spent(), time.monotonic()
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.write(b"go\n")
                process.stdin.flush()
        ends: Counter[str] = Counter()
        for process in self._processes:
            ends.update(json.loads((process.stdout.readline() if process.stdout else b"") or b"{}"))
        seconds = time.monotonic() - begun
        if ends["stored"] != len(self._sources):
            raise BenchmarkError(f"not all of {len(self._sources)} clients were served: {dict(ends)}")
        return Run(seconds, self._spent() - started, 0, spent(self._daemon) - before)

    def _spent(self) -> float:
        return sum(spent(process.pid) for process in self._processes)


@attrs.frozen
class _Files:
    """A folder with a file for each client."""

    setting: Setting
    folder: Path
    each: Sequence[Path]

    def by_crowd(self, ours: Ftx, count: int) -> Run:
        """The first so many files, each by a client of its own, all at once."""

        def once(into: Path) -> Run:
            with Crowd(ours, into, self.each[:count]) as ready:
                one = ready.go()
            for file in self.each[:count]:
                corpus.check_file(file, into / file.name)
            return one

        return fresh(self.setting.folder, once)

    def by_one(self, ours: Ftx) -> Run:
        """All of them by one client."""

        def once(into: Path) -> Run:
            with Crowd(ours, into, [self.folder]) as ready:
                one = ready.go()
            corpus.check_tree(self.folder, into / self.folder.name)
            return one

        return fresh(self.setting.folder, once)


def many_clients(setting: Setting) -> Finding:
    """P7: so many clients at once, 1 MiB each, against one client that sends as many files."""
    most = setting.scale.clients
    finding = Finding("P7", f"{most} clients at once, 1 MiB each")
    folder = setting.folder / "files"
    folder.mkdir()
    files = _Files(
        setting, folder, [corpus.large_file(folder / f"{number:04d}", MiB, seed=number) for number in range(most)]
    )
    points: dict[int, tuple[float, float]] = {}
    for count in sorted({*setting.scale.crowds, most}):
        with serving(setting.folder) as ours:
            one = files.by_crowd(ours, count)
            points[count] = one.seconds, ours.memory() / MiB
            if count == most:
                _compare(finding, files, ours)
    finding.at_least(f"goal: files stored of {most} clients at once", most, most, "{:.0f}")  # or else no run
    finding.at_most(f"goal: peak memory of the daemon with {most} at once", 300, points[most][1], "{:.0f} MiB")
    _curves(finding, points)
    return finding


def _compare(finding: Finding, files: _Files, ours: Ftx) -> None:
    """All clients at once, and one client with all the files, in turns."""
    most = len(files.each)
    work = {"all at once": lambda: files.by_crowd(ours, most), "one client": lambda: files.by_one(ours)}
    finding.runs = alternate(work, files.setting.scale.rounds)
    if len(finding.runs) < len(work):
        raise BenchmarkError("the crowd or the one client failed")
    found = ratio(finding.runs["all at once"], finding.runs["one client"])
    finding.ratios["the crowd, against one client with as many files"] = found
    finding.at_least("goal: total rate, in times of one client's", 0.5, found)


def _curves(finding: Finding, points: dict[int, tuple[float, float]]) -> None:
    across, first, last = "clients at once, 1 MiB each", min(points), max(points)
    time_curve = Curve("time-clients", "Time against clients at once", across, "seconds until all is stored")
    time_curve.lines["all of them"] = [(count, seconds) for count, (seconds, _) in points.items()]
    time_curve.claim = (
        f"{last} clients at once are all served in {points[last][0]:.1f} s: "
        f"{1000 * points[last][0] / last:.0f} ms for each, handshake and syncs included."
    )
    title = "The daemon's memory against clients at once"
    memory_curve = Curve("memory-clients", title, across, "MiB, resident at most")
    memory_curve.log_up = False
    memory_curve.lines["daemon"] = [(count, memory) for count, (_, memory) in points.items()]
    least, most = points[first][1], points[last][1]
    memory_curve.claim = (
        f"From {first} to {last} clients at once the daemon grows from {least:.0f} to {most:.0f} MiB: "
        f"{1024 * (most - least) / max(1, last - first):.0f} KiB for each."
    )
    finding.curves += [time_curve, memory_curve]
