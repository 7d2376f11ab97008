"""P11: how long it takes until somebody who was asked for is shown."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

from benchmarks.finding import Finding, Setting
from benchmarks.measure import BenchmarkError, Spread
from benchmarks.ours import Ftx
from benchmarks.processes import end, finish, free_port, start

__all__ = ["first_reply"]


def first_reply(setting: Setting) -> Finding:
    """P11: two daemons on loopback; from the call of `discover` to the first reply reported, and to the second."""
    times = 1 if setting.scale.rounds == 1 else 2 * setting.scale.rounds
    finding = Finding("P11", f"two peers discovered, {times} times")
    port = free_port(socket.SOCK_DGRAM)
    daemons = [Ftx(), Ftx()]
    try:
        for number, one in enumerate(daemons):
            service = setting.folder / f"{number}" / "service"
            service.mkdir(parents=True)
            one.start(service, ("-m", "ftx.daemon.main"), "--discovery-port", str(port))
        process = start(
            [sys.executable, "-m", "benchmarks.asking", str(times)],
            environ={**daemons[0].environ, "FTX_DISCOVERY_PORT": str(port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            said: bytes = process.stdout.read() if process.stdout else b""
            code, *_ = finish(process)
        finally:
            end(process)
    finally:
        for one in daemons:
            one.stop()
    if code:
        raise BenchmarkError(f"discovery failed:\n{said.decode(errors='replace')[-1000:]}")
    found: list[list[float]] = json.loads(said)
    if any(len(after) < 2 for after in found):
        raise BenchmarkError(f"not both peers were found each time: {[len(after) for after in found]}")
    replies = {name: Spread.of(1000 * one[place] for one in found) for place, name in enumerate(("first", "second"))}
    for name, after in replies.items():
        finding.figures[f"the {name} reply, ms"] = str(after)
    finding.at_most("goal: the first reply is reported within", 50, replies["first"], "{:.1f} ms")
    return finding
