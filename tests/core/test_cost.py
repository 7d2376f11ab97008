"""What a job costs on the wire, counted: round trips, frames, content bytes."""

from __future__ import annotations

import random
from typing import Any

import attrs
import pytest
from support.counted import python_calls
from support.memory_disk import MTIME, File, MemoryDisk, items
from support.pair import JOB, Pair, offer

from ftx import limits
from ftx.core.blocks import block_digest, file_digest
from ftx.core.events import Effect, Send, WriteBlock
from ftx.core.receiver import Receiver
from ftx.core.sender import Sender
from ftx.wire.frames import AFTER_SIGN_IN, BEFORE_SIGN_IN, Frame, FrameDecoder, Piece, data_frames
from ftx.wire.messages import Accept, FileEntry, Manifest, Needs, Results, Stored, WantAll, decode, encode

MIB = limits.BLOCK
#: Of functions, for each further small file; some tenths of a microsecond each.
SENDER_CALLS = 15.5
#: The same of a receiver, for one that it is sent: from the frames to the frame, the disk not counted.
RECEIVER_CALLS = 9
#: The same when a receiver finds that one is there: from the frame to the frame, the disk not counted.
IDENTICAL_CALLS = 3.5
NOISE = random.Random(21).randbytes(3 * MIB + 5)
TEXT = (b"all work and no play makes jack a dull boy. " * 40_000)[: MIB + 9]


def trips(pair: Pair) -> int:
    """Run `pair` as over a slow line and a fast disk: how often the client had to wait for the server."""
    count = 0
    while not (pair.client.session.over and pair.server.session.over):
        for name, end in (("client", pair.client), ("server", pair.server)):
            while end.strands:
                end.work(next(iter(end.strands)))
            pair.deliver_all(name)
        count += 1
        assert count < 500
    assert pair.complete, pair.explain()
    return count


