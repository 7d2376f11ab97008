"""What a scripted peer sends over real TLS, frame by frame and byte by byte, and what a daemon makes of it."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hostile import Hostile, data, entry, raw_frame
from support.lab import Daemon, Lab
from support.trees import MiB, visible

from ftx import limits
from ftx.core.blocks import block_count, block_digest, file_digest
from ftx.core.receipt import Transcript
from ftx.disk.keys import Identity, load
from ftx.errors import KINDS
from ftx.wire.frames import FrameType
from ftx.wire.messages import (
    Accept,
    End,
    EntryEnd,
    ErrorMessage,
    Goodbye,
    Hello,
    Manifest,
    Needs,
    Offer,
    Receipt,
    Results,
    Stored,
    Totals,
    encode,
)

FORMER = b"job of a former!"
SMALL, LARGE = b"small", bytes(range(256)) * 4096 + b"tail"
CONTENTS = {b"a": SMALL, b"b": LARGE}


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Lab, Daemon]]:
    """One daemon for every case: it has to live through all of them."""
    root = Path(tempfile.mkdtemp(prefix="ftx-", dir="/tmp"))
    with Lab(root) as lab:
        yield lab, lab.daemon()
    shutil.rmtree(root)


@pytest.fixture
def daemon(shared: tuple[Lab, Daemon]) -> Iterator[Daemon]:
    """The shared daemon, which must be alive and idle after the case."""
    _, one = shared
    yield one
    assert one.alive
    one.idle()
    one.clean_log()


@pytest.fixture
def key(daemon: Daemon) -> Identity:
    """The daemon's own key: signed in, and so let into every room."""
    return load(str(daemon.home / "identity.key"))


def name_of(number: int | None) -> str:
    """The name of an error by its number."""
    return next((kind.name for kind in KINDS.values() if kind.number == number), f"{number}")


# -- a whole job, however it is cut ------------------------------------------------------------------------


def blocks(number: int, content: bytes) -> bytes:
    """A file of an entry as it is sent when all of it is wanted."""
    parts = [content[start : start + MiB] for start in range(0, max(1, len(content)), MiB)]
    wire = b"".join(data(number, block, part) for block, part in enumerate(parts))
    if block_count(len(content)) > 1:
        wire += encode(EntryEnd(number, len(content), digest_of(content)))
    return wire


def digest_of(content: bytes) -> bytes:
    """The file digest of `content`."""
    parts = [content[start : start + MiB] for start in range(0, max(1, len(content)), MiB)]
    return file_digest(len(content), [block_digest([part]) for part in parts])


def whole_job(client: Hostile, into: bytes, say: Callable[[bytes], None]) -> list[Any]:
    """Send CONTENTS, saying every byte by `say`; what the daemon answered, without what is different each time."""
    say(encode(Hello("ftx", 1, 1, [], "x", "x", False)))
    hello = client.until(Hello)
    say(encode(Offer(os.urandom(16), 0, [into], None, None, None, None)))
    accept = client.until(Accept)
    entries = [entry(number, name, size=len(content)) for number, (name, content) in enumerate(CONTENTS.items())]
    say(encode(Totals(2, 0, len(SMALL) + len(LARGE))) + encode(Manifest(entries, True)))
    wants: list[Any] = []
    while len(wants) < len(CONTENTS):
        wants += client.until(Needs).wants
    say(b"".join(blocks(number, content) for number, content in enumerate(CONTENTS.values())))
    results: list[Any] = []
    while len(results) < len(CONTENTS):
        results += client.until(Results).results
    transcript = Transcript()
    for result in results:
        name, content = list(CONTENTS.items())[result.number]
        transcript.stored(len(content), result.digest, [name], [into, name], identical=False)
    say(encode(End(2, 0, len(SMALL) + len(LARGE), transcript.digest())))
    assert isinstance(client.until(Receipt), Receipt)
    say(encode(Goodbye()))
    assert client.end() is None
    return [hello, accept.unanswered, accept.conflict, wants, sorted(results, key=lambda one: one.number)]


def test_A4_records_of_any_size_mean_the_same(daemon: Daemon, key: Identity) -> None:
    """A whole job: each TLS record one byte (but for the content, in crumbs), or all that there is."""
    answers = []
    for way, size in ((b"whole", 1 << 22), (b"bytes", 1), (b"odd", 8191)):
        with Hostile(daemon.port, key, seconds=20) as client:

            def say(wire: bytes, client: Hostile = client, size: int = size) -> None:
                step = size if len(wire) < 4096 else max(size, 4099)
                for start in range(0, len(wire), step):
                    client.send(wire[start : start + step])

            answers.append(whole_job(client, way, say))
        there = daemon.inbox / os.fsdecode(way)
        assert {name: (there / os.fsdecode(name)).read_bytes() for name in CONTENTS} == CONTENTS
    assert answers[0] == answers[1] == answers[2]
    assert all(isinstance(result, Stored) for result in answers[0][-1])


