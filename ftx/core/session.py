"""The session: one connection from hello to goodbye, as a machine without a socket or a clock.

Theory. Two parties, client and server, move through the stages of `docs/protocol.md` section 3 together, by the tables
of `ftx.core.stages`: one per origin, and *both* drive the same stage. A side applies its own table to
what it sends and the other's to what it receives, so neither end has rules that the other lacks. Messages of a job are
let through in stage JOB and judged further by the job's own machine (`sender`, `receiver`).

The owner feeds bytes with the time they came (`receive`), takes events (`next_event`), asks for the bytes of a message
(`send`), and calls `tick` at `next_deadline`. The first violation raises ProtocolError; afterwards the session only
swallows what still arrives.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from ftx import limits
from ftx.core.stages import (
    APPROVAL,
    FROM_CLIENT,
    FROM_SERVER,
    LET_IN,
    PAIRING,
    UNSIGNED,
    HelloToAsk,
    HelloToPair,
    JoinedDown,
    JoinedUp,
    LastListing,
    ProbeDown,
    ProbeUp,
    Role,
    Stage,
)
from ftx.core.table import Table, Trace, advance
from ftx.errors import FtxError, LocalProtocolError, ProtocolError, kind, kind_from_peer
from ftx.wire.frames import WHILE_ASKING, WHILE_PAIRING, FrameDecoder, Piece, Whole, after_sign_in, encodings
from ftx.wire.messages import (
    DRY_RUN,
    PULL,
    PUSH,
    Accept,
    ErrorMessage,
    Hello,
    Joined,
    Listing,
    Message,
    Offer,
    Ping,
    Pong,
    Probe,
    ProbeKind,
    decode,
    encode,
    needed_feature,
)

__all__ = ["Session", "agree", "error_frame", "error_of"]


def agree(ours: Hello, theirs: Hello) -> int:
    """The protocol version both sides speak, or ProtocolError `no-common-version` naming both ranges."""
    version = min(ours.highest, theirs.highest)
    if version < max(ours.lowest, theirs.lowest):
        raise ProtocolError(
            "no-common-version",
            f"we speak versions {ours.lowest} to {ours.highest}, the peer {theirs.lowest} to {theirs.highest}",
        )
    return version


@attrs.define(eq=False)
class Session:
    """One end of a connection.

    `hello` is what we say of ourselves. `now` is seconds on any monotonic clock, the same in every call.
    """

    role: Role
    hello: Hello
    opened: float
    trace: Trace | None = None
    stage: Stage = attrs.field(default=Stage.GREETING, init=False)
    #: The peer's hello, once it came; its texts are not clean for display.
    peer: Hello | None = attrs.field(default=None, init=False)
    #: The protocol version in force, 0 before that.
    version: int = attrs.field(default=0, init=False)
    #: What both sides can do besides what every version can, from sign-in on.
    features: frozenset[str] = attrs.field(default=frozenset(), init=False)
    #: When anything last came from the peer: what proves that it is alive.
    last_received: float = attrs.field(init=False)
    #: The shortest time between a hello or ping of ours and its answer, in seconds; None before the first. It counts
    #: how busy both ends are, too.
    round_trip: float | None = attrs.field(default=None, init=False)
    _asked_at: float = attrs.field(default=0.0, init=False)
    _last_sent: float = attrs.field(init=False)
    _paused: bool = attrs.field(default=False, init=False)
    #: Since when the frame under way has not got on, None between frames; and what of it has come since then.
    _crawling: float | None = attrs.field(default=None, init=False)
    _crawled: int = attrs.field(default=0, init=False)
    _pings: int = attrs.field(default=0, init=False)
    _asked: int = attrs.field(default=0, init=False)
    _pings_since: float = attrs.field(init=False)
    _decoder: FrameDecoder = attrs.field(factory=FrameDecoder, init=False)

    def __attrs_post_init__(self) -> None:
        self.last_received = self._last_sent = self._pings_since = self.opened

    def connected(self, now: float) -> None:
        """The transport stands: from now on the time to sign in runs."""
        self.opened = self.last_received = self._last_sent = self._pings_since = now

    @property
    def over(self) -> bool:
        """Whether nothing more can be said."""
        return self.stage in (Stage.CLOSED, Stage.FAILED)

    @property
    def paused(self) -> bool:
        """Whether we have stopped reading."""
        return self._paused

    @property
    def buffered(self) -> int:
        """Received bytes that wait for the rest of their frame."""
        return self._decoder.buffered

    @property
    def content_begun(self) -> tuple[int, int] | None:
        """Entry and block of the content whose frame is under way, None for none."""
        return self._decoder.content_begun

    def receive(self, data: bytes, now: float) -> None:
        """Bytes from the peer. Take the events they complete with `next_event()` until it gives None."""
        self.receive_all((data,), now)

    def receive_all(self, parts: Iterable[bytes], now: float) -> None:
        """Bytes from the peer in the parts in which they came at once; see `receive`."""
        self.last_received = now
        if not self.over:
            before = self._decoder.buffered
            self._decoder.feed_all(parts)
            self._crawled += self._decoder.buffered - before

    def next_event(self, now: float) -> Message | Piece | None:
        """The next thing the owner must know: a hello, a message of a job, a piece of a block, a goodbye, or an error.

        Pings are answered by the owner (`Ping` events), pongs are swallowed here. Raises ProtocolError at a
        violation; the session is FAILED then, and `error_frame()` may still be sent.
        """
        while not self.over:
            try:
                item = self._decoder.next_item()
                if item is None:
                    self._get_on(now)
                    return None
                self._crawling = None
                message = item if isinstance(item, Piece) else decode(item)
                theirs = FROM_SERVER if self.role is Role.CLIENT else FROM_CLIENT
                self.stage = advance(theirs, self.stage, self._event(message, theirs), self.trace)
                if isinstance(message, Hello):
                    self._greeted(message)
                    if self.role is Role.CLIENT:
                        self._answered(now)
                elif isinstance(message, Offer) and message.kind not in self._kinds():
                    raise ProtocolError("bad-message", "an offer was of a kind that its side does not make")
                elif isinstance(message, Ping | Pong):
                    if isinstance(message, Pong) and self._asked:
                        self._asked -= 1  # an answer, not a flood
                        self._answered(now)
                    else:
                        self._count_ping(now)
                    if isinstance(message, Pong):
                        continue
            except ProtocolError:
                self.fail()
                raise
            return message
        self._decoder.clear()
        return None

    def next_wholes(self, most: int) -> list[Whole]:
        """The small files that come next, at most `most`, for who takes many at once; `next_event` has all else."""
        theirs = FROM_SERVER if self.role is Role.CLIENT else FROM_CLIENT
        if self.over or self.trace is not None or theirs.get(self.stage, {}).get(Piece) is not self.stage:
            return []
        found = self._decoder.next_wholes(most)
        if found:
            self._crawling = None
        return found

    def lengthened(self, piece: Piece, most: int) -> Piece:
        """`piece`, the last event, with those behind it that belong to the same block, in all at most `most`."""
        return piece if self.trace is not None else self._decoder.lengthened(piece, most)

    def _answered(self, now: float) -> None:
        """What was asked last has its answer; of several pings that are out only the last counts."""
        took = now - self._asked_at
        if not self._asked and (self.round_trip is None or took < self.round_trip):
            self.round_trip = took

    def _get_on(self, now: float) -> None:
        """All that came was looked at: whether the frame under way, if there is one, gets on."""
        if not self._decoder.begun:
            self._crawling = None
        elif self._crawling is None or self._crawled >= limits.CRAWL_LEAST:
            self._crawling, self._crawled = now, 0

    def send(self, message: Message, now: float) -> bytes:
        """The frame of `message`, if it may be sent now; LocalProtocolError if not, which is a bug of ours."""
        feature = needed_feature(type(message))
        if feature and feature not in self.features:
            raise LocalProtocolError(f"we must not send this: the peer does not know {feature}")
        ours = FROM_CLIENT if self.role is Role.CLIENT else FROM_SERVER
        self.step(self._event(message, ours), now)
        let_in = isinstance(message, Hello) and (message.signed_in or self.stage in LET_IN)
        if isinstance(message, Hello) and let_in and self.role is Role.SERVER:
            # Without it nothing is let in: an error from us is all that follows.
            self._agreed(message, self.peer)
        if isinstance(message, Accept) and self.role is Role.SERVER:  # a person has consented, or nobody had to
            self._decoder.bounds = after_sign_in(self.features)
        return encode(message)

    def step(self, event: type, now: float) -> None:
        """Note that we send something of class `event`: for data frames, which the owner encodes itself."""
        ours = FROM_CLIENT if self.role is Role.CLIENT else FROM_SERVER
        try:
            self.stage = advance(ours, self.stage, event, self.trace)
        except ProtocolError as error:
            raise LocalProtocolError(f"we must not send this: {error.message}") from error
        self._last_sent = now
        if event is Ping or event is Hello:
            self._asked_at = now
            self._asked += event is Ping

    def fail(self) -> None:
        """The session is over; nothing more is decoded."""
        self.stage = Stage.FAILED
        self._decoder.clear()

    def reading_paused(self, paused: bool, now: float) -> None:
        """Say that we stopped or went on reading: silence is judged only while we read."""
        if self._paused and not paused:
            self.last_received = now
            if self._crawling is not None:
                self._crawling = now
        self._paused = paused

    def next_deadline(self) -> float | None:
        """When `tick()` is due, or None when nothing is."""
        if self.over:
            return None
        if self.stage in UNSIGNED:
            return self.opened + limits.HELLO_DEADLINE
        if self.stage is Stage.PAIRING:
            return self.opened + limits.PAIRING_WINDOW_MOST
        ping = self._last_sent + limits.PING_INTERVAL
        if self._paused:
            return ping
        crawl = ping if self._crawling is None else self._crawling + limits.CRAWL_SECONDS
        return min(ping, crawl, self.last_received + limits.SILENCE)

    def tick(self, now: float) -> bytes:
        """What is due at `now`: bytes to send (a ping), often none.

        Raises FtxError `hello-timeout` or `peer-silent` when the peer let its time run out; the session is over then.
        """
        if self.over:
            return b""
        if self.stage in UNSIGNED:
            if now >= self.opened + limits.HELLO_DEADLINE:
                self.fail()
                raise FtxError("hello-timeout")
            return b""
        if self.stage is Stage.PAIRING:  # its person is typing; how long that may take is the window's matter
            if now >= self.opened + limits.PAIRING_WINDOW_MOST:
                self.fail()
                raise FtxError("pairing-closed", "the pairing took too long")
            return b""
        if not self._paused and now >= self.last_received + limits.SILENCE:
            self.fail()
            raise FtxError("peer-silent")
        if not self._paused and self._crawling is not None and now >= self._crawling + limits.CRAWL_SECONDS:
            self.fail()
            raise FtxError("peer-silent", "the peer sent next to nothing for a minute")
        if now >= self._last_sent + limits.PING_INTERVAL:
            return self.send(Ping(0), now)
        return b""

    def _greeted(self, hello: Hello) -> None:
        if hello.magic != "ftx":
            raise ProtocolError("not-ftx")
        self.peer = hello
        if self.role is Role.CLIENT:
            self.version = agree(self.hello, hello)
            if not hello.signed_in and self.stage not in LET_IN:
                raise ProtocolError("untrusted")
            self._agreed(self.hello, hello)
        # A server settles the version after it has sent its own hello, so that both ends can name both ranges.

    def _agreed(self, ours: Hello, theirs: Hello | None) -> None:
        """Both hellos are known: the features of both are in force."""
        self.features = frozenset(ours.features) & frozenset(theirs.features if theirs is not None else ())
        if self.stage is Stage.PAIRING:
            self._decoder.bounds = WHILE_PAIRING
        elif self.stage is Stage.ASKING and self.role is Role.SERVER:
            self._decoder.bounds = WHILE_ASKING
        else:
            self._decoder.bounds = after_sign_in(self.features)
        self._decoder.encodings = encodings(self.features)

    def _kinds(self) -> tuple[int, ...]:
        """The kinds of offers that the other side may make."""
        if self.role is Role.CLIENT:
            return (PULL,)
        return (PUSH, DRY_RUN) if "dry-run" in self.features else (PUSH,)

    def _event(self, message: Message | Piece, origin: Table[Stage]) -> type:
        """What `message` is in the tables: its class, but for a last listing, a probe, a hello that lets in so far."""
        if origin is FROM_SERVER and isinstance(message, Hello) and not message.signed_in:
            client = self.hello if self.role is Role.CLIENT else self.peer
            if client is not None and PAIRING in client.features and PAIRING in message.features:
                return HelloToPair
            if client is not None and APPROVAL in client.features and APPROVAL in message.features:
                return HelloToAsk
        if isinstance(message, Probe):
            return ProbeUp if message.kind == ProbeKind.UP else ProbeDown
        if isinstance(message, Joined):
            return JoinedUp if message.up else JoinedDown
        return LastListing if isinstance(message, Listing) and message.last else type(message)

    def _count_ping(self, now: float) -> None:
        if now - self._pings_since > 10:
            self._pings_since, self._pings = now, 0
        self._pings += 1
        if self._pings > limits.IDLE_FRAMES_PER_SECOND * 10:
            raise ProtocolError("protocol-error", "the peer sent too many pings")


#: What the peer says of our key, as seen from here.
_FROM_HERE = {"unknown-peer": "untrusted", "key-changed": "untrusted"}


def error_of(message: ErrorMessage) -> FtxError:
    """The exception for an error that the peer sent: its number in our words."""
    name = kind_from_peer(message.number, (4, 5, 6, 7, 8), "protocol-error").name
    return FtxError(_FROM_HERE.get(name, name))


def error_frame(error: FtxError, role: Role) -> bytes:
    """The frame that tells the peer why the session ends.

    What went wrong on our side alone (a disk, a state file, a bug) is not the peer's to know: from a server it is
    `storage-failed`, from a client `cancelled`.
    """
    number = error.number
    if error.exit_code not in (4, 5, 6, 7, 8):
        number = kind("storage-failed" if role is Role.SERVER else "cancelled").number
    return encode(ErrorMessage(number))
