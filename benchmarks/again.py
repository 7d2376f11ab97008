"""What is there already, whole or in part, is sent again: P3, P4 and P5."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import corpus
from benchmarks.delay import Delaying
from benchmarks.finding import Finding, MiB, Setting
from benchmarks.measure import BenchmarkError, Run, Spread, alternate, ratio
from benchmarks.ours import Ftx, fresh, serving
from benchmarks.peers import Contestant, Rsync

__all__ = ["changed", "nothing_changed", "resume"]

_WHOLE = "the whole"
_START_UP = "ftx, 1 KiB"


def _last(heard: list[dict[str, Any]], event: str) -> dict[str, Any]:
    return next(one for one in reversed(heard) if one["event"] == event)


def _whole(setting: Setting, ours: Ftx, source: Path) -> Run:
    """All of it, where nothing is yet."""

    def once(into: Path) -> Run:
        one = ours.push(source, into)
        corpus.check_file(source, into / source.name)
        return one

    return fresh(setting.folder, once)


def _against_whole(
    finding: Finding, setting: Setting, ours: Ftx, source: Path, name: str, part: Callable[[Path], Run]
) -> Spread:
    """`part`, and the whole of `source`, in turns; how long the part takes, in times of the whole."""
    work = {name: lambda: fresh(setting.folder, part), _WHOLE: lambda: _whole(setting, ours, source)}
    finding.runs = alternate(work, setting.scale.rounds)
    if len(finding.runs) < len(work):
        raise BenchmarkError("ftx failed")
    finding.ratios[f"{_WHOLE}, against {name}"] = found = ratio(finding.runs[name], finding.runs[_WHOLE])
    return found.inverse()


def resume(setting: Setting) -> Finding:
    """P3: stopped at 90 %, and the same command again, against the whole transfer; and when the first MiB comes."""
    large = setting.scale.large
    finding = Finding("P3", f"the rest of {large / MiB:,.0f} MiB, stopped at 90 %")
    source = corpus.large_file(setting.folder / "large", large, copies=1)
    wire: list[float] = []
    waits: list[float] = []
    with serving(setting.folder) as ours:

        def rest(into: Path) -> Run:
            ours.events(source, into, stop_at=0.9)
            one, heard = ours.events(source, into)
            corpus.check_file(source, into / source.name)
            wire.append(100 * int(_last(heard, "done")["bytes_wire"]) / large)
            return one

        def looked_at(into: Path) -> None:
            ours.events(source, into, stop_at=0.9)
            with Delaying(ours.port, 0) as proxy:
                ours.events(source, into, port=proxy.port)
            corpus.check_file(source, into / source.name)
            waits.extend(proxy.first_mib[:1])

        found = _against_whole(finding, setting, ours, source, "the rest", rest)
        for _ in range(setting.scale.rounds):
            fresh(setting.folder, looked_at)
    finding.figures["left to send when it was stopped, in % of the content"] = str(Spread.of(wire))
    finding.at_most("goal: time of the rest, in times of the whole", 0.15, found)
    if waits:
        first = Spread.of(waits)
        finding.figures["from the first byte of the connection to the first new MiB, s"] = str(first)
        finding.at_most("goal: first new content after the hello, in s", 0.3, first)
    return finding


def changed(setting: Setting) -> Finding:
    """P5: a file that is there, sent again when a byte in every hundredth of its blocks is another one."""
    size = setting.scale.changing
    finding = Finding("P5", f"{size / MiB:,.0f} MiB of which 1 % of the blocks changed")
    source = corpus.large_file(setting.folder / "large", size, copies=2)
    wire: list[float] = []
    with serving(setting.folder) as ours:

        def again(into: Path) -> Run:
            ours.push(source, into)
            corpus.change(source, len(wire))
            one, heard = ours.events(source, into)
            corpus.check_file(source, ours.inbox / _last(heard, "file")["stored_as"])
            wire.append(100 * int(_last(heard, "done")["bytes_wire"]) / size)
            return one

        found = _against_whole(finding, setting, ours, source, "changed", again)
    finding.at_most("goal: content on the wire, in % of the file", 1.2, Spread.of(wire))
    finding.at_most("goal: time, in times of the whole", 0.5, found)
    return finding


def nothing_changed(setting: Setting) -> Finding:
    """P4: trees that are there already, again; all but the largest may take the start-up of P8 in addition."""
    trees = setting.scale.trees
    finding = Finding("P4", f"{' and '.join(f'{count:,}' for count in trees)} files of 4 KiB, nothing changed")
    tiny = corpus.large_file(setting.folder / "tiny", 1024)
    theirs = Rsync("-a")
    with serving(setting.folder) as ours, contextlib.ExitStack() as ending:
        playing: list[Contestant] = [ours]
        if (why := theirs.missing()) is None:
            own = setting.folder / "service-rsync"
            own.mkdir()
            ending.callback(theirs.stop)
            theirs.start(own)
            playing.append(theirs)
        else:
            finding.absent[theirs.name] = why
        work = {_START_UP: lambda: fresh(setting.folder, lambda into: ours.push(tiny, into))}
        copies: list[tuple[Path, Path]] = []
        for count in trees:
            source = corpus.small_files(setting.folder / f"small-{count}", count)
            for one in playing:
                into = setting.folder / f"into-{count}-{one.name.replace(' ', '-')}"
                into.mkdir()
                one.push(source, into)
                copies.append((source, into / source.name))
                work[_again(one, count)] = partial(one.push, source, into)
        finding.runs = alternate(work, setting.scale.rounds)
        for source, copy in copies:
            corpus.check_tree(source, copy)
        for count in trees if theirs in playing else ():
            _judge(finding, count, _again(ours, count), _again(theirs, count), count == trees[-1])
    return finding


def _again(one: Contestant, count: int) -> str:
    return f"{one.name}, {count:,} files"


def _judge(finding: Finding, count: int, ours: str, theirs: str, alone: bool) -> None:
    """Against rsync: the whole time if that is to keep the bound `alone`, or what is above the start-up."""
    runs = finding.runs
    if not {ours, theirs, _START_UP} <= runs.keys():
        raise BenchmarkError("ftx or rsync failed")
    finding.ratios[f"{theirs}, against {ours}"] = found = ratio(runs[ours], runs[theirs])
    if alone:
        finding.at_most(f"goal: {count:,} files, time in times of rsync's", 1.5, found.inverse())
        return
    above = Spread.of(
        (our.seconds - start.seconds) / their.seconds
        for our, start, their in zip(runs[ours], runs[_START_UP], runs[theirs], strict=True)
    )
    finding.at_most(f"goal: {count:,} files, time without start-up (1 KiB sent), in times of rsync's", 1.5, above)
