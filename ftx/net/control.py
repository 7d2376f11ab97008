"""The control socket: JSON lines over AF_UNIX, for this user and root only (`docs/control.md`).

`ControlServer` owns the socket and its connections; `ControlProtocol` is one of them, a thin door around a
`ftx.net.conversation.Conversation`. Twisted's own listening port is not used: it makes the socket 0666, and on
closing it removes whatever has the path it was given.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Mapping
from typing import Final

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorSocket,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.unix import Server
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ftx import limits
from ftx.errors import FtxError
from ftx.net.acceptor import Acceptor, AcceptorReactor
from ftx.net.conversation import Conversation, Dispatcher
from ftx.net.local import PrivateListener, caller_of
from ftx.net.packet import PacketDoor
from ftx.wire.jsonlines import LineSplitter

__all__ = ["ControlProtocol", "ControlReactor", "ControlServer"]

#: Connections of the daemon's own user at once, refused ones on their way out included; above it they are dropped
#: without a word.
_OPEN_AT_ONCE: Final = 2 * limits.CONTROL_CLIENTS


class ControlReactor(AcceptorReactor, IReactorSocket):
    """What a control server needs of the reactor."""


@implementer(IHalfCloseableProtocol, IFileDescriptorReceiver, IPushProducer)
class ControlProtocol(Protocol):
    """One connection: bytes to lines, flow control to the conversation, and its timers."""

    transport: Server

    def __init__(self, server: ControlServer) -> None:
        """A protocol for the next connection that `server` takes."""
        self._server = server
        self._clock = server.reactor
        self._lines = LineSplitter()
        self._paused = False  # by the conversation
        self._ended = False  # nothing that still arrives counts
        self._half_closed = False
        self._line_deadline: IDelayedCall | None = None
        self._next_look: IDelayedCall | None = None
        self._linger: IDelayedCall | None = None

    # -- from Twisted ---------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Find out who it is, and let the server decide."""
        caller = caller_of(self.transport.getHandle())
        server = self._server
        self._conversation = Conversation(self, caller, server.dispatcher, self._clock, server.ended)
        self.transport.registerProducer(self, True)
        server.admit(self._conversation)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes from the client."""
        if not self._ended:
            self._lines.feed(data)
            self._deliver()

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Somebody passes an open file (`SCM_RIGHTS`): nothing here takes one, and it must not stay open."""
        os.close(descriptor)
        self._refuse(FtxError("bad-request", "file descriptors are not accepted"))

    def readConnectionLost(self) -> None:
        """The client sends nothing more, but may well wait for answers."""
        self._half_closed = True
        self._watch_line(False)
        if self._linger is not None:
            self._linger.cancel()
            self._leave()
            return
        if not self._ended:
            try:
                line = self._lines.last_line()
            except FtxError as error:
                self._refuse(error)
                return
            if line is not None:
                self._conversation.receive(line)
        self._conversation.finish()
        self._look()

    def writeConnectionLost(self) -> None:
        """See IHalfCloseableProtocol: what was written before `close()` is out."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self._ended = True
        self._watch_line(False)
        for timer in (self._next_look, self._linger):
            if timer is not None and timer.active():
                timer.cancel()
        self._conversation.lost()

    def pauseProducing(self) -> None:
        """The client does not read as fast as we write."""
        self._conversation.pause_output()

    def resumeProducing(self) -> None:
        """What was written is on its way."""
        self._conversation.resume_output()

    def stopProducing(self) -> None:
        """See IPushProducer; `connectionLost` follows."""

    # -- from the conversation ------------------------------------------------------------------------------

    def write(self, message: bytes) -> None:
        """See `Door.write`."""
        self.transport.writeSequence([message, b"\n"])

    def pause_input(self) -> None:
        """See `Door.pause_input`."""
        self._paused = True
        self.transport.pauseProducing()

    def resume_input(self) -> None:
        """See `Door.resume_input`."""
        self._paused = False
        self._deliver()
        if not self._paused and not self._half_closed and not self._ended:
            self.transport.resumeProducing()

    def close(self) -> None:
        """See `Door.close`."""
        self._ended = True
        self._watch_line(False)
        self.transport.unregisterProducer()
        if self._half_closed or self._server.stopping:
            self.transport.loseConnection()
        else:
            # Closing with something unread would be a reset, which may overtake the reason just written: close
            # our side, read on, and leave when the client does, or soon (RFC 9112, 9.6, for the same in HTTP).
            self.transport.loseWriteConnection()
            self._linger = self._clock.callLater(limits.ABORT_AFTER, self._leave)
            self.transport.resumeProducing()

    def abort(self) -> None:
        """See `Door.abort`."""
        self._ended = True
        self._watch_line(False)
        self.transport.abortConnection()

    def _leave(self) -> None:
        self._linger = None
        self.transport.loseConnection()

    # -- lines ----------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Hand on the whole lines there are, until the conversation has enough."""
        began_anew = False
        while not self._paused and not self._ended:
            try:
                line = self._lines.next_line()
            except FtxError as error:
                self._refuse(error)
                return
            if line is None:
                break
            began_anew = True
            self._conversation.receive(line)
        # a line that we do not read on our own account is not late
        waits = self._lines.partial and not self._paused and not self._ended
        if began_anew:
            self._watch_line(False)
        self._watch_line(waits)

    def _refuse(self, error: FtxError) -> None:
        self._ended = True
        self._watch_line(False)
        self._conversation.refuse(error)

    def _watch_line(self, waits: bool) -> None:
        """Run the deadline of a line that has begun, or stop it."""
        if waits and self._line_deadline is None:
            self._line_deadline = self._clock.callLater(limits.CONTROL_STALL, self._line_late)
        elif not waits and self._line_deadline is not None:
            self._line_deadline.cancel()
            self._line_deadline = None

    def _line_late(self) -> None:
        self._line_deadline = None
        self._refuse(FtxError("bad-request", f"the line was not finished within {limits.CONTROL_STALL:.0f} s"))

    def _look(self) -> None:
        """Notice that a half-closed client is gone altogether.

        Its end of file has been read, so the reactor watches nothing on this connection until we write; a
        subscriber of a daemon that does nothing would keep its place for ever.
        """
        self._next_look = None
        if not self.transport.connected:
            return
        poll = select.poll()
        poll.register(self.transport.getHandle(), 0)
        if poll.poll(0):  # POLLHUP or POLLERR: these come unasked
            self.abort()
        else:
            self._next_look = self._clock.callLater(limits.CONTROL_STALL, self._look)


