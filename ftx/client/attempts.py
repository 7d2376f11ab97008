"""Connections to one peer, one after the other, until one of them has done what it was made for.

Sending, getting and listing all begin here: dial, check who answers, remember where that was, and after a connection
was lost wait a little and dial again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ftx import limits
from ftx.client.find import Elsewhere, Found, check_expected
from ftx.client.whereabouts import Whereabouts
from ftx.core.identity import format_id, same
from ftx.core.peers import TrustStore
from ftx.core.trust import Trusted, judge
from ftx.disk.keys import Identity
from ftx.disk.peers import update
from ftx.errors import FtxError
from ftx.net.bundle import Bundle
from ftx.net.dial import Dialled, Place, dial
from ftx.net.lanes import Lanes
from ftx.net.own import OwnAddresses
from ftx.net.tls import Credentials
from ftx.net.worker import Worker
from ftx.wire import events
from ftx.wire.messages import FEATURES

__all__ = ["Attempts"]

_log = Logger()
_T = TypeVar("_T")

#: Reasons after which another attempt makes sense.
_LOST = frozenset({"connection-lost", "connection-reset", "peer-silent", "connect-timeout", "network-unreachable"})
#: Reasons of a server that took the connection and let it go before its hello.
_DROPPED = frozenset({"connection-lost", "connection-reset"})
#: Reasons that mean the peer may be on its way back, once a connection had stood.
_AWAY = _LOST | {"connection-refused", "peer-stopping", "busy", "hello-timeout"}


class Attempts:
    """The way to one peer. `job` is what its events are about, None for what is no job."""

    def __init__(
        self,
        reactor: Any,
        worker: Worker,
        identity: Identity,
        peers: TrustStore,
        found: Found,
        *,
        peers_file: str,
        name: str,
        own_key_anywhere: bool,
        retries: int | None,
        on_event: Callable[[events.Event], object],
        job: str | None = None,
        features: Sequence[str] = FEATURES,
        strangers: bool = False,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """`strangers`: also a key that is not paired here may answer; what is said to it then is for `use` to know.

        `elsewhere`: how a peer whose address has gone is found again; without it only the places in `found` count.
        """
        #: Who is at the other end, as far as it is known.
        self.peer = events.PeerInfo(name=found.name)
        #: Whether a connection has stood: what went wrong then concerns the job, not the way to it.
        self.begun = False
        #: Whether we wait for the next attempt at the moment.
        self.away = False
        #: What the peer is called here.
        self.called = found.name
        self._reactor: IReactorTime = reactor
        self._worker = worker
        self._identity = identity
        self._credentials = Credentials.of(identity)
        self._peers = peers
        self._found = found
        self._peers_file = peers_file
        self._name = name
        self._own_key_anywhere = own_key_anywhere
        self._retries = retries
        self._on_event = on_event
        self._job = job
        self._features = features
        self._strangers = strangers
        self._elsewhere = elsewhere
        #: Those of the attempt under way, or of the last one.
        self._lanes: Lanes | None = None
        #: Who answered, once somebody has: it is this one that we come back to.
        self._met: bytes | None = None

    async def run(
        self,
        use: Callable[[Dialled], Awaitable[_T]],
        heard: Callable[[], float | None],
        final: Callable[[], bool] = lambda: False,
    ) -> _T:
        """Dial and `use` the connection, again and again until that returns; its result.

        `use` leaves nothing of the connection behind. `heard` says when a peer that had taken the job was last heard,
        `final` whether what was begun cannot be begun again.
        Raises FtxError when another attempt makes no sense, or when there were enough.
        """
        attempt = 0
        delay = limits.RETRY_FIRST
        last_heard = self._reactor.seconds()
        while True:
            try:
                return await self._once(use)
            except FtxError as error:
                last = heard()
                if last is not None and last > last_heard:
                    last_heard = last
                    if error.name != "busy":  # it went on for a while: this is a new trouble
                        delay = limits.RETRY_FIRST
                if final() or not self._may_retry(error, attempt, last_heard):
                    if error.name == "hello-timeout" and self.begun:
                        # it has introduced itself before: this is no other program, but one that hangs
                        raise FtxError("peer-silent") from error
                    raise
                attempt += 1
                delay *= random.uniform(0.7, 1.3)  # many clients that lost one server should not come back as one
                info = events.error_info(error.as_value())
                if info is not None:
                    retry = events.Retry(job=self._job, peer=self.peer, attempt=attempt, delay_s=delay, error=info)
                    self._on_event(retry)
            self.away = True
            await self._pause(delay)
            delay = min(delay * limits.RETRY_GROWTH, limits.RETRY_MOST)

    async def _pause(self, delay: float) -> None:
        """Wait for the next attempt, and see meanwhile where the peer is."""
        looking = Deferred.fromCoroutine(self._look())
        try:
            await deferLater(self._reactor, delay, lambda: None)
            places = await looking
        except BaseException:
            looking.addErrback(lambda failure: None)
            looking.cancel()
            raise
        if places and self._met is not None:
            # What was remembered, or written, stays in the list: discovery may not reach everywhere.
            all_places = dict.fromkeys((*places, *self._found.places))
            self._found = attrs.evolve(self._found, places=tuple(all_places)[: limits.PLACES], expected=self._met)

    async def _look(self) -> Sequence[Place]:
        """Where the peer answers discovery now; nothing before it was met, or where it may not be looked for."""
        if self._elsewhere is None or self._met is None:
            return ()
        return await self._elsewhere.look(self._met)

    async def _once(self, use: Callable[[Dialled], Awaitable[_T]]) -> _T:
        """One connection from its dialling to its end."""
        dialled = await self._dial()
        whereabouts: Whereabouts | None = None
        try:
            self.begun = True
            self._met = dialled.trusted.id
            whereabouts = Whereabouts(
                self._reactor, dialled.connection, None if self._elsewhere is None else self._look
            )
            whereabouts.start()
            if not dialled.trusted.own:
                await self._remember(dialled.trusted.id, f"{_bracketed(dialled.address)}:{dialled.port}")
            self.away = False
            return await use(dialled)
        finally:
            if whereabouts is not None:
                whereabouts.stop()
            if self._lanes is not None:
                self._lanes.stop()
            dialled.connection.finish()

    def _may_retry(self, error: FtxError, attempt: int, last_heard: float) -> bool:
        if not self.begun:
            # A first connection that is refused is not tried again. One that was taken and then dropped before a word
            # was said met a server with too many strangers at its door; one that was not greeted in time, a server
            # that has more of them to greet at once than it can.
            enough = self._retries is None and attempt >= limits.RETRY_DROPPED
            if error.name != "hello-timeout" and (error.name not in _DROPPED or enough):
                return False
        elif error.name not in _AWAY:
            return False
        if self._retries is not None:  # somebody has counted: however long they take
            return attempt < self._retries
        return self._reactor.seconds() - last_heard < limits.RETRY_FOR

    async def _dial(self) -> Dialled:
        first = self._found.places[0]
        must_be = "" if self._found.expected is None else format_id(self._found.expected)
        self.peer = events.PeerInfo(self._found.name, self.peer.id or must_be, first.host, first.port)
        self._on_event(events.Connecting(job=self._job, peer=self.peer))

        def accept(key: bytes, address: str) -> Trusted:
            check_expected(self._found, key, address, self._peers)
            try:
                return judge(
                    key,
                    address,
                    own_id=self._identity.id,
                    own_name=self._name,
                    own_addresses=OwnAddresses(),
                    own_key_anywhere=self._own_key_anywhere,
                    peers=self._peers,
                    unknown="unknown-peer",
                )
            except FtxError as error:
                if error.name != "unknown-peer" or not self._strangers:
                    raise
                return Trusted(key, self._found.name, own=False)

        dialled = await dial(
            self._reactor,
            self._credentials,
            self._found.places,
            name=self._name,
            accept=accept,
            features=self._features,
        )
        trusted = dialled.trusted
        self.peer = events.PeerInfo(
            self._found.name if trusted.own else trusted.name, format_id(trusted.id), dialled.address, dialled.port
        )
        self._on_event(events.Connected(job=self._job, peer=self.peer))
        return dialled

    def lanes(self, dialled: Dialled, bundle: Bundle, job: bytes, *, up: bool, wanted: int | None) -> Lanes:
        """The lanes of the job whose connections are in `bundle`; no more are opened when that attempt is over.

        `wanted` is how many, None to choose; `up` says whether we send.
        """
        dial_another = partial(self._another, dialled)
        processors = os.cpu_count() or 1
        before = self._lanes
        self._lanes = Lanes(bundle, job, dial_another, up=up, wanted=wanted, processors=processors, before=before)
        return self._lanes

    async def _another(self, dialled: Dialled) -> Dialled:
        """One more connection to where `dialled` leads, proved to be the same peer, for the same job."""

        def accept(key: bytes, address: str) -> Trusted:
            if not same(key, dialled.trusted.id):
                raise FtxError("key-changed")
            return dialled.trusted

        places = [Place(dialled.address, dialled.port)]
        features = self._features
        return await dial(self._reactor, self._credentials, places, name=self._name, accept=accept, features=features)

    async def _remember(self, peer: bytes, address: str) -> None:
        """Note where and when the peer was seen. A convenience: that it cannot be written stops nothing."""
        now = events.iso_time()
        try:
            await self._worker.run(update, self._peers_file, lambda store: store.touch(peer, address, now))
        except FtxError as error:
            _log.warn("the peer's address could not be remembered: {reason}", reason=error.message)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
