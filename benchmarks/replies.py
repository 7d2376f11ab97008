"""P11: how long it takes until somebody who was asked for is shown."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys

from benchmarks.finding import Finding, Setting
from benchmarks.measure import BenchmarkError
from benchmarks.ours import Ftx

__all__ = ["first_reply"]


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def first_reply(setting: Setting) -> Finding:
    """P11: two daemons on loopback; from the call of `discover` to the first reply reported, and to the second."""
    times = 1 if setting.scale.rounds == 1 else 2 * setting.scale.rounds
    finding = Finding("P11", f"two peers discovered, {times} times")
    port = _free_udp_port()
    daemons = [Ftx(), Ftx()]
    try:
        for number, one in enumerate(daemons):
            service = setting.folder / f"{number}" / "service"
            service.mkdir(parents=True)
            one.start(service, ("-m", "ftx.daemon.main"), "--discovery-port", str(port))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.asking", str(times)],
            env={**daemons[0].environment(), "FTX_DISCOVERY_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=10 + 5 * times,
            check=False,
        )
    finally:
        for one in daemons:
            one.stop()
    if done.returncode:
        raise BenchmarkError(f"discovery failed:\n{done.stderr[-1000:]}")
    found: list[list[float]] = json.loads(done.stdout)
    if any(len(after) < 2 for after in found):
        raise BenchmarkError(f"not both peers were found each time: {[len(after) for after in found]}")
    for place, name in enumerate(("first", "second")):
        after = [1000 * one[place] for one in found]
        finding.figures[f"the {name} reply, ms"] = (
            f"{statistics.median(after):.1f} ({min(after):.1f} to {max(after):.1f}, {len(after)} times)"
        )
    median = 1000 * statistics.median(one[0] for one in found)
    finding.at_most("goal: the first reply is reported within", 50, median, "{:.1f} ms")
    return finding
