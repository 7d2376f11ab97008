"""Block digests remembered beside the records: when they spare a reading, when they count for nothing, when they go."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.inboxes import MTIME, PEER, Sending, blocks_of, content, digest_of_content

from ftx import limits
from ftx.core.blocks import block_digest
from ftx.disk.inbox import Inbox
from ftx.disk.namerecord import NameRecord
from ftx.disk.records import Records
from ftx.disk.remembered import SCHEMA, Remembered
from ftx.disk.store import Failed, Want
from ftx.limits import BLOCK, DIGEST

OTHER = b"q" * 32
OLD = content(4 * BLOCK + 99)
NEW = OLD[:BLOCK] + b"!" + OLD[BLOCK + 1 :]
LATER = MTIME + 1_000_000_000


@pytest.fixture
def inbox(root: Path) -> Iterator[Inbox]:
    """The inbox, into which `OLD` was sent as `f`."""
    held = Inbox.open(str(root))
    Sending(held, {"f": OLD}).run()
    yield held
    held.close()


def digests(data: bytes) -> bytes:
    """The digests of its blocks, joined."""
    return b"".join(block_digest([block]) for block in blocks_of(data))


def bytes_read() -> int:
    """Bytes that this process has read from files so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar"))


def offered(inbox: Inbox, data: bytes = NEW, **how: object) -> tuple[bytes, bool]:
    """What is on offer for a newer version, and whether the older one was read for that."""
    job = Sending(inbox, {"f": data}, **{"mtime_ns": LATER} | how)  # type: ignore[arg-type]
    want = job.offer()["f"]
    assert isinstance(want, Want)
    before = bytes_read()
    found = job.store.basis(want.number)
    read = bytes_read() - before
    job.store.close()
    return found, read >= BLOCK


def in_database(root: Path, *statements: str) -> list[tuple[object, ...]]:
    """What the last of these gives in a database that nobody has open."""
    connection = sqlite3.connect(root / ".ftx" / "records.db")
    for statement in statements:
        rows = connection.execute(statement).fetchall()
    connection.commit()
    connection.close()
    return rows


def test_what_was_stored_is_offered_without_being_read(inbox: Inbox, root: Path) -> None:
    """By this process and by the next; as much of it as the new version has blocks."""
    assert offered(inbox) == (digests(OLD), False)
    assert offered(inbox, NEW[: 2 * BLOCK]) == (digests(OLD)[: 2 * DIGEST], False)
    inbox.close()
    again = Inbox.open(str(root))
    assert offered(again) == (digests(OLD), False)
    again.close()


def test_a_file_that_was_resumed_is_remembered(inbox: Inbox) -> None:
    """Part of its digests comes from the journal of an earlier job."""
    first = Sending(inbox, {"f": NEW}, mtime_ns=LATER)
    answer = first.offer()["f"]
    assert isinstance(answer, Want)
    first.send_blocks((b"f",), answer, stop=3)
    first.store.close()
    assert Sending(inbox, {"f": NEW}, mtime_ns=LATER).run() == {"f": "stored f (1)"}
    assert offered(inbox, mtime_ns=LATER + 1) == (digests(NEW), False)


def rewrite(path: Path) -> None:
    """Other content, of the same size and time."""
    status = path.stat()
    path.write_bytes(NEW)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(path: Path) -> None:
    """Another file, of the same size and time."""
    status = path.stat()
    path.unlink()
    path.write_bytes(NEW)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "now"),
    [(rewrite, NEW), (replace, NEW), (lambda path: path.chmod(0o600), OLD)],
)
def test_what_was_touched_since_is_read(inbox: Inbox, root: Path, change: Callable[[Path], None], now: bytes) -> None:
    """Whatever can be changed about it by a program, its status changes."""
    change(root / "f")
    assert offered(inbox) == (digests(now), True)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE blocks SET digests = zeroblob(length(digests))",
        "UPDATE blocks SET digests = substr(digests, 1, 64)",
        "UPDATE blocks SET digests = substr(digests, 33) || substr(digests, 1, 32)",
        "UPDATE blocks SET digests = x''",
        "UPDATE blocks SET digests = 1 << 50",
        "UPDATE blocks SET digests = 'text'",
        "UPDATE blocks SET path = x'67'",
        "DELETE FROM blocks",
        "UPDATE names SET digest = zeroblob(32)",
        "UPDATE names SET ctime_ns = NULL",
    ],
)
def test_what_is_torn_or_missing_costs_the_reading(inbox: Inbox, root: Path, damage: str) -> None:
    """Digests count when they make the file digest on record, which must be complete."""
    inbox.close()
    in_database(root, damage)
    again = Inbox.open(str(root))
    assert offered(again) == (digests(OLD), True)
    again.close()


def test_a_copy_is_verified_all_the_same(inbox: Inbox, root: Path) -> None:
    """The content has changed and its status says that it has not, as on a failing disk: then its blocks travel."""
    job = Sending(inbox, {"f": NEW}, mtime_ns=LATER)
    want = job.offer()["f"]
    assert isinstance(want, Want)
    offer = job.store.basis(want.number)
    assert offer == digests(OLD)
    with (root / "f").open("r+b") as file:
        file.seek(2 * BLOCK)
        file.write(b"spoiled")
    copied = []
    for index, block in enumerate(blocks_of(NEW)):
        digest = block_digest([block])
        if digest == offer[index * DIGEST : (index + 1) * DIGEST]:
            copied.append(job.store.copy_block(want.number, index, index * BLOCK, digest))
        if index == 1 or not copied[-1]:
            assert job.store.write_block(want.number, index, [block], digest)
    assert copied == [True, False, True, True]
    job.store.publish(want.number, digest_of_content(NEW))
    job.store.close()
    assert (root / "f (1)").read_bytes() == NEW
    inbox.close()
    assert in_database(root, "SELECT mtime_ns FROM blocks") == [(LATER,)], "what turned out to be wrong is forgotten"


