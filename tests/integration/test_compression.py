"""Compression between the real programs: what travels, what it says of it, and what a peer that lies gets."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from backports import zstd
from support.hostile import Hostile, entry
from support.lab import Lab
from support.trees import MiB

from ftx.core.blocks import block_digest
from ftx.disk.keys import load
from ftx.errors import KINDS
from ftx.wire.frames import Encoding, data_frames
from ftx.wire.messages import Failed, Needs, Results, Stored, WantAgain

TEXT = b"".join(b"%d bottles of beer on the wall\n" % number for number in range(120_000))
NOISE = random.Random(8).randbytes(2 * MiB + 5)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab of its own."""
    with Lab(tmp_path) as made:
        yield made


def test_what_gains_travels_compressed(lab: Lab) -> None:
    """Large and small, text and noise: all arrive, the text in less than a third; `off` sends every byte."""
    contents = {"text": TEXT, "little": TEXT[:5000], "noise": NOISE, "nothing": b""}
    source = lab.root / "source"
    source.mkdir()
    for name, content in contents.items():
        (source / name).write_bytes(content)
    daemon = lab.daemon()
    total = sum(map(len, contents.values()))
    for folder, words in (("auto", ()), ("off", ("--compress", "off"))):
        done = lab.send(daemon, "--into", folder, *words, "source").one("done")
        stored = daemon.inbox / folder / "source"
        assert {path.name: path.read_bytes() for path in stored.iterdir()} == contents
        assert done["bytes"] == total
        if folder == "off":
            assert done["bytes_wire"] == total
        else:
            assert len(NOISE) < done["bytes_wire"] < len(NOISE) + len(TEXT) // 3
    daemon.clean_log()


def test_a_bomb_fails_its_file(lab: Lab) -> None:
    """Frames that are not what the block must be are asked for again, and the third ends the file and no more."""
    daemon = lab.daemon()
    bomb = zstd.compress(bytes(256 * MiB))
    lying = zstd.compress(bytes(5))
    digest = block_digest([bytes(MiB)])
    with Hostile(daemon.port, load(str(daemon.home / "identity.key"))) as client:
        client.greet(features=["repair", "zstd"])
        client.offer(job=os.urandom(16))
        client.announce([entry(0, b"bomb", size=2 * MiB), entry(1, b"lying", size=300), entry(2, b"well", size=300)])
        wanted = 0
        while wanted < 3:
            wanted += len(client.until(Needs).wants)

        def frame(number: int, packed: bytes, digest: bytes) -> bytes:
            return b"".join(data_frames(number, 0, packed, digest, encoding=Encoding.ZSTD))

        assert len(bomb) < 64 * 1024
        results: dict[int, object] = {}
        again = 0
        client.send(frame(2, zstd.compress(bytes(300)), block_digest([bytes(300)])))
        client.send(frame(0, bomb, digest), frame(1, lying, digest))
        while len(results) < 3:
            message = client.receive()
            if isinstance(message, Results):
                results.update((result.number, result) for result in message.results)
            elif isinstance(message, Needs):
                for want in message.wants:
                    assert isinstance(want, WantAgain)
                    again += 1
                    client.send(frame(want.number, bomb if want.number == 0 else lying, digest))
    mismatch = KINDS["digest-mismatch"].number
    assert (results[0], results[1]) == (Failed(0, mismatch), Failed(1, mismatch))
    assert isinstance(results[2], Stored)
    assert again == 4
    daemon.idle()
    assert daemon.memory() < 160 * MiB
    assert sorted(os.listdir(daemon.inbox)) == [".ftx", "well"]
    assert daemon.partials() == []
    daemon.clean_log()
