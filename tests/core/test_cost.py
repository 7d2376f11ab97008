"""What a job costs on the wire, counted: round trips, frames, content bytes."""

from __future__ import annotations

import random
from typing import Any

import attrs
import pytest
from support.memory_disk import MTIME, File, MemoryDisk, items
from support.pair import Pair

from ftx import limits

MIB = limits.BLOCK
NOISE = random.Random(21).randbytes(3 * MIB + 5)
TEXT = (b"all work and no play makes jack a dull boy. " * 40_000)[: MIB + 9]


def trips(pair: Pair) -> int:
    """Run `pair` as over a slow line and a fast disk: how often the client had to wait for the server."""
    count = 0
    while not (pair.client.session.over and pair.server.session.over):
        for name, end in (("client", pair.client), ("server", pair.server)):
            while end.lanes:
                end.work(next(iter(end.lanes)))
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
