"""Probes on a connection: the client that asks, and the server that takes part (`docs/protocol.md`, section 19).

What is measured goes through all that content goes through, TLS, framing, digests and rate limits; only the disk is
left out, and has a probe of its own.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from ftx import limits
from ftx.core.blocks import block_digest
from ftx.core.probing import Inflow, Outflow
from ftx.core.tcpinfo import TCP_INFO_BYTES, TcpInfo
from ftx.errors import FtxError, ProtocolError, kind_from_peer
from ftx.net.parties import Talk
from ftx.net.transfer import Connection
from ftx.net.worker import Worker
from ftx.wire.frames import Piece, data_frames
from ftx.wire.messages import Message, Probe, ProbeDone, ProbeEnd, ProbeKind, ProbeReady, Refuse

__all__ = ["Measured", "Measuring", "Probed", "tcp_info"]

_MICRO: Final = 1_000_000


def tcp_info(connection: Connection) -> TcpInfo:
    """What the kernel knows of a connection; nothing of one that is gone, or is not TCP."""
    transport: Any = connection.transport
    try:
        return TcpInfo.of(transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES))
    except (OSError, AttributeError):
        return TcpInfo()


@implementer(IPushProducer)
class _Pouring:
    """Content on its way out, as fast as the connection takes it; `on_end` hears how much it was."""

    def __init__(self, connection: Connection, total: int, on_end: Callable[[int], object]) -> None:
        self._connection = connection
        self._flow = Outflow(total, connection.clock.seconds())
        self._on_end = on_end
        self._content = secrets.token_bytes(min(total, limits.PIECE))
        self._digest = block_digest([self._content])
        self._paused = False
        self._over = False

    def begin(self) -> None:
        """Send the first of it. What is sent has mostly left this end when it ends: the rate limit holds that long."""
        self._connection.queue_little(True)
        self._connection.transport.registerProducer(self, True)  # type: ignore[union-attr]
        self._pour()

    def end(self) -> None:
        """Send no more, whatever is left."""
        if not self._over:
            self._over = True
            if not self._connection.over:
                self._connection.queue_little(False)
                self._connection.transport.unregisterProducer()  # type: ignore[union-attr]

    def pauseProducing(self) -> None:
        """The transport has enough for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport can take more."""
        self._paused = False
        self._pour()

    def stopProducing(self) -> None:
        """The transport is gone."""
        self._paused = True

    def _pour(self) -> None:
        while not self._paused and not self._over:
            due = self._flow.next(self._connection.clock.seconds())
            if due is None:
                self.end()
                self._on_end(self._flow.sent)
                return
            block, length = due
            content = memoryview(self._content)[:length]
            digest = self._digest if length == len(self._content) else block_digest([content])
            self._connection.write_data(data_frames(0, block, content, digest))


class _Party(Talk):
    """What both ends have in common: a job on a connection that is nothing but measured."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inflow: Inflow | None = None
        self._pouring: _Pouring | None = None
        self._last = connection.clock.seconds()

    def piece(self, piece: Piece) -> None:
        """Content: counted, verified and let go of."""
        if self._inflow is None:
            raise ProtocolError("wrong-state")
        self._last = self._connection.clock.seconds()
        self._inflow.piece(piece, self._last)

    def _leave(self) -> None:
        if self._pouring is not None:
            self._pouring.end()
        self._connection.job = None


class Probed(_Party):
    """The server's side of one probe. `run()` once: its Deferred fires when nothing of it is left; it never fails.

    `rate` is the limit in force for it, in bytes per second. `write_disk` writes so many bytes to the disk and gives
    the seconds that took; it runs in `worker`.
    """

    def __init__(
        self, connection: Connection, probe: Probe, rate: int, worker: Worker, write_disk: Callable[[int], float]
    ) -> None:
        super().__init__(connection)
        self._probe = probe
        self._rate = rate
        self._worker = worker
        self._write_disk = write_disk
        self._before = tcp_info(connection)
        self._began = connection.clock.seconds()
        self._processor = time.thread_time()
        self._done: Deferred[None] = Deferred()

    def run(self) -> Deferred[None]:
        """Begin."""
        connection, probe = self._connection, self._probe
        connection.job = self
        if probe.kind == ProbeKind.UP:
            self._inflow = Inflow(probe.bytes)
            connection.send(ProbeReady(probe.job))
        elif probe.kind == ProbeKind.DOWN:
            self._pouring = _Pouring(connection, probe.bytes, self._poured)
            self._pouring.begin()
        else:
            self._worker.run(self._write_disk, probe.bytes).addCallbacks(self._written, self._not_written)
        return self._done

    def message(self, message: Message) -> None:
        """The client has sent all it will."""
        if not isinstance(message, ProbeEnd) or self._inflow is None:
            raise ProtocolError("wrong-state")
        if message.job != self._probe.job:
            raise ProtocolError("protocol-error", "the end of another probe came")
        self._inflow.ended(message.bytes)
        self._conclude(message.bytes, self._inflow.elapsed)

    def next_deadline(self) -> float | None:
        """When a client that has to send, or to take what it asked for, is given up."""
        if self._inflow is not None:
            return self._last + limits.PROBE_SILENCE
        return None if self._pouring is None else self._began + limits.PROBE_SECONDS + limits.PROBE_SILENCE

    def tick(self, now: float) -> None:
        """The client has sent, or taken, nothing for too long: pings alone keep no place."""
        what = "no content came" if self._inflow is not None else "its content was not taken"
        raise FtxError("peer-silent", f"a probe was begun and {what}")

    def lost(self, error: FtxError) -> None:
        """The client has gone; a disk that is still writing is waited for, and keeps the place."""
        if self._probe.kind == ProbeKind.DISK:
            self._leave()
        else:
            self._end()

    # -- within --------------------------------------------------------------------------------------------

    def _poured(self, count: int) -> None:
        self._conclude(count, self._connection.clock.seconds() - self._began)

    def _written(self, seconds: float) -> None:
        if not self._connection.over:
            self._conclude(self._probe.bytes, seconds)
        self._end()

    def _not_written(self, failure: Failure) -> None:
        error = failure.value
        name = error.name if isinstance(error, FtxError) else "storage-failed"
        if not self._connection.over:
            self._connection.send(Refuse(self._probe.job, FtxError(name).number))
        self._end()

    def _conclude(self, count: int, elapsed: float) -> None:
        info = tcp_info(self._connection).since(self._before)
        self._leave()
        self._connection.send(
            ProbeDone(
                job=self._probe.job,
                bytes=count,
                elapsed=round(elapsed * _MICRO),
                processor=round((time.thread_time() - self._processor) * _MICRO),
                rate=self._rate,
                retransmits=info.retransmits,
                window=info.window_bytes,
                round_trip=info.round_trip,
                stalled=info.stalled,
                time=time.time_ns(),
            )
        )
        self._end()

    def _end(self) -> None:
        self._leave()
        if not self._done.called:
            self._done.callback(None)


