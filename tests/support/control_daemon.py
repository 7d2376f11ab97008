"""A small daemon behind a control socket: jobs, peers and events in memory, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred

from ftx.core.identity import format_id, parse_id
from ftx.daemon.commands import Commands
from ftx.daemon.events import EventStream, snapshot_of
from ftx.daemon.view import (
    Address,
    DiscoveryInfo,
    JobCounts,
    JobInfo,
    JobState,
    Limits,
    Metric,
    OfferInfo,
    PairingResult,
    PeerRecord,
    QueueEntry,
    ReloadResult,
    ScopedLimits,
    StatusResult,
)
from ftx.errors import FtxError
from ftx.net.control import ControlServer
from ftx.text import path_text
from ftx.wire.events import Event, Failed, PeerInfo, error_info

__all__ = ["SmallDaemon", "job", "job_id"]


def job_id(number: int) -> str:
    """The id of job `number`."""
    return f"{number:032x}"


def job(number: int, state: JobState = "active", path: str = "photos") -> JobInfo:
    """A job of 1,000 bytes of which 10 are there."""
    return JobInfo(
        job=job_id(number),
        state=state,
        peer=PeerInfo("pi", format_id(bytes(32)), "192.0.2.7", 7389),
        direction="in",
        files=3,
        bytes_total=1000,
        bytes_confirmed=10,
        path=path,
    )


@attrs.define(eq=False)
class SmallDaemon:
    """Implements `ftx.daemon.view.DaemonView`."""

    reactor: Any
    all_jobs: dict[str, JobInfo] = attrs.field(factory=dict)
    all_offers: dict[str, OfferInfo] = attrs.field(factory=dict)
    known: dict[str, PeerRecord] = attrs.field(factory=dict)
    rates: tuple[int, int] = (0, 0)
    queued: dict[str, QueueEntry] = attrs.field(factory=dict)
    level: str = "info"
    #: Names of the orders that came.
    orders: list[str] = attrs.field(factory=list)
    #: While set, `peers()` waits for it: something slow.
    gate: Deferred[None] | None = None
    #: How often something waited for it.
    held: int = 0
    #: What `shutdown()` starts.
    on_shutdown: Callable[[], object] = lambda: None
    #: More counters.
    measured: list[Metric] = attrs.field(factory=list)
    stream: EventStream = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.stream = EventStream(self.reactor, lambda: snapshot_of(self.jobs(None)))

    def serve(self, path: str, packet_path: str = "", group: int | None = None) -> ControlServer:
        """A started control server for this daemon."""
        server = ControlServer(
            self.reactor, path, Commands(self), owner_uid=os.geteuid(), packet_path=packet_path, group=group
        )
        server.start()
        return server

    def status(self) -> StatusResult:
        return StatusResult(
            version="1.0",
            name="desk",
            id=format_id(bytes(32)),
            pid=os.getpid(),
            uptime_s=1.5,
            listening=[Address("127.0.0.1", 7389), Address("::1", 7389)],
            discovery=DiscoveryInfo(7389, ["lo"]),
            inbox="/home/me/inbox",
            shares=[],
            jobs=JobCounts(active=len(self.all_jobs)),
            bytes_in=2048,
            bytes_out=0,
            limits=Limits(rate_in=1_000_000),
            peers_paired=len(self.known),
        )

    def jobs(self, state: JobState | None) -> Sequence[JobInfo]:
        return [one for one in self.all_jobs.values() if state in (None, one.state)]

    def job(self, job: str) -> JobInfo:
        found = self.all_jobs.get(job)
        if found is None:
            raise FtxError("no-such-job")
        return found

    async def cancel(self, job: str) -> JobInfo:
        error = error_info(FtxError("cancelled").as_value())
        found = msgspec.structs.replace(self.job(job), state="failed", error=error)
        self.all_jobs[job] = found
        if error is not None:
            self.stream.publish(Failed(job=job, error=error, exit=6, resumable=True))
        return found

    async def pause(self, job: str, paused: bool) -> JobInfo:
        found = self.all_jobs[job] = msgspec.structs.replace(self.job(job), paused="here" if paused else "")
        return found

    def limits(self) -> Sequence[ScopedLimits]:
        return [ScopedLimits("daemon", *self.rates), ScopedLimits("peer:pi", 0, 5000)]

    async def limit(self, scope: str, rate_in: int | None, rate_out: int | None) -> ScopedLimits:
        before = self.rates
        self.rates = (before[0] if rate_in is None else rate_in, before[1] if rate_out is None else rate_out)
        return ScopedLimits(scope, *self.rates)

    def offers(self) -> Sequence[OfferInfo]:
        return list(self.all_offers.values())

    def _offer(self, job: str) -> OfferInfo:
        if job not in self.all_offers:
            raise FtxError("no-such-job")
        return self.all_offers.pop(job)

    async def approve(self, job: str, always: bool, name: str | None, by: int) -> OfferInfo:
        offer = self._offer(job)
        self.orders.append(f"approve {always} {name} by {by}")
        return offer

    def deny(self, job: str, reason: str, by: int) -> OfferInfo:
        offer = self._offer(job)
        self.orders.append(f"deny {reason} by {by}")
        return offer

    async def peers(self) -> Sequence[PeerRecord]:
        if self.gate is not None:
            self.held += 1
            await self.gate
        return [self.known[name] for name in sorted(self.known)]

    async def add_peer(
        self, name: str, peer_id: str, addresses: Sequence[str], *, only_new: bool = False
    ) -> PeerRecord:
        if name in self.known:
            raise FtxError("name-taken")
        if only_new and any(one.id == format_id(parse_id(peer_id)) for one in self.known.values()):
            raise FtxError("not-authorised")
        record = PeerRecord(
            name=name, id=format_id(parse_id(peer_id)), addresses=list(addresses), added="2026-01-01T00:00:00Z"
        )
        self.known[name] = record
        return record

    async def remove_peer(self, name: str) -> PeerRecord:
        if name not in self.known:
            raise FtxError("no-such-peer")
        return self.known.pop(name)

    async def open_pairing(self, seconds: float, words: int, name: str, keep: bool) -> PairingResult:
        self.orders.append(f"pairing {seconds:g} {words} {name} {keep}")
        return PairingResult(code="7-acorn-willow", expires_s=seconds)

    async def close_pairing(self) -> bool:
        self.orders.append("no pairing")
        return self.orders.count("no pairing") == 1

    def queue(self) -> Sequence[QueueEntry]:
        return list(self.queued.values())

    async def queue_add(self, target: str, sources: Sequence[bytes], options: Sequence[str]) -> QueueEntry:
        entry = QueueEntry(
            job=job_id(len(self.queued)),
            target=target,
            sources=[path_text((one,)) for one in sources],
            sources_total=len(sources),
            state="waiting",
            paused=False,
            attempts=0,
            next_s=0.0,
            added="2026-01-01T00:00:00Z",
        )
        self.queued[entry.job] = entry
        self.orders.append(" ".join(options))
        return entry

    async def queue_remove(self, job: str) -> QueueEntry:
        if job not in self.queued:
            raise FtxError("no-such-job")
        return self.queued.pop(job)

    def log_level(self, level: str | None) -> str:
        self.level = level or self.level
        return self.level

    def subscribe(
        self, callback: Callable[[Event], None], types: Collection[str] | None, interval: float
    ) -> Callable[[], None]:
        return self.stream.subscribe(callback, types, interval)

    async def reload(self) -> ReloadResult:
        self.orders.append("reload")
        return ReloadResult(changed=["name"])

    async def drain(self) -> None:
        self.orders.append("drain")

    async def shutdown(self) -> None:
        self.orders.append("shutdown")
        self.on_shutdown()

    async def metrics(self) -> Sequence[Metric]:
        return [
            Metric("ftx_received_bytes_total", "counter", "Content bytes received.", 2048),
            Metric("ftx_jobs", "gauge", "Jobs by state.", len(self.all_jobs), {"state": "active"}),
            Metric("ftx_jobs", "gauge", "Jobs by state.", 0, {"state": "done"}),
            *self.measured,
        ]
