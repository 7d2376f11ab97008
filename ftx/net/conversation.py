"""One client of the control socket: requests in, replies and events out, whatever carries them.

A `Conversation` sits between a door (`ftx.net.stream`, or `ftx.net.packet`, which keeps packets) and
the dispatcher. It takes whole messages, carries them out one after the other, answers in order, and bounds
what waits on either side. It touches neither a socket nor a method.

    door.receive(message) -> waiting (CONTROL_PENDING) -> dispatcher -> queue (CONTROL_QUEUE_HARD) -> door.write
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from ftx import limits
from ftx.errors import Error, FtxError
from ftx.net.local import Caller
from ftx.text import show
from ftx.wire.jsonlines import Request, decode_request, encode_error, encode_result

__all__ = ["Client", "Conversation", "Dispatcher", "Door", "Doorkeeper", "SendEvent", "StartStream"]

#: Sends one event, JSON without an end. `droppable` ones may be left out when the client reads too slowly.
SendEvent = Callable[[bytes, bool], None]
#: Starts a stream of events; what it returns is called once to end it.
StartStream = Callable[[SendEvent], Callable[[], None]]


class Client(Protocol):
    """What a dispatcher sees of the connection a request came from."""

    @property
    def caller(self) -> Caller:
        """Who asks."""

    def stream(self, start: StartStream) -> None:
        """Turn the connection into a stream of events; `start` is called right after the current reply is out.

        Raises `bad-request` if it is one already.
        """


class Dispatcher(Protocol):
    """What carries requests out."""

    async def answer(self, request: Request, client: Client) -> bytes:
        """The result of `request` as JSON, small enough for a line; raises FtxError for the error reply."""


class Door(Protocol):
    """What a conversation needs of the transport that carries it."""

    def write(self, message: bytes) -> None:
        """Send one message. May call `pause_output()` of the conversation before it returns."""

    def pause_input(self) -> None:
        """Hand in no more messages until `resume_input()`."""

    def resume_input(self) -> None:
        """Go on. May call `receive()` before it returns."""

    def close(self) -> None:
        """Send what was written, then close."""

    def abort(self) -> None:
        """Close now. `lost()` of the conversation is called, before or after this returns."""


class Doorkeeper(Protocol):
    """The server that a door belongs to."""

    reactor: Any
    dispatcher: Dispatcher
    stopping: bool

    def admit(self, conversation: Conversation) -> None:
        """Serve a new connection, or turn it away with the reason."""

    def ended(self, conversation: Conversation) -> None:
        """A connection is gone and nothing runs for it."""


@attrs.define(eq=False)
class Conversation:
    """The state of one client. The door calls `receive`, `finish`, `pause_output`, `resume_output`, `lost`."""

    door: Door
    caller: Caller
    dispatcher: Dispatcher
    clock: IReactorTime
    #: Called once when the connection is gone and nothing runs for it any more.
    on_ended: Callable[[Conversation], None]
    #: Progress events left out because the client read too slowly, and whether it was dropped itself.
    dropped: int = attrs.field(default=0, init=False)
    gave_up: bool = attrs.field(default=False, init=False)

    _waiting: deque[bytes] = attrs.field(factory=deque, init=False)
    _input_paused: bool = attrs.field(default=False, init=False)
    _input_finished: bool = attrs.field(default=False, init=False)
    _queue: deque[bytes] = attrs.field(factory=deque, init=False)
    _queued: int = attrs.field(default=0, init=False)
    _output_paused: bool = attrs.field(default=False, init=False)
    _room: Deferred[None] | None = attrs.field(default=None, init=False)
    #: Requests are being carried out, by the coroutine behind `_serving`.
    _busy: bool = attrs.field(default=False, init=False)
    _serving: Deferred[None] | None = attrs.field(default=None, init=False)
    _start: StartStream | None = attrs.field(default=None, init=False)
    _end_stream: Callable[[], None] | None = attrs.field(default=None, init=False)
    _closing: bool = attrs.field(default=False, init=False)
    _closed: bool = attrs.field(default=False, init=False)
    _given_up: bool = attrs.field(default=False, init=False)
    _lost: bool = attrs.field(default=False, init=False)
    _stall: IDelayedCall | None = attrs.field(default=None, init=False)

    _log = Logger()

    # -- from the door --------------------------------------------------------------------------------------

    def receive(self, message: bytes) -> None:
        """Take one whole message from the client."""
        if self._closing or self._lost:
            return
        self._waiting.append(message)
        if len(self._waiting) >= limits.CONTROL_PENDING and not self._input_paused:
            self._input_paused = True
            self.door.pause_input()
        if not self._busy:
            self._begin_serving()

    def finish(self) -> None:
        """The client sends nothing more: what it asked is still answered, then the connection is closed."""
        self._input_finished = True
        self._close_if_idle()

    def pause_output(self) -> None:
        """The transport has enough for now; from here on the client has `CONTROL_STALL` to take some of it."""
        self._output_paused = True
        if self._stall is None and not self._lost:
            self._stall = self.clock.callLater(limits.CONTROL_STALL, self._stalled)

    def resume_output(self) -> None:
        """The transport takes more."""
        self._output_paused = False
        self._cancel_stall()
        while self._queue and not self._output_paused:
            message = self._queue.popleft()
            self._queued -= len(message)
            self.door.write(message)
        self._wake_if_room()
        self._close_if_flushed()

    def lost(self) -> None:
        """The connection is gone. A request that runs is finished, unheard: half a change helps nobody."""
        if self._lost:
            return
        self._lost = True
        self._cancel_stall()
        self._waiting.clear()
        self._queue.clear()
        self._queued = 0
        self._start = None
        end, self._end_stream = self._end_stream, None
        if end is not None:
            end()
        if self._room is not None:
            room, self._room = self._room, None
            room.callback(None)
        if not self._busy:
            self.on_ended(self)

    # -- from the server ------------------------------------------------------------------------------------

    def refuse(self, error: FtxError) -> None:
        """Say why, with a null id, and close; whatever comes after is ignored."""
        if self._closing or self._lost:
            return
        self._waiting.clear()
        self._send(encode_error(None, error.as_value()))
        self.close()

    def close(self) -> None:
        """Answer what is being answered, send what is queued, and close."""
        self._closing = True
        self._waiting.clear()
        end, self._end_stream = self._end_stream, None
        if end is not None:
            end()
        self._close_if_flushed()

    def abandon(self) -> None:
        """End now, also what runs for this client."""
        self._closing = self._given_up = True
        self.door.abort()
        if self._serving is not None:
            self._serving.cancel()

    @property
    def streaming(self) -> bool:
        """Whether the connection is a stream of events."""
        return self._start is not None or self._end_stream is not None

    # -- for the dispatcher ---------------------------------------------------------------------------------

    def stream(self, start: StartStream) -> None:
        """See `Client.stream`."""
        if self.streaming:
            raise FtxError("bad-request", "this connection has a subscription already", "open another connection")
        self._start = start

    # -- requests -------------------------------------------------------------------------------------------

    def _begin_serving(self) -> None:
        self._busy = True  # first: all may be done before fromCoroutine() returns
        serving: Deferred[None] = Deferred.fromCoroutine(self._serve())
        self._serving = serving.addErrback(self._serving_failed).addCallback(self._served)

    def _serving_failed(self, failure: Failure) -> None:
        if not self._lost and not self._closing:
            self._log.failure("a control connection failed", failure)
            self.door.abort()

    def _served(self, _: None) -> None:
        self._busy = False
        if self._lost:
            self.on_ended(self)
        else:
            self._close_if_idle()

    async def _serve(self) -> None:
        """Carry out what waits, one after the other, no faster than the client takes the answers."""
        turn = 0
        while self._waiting:
            if self._queued > limits.CONTROL_QUEUE:
                self._room = Deferred()
                await self._room
                continue
            message = self._waiting.popleft()
            if self._input_paused and len(self._waiting) <= limits.CONTROL_PENDING // 2:
                self._input_paused = False
                self.door.resume_input()
            reply = await self._reply(message)
            if reply is not None:
                self._send(reply)
            self._start_stream()
            turn += 1
            if turn % limits.CONTROL_PENDING == 0:  # others have a right to the reactor too
                await deferLater(self.clock, 0)

    async def _reply(self, message: bytes) -> bytes | None:
        """The line to send for `message`, None for nothing."""
        try:
            request = decode_request(message)
        except FtxError as error:
            return encode_error(None, error.as_value())
        if request is None:
            return None
        running = Deferred.fromCoroutine(self.dispatcher.answer(request, self))
        result = await running.addErrback(self._error_of, request)
        if not request.wants_reply:
            return None
        if isinstance(result, bytes):
            reply = encode_result(request.id, result)
            if len(reply) <= limits.CONTROL_LINE:
                return reply
            self._log.error("the result of {method} does not fit in a line", method=show(request.method))
            result = FtxError("internal", "the result does not fit in a line").as_value()
        return encode_error(request.id, result)

    def _error_of(self, failure: Failure, request: Request) -> Error:
        if isinstance(failure.value, FtxError):
            return failure.value.as_value()
        if not self._closing:  # a request that we gave up ourselves is no news
            self._log.failure("{method} failed", failure, method=show(request.method))
        return FtxError("internal").as_value()

    def _start_stream(self) -> None:
        start, self._start = self._start, None
        if start is not None and not self._over():
            end = start(self._send_event)
            if self._over():  # the first event was too much for this client
                end()
            else:
                self._end_stream = end

    def _over(self) -> bool:
        return self._lost or self._closing

    # -- answers and events ---------------------------------------------------------------------------------

    def _send_event(self, message: bytes, droppable: bool) -> None:
        if self._closing:
            return
        if droppable and self._queued > limits.CONTROL_QUEUE:
            self.dropped += 1
            return
        self._send(message)

    def _send(self, message: bytes) -> None:
        if self._lost or self._given_up:
            return
        if not self._output_paused and not self._queue:
            self.door.write(message)
            return
        self._queue.append(message)
        self._queued += len(message)
        if self._queued > limits.CONTROL_QUEUE_HARD:
            self._give_up("it left too much unread")

    def _stalled(self) -> None:
        self._stall = None
        self._give_up("it did not take what waits for it")

    def _give_up(self, why: str) -> None:
        self._log.warn("control client {uid}/{pid} dropped: {why}", uid=self.caller.uid, pid=self.caller.pid, why=why)
        self._closing = self._given_up = self.gave_up = True
        self._waiting.clear()
        self.door.abort()

    def _wake_if_room(self) -> None:
        if self._room is not None and self._queued <= limits.CONTROL_QUEUE:
            room, self._room = self._room, None
            room.callback(None)

    def _cancel_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # -- the end --------------------------------------------------------------------------------------------

    def _close_if_idle(self) -> None:
        if self._input_finished and not self._waiting and not self._busy and not self.streaming:
            self._closing = True
        self._close_if_flushed()

    def _close_if_flushed(self) -> None:
        if not self._closing or self._closed or self._busy or self._queue or self._lost:
            return
        self._closed = True
        if self._stall is None:  # the transport waits for the client to read: not for ever
            self._stall = self.clock.callLater(limits.CONTROL_STALL, self._stalled)
        self.door.close()