class _Connections(ServerFactory):
    """Makes the protocols of one server."""

    noisy = False

    def __init__(self, server: ControlServer) -> None:
        self._server = server

    def buildProtocol(self, addr: IAddress | None) -> ControlProtocol:
        return ControlProtocol(self._server)


class ControlServer:
    """The control sockets, for root and the user `owner_uid`, who must be the user of this process.

    There is the one for lines at `path`, and with a `packet_path` one for packets. Members of `group` (a number) may
    look, and cancel jobs; and pair, with `group_pairs`.

    `bind()` and `start()` may be called apart: what `bind()` refuses is then known before a daemon leaves its
    terminal; connections wait in between.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: ControlReactor,
        path: str,
        dispatcher: Dispatcher,
        *,
        owner_uid: int,
        packet_path: str = "",
        group: int | None = None,
        group_pairs: bool = False,
        given: Mapping[int, socket.socket] | None = None,
    ) -> None:
        """`dispatcher` carries requests out. Nothing is touched before `bind()`."""
        self.reactor = reactor
        self.path = path
        self.dispatcher = dispatcher
        self._owner_uid = owner_uid
        self._group = group
        #: Whether members of the group may pair, too; may be changed at any time.
        self.group_pairs = group_pairs
        #: Sockets that a supervisor made, by their type.
        self._given = given or {}
        self._kinds = [(path, socket.SOCK_STREAM)]
        if packet_path:
            self._kinds.append((packet_path, socket.SOCK_SEQPACKET))
        self._factory = _Connections(self)
        self._listeners: list[PrivateListener] = []
        self._acceptors: list[Acceptor] = []
        self._open: set[Conversation] = set()
        #: Clients that were dropped because they did not read, and progress events that slow ones lost.
        self.clients_dropped = 0
        self.events_dropped = 0
        self._admitted: set[Conversation] = set()
        self._turned_away: set[int] = set()
        self.stopping = False
        self._all_ended: Deferred[None] | None = None

    def bind(self) -> None:
        """Make the socket. Raises `control-unusable` or `already-running`, see `PrivateListener.make`."""
        if self._listeners:
            return
        try:
            for path, kind in self._kinds:
                self._listeners.append(
                    PrivateListener.adopted(self._given[kind])
                    if kind in self._given
                    else PrivateListener.make(path, self._owner_uid, kind, self._group)
                )
        except BaseException:
            self.unbind()
            raise

    def start(self) -> None:
        """Make the socket unless `bind()` did, and serve. Raises as `bind()` does."""
        self.bind()
        if self._acceptors:
            return
        for listener, (_, kind) in zip(self._listeners, self._kinds, strict=True):
            taken = self._connected if kind == socket.SOCK_STREAM else self._packets_connected
            acceptor = Acceptor(self.reactor, listener.listening, taken)
            self._acceptors.append(acceptor)
            acceptor.start()

    async def stop(self) -> None:
        """Take no more connections, remove the socket, and end the connections there are.

        What is being answered, and what was answered, has `limits.ABORT_AFTER` seconds to get out. A method must
        not wait for this: it would wait for itself.
        """
        self.stopping = True
        while self._acceptors:
            self._acceptors.pop().stop()
        self.unbind()
        for conversation in list(self._open):
            conversation.close()
        if not await self._ended_within(limits.ABORT_AFTER):
            for conversation in list(self._open):
                conversation.abandon()
            await self._ended_within(limits.ABORT_AFTER)

    def unbind(self) -> None:
        """Remove the sockets again; nobody is served yet, or any more."""
        while self._listeners:
            self._listeners.pop().close()

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._open)

    # -- from the connections -------------------------------------------------------------------------------

    def admit(self, conversation: Conversation) -> None:
        """Serve a new connection, or turn it away with the reason."""
        self._open.add(conversation)
        caller = conversation.caller
        member = self._group is not None and self._group in caller.groups
        if member and caller.uid not in (0, self._owner_uid):
            conversation.caller = caller = attrs.evolve(caller, restricted=True, pairs=self.group_pairs)
        if caller.uid not in (0, self._owner_uid) and not member:
            if caller.uid not in self._turned_away and len(self._turned_away) < limits.CONTROL_CLIENTS:
                self._turned_away.add(caller.uid)  # once per user: the log is not theirs to fill
                self._log.warn("control socket: user {uid} turned away", uid=caller.uid)
            conversation.refuse(FtxError("not-authorised", "this socket serves its own user and root only"))
        elif self.stopping:
            conversation.refuse(FtxError("busy", "the daemon is stopping"))
        elif caller.restricted and self._members_of(caller.uid) >= limits.CONTROL_ONE_MEMBER:
            many = f"user {caller.uid} has {limits.CONTROL_ONE_MEMBER} control connections already"
            conversation.refuse(FtxError("busy", many, "close one of them, or try again later"))
        elif caller.restricted and self._members >= limits.CONTROL_MEMBERS:
            many = f"members of the group have {limits.CONTROL_MEMBERS} control connections already"
            conversation.refuse(FtxError("busy", many, "close one of them, or try again later"))
        elif len(self._admitted) >= limits.CONTROL_CLIENTS:
            many = f"there are {limits.CONTROL_CLIENTS} control connections already"
            conversation.refuse(FtxError("busy", many, "close one of them, or try again later"))
        else:
            self._admitted.add(conversation)

    def ended(self, conversation: Conversation) -> None:
        """A connection is gone and nothing runs for it."""
        self.clients_dropped += conversation.gave_up
        self.events_dropped += conversation.dropped
        self._open.discard(conversation)
        self._admitted.discard(conversation)
        if not self._open and self._all_ended is not None:
            waiting, self._all_ended = self._all_ended, None
            waiting.callback(None)

    @property
    def _members(self) -> int:
        """How many places members of the group have."""
        return sum(one.caller.restricted for one in self._admitted)

    def _members_of(self, uid: int) -> int:
        return sum(one.caller.restricted and one.caller.uid == uid for one in self._admitted)

    def _room_for(self, connection: socket.socket) -> bool:
        """Whether a connection is worth an answer. What others leave lying never takes the owner's places."""
        uid = caller_of(connection).uid
        owners = (0, self._owner_uid)
        if uid in owners:
            return sum(one.caller.uid in owners for one in self._open) < _OPEN_AT_ONCE
        leaving = [one.caller.uid for one in self._open - self._admitted if one.caller.uid not in owners]
        return len(leaving) < limits.CONTROL_REFUSED and leaving.count(uid) < limits.CONTROL_REFUSED_ONE

    def _connected(self, connection: socket.socket) -> None:
        with connection:  # Twisted works on a duplicate
            if self._room_for(connection):
                self.reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, self._factory)

    def _packets_connected(self, connection: socket.socket) -> None:
        if self._room_for(connection):
            PacketDoor(self, connection).open()
        else:
            connection.close()

    async def _ended_within(self, seconds: float) -> bool:
        """Whether all connections ended in that time."""
        if not self._open:
            return True
        self._all_ended = Deferred()
        try:
            await self._all_ended.addTimeout(seconds, self.reactor)
        except TimeoutError:
            self._all_ended = None
            return False
        return True
