"""Peers that say anything: well-formed messages in any order, against a machine whose disk answers at any time.

What they lead to is an error of the vocabulary or nothing; never another exception, never content that its digest does
not prove, never memory beyond the windows.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from support.memory_disk import File, MemoryDisk, items
from support.pair import JOB, Pair, hello, offer

from ftx import limits
from ftx.core.blocks import block_count, block_digest, file_digest
from ftx.core.stages import Stage
from ftx.errors import KINDS
from ftx.wire import messages
from ftx.wire.frames import data_frames
from ftx.wire.messages import encode

MIB = limits.BLOCK
#: Few names, numbers and sizes, so that what is said often makes sense.
NAMES = [b"a", b"b", b"c", b"d"]
CONTENTS = [b"", b"x", bytes(7), b"y" * (MIB + 1), bytes(2 * MIB)]
#: Messages of one conversation, and conversations.
LENGTH, RUNS = 60, 250


class Anything:
    """Draws what a peer says next: mostly what could be right at this point, sometimes anything."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.next = 0
        self.open: list[tuple[int, tuple[bytes, ...]]] = []
        self.last: dict[tuple[bytes, ...], int] = {}
        self.files: dict[int, bytes] = {}
        #: Files that were asked for, and whether their result was told.
        self.asked: dict[int, bool] = {}

    def number(self) -> int:
        """An entry, most often one that exists."""
        return self.draw.choice([*self.files, *self.files, 0, 1, self.next, 2**31 - 1])

    def entry(self) -> list[Any]:
        """An entry that is in order, most often."""
        above = self.open[-1][1] if self.open else ()
        place = self.last.get(above, -1) + 1
        kind = self.draw.random()
        if (kind < 0.2 or place >= 26) and self.open:
            return [messages.FolderEnd(self.open.pop()[0], 0o755, 0)]
        if place >= 26:
            return []
        self.last[above] = place
        path = (*above, bytes([97 + place]))
        number, self.next = self.next, self.next + 1
        if kind < 0.4:
            self.open.append((number, path))
            return [messages.FolderEntry(number, list(path))]
        self.files[number] = self.draw.choice(CONTENTS)
        return [messages.FileEntry(number, list(path), len(self.files[number]), 0, 0o644)]

    def of_a_sender(self) -> bytes:
        """A frame of a sender."""
        number = self.number()
        content = self.files.get(number, b"x")
        blocks = block_count(len(content))
        block = self.draw.randrange(blocks) if self.draw.random() < 0.95 else 7
        part = content[block * MIB : (block + 1) * MIB]
        digest = block_digest([part])
        kind = self.draw.random()
        if kind < 0.45:
            entries = [entry for _ in range(self.draw.randint(1, 4)) for entry in self.entry()]
            return encode(messages.Manifest(entries, not self.open and self.draw.random() < 0.1))
        if kind < 0.85:
            zero = bool(part) and not any(part)
            if self.draw.random() < 0.05:
                digest = bytes(32)
            frames = data_frames(number, block, part, digest, zero=zero)
            return b"".join(frames if self.draw.random() < 0.95 else frames[:2])
        if kind < 0.93:
            parts = [content[start : start + MIB] for start in range(0, max(1, len(content)), MIB)]
            whole = file_digest(len(content), [block_digest([part]) for part in parts])
            return encode(messages.EntryEnd(number, len(content), whole))
        if kind < 0.97:
            return encode(messages.EntryFailed(number, self.draw.choice([302, 303, 614, 100, 20_000])))
        return encode(
            self.draw.choice(
                [
                    messages.Totals(1, 1, 1),
                    messages.End(0, 0, 0, bytes(32)),
                    messages.Ping(1),
                    messages.Manifest([], True),
                    messages.Goodbye(),
                    messages.Results([messages.Skipped(0)]),
                ]
            )
        )

    def of_a_receiver(self, files: dict[int, File]) -> bytes:
        """A frame of a receiver, about these files of a sender."""
        number = self.draw.choice([*files] * 8 + [0, 99])
        file = files.get(number)
        blocks = block_count(len(file.content)) if file else 1
        digest = file.digest() if file and self.draw.random() < 0.98 else bytes(32)
        result: Any = self.draw.choice(
            [
                messages.Stored(number, digest if file else b"", self.draw.choice([None, [b"other"]])),
                messages.Identical(number, digest, None),
                messages.Skipped(number),
                messages.Failed(number, self.draw.choice([606, 701, 100, 20_000])),
            ]
        )
        kind = self.draw.random()
        if kind < 0.92 and number not in self.asked:
            self.asked[number] = not isinstance(result, messages.Stored)
            if not isinstance(result, messages.Stored):
                return encode(messages.Results([result]))
            if blocks > 1 and self.draw.random() < 0.5:
                bitmap = bytes([self.draw.randrange(1 << blocks)])
                return encode(messages.Needs([messages.WantGroup(number, 0, bitmap, True)]))
            return encode(messages.Needs([messages.WantAll(number)]))
        if kind < 0.92 and not self.asked[number]:
            self.asked[number] = True
            return encode(messages.Results([messages.Stored(number, digest, None)]))
        if kind < 0.94:
            return encode(messages.Results([result]))
        if kind < 0.97:
            return encode(messages.ProgressMessage(self.draw.randrange(2**63), 0, 1))
        body = messages.ReceiptBody(JOB, b"C" * 32, b"S" * 32, 1, 2, 0, 0, 0, 0, 0, 0, 0, bytes(32))
        return encode(
            self.draw.choice(
                [
                    messages.Receipt(messages.encode_receipt_body(body), bytes(64)),
                    messages.Accept(JOB, 512, 512, 0, 0),
                    messages.Refuse(JOB, 605),
                    messages.Pong(5),
                    messages.ErrorMessage(20_000),
                ]
            )
        )


