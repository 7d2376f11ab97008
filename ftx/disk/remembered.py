"""Block digests of stored files, beside their records: an unchanged older copy need not be read to be offered.

The table and what bounds it are specified in `docs/storage.md`, "Block digests". Nothing here is believed for being
there: whoever takes digests out compares the file digest that they make with the record's.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from ftx import limits

__all__ = ["SCHEMA", "Remembered"]

#: For a database that has the table of names already.
SCHEMA: Final = """
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY, peer BLOB NOT NULL, path BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    digests BLOB NOT NULL, UNIQUE (peer, path, size, mtime_ns)
);
CREATE TRIGGER forgotten AFTER DELETE ON names BEGIN
    DELETE FROM blocks
    WHERE peer = OLD.peer AND path = OLD.path AND size = OLD.size AND mtime_ns = OLD.mtime_ns;
END;
"""
#: Bytes that a row counts beside its digests and, twice, its path.
_ROW: Final = 256
_COST: Final = f"length(digests) + 2 * length(path) + {_ROW}"
_PUT: Final = "INSERT OR REPLACE INTO blocks (peer, path, size, mtime_ns, digests) VALUES (?, ?, ?, ?, ?)"
_KEY: Final = "peer = ? AND path = ? AND size = ? AND mtime_ns = ?"
_GET: Final = f"SELECT digests FROM blocks WHERE {_KEY}"
_DROP: Final = f"DELETE FROM blocks WHERE {_KEY}"
_TOTAL: Final = f"SELECT coalesce(sum({_COST}), 0) FROM blocks"
#: Leaves the latest rows that together cost no more than this.
_CROP: Final = f"""
DELETE FROM blocks WHERE id <= (
    SELECT id FROM (SELECT id, sum({_COST}) OVER (ORDER BY id DESC) AS total FROM blocks)
    WHERE total > ? ORDER BY id DESC LIMIT 1
)
"""
#: So much is left when there was too much: all rows are looked at for that, which is not to be done each time.
_LEFT: Final = 7 / 8


class Remembered:
    """The digests in the database of a `Records`, which calls this with its connection and its lock held."""

    __slots__ = ("_most", "_total")

    def __init__(self, most: int = limits.REMEMBERED) -> None:
        """At most `most` bytes, as `docs/storage.md` counts them."""
        self._most = most
        #: What all rows cost, or more: what goes with its record is not subtracted. None before the first is put here.
        self._total: int | None = None

    def put(self, connection: sqlite3.Connection, peer: bytes, key: tuple[bytes, int, int], digests: bytes) -> None:
        """Remember `digests` for the record of this version (path, size, time); the oldest give way.

        sqlite3.Error as it comes.
        """
        if self._total is None:
            self._total = int(connection.execute(_TOTAL).fetchone()[0])
        connection.execute(_PUT, (peer, *key, digests))
        self._total += len(digests) + 2 * len(key[0]) + _ROW
        if self._total > self._most:
            connection.execute(_CROP, (int(self._most * _LEFT),))
            self._total = None  # and not what it is now: the transaction may yet be taken back

    @staticmethod
    def get(connection: sqlite3.Connection, peer: bytes, key: tuple[bytes, int, int]) -> bytes:
        """What is remembered for this version; empty if nothing is."""
        row = connection.execute(_GET, (peer, *key)).fetchone()
        # in a damaged database it may be of any type, and bytes() of a number are as many
        return row[0] if row is not None and isinstance(row[0], bytes) else b""

    @staticmethod
    def drop(connection: sqlite3.Connection, peer: bytes, key: tuple[bytes, int, int]) -> None:
        """Remember nothing for this version."""
        connection.execute(_DROP, (peer, *key))
