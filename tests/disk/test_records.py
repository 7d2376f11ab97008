"""Name records and receipts: what is remembered, and what stops a start."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftx import limits
from ftx.disk.namerecord import NameKey, NameRecord
from ftx.disk.records import Records
from ftx.errors import FtxError

PEER, OTHER = b"p" * 32, b"o" * 32


def record(final: bytes = b"a", inode: int = 7, ctime_ns: int | None = None) -> NameRecord:
    """A record like those of files."""
    return NameRecord(final, inode, 5, -17, 1_700_000_000_000_000_001, ctime_ns, b"d" * 32)


def key(path: bytes) -> NameKey:
    """The key of such a record."""
    return path, 5, -17


class Clock:
    """A clock to set."""

    now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time of the records."""
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """The folder of the database."""
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def records(folder: int, clock: Clock) -> Iterator[Records]:
    """An open database."""
    database = Records(folder, clock)
    database.check()
    yield database
    database.close()


def test_records_are_per_peer_and_path_and_persist(records: Records, folder: int) -> None:
    """What was written is found by its peer only, also by the next process."""
    records.write(PEER, [(b"x/a", record()), (b"x/b", record(b"b (1)", 2**64 - 3))])
    records.write(PEER, [(b"x/a", record(b"a (1)"))])
    expected = [record(b"a (1)"), record(b"b (1)", 2**64 - 3), None]
    assert records.find(PEER, [key(b"x/a"), key(b"x/b"), key(b"x/c")]) == expected
    assert records.find(OTHER, [key(b"x/a")]) == [None]
    records.close()
    again = Records(folder)
    again.check()
    assert again.find(PEER, [key(b"x/a"), key(b"x/b"), key(b"x/c")]) == expected
    again.close()


def test_records_are_found_and_cropped_in_a_crowd(records: Records, clock: Clock) -> None:
    """Whatever lies between the first and the last path that is asked for, a few or many of others, in any order."""
    records.write(PEER, [(b"x/%04d" % number, record()) for number in range(500)])
    records.settle(PEER, [(b"x/0007", record(ctime_ns=3))])
    for asked in ([b"x/0499", b"x/0000"], [b"x/0007", b"x/0009", b"x/0008"], [b"y", b"x/0400", b"a"]):
        found = records.find(PEER, [key(path) for path in asked])
        settled = {b"x/0007": record(ctime_ns=3), b"y": None, b"a": None}
        assert found == [settled.get(path, record()) for path in asked]
    assert records.find(PEER, []) == []
    for number in range(limits.NAME_VERSIONS + 3):
        clock.now += 1
        version = NameRecord(b"x", 7, 5, number, 0, None, b"d" * 32)
        records.write(PEER, [(b"x/0003", version), (b"x/0490", version)])
    keys = [(path, 5, number) for path in (b"x/0003", b"x/0490") for number in range(limits.NAME_VERSIONS + 3)]
    found = records.find(PEER, keys)
    assert [one is not None for one in found] == ([False] * 3 + [True] * limits.NAME_VERSIONS) * 2
    assert records.find(PEER, [key(b"x/0002"), key(b"x/0491"), key(b"x/0003")]) == [record(), record(), None]


def test_many_records_at_once_need_no_other_file(records: Records) -> None:
    """In a sandbox there is no place for what SQLite puts aside while one statement replaces many rows."""
    many = [(b"%s/%05d" % (b"x" * 200, number), record()) for number in range(4000)]
    records.write(PEER, many)
    records.settle(PEER, [(path, record(ctime_ns=1)) for path, _ in many])
    before = set(os.listdir("/proc/self/fd"))
    records.flush()
    assert set(os.listdir("/proc/self/fd")) <= before
    assert records._connection is not None
    assert records._connection.execute("PRAGMA temp_store").fetchone() == (2,)


def test_settled_records_count_at_once_and_are_written_with_the_next(records: Records, folder: int) -> None:
    """A completed record is visible before its transaction, which comes with the next write or with close."""
    records.write(PEER, [(b"a", record())])
    records.settle(PEER, [(b"a", record(ctime_ns=99))])
    assert records.find(PEER, [key(b"a")]) == [record(ctime_ns=99)]
    records.close()
    again = Records(folder)
    assert again.find(PEER, [key(b"a")]) == [record(ctime_ns=99)]
    again.close()


