"""Records of neighbours that are kept together: found as if each had a row, and taken apart where they must be."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftx import limits
from ftx.disk.namerecord import NameKey, NameRecord, PathRecord
from ftx.disk.records import Records
from ftx.errors import FtxError

PEER, OTHER = b"p" * 32, b"o" * 32
MANY = 2 * limits.SEGMENT_LEAST


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of a folder."""
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


class Clock:
    """A second passes whenever somebody looks."""

    now = 1_000_000_000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """The folder of the database."""
    with opened(tmp_path) as fd:
        yield fd


@pytest.fixture
def records(folder: int) -> Iterator[Records]:
    """An open database."""
    database = Records(folder, Clock())
    database.check()
    yield database
    database.close()


def record(number: int, size: int = 5) -> NameRecord:
    """One that is told from others by its inode number."""
    return NameRecord(b"final", number, size, -17, 3, 99, b"d" * 32, 0o644)


def some(above: bytes = b"x/", count: int = MANY, first: int = 0) -> list[PathRecord]:
    """Neighbours."""
    return [(above + b"%04d" % number, record(number + 1)) for number in range(first, first + count)]


def keys(found: list[PathRecord]) -> list[NameKey]:
    """What they are found by."""
    return [(path, one.size, one.mtime_ns) for path, one in found]


def store(records: Records, found: list[PathRecord], peer: bytes = PEER) -> None:
    """What a job does with a batch."""
    records.fulfil(records.intend(peer, found), peer, found)
    records.flush()


def held(folder: Path) -> tuple[int, int]:
    """Segments and rows in a database that nobody uses."""
    with contextlib.closing(sqlite3.connect(folder / "records.db")) as connection:
        disjoint(connection)
        (segments,), (rows,) = (
            connection.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("segments", "names")
        )
        return segments, rows


def disjoint(connection: sqlite3.Connection) -> None:
    """Segments of a folder do not overlap, and say rightly what they have."""
    before: tuple[bytes, bytes, bytes] = b"", b"", b""
    query = "SELECT peer, folder, first, last, count FROM segments ORDER BY peer, folder, first"
    for peer, folder, first, last, count in connection.execute(query):
        assert first <= last
        assert count >= limits.SEGMENT_LEAST
        if before[:2] == (peer, folder):
            assert before[2] < first
        before = peer, folder, last


def test_neighbours_that_came_together_need_one_row(records: Records, folder: int, tmp_path: Path) -> None:
    """By this process and the next, each is found by its peer only, in any order, with what is there of others."""
    store(records, some() + some(b"", 3) + some(b"x/y/", MANY))
    store(records, some(b"x/", MANY, MANY))
    wanted = some(b"x/", 2 * MANY) + some(b"", 3) + some(b"x/y/", MANY)
    for _ in range(2):
        for asked in (wanted, wanted[::-1], wanted[::7], wanted[3:4]):
            assert records.find(PEER, keys(asked)) == [one for _, one in asked]
            assert records.find(OTHER, keys(asked)) == [None] * len(asked)
        unknown = [(b"x/0001", 6, -17), (b"x/0001a", 5, -17), (b"x", 5, -17), (b"x/y", 0, 0), (b"zz", 5, -17)]
        assert records.find(PEER, unknown) == [None] * 5
        assert records.versions(PEER, b"x/0007") == records.same_content(PEER, b"x/0007", 5, b"d" * 32) == [record(8)]
        assert records.same_content(PEER, b"x/0007", 5, b"e" * 32) == []
        records.close()
        assert held(tmp_path) == (3, 3)
        records = Records(folder)
    records.close()


def test_few_have_rows(records: Records, tmp_path: Path) -> None:
    """One short of enough, in two folders, are no neighbours."""
    store(records, some(b"x/", limits.SEGMENT_LEAST - 1) + some(b"y/", limits.SEGMENT_LEAST - 1))
    records.close()
    assert held(tmp_path) == (0, 2 * limits.SEGMENT_LEAST - 2)


def test_folders_whose_order_is_another_with_a_slash(records: Records) -> None:
    """`a.b` is after `a`, and `a.b/` before `a/`: both are found when both are asked for."""
    every = some(b"a/") + some(b"a.b/") + some(b"b/", 1)
    store(records, every)
    for asked in (every, every[::-1], every[: MANY + 1], every[MANY - 1 : MANY + 1]):
        assert records.find(PEER, keys(asked)) == [one for _, one in asked]
    assert records.find(PEER, [(b"a!/0001", 5, -17), (b"a-/0001", 5, -17)]) == [None, None]


def test_a_segment_has_a_bound(records: Records, tmp_path: Path) -> None:
    """What is more begins another one."""
    store(records, some(b"x/", limits.SEGMENT + limits.SEGMENT_LEAST))
    records.close()
    assert held(tmp_path) == (2, 0)


