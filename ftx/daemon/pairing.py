"""Pairing windows of the daemon: opened at the control socket, used by one attempt, told to both screens."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ftx.core.codes import new_code
from ftx.core.identity import format_id, same
from ftx.core.peers import Peer, TrustStore, peer_name
from ftx.core.session import agree
from ftx.core.stages import PAIRING
from ftx.core.window import Window
from ftx.disk.peers import Watched, update
from ftx.errors import FtxError, ProtocolError
from ftx.net.pairing import Showing
from ftx.net.transfer import Connection, our_hello
from ftx.net.worker import Worker
from ftx.text import duration, show
from ftx.wire.events import Event, Pairing, PeerInfo, error_info, iso_time
from ftx.wire.messages import Hello

__all__ = ["Pairings"]

_log = Logger()


class Pairings:
    """The window, if one is open, and the connections in front of it.

    `name()` is what we call ourselves. `publish` gets every step as an event; none has the code in it.
    """

    def __init__(
        self,
        reactor: Any,
        worker: Worker,
        own_id: bytes,
        name: Callable[[], str],
        watched: Watched,
        publish: Callable[[Event], object],
    ) -> None:
        self._reactor = reactor
        self._worker = worker
        self._own_id = own_id
        self._name = name
        self._watched = watched
        self._publish = publish
        self._window: Window | None = None
        self._expiry: IDelayedCall | None = None
        self._showing: set[Showing] = set()
        self._running: set[Deferred[None]] = set()

    # -- for the control socket ----------------------------------------------------------------------------

    async def open(self, seconds: float, words: int, name: str, keep: bool) -> str:
        """Open a window and return its code; a window that is open is closed, and its code void.

        `name` is what the peer shall be called here, empty for what it suggests; without `keep` it is trusted until
        the daemon ends. FtxError `busy` while an attempt is being made, `usage` or `name-taken` for the name.
        """
        if name:
            name = peer_name(name)
            peers = await self._worker.run(self._watched.current)
            if peers.by_name(name) is not None:
                raise FtxError("name-taken", f"another peer is called {show(name)}")
        if self._window is not None and self._window.taker is not None:
            raise FtxError("busy", "somebody is pairing at this moment", "try again in some seconds")
        self.close("another window was opened")
        code = new_code(secrets.randbelow, words)
        self._window = Window(code, self._reactor.seconds() + seconds, name, keep)
        self._expiry = self._reactor.callLater(seconds, self._expired)
        self._publish(Pairing(state="opened", expires_s=seconds))
        _log.info("pairing: a window is open for {time}", time=duration(seconds))
        return code

    def close(self, why: str = "it was closed") -> bool:
        """Close the window; whether one was open."""
        window = self._window
        if window is None or window.taker is not None:
            return False
        self._end()
        self._publish(Pairing(state="closed", error=error_info(FtxError("pairing-closed", why).as_value())))
        _log.info("pairing: the window is closed: {why}", why=why)
        return True

    # -- for the reception ---------------------------------------------------------------------------------

    def let_in(self, connection: Connection, hello: Hello) -> None:
        """A client has come to pair: answer its hello, or raise FtxError `pairing-closed`."""
        window = self._window
        if window is None or not window.is_open(self._reactor.seconds()):
            raise FtxError("pairing-closed")
        if connection.peer is None or same(connection.peer.id, self._own_id):
            raise FtxError("refused", "a machine does not pair with itself")
        connection.send(our_hello(self._name(), features=(PAIRING,)))
        connection.session.version = agree(connection.session.hello, hello)

        def take() -> str:
            if self._window is None:
                raise FtxError("pairing-closed")
            code = self._window.take(showing, self._reactor.seconds())
            self._begun(showing, hello)
            return code

        showing = Showing(connection, self._reactor, take)
        self._showing.add(showing)
        showing.gone.addCallback(lambda error: self._left(showing, error))
        running: Deferred[None] = Deferred.fromCoroutine(self._serve(showing, hello))
        self._running.add(running)
        running.addBoth(lambda outcome: self._settled(running, showing, outcome))

    async def stop(self) -> None:
        """Close the window and wait for what is under way; the connections are the reception's to end."""
        self.close("the daemon is stopping")
        for running in list(self._running):
            await running

    # -- within --------------------------------------------------------------------------------------------

    async def _serve(self, showing: Showing, hello: Hello) -> None:
        confirm, machine = await showing.verify(self._worker, self._own_id)
        window = self._window
        peer = showing.connection.peer
        if window is None or window.taker is not showing or peer is None:
            raise FtxError("pairing-closed")
        address = _hint(showing.connection.where, confirm.port)
        stored = await self._worker.run(self._store, window, peer.id, hello.name, address)
        showing.connection.send(machine.done())  # nothing, if they have gone: then they hear it when they pair again
        self._end()
        showing.over()
        info = self._info(showing, hello)
        self._publish(Pairing(state="paired", peer=PeerInfo(stored.name, info.id, info.address, confirm.port)))
        _log.info("paired with {name}, id {id}, {address}", name=stored.name, id=info.id, address=address)

    def _store(self, window: Window, id: bytes, suggested: str, address: str) -> Peer:
        """In a worker thread: trust this identity, under the best name there is."""
        now = iso_time()

        def add(store: TrustStore) -> TrustStore:
            known = store.by_id(id)
            name = known.name if known is not None else store.free_name(suggested)
            if window.name:
                name = window.name if store.by_name(window.name) is None else store.free_name(window.name)
            return store.add(Peer(name, id, (address,), now, now))

        store = update(self._watched.path, add) if window.keep else self._watched.welcome(add)
        found = store.by_id(id)
        if found is None:
            raise FtxError("internal")
        return found

    def _begun(self, showing: Showing, hello: Hello) -> None:
        self._publish(Pairing(state="attempt", peer=self._info(showing, hello)))
        self._send_away(showing)

    def _settled(self, running: Deferred[None], showing: Showing, outcome: object) -> None:
        self._running.discard(running)
        self._showing.discard(showing)
        if not isinstance(outcome, Failure):
            return
        error = outcome.value
        if not isinstance(error, FtxError):
            _log.failure("pairing failed in an unforeseen way", failure=outcome)
            error = FtxError("internal")
        showing.connection.fail(error)
        self._failed(showing, error)

    def _left(self, showing: Showing, error: FtxError) -> None:
        """The connection ended. In front of an open window that is nothing, unless the protocol was broken."""
        self._showing.discard(showing)
        if isinstance(error, ProtocolError) and self._window is not None and not showing.connection.told:
            self._window.spoil(showing)
        self._failed(showing, error)

    def _failed(self, showing: Showing, error: FtxError) -> None:
        """If this was the attempt, the code is used up: say so, once."""
        window = self._window
        if window is None or window.taker is not showing:
            return
        self._end()
        hello = showing.connection.session.peer
        info = self._info(showing, hello)
        self._publish(Pairing(state="failed", peer=info, error=error_info(error.as_value())))
        _log.warn(
            "pairing with {id} from {source} failed, and the code is used up: {reason}",
            id=info.id,
            source=showing.connection.where,
            reason=error.message,
        )

    def _expired(self) -> None:
        self._expiry = None
        self.close("nobody came in time")

    def _end(self) -> None:
        """There is no window any more, and nobody in front of it."""
        window, self._window = self._window, None
        if self._expiry is not None and self._expiry.active():
            self._expiry.cancel()
        self._expiry = None
        if window is not None:
            window.close()
            self._send_away(window.taker)

    def _send_away(self, but: object) -> None:
        """Everybody else who waits in front of the window hears that it is closed."""
        for showing in [one for one in self._showing if one is not but]:
            showing.connection.fail(FtxError("pairing-closed"))

    def _info(self, showing: Showing, hello: Hello | None) -> PeerInfo:
        peer = showing.connection.peer
        return PeerInfo(
            name="" if hello is None else show(hello.name),
            id="" if peer is None else format_id(peer.id),
            address=showing.connection.where,
        )


def _hint(host: str, port: int) -> str:
    """The address of a peer as a hint; without a port where none is known."""
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if port else host
