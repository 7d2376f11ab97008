"""One file into a pipe: `Store` and `JobStore` of `ftx.disk.store` for `get -o -`.

Nothing unverified is ever written: a block goes out when its digest was compared and everything before it is out.
Blocks that come too early wait in an unnamed temporary file. What is out stays out, so that a connection that was lost
is gone on with at the next block, as long as the file is the same.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from ftx.core.blocks import BlockSet, block_count, block_digest, block_length, file_digest
from ftx.disk.journal import Journal
from ftx.disk.linux import punch_hole
from ftx.disk.space import Space
from ftx.disk.store import (
    Answer,
    Failed,
    FileEntry,
    FolderEnd,
    FolderEntry,
    Have,
    LinkEntry,
    Path,
    PipeEntry,
    Refuse,
    Skip,
    Stored,
    Want,
    Whole,
)
from ftx.errors import FtxError
from ftx.limits import BLOCK, STREAM_EARLY, STREAM_FILE
from ftx.text import size as size_text

__all__ = ["Stream"]

_ZEROS = memoryview(bytes(BLOCK))


class Stream:
    """The pipe `fd`, which stays the caller's, as an inbox for a single file."""

    def __init__(self, fd: int, early: int = STREAM_EARLY) -> None:
        """`early`: how many bytes may wait for what has to be written before them."""
        #: Why it came to nothing: nobody reads the pipe any more, say.
        self.failure: FtxError | None = None
        self._fd = fd
        self._file: tuple[Path, int, int] | None = None
        self._done = BlockSet(1)
        self._next = 0
        self._digests: Journal | None = None
        self._early: IO[bytes] | None = None
        #: Room for what waits, and what the disk under it has.
        self._room = early
        self._space: Space | None = None
        self._looking = True
        self._lock = threading.Lock()

    # -- Store --------------------------------------------------------------------------------------------

    def begin(
        self, peer: bytes, job: bytes, into: Path, conflict: str, *, reads: bool = False, dry: bool = False
    ) -> Stream:
        """See `Store`. The same pipe for every attempt."""
        self._looking = True
        return self

    def receipt(self, peer: bytes, job: bytes) -> bytes | None:
        """See `Store`: nothing is kept."""
        return None

    def free(self) -> int:
        """See `Store`: a pipe has no end."""
        return 2**63 - 1

    def clean(self, now: float) -> int:
        """See `Store`."""
        return 0

    def close(self) -> None:
        """See `Store` and `JobStore`. What waits stays for the next attempt, until `forget()`."""

    def forget(self) -> None:
        """Let go of what is kept for another attempt."""
        if self._digests is not None:
            self._digests.close()
            self._digests = None
        if self._early is not None:
            self._early.close()
            self._early = None

    # -- JobStore -----------------------------------------------------------------------------------------

    def look_up(self, entries: Sequence[FileEntry | PipeEntry | FolderEntry]) -> list[Answer]:
        """See `JobStore`. A folder, or a second file, ends it: FtxError `not-supported`."""
        return [self._look(entry) for entry in entries]

    def _look(self, entry: FileEntry | PipeEntry | FolderEntry) -> Answer:
        if not self._looking:
            raise FtxError("superseded")
        if not isinstance(entry, FileEntry) or entry.number:
            hint = "get folders into a folder here"
            self.failure = FtxError("usage", "only a single file can go to standard output", hint)
            raise FtxError("not-supported", self.failure.message)
        if entry.size > STREAM_FILE:
            what = f"a file of more than {size_text(STREAM_FILE)} cannot go to standard output"
            self.failure = FtxError("usage", what, "get it into a folder here")
            return Refuse(entry.number, "too-large")
        this = entry.path, entry.size, entry.mtime_ns
        if self._file is None:
            self._file = this
            self._done = BlockSet(block_count(entry.size))
            if self._done.blocks > 1:
                self._digests = Journal.create(os.memfd_create("ftx-digests", os.MFD_CLOEXEC), bytes(32), entry.size)
        if this != self._file:
            return Refuse(entry.number, "source-changed")
        return Want(entry.number, self._done.copy() if self._done.count else None)

    def store_whole(self, files: Sequence[Whole]) -> list[Stored | Failed]:
        """See `JobStore`."""
        return [self._whole(file) for file in files]

    def _whole(self, file: Whole) -> Stored | Failed:
        if block_digest(file.chunks) != file.digest:
            return Failed(file.number, "digest-mismatch")
        self._write(file.chunks)
        path, size, _ = self._known()
        return Stored(file.number, path, file_digest(size, [file.digest]))

    def write_block(self, number: int, index: int, chunks: Sequence[bytes | memoryview] | None, digest: bytes) -> bool:
        """See `JobStore`. "Written" is in the pipe, or in the temporary file."""
        _, size, _ = self._known()
        content = [_ZEROS[: block_length(size, index)]] if chunks is None else chunks
        if block_digest(content) != digest:
            return False
        with self._lock:
            if index == self._next:
                self._write(content)
                self._next += 1
            else:
                self._keep(index, content)
            self._done.add(index)
            if self._digests is not None:
                self._digests.set(index, digest)
            self._write_early(size)
        return True

    def basis(self, number: int) -> bytes:
        """See `JobStore`: what is written out has no older copy."""
        return b""

    def copy_block(self, number: int, index: int, offset: int, digest: bytes) -> bool:
        """See `JobStore`: there is nothing to copy from."""
        return False

    def sync(self, number: int) -> int:
        """See `JobStore`: nothing in a pipe is durable; what is out, or waits, need not come again."""
        return self._done.bytes_in(self._known()[1])

    def publish(self, number: int, digest: bytes) -> Stored | Failed:
        """See `JobStore`."""
        path, _, _ = self._known()
        with self._lock:
            found = None if self._digests is None or self._done.inverted().count else self._digests.file_digest()
        return Stored(number, path, digest) if found == digest else Failed(number, "digest-mismatch")

    def finish_folder(self, number: int, mode: int, mtime_ns: int) -> Stored | Failed:
        """See `JobStore`: there are none."""
        return Failed(number, "not-supported")

    def finish_folders(self, folders: Sequence[FolderEnd]) -> list[Stored | Failed]:
        """See `JobStore`: there are none."""
        return [Failed(folder.number, "not-supported") for folder in folders]

    def make_links(self, links: Sequence[LinkEntry]) -> list[Stored | Have | Skip | Failed | Want]:
        """See `JobStore`: there are none."""
        return [Failed(link.number, "not-supported") for link in links]

    def discard(self, number: int, keep: bool) -> None:
        """See `JobStore`: what is out is out."""

    def stop_looking(self) -> None:
        """See `JobStore`."""
        self._looking = False

    def revoke(self) -> None:
        """See `JobStore`: nobody takes over a pipe."""

    def save_receipt(self, receipt: bytes) -> None:
        """See `JobStore`: nothing is kept."""

    # -- within -------------------------------------------------------------------------------------------

    def _known(self) -> tuple[Path, int, int]:
        if self._file is None:
            raise FtxError("storage-failed", "there is no file")
        return self._file

    def _write(self, chunks: Sequence[bytes | memoryview]) -> None:
        try:
            for chunk in chunks:
                left = memoryview(chunk)
                while left:
                    left = left[os.write(self._fd, left) :]
        except BrokenPipeError as error:
            raise self._failed("nobody reads standard output any more") from error
        except OSError as error:
            why = (error.strerror or "input/output error").lower()
            raise self._failed(f"standard output cannot be written: {why}") from error

    def _failed(self, why: str) -> FtxError:
        self.failure = FtxError("local-io", why)
        return FtxError("storage-failed", why)

    def _keep(self, index: int, content: Sequence[bytes | memoryview]) -> None:
        length = sum(map(len, content))
        try:
            if self._early is None or self._space is None:
                self._early = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed by forget)
                self._space = Space(self._early.fileno())
            if length > self._room or length > self._space.free():
                hint = "get it into a folder here: there, blocks may come in any order"
                why = "too much of the file came before what has to be written first"
                self.failure = FtxError("local-no-space", why, hint)
                raise FtxError("no-space", why)
            self._room -= length
            offset = index * BLOCK
            for chunk in content:
                offset += os.pwrite(self._early.fileno(), chunk, offset)
        except OSError as error:
            raise FtxError("no-space", "there is no room for blocks that came early") from error

    def _write_early(self, size: int) -> None:
        while self._early is not None and self._next < self._done.blocks and self._next in self._done:
            length, offset = block_length(size, self._next), self._next * BLOCK
            self._write([os.pread(self._early.fileno(), length, offset)])
            with suppress(OSError):  # where the file system cannot, it has the place back in the end
                punch_hole(self._early.fileno(), offset, length)
            self._room += length
            self._next += 1
