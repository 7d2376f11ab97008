"""The way to a peer: where it is, how we come back to it, and the threads for as long as that takes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol, TypeVar

import attrs

from ftx.client.attempts import Attempts
from ftx.client.find import Elsewhere, locate
from ftx.client.running import Flow
from ftx.client.settings import Settings
from ftx.client.target import Target
from ftx.core.peers import TrustStore
from ftx.disk.keys import Identity
from ftx.errors import FtxError
from ftx.net.worker import Worker
from ftx.wire.events import Event
from ftx.wire.messages import FEATURES

__all__ = ["OnEvent", "Way", "carried_out", "working"]

_Given = TypeVar("_Given", covariant=True)

OnEvent = Callable[[Event], object]


@contextlib.asynccontextmanager
async def working(reactor: Any, threads: int) -> AsyncIterator[Worker]:
    """Threads for as long as the block takes."""
    worker = Worker(reactor, threads)
    worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


@attrs.frozen
class Way:
    """What it takes to find a peer and to keep coming back to it."""

    reactor: Any
    settings: Settings
    worker: Worker
    identity: Identity
    peers: TrustStore
    on_event: OnEvent
    warn: Callable[[str], object]

    async def find(
        self, where: Target, job: str | None, features: Sequence[str] = FEATURES, *, strangers: bool = False
    ) -> tuple[Attempts, str]:
        """The way to `where`, and what to say when no address of it can be found."""
        settings = self.settings
        found = await locate(
            self.reactor,
            where,
            self.peers,
            own_id=self.identity.id,
            port=settings.discovery_port,
            interfaces=settings.discovery_interfaces,
            exclude=settings.discovery_exclude,
            warn=self.warn,
        )
        elsewhere = Elsewhere(
            self.reactor,
            self.identity.id,
            settings.discovery_port,
            settings.discovery_interfaces,
            settings.discovery_exclude,
            where.port,
        )
        attempts = Attempts(
            self.reactor,
            self.worker,
            self.identity,
            self.peers,
            found,
            peers_file=settings.places.peers,
            name=settings.own_name,
            own_key_anywhere=settings.own_key_anywhere,
            retries=settings.retries,
            on_event=self.on_event,
            job=job,
            features=features,
            strangers=strangers,
            elsewhere=None if where.pinned else elsewhere,
        )
        return attempts, found.hint


class Held(Protocol[_Given]):
    """What goes on over a connection, and can be held up."""

    def hold(self, full: bool) -> None:
        """Whoever takes what it has to say has enough for now, or wants more."""

    async def run(self) -> _Given:
        """Do it."""


async def carried_out(what: Held[_Given], flow: Flow, hint: str) -> _Given:
    """Run it at the pace of `flow`; when there is no such host, `hint` says what is known that looks like it."""
    flow.on_change = what.hold
    try:
        return await what.run()
    except FtxError as error:
        if error.name == "name-not-found" and hint:
            error.hint = hint
        raise
