"""The methods of the control socket: one table, and the dispatcher that reads it.

A row says everything there is to say about a method: name, one line for people, the Structs of its parameters and
its result (which `rpc.discover` publishes as JSON schemas), whether it changes something, and the function. To
add a method is to add a row. The dispatcher knows no transport: it gets a `Request` and a `Client` from
whichever door there is (`ftx.net.conversation`).

It is longer than other modules because it is one table, which is read from top to bottom.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs
import msgspec
from twisted.logger import Logger

from ftx import limits
from ftx.daemon.events import EVENT_NAMES
from ftx.daemon.metrics import CONTENT_TYPE, exposition
from ftx.daemon.params import (
    ApproveParams,
    CursorParams,
    DenyParams,
    DiscoverResult,
    JobParams,
    JobsParams,
    JobsResult,
    LevelParams,
    LevelResult,
    LimitParams,
    LimitsResult,
    MethodInfo,
    MetricsResult,
    NoParams,
    OffersResult,
    Ok,
    PairingParams,
    Params,
    PeerNameParams,
    PeerParams,
    PeersResult,
    QueueParams,
    QueueResult,
    SubscribeParams,
    options_of,
    sources_of,
)
from ftx.daemon.view import (
    DaemonView,
    JobInfo,
    OfferInfo,
    PairingResult,
    PeerRecord,
    QueueEntry,
    ReloadResult,
    ScopedLimits,
    StatusResult,
)
from ftx.errors import FtxError
from ftx.net.conversation import Client, SendEvent
from ftx.net.local import Caller
from ftx.text import show
from ftx.wire import events
from ftx.wire.jsonlines import Request

__all__ = ["ALIASES", "METHODS", "Commands", "Method"]

#: Short forms, for people who type.
ALIASES: Final[Mapping[str, str]] = {
    "status": "daemon.status",
    "jobs": "jobs.list",
    "watch": "events.subscribe",
    "offers": "offers.list",
    "queue": "queue.list",
    "peers": "peers.list",
    "methods": "rpc.discover",
    "metrics": "metrics.get",
}

@attrs.frozen
class Method:
    """One row of the table."""

    name: str
    description: str
    params: type[Params]
    result: type[msgspec.Struct]
    run: Callable[[Commands, Client, Any], Awaitable[msgspec.Struct]]
    mutating: bool = False
    #: Members of the configured group may do it as well: whatever changes nothing, and few things that do.
    group: bool = False
    #: So may those members whom the operator lets pair.
    pairs: bool = False

    def open_to(self, caller: Caller) -> bool:
        """Whether `caller`, who was let in, may call it."""
        return self.group or not self.mutating or not caller.restricted or (self.pairs and caller.pairs)


class Commands:
    """The dispatcher: what a control door hands its requests to. Implements `ftx.net.conversation.Dispatcher`."""

    _log = Logger()

    def __init__(self, view: DaemonView) -> None:
        """`view` is the daemon that the methods are about."""
        self.view = view

    async def answer(self, request: Request, client: Client) -> bytes:
        """The result of `request` as JSON.

        Raises `unknown-method`, `bad-parameters` (saying which), or what the method raises.
        """
        method = METHODS.get(ALIASES.get(request.method, request.method))
        if method is None:
            raise FtxError("unknown-method", f"there is no method {show(request.method, limits.CONTROL_WORD)}")
        if not method.open_to(client.caller):
            raise FtxError("not-authorised", f"{method.name} is for the daemon's own user and root only")
        params = _decode(method, request.params)
        if method.mutating:
            caller = client.caller
            self._log.info(
                "control: {method} by user {uid}, process {pid}",
                method=method.name,
                uid=caller.uid,
                pid=caller.pid,
            )
        return msgspec.json.encode(await method.run(self, client, params))

    # -- the daemon -----------------------------------------------------------------------------------------

    async def _status(self, client: Client, params: NoParams) -> StatusResult:
        return self.view.status()

    async def _reload(self, client: Client, params: NoParams) -> ReloadResult:
        return await self.view.reload()

    async def _log_level(self, client: Client, params: LevelParams) -> LevelResult:
        return LevelResult(self.view.log_level(params.level))

    async def _drain(self, client: Client, params: NoParams) -> Ok:
        await self.view.drain()
        return Ok()

    async def _shutdown(self, client: Client, params: NoParams) -> Ok:
        await self.view.shutdown()
        return Ok()

    async def _metrics(self, client: Client, params: NoParams) -> MetricsResult:
        return MetricsResult(CONTENT_TYPE, exposition(await self.view.metrics()))

    # -- jobs -----------------------------------------------------------------------------------------------

    async def _jobs(self, client: Client, params: JobsParams) -> JobsResult:
        found = self.view.jobs(params.state)
        return JobsResult(*_page([(job.job, job) for job in found], params.cursor))

    async def _job(self, client: Client, params: JobParams) -> JobInfo:
        return self.view.job(params.job)

    async def _cancel(self, client: Client, params: JobParams) -> JobInfo:
        return await self.view.cancel(params.job)

    async def _pause(self, client: Client, params: JobParams) -> JobInfo:
        return await self.view.pause(params.job, True)

    async def _resume(self, client: Client, params: JobParams) -> JobInfo:
        return await self.view.pause(params.job, False)

    async def _limits(self, client: Client, params: CursorParams) -> LimitsResult:
        found = [(one.scope, one) for one in self.view.limits()]
        return LimitsResult(*_page(found, params.cursor))

    async def _limit(self, client: Client, params: LimitParams) -> ScopedLimits:
        for rate in (params.rate_in, params.rate_out):
            if rate is not None and 0 < rate < limits.RATE_LEAST:
                least = f"a rate is 0 or at least {limits.RATE_LEAST:,} bytes per second"
                raise FtxError("bad-parameters", f"limits.set: {least}")
        return await self.view.limit(params.scope, params.rate_in, params.rate_out)

    # -- offers ---------------------------------------------------------------------------------------------

    async def _offers(self, client: Client, params: CursorParams) -> OffersResult:
        return OffersResult(*_page([(offer.job, offer) for offer in self.view.offers()], params.cursor))

    async def _approve(self, client: Client, params: ApproveParams) -> OfferInfo:
        return await self.view.approve(params.job, params.always, params.name, client.caller.uid)

    async def _deny(self, client: Client, params: DenyParams) -> OfferInfo:
        return self.view.deny(params.job, params.reason, client.caller.uid)

    # -- what is to be sent ---------------------------------------------------------------------------------

    async def _queue(self, client: Client, params: CursorParams) -> QueueResult:
        return QueueResult(*_page([(entry.job, entry) for entry in self.view.queue()], params.cursor))

    async def _queue_add(self, client: Client, params: QueueParams) -> QueueEntry:
        return await self.view.queue_add(params.target, sources_of(params), options_of(params))

    async def _queue_remove(self, client: Client, params: JobParams) -> QueueEntry:
        return await self.view.queue_remove(params.job)

    # -- peers ----------------------------------------------------------------------------------------------

    async def _peers(self, client: Client, params: CursorParams) -> PeersResult:
        found = await self.view.peers()
        return PeersResult(*_page([(peer.name, peer) for peer in found], params.cursor))

    async def _add_peer(self, client: Client, params: PeerParams) -> PeerRecord:
        # Who may pair may not, with that, give those who are paired other names.
        only_new = client.caller.restricted
        added = await self.view.add_peer(params.name, params.id, params.addresses, only_new=only_new)
        self._log.info(
            "audit: peer {name} ({id}) added by user {uid}", name=show(added.name), id=added.id, uid=client.caller.uid
        )
        return added

    async def _remove_peer(self, client: Client, params: PeerNameParams) -> PeerRecord:
        gone = await self.view.remove_peer(params.name)
        self._log.info(
            "audit: peer {name} ({id}) removed by user {uid}", name=show(gone.name), id=gone.id, uid=client.caller.uid
        )
        return gone

    async def _open_pairing(self, client: Client, params: PairingParams) -> PairingResult:
        return await self.view.open_pairing(params.seconds, params.words, params.name, params.keep)

    async def _close_pairing(self, client: Client, params: NoParams) -> Ok:
        return Ok(await self.view.close_pairing())

    # -- events and self-description ------------------------------------------------------------------------

    async def _subscribe(self, client: Client, params: SubscribeParams) -> Ok:
        for name in params.types or ():
            if name not in EVENT_NAMES and name != "snapshot":
                known = ", ".join(EVENT_NAMES)
                raise FtxError("bad-parameters", f"there is no event {show(name, 64)}", f"there are {known}")

        def start(send: SendEvent) -> Callable[[], None]:
            def on_event(event: events.Event) -> None:
                send(events.encode(event), event.droppable)

            return self.view.subscribe(on_event, params.types, params.interval)

        client.stream(start)
        return Ok()

    async def _discover(self, client: Client, params: CursorParams) -> DiscoverResult:
        described = [(name, _describe(METHODS[name])) for name in sorted(METHODS)]
        return DiscoverResult(*_page(described, params.cursor))


def _decode(method: Method, params: bytes) -> Any:
    try:
        return msgspec.json.decode(params, type=method.params)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FtxError("bad-parameters", f"{method.name}: {show(str(error))}") from None


def _describe(method: Method) -> MethodInfo:
    schemas = (msgspec.json.schema(method.params), msgspec.json.schema(method.result))
    return MethodInfo(method.name, method.description, method.mutating, *schemas)


_T = TypeVar("_T")


def _page(items: Sequence[tuple[str, _T]], cursor: str | None) -> tuple[list[_T], str | None]:
    """As many of `items` (each with a key of its own) behind the key `cursor` as fit in a line, and the next cursor.

    Raises `bad-parameters` for a cursor whose item is gone: go back to the first page.
    """
    first = 0
    keys = _distinct([key for key, _ in items])
    if cursor is not None:
        if cursor not in keys:
            raise FtxError("bad-parameters", "the cursor is not valid any more", "begin with the first page")
        first = keys.index(cursor) + 1
    room = limits.CONTROL_LINE - 2 * limits.CONTROL_ENVELOPE
    page: list[_T] = []
    last = cursor
    for key, (_, item) in zip(keys[first:], items[first:], strict=True):
        room -= len(msgspec.json.encode(item)) + 1
        if room < 0 and page:
            return page, last
        page.append(item)
        last = key
    return page, None


def _distinct(keys: Sequence[str]) -> list[str]:
    """`keys`, later ones of the same name numbered: a peer chooses the ids of its jobs, and may use one again."""
    seen: Counter[str] = Counter()
    found = []
    for key in keys:
        seen[key] += 1
        found.append(key if seen[key] == 1 else f"{key}.{seen[key]}")
    return found


def _table(rows: Iterable[Method]) -> Mapping[str, Method]:
    return {row.name: row for row in rows}


#: Every method there is, by name.
METHODS: Final = _table(
    [
        Method("daemon.status", "The daemon at a glance.", NoParams, StatusResult, Commands._status),
        Method(
            "daemon.reload",
            "Read configuration and peers again, keep jobs; a bad configuration changes nothing.",
            NoParams,
            ReloadResult,
            Commands._reload,
            mutating=True,
        ),
        Method(
            "daemon.drain",
            "Take no new jobs, and stop when the running ones have ended.",
            NoParams,
            Ok,
            Commands._drain,
            mutating=True,
        ),
        Method(
            "daemon.log_level",
            "Show how much the log says, or change it until the daemon stops.",
            LevelParams,
            LevelResult,
            Commands._log_level,
            mutating=True,
        ),
        Method(
            "daemon.shutdown",
            "Stop now; what was running can be resumed.",
            NoParams,
            Ok,
            Commands._shutdown,
            mutating=True,
        ),
        Method("jobs.list", "Running, waiting and lately finished jobs.", JobsParams, JobsResult, Commands._jobs),
        Method("jobs.show", "One job.", JobParams, JobInfo, Commands._job),
        Method(
            "jobs.pause",
            "Let no content of a job travel until it is resumed; the peer is told.",
            JobParams,
            JobInfo,
            Commands._pause,
            mutating=True,
        ),
        Method("jobs.resume", "Let a paused job go on.", JobParams, JobInfo, Commands._resume, mutating=True),
        Method(
            "jobs.cancel",
            "End a job; the peer is told, and the result says what stays.",
            JobParams,
            JobInfo,
            Commands._cancel,
            mutating=True,
            group=True,
        ),
        Method("limits.get", "The rate limits in force.", CursorParams, LimitsResult, Commands._limits),
        Method(
            "limits.set",
            "Limit the rate of the daemon, of a peer or of a job, at once.",
            LimitParams,
            ScopedLimits,
            Commands._limit,
            mutating=True,
        ),
        Method("offers.list", "Offers that wait for approval.", CursorParams, OffersResult, Commands._offers),
        Method(
            "offers.approve",
            "Consent to an offer; with always, pair its sender too.",
            ApproveParams,
            OfferInfo,
            Commands._approve,
            mutating=True,
        ),
        Method("offers.deny", "Refuse an offer.", DenyParams, OfferInfo, Commands._deny, mutating=True),
        Method("queue.list", "What waits to be sent.", CursorParams, QueueResult, Commands._queue),
        Method(
            "queue.add",
            "Send files and folders as soon as the peer can be reached; tried again until then, over restarts.",
            QueueParams,
            QueueEntry,
            Commands._queue_add,
            mutating=True,
        ),
        Method(
            "queue.remove",
            "Take something out of the queue; an attempt that is under way ends.",
            JobParams,
            QueueEntry,
            Commands._queue_remove,
            mutating=True,
        ),
        Method("peers.list", "The known peers.", CursorParams, PeersResult, Commands._peers),
        Method(
            "peers.add", "Trust an identity.", PeerParams, PeerRecord, Commands._add_peer, mutating=True, pairs=True
        ),
        Method(
            "peers.remove",
            "Trust a peer no more.",
            PeerNameParams,
            PeerRecord,
            Commands._remove_peer,
            mutating=True,
        ),
        Method(
            "pairing.open",
            "Open a pairing window and show its code; it closes after one attempt, or in time.",
            PairingParams,
            PairingResult,
            Commands._open_pairing,
            mutating=True,
            pairs=True,
        ),
        Method(
            "pairing.close",
            "Close the pairing window.",
            NoParams,
            Ok,
            Commands._close_pairing,
            mutating=True,
            pairs=True,
        ),
        Method(
            "events.subscribe",
            "Turn this connection into a stream of events, a snapshot first.",
            SubscribeParams,
            Ok,
            Commands._subscribe,
        ),
        Method("metrics.get", "Counters and gauges.", NoParams, MetricsResult, Commands._metrics),
        Method("rpc.discover", "The methods there are.", CursorParams, DiscoverResult, Commands._discover),
    ]
)
