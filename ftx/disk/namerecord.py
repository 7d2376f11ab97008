"""What is known of a received file or folder, and what it is found by; `docs/storage.md`, "Records", has the rules."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

__all__ = ["NameKey", "NameRecord", "PathRecord", "key_of", "keyed", "packed", "unpacked"]

#: Requested path joined with `/`, size and mtime_ns as offered (both 0 for a folder): one version of one file.
NameKey = tuple[bytes, int, int]


class NameRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One version of a received file, or a folder, of one peer.

    `final` is the last component of its name on disk, in the folder of the requested path; `inode` 0 is a folder about
    to be made. `mtime_ns` is as offered, `disk_ns` as the file system keeps it, `ctime_ns` None while pending.
    `digest` is the file digest, None for a folder; `mode` the permission bits that ftx gave the file, None where it did
    not. The order of the fields is that of what intents and segments keep.
    """

    final: bytes
    inode: int
    size: int
    mtime_ns: int
    #: The time that the file system keeps, ns since 1970.
    disk_ns: int
    ctime_ns: int | None
    digest: bytes | None
    mode: int | None = None


#: A record with the requested path, joined with `/`.
PathRecord = tuple[bytes, NameRecord]
_DECODER: Final = msgspec.msgpack.Decoder(list[PathRecord])


def key_of(path: bytes, record: NameRecord) -> NameKey:
    """What the record of `path` is found by."""
    return path, record.size, record.mtime_ns


def keyed(records: Iterable[PathRecord]) -> list[tuple[NameKey, NameRecord]]:
    """Each of `records` with what it is found by."""
    return [((path, record.size, record.mtime_ns), record) for path, record in records]


def packed(records: Sequence[PathRecord]) -> bytearray:
    """`records` as one value of a row: MessagePack, an array of [path, [final, inode, and so on]]."""
    return bytearray(msgspec.msgpack.encode(records))


def unpacked(body: bytes) -> list[PathRecord]:
    """What `packed()` was given. sqlite3.DatabaseError for anything else: the database is damaged then."""
    try:
        return _DECODER.decode(body)
    except msgspec.MsgspecError as error:
        raise sqlite3.DatabaseError(f"what is kept of names together cannot be read: {error}") from error
