"""P12: one file with one connection and with several, near and a long way off.

What one connection has under way is bounded (`benchmarks/delay.py`), so on a long path several carry more; near by
they have nothing to gain and should cost nothing.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks import corpus
from benchmarks.distance import through
from benchmarks.finding import Curve, Finding, MiB, Setting
from benchmarks.measure import BenchmarkError, Run, alternate, ratio
from benchmarks.ours import Ftx, fresh, serving

__all__ = ["lanes"]

#: What one connection has under way at most: what Linux has for a send buffer (`net.ipv4.tcp_wmem`).
_WINDOW = 4 * MiB
#: The default may be slower than one lane where it can gain nothing by so much, which no five rounds tell apart.
_EQUAL = 0.95
#: How many times as fast the default should be as one lane at `_FAR` ms; twice is what a second lane can bring.
_FAR, _GAIN = 100, 2.0


def _known(ours: Ftx) -> bool:
    """Whether this version can be told how many."""
    words = [sys.executable, "-m", "ftx", "send", "--help"]
    said = subprocess.run(words, env=ours.environment(), capture_output=True, text=True, check=False).stdout
    return "--lanes" in said


def _name(count: int | None, where: str) -> str:
    if count is None:
        return f"default, {where}"
    return f"{count} {'lane' if count == 1 else 'lanes'}, {where}"


def lanes(setting: Setting) -> Finding:
    """P12: one file, on loopback and through a long path, with so many lanes and with as many as ftx takes itself."""
    scale = setting.scale
    window = f"{_WINDOW // MiB} MiB under way in each connection"
    finding = Finding("P12", f"lanes: one file of {scale.wide // MiB} MiB, {window}")
    source = corpus.large_file(setting.folder / "large", scale.wide)
    delays = [delay for delay in scale.delays if delay]
    far = _FAR if _FAR in delays else delays[-1]
    with serving(setting.folder) as ours:
        counts: list[int | None] = [None]
        if _known(ours):
            counts = [*scale.lanes, None]
        else:
            finding.absent["--lanes"] = "this version has one connection for each job, which is its default"

        def near(count: int | None) -> Run:
            def once(into: Path) -> Run:
                one = ours.push(source, into, lanes=count)
                corpus.check_file(source, into / source.name)
                return one

            return fresh(setting.folder, once)

        work = {_name(count, "loopback"): partial(near, count) for count in counts}
        for delay in delays:
            for count in counts if delay == far else [one for one in counts if one in (1, None)]:
                work[_name(count, f"{delay} ms")] = partial(
                    through, setting, ours, source, corpus.check_file, delay, window=_WINDOW, lanes=count
                )
        finding.runs = alternate(work, scale.rounds)
    if len(finding.runs) < len(work):
        raise BenchmarkError("ftx failed with some number of lanes")
    _judge(finding, far)
    finding.curves.append(_curve(finding, delays, scale.wide))
    return finding


def _judge(finding: Finding, far: int) -> None:
    """The default beside one lane, near and far; nothing where there is only one."""
    runs = finding.runs
    for where, bound in (("loopback", _EQUAL), (f"{far} ms", _GAIN)):
        default, single = _name(None, where), _name(1, where)
        if single in runs:
            finding.ratios[f"{single}, against {default}"] = found = ratio(runs[default], runs[single])
            finding.at_least(f"goal: speed of the default at {where}, in times of one lane's", bound, found)


def _curve(finding: Finding, delays: list[int], size: int) -> Curve:
    """Time against round trip, of one lane and of the default."""
    title = f"Time of {size // MiB} MiB against distance, {_WINDOW // MiB} MiB under way in each connection"
    curve = Curve("time-lanes", title, "round trip, ms", "seconds, whole process", log_across=False, log_up=False)
    for name, count in (("1 lane", 1), ("default", None)):
        line = [(0, finding.runs.get(_name(count, "loopback")))]
        line += [(delay, finding.runs.get(_name(count, f"{delay} ms"))) for delay in delays]
        points = [(float(x), statistics.median(one.seconds for one in runs)) for x, runs in line if runs]
        if points:
            curve.lines[name] = points
    last = delays[-1]
    rates = [f"{name} {size / line[-1][1] / 1e6:.0f} MB/s" for name, line in curve.lines.items()]
    curve.claim = f"{last} ms away: {', '.join(rates)}, start-up included."
    if len(curve.lines) > 1:
        one, default = (line[-1][1] for line in curve.lines.values())
        curve.claim = f"{curve.claim[:-1]}; the default is {one / default:.1f} times as fast as one lane."
    return curve
