"""Pairing from the client's side: with the code that another machine shows, or by showing one on our own daemon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred

from ftx import limits
from ftx.client import control
from ftx.client.api import Settings
from ftx.client.find import check_expected, locate
from ftx.client.target import Target
from ftx.core.identity import format_id, same
from ftx.core.peers import Peer, TrustStore, is_address, peer_name
from ftx.core.stages import PAIRING
from ftx.core.trust import Trusted
from ftx.disk.defaults import DEFAULT_PORT
from ftx.disk.keys import Identity, load_or_create
from ftx.disk.peers import load, update
from ftx.disk.places import prepare_home
from ftx.errors import FtxError
from ftx.net.dial import Dialled, dial
from ftx.net.pairing import Asking
from ftx.net.tls import Credentials
from ftx.net.worker import Worker
from ftx.text import show
from ftx.wire.events import iso_time

__all__ = ["Met", "befriend", "own_port", "pair", "show_code"]


@attrs.frozen
class Met:
    """Who has a window open where we dialled. `name` is what we shall call it; all is clean for display."""

    name: str
    id: bytes
    where: str


async def pair(
    reactor: Any,
    settings: Settings,
    target: Target,
    code: Callable[[Met], Awaitable[str]],
    *,
    name: str = "",
    port: int = 0,
    warn: Callable[[str], object] = lambda _: None,
) -> Peer:
    """Pair with `target`, and return it as it is stored.

    `code` is asked for the code when a window is known to be open there, and may take its time: if the window closes
    meanwhile, it is cancelled. `name` is what to call the peer (default: as it was looked for, else what it calls
    itself); `port` that of our own daemon. Raises FtxError: `wrong-code`, `pairing-closed`, `key-changed`,
    `name-taken`, what finding and dialling raise, and what `code` raises.
    """
    worker = Worker(reactor, 1)
    worker.start()
    try:
        identity, peers = await worker.run(_prepare, settings)
        found = await locate(
            reactor,
            target,
            peers,
            own_id=identity.id,
            port=settings.discovery_port,
            interfaces=settings.discovery_interfaces,
            exclude=settings.discovery_exclude,
            warn=warn,
        )

        def accept(key: bytes, address: str) -> Trusted:
            check_expected(found, key, address, peers)
            if same(key, identity.id):
                hint = "just send: daemon and client of one user share their key"
                raise FtxError("usage", "that is this machine itself, which needs no pairing", hint)
            return Trusted(key, found.name, own=False)

        dialled = await dial(
            reactor,
            Credentials(identity),
            found.places,
            name=settings.own_name,
            accept=accept,
            features=(PAIRING,),
        )
        try:
            called = _local_name(peers, name, target, dialled)
            return await _prove(worker, settings, identity, dialled, called, code, port)
        finally:
            dialled.connection.finish()
    finally:
        await worker.stop()


async def _prove(
    worker: Worker,
    settings: Settings,
    identity: Identity,
    dialled: Dialled,
    called: str,
    code: Callable[[Met], Awaitable[str]],
    port: int,
) -> Peer:
    """Everything on the connection, then the storing."""
    host = f"[{dialled.address}]" if ":" in dialled.address else dialled.address
    where = f"{host}:{dialled.port}"
    asking = Asking(dialled.connection)
    key = dialled.trusted.id
    typed = await _while_it_stands(asking, code(Met(called, key, where)))
    await asking.prove(worker, typed, identity.id, port)
    now = iso_time()
    peer = Peer(called, key, (where,), now, now)
    store: TrustStore = await worker.run(update, settings.places.peers, lambda store: store.add(peer))
    return store.by_id(key) or peer


async def _while_it_stands(asking: Asking, typing: Awaitable[str]) -> str:
    """What `typing` gives; FtxError when the connection ends before that."""
    ended: list[FtxError] = []

    async def wait() -> str:
        return await typing

    waiting = Deferred.fromCoroutine(wait())

    def gone(error: FtxError) -> None:
        ended.append(error)
        waiting.cancel()

    asking.gone.addCallback(gone)
    try:
        return await waiting
    except CancelledError:
        if ended:
            raise ended[0] from None
        raise


def _prepare(settings: Settings) -> tuple[Identity, TrustStore]:
    prepare_home(settings.places)
    return load_or_create(settings.places.key), load(settings.places.peers)


def _local_name(peers: TrustStore, given: str, target: Target, dialled: Dialled) -> str:
    """What to call the machine that answered; FtxError `name-taken` while nothing is lost yet."""
    key = dialled.trusted.id
    known = peers.by_id(key)
    if not given and known is not None:
        return known.name
    hello = dialled.connection.session.peer
    suggested = "" if hello is None else hello.name
    written = target.name if "." not in target.name and target.name.casefold() != "localhost" else ""
    name = peer_name(given or written or peers.free_name(suggested))
    if is_address(name):
        raise FtxError("usage", f"a peer's name cannot be an address: {show(name)}", "choose another with --name")
    namesake = peers.by_name(name)
    if namesake is not None and not same(namesake.id, key):
        raise FtxError(
            "name-taken",
            f"another peer is called {show(name)}: {format_id(namesake.id)}",
            f"choose another name with --name; if it was installed anew: ftx-client peers remove {show(name)}",
        )
    return name


# -- our own daemon ----------------------------------------------------------------------------------------


async def own_port(reactor: Any, path: str, own_id: bytes | None = None) -> int:
    """The TCP port of the daemon whose control socket is at `path`; 0 where there is none that has our key."""
    with suppress(FtxError):
        status = await control.call(reactor, path, "daemon.status", timeout=limits.PAIRING_STATUS)
        listening = status.get("listening") or [{}]
        if own_id is None or status.get("id") == format_id(own_id):
            return int(listening[0].get("port", 0))
    return 0


async def show_code(
    reactor: Any, path: str, params: Mapping[str, Any], on_code: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """Open a window on the daemon at `path`, hand its code to `on_code`, and return the peer that was paired.

    `params` are those of `pairing.open`; the peer is that of the event. Raises FtxError: what the attempt failed with,
    `pairing-closed` when nobody came, and what the control socket raises. Cancelling closes the window.
    """
    ready: Deferred[None] = Deferred()
    ended: Deferred[dict[str, Any]] = Deferred()
    opened = False

    def on_event(event: dict[str, Any]) -> None:
        nonlocal opened
        if event.get("event") == "snapshot":
            ready.callback(None)
        elif event.get("state") == "opened":
            opened = True  # what came before was about an older window
        elif opened and event.get("state") in ("paired", "failed", "closed") and not ended.called:
            ended.callback(event)

    def over(result: Any) -> None:
        for waiting in (ready, ended):
            if not waiting.called:
                waiting.errback(result if result is not None else FtxError("connection-lost", "the daemon has stopped"))

    listening = Deferred.fromCoroutine(
        control.subscribe(reactor, path, ["pairing"], limits.CONTROL_INTERVAL, on_event)
    )
    listening.addBoth(over)
    done = False
    try:
        await ready
        on_code(await control.call(reactor, path, "pairing.open", params))
        event = await ended
        done = True
    finally:
        for waiting in (ready, ended):
            waiting.addErrback(lambda _: None)
        listening.cancel()
        if not done:
            with suppress(FtxError):
                await control.call(reactor, path, "pairing.close", timeout=limits.PAIRING_STATUS)
    if event.get("state") != "paired":
        raise _reason(event)
    peer = event.get("peer")
    return peer if isinstance(peer, dict) else {}


def _reason(event: dict[str, Any]) -> FtxError:
    """The error of an event, in our own class."""
    error = event.get("error") or {}
    with suppress(KeyError):
        if event.get("state") == "failed":
            who = (event.get("peer") or {}).get("address") or "somebody"
            message = f"{show(str(who))} tried, and failed: {show(str(error.get('message', '')), 500)}"
            return FtxError(str(error.get("name")), message, "the code is used up; show another one and try again")
        return FtxError(str(error.get("name")), f"the window is closed: {show(str(error.get('message', '')), 500)}")
    return FtxError("pairing-closed")


async def befriend(reactor: Any, settings: Settings, path: str) -> Peer | None:
    """Pair this user with the daemon at `path` if it has another key than ours: whoever may use its socket may do that.

    Returns the daemon as a peer, or None when there was nothing to do. FtxError as the control socket raises it.
    """
    worker = Worker(reactor, 1)
    worker.start()
    try:
        identity, peers = await worker.run(_prepare, settings)
        status = await control.call(reactor, path, "daemon.status")
        from ftx.core.identity import parse_id

        theirs = parse_id(str(status.get("id", "")))
        if same(theirs, identity.id):
            return None
        there = await _names(reactor, path)
        known = peers.by_id(theirs)
        if format_id(identity.id) in there.values() and known is not None:
            return None
        if format_id(identity.id) not in there.values():
            store = TrustStore()
            for name in there:
                with suppress(FtxError):
                    store = store.add(Peer(name, len(store.peers).to_bytes(32, "big")))
            name = store.free_name(settings.own_name)
            await control.call(reactor, path, "peers.add", {"name": name, "id": format_id(identity.id)})
        if known is not None:
            return known
        listening = (status.get("listening") or [{}])[0]
        where = f"localhost:{int(listening.get('port', DEFAULT_PORT))}"

        def add(store: TrustStore) -> TrustStore:
            return store.add(Peer(store.free_name(str(status.get("name", ""))), theirs, (where,), iso_time()))

        changed: TrustStore = await worker.run(update, settings.places.peers, add)
        return changed.by_id(theirs)
    finally:
        await worker.stop()


async def _names(reactor: Any, path: str) -> dict[str, str]:
    """The peers of a daemon: id by name."""
    found = await control.all_pages(reactor, path, "peers.list", "peers")
    return {str(one.get("name")): str(one.get("id")) for one in found["peers"]}
