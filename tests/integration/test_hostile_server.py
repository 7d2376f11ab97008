"""What a receiver that lies can do to the one who sends: nothing but fail.

Every case: an exit code and a reason that fit, no traceback, no byte of the receiver's on the terminal that is not
text, and never a success that was not earned.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.hostile import data, raw_frame
from support.hostile_server import HostileServer
from support.lab import Lab
from support.trees import make_tree

from ftx.core.blocks import block_digest, file_digest
from ftx.disk.keys import Identity, load
from ftx.wire.frames import FrameType
from ftx.wire.messages import (
    ErrorMessage,
    Failed,
    Hello,
    Identical,
    Manifest,
    Needs,
    Offer,
    Ping,
    ProgressMessage,
    Refuse,
    Results,
    Stored,
    WantAll,
    WantGroup,
)

MOST = 2**63 - 1
MiB = 1 << 20
#: What "d/a" holds, whose digest a receiver can know.
SMALL = b"x"

#: The bytes of a terminal's own language that a bar may use: colours, erasing, moving.
OURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: What may be left then. Everything else that is invisible came from the peer.
ODD = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def room() -> Iterator[tuple[Lab, Identity]]:
    """A laboratory with something to send, and the key of its one home: the client trusts a server that has it."""
    root = Path(tempfile.mkdtemp(prefix="ftx-", dir="/tmp"))
    with Lab(root) as lab:
        make_tree(root / "d", {"b": 2 * MiB + 1, "c": 0})
        (root / "d" / "a").write_bytes(SMALL)
        lab.identity("home")
        yield lab, load(str(root / "home" / "identity.key"))
    shutil.rmtree(root)


def digest() -> bytes:
    """The file digest of d/a."""
    return file_digest(len(SMALL), [block_digest([SMALL])])


Lie = Callable[[HostileServer], object]


def in_a_job(lie: Lie) -> Lie:
    """`lie` after the manifest has come."""

    def told(server: HostileServer) -> None:
        server.job()
        lie(server)

    return told


def after_offer(lie: Lie) -> Lie:
    """`lie` instead of an answer to the offer."""

    def told(server: HostileServer) -> None:
        server.offered()
        lie(server)

    return told


def _wrong_digest(server: HostileServer) -> None:
    number = server.number(b"a")
    server.send(Needs([WantAll(number)]))
    server.take()
    server.send(Results([Stored(number, bytes(32), None)]))


def _all_failed(number: int) -> Lie:
    def told(server: HostileServer) -> None:
        server.job()
        server.send(Results([Failed(server.number(name), number) for name in (b"d", b"a", b"b", b"c")]))
        server.receipt(failed=4)

    return told


def _refused_for_another(server: HostileServer) -> None:
    server.send(Refuse(bytes(16), 605))


#: What the server does, the exit code it earns, and the name of the reason where there is one.
LIES: dict[str, tuple[Lie, int, str]] = {
    "wants what is not on offer": (in_a_job(lambda s: s.send(Needs([WantAll(99)]))), 8, "protocol-error"),
    "wants twice": (in_a_job(lambda s: s.send(*[Needs([WantAll(s.number(b"a"))])] * 2)), 8, "protocol-error"),
    "wants blocks past the end": (
        in_a_job(lambda s: s.send(Needs([WantGroup(s.number(b"b"), 0, b"\xff", True)]))),
        8,
        "protocol-error",
    ),
    "wants with a bitmap too long": (
        in_a_job(lambda s: s.send(Needs([WantGroup(s.number(b"b"), 0, b"\x01" * 1024, True)]))),
        8,
        "protocol-error",
    ),
    "stored before it was sent": (
        in_a_job(lambda s: s.send(Results([Stored(s.number(b"a"), digest(), None)]))),
        8,
        "protocol-error",
    ),
    "stored something else": (in_a_job(_wrong_digest), 7, "digest-mismatch"),
    "identical, and wanted": (
        in_a_job(
            lambda s: s.send(Needs([WantAll(s.number(b"a"))]), Results([Identical(s.number(b"a"), digest(), None)]))
        ),
        8,
        "protocol-error",
    ),
    "a result twice": (in_a_job(lambda s: s.send(Results([Failed(s.number(b"a"), 606)] * 2))), 8, "protocol-error"),
    "stored in the parent": (
        in_a_job(lambda s: s.send(Results([Identical(s.number(b"a"), digest(), [b"..", b"a"])]))),
        6,
        "bad-name",
    ),
    "content": (in_a_job(lambda s: s.send(data(0, 0, b"x"))), 8, "wrong-state"),
    "a huge frame": (in_a_job(lambda s: s.send(raw_frame(FrameType.RESULTS, b"", 2**32 - 1))), 8, "frame-too-large"),
    "a thousand pings": (in_a_job(lambda s: s.send(*[Ping(1)] * 1000)), 8, "protocol-error"),
    "accepts another job": (
        after_offer(lambda s: s.send_accept(Offer(bytes(16), 0, [], None, None, None, None))),
        8,
        "protocol-error",
    ),
    "refuses another job": (after_offer(_refused_for_another), 8, "protocol-error"),
    "a receipt at once": (after_offer(lambda s: s.send_receipt(files=MOST, bytes=MOST)), 8, "protocol-error"),
    "refuses as if interrupted": (after_offer(lambda s: s.send(Refuse(s.offer.job, 13001))), 6, "refused"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_receiver_that_lies(lie: str, room: tuple[Lab, Identity]) -> None:
    """It fails, with the reason that is its fault, and nothing else."""
    lab, key = room
    tell, code, name = LIES[lie]
    with HostileServer(key) as server:
        client = lab.sending(server.url, "d")
        server.accept()
        tell(server)
        server.end()
        assert client.wait(20) == code
    assert client.failure()["name"] == name
    assert "Traceback" not in client.text()


@pytest.mark.parametrize(
    "change",
    [
        {"signature": bytes(64)},
        {"failed": 3},
        {"failed": 4, "job": bytes(16)},
        {"failed": 4, "durability": 1},
        {"failed": 4, "sender": bytes(32)},
    ],
    ids=["signature", "counts", "job", "durability", "sender"],
)
def test_a_receipt_that_is_none(change: dict[str, object], room: tuple[Lab, Identity]) -> None:
    """What is wrong in it makes it worthless, and none is kept."""
    lab, key = room
    with HostileServer(key) as server:
        client = lab.sending(server.url, "d")
        server.accept()
        server.job()
        server.send(Results([Failed(server.number(entry), 606) for entry in (b"d", b"a", b"b", b"c")]))
        server.receipt(**change)
        server.end()
        assert client.wait(20) == 8
    assert client.of("done") == []
    assert not list((lab.root / "home").rglob("*.receipt"))


@pytest.mark.case("K168")
@pytest.mark.parametrize("number", [651, 19_999, 13_001])
def test_error_numbers_that_nobody_knows(number: int, room: tuple[Lab, Identity]) -> None:
    """They keep their family; where that is none of a receiver's, it is the receiver that failed, not this program."""
    lab, key = room
    with HostileServer(key) as server:
        client = lab.sending(server.url, "d")
        server.accept()
        _all_failed(number)(server)
        server.end()
        assert client.wait(20) in (6, 8, 9)
    names = {event["error"]["name"] for event in client.of("file")}
    assert names
    assert not names & {"internal", "interrupted"}


