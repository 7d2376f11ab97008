"""What is about to be published, a batch at a time: written before the names are, and gone once their records are.

A row for each file would be written twice, before and after it got its name, which is most of what the records cost
with small files. So before there is one row for all of them, which nobody reads unless the process ends in between;
the table and what happens then are specified in `docs/storage.md`, "Records".

For `ftx.disk.records`, which calls this with its connection and its lock held; sqlite3.Error as it comes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from ftx.disk.namerecord import PathRecord, packed, unpacked

__all__ = ["SCHEMA", "drop", "left", "put"]

#: For a database that has everything else already.
SCHEMA: Final = """
CREATE TABLE intents (
    id INTEGER PRIMARY KEY, peer BLOB NOT NULL, records BLOB NOT NULL
);
"""
_PUT: Final = "INSERT INTO intents (peer, records) VALUES (?, ?)"
_DROP: Final = "DELETE FROM intents WHERE id = ?"
_ALL: Final = "SELECT id, peer, records FROM intents ORDER BY id"


def put(connection: sqlite3.Connection, peer: bytes, records: Sequence[PathRecord]) -> int:
    """Keep what shall become of these paths; returns what to `drop()`."""
    return int(connection.execute(_PUT, (bytearray(peer), packed(records))).lastrowid or 0)


def drop(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Forget these."""
    connection.executemany(_DROP, [(number,) for number in numbers])


def left(connection: sqlite3.Connection) -> Iterator[tuple[int, bytes, list[PathRecord]]]:
    """Those there are, oldest first: what to `drop()`, peer, records.

    sqlite3.DatabaseError also for one that cannot be read: then the database is damaged.
    """
    for number, peer, body in connection.execute(_ALL).fetchall():
        yield number, bytes(peer), unpacked(body)
