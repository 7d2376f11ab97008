"""The running daemon as the control socket sees it: `DaemonView`, implemented."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from twisted.logger import Logger

from ftx import __version__, limits
from ftx.core.identity import format_id, parse_id
from ftx.core.peers import Peer, TrustStore
from ftx.daemon import logs
from ftx.daemon.jobs import Jobs
from ftx.daemon.measured import measured
from ftx.daemon.queue import Queue
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
from ftx.disk.landlock import READ
from ftx.disk.peers import update
from ftx.errors import FtxError
from ftx.net.discovery import Responder
from ftx.text import show
from ftx.wire.events import Event, iso_time

if TYPE_CHECKING:
    from ftx.daemon.service import Daemon

__all__ = ["Running"]


_log = Logger()


def _record(peer: Peer) -> PeerRecord:
    return PeerRecord(
        name=peer.name, id=format_id(peer.id), addresses=list(peer.addresses), added=peer.added, seen=peer.seen
    )


class Running:
    """See `ftx.daemon.view.DaemonView`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._since = time.monotonic()

    @property
    def _jobs(self) -> Jobs:
        jobs = self._daemon.jobs
        if jobs is None:
            raise FtxError("busy", "the daemon is starting")
        return jobs

    def status(self) -> StatusResult:
        """See `DaemonView`."""
        daemon = self._daemon
        responder = daemon.responder
        counts = daemon.jobs.counts if daemon.jobs is not None else JobCounts()
        return StatusResult(
            version=__version__,
            name=daemon.config.name,
            id=format_id(daemon.identity.id),
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._since, 3),
            listening=[Address(host, port) for host, port in daemon.listening.addresses],
            discovery=self._discovery(responder) if responder is not None and responder.running else None,
            inbox=show(daemon.config.inbox, limits.PATH),
            shares=[] if daemon.serving is None else daemon.serving.names(),
            jobs=counts,
            bytes_in=daemon.jobs.received_so_far() if daemon.jobs is not None else 0,
            bytes_out=daemon.jobs.sent_so_far() if daemon.jobs is not None else 0,
            limits=Limits(*daemon.jobs.rates.daemon) if daemon.jobs is not None else Limits(),
            peers_paired=daemon.reception.paired if daemon.reception is not None else 0,
            draining=daemon.jobs is not None and daemon.jobs.draining,
            sandbox=daemon.sandbox.status,
            metrics=[] if daemon.scraped is None else [Address(*one) for one in daemon.scraped.addresses],
        )

    def _discovery(self, responder: Responder) -> DiscoveryInfo:
        daemon = self._daemon
        return DiscoveryInfo(
            responder.port, list(responder.interfaces), daemon.config.answered, daemon.publisher is not None
        )

    def jobs(self, state: JobState | None) -> Sequence[JobInfo]:
        """See `DaemonView`."""
        return self._jobs.list(state)

    def job(self, job: str) -> JobInfo:
        """See `DaemonView`."""
        return self._jobs.find(job)

    async def cancel(self, job: str) -> JobInfo:
        """See `DaemonView`."""
        return await self._jobs.cancel(job)

    async def pause(self, job: str, paused: bool) -> JobInfo:
        """See `DaemonView`."""
        return await self._jobs.hold(job, paused)

    def limits(self) -> Sequence[ScopedLimits]:
        """See `DaemonView`."""
        return self._jobs.rates.list()

    async def limit(self, scope: str, rate_in: int | None, rate_out: int | None) -> ScopedLimits:
        """See `DaemonView`."""
        kind, _, name = scope.partition(":")
        if kind == "peer":
            store: TrustStore = await self._daemon.state_worker.run(self._daemon.watched.current)
            if store.by_name(name) is None and name != self._daemon.config.name:  # our own key has our own name
                raise FtxError("no-such-peer", f"there is no peer {show(name)}")
        return self._jobs.rates.change(scope, rate_in, rate_out)

    def offers(self) -> Sequence[OfferInfo]:
        """See `DaemonView`."""
        return self._jobs.approvals.offers()

    async def approve(self, job: str, always: bool, name: str | None, by: int) -> OfferInfo:
        """See `DaemonView`."""
        approvals = self._jobs.approvals
        identity = approvals.identity_of(job)
        if always:
            offer = next(one for one in approvals.offers() if one.job == job)
            peer = Peer(name or offer.peer.name, identity, (), iso_time())
            await self._update(lambda store: store.add(peer))
            _log.info("audit: peer {name} ({id}) added by user {by}", name=peer.name, id=format_id(identity), by=by)
            if self._daemon.reception is not None:
                await self._daemon.reception.recheck()  # so that a removal is noticed even before the next look
        return approvals.approve(job, by)

    def deny(self, job: str, reason: str, by: int) -> OfferInfo:
        """See `DaemonView`."""
        return self._jobs.approvals.deny(job, reason, by)

    async def peers(self) -> Sequence[PeerRecord]:
        """See `DaemonView`."""
        store: TrustStore = await self._daemon.state_worker.run(self._daemon.watched.current)
        return [_record(peer) for peer in sorted(store.peers, key=lambda peer: peer.name)]

    async def add_peer(
        self, name: str, peer_id: str, addresses: Sequence[str], *, only_new: bool = False
    ) -> PeerRecord:
        """See `DaemonView`."""
        peer = Peer(name, parse_id(peer_id), tuple(addresses), iso_time())

        def add(store: TrustStore) -> TrustStore:
            if only_new and store.by_id(peer.id) is not None:
                raise FtxError("not-authorised", "that identity is paired already, and not by you")
            return store.add(peer)

        store = await self._update(add)
        added = store.by_id(peer.id)
        return _record(peer if added is None else added)

    async def remove_peer(self, name: str) -> PeerRecord:
        """See `DaemonView`."""
        gone: list[Peer] = []

        def remove(store: TrustStore) -> TrustStore:
            found = store.by_name(name)
            if found is not None:
                gone.append(found)
            return store.remove(name)

        await self._update(remove)
        if self._daemon.reception is not None:
            await self._daemon.reception.recheck()
        return _record(gone[0])

    async def open_pairing(self, seconds: float, words: int, name: str, keep: bool) -> PairingResult:
        """See `DaemonView`."""
        pairings = self._daemon.pairings
        if pairings is None:
            raise FtxError("busy", "the daemon is starting")
        return PairingResult(code=await pairings.open(seconds, words, name, keep), expires_s=seconds)

    async def close_pairing(self) -> bool:
        """See `DaemonView`."""
        return self._daemon.pairings is not None and self._daemon.pairings.close()

    @property
    def _queue(self) -> Queue:
        queue = self._jobs.queue
        if queue is None:
            raise FtxError("busy", "the daemon is starting")
        return queue

    def queue(self) -> Sequence[QueueEntry]:
        """See `DaemonView`."""
        return self._queue.list()

    async def queue_add(self, target: str, sources: Sequence[bytes], options: Sequence[str]) -> QueueEntry:
        """See `DaemonView`."""
        sandbox = self._daemon.sandbox
        for path in sources:
            if not await self._daemon.state_worker.run(sandbox.covers, os.fsdecode(path), READ):
                what = f"the daemon's sandbox keeps it from reading {show(os.fsdecode(path), limits.PATH)}"
                raise FtxError("source-missing", what, "name its folder in sandbox_also, or use sandbox = on")
        return await self._queue.add(target, sources, options)

    async def queue_remove(self, job: str) -> QueueEntry:
        """See `DaemonView`."""
        return await self._queue.remove(job)

    def log_level(self, level: str | None) -> str:
        """See `DaemonView`."""
        return logs.log_level(level)

    def subscribe(
        self, callback: Callable[[Event], None], types: Collection[str] | None, interval: float
    ) -> Callable[[], None]:
        """See `DaemonView`."""
        return self._jobs.events.subscribe(callback, types, interval)

    async def reload(self) -> ReloadResult:
        """See `DaemonView`."""
        return await self._daemon.reload()

    async def drain(self) -> None:
        """See `DaemonView`."""
        self._daemon.spawn(self._daemon.drain(), "draining")

    async def shutdown(self) -> None:
        """See `DaemonView`."""
        self._daemon.reactor.callLater(0, self._daemon.end_process)

    async def metrics(self) -> Sequence[Metric]:
        """See `DaemonView`."""
        return await measured(self._daemon, self.status())

    async def _update(self, change: Callable[[TrustStore], TrustStore]) -> TrustStore:
        store: TrustStore = await self._daemon.state_worker.run(update, self._daemon.config.places.peers, change)
        return store