def test_absurd_progress(room: tuple[Lab, Identity]) -> None:
    """More than there is, and less than before: no event says more than there is to send."""
    lab, key = room
    with HostileServer(key) as server:
        client = lab.sending(server.url, "d")
        server.accept()
        server.job()
        client.reaches("progress")
        for figure in (MOST, 0, 5, 2**62, 1, MOST):
            server.send(ProgressMessage(figure, MOST - figure, 1))
            client.reaches("progress", bytes_confirmed=min(figure, 2 * MiB + 2))
        server.send(ErrorMessage(606))
        server.end()
        assert client.wait(20) == 6
    for event in client.of("progress"):
        assert 0 <= event["bytes_durable"] <= 2 * MiB + 2 >= event["bytes_confirmed"] >= 0
        assert event["eta_s"] is None or event["eta_s"] >= 0


@pytest.mark.case("K162")
@pytest.mark.parametrize("end", ["goodbye", "an error"])
def test_names_that_are_escape_sequences(end: str, room: tuple[Lab, Identity]) -> None:
    """Whatever the receiver calls itself, and says that it stored things as: the terminal sees text."""
    lab, key = room
    evil = "\x1b]0;x\x07\x1b[2J\u202e\x9b31m\r\n"
    with HostileServer(key) as server:
        client = lab.sending(server.url, "d/a", json=False)
        server.accept()
        server.until(Hello)
        server.send(Hello("ftx", 1, 1, [], evil, evil, True))
        offer = server.offer = server.until(Offer)
        server.send_accept(offer)
        server.entries += server.until(Manifest).entries
        number = server.number(b"a")
        server.send(Needs([WantAll(number)]))
        server.take()
        server.send(Results([Stored(number, digest(), [evil.encode(), b"\xff\x1b[2J"])]))
        if end == "an error":
            server.send(ErrorMessage(606))
        else:
            server.receipt()
        server.end()
        assert client.wait(20) == (6 if end == "an error" else 0)
    said = client.out.read_text("utf-8", "surrogateescape") + client.text()
    assert not ODD.search(OURS.sub("", said.replace("\r", "")))
    assert "\x1b]" not in said
    assert "\x1b[2J" not in said
