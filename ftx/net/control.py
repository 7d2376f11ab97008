"""The control sockets: JSON lines and packets over AF_UNIX, for this user and root only (`docs/control.md`).

`ControlServer` owns the sockets and decides who is served; a connection is a door (`ftx.net.stream`,
`ftx.net.packet`) with a `ftx.net.conversation.Conversation` behind it. Twisted's own listening port is not used: it
makes the socket 0666, and on closing it removes whatever has the path it was given.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Final

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorSocket
from twisted.logger import Logger

from ftx import limits
from ftx.errors import FtxError
from ftx.net.acceptor import Acceptor, AcceptorReactor
from ftx.net.conversation import Conversation, Dispatcher
from ftx.net.local import PrivateListener, caller_of
from ftx.net.packet import PacketDoor
from ftx.net.stream import StreamDoors

__all__ = ["ControlReactor", "ControlServer"]

#: Connections of the daemon's own user at once, refused ones on their way out included; above it they are dropped
#: without a word.
_OPEN_AT_ONCE: Final = 2 * limits.CONTROL_CLIENTS


class ControlReactor(AcceptorReactor, IReactorSocket):
    """What a control server needs of the reactor."""


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
        self._factory = StreamDoors(self)
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
