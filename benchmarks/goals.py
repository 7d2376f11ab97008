"""The goals: what is run for each, and which ratios are drawn from it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import corpus
from benchmarks.crowds import many_clients
from benchmarks.curves import far_away, size_and_count
from benchmarks.finding import Finding, MiB, Setting
from benchmarks.gaps import gaps
from benchmarks.measure import BenchmarkError, Run, alternate, ratio, run
from benchmarks.ours import Ftx, fresh
from benchmarks.peers import Contestant, Curl, Pipe, Rsync, Scp, TarOverSsh, Wormhole
from benchmarks.replies import first_reply

__all__ = ["GOALS"]

Goal = Callable[[Setting], Finding]

#: Who takes many times as long as all others, so that two rounds are enough to know by how much.
_SLOW = {Scp.name, Wormhole.name}


def _compare(
    finding: Finding, setting: Setting, source: Path, others: Sequence[Contestant], check: Callable[[Path, Path], None]
) -> None:
    """Let ftx and `others` bring `source` over in turns, and prove each time that it arrived."""
    ours = Ftx()
    playing: list[Contestant] = []
    for one in (ours, *others):
        why = one.missing()
        if why is not None:
            finding.absent[one.name] = why
            continue
        own = setting.folder / f"service-{one.name.replace(' ', '-')}"
        own.mkdir()
        one.start(own)
        playing.append(one)
    try:

        def turn(one: Contestant) -> Run:
            into = setting.folder / "into"
            into.mkdir(exist_ok=True)
            try:
                result = one.push(source, into)
                check(source, into / source.name)
            finally:
                shutil.rmtree(into)
            return result

        work = {one.name: partial(turn, one) for one in playing}
        finding.runs = alternate(work, setting.scale.rounds, {name: 2 for name in work if name in _SLOW})
        if ours.name not in finding.runs:
            raise BenchmarkError("ftx itself failed")
        for name, runs in finding.runs.items():
            if name != ours.name:
                finding.ratios[name] = ratio(finding.runs[ours.name], runs)
        finding.figures["peak memory of ftx's daemon"] = f"{ours.memory() / MiB:.0f} MiB"
        peak = max(one.memory for one in finding.runs[ours.name])
        finding.figures["peak memory of ftx's client"] = f"{peak / MiB:.0f} MiB"
    finally:
        for one in playing:
            one.stop()


def one_large_file(setting: Setting) -> Finding:
    """P1: one file of random bytes."""
    finding = Finding("P1", f"one file of {setting.scale.large / MiB:,.0f} MiB")
    source = corpus.large_file(setting.folder / "large", setting.scale.large)
    _compare(finding, setting, source, (Pipe(), Rsync(), Curl(), Scp(), Wormhole()), corpus.check_file)
    pipe = finding.median(Pipe.name)
    finding.at_least("gate: speed of the blocking ssl pipe", 0.6, pipe)
    finding.at_least("goal: speed of the blocking ssl pipe", 0.85, pipe)
    finding.at_least("gate: speed of scp", 1.6, finding.median(Scp.name))
    finding.at_least("goal: speed of scp", 2.0, finding.median(Scp.name))
    finding.at_least("goal: speed of magic-wormhole", 3.0, finding.median(Wormhole.name))
    finding.at_least("stretch: speed of the clear-text rsync daemon", 1.0, finding.median(Rsync.name))
    return finding


def small_files(setting: Setting) -> Finding:
    """P2: many files of 4 KiB."""
    finding = Finding("P2", f"{setting.scale.small:,} files of 4 KiB")
    source = corpus.small_files(setting.folder / "small", setting.scale.small)
    _compare(finding, setting, source, (Rsync(), TarOverSsh(), Wormhole(), Scp()), corpus.check_tree)
    finding.at_least("gate: speed of the clear-text rsync daemon", 0.7, finding.median(Rsync.name))
    finding.at_least("goal: speed of the clear-text rsync daemon", 1.0, finding.median(Rsync.name))
    finding.at_least("goal: speed of scp -r", 10.0, finding.median(Scp.name))
    return finding


def resume(setting: Setting) -> Finding:
    """P3: stopped at 90 %, and the same command again, against the whole transfer."""
    finding = Finding("P3", f"the rest of {setting.scale.large / MiB:,.0f} MiB, stopped at 90 %")
    source = corpus.large_file(setting.folder / "large", setting.scale.large)
    ours = Ftx()
    (setting.folder / "service").mkdir()
    ours.start(setting.folder / "service")
    wire: list[int] = []

    def whole() -> Run:
        return fresh(setting.folder, lambda into: ours.push(source, into))

    def rest() -> Run:
        def both(into: Path) -> Run:
            ours.events(source, into, stop_at=0.9)
            begun = time.monotonic()
            done = next(event for event in ours.events(source, into) if event["event"] == "done")
            seconds = time.monotonic() - begun
            corpus.check_file(source, into / source.name)
            wire.append(int(done["bytes_wire"]))
            return Run(seconds, 0.0, 0)

        return fresh(setting.folder, both)

    try:
        finding.runs = alternate({"the rest": rest, "the whole": whole}, setting.scale.rounds)
        if len(finding.runs) == 2:
            found = ratio(finding.runs["the rest"], finding.runs["the whole"])
            finding.ratios["the whole, against the rest"] = found
            finding.at_most("goal: time of the rest, in times of the whole", 0.15, 1 / found.median)
        finding.figures["sent again at most"] = f"{max(wire) / setting.scale.large:.1%} of the content"
    finally:
        ours.stop()
    return finding


def changed(setting: Setting) -> Finding:
    """P5: a file that is there, sent again when a byte in every hundredth of its blocks is another one."""
    large = setting.scale.large
    finding = Finding("P5", f"{large / MiB:,.0f} MiB of which 1 % of the blocks changed")
    source = corpus.large_file(setting.folder / "large", large)
    ours = Ftx()
    (setting.folder / "service").mkdir()
    ours.start(setting.folder / "service")
    wire: list[int] = []

    def whole() -> Run:
        return fresh(setting.folder, lambda into: ours.push(source, into))

    def again() -> Run:
        def both(into: Path) -> Run:
            ours.push(source, into)
            corpus.change(source, len(wire))
            begun = time.monotonic()
            heard = ours.events(source, into)
            seconds = time.monotonic() - begun
            stored = next(event["stored_as"] for event in heard if event["event"] == "file")
            corpus.check_file(source, ours.inbox / stored)
            wire.append(int(next(event for event in heard if event["event"] == "done")["bytes_wire"]))
            return Run(seconds, 0.0, 0)

        return fresh(setting.folder, both)

    try:
        finding.runs = alternate({"changed": again, "the whole": whole}, setting.scale.rounds)
        if len(finding.runs) == 2:
            found = ratio(finding.runs["changed"], finding.runs["the whole"])
            finding.ratios["the whole, against what changed"] = found
            finding.at_most("goal: content on the wire, in % of the file", 1.2, 100 * max(wire) / large)
            finding.at_most("goal: time, in times of the whole", 0.5, 1 / found.median)
    finally:
        ours.stop()
    return finding


def nothing_changed(setting: Setting) -> Finding:
    """P4: a tree that is there already, again."""
    finding = Finding("P4", f"{setting.scale.small:,} files of 4 KiB, nothing changed")
    source = corpus.small_files(setting.folder / "small", setting.scale.small)
    ours, theirs = Ftx(), Rsync("-a")
    playing: list[Contestant] = [ours]
    if (why := theirs.missing()) is None:
        playing.append(theirs)
    else:
        finding.absent[theirs.name] = why
    work: dict[str, Callable[[], Run]] = {}
    try:
        for one in playing:
            own = setting.folder / f"service-{one.name.replace(' ', '-')}"
            into = setting.folder / f"into-{one.name.replace(' ', '-')}"
            own.mkdir()
            into.mkdir()
            one.start(own)
            one.push(source, into)
            work[one.name] = partial(one.push, source, into)
        finding.runs = alternate(work, setting.scale.rounds)
        if len(finding.runs) == 2:
            found = finding.ratios[theirs.name] = ratio(finding.runs[ours.name], finding.runs[theirs.name])
            finding.at_most("goal: time, in times of rsync's", 1.5, 1 / found.median)
    finally:
        for one in playing:
            one.stop()
    return finding


def start_up(setting: Setting) -> Finding:
    """P8: how long nothing takes."""
    finding = Finding("P8", "start-up")
    source = setting.folder / "small"
    source.write_bytes(b"x" * 1024)
    ours = Ftx()
    (setting.folder / "service").mkdir()
    ours.start(setting.folder / "service")
    imports = "from twisted.internet import reactor; from OpenSSL import SSL"
    work = {
        "ftx-client --version": lambda: run([sys.executable, "-m", "ftx", "--version"]),
        "bare Python": lambda: run([sys.executable, "-c", "pass"]),
        "ftx, 1 KiB": lambda: fresh(setting.folder, lambda into: ours.push(source, into)),
        "importing reactor and OpenSSL": lambda: run([sys.executable, "-c", imports]),
    }
    try:
        runs = finding.runs = alternate(work, setting.scale.rounds)
        if len(runs) == len(work):
            finding.ratios["bare Python, against --version"] = ratio(runs["ftx-client --version"], runs["bare Python"])
            finding.ratios["the imports, against 1 KiB"] = ratio(
                runs["ftx, 1 KiB"], runs["importing reactor and OpenSSL"]
            )
            bare, imports_alone = finding.ratios.values()
            finding.at_most("goal: `--version`, in starts of a bare Python", 5.0, 1 / bare.median)
            finding.at_most("goal: 1 KiB sent, in times of the imports", 1.5, 1 / imports_alone.median)
    finally:
        ours.stop()
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
}