def work_of(pair: Pair, end: Any, draw: random.Random) -> None:
    """Let some of what is under way at one end come back."""
    for _ in range(draw.randint(0, 6)):
        if end.strands:
            pair.now += 0.05
            end.work(draw.choice(list(end.strands)))
    if draw.random() < 0.1:
        pair.now += 0.5
        end.tick()


def check_end(end: Any, seed: int) -> None:
    """It ended with an error that has a name, or not at all."""
    assert end.error is None or end.error.name in KINDS, seed
    assert (end.error is not None) == (end.session.stage is Stage.FAILED) or end.session.stage is Stage.FAILED, seed


def test_senders_that_say_anything() -> None:
    """A server hears a client that is no client of ours."""
    errors: Counter[str] = Counter()
    results: Counter[str] = Counter()
    for seed in range(RUNS):
        peer = Anything(seed)
        faults = {
            (name,): f"{peer.draw.choice(['look-up', 'write 0', 'sync', 'store'])} no-space" for name in NAMES[:1]
        }
        pair = Pair([], MemoryDisk(faults=faults), seed=seed)
        server = pair.server
        server.arrive(encode(hello("desk")) + encode(offer()))
        for _ in range(LENGTH):
            if server.session.over:
                break
            server.arrive(peer.of_a_sender())
            work_of(pair, server, peer.draw)
        check_end(server, seed)
        errors[server.error.name if server.error else ""] += 1
        results.update(entry.status for entry in server.resolved)
        known = {bytes(content) for content in CONTENTS}
        assert set(server.disk.files.values()) <= known, seed
        assert not server.concluded or server.error, seed
    assert errors.keys() >= {"protocol-error", "wrong-state"}, errors
    assert min(results["stored"], results["failed"]) > 20, f"most conversations ended too soon to show much: {results}"


def test_receivers_that_say_anything() -> None:
    """A client hears a server that is no server of ours."""
    tree = {b"a": b"", b"b": b"x", b"c": b"y" * (MIB + 1), b"d": bytes(2 * MIB), b"e": {b"f": b"z"}}
    errors: Counter[str] = Counter()
    results: Counter[str] = Counter()
    for seed in range(RUNS):
        peer = Anything(seed)
        source = (
            {(b"b",): {"fault": "open"}} if seed % 3 == 0 else {(b"d",): {"fault": "read 1"}} if seed % 3 == 1 else {}
        )
        entries = list(items(tree, source))
        numbered = [item for item in entries if not hasattr(item, "mtime") or isinstance(item, File)]
        files = {number: item for number, item in enumerate(numbered) if isinstance(item, File)}
        pair = Pair(entries, MemoryDisk(), seed=seed)
        client = pair.client
        client.arrive(encode(hello("attic", signed_in=True)))
        client.arrive(encode(messages.Accept(JOB, 2048, 4096, 2, 0)))
        for _ in range(LENGTH):
            if client.session.over:
                break
            work_of(pair, client, peer.draw)
            client.arrive(peer.of_a_receiver(files))
        check_end(client, seed)
        errors[client.error.name if client.error else ""] += 1
        results.update(entry.status for entry in client.resolved)
        assert client.receipt is None, seed
    assert errors.keys() >= {"protocol-error", "digest-mismatch"}, errors
    assert min(results[status] for status in ("stored", "identical", "skipped", "failed")) > 20, results


@pytest.mark.parametrize("pieces", [1, limits.BLOCK_PIECES])
def test_what_is_held_of_a_block_in_crumbs(pieces: int) -> None:
    """A block in as many pieces as there may be, each in single bytes, is held in little more than its size."""
    pair = Pair([], MemoryDisk())
    server = pair.server
    server.arrive(encode(hello("desk")) + encode(offer()))
    entry = messages.FileEntry(0, [b"a"], 2 * MIB, 0, 0o644)
    server.arrive(encode(messages.Manifest([entry], True)))
    server.work("look")
    size = MIB // 64
    for number in range(pieces - 1):
        body = data_frames(0, 0, b"x" * size, bytes(32))
        wire = bytearray(b"".join(body)[:-32])
        wire[0:4] = (14 + size).to_bytes(4, "big")
        wire[18] = 0  # not the last piece
        for start in range(0, len(wire), 61):
            server.arrive(bytes(wire[start : start + 61]))
        assert server.error is None, number
    assert server.machine is not None
    held = server.machine._open.get(0)
    assert (held is None) == (pieces == 1)
    if held is not None:
        assert sum(len(chunk) for chunk in held.chunks) == (pieces - 1) * size
        assert sum(len(chunk.obj) for chunk in held.chunks) < 4 * MIB  # type: ignore[arg-type]