@pytest.mark.parametrize("count", [1, 100, 1500])
def test_no_round_trip_per_file(count: int) -> None:
    """Hello, offer, manifest, content, end: as many waits for two thousand files as for one."""
    tree = {b"%05d" % number: b"%d" % number for number in range(count)}
    pair = Pair(items(tree), MemoryDisk())
    assert trips(pair) <= 6
    again = Pair(items(tree), pair.server.disk)
    assert trips(again) <= 5
    assert len(again.client.frames) <= 6 + 3 * (count // limits.BATCH + 1)


def send(disk: MemoryDisk, *files: File, **how: Any) -> tuple[int, Pair]:
    """Content bytes that travel for these files."""
    pair = Pair(list(files), disk, **how).run()
    assert pair.complete, pair.explain()
    assert pair.server.machine is not None
    return pair.server.machine.received, pair


NOISY = File((b"f",), NOISE)
EDITED = File((b"f",), NOISE[:5] + b"!" + NOISE[6:], MTIME + 1)


def test_content_bytes_of_each_case() -> None:
    """A new file, the same again, touched, edited, zeros, text, a broken block, the rest of a file."""
    disk = MemoryDisk()
    assert send(disk, NOISY)[0] == len(NOISE)
    assert send(disk, NOISY)[0] == 0
    assert send(disk, attrs.evolve(NOISY, mtime=MTIME + 9), checksum=True)[0] == 0
    assert send(disk, attrs.evolve(NOISY, mtime=MTIME + 8))[0] == 0  # every block is in the older copy
    assert send(disk, EDITED)[0] == MIB
    assert send(disk, File((b"zeros",), bytes(3 * MIB)))[0] == 0
    assert send(disk, File((b"text",), TEXT))[0] < len(TEXT) // 20
    assert send(disk, File((b"text 2",), TEXT), features=("repair", "delta"))[0] == len(TEXT)
    assert send(disk, File((b"broken",), NOISE, lies=1, times=1))[0] == len(NOISE) + MIB
    rest = File((b"rest",), NOISE)
    disk.partials[(rest.path, len(NOISE), MTIME)] = {0: rest.block(0), 3: rest.block(3)}
    sent, pair = send(disk, rest)
    assert sent == 2 * MIB
    assert [(block, sent) for _, block, sent in pair.client.reads if sent] == [(1, True), (2, True)]


def frames_of(sent: bytes) -> int:
    """How many frames are in what an end has sent."""
    decoder = FrameDecoder({**BEFORE_SIGN_IN, **AFTER_SIGN_IN})
    decoder.feed(bytes(sent))
    count = 0
    while decoder.next_item() is not None:
        count += 1
    assert decoder.buffered == 0
    return count


def test_frames_and_bytes_of_each_mib() -> None:
    """One data frame per piece of PIECE bytes, a header each, and one digest: nothing else grows with a large file."""
    noise = random.Random(3).randbytes(6 * MIB)
    small, large = (Pair([File((b"f",), noise[:size])], MemoryDisk()).run() for size in (2 * MIB, 6 * MIB))
    for pair in (small, large):
        assert pair.complete, pair.explain()
    per_mib = (frames_of(large.client.sent) - frames_of(small.client.sent)) / 4
    assert per_mib == MIB // limits.PIECE == 8
    overhead = (len(large.client.sent) - len(small.client.sent)) / 4 - MIB
    assert overhead == 8 * 19 + limits.DIGEST
    # What comes back is progress, by the clock: at most a frame for each quarter of a second, here none.
    assert len(large.server.frames) - len(small.server.frames) <= 1


def test_bytes_beside_the_content_of_each_small_file() -> None:
    """Announced, asked for, sent, answered with its digest: so much for one more file, and less when it is there."""
    pairs = []
    for count in (200, 1400):
        tree = {b"%05d" % number: b"%04d" % (number % 10_000) for number in range(count)}
        pair = Pair(items(tree), MemoryDisk()).run()
        again = Pair(items(tree), pair.server.disk).run()
        assert pair.complete, pair.explain()
        assert again.complete, again.explain()
        pairs.append((pair, again, count))
    (few, few_again, least), (many, many_again, most) = pairs

    def each(more: bytearray, less: bytearray) -> float:
        return (len(more) - len(less)) / (most - least)

    assert each(many.client.sent, few.client.sent) - 4 <= 85  # entry 26, its frame and digest 51
    assert each(many.server.sent, few.server.sent) <= 65  # need 7, result with the digest 50
    assert each(many_again.client.sent, few_again.client.sent) <= 35
    assert each(many_again.server.sent, few_again.server.sent) <= 55


class Uncopied(Receiver):
    """Notes what blocks are made of, on their way to the disk."""

    came: list[Any]
    written: list[Any]

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.came, self.written = [], []

    def piece(self, piece: Piece) -> list[Effect]:
        self.came += piece.chunks
        effects = super().piece(piece)
        for effect in effects:
            if isinstance(effect, WriteBlock):
                self.written += effect.chunks or ()
        return effects


def test_content_is_not_copied_on_its_way() -> None:
    """From the disk's thread to the transport, and from the transport's records to the disk: the same memory."""
    content = NOISE[:MIB]
    sent = data_frames(0, 0, content, bytes(limits.DIGEST))
    assert [len(part) for part in sent if isinstance(part, memoryview)] == [limits.PIECE] * 8
    assert all(part.obj is content for part in sent if isinstance(part, memoryview))
    stream = b"".join(sent)
    records = [stream[start : start + 16 * 1024] for start in range(0, len(stream), 16 * 1024)]
    decoder = FrameDecoder(AFTER_SIGN_IN)
    chunks: list[memoryview] = []
    for record in records:
        decoder.feed(record)
        while (item := decoder.next_item()) is not None:
            assert not isinstance(item, Frame)
            chunks += item.chunks
    assert b"".join(chunks) == content
    own = {id(record) for record in records}
    copied = sum(len(chunk) for chunk in chunks if id(chunk.obj) not in own)
    assert copied == 0
    assert len(chunks) <= len(records) + len(sent)


def test_content_is_not_copied_in_the_machine() -> None:
    """What the receiver's machine asks to be written are the very views that it was given."""
    pair = Pair([File((b"f",), NOISE)], MemoryDisk(), receiver=Uncopied, cut="random").run()
    assert pair.complete, pair.explain()
    machine = pair.server.machine
    assert isinstance(machine, Uncopied)
    assert sum(len(chunk) for chunk in machine.written) == len(NOISE)
    assert [id(chunk) for chunk in machine.written] == [id(chunk) for chunk in machine.came]


@attrs.frozen
class FoundFile:
    """A file as a walk has found it."""

    path: tuple[bytes, ...]
    size: int
    mtime_ns: int
    mode: int


def test_calls_for_each_small_file_of_a_sender() -> None:
    """Announced, asked for, read, stored: what the machine does for one more file, in calls of functions."""
    digest = block_digest([b"content"])
    whole = file_digest(7, [digest])

    def send(count: int) -> None:
        sender = Sender(offer())
        sender.receive(Accept(JOB, limits.WINDOW_UNANSWERED, limits.WINDOW_UNACKNOWLEDGED, 2, 0))
        sender.add_files([FoundFile((b"folder", b"%d" % number), 7, 0, 0o644) for number in range(count)])
        sender.flush_manifest()
        sender.receive(Needs([WantAll(number) for number in range(count)]))
        while (work := sender.next_work()) is not None:
            sender.wholes_read([(number, whole) for number in work.numbers])  # type: ignore[union-attr]
        sender.receive(Results([Stored(number, whole, None) for number in range(count)]))

    send(1)
    each = (python_calls(lambda: send(500)) - python_calls(lambda: send(100))) / 400
    print(f"{each:.2f} calls")
    assert each <= SENDER_CALLS


def manifest(count: int) -> list[Frame]:
    """The frames that announce so many files of seven bytes."""
    entries = [FileEntry(number, [b"%06d" % number], 7, 0, 0o644) for number in range(count)]
    decoder = FrameDecoder(AFTER_SIGN_IN)
    for start in range(0, count, limits.BATCH):
        decoder.feed(encode(Manifest(list(entries[start : start + limits.BATCH]), False)))
    return [item for item in iter(decoder.next_item, None) if isinstance(item, Frame)]


def test_calls_for_each_small_file_of_a_receiver() -> None:
    """Announced, asked for, taken out of what came, stored, answered: what comes between the sockets and the disk."""
    digest = block_digest([b"content"])
    whole = file_digest(7, [digest])

    def receive(frames: list[Frame], stream: bytes) -> None:
        receiver, decoder = Receiver(offer(), 0.0), FrameDecoder(AFTER_SIGN_IN)
        for frame in frames:
            message = decode(frame)
            assert isinstance(message, Manifest)
            receiver.receive(message, 0.0)
            receiver.want_all([entry.number for entry in message.entries if isinstance(entry, FileEntry)], 0.0)
            receiver.flush(0.0)
        decoder.feed_all([stream[start : start + 5000] for start in range(0, len(stream), 5000)])
        while run := decoder.next_wholes(limits.DISK_BATCH):
            assert receiver.wholes(run) == len(run)
            receiver.stored([(one.number, (b"%06d" % one.number,), whole) for one in run])
            for effect in receiver.flush(0.0):
                assert isinstance(effect, Send)
                encode(effect.message)
        assert receiver.received == receiver.durable == 7 * receiver.transcript.counts.files > 0

    few, many = (
        (manifest(count), b"".join(bytes(part) for n in range(count) for part in data_frames(n, 0, b"content", digest)))
        for count in (limits.BATCH, 3 * limits.BATCH)
    )
    receive(*few)
    each = (python_calls(lambda: receive(*many)) - python_calls(lambda: receive(*few))) / (2 * limits.BATCH)
    print(f"{each:.2f} calls")
    assert each <= RECEIVER_CALLS


def test_calls_for_each_file_that_is_there() -> None:
    """Decoded, checked, looked up, answered: what a receiver does for one more file that it has, but for the disk."""
    digest = file_digest(7, [block_digest([b"content"])])

    def receive(frames: list[Frame]) -> None:
        receiver = Receiver(offer(), 0.0)
        number = 0
        for frame in frames:
            message = decode(frame)
            assert isinstance(message, Manifest)
            receiver.receive(message, 0.0)
            files = [entry for entry in message.entries if isinstance(entry, FileEntry)]
            receiver.have([(file.number, tuple(file.path), digest) for file in files])
            number += len(files)
            for effect in receiver.flush(0.0):
                assert isinstance(effect, Send)
                encode(effect.message)
        assert receiver.transcript.counts.identical == number

    few, many = manifest(limits.BATCH), manifest(3 * limits.BATCH)
    receive(few)
    each = (python_calls(lambda: receive(many)) - python_calls(lambda: receive(few))) / (2 * limits.BATCH)
    print(f"{each:.2f} calls")
    assert each <= IDENTICAL_CALLS
