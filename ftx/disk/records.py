"""Name records and receipts: what was received, from whom, and under which name it is.

It is longer than other modules because it is one database with one lock.

One SQLite database, `records.db` in the inbox's private folder; the schema is specified in `docs/storage.md`,
"Records". It is the one file of an inbox that is opened by a path, because SQLite knows no other way: the path is
`/proc/self/fd/N/records.db`, N being the held descriptor of that folder, which is 0700 and ours, and SQLite is kept
from resolving it (`ftx.disk.sqlitevfs`). The connection is made at the first use, not at `open()`, because SQLite's
locks do not survive the fork of a daemon.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import itemgetter
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from ftx import limits
from ftx.disk import intents, remembered, sqlitevfs
from ftx.disk.fds import sync_folder
from ftx.errors import FtxError

__all__ = ["NameKey", "NameRecord", "Records"]

_APPLICATION_ID: Final = 0x66747831
_SCHEMA_VERSION: Final = 5
_FILE: Final = "records.db"
_SCHEMA: Final = f"""
CREATE TABLE names (
    peer BLOB NOT NULL, path BLOB NOT NULL, final BLOB NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, disk_ns INTEGER NOT NULL, ctime_ns INTEGER, digest BLOB, stored INTEGER NOT NULL,
    mode INTEGER, PRIMARY KEY (peer, path, size, mtime_ns)
) WITHOUT ROWID;
CREATE TABLE receipts (
    peer BLOB NOT NULL, job BLOB NOT NULL, body BLOB NOT NULL, stored INTEGER NOT NULL, PRIMARY KEY (peer, job)
) WITHOUT ROWID;
{remembered.SCHEMA}
{intents.SCHEMA}
"""
#: What older versions lack: one kept no permissions, two no block digests, none what is about to be published.
_RENEW: Final = {
    2: f"ALTER TABLE names ADD COLUMN mode INTEGER; {remembered.SCHEMA} {intents.SCHEMA}",
    3: f"{remembered.SCHEMA} {intents.SCHEMA}",
    4: intents.SCHEMA,
}
_COLUMNS: Final = "final, inode, size, mtime_ns, disk_ns, ctime_ns, digest, mode"
_KEY: Final = "peer = ? AND path = ? AND size = ? AND mtime_ns = ?"
_FIND: Final = f"SELECT path, {_COLUMNS} FROM names WHERE {_KEY}"
#: Whatever has a record from one path to another: entries come in order, so those of a batch are neighbours here, too.
_BETWEEN: Final = "peer = ? AND path BETWEEN ? AND ? LIMIT ?"
_NEIGHBOURS: Final = f"SELECT path, {_COLUMNS} FROM names WHERE {_BETWEEN}"
_CROWD: Final = f"SELECT count(*) FROM (SELECT 1 FROM names WHERE {_BETWEEN})"
#: Rows that are no keys of a batch and are read all the same, besides as many as it has keys.
_STRANGERS: Final = 64
_SAME: Final = (
    f"SELECT {_COLUMNS} FROM names"
    " WHERE peer = ? AND path = ? AND size = ? AND digest = ? ORDER BY stored DESC, mtime_ns DESC"
)
_VERSIONS: Final = (
    f"SELECT {_COLUMNS} FROM names"
    " WHERE peer = ? AND path = ? AND digest IS NOT NULL ORDER BY stored DESC, mtime_ns DESC"
)
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
_DAY: Final = 86400

#: Requested path joined with `/`, size and mtime_ns as offered (both 0 for a folder): one version of one file.
NameKey = tuple[bytes, int, int]

#: The key in a row that was found.
_ROW_KEY: Final = itemgetter(0, 3, 4)
T = TypeVar("T")


def _signed(number: int) -> int:
    """An unsigned 64-bit number as SQLite can keep it."""
    return number - 2**64 if number >= 2**63 else number


class NameRecord(Struct, frozen=True, gc=False, array_like=True):
    """One version of a received file, or a folder, of one peer.

    `final` is the last component of its name on disk, in the folder of the requested path; `inode` 0 is a folder about
    to be made. `mtime_ns` is as offered, `disk_ns` as the file system keeps it, `ctime_ns` None while pending.
    `digest` is the file digest, None for a folder; `mode` the permission bits that ftx gave the file, None where it did
    not. The order of the fields is that of the rows of intents.
    """

    final: bytes
    inode: int
    size: int
    mtime_ns: int
    disk_ns: int
    ctime_ns: int | None
    digest: bytes | None
    mode: int | None = None


def _key(path: bytes, record: NameRecord) -> NameKey:
    return path, record.size, record.mtime_ns


def _found(connection: sqlite3.Connection, peer: bytes, keys: Sequence[NameKey]) -> list[Any]:
    """The rows of `keys`, and perhaps others: all from the first to the last path, unless there are too many."""
    paths = [key[0] for key in keys]
    most = 2 * len(keys) + _STRANGERS
    rows = connection.execute(_NEIGHBOURS, (peer, min(paths), max(paths), most)).fetchall()
    if len(rows) < most:
        return rows
    return [row for key in keys for row in connection.execute(_FIND, (peer, *key))]


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _write(connection: sqlite3.Connection, peer: bytes, records: Iterable[tuple[bytes, NameRecord]], now: int) -> None:
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


def _crop(connection: sqlite3.Connection, peer: bytes, records: Sequence[tuple[bytes, NameRecord]]) -> None:
    """Leave the latest versions of each path just written. Nearly always there are too few rows to look closer."""
    paths = {path for path, _ in records}
    enough = len(paths) + limits.NAME_VERSIONS
    if paths and connection.execute(_CROWD, (peer, min(paths), max(paths), enough)).fetchone()[0] == enough:
        connection.executemany(_CROP, [(peer, *_key(path, record)) for path, record in records])


class _Newer(sqlite3.DatabaseError):
    """The database is one of a newer version."""


def _failure(error: sqlite3.Error) -> FtxError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return FtxError("no-space", "the records cannot be written: no space left")
    return FtxError("storage-failed", f"the records cannot be used: {error}")


class Records:
    """The database. Thread-safe: one lock around everything, held during commits.

    Every method raises FtxError `no-space` or `storage-failed`. Paths are requested paths, joined with `/`.
    """

    def __init__(self, folder_fd: int, clock: Callable[[], float] = time.time) -> None:
        """The database in the folder `folder_fd`, which stays the caller's; nothing is opened yet."""
        self._folder_fd = folder_fd
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._remembered = remembered.Remembered()
        #: Receipts kept since the start.
        self._saved = 0
        self._intents = intents.Intents(msgspec.msgpack.Decoder(list[tuple[bytes, NameRecord]]))
        #: By peer, what only completes records that a crash may leave pending; it goes with the next transaction.
        self._waiting: defaultdict[bytes, dict[NameKey, NameRecord]] = defaultdict(dict)
        #: Those of them that no row has yet, and the intents that go with them: they must not be lost.
        self._owed: set[tuple[bytes, NameKey]] = set()
        self._fulfilled: list[int] = []
        self._taken_up = False

    # -- opening ------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Make the database if there is none, and see that it can be used.

        FtxError `inbox-unusable` when it is damaged, of a newer version, or not ours to write.
        """
        try:
            connection = self._connect()
            try:
                size = os.stat(_FILE, dir_fd=self._folder_fd).st_size
                if size <= limits.RECORDS_CHECKED:
                    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                    if found != "ok":
                        raise sqlite3.DatabaseError(found)
            finally:
                connection.close()
            sync_folder(self._folder_fd)
        except (sqlite3.Error, OSError) as error:
            other = "update ftx, or " if isinstance(error, _Newer) else ""
            raise FtxError(
                "inbox-unusable",
                f"its records .ftx/{_FILE} cannot be used: {error}",
                f"{other}move .ftx/{_FILE} away: what was received before is then stored again under another name when "
                "sent",
            ) from error

    def _connect(self) -> sqlite3.Connection:
        # the held folder, whatever became of its name; SQLite itself would create a database anywhere
        folder = f"/proc/self/fd/{self._folder_fd}"
        os.stat(folder)
        held = f"?vfs={sqlitevfs.NAME}" if sqlitevfs.available() else ""
        name = f"file:{folder}/{_FILE}{held}"
        connection = sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            # what a statement of many rows would need to take itself back: files elsewhere are not ours to make
            connection.execute("PRAGMA temp_store = MEMORY")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version in _RENEW:
                connection.executescript(
                    f"BEGIN; {_RENEW[version]} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;"
                )
                version = _SCHEMA_VERSION
            if version not in (0, _SCHEMA_VERSION):
                newer = version > _SCHEMA_VERSION
                age = "newer" if newer else "older"
                kind = _Newer if newer else sqlite3.DatabaseError
                raise kind(f"made by {age} software (version {version}, not {_SCHEMA_VERSION})")
            if version == 0:
                connection.executescript(
                    f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION_ID};"
                    f" PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;"
                )
            elif connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                raise sqlite3.DatabaseError("not made by ftx")
            self._take_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _take_up(self, connection: sqlite3.Connection) -> None:
        """What an earlier process was about to publish when it ended becomes pending records, which are owed a row.

        Only once: what is found later is ours. Nothing is written yet, as the disk may be full.
        """
        if not self._taken_up:
            for number, peer, records in list(self._intents.left(connection)):
                self._owe(number, peer, records)
            self._taken_up = True

    def _owe(self, number: int, peer: bytes, records: Sequence[tuple[bytes, NameRecord]]) -> None:
        """These records get rows with the next transaction, in the place of intent `number`."""
        keys = [(_key(path, record), record) for path, record in records]
        self._waiting[peer].update(keys)
        self._owed.update([(peer, key) for key, _ in keys])
        self._fulfilled.append(number)

    def _use(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """Run `action` with the connection; the lock is held."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            return action(self._connection)
        except sqlite3.Error as error:
            raise _failure(error) from error
        except OSError as error:
            raise FtxError("storage-failed", f"the records cannot be opened: {error.strerror}") from error

    def _transact(self, action: Callable[[sqlite3.Connection], object] = lambda _: None) -> None:
        """One durable transaction: what waits, then `action`, whose records are newer; the lock is held."""

        def whole(connection: sqlite3.Connection) -> None:
            now = int(self._clock())
            with _transaction(connection):
                for peer, waiting in self._waiting.items():
                    records = [(key[0], record) for key, record in waiting.items()]
                    _write(connection, peer, records, now)
                    _crop(connection, peer, records)
                self._intents.drop(connection, self._fulfilled)
                action(connection)
            self._waiting.clear()
            self._owed.clear()
            self._fulfilled.clear()

        self._use(whole)

    # -- names --------------------------------------------------------------------------------------------

    def find(self, peer: bytes, keys: Sequence[NameKey]) -> list[NameRecord | None]:
        """The records of these versions of files of `peer`, in the same order."""

        if not keys:
            return []
        with self._lock:
            rows = self._use(lambda connection: _found(connection, peer, keys))
            known = dict(zip(map(_ROW_KEY, rows), rows, strict=True))
            found = [
                None if row is None else NameRecord(row[1], row[2] % 2**64, *row[3:]) for row in map(known.get, keys)
            ]
            if waiting := self._waiting.get(peer):
                waits = waiting.get
                found = [waits(key, record) for key, record in zip(keys, found, strict=True)]
            return found

    def same_content(self, peer: bytes, path: bytes, size: int, digest: bytes) -> list[NameRecord]:
        """The versions of this file of `peer` that had this content, whatever their time, latest first."""
        return self._versions(peer, path, _SAME, (size, digest))

    def versions(self, peer: bytes, path: bytes) -> list[NameRecord]:
        """The versions of this file of `peer`, latest first."""
        return self._versions(peer, path, _VERSIONS, ())

    def _versions(self, peer: bytes, path: bytes, query: str, more: tuple[Any, ...]) -> list[NameRecord]:
        def action(connection: sqlite3.Connection) -> list[NameRecord]:
            rows = connection.execute(query, (peer, path, *more)).fetchall()
            found = [NameRecord(row[0], row[1] % 2**64, *row[2:]) for row in rows]
            waiting = self._waiting.get(peer, {})
            return [waiting.get(_key(path, record), record) for record in found]

        with self._lock:
            if self._owed:  # what has no row yet would not be found
                self._transact()
            return self._use(action)

    def write(
        self, peer: bytes, records: Sequence[tuple[bytes, NameRecord]], blocks: Sequence[tuple[NameKey, bytes]] = ()
    ) -> None:
        """Write these records (path, record) durably, in one transaction; of one path `limits.NAME_VERSIONS` stay.

        `blocks` are the joined block digests of some of them, to be remembered as long as there is room.
        """
        with self._lock:
            now = int(self._clock())

            def action(connection: sqlite3.Connection) -> None:
                _write(connection, peer, records, now)
                _crop(connection, peer, records)
                for key, digests in blocks:
                    self._remembered.put(connection, peer, key, digests)

            self._transact(action)

    def blocks(self, peer: bytes, path: bytes, record: NameRecord) -> bytes:
        """The block digests that are remembered of this version, joined, or nothing; its digest tells if they count."""
        with self._lock:
            return self._use(lambda connection: self._remembered.get(connection, peer, _key(path, record)))

    def forget_blocks(self, peer: bytes, path: bytes, record: NameRecord) -> None:
        """Remember none of this version, durably."""
        with self._lock:
            self._transact(lambda connection: self._remembered.drop(connection, peer, _key(path, record)))

    def settle(self, peer: bytes, records: Sequence[tuple[bytes, NameRecord]]) -> None:
        """Complete these records with the next transaction. Losing that costs a hashing, no more: never raises."""
        with self._lock:
            self._waiting[peer].update([(_key(path, record), record) for path, record in records])
            self._relieve()

    def intend(self, peer: bytes, records: Sequence[tuple[bytes, NameRecord]]) -> int:
        """Write, durably and in one transaction, what is about to be published; returns what to `fulfil()`.

        Until then no other job may ask for these paths of `peer`: no record tells of them yet.
        """
        with self._lock:
            numbers: list[int] = []
            self._transact(lambda connection: numbers.append(self._intents.put(connection, peer, records)))
            return numbers[0]

    def fulfil(self, number: int, peer: bytes, records: Sequence[tuple[bytes, NameRecord]]) -> None:
        """What came of an intent: its files that have their names, pending or complete. Others there are none.

        Rows tell of it with the next transaction; until then this process does. Never raises.
        """
        with self._lock:
            self._owe(number, peer, records)
            self._relieve()

    def _relieve(self) -> None:
        """Let no more wait than there may; the lock is held.

        Where it cannot be written, what costs a hashing goes. What is owed stays: it cannot become much more, because a
        new intent cannot be written then, either.
        """
        if sum(map(len, self._waiting.values())) > limits.PENDING_CONFIRMATIONS:
            try:
                self._transact()
            except FtxError:
                owed = [(peer, key, self._waiting[peer][key]) for peer, key in self._owed if key in self._waiting[peer]]
                self._waiting.clear()
                for peer, key, record in owed:
                    self._waiting[peer][key] = record

    def forget(self, peer: bytes, keys: Sequence[NameKey]) -> None:
        """Remove these records, durably."""
        with self._lock:
            waiting = self._waiting.get(peer, {})
            for key in keys:
                waiting.pop(key, None)
            self._transact(lambda connection: connection.executemany(_FORGET, [(peer, *key) for key in keys]))

    def flush(self) -> None:
        """Write what waits for a transaction."""
        with self._lock:
            if self._waiting or self._fulfilled:
                self._transact()

    # -- receipts -----------------------------------------------------------------------------------------

    def save_receipt(self, peer: bytes, job: bytes, body: bytes) -> None:
        """Keep a receipt, durably; now and then old ones go (`limits.STATE_DAYS`, `limits.RECEIPT_FILES`)."""
        now = int(self._clock())

        def action(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, ?)", (peer, job, body, now))
            self._saved += 1
            if self._saved % limits.UPKEEP_JOBS != 1:
                return
            connection.execute("DELETE FROM receipts WHERE stored < ?", (now - limits.STATE_DAYS * _DAY,))
            connection.execute(
                "DELETE FROM receipts WHERE (peer, job) IN"
                " (SELECT peer, job FROM receipts ORDER BY stored DESC LIMIT -1 OFFSET ?)",
                (limits.RECEIPT_FILES,),
            )

        with self._lock:
            self._transact(action)

    def receipt(self, peer: bytes, job: bytes) -> bytes | None:
        """The receipt of this job of `peer`, or None."""

        def action(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute("SELECT body FROM receipts WHERE peer = ? AND job = ?", (peer, job)).fetchone()
            return None if row is None else bytes(row[0])

        with self._lock:
            return self._use(action)

    # -- upkeep -------------------------------------------------------------------------------------------

    def prune(self, keep: int = limits.NAME_RECORDS) -> int:
        """Remove the oldest name records beyond `keep`; how many."""

        def count(connection: sqlite3.Connection) -> int:
            return int(connection.execute("SELECT count(*) FROM names").fetchone()[0])

        with self._lock:
            surplus = self._use(count) - keep
            if surplus <= 0:
                return 0
            self._transact(
                lambda connection: connection.execute(
                    "DELETE FROM names WHERE (peer, path, size, mtime_ns) IN"
                    " (SELECT peer, path, size, mtime_ns FROM names ORDER BY stored LIMIT ?)",
                    (surplus,),
                )
            )
            return surplus

    def close(self) -> None:
        """Write what waits and close the database; FtxError when that could not be written. May be called again."""
        with self._lock:
            try:
                if self._waiting or self._fulfilled:
                    self._transact()
            finally:
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
