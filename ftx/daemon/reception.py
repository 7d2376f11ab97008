"""Where connections arrive: who is let in, and what is done about those who never say anything.

A connection is judged when its hello has come: the key that TLS proved is looked up in the peers as they are at that
moment, in a worker thread. Until then it is one of a bounded number of strangers. When there are too many, the source
that has most of those who have shown least loses its oldest one: so a crowd of idle connections locks nobody out, and
least of all somebody from elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from ftx import limits
from ftx.core.identity import format_id, same
from ftx.core.penalties import Penalties
from ftx.core.session import agree
from ftx.core.stages import APPROVAL, PAIRING, Role, Stage
from ftx.core.strangers import Rank, Strangers
from ftx.core.trust import Trusted, judge, source_of
from ftx.daemon.complaints import Said
from ftx.daemon.jobs import Jobs
from ftx.daemon.pairing import Pairings
from ftx.daemon.probes import Probes
from ftx.daemon.serving import Serving
from ftx.daemon.words import why_ended
from ftx.disk.keys import Identity
from ftx.disk.peers import Watched
from ftx.errors import FtxError, kind
from ftx.net.own import OwnAddresses
from ftx.net.tls import PeerKey
from ftx.net.transfer import Connection, our_hello
from ftx.net.worker import Worker
from ftx.text import show
from ftx.wire.messages import FEATURES, Hello, Join, List, Offer, Probe, Refuse, Request

__all__ = ["Reception"]

_log = Logger()

#: Features for a key that is not known: nothing by which it could read here.
_FOR_STRANGERS = frozenset({APPROVAL, "repair", "steer", "zstd"})


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
        probes: Probes | None = None,
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
        self._probes = probes
        self._strangers: Strangers[Connection] = Strangers()
        self._known: dict[Connection, Trusted] = {}
        #: Those whom nobody knows, let in to make one offer; None once they have made it.
        self._asking: dict[Connection, Trusted | None] = {}
        self._running: set[Deferred[None]] = set()
        self._said = Said(reactor)
        self._penalties = Penalties()
        #: Refusals that are held back, by whom they are for.
        self._late: dict[Connection, IDelayedCall] = {}
        #: Who was paired at the last look, by identity, and under which name.
        self._paired: dict[bytes, str] | None = None
        #: How many peers are paired, as of the last look.
        self.paired = 0

    @property
    def paired_ids(self) -> Collection[bytes]:
        """The identities that were paired at the last look; another object after the next."""
        return () if self._paired is None else self._paired

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
        trusted = self._known.get(connection)
        if trusted is None:
            trusted, self._asking[connection] = self._asking[connection], None
            if trusted is None:
                raise FtxError("untrusted", "it may make one offer, and made another")
        self._spawn(self._jobs.offer(connection, offer, trusted), connection)

    def asked(self, connection: Connection, message: List | Request | Probe | Join) -> None:
        """A peer asks what there is in the shares, or for it, how fast content travels, or for a lane of its job."""
        trusted = self._known[connection]
        if isinstance(message, Join):
            self._jobs.join(connection, message, trusted)
            return
        if isinstance(message, Probe):
            if self._probes is None:
                connection.send(Refuse(message.job, kind("not-supported").number))
            else:
                self._spawn(self._probes.asked(connection, message, trusted), connection)
            return
        if self._serving is None:
            connection.send(Refuse(message.job, kind("not-shared").number))
            return
        self._spawn(self._serving.asked(connection, message, trusted), connection)

    def ended(self, connection: Connection, error: FtxError | None) -> None:
        """A connection is over."""
        self._strangers.forget(connection)
        late = self._late.pop(connection, None)
        if late is not None and late.active():
            late.cancel()
        known = self._known.pop(connection, None)
        self._asking.pop(connection, None)
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
        for connection in [*self._strangers, *self._known, *self._asking]:
            connection.abort(FtxError("peer-stopping"))
        for running in list(self._running):
            await running

    @property
    def connections(self) -> tuple[int, int]:
        """How many strangers and how many signed in."""
        return len(self._strangers) + len(self._asking), len(self._known)

    @property
    def held_back(self) -> int:
        """How many refusals have not been said yet."""
        return sum(call.active() for call in self._late.values())

    # -- within --------------------------------------------------------------------------------------------

    async def _judge(self, connection: Connection, hello: Hello) -> None:
        peer = connection.peer
        if peer is None:
            return
        peers = await self._worker.run(self._watched.current)
        if connection.over:
            return
        try:
            trusted = judge(
                peer.id,
                connection.where,
                own_id=self._identity.id,
                own_name=self.name,
                own_addresses=OwnAddresses(),
                own_key_anywhere=self.own_key_anywhere,
                peers=peers,
                unknown="untrusted",
            )
        except FtxError as error:
            if error.name != "untrusted" or not self._may_ask(connection, hello):
                raise
            self._let_ask(connection, hello, peer)
            return
        self._strangers.forget(connection)
        mine = [one.id for one in self._known.values()].count(trusted.id)  # known already: no secret is compared
        if mine >= limits.SIGNED_IN_PER_KEY or len(self._known) >= limits.SIGNED_IN_TOTAL:
            raise FtxError("busy", f"there are too many connections of {trusted.name}")
        self._known[connection] = trusted
        left_out = {"symlinks"} if not self.keep_links else set()
        if self._probes is None or not self._probes.wanted:
            left_out.add("probe")
        features = [name for name in FEATURES if name not in left_out]
        connection.send(our_hello(self.name, signed_in=True, features=features))
        connection.signed_in()
        connection.session.version = agree(connection.session.hello, hello)
        self._jobs.peer_seen(trusted)

    def _may_ask(self, connection: Connection, hello: Hello) -> bool:
        """Whether a key that nobody knows may make an offer: people are asked here, and few enough ask already."""
        source = source_of(connection.where)
        alike = sum(source_of(one.where) == source for one in self._asking)
        return (
            self._jobs.rules.accept == "ask"
            and APPROVAL in hello.features
            and alike < limits.OFFERS_PER_SOURCE
            and len(self._asking) < limits.OFFERS_TOTAL
        )

    def _let_ask(self, connection: Connection, hello: Hello, peer: PeerKey) -> None:
        self._strangers.forget(connection)
        self._asking[connection] = Trusted(peer.id, show(hello.name, limits.DISPLAY_NAME) or "nameless", own=False)
        features = [name for name in FEATURES if name in _FOR_STRANGERS]
        connection.send(our_hello(self.name, features=features))
        connection.session.version = agree(connection.session.hello, hello)

    async def _recheck(self) -> None:
        peers = await self._worker.run(self._watched.current)
        self.paired = len(peers.peers)
        known = {peer.id for peer in peers.peers}
        gone = self._changed({peer.id: peer.name for peer in peers.peers})
        for connection, offered in list(self._asking.items()):
            if offered is None and connection.session.stage is Stage.READY:
                connection.goodbye()  # its one offer is over
            if connection.peer is not None and connection.peer.id in gone:
                connection.fail(FtxError("untrusted", "its key is not paired here any more"))
        for connection, trusted in list(self._known.items()):
            if not trusted.own and not any(same(trusted.id, one) for one in known):
                connection.fail(FtxError("untrusted", "its key is not paired here any more"))

    def _changed(self, paired: dict[bytes, str]) -> set[bytes]:
        """Note who is paired now, with a line in the log for every change; returns who is not any more.

        Whoever changed the file without asking this daemon is known by what the file system says: whose file it is.
        """
        before, self._paired = self._paired, paired
        if before is None:
            return set()
        owner = self._watched.written_by
        by = "" if owner is None else f"; the file was written by user {owner}"
        for key in paired.keys() - before.keys():
            name, how = show(paired[key]), "; as a guest" if self._watched.is_guest(key) else by
            _log.info("audit: {name} is paired now, id {id}{how}", name=name, id=format_id(key), how=how)
        for key in before.keys() - paired.keys():
            name = show(before[key])
            _log.info("audit: {name} is not paired any more, id {id}{how}", name=name, id=format_id(key), how=by)
        for key in before.keys() & paired.keys():
            if before[key] != paired[key]:
                old, new = show(before[key]), show(paired[key])
                _log.info("audit: {old} is called {new} now, id {id}{how}", old=old, new=new, id=format_id(key), how=by)
        return set(before) - set(paired)

    def _refuse(self, connection: Connection, error: FtxError) -> None:
        """End a connection with `error`; a source that was refused often lately hears of it later and later."""
        if error.name != "untrusted" or connection in self._known or connection.over:
            connection.fail(error)
            return
        delay = self._penalties.refused(source_of(connection.where), self._reactor.seconds())
        if delay:
            self._late[connection] = self._reactor.callLater(delay, connection.fail, error)
        else:
            connection.fail(error)

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
                self._refuse(connection, error)

        running.addBoth(settled)
