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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Final, TypeVar

from ftx import limits
from ftx.disk import intents, remembered, rows, segments, sqlitevfs
from ftx.disk.fds import sync_folder
from ftx.disk.namerecord import NameKey, NameRecord, PathRecord, key_of, keyed
from ftx.disk.unwritten import Unwritten
from ftx.errors import FtxError

__all__ = ["Records"]

_APPLICATION_ID: Final = 0x66747831
_SCHEMA_VERSION: Final = 6
_FILE: Final = "records.db"
_SCHEMA: Final = f"""
{rows.SCHEMA}
CREATE TABLE receipts (
    peer BLOB NOT NULL, job BLOB NOT NULL, body BLOB NOT NULL, stored INTEGER NOT NULL, PRIMARY KEY (peer, job)
) WITHOUT ROWID;
{remembered.SCHEMA}
{intents.SCHEMA}
{segments.SCHEMA}
"""
#: What older versions lack: permissions, block digests, what is about to be published, records kept together.
_RENEW: Final = {
    2: f"ALTER TABLE names ADD COLUMN mode INTEGER; {remembered.SCHEMA} {intents.SCHEMA} {segments.SCHEMA}",
    3: f"{remembered.SCHEMA} {intents.SCHEMA} {segments.SCHEMA}",
    4: f"{intents.SCHEMA} {segments.SCHEMA}",
    5: segments.SCHEMA,
}
_DAY: Final = 86400

T = TypeVar("T")


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


def _unfold(connection: sqlite3.Connection, peer: bytes, paths: Sequence[bytes]) -> None:
    """Give a row to each record of the segments that have any of `paths`."""
    for stored, together in segments.take(connection, peer, paths):
        rows.write(connection, peer, together, stored)
        rows.crop(connection, peer, together)


