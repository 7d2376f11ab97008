"""What the job machines ask of their owner: effects, as values.

A machine never calls anybody. It returns effects in the order in which they are to be begun; the owner carries them
out, in worker threads where a disk is involved, and reports the outcome by calling the machine's method of that name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from ftx.wire.messages import FileEntry, FolderEntry, Message, PipeEntry, SymlinkEntry, Waiting

__all__ = [
    "CloseEntry",
    "Conclude",
    "CopyBlock",
    "Discard",
    "Effect",
    "FinishFolder",
    "GiveUp",
    "LeftOut",
    "LookUp",
    "MakeLinks",
    "OpenEntry",
    "Publish",
    "ReadBlock",
    "ReadPipe",
    "ReadWhole",
    "Resolved",
    "Send",
    "StoreWhole",
    "Sync",
    "There",
    "VerifyReceipt",
    "Waited",
    "WriteBlock",
]


class Effect(msgspec.Struct, frozen=True, gc=False):
    """What all effects share: they are made and let go of by the hundred thousand, and none is part of a cycle."""


class Send(Effect, frozen=True, gc=False):
    """Send this message."""

    message: Message


class Resolved(Effect, frozen=True, gc=False):
    """An entry has its result: tell whoever watches. `status` as in the transcript; `error` a number or 0."""

    path: tuple[bytes, ...]
    size: int
    status: str
    digest: bytes | None
    stored_as: tuple[bytes, ...] | None
    error: int
    folder: bool
    #: The transcript line.
    line: bytes


class There(Effect, frozen=True, gc=False):
    """Files are there now, stored or (`identical`) there before: tell whoever watches; `each` says it of one by one."""

    #: Size, digest, path, and where it is below the inbox.
    files: Sequence[tuple[int, bytes, tuple[bytes, ...], tuple[bytes, ...]]]
    identical: bool
    #: The transcript lines of all of them.
    lines: bytes

    def each(self) -> Iterator[Resolved]:
        """What became of each file."""
        status = "identical" if self.identical else "stored"
        lines = self.lines.splitlines(keepends=True)
        for (size, digest, path, stored_as), line in zip(self.files, lines, strict=True):
            yield Resolved(path, size, status, digest, stored_as, 0, False, line)


class LeftOut(Effect, frozen=True, gc=False):
    """The sender of a pull cannot send this; it is no entry of the job. Tell whoever watches. `error` is a number."""

    path: tuple[bytes, ...]
    error: int


# -- of the receiver ---------------------------------------------------------------------------------------


class LookUp(Effect, frozen=True, gc=False):
    """Make these folders, look these files up; answer per entry with made, have, want, skip or refuse."""

    entries: Sequence[FileEntry | PipeEntry | FolderEntry]


class MakeLinks(Effect, frozen=True, gc=False):
    """Make these symbolic links, all else being done; answer per entry with link_made, skip or failed."""

    entries: Sequence[SymlinkEntry]


class StoreWhole(Effect, frozen=True, eq=False, gc=False):
    """A file of one block is here: verify, store and publish it; answer with stored or failed.

    `packed`: the chunks are a zstd frame of the block's `length` bytes.
    """

    number: int
    chunks: Sequence[bytes | memoryview]
    length: int
    digest: bytes
    packed: bool = False


class WriteBlock(Effect, frozen=True, eq=False, gc=False):
    """A block of a larger file is here (`chunks` None: zeros); answer with block_written or failed.

    `packed`: the chunks are a zstd frame of the block's `length` bytes.
    """

    number: int
    block: int
    chunks: Sequence[memoryview] | None
    length: int
    digest: bytes
    packed: bool = False


class CopyBlock(Effect, frozen=True, gc=False):
    """A block of a larger file is that of its older copy at `offset` bytes: take it over, verify it.

    Answer with block_written or failed.
    """

    number: int
    block: int
    offset: int
    digest: bytes


class Sync(Effect, frozen=True, gc=False):
    """Make what was written of this file durable; answer with synced or failed."""

    number: int


class Publish(Effect, frozen=True, gc=False):
    """All blocks are written: compare the file digest, publish; answer with stored or failed."""

    number: int
    digest: bytes


class FinishFolder(Effect, frozen=True, gc=False):
    """All entries of the folder have their results: set its mode and mtime; answer with finished or failed."""

    number: int
    mode: int
    mtime: int


class Discard(Effect, frozen=True, gc=False):
    """Give the entry up; `keep` its partial for a later resume."""

    number: int
    keep: bool


class Conclude(Effect, frozen=True, gc=False):
    """Both sides agree on every result: sign the receipt, keep it, send it."""


class GiveUp(Effect, frozen=True, gc=False):
    """The sender cancels the job: make durable what came, say what stays, and end."""


# -- of the sender -----------------------------------------------------------------------------------------


class OpenEntry(Effect, frozen=True, gc=False):
    """Open this file of several blocks; answer with opened or source_failed."""

    number: int


class ReadBlock(Effect, frozen=True, gc=False):
    """Read and hash this block, and `send` it if the receiver asked for it; answer only with source_failed.

    `basis` is the digest of that block in the receiver's older copy: if it is the same, say so instead of sending.
    One that is asked for `again` must not go over a lane.
    """

    number: int
    block: int
    send: bool
    basis: bytes | None = None
    again: bool = False


class ReadPipe(Effect, frozen=True, gc=False):
    """Read, hash and send the next block of this pipe; answer with pipe_read or source_failed."""

    number: int
    block: int


class ReadWhole(Effect, frozen=True, gc=False):
    """Read, hash and send these files of one block; answer with wholes_read and, per file, source_failed."""

    numbers: Sequence[int]


class CloseEntry(Effect, frozen=True, gc=False):
    """Every block was read: check that the source is unchanged; answer with closed or source_failed.

    Not `complete`: the receiver gave the file up before that. There is no digest then; let go of the file, and answer
    with closed (any digest will do).
    """

    number: int
    complete: bool = True


class VerifyReceipt(Effect, frozen=True, gc=False):
    """The receipt agrees with our own sums: verify its signature; answer with receipt_verified."""

    body: bytes
    signature: bytes


class Waited(Effect, frozen=True, gc=False):
    """The receiver asks a person: answer its half of the comparison phrase (`ftx.core.approval`), and tell our own."""

    message: Waiting
