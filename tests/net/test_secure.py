"""The TLS transport: what it delivers and when, how it holds a writer up, and how it ends."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from OpenSSL import SSL
from support.tls_peers import Pair, Plain, Recorder, odd_context, odd_factory
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from ftx import limits
from ftx.disk.keys import Identity
from ftx.net import records
from ftx.net.records import Opened, Records
from ftx.net.secure import IRecordListener
from ftx.net.tls import Credentials

MINE = Credentials(Identity.generate())
YOURS = Credentials(Identity.generate())


@implementer(IRecordListener)
class Gatherer(Recorder):
    """Notes what came together."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[list[bytes]] = []
        self.pauses = False

    def recordsReceived(self, parts: list[bytes]) -> None:
        """Keep them."""
        self.reads.append(parts)
        if self.pauses:
            self.transport.pauseProducing()  # type: ignore[union-attr]


@implementer(IPushProducer)
class Source:
    """Writes megabytes until it is told to pause."""

    def __init__(self, transport: Any, chunk: bytes, most: int) -> None:
        self.transport, self.chunk, self.most = transport, chunk, most
        self.written = 0
        self.paused = False
        self.pauses = 0
        self.stopped = False
        transport.registerProducer(self, True)

    def resumeProducing(self) -> None:
        """Write on."""
        self.paused = False
        while not self.paused and self.written < self.most:
            self.transport.write(self.chunk)
            self.written += len(self.chunk)

    def pauseProducing(self) -> None:
        """Enough for now."""
        self.paused = True
        self.pauses += 1

    def stopProducing(self) -> None:
        """Never again."""
        self.paused = self.stopped = True


def joined(**protocols: Recorder) -> Pair:
    """Both ends ours, the handshake complete."""
    pair = Pair(MINE.client, YOURS.server, **protocols)
    pair.flush()
    assert pair.client.peer is not None
    assert pair.server.peer is not None
    return pair


class Noting(Records):
    """Notes how many bytes OpenSSL was given at once, and how many records were in them."""

    fed: list[int]
    records: list[int]

    @classmethod
    def of(cls, transport: Any) -> Noting:
        """What `transport` has, from now on noted."""
        noting: Noting = transport._records
        noting.__class__ = cls
        noting.fed, noting.records = [], []
        return noting

    def feed(self, data: memoryview) -> None:
        """See Records."""
        self.fed.append(len(data))
        super().feed(data)

    def opened(self, most: int) -> Opened:
        """See Records."""
        found = super().opened(most)
        self.records.append(found.records)
        return found


@pytest.mark.parametrize("binding", ["found", "elsewhere"])
def test_the_records_of_one_read_come_together(monkeypatch: pytest.MonkeyPatch, binding: str) -> None:
    """Three records in one read are one call, in order; also where OpenSSL can only be asked through pyOpenSSL."""
    if binding == "elsewhere":
        monkeypatch.setattr(records, "_BINDING", None)
    gatherer = Gatherer()
    pair = joined(server_protocol=gatherer)
    noting = Noting.of(gatherer.transport)
    pair.client.transport.write(bytes(range(256)) * 128 + b"tail")  # type: ignore[union-attr]
    pair.flush()
    assert noting.records == [3]
    assert gatherer.reads == [[bytes(range(256)) * 128 + b"tail"]]
    assert (noting._openssl is None) == (binding == "elsewhere")


