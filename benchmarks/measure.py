"""Measuring: one run of one program, series of alternating runs, and what may be concluded from them."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

__all__ = ["BenchmarkError", "Ratio", "Run", "alternate", "peak_memory", "ratio", "run", "spent"]

#: Seconds after which a run is given up.
LONGEST = 600.0
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """A contestant did not do what was asked: its figures would mean nothing."""


@attrs.frozen
class Run:
    """One run, from outside: seconds of wall time, seconds of processor time, peak resident memory in bytes."""

    seconds: float
    processor: float
    memory: int


def run(
    command: Sequence[str | Path],
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | None = None,
    codes: Sequence[int] = (0,),
) -> Run:
    """Run `command` to its end; BenchmarkError, with the end of what it said, unless it ends with one of `codes`."""
    with open(os.devnull, "rb") as nothing, subprocess.Popen(
        [str(word) for word in command],
        env={**os.environ, **(environ or {})},
        cwd=cwd,
        stdin=nothing if stdin is None else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        begun = time.monotonic()
        said = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        process.returncode = code = os.waitstatus_to_exitcode(status)
    if code not in codes:
        tail = said.decode(errors="replace")[-1000:]
        raise BenchmarkError(f"{command[0]} ended with {code}:\n{tail}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def spent(pid: int) -> float:
    """Seconds of processor time that the process has used, all its threads together (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_memory(pid: int) -> int:
    """The most resident memory that the process ever had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise BenchmarkError(f"the kernel says nothing about the memory of process {pid}")


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
class Ratio:
    """How many times as fast one side was as the other, pair by pair within a round."""

    median: float
    least: float
    most: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f}, {self.pairs} pairs)"


def ratio(ours: Sequence[Run], theirs: Sequence[Run]) -> Ratio:
    """Above 1: ours took less time than theirs in the same round, of those in which both took part."""
    pairs = [their.seconds / our.seconds for our, their in zip(ours, theirs, strict=False)]
    return Ratio(statistics.median(pairs), min(pairs), max(pairs), len(pairs))
