"""The goals: what is run for each, and which ratios are drawn from it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import attrs

from benchmarks import corpus
from benchmarks.delay import Delaying
from benchmarks.measure import BenchmarkError, Ratio, Run, alternate, ratio, run
from benchmarks.ours import Ftx
from benchmarks.peers import Contestant, Curl, Pipe, Rsync, Scp, TarOverSsh, Wormhole

__all__ = ["GOALS", "Finding", "Scale", "Setting"]

MiB = 1 << 20


@attrs.frozen
class Scale:
    """How much is sent: bytes of the large file, number of small files, clients at once, rounds."""

    large: int
    small: int
    clients: int
    rounds: int


@attrs.frozen
class Setting:
    """Where it happens: an empty folder on a fast file system, and how much of everything."""

    folder: Path
    scale: Scale


@attrs.define
class Finding:
    """What was found for one goal."""

    goal: str
    title: str
    #: Runs by contestant, in the order of the rounds.
    runs: dict[str, list[Run]] = attrs.field(factory=dict)
    #: How many times as fast ftx was as each other, or what else is compared, by name.
    ratios: dict[str, Ratio] = attrs.field(factory=dict)
    #: Figures that are no ratios, by name, with their units in the text.
    figures: dict[str, str] = attrs.field(factory=dict)
    #: Who could not take part, and why.
    absent: dict[str, str] = attrs.field(factory=dict)


Goal = Callable[[Setting], Finding]


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
        finding.runs = alternate(work, setting.scale.rounds)
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
    return finding


def small_files(setting: Setting) -> Finding:
    """P2: many files of 4 KiB."""
    finding = Finding("P2", f"{setting.scale.small:,} files of 4 KiB")
    source = corpus.small_files(setting.folder / "small", setting.scale.small)
    _compare(finding, setting, source, (Rsync(), TarOverSsh(), Scp()), corpus.check_tree)
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
        return _fresh(setting, lambda into: ours.push(source, into))

    def rest() -> Run:
        def both(into: Path) -> Run:
            ours.events(source, into, stop_at=0.9)
            begun = time.monotonic()
            done = next(event for event in ours.events(source, into) if event["event"] == "done")
            seconds = time.monotonic() - begun
            corpus.check_file(source, into / source.name)
            wire.append(int(done["bytes_wire"]))
            return Run(seconds, 0.0, 0)

        return _fresh(setting, both)

    try:
        finding.runs = alternate({"the rest": rest, "the whole": whole}, setting.scale.rounds)
        if len(finding.runs) == 2:
            finding.ratios["the whole, against the rest"] = ratio(finding.runs["the rest"], finding.runs["the whole"])
        finding.figures["sent again at most"] = f"{max(wire) / setting.scale.large:.1%} of the content"
    finally:
        ours.stop()
    return finding


def _fresh(setting: Setting, work: Callable[[Path], Run]) -> Run:
    """`work` with an empty folder to bring things into."""
    into = setting.folder / "into"
    into.mkdir()
    try:
        return work(into)
    finally:
        shutil.rmtree(into)


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
            finding.ratios[theirs.name] = ratio(finding.runs[ours.name], finding.runs[theirs.name])
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
        "ftx, 1 KiB": lambda: _fresh(setting, lambda into: ours.push(source, into)),
        "importing reactor and OpenSSL": lambda: run([sys.executable, "-c", imports]),
    }
    try:
        runs = finding.runs = alternate(work, setting.scale.rounds)
        if len(runs) == len(work):
            finding.ratios["bare Python, against --version"] = ratio(runs["ftx-client --version"], runs["bare Python"])
            finding.ratios["the imports, against 1 KiB"] = ratio(
                runs["ftx, 1 KiB"], runs["importing reactor and OpenSSL"]
            )
    finally:
        ours.stop()
    return finding


def far_away(setting: Setting) -> Finding:
    """P10: many small files, through a proxy that adds 100 ms to every round trip."""
    count = max(100, setting.scale.small // 10)
    finding = Finding("P10", f"{count:,} files of 4 KiB, 100 ms further away")
    source = corpus.small_files(setting.folder / "small", count)
    ours = Ftx()
    (setting.folder / "service").mkdir()
    ours.start(setting.folder / "service")
    try:
        with Delaying(ours.port, 0.05) as proxy:

            def through(port: int) -> Run:
                return _fresh(
                    setting, lambda into: run(ours.command(source, into, "-q", port=port), environ=ours.environ)
                )

            work = {"near": lambda: through(ours.port), "far": lambda: through(proxy.port)}
            runs = finding.runs = alternate(work, setting.scale.rounds)
        if len(runs) == 2:
            longer = sorted(far.seconds - near.seconds for near, far in zip(runs["near"], runs["far"], strict=True))
            finding.figures["100 ms further away costs"] = f"{longer[len(longer) // 2]:.2f} s"
    finally:
        ours.stop()
    return finding


#: By name, in the order in which they are run.
GOALS: dict[str, Goal] = {
    "P1": one_large_file,
    "P2": small_files,
    "P3": resume,
    "P4": nothing_changed,
    "P8": start_up,
    "P10": far_away,
}