def test_what_lies_between_others_has_rows(records: Records, tmp_path: Path) -> None:
    """So there is always at most one segment in which a name may be."""
    every = some(b"x/", 3 * MANY)
    store(records, every[::3])
    store(records, every[1::3])
    store(records, every[2::3])
    assert records.find(PEER, keys(every)) == [one for _, one in every]
    records.close()
    assert held(tmp_path) == (1, 2 * MANY)


@pytest.mark.parametrize("number", [0, 7, MANY - 1])
def test_a_later_word_on_one_of_them(records: Records, tmp_path: Path, number: int) -> None:
    """It counts, whether written, settled or forgotten; the others stay what they were, and other segments whole."""
    every = some(b"x/", 3 * MANY)
    for start in range(0, 3 * MANY, MANY):
        store(records, every[start : start + MANY])
    at = MANY + number
    path, _ = every[at]
    records.write(PEER, [(path, record(5000))])
    assert records.find(PEER, keys(every)) == [
        record(5000) if place == at else one for place, (_, one) in enumerate(every)
    ]
    records.settle(PEER, [(path, record(5001))])
    records.flush()
    assert records.find(PEER, keys(every)[at : at + 1]) == [record(5001)]
    records.forget(PEER, [keys(every)[at]])
    assert records.find(PEER, keys(every)) == [None if place == at else one for place, (_, one) in enumerate(every)]
    records.close()
    assert held(tmp_path) == (2, MANY - 1)


def test_the_last_word_counts_where_one_segment_ends(records: Records) -> None:
    """Although what comes before in order of names needs rows, and what comes after does not."""
    every = some(b"x/", limits.SEGMENT + limits.SEGMENT_LEAST)
    store(records, every[: limits.SEGMENT_LEAST])
    records.settle(PEER, every[: limits.SEGMENT])
    at = limits.SEGMENT - 1
    later = [(path, record(5000 + number)) for number, (path, _) in enumerate(every[at:])]
    records.settle(PEER, later)
    records.flush()
    expected = [one for _, one in every[:at] + later]
    assert records.find(PEER, keys(every)) == expected
    assert records.versions(PEER, every[at][0]) == [record(5000)]


def test_what_is_not_asked_for_is_not_kept(records: Records) -> None:
    """Files far from each other are found in as many segments, without all that is in them at once."""
    above = b"/".join([b"a long folder " * 10] * 10) + b"/"
    every = some(above, 16 * limits.SEGMENT)
    store(records, every)
    asked = every[:: limits.SEGMENT]
    tracemalloc.start()
    try:
        assert records.find(PEER, keys(asked)) == [one for _, one in asked]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * limits.SEGMENT * len(above)


def test_forgotten_where_it_is(records: Records, tmp_path: Path) -> None:
    """Also what only waits, and what no segment has although it might."""
    every = some()
    records.fulfil(records.intend(PEER, every), PEER, every)
    records.forget(PEER, keys(every)[3:4])
    assert records.find(PEER, keys(every)[2:5]) == [record(3), None, record(5)]
    store(records, some(b"y/"))
    records.forget(PEER, [(b"y/0000a", 5, -17)])
    records.close()
    assert held(tmp_path) == (1, MANY - 1)


def test_versions_of_a_path_in_a_segment_and_in_rows(records: Records, tmp_path: Path) -> None:
    """Latest first, and never many more than the latest of a path."""
    first = some()
    for size in range(limits.NAME_VERSIONS + 5):
        store(records, [(path, record(100 * size + number, size)) for number, (path, _) in enumerate(first)])
    versions = records.versions(PEER, b"x/0002")
    assert limits.NAME_VERSIONS <= len(versions) <= limits.NAME_VERSIONS + 1
    assert [one.size for one in versions] == list(range(limits.NAME_VERSIONS + 4, -1, -1))[: len(versions)]
    records.close()
    assert held(tmp_path)[1] <= MANY * (limits.NAME_VERSIONS + 1)


def test_prune_takes_the_oldest_of_segments_and_rows(records: Records) -> None:
    """By when they were stored, whatever they are kept in."""
    store(records, some(b"a/"))
    records.write(PEER, some(b"b/", 4))
    store(records, some(b"c/"), OTHER)
    assert records.prune(2 * MANY + 4) == 0
    assert records.prune(MANY + 6) == MANY - 2
    left = records.find(PEER, keys(some(b"a/")))
    assert sum(one is not None for one in left) == 2
    assert records.prune(MANY + 1) == 5
    assert records.find(PEER, keys(some(b"a/") + some(b"b/", 4)))[:MANY] == [None] * MANY
    assert sum(one is not None for one in records.find(PEER, keys(some(b"b/", 4)))) == 1
    assert records.find(OTHER, keys(some(b"c/"))) == [one for _, one in some(b"c/")]
    assert records.prune(1) == MANY
    assert sum(one is not None for one in records.find(OTHER, keys(some(b"c/")))) == 1


