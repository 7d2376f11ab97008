"""What a running daemon measures of itself: the counters and gauges of `metrics.get`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, TimeoutError

from ftx import limits
from ftx.daemon.view import Metric, StatusResult

if TYPE_CHECKING:
    from ftx.daemon.service import Daemon

__all__ = ["measured"]


async def measured(daemon: Daemon, status: StatusResult) -> Sequence[Metric]:
    """Counters and gauges, those of one name together. A disk that does not answer is left out, not waited for."""
    found = [*_jobs(daemon, status), *_doors(daemon, status)]
    try:
        asked = daemon.worker.run(os.statvfs, daemon.config.inbox)
        disk = await asked.addTimeout(limits.FREE_WAIT, daemon.reactor)
    except (TimeoutError, CancelledError, OSError):  # TimeoutError of Twisted, not Python's own
        return found
    free = disk.f_bavail * disk.f_frsize
    return [*found, Metric("ftx_inbox_free_bytes", "gauge", "Space that is free for the inbox.", free)]


def _jobs(daemon: Daemon, status: StatusResult) -> Iterator[Metric]:
    yield Metric("ftx_info", "gauge", "Always 1; the version is a label.", 1, {"version": status.version})
    yield Metric("ftx_received_bytes_total", "counter", "Content bytes received.", status.bytes_in)
    yield Metric("ftx_sent_bytes_total", "counter", "Content bytes sent.", status.bytes_out)
    yield Metric("ftx_jobs_done_total", "counter", "Jobs that ended with a receipt.", status.jobs.done)
    yield Metric("ftx_jobs_partial_total", "counter", "Those of them that lack files.", status.jobs.partial)
    yield Metric("ftx_jobs_failed_total", "counter", "Jobs that ended without one.", status.jobs.failed)
    yield Metric("ftx_jobs_active", "gauge", "Jobs that run.", status.jobs.active)
    said = "Jobs that wait, for an approval or to be sent."
    yield Metric("ftx_jobs_waiting", "gauge", said, status.jobs.waiting)
    if daemon.jobs is None:
        return
    running = daemon.jobs.list("active")
    paused = sum(1 for job in running if job.paused)
    yield Metric("ftx_jobs_paused", "gauge", "Jobs that run, and that somebody has paused.", paused)
    for way, name in (("in", "receiving"), ("out", "sending")):
        rate = sum(job.rate or 0.0 for job in running if job.direction == way)
        said = "Verified bytes per second, lately, in all jobs of this direction."
        yield Metric(f"ftx_{name}_bytes_per_second", "gauge", said, rate)
    for name, count in sorted(daemon.jobs.errors.items()):
        said = "Jobs that ended without a receipt, by the reason."
        yield Metric("ftx_job_errors_total", "counter", said, count, {"name": name})
    for way, limit in zip(("in", "out"), daemon.jobs.rates.daemon, strict=True):
        said = "The daemon's own rate limit, 0 for none."
        yield Metric("ftx_limit_bytes_per_second", "gauge", said, limit, {"direction": way})


def _doors(daemon: Daemon, status: StatusResult) -> Iterator[Metric]:
    strangers, known = (0, 0) if daemon.reception is None else daemon.reception.connections
    yield Metric("ftx_connections", "gauge", "Connections.", strangers, {"signed_in": "no"})
    yield Metric("ftx_connections", "gauge", "Connections.", known, {"signed_in": "yes"})
    yield Metric("ftx_peers_paired", "gauge", "Paired peers.", status.peers_paired)
    yield Metric("ftx_uptime_seconds", "gauge", "Seconds since the start.", status.uptime_s)
    yield Metric("ftx_draining", "gauge", "1 while no new jobs are taken.", int(status.draining))
    gap = "The longest time, in the last minute, for which the daemon was busy with one thing."
    yield Metric("ftx_reactor_gap_seconds", "gauge", gap, daemon.gap.longest)
    control = daemon.control
    if control is not None:
        yield Metric("ftx_control_clients", "gauge", "Clients of the control sockets.", control.clients)
        said = "Control clients that were dropped because they did not read."
        yield Metric("ftx_control_dropped_total", "counter", said, control.clients_dropped)
        said = "Progress events that control clients lost because they read too slowly."
        yield Metric("ftx_control_events_dropped_total", "counter", said, control.events_dropped)
    hooks = daemon.hooks
    if hooks is not None:
        yield Metric("ftx_hooks_runs_total", "counter", "Runs of hooks that are over.", hooks.succeeded + hooks.failed)
        said = "Those of them that failed, or took too long, or could not be started."
        yield Metric("ftx_hooks_failures_total", "counter", said, hooks.failed)
        said = "Events that hooks were not run on, since too many waited already."
        yield Metric("ftx_hooks_dropped_total", "counter", said, hooks.dropped)
    if daemon.responder is not None:
        answered = daemon.responder.counters.answered
        yield Metric("ftx_discovery_answered_total", "counter", "Discovery queries answered.", answered)
