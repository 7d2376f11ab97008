"""What a running daemon measures of itself."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from support.bounded import bounded
from support.local_client import LocalClient
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from ftx import limits
from ftx.client.ctl_text import status_lines
from ftx.daemon.config import Request, load
from ftx.daemon.gap import Gap
from ftx.daemon.service import make_service


def values(text: str) -> dict[str, float]:
    """Name and labels, and the value, of each line."""
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


@bounded(30)
async def test_the_metrics_of_a_daemon(reactor: Any, short_tmp: Path) -> None:
    options: dict[str, Any] = {"listen": ["tcp:0:interface=127.0.0.1"], "no_discovery": True, "limit_in": "5M"}
    options["metrics"] = "tcp:0"
    daemon = make_service(load(Request(options, str(short_tmp / "home"))), reactor, owns_process=False)
    daemon.privilegedStartService()
    daemon.startService()
    with LocalClient(daemon.config.control) as client:
        status = (await client.ask("daemon.status"))["result"]
        [place] = status["metrics"]
        assert place["address"] == "127.0.0.1"
        assert f"metrics    http://127.0.0.1:{place['port']}/metrics" in status_lines(status)
        reply = await client.ask("metrics.get")
        found = values(reply["result"]["text"])
        disk = os.statvfs(short_tmp)
        assert 0 < found["ftx_inbox_free_bytes"] <= disk.f_blocks * disk.f_frsize
        assert found['ftx_limit_bytes_per_second{direction="in"}'] == 5_000_000
        assert found["ftx_control_clients"] == 1
        assert found["ftx_control_dropped_total"] == found["ftx_draining"] == found["ftx_jobs_paused"] == 0
        assert found["ftx_reactor_gap_seconds"] >= 0
        assert daemon.jobs is not None
        assert daemon.hooks is not None
        daemon.hooks.succeeded, daemon.hooks.failed, daemon.hooks.dropped = 5, 2, 1
        daemon.jobs.reports.errors["no-space"] = 2
        reply = await client.ask("metrics.get")
        found = values(reply["result"]["text"])
        assert found['ftx_job_errors_total{name="no-space"}'] == 2
        assert [found[f"ftx_hooks_{what}_total"] for what in ("runs", "failures", "dropped")] == [7, 2, 1]
    await Deferred.fromCoroutine(daemon._stop())


@bounded(30)
async def test_a_disk_that_does_not_answer_is_left_out(reactor: Any, short_tmp: Path) -> None:
    """With every thread held up by the disk, metrics come after FREE_WAIT, and all but the free space is there."""
    options: dict[str, Any] = {"listen": ["tcp:0:interface=127.0.0.1"], "no_discovery": True}
    daemon = make_service(load(Request(options, str(short_tmp / "home"))), reactor, owns_process=False)
    daemon.privilegedStartService()
    daemon.startService()
    over = threading.Event()
    held = [daemon.worker.run(over.wait, 20) for _ in range(limits.WORKER_THREADS_MOST)]
    try:
        with LocalClient(daemon.config.control) as client:
            begun = reactor.seconds()
            reply = await client.ask("metrics.get")
            assert reactor.seconds() - begun >= limits.FREE_WAIT
            found = values(reply["result"]["text"])
            assert "ftx_inbox_free_bytes" not in found
            assert found["ftx_control_clients"] == 1
    finally:
        over.set()
    for one in held:
        await one
    await Deferred.fromCoroutine(daemon._stop())


def test_the_gap_is_the_longest_delay_of_the_last_minute() -> None:
    clock = Clock()
    gap = Gap(clock)
    gap.start()
    for _ in range(8):
        clock.advance(limits.GAP_EVERY)
    assert gap.longest == 0
    clock.advance(limits.GAP_EVERY + 0.7)
    assert abs(gap.longest - 0.7) < 0.01
    for _ in range(int(limits.GAP_SPAN / limits.GAP_EVERY) + 8):
        clock.advance(limits.GAP_EVERY)
    assert gap.longest < 0.3
    gap.stop()
    assert clock.getDelayedCalls() == []