def test_it_is_for_the_peer_that_has_sent_it(inbox: Inbox) -> None:
    """Another one is offered nothing; my own key, which may read it all, has it read."""
    assert offered(inbox, peer=OTHER) == (b"", False)
    assert offered(inbox, peer=OTHER, reads=True) == (digests(OLD), True)


def test_nothing_is_remembered_of_what_was_not_stored(inbox: Inbox, root: Path) -> None:
    """Nor of files of one block, of which nobody needs it."""
    Sending(inbox, {"small": b"small"}).run()
    job = Sending(inbox, {"g": NEW}, conflict="fail")
    want = job.offer()["g"]
    assert isinstance(want, Want)
    job.send_blocks((b"g",), want)
    (root / "g").write_bytes(b"somebody was quicker")  # after the record was made, as it turns out
    assert isinstance(job.store.publish(want.number, digest_of_content(NEW)), Failed)
    job.store.close()
    inbox.close()
    assert in_database(root, "SELECT path FROM blocks") == [(b"f",)]


def test_files_beyond_what_may_be_on_offer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their digests would have to be read to the last to be believed: none are kept."""
    monkeypatch.setattr("ftx.disk.partial.BASIS_BLOCKS", 4)
    inbox = Inbox.open(str(root))
    Sending(inbox, {"f": OLD, "g": OLD[: 4 * BLOCK]}).run()
    inbox.close()
    assert in_database(root, "SELECT path FROM blocks") == [(b"g",)]


# -- the table ---------------------------------------------------------------------------------------------------------


def version(number: int) -> NameRecord:
    """A record of a version of two blocks."""
    return NameRecord(b"a", 7, BLOCK + 1, number, 0, 0, b"d" * 32)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    """An open database."""
    fd = os.open(tmp_path, os.O_RDONLY)
    database = Records(fd)
    database.check()
    yield database
    database.close()
    os.close(fd)


def put(records: Records, peer: bytes, path: bytes, number: int) -> None:
    """A record and what is remembered with it."""
    records.write(peer, [(path, version(number))], [((path, BLOCK + 1, number), b"%064d" % number)])


def test_each_version_of_each_peer_has_its_own(records: Records) -> None:
    """And a record that is completed or written again keeps it."""
    put(records, PEER, b"a", 1)
    put(records, PEER, b"a", 2)
    put(records, OTHER, b"a", 3)
    records.settle(PEER, [(b"a", version(1))])
    records.flush()
    records.write(PEER, [(b"a", version(1))])
    assert records.blocks(PEER, b"a", version(1)) == b"%064d" % 1
    assert records.blocks(PEER, b"a", version(2)) == b"%064d" % 2
    assert records.blocks(OTHER, b"a", version(1)) == b""
    assert records.blocks(PEER, b"b", version(1)) == b""


def test_it_goes_with_the_record(records: Records, tmp_path: Path) -> None:
    """Forgotten, one version too many, or one record too many in all."""
    put(records, PEER, b"forgotten", 0)
    records.forget(PEER, [(b"forgotten", BLOCK + 1, 0)])
    for number in range(limits.NAME_VERSIONS + 1):
        put(records, PEER, b"a", number)
    assert records.blocks(PEER, b"a", version(0)) == b""
    assert records.blocks(PEER, b"a", version(1)) != b""
    records.prune(keep=5)
    records.close()
    connection = sqlite3.connect(tmp_path / "records.db")
    assert connection.execute("SELECT count(*) FROM blocks").fetchone() == (5,)
    connection.close()


def test_the_oldest_give_way() -> None:
    """Where all together are too much, whatever was there when this process began."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE names (peer, path, size, mtime_ns)")
    connection.executescript(SCHEMA)
    each = 1000 - 256 - 2

    def kept(first: int, after: int, memory: Remembered) -> list[int]:
        for number in range(first, after):
            memory.put(connection, PEER, (b"f", 0, number), bytes(each))
        return [number for number in range(after) if memory.get(connection, PEER, (b"f", 0, number))]

    memory = Remembered(16_000)
    assert kept(0, 16, memory) == list(range(16))
    assert kept(16, 17, memory) == list(range(3, 17))
    assert kept(17, 19, memory) == list(range(3, 19))
    assert kept(19, 20, memory) == list(range(6, 20))
    memory.put(connection, PEER, (b"f", 0, 6), bytes(each))  # once more: now it is the latest
    assert kept(20, 30, Remembered(16_000))[0] == 6
    assert limits.REMEMBERED == 32 << 20
    connection.close()


def test_records_of_version_3(inbox: Inbox, root: Path) -> None:
    """They come without digests: what they speak of is read, and what is stored from now on is not."""
    inbox.close()
    in_database(
        root,
        "DROP TRIGGER forgotten",
        "DROP TABLE blocks",
        "DROP TABLE intents",
        "DROP TABLE segments",
        "PRAGMA user_version = 3",
    )
    again = Inbox.open(str(root))
    assert offered(again) == (digests(OLD), True)
    assert Sending(again, {"f": NEW}, mtime_ns=LATER).run() == {"f": "stored f (1)"}
    assert offered(again, mtime_ns=LATER + 1) == (digests(NEW), False)
    again.close()