def test_outcomes_of_a_process_that_ended(records: Records, folder: int, tmp_path: Path) -> None:
    """Its intents are pending records; they are kept together as well."""
    records.intend(PEER, some())
    assert records._connection is not None
    records._connection.close()
    records._connection = None
    again = Records(folder)
    again.check()
    assert again.find(PEER, keys(some())) == [one for _, one in some()]
    again.close()
    assert held(tmp_path) == (1, 0)


@pytest.mark.parametrize("body", [b"", b"no records", b"\x91\x92\xc4\x01a\x90"])
def test_a_segment_that_cannot_be_read(records: Records, tmp_path: Path, body: bytes) -> None:
    """It is one of our errors, and nothing is forgotten."""
    store(records, some())
    records.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "records.db")) as connection, connection:
        connection.execute("UPDATE segments SET records = ?", (body,))
    for ask in (
        lambda: records.find(PEER, keys(some())),
        lambda: records.versions(PEER, b"x/0003"),
        lambda: records.write(PEER, some()),
    ):
        with pytest.raises(FtxError) as caught:
            ask()
        assert caught.value.name == "storage-failed"
    records.close()
    assert held(tmp_path) == (1, 0)


def test_records_of_version_5(records: Records, folder: int, tmp_path: Path) -> None:
    """They get what they lack, and nothing else changes."""
    records.write(PEER, some())
    records.intend(PEER, some(b"y/"))
    records.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "records.db")) as older, older:
        older.executescript("DROP TABLE segments; PRAGMA user_version = 5;")
    again = Records(folder)
    assert again.find(PEER, keys(some() + some(b"y/"))) == [one for _, one in some() + some(b"y/")]
    again.close()
    assert held(tmp_path) == (1, MANY)


NAMES = st.integers(0, 40).map(b"%02d".__mod__)
PATHS = st.builds(bytes.__add__, st.sampled_from([b"", b"d/", b"d/e/", b"d2/", b"d.e/"]), NAMES)
BATCH = st.lists(st.tuples(PATHS, st.integers(1, 3)), min_size=1, max_size=30, unique_by=lambda one: one[0])
STEPS = st.lists(
    st.tuples(st.sampled_from(["store", "store", "store", "settle", "write", "forget", "again", "ask"]), BATCH),
    max_size=25,
)


@settings(max_examples=50)
@given(steps=STEPS)
def test_as_if_each_had_a_row(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, list[tuple[bytes, int]]]]
) -> None:
    """Whatever is stored, completed, written, forgotten and asked for, in any order, by one process or several."""
    with pytest.MonkeyPatch.context() as patch, opened(tmp_path_factory.mktemp("records")) as folder:
        patch.setattr(limits, "SEGMENT_LEAST", 3)
        patch.setattr(limits, "SEGMENT", 8)
        records, known, inode = Records(folder, Clock()), dict[NameKey, NameRecord](), 0
        for what, batch in steps:
            found = [(path, record(inode := inode + 1, size)) for path, size in batch]
            if what == "store":
                records.fulfil(records.intend(PEER, found), PEER, found[1:])
                known.update(zip(keys(found)[1:], [one for _, one in found[1:]], strict=True))
            elif what == "settle":
                found = [(path, one) for path, one in found if (path, one.size, one.mtime_ns) in known]
                records.settle(PEER, found)
                known.update(zip(keys(found), [one for _, one in found], strict=True))
            elif what == "write":
                records.write(PEER, found)
                known.update(zip(keys(found), [one for _, one in found], strict=True))
            elif what == "forget":
                records.forget(PEER, keys(found))
                known = {key: one for key, one in known.items() if key not in keys(found)}
            elif what == "again":
                records.close()
                records = Records(folder, Clock())
            asked = keys(found)
            assert records.find(PEER, asked) == [known.get(key) for key in asked]
            if what == "ask":
                for path, _ in batch[:3]:
                    versions = {one.size: one for one in records.versions(PEER, path)}
                    assert versions == {size: one for (where, size, _), one in known.items() if where == path}
        records.flush()
        assert records.find(PEER, list(known)) == list(known.values())
        if records._connection is not None:
            disjoint(records._connection)
            (size,) = records._connection.execute("SELECT coalesce(sum(count), 0) FROM segments").fetchone()
            assert size + records._connection.execute("SELECT count(*) FROM names").fetchone()[0] >= len(known)
        records.close()