def test_what_is_there_is_read_in_slices_and_handed_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to what may be read in a turn; OpenSSL never has more than a slice of it, and nothing is asked for in vain."""
    monkeypatch.setattr(limits, "READ_SLICE", 16 * 1024)
    gatherer = Gatherer()
    pair = joined(server_protocol=gatherer)
    transport: Any = gatherer.transport
    noting = Noting.of(transport)
    content = bytes(range(256)) * 400
    for size, turns in ((limits.READ_SIZE_SIGNED_IN, 1), (32 * 1024, 4)):
        gatherer.reads.clear()
        noting.fed.clear()
        transport.read_size = size
        pair.client.transport.write(content)  # type: ignore[union-attr]
        pair.flush()
        assert b"".join(map(b"".join, gatherer.reads)) == content
        assert len(gatherer.reads) == turns
        assert max(noting.fed) == limits.READ_SLICE
        assert len(noting.fed) == -(-sum(noting.fed) // limits.READ_SLICE)


def test_what_was_read_before_the_connection_broke_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it breaks between two slices of one turn."""
    monkeypatch.setattr(limits, "READ_SLICE", 1024)
    gatherer = Gatherer()
    pair = joined(server_protocol=gatherer)
    transport: Any = gatherer.transport
    transport.read_size = limits.READ_SIZE_SIGNED_IN
    record = b"x" * (1024 - 22)  # with header, type and tag it fills a slice

    class Breaking:
        """The socket, which has one slice, and an error behind it."""

        def __init__(self, real: socket.socket) -> None:
            self.real, self.reads = real, 0

        def recv_into(self, buffer: bytearray, size: int) -> int:
            self.reads += 1
            if self.reads > 1:
                raise ConnectionResetError
            return self.real.recv_into(buffer, size)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    transport._socket = Breaking(transport._socket)
    pair.client.transport.write(record)  # type: ignore[union-attr]
    pair.flush()
    assert gatherer.reads == [[record]]
    assert gatherer.lost is not None
    assert gatherer.lost.check(ConnectionResetError)


def test_small_writes_become_one_record() -> None:
    """What is written in one turn of the reactor is not sent piece by piece."""
    gatherer = Gatherer()
    pair = joined(server_protocol=gatherer)
    noting = Noting.of(gatherer.transport)
    for number in range(1000):
        pair.client.transport.write(b"%d," % number)
    pair.client.transport.writeSequence([b"a", memoryview(b"bc"), b""])
    pair.flush()
    assert [b"".join(read) for read in gatherer.reads] == [b"".join(b"%d," % number for number in range(1000)) + b"abc"]
    assert noting.records == [1]


def test_what_the_socket_takes_is_sent_without_asking() -> None:
    """Said outside of a read, it goes out behind what is being done; the reactor is asked when the socket is full."""
    pair = joined()
    before = pair.reactor.asked
    for _ in range(3):
        pair.client.transport.write(b"small")
        pair.server.transport.write(b"small, too")
        pair.flush()
    assert (pair.client.received, pair.server.received) == (b"small, too" * 3, b"small" * 3)
    assert pair.reactor.asked == before
    large = bytes(range(256)) * (64 << 10)
    pair.client.transport.write(large)
    pair.flush()
    assert pair.server.received == b"small" * 3 + large
    assert pair.reactor.asked > before


