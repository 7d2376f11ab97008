"""P9: how long the reactor of either end is held up while it works."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from benchmarks import corpus
from benchmarks.crowds import Crowd
from benchmarks.finding import Finding, MiB, Setting
from benchmarks.measure import BenchmarkError
from benchmarks.ours import Ftx
from benchmarks.processes import end, finish, start

__all__ = ["gaps"]


def _share(delays: list[float], bound: float) -> float:
    return sum(1 for one in delays if one < bound) / len(delays)


def gaps(setting: Setting) -> Finding:
    """P9: one large file, many small ones and a tenth of the crowd, all at once; delays in the reactors."""
    scale = setting.scale
    crowd = max(1, scale.clients // 10)
    title = f"{scale.large // MiB} MiB, {scale.small:,} small files and {crowd} clients of 1 MiB, all at once"
    finding = Finding("P9", f"reactor gaps: {title}")
    sources = [
        corpus.large_file(setting.folder / "large", scale.large, copies=1),
        corpus.small_files(setting.folder / "small", scale.small),
    ]
    files = [corpus.large_file(setting.folder / f"{number:04d}", MiB, seed=number) for number in range(crowd)]
    into, service = setting.folder / "into", setting.folder / "service"
    into.mkdir()
    service.mkdir()
    delays = {name: setting.folder / f"{name}.json" for name in ("daemon", "large", "small")}
    ours = Ftx()
    try:
        ours.start(service, ("-m", "benchmarks.turns", str(delays["daemon"]), "daemon"))
        with Crowd(ours, into, files) as ready, contextlib.ExitStack() as ending:
            clients = []
            for source in sources:
                program = ("-m", "benchmarks.turns", str(delays[source.name]), "client")
                client = start(ours.command(source, into, "-q", program=program), environ=ours.environ)
                ending.callback(end, client)
                clients.append(client)
            ready.go()
            codes = [finish(client)[0] for client in clients]
        if any(codes):
            raise BenchmarkError(f"clients ended with {codes}")
        corpus.check_file(sources[0], into / "large")
        corpus.check_tree(sources[1], into / "small")
    finally:
        ours.stop()
    _judge(finding, delays)
    return finding


def _judge(finding: Finding, delays: dict[str, Path]) -> None:
    names = {"daemon": "the daemon", "large": "the client of the large file", "small": "the client of the small files"}
    for name, file in delays.items():
        found: list[float] = sorted(json.loads(file.read_text()))
        if not found:
            raise BenchmarkError(f"{names[name]} has noted no delays")
        at = found[min(len(found) - 1, int(0.999 * len(found)))]
        finding.figures[f"delays in {names[name]}"] = (
            f"median {1000 * found[len(found) // 2]:.1f} ms, 99.9 % under {1000 * at:.0f} ms, "
            f"longest {1000 * found[-1]:.0f} ms, of {len(found):,}"
        )
        share = 100 * _share(found, 0.05)
        finding.at_least(f"goal: share of delays under 50 ms in {names[name]}", 99.9, share, "{:.2f} %")