def test_A22_a_cut_shows_nothing_and_is_resumed(shared: tuple[Lab, Daemon], daemon: Daemon, key: Identity) -> None:
    """A job cut at any place of its content: what is visible is whole, and an honest client completes it."""
    lab, _ = shared
    draw = random.Random(22)
    mtime = 1_700_000_000_000_000_000
    content = draw.randbytes(2 * MiB + 5)
    source = lab.root / "cut"
    source.mkdir()
    (source / "b").write_bytes(content)
    os.utime(source / "b", ns=(mtime, mtime))
    wire = blocks(0, content)
    for length in [0, 1, 4, 5, 18, MiB, len(wire) - 1, *(draw.randrange(len(wire)) for _ in range(9))]:
        with Hostile(daemon.port, key, seconds=20) as client:
            client.greet()
            client.offer(b"cut", job=os.urandom(16))
            client.announce([entry(0, b"b", size=len(content), mtime=mtime)])
            want = client.until(Needs).wants[0]
            if type(want).__name__ == "WantAll":
                client.send(wire[:length])
        daemon.idle()
        shown = [path for path in visible(daemon.inbox) if path.startswith(b"cut")]
        assert shown in ([], [b"cut"]), length
    done = lab.send(daemon, "--into", "cut", source / "b").one("done")
    assert (daemon.inbox / "cut" / "b").read_bytes() == content
    assert done["files"] == 1
    assert daemon.partials() == []


# -- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", [raw_frame(FrameType.MANIFEST, b"", length) for length in (2**32 - 1, 65_537)])
def test_A1_a_length_is_not_believed(wire: bytes, daemon: Daemon, key: Identity) -> None:
    """Refused when its five bytes are there, with nothing behind them; the daemon does not grow."""
    with Hostile(daemon.port, key) as client:
        client.greet()
        client.offer(job=os.urandom(16))
        before = daemon.memory()
        client.send(wire)
        assert name_of(client.end()) == "frame-too-large"
    assert daemon.memory() - before < 2 * MiB


def test_A2_a_frame_of_exactly_the_bound(daemon: Daemon, key: Identity) -> None:
    """A manifest frame of 64 KiB to the byte is taken, and its entries are answered."""
    def body(entries: list[Any]) -> int:
        return len(encode(Manifest(entries, True))) - 5

    entries: list[Any] = []
    while body(entries) < limits.FRAME_BATCH:
        entries.append(entry(len(entries), b"%03d" % len(entries) + b"x" * (limits.NAME - 3), size=0))
    for place in (-1, -2):
        over = min(body(entries) - limits.FRAME_BATCH, 200)
        entries[place] = entry(entries[place].number, entries[place].path[0][: limits.NAME - over], size=0)
    frame = encode(Manifest(entries, True))
    assert len(frame) - 5 == limits.FRAME_BATCH
    with Hostile(daemon.port, key) as client:
        client.greet()
        client.offer(b"exact", job=os.urandom(16))
        client.send(frame)
        wants: list[Any] = []
        while len(wants) < len(entries):
            wants += client.until(Needs).wants
        client.send(Totals(1, 0, 0))


@pytest.mark.parametrize(("lowest", "highest"), [(2, 2), (7, 255)])
def test_A10_no_version_in_common(lowest: int, highest: int, daemon: Daemon, key: Identity) -> None:
    """The daemon's hello comes first, so that both sides can name both ranges; then one error, and nothing weaker."""
    with Hostile(daemon.port, key) as client:
        answer = client.greet(lowest=lowest, highest=highest)
        assert (answer.lowest, answer.highest) == (1, 1)
        assert name_of(client.end()) == "no-common-version"


def test_B44_a_name_is_only_a_name(shared: tuple[Lab, Daemon], daemon: Daemon, key: Identity) -> None:
    """A stranger who calls itself by a paired peer's name, or by ours, is one; a peer has the name it has here."""
    lab, _ = shared
    lab.pair("home", "friend", "laptop")
    friend = load(str(lab.root / "friend" / "identity.key"))
    for name in ("laptop", "home", lab.identity("friend")):
        with Hostile(daemon.port, Identity.generate()) as client:
            client.send(Hello("ftx", 1, 1, [], name[:64], "x", False))
            assert name_of(client.end()) == "untrusted"
    with Hostile(daemon.port, friend) as client:
        client.greet(name="somebody else")
        client.offer(b"named", job=os.urandom(16))
        assert daemon.call("jobs.list")["jobs"][-1]["peer"]["name"] == "laptop"
        assert daemon.call("jobs.list")["jobs"][-1]["peer"]["id"] == lab.identity("friend")


def test_M186_all_who_are_not_known_get_the_same(shared: tuple[Lab, Daemon], daemon: Daemon) -> None:
    """A key that was never known, one that was removed, and one with a job here before: the same bytes."""
    lab, _ = shared
    lab.pair("home", "former", "former")
    former = load(str(lab.root / "former" / "identity.key"))
    with Hostile(daemon.port, former) as client:
        client.greet()
        client.offer(b"former", job=FORMER)
    daemon.idle()
    lab.client("peers", "remove", "former").ends()
    heard = []
    for who in (Identity.generate(), former):
        with Hostile(daemon.port, who) as client:
            client.send(Hello("ftx", 1, 1, [], "x", "x", False))
            answers = []
            while (message := client.receive()) is not None:
                assert isinstance(message, ErrorMessage)
                answers.append(message)
            heard.append(answers)
    assert heard[0] == heard[1]
    assert [name_of(one.number) for one in heard[0]] == ["untrusted"]
