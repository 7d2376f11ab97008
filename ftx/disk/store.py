"""Storage as the rest of ftx sees it: what can be asked of an inbox and what it answers.

This is the seam behind which files, folders and records live; `ftx.disk.inbox` is the implementation on a local file
system, an object store can be another. Everything here blocks and is called from worker threads.

One incoming job is one `JobStore`. For each manifest entry: `look_up()` says what is there already and what is wanted;
files of one block then go through `store_whole()` in batches, larger ones through `write_block()`, `sync()` and
`publish()`, folders through `finish_folder()` after all that is in them. Numbers are the entry numbers of the job.

Paths are tuples of components below the inbox's root, as bytes. A `FileEntry` or `FolderEntry` path is relative to
the job's `into` folder; `stored_as` is relative to the root, `into` included.

What is said of single entries is a Struct of msgspec: there are several for each small file, and one is made in a tenth
of the time that a frozen class of attrs takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from ftx.core.blocks import BlockSet
from ftx.wire.frames import Whole

__all__ = [
    "Answer",
    "Failed",
    "FileEntry",
    "FolderEnd",
    "FolderEntry",
    "Have",
    "JobStore",
    "LinkEntry",
    "Made",
    "Path",
    "PipeEntry",
    "Refuse",
    "Skip",
    "Store",
    "Stored",
    "Want",
    "Whole",
]

Path = tuple[bytes, ...]


class FileEntry(Struct, frozen=True, gc=False):
    """A file that is offered: `size` in bytes, `mtime_ns` since 1970 (signed 64 bit), permission bits `mode`.

    `digest` is what the sender says of its content, where it has read it already.
    """

    number: int
    path: Path
    size: int
    mtime_ns: int
    mode: int
    digest: bytes | None = None


class PipeEntry(Struct, frozen=True, gc=False):
    """A file of unknown size that is offered. Its blocks are written in order; `publish()` says that it is complete."""

    number: int
    path: Path
    mtime_ns: int
    mode: int


class FolderEntry(Struct, frozen=True, gc=False):
    """A folder that is offered; its permissions and time follow with `FolderEnd`."""

    number: int
    path: Path


class LinkEntry(Struct, frozen=True, gc=False):
    """A symbolic link that is offered, its target checked to stay inside the tree; `mtime_ns` as in `FileEntry`."""

    number: int
    path: Path
    target: bytes
    mtime_ns: int


class FolderEnd(Struct, frozen=True, gc=False):
    """All that is in folder `number` was dealt with; what its permission bits and time shall be."""

    number: int
    mode: int
    mtime_ns: int


class Have(Struct, frozen=True, gc=False):
    """The very file is there already, stored for this peer and durable; `digest` is its verified file digest."""

    number: int
    stored_as: Path
    digest: bytes


class Want(Struct, frozen=True, gc=False):
    """The file is wanted, except for the blocks in `held`, which a partial holds durably.

    `held` is None when nothing is held, and always for files of one block. `basis`: there is an older copy, or part of
    one, whose digests `JobStore.basis()` finds out.
    """

    number: int
    held: BlockSet | None
    basis: bool = False


class Skip(Struct, frozen=True, gc=False):
    """The name is taken and the conflict policy is `skip`."""

    number: int


class Made(Struct, frozen=True, gc=False):
    """The folder exists now (made, or merged with one that was there)."""

    number: int


class Refuse(Struct, frozen=True, gc=False):
    """The entry is not taken. `error` is a name from `ftx.errors.KINDS`: `exists`, `bad-name`, `no-space`, …"""

    number: int
    error: str


Answer = Have | Want | Skip | Made | Refuse


class Stored(Struct, frozen=True, gc=False):
    """The entry is durable under `stored_as`. `digest` is the file digest, empty for a folder."""

    number: int
    stored_as: Path
    digest: bytes


class Failed(Struct, frozen=True, gc=False):
    """The entry was not stored. `error` is a name from `ftx.errors.KINDS`."""

    number: int
    error: str


class JobStore(Protocol):
    """One incoming job's view of the inbox.

    Calls for different entries may overlap; calls for one entry never do, except `sync()` beside `write_block()`.
    After `revoke()` every method that would change the disk raises FtxError `superseded`. An entry answered by
    `Want` is claimed until it is stored, has failed, or is discarded: no other job gets the same file meanwhile.
    """

    def look_up(self, entries: Sequence[FileEntry | PipeEntry | FolderEntry]) -> list[Answer]:
        """Answer a batch of entries, in the same order. Folders come into being by this.

        It may have to read files that are there. FtxError `superseded` ends that within a block after `revoke()`,
        `stop_looking()` or `close()`.
        FtxError `exists`, `bad-name`, `no-space` or `storage-failed` when the job's `into` folder cannot be made.
        """
        ...

    def store_whole(self, files: Sequence[Whole]) -> list[Stored | Failed]:
        """Store files of one block, in the same order. `Stored` is said only of what is durable and published.

        After `Failed("digest-mismatch")` the entry is still open: it may be stored again or discarded.
        """
        ...

    def write_block(self, number: int, index: int, chunks: Sequence[bytes | memoryview] | None, digest: bytes) -> bool:
        """Verify and write block `index`; `chunks` None is a block of zeros.

        True: written (not yet durable). False: the digest does not match, nothing was written. FtxError `no-space`
        (the partial stays), `storage-failed` or `superseded` end the entry.
        """
        ...

    def basis(self, number: int) -> bytes:
        """The digests of the blocks of the older copy of a wanted file, joined, in order; nothing when it is of no use.

        It may have to be read: FtxError `superseded` ends that within a block, as for `look_up()`.
        """
        ...

    def copy_block(self, number: int, index: int, offset: int, digest: bytes) -> bool:
        """Take block `index` over from the older copy at `offset` bytes, and verify it in its place.

        True, False and FtxError as for `write_block()`.
        """
        ...

    def sync(self, number: int) -> int:
        """Make everything written so far durable; returns the bytes of the file that are. FtxError as above."""
        ...

    def publish(self, number: int, digest: bytes) -> Stored | Failed:
        """Compare the file digest with `digest`, make the file durable and give it its final name."""
        ...

    def finish_folder(self, number: int, mode: int, mtime_ns: int) -> Stored | Failed:
        """Set permissions and time of a folder that answered `Made`, and make it durable.

        To be called after all that is in it. A folder that this peer's transfers did not make keeps what it has.
        """
        ...

    def finish_folders(self, folders: Sequence[FolderEnd]) -> list[Stored | Failed]:
        """The same for many folders, which then share their syncs."""
        ...

    def make_links(self, links: Sequence[LinkEntry]) -> list[Stored | Have | Skip | Failed | Want]:
        """Make symbolic links, in the same order, when everything else of the job is done; durable on return.

        `Want` is said in a dry run only.
        """
        ...

    def discard(self, number: int, keep: bool) -> None:
        """Give up entry `number`. With `keep` what is durable stays for a later attempt, else it is removed."""
        ...

    def stop_looking(self) -> None:
        """Nobody waits for answers any more: look-ups, under way or to come, end with FtxError `superseded`.

        What was wanted can still be stored. From any thread; blocks on nothing.
        """
        ...

    def revoke(self) -> None:
        """End the job's right to change anything, at once, from any thread; blocks on nothing."""
        ...

    def close(self) -> None:
        """Wait for calls under way, release claims and descriptors. Partials stay. May be called again."""
        ...

    def save_receipt(self, receipt: bytes) -> None:
        """Remember the job's receipt durably, to answer the same job again. FtxError when it cannot be written."""
        ...


class Store(Protocol):
    """An inbox."""

    def begin(
        self, peer: bytes, job: bytes, into: Path, conflict: str, *, reads: bool = False, dry: bool = False
    ) -> JobStore:
        """Begin job `job` (16 bytes) of identity `peer` (32 bytes), its paths below the folder `into`.

        `reads`: the peer may read what is there (it is ourselves), so what others stored may be recognised for it.
        `dry`: everything is looked up and nothing is changed.
        `conflict` is `fail`, `skip`, `rename`, `backup` or `overwrite` (`docs/storage.md`). FtxError `bad-name`,
        `exists`, `no-space` or `storage-failed` when `into` cannot be made, `not-supported` for another policy.
        """
        ...

    def receipt(self, peer: bytes, job: bytes) -> bytes | None:
        """The receipt saved for this job of this peer, or None."""
        ...

    def free(self) -> int:
        """Bytes a new job may use: free space less the floor and what running jobs were promised; never negative."""
        ...

    def clean(self, now: float) -> int:
        """Remove partials not changed for `limits.PARTIAL_DAYS` before `now` (seconds since 1970); how many."""
        ...

    def close(self) -> None:
        """Release the inbox. Jobs must be closed before."""
        ...
