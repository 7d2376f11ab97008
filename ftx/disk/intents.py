"""What is about to be published, a batch at a time: written before the names are, and gone once their records are.

A row for each file would be written twice, before and after it got its name, which is most of what the records cost
with small files. So before there is one row for all of them, which nobody reads unless the process ends in between;
the table and what happens then are specified in `docs/storage.md`, "Records".
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final, Generic, TypeVar

import msgspec

__all__ = ["SCHEMA", "Intents"]

#: For a database that has everything else already.
SCHEMA: Final = """
CREATE TABLE intents (
    id INTEGER PRIMARY KEY, peer BLOB NOT NULL, records BLOB NOT NULL
);
"""
_PUT: Final = "INSERT INTO intents (peer, records) VALUES (?, ?)"
_DROP: Final = "DELETE FROM intents WHERE id = ?"
_ALL: Final = "SELECT id, peer, records FROM intents ORDER BY id"

T = TypeVar("T")


class Intents(Generic[T]):
    """The rows in the database of a `Records`, which calls this with its connection and its lock held.

    sqlite3.Error as it comes, from all methods.
    """

    def __init__(self, decoder: msgspec.msgpack.Decoder[list[tuple[bytes, T]]]) -> None:
        """Of the records that `decoder` makes: each has its path."""
        self._decoder = decoder

    def put(self, connection: sqlite3.Connection, peer: bytes, records: Sequence[tuple[bytes, T]]) -> int:
        """Keep what shall become of these paths; returns what to `drop()`."""
        body = bytearray(msgspec.msgpack.encode(records))
        return int(connection.execute(_PUT, (bytearray(peer), body)).lastrowid or 0)

    def drop(self, connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
        """Forget these."""
        connection.executemany(_DROP, [(number,) for number in numbers])

    def left(self, connection: sqlite3.Connection) -> Iterator[tuple[int, bytes, list[tuple[bytes, T]]]]:
        """Those there are, oldest first: what to `drop()`, peer, records.

        sqlite3.DatabaseError also for one that cannot be read: then the database is damaged.
        """
        for number, peer, body in connection.execute(_ALL).fetchall():
            try:
                yield number, bytes(peer), self._decoder.decode(body)
            except msgspec.MsgspecError as error:
                raise sqlite3.DatabaseError(f"what was about to be published cannot be read: {error}") from error
