"""Deciding offers: whether a job begins, waits for a person, or is refused, and what becomes of older ones.

One job of a peer can meet another of the same peer: the same job on a newer connection, or a job over the same files.
The older one is asked whether it is alive. If it answers, it keeps what it has: the same job is refused as `busy`,
other files of a different job go on. If it does not, it is ended: its right to change anything on the disk ends, its
disk work is waited for, and only then does the newer one begin (`docs/protocol.md`, section 9). The same job is told
that it is superseded and must not come back; a different one, that its peer was silent: if that was only busy, it may.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ftx import limits
from ftx.core.receipt import decode_receipt
from ftx.core.trust import Trusted
from ftx.daemon.approvals import Approvals
from ftx.daemon.complaints import Said
from ftx.daemon.deciding import Deciding, who_is
from ftx.disk.guarded import Guarded
from ftx.disk.store import JobStore, Path, Store
from ftx.errors import FtxError, kind
from ftx.net.alive import hung_up, proves_alive
from ftx.net.receiving import Receiving
from ftx.net.transfer import Connection
from ftx.net.worker import Worker
from ftx.text import show
from ftx.wire.messages import CONFLICTS, DRY_RUN, Offer, Refuse

__all__ = ["Offers"]

_log = Logger()

#: Errors that a key which is not known is told as they are; every other refusal is `untrusted` to it.
_TOLD = frozenset({"denied", "approval-timeout", "peer-stopping", "no-space", "storage-failed"})

#: Connection, offer, who, the folder below the inbox, its storage, the conflict rule, whether a person was asked.
Begin = Callable[[Connection, Offer, Trusted, Path, Guarded, int, bool], None]


class Offers:
    """Every offer to one daemon. What is accepted is handed to `begin`.

    `running_of` gives the jobs of a key that run; `taken` says whether the id of a job is in use by one of another
    key than that, or by one that goes out; `draining` says whether none may begin any more.
    """

    def __init__(
        self,
        clock: IReactorTime,
        worker: Worker,
        store: Store,
        by: Deciding,
        approvals: Approvals,
        said: Said,
        *,
        begin: Begin,
        running_of: Callable[[bytes], Sequence[Receiving]],
        taken: Callable[[bytes, bytes], bool],
        draining: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._worker = worker
        self._store = store
        self._by = by
        self._approvals = approvals
        self._said = said
        self._begin = begin
        self._running_of = running_of
        self._taken = taken
        self._draining = draining
        #: Keys of which the older jobs were asked lately whether they are alive: since when, and until they all were.
        self._asked: dict[bytes, tuple[float, Deferred[None]]] = {}
        #: Offers that are being decided, by (peer, job): the same offer twice at once is busy.
        self._deciding: set[tuple[bytes, bytes]] = set()

    async def decide(self, connection: Connection, offer: Offer, trusted: Trusted) -> None:
        """Decide an offer and begin the job, or refuse it. FtxError ends the connection."""
        key = (trusted.id, offer.job)
        if key in self._deciding:
            connection.send(Refuse(offer.job, kind("busy").number))
            return
        self._deciding.add(key)
        try:
            await self._judge(connection, offer, trusted)
        except FtxError as error:
            if connection.over:
                return
            if self._said.is_news((trusted.id, error.name)):
                job = offer.job.hex()
                name = show(trusted.name)
                _log.info("audit: job {job} of {peer} refused: {reason}", job=job, peer=name, reason=error.message)
            if who_is(trusted) == "unknown":  # which learns no more than that, whatever the rules say
                raise error if error.name in _TOLD else FtxError("untrusted") from error
            connection.send(Refuse(offer.job, error.number))
        finally:
            self._deciding.discard(key)

    async def _judge(self, connection: Connection, offer: Offer, trusted: Trusted) -> None:
        if self._draining():
            raise FtxError("peer-stopping")
        verdict = self._by.offer(offer, trusted, connection.where)
        if verdict.action == "refuse":
            raise FtxError(verdict.error, f"{kind(verdict.error).sentence} ({verdict.why})")
        self._check_id(offer, trusted)
        await self._settle(offer, trusted)
        into, reads = (*verdict.folder, *offer.into), trusted.own  # our own key may read the inbox anyway
        dry, asked = offer.kind == DRY_RUN, verdict.action == "ask"

        def begin() -> JobStore:
            return self._store.begin(trusted.id, offer.job, into, verdict.conflict, reads=reads, dry=dry)

        def take_up() -> bytes | JobStore | None:
            receipt = self._store.receipt(trusted.id, offer.job)
            return receipt if asked or receipt is not None else begin()

        opened = await self._worker.run(take_up)
        if isinstance(opened, bytes):
            if not connection.over:
                connection.send(decode_receipt(opened))
            return
        if opened is None:
            offer = await self._approvals.ask(connection, offer, trusted, verdict.why)
            if self._by.still_welcome(trusted) is not None or self._draining():
                raise FtxError("peer-stopping" if self._draining() else "not-authorised")
            connection.signed_in()
            opened = await self._worker.run(begin)
        store = self._by.guard(opened, trusted, connection.where, approved=asked, charge=not dry)
        if connection.over or self._draining():
            await self._worker.run(store.close)
            raise FtxError("peer-stopping")
        try:
            self._check_id(offer, trusted)  # once more: all this took its time
        except FtxError:
            await self._worker.run(store.close)
            raise
        self._begin(connection, offer, trusted, into, store, CONFLICTS.index(verdict.conflict), asked)
        _log.info(
            "audit: job {job} of {peer} accepted: {why}", job=offer.job.hex(), peer=show(trusted.name), why=verdict.why
        )

    def _check_id(self, offer: Offer, trusted: Trusted) -> None:
        """One id, one job: whoever steers by it must not have to guess which one is meant."""
        if self._taken(offer.job, trusted.id):
            raise FtxError("busy", "the id of the job is in use by another one")

    async def _settle(self, offer: Offer, trusted: Trusted) -> None:
        """Come to terms with the older jobs of the same key.

        The same job is asked each time. The others are asked together, and an offer that follows within `limits.ALIVE`
        goes by the same answers: a peer heard of within that time would not have been asked either. So many clients of
        one key do not ask after each other, each after all.
        """
        jobs, now = self._running_of(trusted.id), self._clock.seconds()
        self._asked = {key: asked for key, asked in self._asked.items() if now - asked[0] < limits.ALIVE}
        if trusted.id not in self._asked and jobs:
            # One that is not read because others have the memory is known to have sent something, and has its turn.
            others = [_give_way(job, "peer-silent") for job in jobs if not job.queued and job.offer.job != offer.job]
            self._asked[trusted.id] = now, _all(others)
        same = _all([_give_way(job, "superseded") for job in jobs if job.offer.job == offer.job])
        if trusted.id in self._asked:
            await self._asked[trusted.id][1]
        await same
        if any(job.offer.job == offer.job for job in self._running_of(trusted.id)):
            raise FtxError("busy")


async def _give_way(job: Receiving, reason: str) -> None:
    """Ask after an older job; if its peer is not there any more, end it for `reason` and wait for its disk work."""
    older = job.connection
    if await proves_alive(older):
        return
    if hung_up(older):
        older.abort(FtxError("connection-lost"))  # what it had sent is still made durable
    elif not older.over:
        job.revoke()
        older.fail(FtxError(reason))
    await job.wait_stopped()


def _all(coroutines: Sequence[Coroutine[Any, Any, None]]) -> Deferred[None]:
    """Fires when all of them are done. Several may wait for it."""
    running = [Deferred.fromCoroutine(one) for one in coroutines]
    return gatherResults(running, consumeErrors=True).addCallback(lambda _: None)