@attrs.frozen
class Measured:
    """One probe, as both ends saw it. Seconds, bytes, and shares of one processor."""

    kind: ProbeKind
    bytes: int
    #: From the first byte to the last at whoever received; at the disk, all of the writing.
    elapsed: float
    #: How much of that time the thread for the network was at work, here and there.
    here: float
    there: float
    #: What the peer said.
    account: ProbeDone
    #: Our kernel's view of the connection, counted from the beginning of the probe.
    info: TcpInfo
    #: By how many seconds the peer's clock is ahead of ours; half the round trip is what is not known of it.
    ahead: float

    @property
    def rate(self) -> float:
        """Bytes per second. The first block is not counted: the time begins when it is there."""
        counted = self.bytes if self.kind == ProbeKind.DISK else self.bytes - min(self.bytes, limits.PIECE)
        return counted / self.elapsed if self.elapsed > 0 else 0.0


class Measuring(_Party):
    """The client's side: one probe after the other on a connection that is ready."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._probe: Probe | None = None
        self._before = TcpInfo()
        self._began = self._processor = 0.0
        self._done: Deferred[Measured] | None = None

    def run(self, kind: ProbeKind, count: int = limits.PROBE) -> Deferred[Measured]:
        """Measure with `count` bytes. Fails with FtxError: `not-supported`, `busy`, or why the connection was lost.

        May be cancelled, which ends the connection.
        """
        connection = self._connection
        if connection.over:
            raise connection.stopped_by or FtxError("connection-lost")
        if "probe" not in connection.session.features:
            raise FtxError("not-supported", "the daemon there takes part in no probes")
        self._probe = Probe(secrets.token_bytes(16), kind, count)
        self._inflow = Inflow(count) if kind == ProbeKind.DOWN else None
        self._pouring = None
        self._before = tcp_info(connection)
        self._began = connection.clock.seconds()
        self._processor = time.thread_time()
        self._done = Deferred(lambda _: connection.abort(FtxError("interrupted")))
        connection.job = self
        connection.send(self._probe)
        return self._done

    def message(self, message: Message) -> None:
        """What the server says of it."""
        probe = self._probe
        if probe is None or not isinstance(message, ProbeReady | ProbeDone | Refuse):
            raise ProtocolError("wrong-state")
        if message.job != probe.job:
            raise ProtocolError("protocol-error", "an answer came to something that was not asked")
        if isinstance(message, ProbeReady):
            self._pouring = _Pouring(self._connection, probe.bytes, self._poured)
            self._pouring.begin()
        elif isinstance(message, Refuse):
            name = kind_from_peer(message.number, (4, 5, 6, 7, 8), "refused").name
            self._settle(FtxError(name, "too many probes at the moment" if name == "busy" else ""))
        else:
            if self._inflow is not None:
                self._inflow.ended(message.bytes)
            self._settle(self._measured(probe, message))

    def lost(self, error: FtxError) -> None:
        """The connection ended before the probe did."""
        self._settle(error)

    # -- within --------------------------------------------------------------------------------------------

    def _poured(self, count: int) -> None:
        if self._probe is not None and not self._connection.over:
            self._connection.send(ProbeEnd(self._probe.job, count))

    def _measured(self, probe: Probe, account: ProbeDone) -> Measured:
        whole = self._connection.clock.seconds() - self._began
        elapsed = account.elapsed / _MICRO if self._inflow is None else self._inflow.elapsed
        info = tcp_info(self._connection)
        return Measured(
            kind=probe.kind,
            bytes=account.bytes,
            elapsed=elapsed,
            here=_share(time.thread_time() - self._processor, whole),
            there=_share(account.processor / _MICRO, max(account.elapsed / _MICRO, elapsed)),
            account=account,
            info=info.since(self._before),
            ahead=(account.time - time.time_ns()) / 1e9 + info.round_trip / _MICRO / 2,
        )

    def _settle(self, outcome: Measured | FtxError) -> None:
        done, self._done, self._probe = self._done, None, None
        self._leave()
        if done is None or done.called:
            return
        if isinstance(outcome, FtxError):
            done.errback(outcome)
        else:
            done.callback(outcome)


def _share(part: float, whole: float) -> float:
    return min(1.0, part / whole) if whole > 0 else 0.0
