"""A block that arrives broken, between a real program and a peer that breaks it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from support.hostile import Hostile, data, entry
from support.hostile_server import HostileServer
from support.lab import Lab
from support.trees import MiB

from ftx.core.blocks import block_digest, file_digest
from ftx.disk.keys import load
from ftx.errors import KINDS
from ftx.wire.frames import Piece
from ftx.wire.messages import (
    End,
    EntryEnd,
    Failed,
    Needs,
    Results,
    Stored,
    WantAgain,
    WantAll,
)

NOISE = random.Random(3).randbytes(2 * MiB + 77)
BLOCKS = [NOISE[start : start + MiB] for start in range(0, len(NOISE), MiB)]
DIGESTS = [block_digest([block]) for block in BLOCKS]
WHOLE = file_digest(len(NOISE), DIGESTS)
BROKEN = bytes([NOISE[0] ^ 1]) + NOISE[1:MiB]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab of its own."""
    with Lab(tmp_path) as made:
        yield made


def test_a_daemon_asks_again_for_what_arrived_broken(lab: Lab) -> None:
    """A small and a larger file, each with a broken block, are stored whole; the third broken block fails a file."""
    daemon = lab.daemon()
    with Hostile(daemon.port, load(str(daemon.home / "identity.key"))) as client:
        assert "repair" in client.greet(features=["repair"]).features
        client.offer(job=os.urandom(16))
        files = [entry(0, b"a"), entry(1, b"b", size=len(NOISE)), entry(2, b"c")]
        client.announce(files)
        found: dict[int, Stored | Failed] = {}

        def wanted() -> list[object]:
            """What is asked for next; results on the way are noted."""
            while not isinstance(message := client.receive(), Needs):
                if isinstance(message, Results):
                    found.update((result.number, result) for result in message.results)
            return list(message.wants)

        asked = 0
        while asked < 3:
            asked += len(wanted())
        end = EntryEnd(1, len(NOISE), WHOLE)
        client.send(data(0, 0, b"x", DIGESTS[0]))
        assert wanted() == [WantAgain(0, 0)]
        client.send(data(0, 0, b"x"))
        client.send(data(1, 0, BROKEN, DIGESTS[0]), *(data(1, index, BLOCKS[index]) for index in (1, 2)), end)
        assert wanted() == [WantAgain(1, 0)]
        client.send(data(1, 0, BLOCKS[0]), end)
        for _ in range(2):
            client.send(data(2, 0, b"x", DIGESTS[0]))
            assert wanted() == [WantAgain(2, 0)]
        client.send(data(2, 0, b"x", DIGESTS[0]))
        while len(found) < 3:
            found.update((result.number, result) for result in client.until(Results).results)
    assert isinstance(found[0], Stored)
    assert found[1] == Stored(1, WHOLE, None)
    assert found[2] == Failed(2, KINDS["digest-mismatch"].number)
    daemon.idle()
    assert sorted(os.listdir(daemon.inbox)) == [".ftx", "a", "b"]
    assert (daemon.inbox / "b").read_bytes() == NOISE
    assert daemon.partials() == []
    daemon.clean_log()


def test_a_client_sends_again_what_it_is_asked_for(lab: Lab, tmp_path: Path) -> None:
    """That block and a new end of the file, and nothing else; done is done."""
    daemon = lab.daemon()  # for its key: the receiver of this test is another
    (tmp_path / "file").write_bytes(NOISE)
    with HostileServer(load(str(daemon.home / "identity.key"))) as server:
        client = lab.sending(server.url, "file", cwd=tmp_path)
        server.accept()
        server.job(["repair"])
        server.send(Needs([WantAll(0)]))
        came: list[int] = []
        for _ in range(2):
            while not isinstance(message := server.receive(), EntryEnd):
                if isinstance(message, Piece) and message.digest is not None:
                    assert message.digest == DIGESTS[message.block]
                    came.append(message.block)
            assert message == EntryEnd(0, len(NOISE), WHOLE)
            server.send(Needs([WantAgain(0, 1)]) if len(came) == 3 else Results([Stored(0, WHOLE, None)]))
        said = server.until(End)
        server.send_receipt(
            files=said.files, folders=said.folders, bytes=said.bytes, transcript=said.transcript
        )
        client.ends(0)
    assert came == [0, 1, 2, 1]
    done = client.one("done")
    assert (done["bytes"], done["bytes_wire"]) == (len(NOISE), len(NOISE) + MiB)
