"""Name records and receipts: what is remembered, and what stops a start."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftx import limits
from ftx.disk.records import NameKey, NameRecord, Records
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
        pragma = {"newer": "user_version = 5", "older": "user_version = 1", "foreign": "application_id = 1"}[damage]
        connection.execute(f"PRAGMA {pragma}")
        connection.close()
    with pytest.raises(FtxError) as caught:
        Records(folder).check()
    assert caught.value.name == "inbox-unusable"
    assert "records.db" in caught.value.message


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