def test_newer_write_beats_waiting_completion(records: Records) -> None:
    """A completion that waits must not overwrite the record of a newer version."""
    records.write(PEER, [(b"a", record())])
    records.settle(PEER, [(b"a", record(ctime_ns=99))])
    newer = record(b"a (1)", 8)
    records.write(PEER, [(b"a", newer)])
    records.flush()
    assert records.find(PEER, [key(b"a")]) == [newer]


def ended(records: Records) -> None:
    """The process ends without another word."""
    assert records._connection is not None
    records._connection.close()
    records._connection = None


def intents(folder: Path) -> int:
    """How many are in the database, which nobody uses."""
    with contextlib.closing(sqlite3.connect(folder / "records.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM intents").fetchone()[0])


def test_intents_of_a_process_that_ended_are_pending_records(records: Records, folder: int, tmp_path: Path) -> None:
    """All that was about to be published, the later word on one path included; then they are no intents any more."""
    records.write(PEER, [(b"a", record(ctime_ns=5)), (b"old", record(ctime_ns=6))])
    records.intend(PEER, [(b"a", record(b"a (1)", 8)), (b"b", record(b"b", 2**64 - 1))])
    records.intend(OTHER, [(b"a", record(b"a", 9))])
    records.intend(PEER, [(b"b", record(b"b (1)", 10))])
    assert records.find(PEER, [key(b"a"), key(b"b")]) == [record(ctime_ns=5), None]
    ended(records)
    assert intents(tmp_path) == 3
    for _ in range(2):  # once more, as they are in rows
        again = Records(folder)
        again.check()
        found = again.find(PEER, [key(b"a"), key(b"b"), key(b"old")])
        assert found == [record(b"a (1)", 8), record(b"b (1)", 10), record(ctime_ns=6)]
        assert again.find(OTHER, [key(b"a")]) == [record(b"a", 9)]
        assert again.versions(PEER, b"b") == [record(b"b (1)", 10)]
        again.close()
        assert intents(tmp_path) == 0


def test_intents_are_taken_up_where_nothing_can_be_written(records: Records, folder: int, tmp_path: Path) -> None:
    """On a full disk an inbox opens, and what was received is known; nothing goes before there is a row for it."""
    records.intend(PEER, [(b"a", record())])
    ended(records)
    again = Records(folder)
    again.check()
    assert intents(tmp_path) == 1
    assert again.find(PEER, [key(b"a")]) == [record()]
    assert again._connection is not None
    again._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(FtxError, match="records"):
        again.intend(PEER, [(b"b", record())])
    assert again.find(PEER, [key(b"a")]) == [record()]
    again._connection.execute("PRAGMA query_only = OFF")
    again.settle(PEER, [(b"a", record(ctime_ns=99))])
    again.close()
    assert intents(tmp_path) == 0
    last = Records(folder)
    assert last.find(PEER, [key(b"a")]) == [record(ctime_ns=99)]
    last.close()


def test_what_is_under_way_is_not_taken_up(records: Records) -> None:
    """A database that was closed and is opened again has intents of this very process."""
    number = records.intend(PEER, [(b"a", record())])
    records.close()
    assert records.find(PEER, [key(b"a")]) == [None]
    records.fulfil(number, PEER, [])
    assert records.find(PEER, [key(b"a")]) == [None]


def test_what_an_intent_came_to_counts_at_once(records: Records, folder: int, tmp_path: Path) -> None:
    """Complete and pending records; those that are not named never were. With the next transaction they are rows."""
    number = records.intend(PEER, [(b"a", record()), (b"b", record()), (b"c", record())])
    records.fulfil(number, PEER, [(b"a", record(ctime_ns=99)), (b"b", record())])
    wanted = [record(ctime_ns=99), record(), None]
    keys = [key(b"a"), key(b"b"), key(b"c")]
    assert records.find(PEER, keys) == wanted
    assert records.versions(PEER, b"a") == [record(ctime_ns=99)]
    assert records.find(PEER, keys) == wanted
    ended(records)
    assert intents(tmp_path) == 0
    again = Records(folder)
    assert again.find(PEER, keys) == wanted
    again.close()


