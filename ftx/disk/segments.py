"""Records of neighbours kept together: one row for files of one folder that were stored together.

What most transfers bring is asked for again together or not at all, and a row for each file with its index costs many
times what one row for all of them costs. The table and its rules are specified in `docs/storage.md`, "Records": the
segments of a folder do not overlap, and what a segment says is later than what a row of its own says.

For `ftx.disk.records`, which calls this with its connection and its lock held; sqlite3.Error as it comes, and
sqlite3.DatabaseError for a segment that cannot be read.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final

from ftx import limits
from ftx.disk.namerecord import PathRecord, keyed, packed, unpacked

__all__ = ["SCHEMA", "count", "put", "take", "take_oldest", "those_of"]

#: For a database that has everything else already.
SCHEMA: Final = """
CREATE TABLE segments (
    id INTEGER PRIMARY KEY, peer BLOB NOT NULL, folder BLOB NOT NULL, first BLOB NOT NULL, last BLOB NOT NULL,
    count INTEGER NOT NULL, stored INTEGER NOT NULL, records BLOB NOT NULL
);
CREATE UNIQUE INDEX segments_by_name ON segments (peer, folder, first, last);
"""
_PUT: Final = "INSERT INTO segments (peer, folder, first, last, count, stored, records) VALUES (?, ?, ?, ?, ?, ?, ?)"
#: Those that have anything from name ?3 to name ?4, and perhaps one before them.
_NEAR: Final = """
SELECT id, first, last FROM segments WHERE peer = ?1 AND folder = ?2 AND first <= ?4 AND first >= coalesce(
    (SELECT first FROM segments WHERE peer = ?1 AND folder = ?2 AND first <= ?3 ORDER BY first DESC LIMIT 1), ?3
) ORDER BY first
"""
_ANY: Final = "SELECT 1 FROM segments WHERE peer = ? AND folder BETWEEN ? AND ? LIMIT 1"
_GET: Final = "SELECT folder, stored, records FROM segments WHERE id = ?"
_DROP: Final = "DELETE FROM segments WHERE id = ?"
_COUNT: Final = "SELECT coalesce(sum(count), 0) FROM segments"
_OLDEST: Final = "SELECT id, peer, count FROM segments ORDER BY stored, id"
_PATH: Final = itemgetter(0)


def put(connection: sqlite3.Connection, peer: bytes, records: Sequence[PathRecord], now: int) -> list[PathRecord]:
    """Keep `records` in segments, as stored in second `now`; returns those that need rows of their own instead.

    Those are files with few neighbours, and those between whose names there are others in a segment already. Of several
    records of one version the last counts, as with rows.
    """
    rest: list[PathRecord] = []
    for above, at in _by_folder([path for path, _ in records]).items():
        run = sorted([records[place] for place in at], key=_PATH)  # nearly always they are in order
        if len({path for path, _ in run}) < len(run):  # what is earlier must not be written later, as a row
            run = [(key[0], record) for key, record in dict(keyed(run)).items()]
        for start in range(0, len(run), limits.SEGMENT):
            some = run[start : start + limits.SEGMENT]
            if len(some) < limits.SEGMENT_LEAST or not _put(connection, peer, above, some, now):
                rest += some
    return rest


def _by_folder(paths: Sequence[bytes]) -> dict[bytes, list[int]]:
    """Where in `paths` those of each folder are; the folder as what all of them begin with."""
    folders: dict[bytes, list[int]] = {}
    at, count = 0, len(paths)
    while at < count:
        begun, path = at, paths[at]
        above = path[: path.rfind(b"/") + 1]
        cut = len(above)
        while at < count and (path := paths[at])[:cut] == above and b"/" not in path[cut:]:
            at += 1
        folders.setdefault(above, []).extend(range(begun, at))
    return folders


def _put(connection: sqlite3.Connection, peer: bytes, above: bytes, run: list[PathRecord], now: int) -> bool:
    """Keep neighbours, in order, in one segment, unless it would overlap another one."""
    cut = len(above)
    named = [(path[cut:], record) for path, record in run]
    first, last = named[0][0], named[-1][0]
    if any(end >= first for _, _, end in connection.execute(_NEAR, (peer, above[:-1], first, last))):
        return False
    # bytes are the one thing of which the module asks each time whether something adapts it, with an error inside
    blobs = [bytearray(one) for one in (peer, above[:-1], first, last)]
    connection.execute(_PUT, (*blobs, len(named), now, packed(named)))
    return True


def _near(connection: sqlite3.Connection, peer: bytes, paths: Sequence[bytes]) -> Iterator[int]:
    """Which segments may have records of `paths`, each once."""
    folders = _by_folder(paths)
    if len(folders) > 1:  # in a tree of small folders none has a segment, which need not be asked for each of them
        plain = [above[:-1] for above in folders]  # with the last "/" they would have another order
        if connection.execute(_ANY, (peer, min(plain), max(plain))).fetchone() is None:
            return
    for above, at in folders.items():
        cut = len(above)
        names = sorted([paths[place][cut:] for place in at])
        for number, first, last in connection.execute(_NEAR, (peer, above[:-1], names[0], names[-1])).fetchall():
            following = bisect_left(names, first)
            if following < len(names) and names[following] <= last:
                yield number


def _get(connection: sqlite3.Connection, number: int) -> tuple[int, list[PathRecord]]:
    """When segment `number` was stored, and what is in it."""
    folder, stored, body = connection.execute(_GET, (number,)).fetchone()
    above = folder + b"/" if folder else b""
    return stored, [(above + name, record) for name, record in unpacked(body)]


def those_of(
    connection: sqlite3.Connection, peer: bytes, paths: Sequence[bytes]
) -> Iterator[tuple[int, list[PathRecord]]]:
    """When each segment that has any of `paths` was stored, and what it has of these paths.

    What it has of others is let go of at once: each of `paths` may be in another segment, and names may be long.
    """
    wanted = set(paths)
    for number in _near(connection, peer, paths):
        stored, records = _get(connection, number)
        if found := [one for one in records if one[0] in wanted]:
            yield stored, found


def take(connection: sqlite3.Connection, peer: bytes, paths: Sequence[bytes]) -> Iterator[tuple[int, list[PathRecord]]]:
    """Remove the segments that have any of `paths`, one at a time: when each was stored, and what was in it."""
    wanted = set(paths)
    for number in list(_near(connection, peer, paths)):
        stored, records = _get(connection, number)
        if not wanted.isdisjoint(map(_PATH, records)):
            connection.execute(_DROP, (number,))
            yield stored, records


def take_oldest(connection: sqlite3.Connection, most: int) -> Iterator[tuple[bytes, int, list[PathRecord]]]:
    """Remove the oldest segments, one by one, until they had `most` records: peer, when stored, and what was in it."""
    for number, peer, size in connection.execute(_OLDEST).fetchall():
        if most <= 0:
            return
        most -= size
        stored, records = _get(connection, number)
        connection.execute(_DROP, (number,))
        yield peer, stored, records


def count(connection: sqlite3.Connection) -> int:
    """How many records are in segments."""
    return int(connection.execute(_COUNT).fetchone()[0])
