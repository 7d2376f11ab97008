"""What a paired peer that keeps every rule of the wire, or a local user at the inbox, can still try.

Small things that would become large: content that weighs nothing on the wire, failures by the thousand, names and
times at the ends of their ranges, links in the way.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from support.hostile import Hostile, data, entry, raw_frame
from support.lab import Daemon, Lab, until
from support.trees import MiB, make_tree, snapshot

from ftx import limits
from ftx.disk.keys import Identity, load
from ftx.errors import KINDS
from ftx.wire.frames import FrameType, data_frames
from ftx.wire.messages import (
    Accept,
    EntryFailed,
    Failed,
    FolderEnd,
    FolderEntry,
    Needs,
    Offer,
    Refuse,
    Results,
    Stored,
)

#: renameat2(2): two names change places.
_AT_FDCWD, _EXCHANGE = -100, 2
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    """One daemon for every case: it has to live through all of them."""
    root = Path(tempfile.mkdtemp(prefix="ftx-", dir="/tmp"))
    with Lab(root) as lab:
        yield lab.daemon()
    shutil.rmtree(root)


@pytest.fixture
def daemon(shared: Daemon) -> Iterator[Daemon]:
    """The shared daemon, which must be alive and idle after the case, with nothing left in its staging folder."""
    yield shared
    assert shared.alive
    shared.idle()
    assert shared.partials() == []
    shared.clean_log()


@pytest.fixture
def key(daemon: Daemon) -> Identity:
    """The daemon's own key: signed in, and so let into every room."""
    return load(str(daemon.home / "identity.key"))


def begin(client: Hostile, *into: bytes) -> None:
    """Greet and offer a job."""
    client.greet()
    client.offer(*into, job=os.urandom(16))


def results(client: Hostile, count: int) -> list[object]:
    """The next `count` results."""
    found: list[object] = []
    while len(found) < count:
        found += client.until(Results).results
    return found


@pytest.mark.case("C72")
def test_zero_runs_weigh_nothing(daemon: Daemon, key: Identity) -> None:
    """A frame of fifty bytes stands for a megabyte of zeros: a thousand in one write do not become a gigabyte."""
    count = 1024
    with Hostile(daemon.port, key, seconds=20) as client:
        begin(client)
        for start in range(0, count, limits.BATCH):
            numbers = range(start, start + limits.BATCH)
            client.announce([entry(n, b"zero %04d" % n, size=MiB) for n in numbers], last=False)
        wanted = 0
        while wanted < count:
            wanted += len(client.until(Needs).wants)
        before = daemon.memory()
        runs = [b"".join(data_frames(n, 0, bytes(MiB), bytes(32), zero=True)) for n in range(count)]
        client.send(*runs)
        assert {type(one) for one in results(client, count)} == {Failed}
        assert daemon.memory() - before < 32 * MiB


def test_files_that_never_verify_leave_nothing(daemon: Daemon, key: Identity) -> None:
    """Files of two blocks whose content is wrong, or never comes: no partial stays, the fixture looks."""
    count = 200
    with Hostile(daemon.port, key) as client:
        begin(client)
        client.announce([entry(n, b"never %04d" % n, size=MiB + 1) for n in range(count)], last=False)
        wanted = 0
        while wanted < count:
            wanted += len(client.until(Needs).wants)
        for number in range(count):
            client.send(data(number, 1, b"x", digest=bytes(32)) if number % 2 else EntryFailed(number, 302))
        assert {type(one) for one in results(client, count)} == {Failed}


def test_failed_files_that_are_never_closed(daemon: Daemon, key: Identity) -> None:
    """The receiver remembers a window of them, and then has had enough."""
    with Hostile(daemon.port, key, seconds=20) as client:
        begin(client)
        number = ended = 0
        while not ended and number < 2 * limits.WINDOW_UNACKNOWLEDGED:
            client.announce([entry(number + n, b"open %05d" % (number + n), size=MiB + 1) for n in range(256)], False)
            wanted = 0
            while wanted < 256 and not ended:
                message = client.receive()
                wanted += len(message.wants) if isinstance(message, Needs) else 0
                ended = message is None
            client.send(*[data(number + n, 1, b"x", digest=bytes(32)) for n in range(256)])
            number += 256
        assert ended
        assert number <= limits.WINDOW_UNACKNOWLEDGED + 512


def test_files_larger_than_any_disk_are_few_lines_in_the_log(daemon: Daemon, key: Identity) -> None:
    """A thousand refusals for want of space are no thousand lines."""
    lines = len(daemon.text().splitlines())
    with Hostile(daemon.port, key) as client:
        begin(client)
        for start in (0, limits.BATCH):
            numbers = range(start, start + limits.BATCH)
            client.announce([entry(n, b"huge %05d" % n, size=2**63 - 1) for n in numbers], last=False)
        refused = results(client, 2 * limits.BATCH)
    assert {one.error for one in refused if isinstance(one, Failed)} == {KINDS["no-space"].number}
    assert len(daemon.text().splitlines()) - lines < 30


@pytest.mark.parametrize("into", [[b".ftx"], [b".FTX", b"partial"], [b"a", b".Ftx"], [b".ssh"], [b"a\x1b[2J"]])
def test_a_folder_to_put_it_in_that_is_not_for_peers(into: list[bytes], daemon: Daemon, key: Identity) -> None:
    """The job is refused, and nothing is made."""
    before = snapshot(daemon.inbox).keys()
    with Hostile(daemon.port, key) as client:
        client.greet()
        client.send(Offer(os.urandom(16), 0, into, None, None, None, None))
        answer = client.receive()
    assert isinstance(answer, Refuse)
    assert answer.number == KINDS["bad-name"].number
    assert snapshot(daemon.inbox).keys() - before <= {b".ftx/records.db-wal"}


