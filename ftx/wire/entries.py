"""Messages about the entries of a job: announced, asked for, closed, and what became of them (sections 5, 7 and 8)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ftx import limits
from ftx.wire.fields import (
    Bitmap,
    Component,
    Count,
    Digest,
    Entry,
    ErrorNumber,
    Message,
    Mode,
    Number,
    Time,
    WirePath,
)

__all__ = [
    "Basis",
    "DigestedEntry",
    "EntryEnd",
    "EntryFailed",
    "Failed",
    "FileEntry",
    "FolderEnd",
    "FolderEntry",
    "Identical",
    "Manifest",
    "Needs",
    "PipeEntry",
    "Results",
    "Skipped",
    "Stored",
    "SymlinkEntry",
    "WantAgain",
    "WantAll",
    "WantGroup",
    "Wanted",
]


class FileEntry(Entry, tag=0, frozen=True):
    """A file in the manifest."""

    number: Number
    path: WirePath
    size: Count
    mtime: Time
    mode: Mode


class DigestedEntry(FileEntry, tag=4, frozen=True):
    """A file in the manifest, with the digest of its content (feature `checksum`)."""

    digest: Digest


class PipeEntry(Entry, tag=5, frozen=True):
    """A file whose size nobody knows yet (feature `pipes`)."""

    number: Number
    path: WirePath
    mtime: Time
    mode: Mode


class SymlinkEntry(Entry, tag=3, frozen=True):
    """A symbolic link (feature `symlinks`); after all files and folders."""

    number: Number
    path: Annotated[list[Component], Meta(min_length=2, max_length=limits.DEPTH)]
    target: Annotated[bytes, Meta(min_length=1, max_length=limits.LINK)]
    mtime: Time


class FolderEntry(Entry, tag=1, frozen=True):
    """A folder in the manifest; its entries follow."""

    number: Number
    path: WirePath


class FolderEnd(Entry, tag=2, frozen=True):
    """The folder `number` is complete."""

    number: Number
    mode: Mode
    mtime: Time


class Manifest(Message, frozen=True):
    """The next entries."""

    entries: Annotated[
        list[FileEntry | DigestedEntry | PipeEntry | FolderEntry | FolderEnd | SymlinkEntry],
        Meta(max_length=limits.BATCH),
    ]
    last: bool


class WantAll(Entry, tag=0, frozen=True):
    """Send every block of this file."""

    number: Number


class WantGroup(Entry, tag=1, frozen=True):
    """Send these blocks of this group of 8,192 blocks."""

    number: Number
    group: Annotated[int, Meta(ge=0, le=2**40)]
    bitmap: Bitmap
    last: bool


class WantAgain(Entry, tag=2, frozen=True):
    """Send this block once more: it did not verify (feature `repair`)."""

    number: Number
    block: Count


class Basis(Message, frozen=True):
    """Digests of the blocks of an older copy of file `number`, from block `first` on (feature `delta`)."""

    number: Number
    first: Annotated[int, Meta(ge=0, lt=limits.BASIS_BLOCKS)]
    digests: Annotated[bytes, Meta(min_length=limits.DIGEST, max_length=limits.BASIS_DIGESTS * limits.DIGEST)]


class Needs(Message, frozen=True):
    """What the receiver wants of the files announced."""

    wants: Annotated[list[WantAll | WantGroup | WantAgain], Meta(min_length=1, max_length=limits.BATCH)]


class EntryFailed(Message, frozen=True):
    """The sender cannot send this file after all."""

    number: Number
    error: ErrorNumber


class EntryEnd(Message, frozen=True):
    """All blocks of this file that were asked for are sent; this is its digest."""

    number: Number
    size: Count
    digest: Digest


class Stored(Entry, tag=0, frozen=True):
    """Verified, durable, and under its final name."""

    number: Number
    digest: Annotated[bytes, Meta(max_length=limits.DIGEST)]
    stored_as: WirePath | None


class Identical(Entry, tag=1, frozen=True):
    """The same content was there already."""

    number: Number
    digest: Digest
    stored_as: WirePath | None


class Skipped(Entry, tag=2, frozen=True):
    """Left out, as the conflict policy wishes."""

    number: Number


class Failed(Entry, tag=3, frozen=True):
    """Not stored."""

    number: Number
    error: ErrorNumber


class Wanted(Entry, tag=4, frozen=True):
    """Would be asked for (feature `dry-run`)."""

    number: Number


class Results(Message, frozen=True):
    """What became of these entries."""

    results: Annotated[
        list[Stored | Identical | Skipped | Failed | Wanted], Meta(min_length=1, max_length=limits.BATCH)
    ]
