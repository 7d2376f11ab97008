"""The goals, and those that are about bringing something over: what is run, and which ratios are drawn from it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import corpus
from benchmarks.again import changed, nothing_changed, resume
from benchmarks.crowds import many_clients
from benchmarks.curves import size_and_count
from benchmarks.distance import far_away
from benchmarks.finding import Finding, MiB, Setting
from benchmarks.gaps import gaps
from benchmarks.lanes import lanes
from benchmarks.measure import BenchmarkError, Run, alternate, ratio
from benchmarks.ours import Ftx, fresh, serving
from benchmarks.peers import Contestant, Curl, Pipe, Rsync, Scp, TarOverSsh, Wormhole
from benchmarks.processes import run
from benchmarks.replies import first_reply

__all__ = ["GOALS"]

Goal = Callable[[Setting], Finding]

#: Rounds of whoever takes many times as long as all others: they are enough to know by how much.
_FEW = 2


def _compare(
    finding: Finding,
    setting: Setting,
    source: Path,
    others: Sequence[Contestant],
    check: Callable[[Path, Path], None],
    slow: Sequence[str],
) -> None:
    """Let ftx and `others` bring `source` over in turns, and prove each time that it arrived; the `slow` less often."""
    ours = Ftx()
    playing: list[Contestant] = []
    try:
        for one in (ours, *others):
            why = one.missing()
            if why is not None:
                finding.absent[one.name] = why
                continue
            own = setting.folder / f"service-{one.name.replace(' ', '-')}"
            own.mkdir()
            playing.append(one)
            one.start(own)

        def turn(one: Contestant) -> Run:
            def once(into: Path) -> Run:
                result = one.push(source, into)
                check(source, into / source.name)
                return result

            return fresh(setting.folder, once)

        work = {one.name: partial(turn, one) for one in playing}
        finding.runs = alternate(work, setting.scale.rounds, dict.fromkeys(slow, _FEW))
        if ours.name not in finding.runs:
            raise BenchmarkError("ftx itself failed")
        for name in work:
            if name not in finding.runs:
                finding.absent[name] = "it failed, or what arrived was not what was sent"
            elif name != ours.name:
                finding.ratios[name] = ratio(finding.runs[ours.name], finding.runs[name])
        finding.figures["peak memory of ftx's daemon"] = f"{ours.memory() / MiB:.0f} MiB"
        peak = max(one.memory for one in finding.runs[ours.name])
        finding.figures["peak memory of ftx's client"] = f"{peak / MiB:.0f} MiB"
    finally:
        for one in playing:
            one.stop()


def one_large_file(setting: Setting) -> Finding:
    """P1: one file of random bytes."""
    finding = Finding("P1", f"one file of {setting.scale.large / MiB:,.0f} MiB")
    source = corpus.large_file(setting.folder / "large", setting.scale.large, copies=1)
    others = (Pipe(), Rsync(), Curl(), Scp(), Wormhole())
    _compare(finding, setting, source, others, corpus.check_file, [Wormhole.name])
    pipe, scp = finding.ratio(Pipe.name), finding.ratio(Scp.name)
    finding.at_least("gate: speed of the blocking ssl pipe", 0.6, pipe)
    finding.at_least("goal: speed of the blocking ssl pipe", 0.85, pipe)
    finding.at_least("gate: speed of scp", 1.6, scp)
    finding.at_least("goal: speed of scp", 2.0, scp)
    finding.at_least("goal: speed of magic-wormhole", 3.0, finding.ratio(Wormhole.name))
    finding.at_least("stretch: speed of the clear-text rsync daemon", 1.0, finding.ratio(Rsync.name))
    return finding


def small_files(setting: Setting) -> Finding:
    """P2: many files of 4 KiB."""
    finding = Finding("P2", f"{setting.scale.small:,} files of 4 KiB")
    source = corpus.small_files(setting.folder / "small", setting.scale.small)
    others = (Rsync(), TarOverSsh(), Wormhole(), Scp())
    _compare(finding, setting, source, others, corpus.check_tree, [Wormhole.name, Scp.name])
    finding.at_least("gate: speed of the clear-text rsync daemon", 0.7, finding.ratio(Rsync.name))
    finding.at_least("goal: speed of the clear-text rsync daemon", 1.0, finding.ratio(Rsync.name))
    finding.at_least("goal: speed of scp -r", 10.0, finding.ratio(Scp.name))
    return finding


def start_up(setting: Setting) -> Finding:
    """P8: how long nothing takes."""
    finding = Finding("P8", "start-up")
    source = corpus.large_file(setting.folder / "tiny", 1024)
    imports = "from twisted.internet import reactor; from OpenSSL import SSL"
    version, bare, tiny, alone = "ftx-client --version", "bare Python", "ftx, 1 KiB", "importing reactor and OpenSSL"
    with serving(setting.folder) as ours:

        def once(into: Path) -> Run:
            one = ours.push(source, into)
            corpus.check_file(source, into / source.name)
            return one

        work = {
            version: lambda: run([sys.executable, "-m", "ftx", "--version"]),
            bare: lambda: run([sys.executable, "-c", "pass"]),
            tiny: lambda: fresh(setting.folder, once),
            alone: lambda: run([sys.executable, "-c", imports]),
        }
        runs = finding.runs = alternate(work, setting.scale.rounds)
    if len(runs) < len(work):
        raise BenchmarkError("one of the programs failed")
    finding.ratios["bare Python, against --version"] = starts = ratio(runs[version], runs[bare])
    finding.ratios["the imports, against 1 KiB"] = sent = ratio(runs[tiny], runs[alone])
    finding.at_most("goal: `--version`, in starts of a bare Python", 5.0, starts.inverse())
    finding.at_most("goal: 1 KiB sent, in times of the imports", 1.5, sent.inverse())
    return finding


#: By name, in the order in which they are run.
GOALS: dict[str, Goal] = {
    "P1": one_large_file,
    "P2": small_files,
    "P3": resume,
    "P4": nothing_changed,
    "P5": changed,
    "P6": size_and_count,
    "P7": many_clients,
    "P8": start_up,
    "P9": gaps,
    "P10": far_away,
    "P11": first_reply,
    "P12": lanes,
}
