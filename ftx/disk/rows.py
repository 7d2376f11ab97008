"""The table of names: a row for each record that has no neighbours to be kept with (`ftx.disk.segments`).

The table is specified in `docs/storage.md`, "Records". For `ftx.disk.records`, which calls this with its connection and
its lock held; sqlite3.Error as it comes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final

from ftx import limits
from ftx.disk.namerecord import NameKey, NameRecord, PathRecord, key_of

__all__ = ["SCHEMA", "count", "crop", "drop_oldest", "find", "forget", "versions", "write"]

SCHEMA: Final = """
CREATE TABLE names (
    peer BLOB NOT NULL, path BLOB NOT NULL, final BLOB NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, disk_ns INTEGER NOT NULL, ctime_ns INTEGER, digest BLOB, stored INTEGER NOT NULL,
    mode INTEGER, PRIMARY KEY (peer, path, size, mtime_ns)
) WITHOUT ROWID;
"""
_COLUMNS: Final = "final, inode, size, mtime_ns, disk_ns, ctime_ns, digest, mode"
_KEY: Final = "peer = ? AND path = ? AND size = ? AND mtime_ns = ?"
_FIND: Final = f"SELECT path, {_COLUMNS} FROM names WHERE {_KEY}"
#: Whatever has a record from one path to another: entries come in order, so those of a batch are neighbours here, too.
_BETWEEN: Final = "peer = ? AND path BETWEEN ? AND ? LIMIT ?"
_NEIGHBOURS: Final = f"SELECT path, {_COLUMNS} FROM names WHERE {_BETWEEN}"
_CROWD: Final = f"SELECT count(*) FROM (SELECT 1 FROM names WHERE {_BETWEEN})"
#: Rows that are no keys of a batch and are read all the same, besides as many as it has keys.
_STRANGERS: Final = 64
_VERSIONS: Final = f"SELECT stored, {_COLUMNS} FROM names WHERE peer = ? AND path = ?"
_OLDEST: Final = """
DELETE FROM names WHERE (peer, path, size, mtime_ns) IN
    (SELECT peer, path, size, mtime_ns FROM names ORDER BY stored LIMIT ?)
"""
#: A row. All of a statement have the same `peer` (?1) and `stored` (?2); what is not numbered follows from ?3 on.
_FIRST: Final = "(?1, ?3, ?, ?, ?, ?, ?, ?, ?, ?2, ?)"
_NEXT: Final = _FIRST.replace("?3", "?")
#: For so many rows at once, most first. The interpreter lock is let go of, and waited for, once for each statement.
_WRITE: Final = {
    rows: f"INSERT OR REPLACE INTO names VALUES {', '.join([_FIRST, *[_NEXT] * (rows - 1)])}" for rows in (64, 8, 1)
}
_FORGET: Final = f"DELETE FROM names WHERE {_KEY}"
#: Leaves the latest versions of a path (peer, path), and in any case the one just written (size, mtime_ns). Counting
#: first spares nearly all files the sorting.
_CROP: Final = f"""
DELETE FROM names WHERE peer = ?1 AND path = ?2
AND (SELECT count(*) FROM names WHERE peer = ?1 AND path = ?2) > {limits.NAME_VERSIONS}
AND (stored, size, mtime_ns) < (
    SELECT stored, size, mtime_ns FROM names WHERE peer = ?1 AND path = ?2
    ORDER BY stored DESC, size DESC, mtime_ns DESC LIMIT 1 OFFSET {limits.NAME_VERSIONS - 1}
) AND NOT (size = ?3 AND mtime_ns = ?4)
"""
#: The key in a row that was found.
_ROW_KEY: Final = itemgetter(0, 3, 4)


def _signed(number: int) -> int:
    """An unsigned 64-bit number as SQLite can keep it."""
    return number - 2**64 if number >= 2**63 else number


def find(connection: sqlite3.Connection, peer: bytes, keys: Sequence[NameKey]) -> dict[NameKey, NameRecord]:
    """The records of those of `keys`, which are not none, that have a row."""
    wanted = set(keys)
    rows = _found(connection, peer, keys)
    return {key: _record(row[1:]) for row in rows if (key := _ROW_KEY(row)) in wanted}


def _record(row: Sequence[Any]) -> NameRecord:
    return NameRecord(row[0], row[1] % 2**64, *row[2:])


def _found(connection: sqlite3.Connection, peer: bytes, keys: Sequence[NameKey]) -> list[Any]:
    """The rows of `keys`, and perhaps others: all from the first to the last path, unless there are too many."""
    paths = [key[0] for key in keys]
    most = 2 * len(keys) + _STRANGERS
    rows = connection.execute(_NEIGHBOURS, (peer, min(paths), max(paths), most)).fetchall()
    if len(rows) < most:
        return rows
    return [row for key in keys for row in connection.execute(_FIND, (peer, *key))]


def versions(connection: sqlite3.Connection, peer: bytes, path: bytes) -> list[tuple[int, NameRecord]]:
    """When they were stored, and the records of all versions of this file, in no order."""
    return [(row[0], _record(row[1:])) for row in connection.execute(_VERSIONS, (peer, path))]


def write(connection: sqlite3.Connection, peer: bytes, records: Iterable[PathRecord], now: int) -> None:
    """Write these, as stored in second `now`, in the place of what there was of the same versions."""
    # bytes are the one thing of which the module asks each time whether something adapts it, with an error inside
    rows = [
        (
            bytearray(path),
            bytearray(one.final),
            _signed(one.inode),
            one.size,
            one.mtime_ns,
            one.disk_ns,
            one.ctime_ns,
            None if one.digest is None else bytearray(one.digest),
            one.mode,
        )
        for path, one in records
    ]
    done = 0
    for count, statement in _WRITE.items():
        for _ in range((len(rows) - done) // count):
            connection.execute(statement, (peer, now, *chain.from_iterable(rows[done : done + count])))
            done += count


def crop(connection: sqlite3.Connection, peer: bytes, records: Sequence[PathRecord]) -> None:
    """Leave the latest versions of each path just written. Nearly always there are too few rows to look closer."""
    paths = {path for path, _ in records}
    enough = len(paths) + limits.NAME_VERSIONS
    if paths and connection.execute(_CROWD, (peer, min(paths), max(paths), enough)).fetchone()[0] == enough:
        connection.executemany(_CROP, [(peer, *key_of(path, record)) for path, record in records])


def forget(connection: sqlite3.Connection, peer: bytes, keys: Iterable[NameKey]) -> None:
    """Remove these."""
    connection.executemany(_FORGET, [(peer, *key) for key in keys])


def count(connection: sqlite3.Connection) -> int:
    """How many there are."""
    return int(connection.execute("SELECT count(*) FROM names").fetchone()[0])


def drop_oldest(connection: sqlite3.Connection, most: int) -> None:
    """Remove so many, those that were stored first."""
    connection.execute(_OLDEST, (most,))