def _write_rows(connection: sqlite3.Connection, peer: bytes, records: Sequence[PathRecord], now: int) -> None:
    """Write rows that are the latest word on these paths: of what they say no segment may say anything else."""
    _unfold(connection, peer, [path for path, _ in records])
    rows.write(connection, peer, records, now)
    rows.crop(connection, peer, records)


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
        #: What goes with the next transaction.
        self._unwritten = Unwritten()
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
                connection.executescript(f"BEGIN; {_RENEW[version]} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
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
            for number, peer, records in list(intents.left(connection)):
                self._unwritten.add(peer, records, number)
            self._taken_up = True

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
                for peer, records in self._unwritten.by_peer().items():
                    if rest := segments.put(connection, peer, records, now):
                        _write_rows(connection, peer, rest, now)
                intents.drop(connection, self._unwritten.fulfilled)
                action(connection)
            self._unwritten.clear()

        self._use(whole)

    # -- names --------------------------------------------------------------------------------------------

    def find(self, peer: bytes, keys: Sequence[NameKey]) -> list[NameRecord | None]:
        """The records of these versions of files of `peer`, in the same order."""

        if not keys:
            return []

        def action(connection: sqlite3.Connection) -> dict[NameKey, NameRecord]:
            found = rows.find(connection, peer, keys)
            for _, together in segments.those_of(connection, peer, [path for path, _, _ in keys]):
                found.update(keyed(together))
            return found

        with self._lock:
            known = self._use(action)
            found = list(map(known.get, keys))
            if waiting := self._unwritten.known(peer):
                found = [waiting.get(key, record) for key, record in zip(keys, found, strict=True)]
            return found

    def same_content(self, peer: bytes, path: bytes, size: int, digest: bytes) -> list[NameRecord]:
        """The versions of this file of `peer` that had this content, whatever their time, latest first."""
        return [one for one in self.versions(peer, path) if (one.size, one.digest) == (size, digest)]

    def versions(self, peer: bytes, path: bytes) -> list[NameRecord]:
        """The versions of this file of `peer`, latest first."""

        def action(connection: sqlite3.Connection) -> list[tuple[int, int, NameRecord]]:
            known = {key_of(path, record): (stored, record) for stored, record in rows.versions(connection, peer, path)}
            for stored, together in segments.those_of(connection, peer, [path]):
                known.update([(key_of(path, record), (stored, record)) for _, record in together])
            waiting = self._unwritten.known(peer)
            return [(stored, key[2], waiting.get(key, record)) for key, (stored, record) in known.items()]

        with self._lock:
            if self._unwritten.owed:  # what the database knows nothing of has no time yet at which it was stored
                self._transact()
            found = sorted(self._use(action), key=itemgetter(0, 1), reverse=True)
            return [record for _, _, record in found if record.digest is not None]

    def write(self, peer: bytes, records: Sequence[PathRecord], blocks: Sequence[tuple[NameKey, bytes]] = ()) -> None:
        """Write these records (path, record) durably, in one transaction; of one path `limits.NAME_VERSIONS` stay.

        `blocks` are the joined block digests of some of them, to be remembered as long as there is room.
        """
        with self._lock:
            now = int(self._clock())

            def action(connection: sqlite3.Connection) -> None:
                _write_rows(connection, peer, records, now)
                for key, digests in blocks:
                    self._remembered.put(connection, peer, key, digests)

            self._transact(action)

    def blocks(self, peer: bytes, path: bytes, record: NameRecord) -> bytes:
        """The block digests that are remembered of this version, joined, or nothing; its digest tells if they count."""
        with self._lock:
            return self._use(lambda connection: self._remembered.get(connection, peer, key_of(path, record)))

    def forget_blocks(self, peer: bytes, path: bytes, record: NameRecord) -> None:
        """Remember none of this version, durably."""
        with self._lock:
            self._transact(lambda connection: self._remembered.drop(connection, peer, key_of(path, record)))

    def settle(self, peer: bytes, records: Sequence[PathRecord]) -> None:
        """Complete these records with the next transaction. Losing that costs a hashing, no more: never raises."""
        with self._lock:
            self._unwritten.add(peer, records)
            self._relieve()

    def intend(self, peer: bytes, records: Sequence[PathRecord]) -> int:
        """Write, durably and in one transaction, what is about to be published; returns what to `fulfil()`.

        Until then no other job may ask for these paths of `peer`: no record tells of them yet.
        """
        with self._lock:
            numbers: list[int] = []
            self._transact(lambda connection: numbers.append(intents.put(connection, peer, records)))
            return numbers[0]

    def fulfil(self, number: int, peer: bytes, records: Sequence[PathRecord]) -> None:
        """What came of an intent: its files that have their names, pending or complete. Others there are none.

        The database tells of it with the next transaction; until then this process does. Never raises.
        """
        with self._lock:
            self._unwritten.add(peer, records, number)
            self._relieve()

    def _relieve(self) -> None:
        """Let no more wait than there may; the lock is held.

        Where it cannot be written, what costs a hashing goes. What is owed stays: it cannot become much more, because a
        new intent cannot be written then, either.
        """
        if len(self._unwritten) > limits.PENDING_CONFIRMATIONS:
            try:
                self._transact()
            except FtxError:
                self._unwritten.keep_owed()

    def forget(self, peer: bytes, keys: Sequence[NameKey]) -> None:
        """Remove these records, durably."""

        def action(connection: sqlite3.Connection) -> None:
            _unfold(connection, peer, [path for path, _, _ in keys])
            rows.forget(connection, peer, keys)

        with self._lock:
            self._transact(action)

    def flush(self) -> None:
        """Write what waits for a transaction."""
        with self._lock:
            if self._unwritten:
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

        def action(connection: sqlite3.Connection) -> None:
            for peer, stored, together in segments.take_oldest(connection, surplus):
                rows.write(connection, peer, together, stored)
            rows.drop_oldest(connection, surplus)

        with self._lock:
            surplus = self._use(lambda connection: rows.count(connection) + segments.count(connection)) - keep
            if surplus > 0:
                self._transact(action)
            return max(surplus, 0)

    def close(self) -> None:
        """Write what waits and close the database; FtxError when that could not be written. May be called again."""
        with self._lock:
            try:
                if self._unwritten:
                    self._transact()
            finally:
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