def test_records_are_filled_while_more_waits() -> None:
    """A header, a large piece, a digest: what remains of a piece shares a record with the next one."""
    gatherer = Gatherer()
    pair = joined(server_protocol=gatherer)
    noting = Noting.of(gatherer.transport)
    sent = b""
    for number in range(3):
        for part in (b"%d" % number * 20, bytes([number]) * (128 * 1024), b"d" * 32):
            pair.client.transport.write(part)
            sent += part
    pair.flush()
    assert b"".join(map(b"".join, gatherer.reads)) == sent
    assert sum(noting.records) == 25 == -(-len(sent) // 16384)


@pytest.mark.case("F106")
def test_single_bytes_are_taken_a_bounded_number_in_a_turn() -> None:
    """A peer that puts one byte into each record does not keep the reactor to itself, and nothing is lost."""
    gatherer = Gatherer()

    def odd(factory: Any) -> Any:
        context = odd_context(server=False, key=Identity.generate().private_key)
        return odd_factory(context, factory.buildProtocol(None), server=False, clock=factory.clock)

    pair = Pair(odd, MINE.server, client_protocol=Plain(), server_protocol=gatherer)
    pair.flush()
    gatherer.transport.read_size = limits.READ_SIZE_SIGNED_IN  # type: ignore[union-attr]
    connection = pair.client.transport.getHandle()
    count = 3 * limits.RECORDS_PER_TURN + 7
    for number in range(count):
        connection.send(bytes([number % 251]))
    pair.client_io.write(connection.bio_read(1 << 20))
    pair.flush()
    assert max(len(b"".join(read)) for read in gatherer.reads) == limits.RECORDS_PER_TURN
    assert b"".join(map(b"".join, gatherer.reads)) == bytes(number % 251 for number in range(count))


def test_a_paused_reader_gets_nothing_more_until_it_resumes() -> None:
    """What had been read is delivered; the rest waits in the kernel, and the sender feels it."""
    gatherer = Gatherer()
    pair = joined(server_protocol=gatherer)
    gatherer.pauses = True
    source = Source(pair.client.transport, bytes(64 * 1024), 64 * limits.MiB)
    source.resumeProducing()
    pair.flush()
    assert len(gatherer.reads) == 1
    assert source.written < 4 * limits.MiB  # the queue and two socket buffers
    gatherer.pauses = False
    gatherer.transport.resumeProducing()  # type: ignore[union-attr]
    pair.flush()
    assert source.written == sum(len(record) for read in gatherer.reads for record in read) == 64 * limits.MiB
    assert source.pauses > 1


class Narrow:
    """A socket that takes a few bytes at a time, and every other time none."""

    def __init__(self, real: socket.socket) -> None:
        self.real, self.full = real, False

    def send(self, data: memoryview) -> int:
        self.full = not self.full
        if self.full:
            raise BlockingIOError
        return self.real.send(data[:10_007])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.mark.parametrize("binding", ["found", "elsewhere"])
def test_what_a_socket_did_not_take_is_kept_while_others_send(monkeypatch: pytest.MonkeyPatch, binding: str) -> None:
    """All connections seal in one place: what has to wait is out of it before the next one does."""
    if binding == "elsewhere":
        monkeypatch.setattr(records, "_BINDING", None)
    pairs = [joined() for _ in range(3)]
    contents = [bytes([number]) * 777_777 for number in range(3)]
    for pair, content in zip(pairs, contents, strict=True):
        transport: Any = pair.client.transport
        transport._socket = Narrow(transport._socket)
        transport.write(content)
    while not all(pair.client.transport.unsent == 0 for pair in pairs):
        for pair in pairs:
            pair.client.transport.doWrite()
            pair.server.transport.doRead()
    for pair, content in zip(pairs, contents, strict=True):
        pair.flush()
        assert pair.server.received == content


@pytest.mark.case("F104")
@pytest.mark.parametrize("bound", [limits.WRITE_QUEUE_HIGH, limits.CONTENT_QUEUE_HIGH])
def test_memory_of_a_writer_is_bounded(bound: int) -> None:
    """A producer is paused as soon as the bound is passed, and asked again when little is left."""
    pair = joined()
    pair.server.transport.pauseProducing()
    pair.client.transport.queue_high = bound
    source = Source(pair.client.transport, bytes(100_000), 64 * limits.MiB)
    source.resumeProducing()
    assert source.paused
    assert bound <= source.written < bound + 100_000
    pair.flush()
    pair.client.transport.unregisterProducer()
    with pytest.raises(RuntimeError, match="push producer"):
        pair.client.transport.registerProducer(source, False)


def test_lose_connection_sends_everything_first() -> None:
    """What was written before arrives, then an orderly end at both ends; what is written after is dropped."""
    pair = joined()
    content = bytes(range(256)) * 20_000
    pair.client.transport.write(content)
    pair.client.transport.loseConnection()
    pair.client.transport.write(b"late")
    pair.flush()
    assert pair.server.received == content
    assert isinstance(pair.server.lost.value, ConnectionDone)  # type: ignore[union-attr]
    assert isinstance(pair.client.lost.value, ConnectionDone)  # type: ignore[union-attr]


def test_lose_connection_waits_for_the_producer() -> None:
    """As Twisted's transports do: the end comes when the producer has said that it has no more."""
    pair = joined()
    source = Source(pair.client.transport, bytes(1000), 3000)
    pair.client.transport.loseConnection()
    source.resumeProducing()
    pair.flush()
    assert pair.client.lost is None
    pair.client.transport.unregisterProducer()
    pair.flush()
    assert len(pair.server.received) == 3000
    assert pair.client.lost is not None


def test_after_our_end_nothing_is_delivered() -> None:
    """We have said goodbye: what the peer still sends is dropped until it ends too."""
    client = Plain()

    def odd(factory: Any) -> Any:
        context = odd_context(server=False, key=Identity.generate().private_key)
        return odd_factory(context, factory.buildProtocol(None), server=False, clock=factory.clock)

    pair = Pair(odd, MINE.server, client_protocol=client)
    pair.flush()
    pair.client_io.pauseProducing()  # deaf: it does not see our end
    pair.server.transport.loseConnection()
    pair.flush()
    assert pair.server.lost is None
    client.transport.write(b"never")  # type: ignore[union-attr]
    pair.flush()
    assert pair.server.received == b""
    pair.server.transport.abortConnection()
    pair.flush()
    assert isinstance(pair.server.lost.value, ConnectionAborted | ConnectionDone)  # type: ignore[union-attr]


def test_an_abort_ends_even_a_connection_that_the_peer_holds_up() -> None:
    """The peer's alert arrived while it reads nothing: an orderly close would wait for it for ever."""
    pair = joined()
    pair.server_io.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    pair.server.transport.pauseProducing()
    source = Source(pair.client.transport, bytes(64 * 1024), 64 * limits.MiB)
    source.resumeProducing()
    pair.flush()
    pair.server.transport.connection.shutdown()
    pair.server_io.getHandle().send(pair.server.transport.connection.bio_read(1000))
    pair.flush()
    pair.client.transport.abortConnection()
    pair.flush()
    assert isinstance(pair.client.lost.value, ConnectionDone | ConnectionAborted)  # type: ignore[union-attr]
    assert source.stopped


@pytest.mark.case("F100")
def test_an_end_without_the_closing_alert_is_a_loss() -> None:
    """The stream just ended: that is no orderly close (RFC 8446 section 6.1)."""
    pair = joined()
    pair.client_io.getHandle().shutdown(socket.SHUT_WR)
    pair.flush()
    assert isinstance(pair.server.lost.value, ConnectionLost)  # type: ignore[union-attr]


def test_an_end_in_the_turn_of_a_write() -> None:
    """The descriptor is ready for both, and the read ends the connection: the write must not undo that."""
    pair = Pair(MINE.client, YOURS.server)
    pair.server_io.getHandle().shutdown(socket.SHUT_WR)  # before the client's first flight is out
    pair.flush()
    assert isinstance(pair.client.lost.value, ConnectionLost)  # type: ignore[union-attr]


@pytest.mark.case("F110")
def test_damage_on_the_way_ends_it_with_openssl_s_reason() -> None:
    """A flipped bit is found by the cipher; nothing of the record is delivered."""
    pair = joined()
    connection = pair.client.transport.connection
    connection.send(b"x" * 100)
    sealed = bytearray(connection.bio_read(1000))
    sealed[50] ^= 1
    pair.client_io.getHandle().send(sealed)
    pair.flush()
    assert isinstance(pair.server.lost.value, SSL.Error)  # type: ignore[union-attr]
    assert pair.server.received == b""


def test_ends_before_the_handshake() -> None:
    """A transport that was never joined can be told to end in either way, and what is written then goes nowhere."""
    for end in ("loseConnection", "abortConnection"):
        pair = Pair(MINE.client, YOURS.server)
        transport = pair.client.transport
        transport.write(b"too early")
        getattr(transport, end)()
        transport.write(b"too late")
        pair.flush()
        assert pair.client.lost is not None
        assert not pair.server.received
        assert not pair.client.transport.spoke


def test_what_is_written_before_the_handshake_is_complete_is_sent_after_it() -> None:
    """A server may write at once; it travels encrypted to a client that has proved its key."""
    pair = Pair(MINE.client, YOURS.server)
    pair.server.transport.write(b"early")
    pair.flush()
    assert pair.client.received == b"early"
