"""A receiving end in this process: real TLS, real sockets on the loopback, a real inbox, and a disk that can be held.

It is put together from the parts that a daemon is put together from, so that a test can reach each of them: hold the
disk at a certain call, cut every connection, move a clock of its own.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from support.hostile import Hostile
from twisted.internet.protocol import Factory

from ftx import limits
from ftx.client.api import Settings, get, send
from ftx.core.policy import Rules
from ftx.daemon.jobs import Jobs
from ftx.daemon.listen import Endpoint, ListeningService
from ftx.daemon.probes import Probes
from ftx.daemon.reception import Reception
from ftx.daemon.serving import Serving
from ftx.disk.inbox import Inbox
from ftx.disk.keys import Identity, load_or_create
from ftx.disk.peers import Watched
from ftx.disk.places import places, prepare_home
from ftx.disk.shares import Shares, ShareSetting
from ftx.disk.store import JobStore
from ftx.errors import FtxError
from ftx.net.tls import Credentials
from ftx.net.transfer import Connection
from ftx.net.worker import Worker
from ftx.wire.events import Done, Event, Failed

__all__ = ["HeldStore", "ReceivingEnd", "small_buffers"]


class HeldStore:
    """An inbox whose jobs stop at the calls named by `hold()` until `release()`. Every call of a job is in `calls`."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._gates: dict[str, threading.Event] = {}
        self._before: dict[str, Callable[[], None]] = {}
        self._failing: dict[str, str] = {}
        #: (name of the method, its arguments), in the order in which they began.
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inbox, name)

    def hold(self, *methods: str) -> None:
        """From now on these methods of every job wait, at most 30 s."""
        for method in methods:
            self._gates[method] = threading.Event()
            self._failing.pop(method, None)

    def release(self, error: str = "") -> None:
        """Let everything go on; with an error, what was held raises it instead, and so does what follows it."""
        gates, self._gates = self._gates, {}
        self._failing = dict.fromkeys(gates, error) if error else {}
        for gate in gates.values():
            gate.set()

    def before(self, method: str, call: Callable[[], None]) -> None:
        """Call this, in the worker's thread, before the next call of a job's `method`."""
        self._before[method] = call

    def begin(
        self, peer: bytes, job: bytes, into: tuple[bytes, ...], conflict: str, *, reads: bool = False, dry: bool = False
    ) -> _HeldJob:
        """See `Store`."""
        return _HeldJob(self, self._inbox.begin(peer, job, into, conflict, reads=reads, dry=dry))

    def reached(self, name: str, arguments: tuple[Any, ...]) -> None:
        """A job's method is called; in a worker's thread."""
        self.calls.append((name, arguments))
        before = self._before.pop(name, None)
        if before is not None:
            before()
        gate = self._gates.get(name)
        if gate is not None:
            gate.wait(30)
        if name in self._failing:
            raise FtxError(self._failing[name])


class _HeldJob:
    def __init__(self, store: HeldStore, job: JobStore) -> None:
        self._store = store
        self._job = job

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._job, name)
        if name in ("revoke", "stop_looking"):  # from the reactor's thread, and never blocks
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            self._store.reached(name, arguments)
            return method(*arguments, **named)

        return call


@attrs.define(eq=False)
class _Door(Factory):
    """Passes connections on to `factory`, but for the first `dropped` of them."""

    factory: Any
    dropped: int = 0
    noisy = False

    def buildProtocol(self, addr: Any) -> Any:
        if self.dropped:
            self.dropped -= 1
            return None
        return self.factory.buildProtocol(addr)


class _Recording(Reception):
    """Remembers every connection it made."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.made: list[Connection] = []

    def buildProtocol(self, addr: Any) -> Connection:
        connection = super().buildProtocol(addr)
        self.made.append(connection)
        return connection


class ReceivingEnd:
    """Receives below `folder`/home; `stop()` ends it. `clock`: its idea of time, the reactor's unless given.

    With a folder `share`, that can be pulled from as the share of this name.
    """

    def __init__(
        self, reactor: Any, folder: Path, *, rules: Rules | None = None, clock: Any = None, share: Path | None = None
    ) -> None:
        self.folder = folder
        self.home = folder / "home"
        self._reactor = reactor
        where = places(str(self.home), {}, os.geteuid(), "/")
        prepare_home(where)
        os.makedirs(where.inbox, mode=0o700, exist_ok=True)
        self.inbox_path = Path(where.inbox)
        self.identity: Identity = load_or_create(where.key)
        self.peers_file = where.peers
        self._worker = Worker(reactor)
        self._worker.start()
        self._inbox = Inbox.open(where.inbox)
        self.store = HeldStore(self._inbox)
        clock = clock or reactor
        rules = rules or Rules("rename", "paired")
        store: Any = self.store
        self.serving: Serving | None = None
        if share is not None:
            shares = Shares([ShareSetting("share", str(share), public=True)])
            self.serving = Serving(
                clock, self._worker, self.identity, shares, where.state, time.time, sees=lambda trusted, one: True
            )
        self.jobs = Jobs(clock, self._worker, store, self.identity, rules, time.time, serving=self.serving)
        self.reception = _Recording(
            clock,
            self._worker,
            self.identity,
            "attic",
            Watched(where.peers),
            self.jobs,
            own_key_anywhere=False,
            serving=self.serving,
            probes=Probes(clock, self._worker, self.jobs.rates, self._inbox.write_speed),
        )
        self.door = _Door(Credentials(self.identity).server(self.reception))
        self.listening = ListeningService([Endpoint(socket.AF_INET, 0, "127.0.0.1")], self.door, reactor)
        self.listening.privilegedStartService()
        self.listening.startService()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.listening.addresses[0][1]

    @property
    def url(self) -> str:
        """Itself as a target."""
        return f"ftx://127.0.0.1:{self.port}"

    @property
    def connections(self) -> list[Connection]:
        """Every connection there ever was, oldest first."""
        return self.reception.made

    def cut(self) -> None:
        """Reset every connection there is."""
        for connection in self.connections:
            connection.abort(FtxError("connection-lost"))

    def settings(self, home: str = "home", **changes: Any) -> Settings:
        """A client's settings; by default it is the receiver's own identity that sends."""
        return Settings(places(str(self.folder / home), {}, os.geteuid(), "/"), **changes)

    async def send(
        self, *sources: Path, home: str = "home", on_event: Callable[[Event], object] = lambda _: None, **how: Any
    ) -> Done | Failed:
        """Send to it, from this process."""
        settings = self.settings(home, **how.pop("settings", {}))
        return await send(
            self._reactor, settings, [str(source) for source in sources], self.url, on_event=on_event, **how
        )

    async def get(
        self, path: str, into: Path, *, home: str = "home", on_event: Callable[[Event], object] = lambda _: None
    ) -> Done | Failed:
        """Get `path` of the share from it, in this process."""
        source = [f"{self.url}/share/{path}"]
        return await get(self._reactor, self.settings(home), source, str(into), on_event=on_event)

    def hostile(self, **how: Any) -> Hostile:
        """A connection with its own key and any manners; it blocks, so it belongs into a thread."""
        return Hostile(self.port, self.identity, **how)

    async def stop(self) -> None:
        """End everything."""
        self.store.release()
        self.listening.stopService()
        await self.jobs.stop()
        await self.reception.stop()
        await self._worker.stop()
        self._inbox.close()


def small_buffers(end: ReceivingEnd, size: int = 16 * limits.KiB) -> None:
    """Let the kernel keep little for connections that arrive from now on (they inherit it, tcp(7))."""
    for made in end.listening.listeners.sockets:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