def test_the_same_content_is_found_before_it_has_a_row(records: Records) -> None:
    """As with everything that is asked for by anything but its key."""
    number = records.intend(PEER, [(b"a", record())])
    records.fulfil(number, PEER, [(b"a", record(ctime_ns=99))])
    assert records.same_content(PEER, b"a", record().size, record().digest or b"") == [record(ctime_ns=99)]


def test_an_intent_that_came_to_nothing(records: Records, tmp_path: Path) -> None:
    """It leaves what was known before."""
    records.write(PEER, [(b"a", record(ctime_ns=5))])
    records.fulfil(records.intend(PEER, [(b"a", record(b"a (1)", 8))]), PEER, [])
    records.close()
    assert intents(tmp_path) == 0
    again = Records(os.open(tmp_path, os.O_RDONLY))
    assert again.find(PEER, [key(b"a")]) == [record(ctime_ns=5)]
    again.close()


def test_what_is_owed_outlives_a_database_that_cannot_be_written(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A completed row may be lost, which costs a hashing; a file that no row knows of may not."""
    records.write(PEER, [(b"a", record())])
    number = records.intend(PEER, [(b"b", record())])
    monkeypatch.setattr(limits, "PENDING_CONFIRMATIONS", 1)
    assert records._connection is not None
    records._connection.execute("PRAGMA query_only = ON")
    records.fulfil(number, PEER, [(b"b", record(ctime_ns=99))])
    records.settle(PEER, [(b"a", record(ctime_ns=99))])
    assert records.find(PEER, [key(b"a"), key(b"b")]) == [record(), record(ctime_ns=99)]
    with pytest.raises(FtxError, match="records"):
        records.intend(PEER, [(b"c", record())])
    records._connection.execute("PRAGMA query_only = OFF")
    records.flush()
    assert records.find(PEER, [key(b"a"), key(b"b")]) == [record(), record(ctime_ns=99)]


@pytest.mark.parametrize("body", [b"", b"no records", b"\x91\x92\xc4\x01a\x90", b"\x90\x90"])
def test_intents_that_cannot_be_read_are_damage(records: Records, folder: int, tmp_path: Path, body: bytes) -> None:
    """As with any other: forgetting what was received would make second copies."""
    records.intend(PEER, [(b"a", record())])
    ended(records)
    with contextlib.closing(sqlite3.connect(tmp_path / "records.db")) as connection, connection:
        connection.execute("UPDATE intents SET records = ?", (body,))
    with pytest.raises(FtxError) as caught:
        Records(folder).check()
    assert caught.value.name == "inbox-unusable"


def test_records_of_version_4(records: Records, folder: int, tmp_path: Path) -> None:
    """They get what they lack, and nothing else changes."""
    records.write(PEER, [(b"a", record(ctime_ns=5))])
    records.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "records.db")) as older, older:
        older.executescript("DROP TABLE intents; DROP TABLE segments; PRAGMA user_version = 4;")
    again = Records(folder)
    assert again.find(PEER, [key(b"a")]) == [record(ctime_ns=5)]
    assert again.intend(PEER, [(b"b", record())])
    again.close()


def test_forget(records: Records) -> None:
    """A forgotten record is gone, waiting or written."""
    records.write(PEER, [(b"a", record()), (b"b", record())])
    records.settle(PEER, [(b"a", record(ctime_ns=1))])
    records.forget(PEER, [key(b"a")])
    records.flush()
    assert records.find(PEER, [key(b"a"), key(b"b")]) == [None, record()]


def test_each_version_has_a_record(records: Records, clock: Clock) -> None:
    """By size and time; of one path the latest are kept, however they sort, and other paths are not touched."""

    def version(number: int) -> NameRecord:
        return NameRecord(b"a (%d)" % number, 7, 1000 - number, number, 0, None, b"d" * 32)

    records.write(PEER, [(b"b", record())])
    records.write(OTHER, [(b"a", record())])
    for number in range(limits.NAME_VERSIONS + 10):
        clock.now += number % 2  # two at a time in one second
        records.write(PEER, [(b"a", version(number))])
        assert records.find(PEER, [(b"a", 1000 - number, number)]) == [version(number)]
    found = records.find(PEER, [(b"a", 1000 - number, number) for number in range(limits.NAME_VERSIONS + 10)])
    assert limits.NAME_VERSIONS <= sum(one is not None for one in found) <= limits.NAME_VERSIONS + 1
    assert found[:8] == [None] * 8
    assert records.find(PEER, [key(b"b")]) == records.find(OTHER, [key(b"a")]) == [record()]


def test_receipts_are_limited_by_age_and_count(records: Records, clock: Clock) -> None:
    """The newest thousand of the last ninety days, and what has come since it was last looked."""
    records.save_receipt(PEER, b"old", b"receipt")
    assert records.receipt(PEER, b"old") == b"receipt"
    assert records.receipt(OTHER, b"old") is None
    clock.now += limits.STATE_DAYS * 86400 + 1
    for number in range(limits.UPKEEP_JOBS):
        records.save_receipt(PEER, b"new %d" % number, b"another")
    assert records.receipt(PEER, b"old") is None
    for number in range(limits.RECEIPT_FILES):
        clock.now += 1
        records.save_receipt(PEER, b"%d" % number, b"r")
    assert records.receipt(PEER, b"0") == b"r"
    kept = [number for number in range(limits.UPKEEP_JOBS) if records.receipt(PEER, b"new %d" % number)]
    assert len(kept) < limits.UPKEEP_JOBS


def test_prune_keeps_the_newest(records: Records, clock: Clock) -> None:
    """Beyond the limit the oldest records go."""
    for number in range(6):
        clock.now += 10
        records.write(PEER, [(b"%d" % number, record())])
    assert records.prune(4) == 2
    assert records.prune(4) == 0
    assert [found is None for found in records.find(PEER, [key(b"%d" % number) for number in range(6)])] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


@pytest.mark.case("E96", "G126")
@pytest.mark.parametrize("damage", ["garbage", "page", "newer", "older", "foreign"])
def test_unusable_database_stops_the_start(records: Records, folder: int, tmp_path: Path, damage: str) -> None:
    """A damaged database, or one of another version, is never taken for an empty one."""
    records.write(PEER, [(b"%05d" % number, record()) for number in range(3000)])
    records.close()
    path = tmp_path / "records.db"
    if damage == "garbage":
        path.write_bytes(b"this is not a database" * 500)
    elif damage == "page":
        raw = bytearray(path.read_bytes())
        raw[8192:16384] = os.urandom(8192)
        path.write_bytes(raw)
    else:
        connection = sqlite3.connect(path)
        pragma = {"newer": "user_version = 7", "older": "user_version = 1", "foreign": "application_id = 1"}[damage]
        connection.execute(f"PRAGMA {pragma}")
        connection.close()
    with pytest.raises(FtxError) as caught:
        Records(folder).check()
    assert caught.value.name == "inbox-unusable"
    assert "records.db" in caught.value.message
    assert caught.value.hint.startswith("update ftx, or move" if damage == "newer" else "move .ftx/records.db away")


def test_damage_found_later_is_one_of_our_errors(records: Records, tmp_path: Path) -> None:
    """Whatever SQLite raises comes out as storage-failed."""
    (tmp_path / "records.db").write_bytes(b"x" * 4096)
    for action in (
        lambda: records.find(PEER, [key(b"a")]),
        lambda: records.write(PEER, [(b"a", record())]),
        lambda: records.save_receipt(PEER, b"j", b"r"),
    ):
        with pytest.raises(FtxError) as caught:
            action()
        assert caught.value.name == "storage-failed"
    records.settle(PEER, [(b"%d" % number, record()) for number in range(limits.PENDING_CONFIRMATIONS + 1)])


def test_threads(records: Records) -> None:
    """Reading, writing and settling from several threads at once loses nothing."""
    errors: list[Exception] = []

    def work(peer: bytes) -> None:
        try:
            for number in range(30):
                path = b"%d" % number
                records.write(peer, [(path, record())])
                records.settle(peer, [(path, record(ctime_ns=number))])
                assert records.find(peer, [key(path)]) == [record(ctime_ns=number)]
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(bytes([n]) * 32,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert records.find(b"\x03" * 32, [key(b"29")]) == [record(ctime_ns=29)]