@pytest.mark.case("C62")
@pytest.mark.parametrize("time", [-(2**63), 2**63 - 1, -1])
def test_times_at_the_ends(time: int, daemon: Daemon, key: Identity) -> None:
    """Stored with the nearest time that the file system has; files and folders."""
    name = b"time %d" % time
    with Hostile(daemon.port, key) as client:
        begin(client)
        client.announce([FolderEntry(0, [name]), entry(1, name, b"f", mtime=time), FolderEnd(0, 0, time)])
        client.until(Needs)
        client.send(data(1, 0, b"x"))
        assert {type(one) for one in results(client, 2)} == {Stored}
    assert (daemon.inbox / os.fsdecode(name) / "f").read_bytes() == b"x"


@pytest.mark.case("F107")
def test_many_offers_of_one_job(daemon: Daemon, key: Identity) -> None:
    """One connection has it, and is heard of now and then; the others are told so, none of them waits.

    Whoever has said nothing for `limits.ALIVE` is asked whether it lives, and that takes `limits.PROVE_ALIVE` where
    nobody answers: so it speaks right before each of them.
    """
    job = os.urandom(16)
    offer = Offer(job, 0, [], None, None, None, None)
    with Hostile(daemon.port, key) as first:
        first.greet()
        first.send(offer)
        assert isinstance(first.receive(), Accept)
        for number in range(20):
            with Hostile(daemon.port, key) as other:
                other.greet()
                first.announce([entry(number, b"of the first %02d" % number)], last=False)
                begun = monotonic()
                other.send(offer)
                answer = other.receive()
            assert isinstance(answer, Refuse)
            assert answer.number == KINDS["busy"].number
            assert monotonic() - begun < limits.PROVE_ALIVE


def test_pieces_of_a_file_that_failed_half_way(daemon: Daemon, key: Identity) -> None:
    """entry-failed in the middle of a block ends that block, too: the next piece begins another."""
    piece = raw_frame(FrameType.DATA, (0).to_bytes(4, "big") + bytes(8) + b"\0\0" + b"x" * 1000)
    with Hostile(daemon.port, key) as client:
        begin(client)
        client.announce([entry(0, b"half", size=2 * MiB), entry(1, b"next")])
        wanted = 0
        while wanted < 2:
            wanted += len(client.until(Needs).wants)
        client.send(piece, EntryFailed(0, 303), data(1, 0, b"x"))
        assert {type(one) for one in results(client, 2)} == {Failed, Stored}


# -- a local user at the inbox -----------------------------------------------------------------------------


@pytest.mark.case("D73")
def test_links_in_the_way(lab: Lab) -> None:
    """A folder on the way that is a link fails all in it; a link at the target is a name that is taken."""
    make_tree(lab.root / "source", {"folder/file": 10, "large": 2 * MiB, "small": 10, "free": 10})
    (lab.root / "outside").mkdir()
    daemon = lab.daemon()
    (daemon.inbox / "source").mkdir()
    for name in ("folder", "large", "small"):
        (daemon.inbox / "source" / name).symlink_to(lab.root / "outside" / ("" if name == "folder" else name))
    client = lab.send(daemon, "source", code=None)
    assert client.popen.returncode != 0
    assert os.listdir(lab.root / "outside") == []
    assert (daemon.inbox / "source" / "free").read_bytes() == (lab.root / "source" / "free").read_bytes()
    for name in ("large (1)", "small (1)"):
        assert (daemon.inbox / "source" / name).stat().st_size == (lab.root / "source" / name[:5]).stat().st_size
    failed = {event["path"] for event in client.of("file") if event["status"] == "failed"}
    assert failed == {"source/folder", "source/folder/file"}
    daemon.clean_log()


@pytest.mark.case("D74")
def test_folders_that_become_links_all_the_time(lab: Lab) -> None:
    """Folder and link change places thousands of times during transfers: nothing ever lands behind the link."""
    outside = lab.root / "outside"
    outside.mkdir(mode=0o755)
    daemon = lab.daemon()
    (daemon.inbox / "source").mkdir()
    (daemon.inbox / "source" / "folder").mkdir()
    (daemon.inbox / "link").symlink_to(outside)
    two = [os.fsencode(daemon.inbox / name) for name in ("source/folder", "link")]
    over = threading.Event()
    swaps = [0]

    def swap() -> None:
        while not over.is_set():
            swaps[0] += _libc.renameat2(_AT_FDCWD, two[0], _AT_FDCWD, two[1], _EXCHANGE) == 0

    before = os.stat(outside)
    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for run in range(3):
            names = {f"folder/{run} {n:03}": 100 for n in range(60)} | {f"folder/{run} large": 2 * MiB}
            make_tree(lab.root / "source", names, seed=run)
            lab.send(daemon, "source", code=None)
    finally:
        over.set()
        swapping.join()
    after = os.stat(outside)
    until(lambda: swaps[0] > 100, "they changed places")
    assert os.listdir(outside) == []
    assert after.st_mode == before.st_mode
    assert after.st_ctime_ns == before.st_ctime_ns
    daemon.clean_log()
