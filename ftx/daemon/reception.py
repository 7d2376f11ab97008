"""Where connections arrive: who is let in, and what is done about those who never say anything.

A connection is judged when its hello has come: the key that TLS proved is looked up in the peers as they are at that
moment, in a worker thread. Until then it is one of a bounded number of strangers. When there are too many, the source
that has most of those who have shown least loses its oldest one: so a crowd of idle connections locks nobody out, and
least of all somebody from elsewhere.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from ftx import limits
from ftx.core.identity import same
from ftx.core.session import PAIRING, Role, agree
from ftx.core.strangers import Rank, Strangers
from ftx.core.trust import Trusted, judge, source_of
from ftx.daemon.complaints import Said
from ftx.daemon.jobs import Jobs
from ftx.daemon.pairing import Pairings
from ftx.daemon.serving import Serving
from ftx.daemon.words import why_ended
from ftx.disk.keys import Identity
from ftx.disk.peers import Watched
from ftx.errors import FtxError, kind
from ftx.net.interfaces import interfaces, own_addresses
from ftx.net.tls import PeerKey
from ftx.net.transfer import Connection, our_hello
from ftx.net.worker import Worker
from ftx.text import show
from ftx.wire.messages import FEATURES, Hello, List, Offer, Refuse, Request

__all__ = ["Reception"]

_log = Logger()


class Reception(ServerFactory):
    """Makes a `Connection` for everyone who connects, and is the owner of all of them."""

    noisy = False

    def __init__(
        self,
        reactor: Any,
        worker: Worker,
        identity: Identity,
        name: str,
        watched: Watched,
        jobs: Jobs,
        *,
        own_key_anywhere: bool,
        keep_links: bool = False,
        pairings: Pairings | None = None,
        serving: Serving | None = None,
    ) -> None:
        self.name = name
        self.own_key_anywhere = own_key_anywhere
        #: Whether symbolic links may come in; counts for connections that sign in from now on.
        self.keep_links = keep_links
        self._reactor = reactor
        self._worker = worker
        self._identity = identity
        self._watched = watched
        self._jobs = jobs
        self._pairings = pairings
        self._serving = serving
        self._strangers: Strangers[Connection] = Strangers()
        self._known: dict[Connection, Trusted] = {}
        self._running: set[Deferred[None]] = set()
        self._said = Said(reactor)
        #: How many peers are paired, as of the last look.
        self.paired = 0

    # -- ServerFactory -------------------------------------------------------------------------------------

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        """A connection arrives; the stranger who has shown least may have to go."""
        while len(self._strangers) >= limits.UNSIGNED_TOTAL:
            self._make_room()
        where = show(str(getattr(addr, "host", "")), 64)
        connection = Connection(self._reactor, Role.SERVER, self.name, self, where)
        self._strangers.add(connection, source_of(where))
        return connection

    def _make_room(self) -> None:
        connection = self._strangers.least(lambda one: one.spoke)
        if connection is not None:
            self._strangers.forget(connection)
            connection.abort(FtxError("busy", "too many connections that say nothing"))

    # -- Owner ---------------------------------------------------------------------------------------------

    def key_proved(self, connection: Connection, peer: PeerKey) -> None:
        """TLS is done; the stranger has shown life."""
        self._strangers.raise_to(Rank.PROVED, connection)

    def greeted(self, connection: Connection, hello: Hello) -> None:
        """Judge the peer, then answer its hello; who has come to pair is judged by the code."""
        if PAIRING in hello.features:
            if self._pairings is None:
                raise FtxError("pairing-closed")
            self._pairings.let_in(connection, hello)
            return
        self._spawn(self._judge(connection, hello), connection)

    def offered(self, connection: Connection, offer: Offer) -> None:
        """A peer offers a job."""
        self._spawn(self._jobs.offer(connection, offer, self._known[connection]), connection)

    def asked(self, connection: Connection, message: List | Request) -> None:
        """A peer asks what there is in the shares, or for it."""
        trusted = self._known[connection]
        if self._serving is None:
            connection.send(Refuse(message.job, kind("not-shared").number))
            return
        self._spawn(self._serving.asked(connection, message, trusted), connection)

    def ended(self, connection: Connection, error: FtxError | None) -> None:
        """A connection is over."""
        self._strangers.forget(connection)
        known = self._known.pop(connection, None)
        if error is not None and known is None:
            self._complain(connection, error)

    def _complain(self, connection: Connection, error: FtxError) -> None:
        if not self._said.is_news((connection.where, error.name, connection.told)):
            return
        peer, hello = connection.peer, connection.session.peer
        if hello is not None and PAIRING in hello.features and connection.session.version:
            return  # it stood in front of a pairing window, which has said what there was to say
        reason = why_ended(
            error,
            theirs=connection.told,
            own=self._identity.id,
            key=None if peer is None else peer.id,
            name="" if hello is None else hello.name,
        )
        _log.info("connection from {source} ended: {reason}", source=connection.where, reason=reason)

    # -- for the service -----------------------------------------------------------------------------------

    def recheck(self) -> Deferred[None]:
        """Look at the peers again and end the connections of those who were removed."""
        return Deferred.fromCoroutine(self._recheck())

    async def stop(self) -> None:
        """End every connection and wait for what is being decided."""
        for connection in [*self._strangers, *self._known]:
            connection.abort(FtxError("peer-stopping"))
        for running in list(self._running):
            await running

    @property
    def connections(self) -> tuple[int, int]:
        """How many strangers and how many signed in."""
        return len(self._strangers), len(self._known)

    # -- within --------------------------------------------------------------------------------------------

    async def _judge(self, connection: Connection, hello: Hello) -> None:
        peer = connection.peer
        if peer is None:
            return
        peers, addresses = await self._worker.run(self._look)
        if connection.over:
            return
        trusted = judge(
            peer.id,
            connection.where,
            own_id=self._identity.id,
            own_name=self.name,
            own_addresses=addresses,
            own_key_anywhere=self.own_key_anywhere,
            peers=peers,
            unknown="untrusted",
        )
        self._strangers.forget(connection)
        mine = sum(same(one.id, trusted.id) for one in self._known.values())
        if mine >= limits.SIGNED_IN_PER_KEY or len(self._known) >= limits.SIGNED_IN_TOTAL:
            raise FtxError("busy", f"there are too many connections of {trusted.name}")
        self._known[connection] = trusted
        features = [name for name in FEATURES if name != "symlinks" or self.keep_links]
        connection.send(our_hello(self.name, signed_in=True, features=features))
        connection.signed_in()
        connection.session.version = agree(connection.session.hello, hello)

    def _look(self) -> Any:
        return self._watched.current(), own_addresses(interfaces())

    async def _recheck(self) -> None:
        peers = await self._worker.run(self._watched.current)
        self.paired = len(peers.peers)
        known = {peer.id for peer in peers.peers}
        for connection, trusted in list(self._known.items()):
            if not trusted.own and not any(same(trusted.id, one) for one in known):
                connection.fail(FtxError("untrusted", "its key is not paired here any more"))

    def _spawn(self, coroutine: Any, connection: Connection) -> None:
        """Run a decision; what it raises ends the connection."""
        running: Deferred[None] = Deferred.fromCoroutine(coroutine)
        self._running.add(running)

        def settled(outcome: object) -> None:
            self._running.discard(running)
            if isinstance(outcome, Failure):
                error = outcome.value
                if not isinstance(error, FtxError):
                    _log.failure("deciding about a connection failed in an unforeseen way", failure=outcome)
                    error = FtxError("internal")
                connection.fail(error)

        running.addBoth(settled)
