"""A file of several blocks on its way: staged content, and a journal of the blocks that are verified and durable.

The order of things is the point (`docs/storage.md`, "Order of writing"): a block is written only when its digest
matches; the data is synced before the journal speaks of it; the journal is synced before anybody is told. So what the
journal says is true after any crash, and a file is never a mix.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ftx.core.blocks import BlockSet, block_count, block_digest, block_length, file_digest, zero_digest
from ftx.disk import linux
from ftx.disk.fds import close, sync_folder
from ftx.disk.journal import Journal
from ftx.disk.root import storage_error
from ftx.disk.sparse import PAGE, data_runs
from ftx.disk.staging import Staging
from ftx.errors import FtxError
from ftx.limits import BASIS_BLOCKS, BLOCK, RESERVE_STEP

__all__ = ["Partial", "write_all"]

#: Buffers in one pwritev(2): IOV_MAX of Linux.
_BUFFERS: Final = 1024


def write_all(fd: int, chunks: Sequence[bytes | memoryview], offset: int) -> None:
    """Write `chunks` one behind the other at `offset`, however many calls that takes. OSError as it comes."""
    left: list[bytes | memoryview] = [chunk for chunk in chunks if chunk]
    while left:
        written = os.pwritev(fd, left[:_BUFFERS], offset)
        offset += written
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = memoryview(left[0])[written:]


def _legible(fd: int, length: int, offset: int) -> bytes:
    """`length` bytes at `offset`, or fewer where the disk does not give them back."""
    try:
        return os.pread(fd, length, offset)
    except OSError:
        return b""


def _gaps(runs: Sequence[tuple[int, int]] | None, length: int) -> list[tuple[int, int]]:
    """What of `length` bytes is not in `runs`; nothing where all is data (None)."""
    if runs is None:
        return []
    edges = [0, *(edge for run in runs for edge in run), length]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The runs in rising `numbers` as (first, after the last)."""
    for _, run in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        found = [number for _, number in run]
        yield found[0], found[-1] + 1


class Partial:
    """One staged file, open. `sync()` may run beside `write()`; nothing else may overlap.

    Every method raises FtxError `no-space`, `too-large` or `storage-failed`. After a failed write or sync the same
    error answers everything that follows; unless space was the reason, the staged file is removed on `close()`. So is
    one in which nothing is durable.
    """

    def __init__(
        self,
        staging: Staging,
        key: bytes,
        size: int,
        on_disk: Callable[[int], None],
        number: int,
        *,
        tag: bytes = bytes(32),
    ) -> None:
        """Go on with the partial `key` of `size` bytes, or begin it.

        `tag` is that of its path, by which a later version finds it. `on_disk` gets byte counts as space is taken;
        `number` is for the owner.
        """
        self.number = number
        self._staging = staging
        self.key = key
        self.size = size
        self._tag = tag
        self._on_disk = on_disk
        self._lock = threading.Lock()
        self._journal_lock = threading.Lock()
        self._fresh: dict[int, bytes] = {}
        #: The basis with which nothing can be shared; -1 before that is known.
        self._unshared = -1
        self._syncing: dict[int, bytes] = {}
        self._reserved: set[int] = set()
        # In memory a reservation is the writing itself: every page would be touched twice, and a fifth of the time of a
        # large file went into that. Elsewhere it costs next to nothing.
        self._reserving = staging.fallocate and not staging.in_memory
        self._entered = False
        self._failure: FtxError | None = None
        try:
            opened = staging.open_partial(key, size)
            if opened is None:
                self.fd, self._journal = staging.create_partial(key, size), None
            else:
                self.fd, self._journal = opened[0], opened[1]
        except OSError as error:
            raise storage_error(error) from error
        self._known = BlockSet(block_count(size)) if self._journal is None else self._journal.blocks.copy()

    _journal: Journal | None

    @property
    def name(self) -> bytes:
        """Its name in the staging folder."""
        return self._staging.names(self.key)[0]

    @property
    def failure(self) -> FtxError | None:
        """What ended the use of this partial, if anything did."""
        return self._failure

    def _fail(self, error: OSError) -> FtxError:
        self._failure = storage_error(error)
        return self._failure

    def _usable(self) -> None:
        if self._failure is not None:
            raise FtxError(self._failure.name, self._failure.message)

    # -- blocks -------------------------------------------------------------------------------------------

    def write(self, index: int, chunks: Sequence[bytes | memoryview] | None, digest: bytes) -> bool:
        """Verify block `index` and write it; None is a block of zeros. Whether the digest matched.

        A block that is there already is not written again: the answer is whether its digest is the same.
        """
        self._usable()
        length = block_length(self.size, index)
        if not 0 <= index < self._known.blocks or length < 0:
            raise FtxError("storage-failed", f"there is no block {index}")
        # One copy buys one hash and one write instead of a row of small ones: each releases the interpreter lock, and
        # with the reactor busy each must fight to get it back. Sixteen-kilobyte records made a transfer half as fast.
        content = None if chunks is None else b"".join(chunks)
        if content is None:
            matches = digest == zero_digest(length)
        else:
            matches = len(content) == length and block_digest([content]) == digest
        if not matches:
            return False
        if index in self._known:
            return self._digest(index) == digest
        try:
            if content is None:
                self._write_zeros(index * BLOCK, length)
            else:
                self._reserve(index)
                self._write_data(content, index * BLOCK)
        except OSError as error:
            raise self._fail(error) from error
        with self._lock:
            self._fresh[index] = digest
            self._known.add(index)
        return True

    def copy(self, index: int, basis: int, offset: int, digest: bytes) -> bool:
        """Take block `index` over from the file `basis` at `offset` bytes. Whether it has this digest, where it is now.

        File systems that can do so share the block between the files: then it is read where it is shared. Else it is
        read, and what was read is compared and written. What cannot be read has no digest: then its content travels.
        """
        self._usable()
        if index in self._known:
            return self._digest(index) == digest
        length, start = block_length(self.size, index), index * BLOCK
        shared = self._share(basis, offset, start, length)
        content = _legible(self.fd, length, start) if shared else _legible(basis, length, offset)
        if len(content) != length or block_digest([content]) != digest:
            return False
        try:
            if not shared:
                self._write_data(content, start)
            self._on_disk(length)
        except OSError as error:
            raise self._fail(error) from error
        with self._lock:
            self._fresh[index] = digest
            self._known.add(index)
        return True

    def _share(self, basis: int, offset: int, start: int, length: int) -> bool:
        """Whether the file system could share these bytes; what it cannot once, for this basis, is not asked again."""
        if self._unshared == basis:
            return False
        try:
            linux.clone_range(basis, offset, self.fd, start, length)
        except OSError:
            self._unshared = basis
            return False
        return True

    def _digest(self, index: int) -> bytes | None:
        with self._lock:
            fresh = self._fresh.get(index) or self._syncing.get(index)
        if fresh is not None:
            return fresh
        with self._journal_lock:
            return None if self._journal is None else self._journal.digest(index)

    def _write_data(self, content: bytes, offset: int) -> None:
        """Write a block, but for its pages of zeros: those are holes."""
        runs = data_runs(content)
        if runs is None:
            write_all(self.fd, [content], offset)
            return
        view = memoryview(content)
        for start, end in runs:
            write_all(self.fd, [view[start:end]], offset + start)
        for start, end in _gaps(runs, len(content)):
            self._write_zeros(offset + start, end - start)

    def _write_zeros(self, offset: int, length: int) -> None:
        """Make a hole: an earlier attempt may have left other bytes there that the journal does not speak of."""
        try:
            linux.punch_hole(self.fd, offset, self._whole_pages(offset, length))
        except OSError:
            write_all(self.fd, [bytes(length)], offset)
            self._on_disk(length)

    def _whole_pages(self, offset: int, length: int) -> int:
        """The length of a hole at `offset`: at the end of the file the whole page, which would only be zeroed else."""
        return length if offset + length < self.size else -(-length // PAGE) * PAGE

    def _reserve(self, index: int) -> None:
        """Take the space around block `index` from the file system, as far as it can do that."""
        per_step = RESERVE_STEP // BLOCK
        step = index // per_step
        if step in self._reserved:
            return
        offset = step * RESERVE_STEP
        length = min(RESERVE_STEP, self.size - offset)
        if self._reserving:
            blocks = range(step * per_step, min((step + 1) * per_step, self._known.blocks))
            missing = [block for block in blocks if block not in self._known]
            try:
                # only what is missing: what an earlier attempt left as a hole stays one
                for first, after in _runs(missing):
                    start = first * BLOCK
                    linux.reserve(self.fd, start, min(after * BLOCK, self.size) - start)
            except OSError:
                # not supported, or not that much left: then the writes will tell
                self._reserving = False
                self._release(offset, length)
            else:
                self._reserved.add(step)
                self._on_disk(sum(block_length(self.size, block) for block in missing))
                return
        self._on_disk(block_length(self.size, index))

    def _release(self, offset: int, length: int) -> None:
        """Give space reserved in this range back, where no block was written; best effort."""
        end = offset + length
        try:
            for block in range(offset // BLOCK, -(-end // BLOCK)):
                if block not in self._known:
                    length = block_length(self.size, block)
                    linux.punch_hole(self.fd, block * BLOCK, self._whole_pages(block * BLOCK, length))
        except OSError:
            pass

    # -- durability ---------------------------------------------------------------------------------------

    def sync(self) -> int:
        """Make the blocks written so far durable; returns the bytes of the file that are."""
        self._usable()
        with self._lock:
            self._syncing, self._fresh = self._fresh, {}
        try:
            if self._syncing:
                os.fdatasync(self.fd)
            with self._journal_lock:
                self._commit()
            if self._journal is not None and not self._entered:
                sync_folder(self._staging.fd)
                self._entered = True
        except OSError as error:
            raise self._fail(error) from error
        with self._lock:
            self._syncing = {}
        return 0 if self._journal is None else self._journal.blocks.bytes_in(self.size)

    def _commit(self) -> None:
        """Let the journal speak of what was synced; its lock is held."""
        if not self._syncing:
            return
        if self._journal is None:
            self._journal = self._staging.create_journal(self.key, self.size, self._tag)
        for index in sorted(self._syncing):
            self._journal.set(index, self._syncing[index])
        self._journal.commit(sync=True)

    def file_digest(self) -> bytes | None:
        """The digest of the whole file, or None while blocks are missing. Nothing may be written after this."""
        self._usable()
        if not self._known.complete:
            return None
        if self._journal is None:
            return file_digest(self.size, (self._fresh[index] for index in range(self._known.blocks)))
        try:
            for index in sorted(self._fresh):
                self._journal.set(index, self._fresh[index])
            self._fresh = {}
            return self._journal.file_digest()
        except OSError as error:
            raise self._fail(error) from error

    def block_digests(self) -> bytes:
        """All block digests, joined, after `file_digest()` has found them; none of more than `limits.BASIS_BLOCKS`."""
        if self._known.blocks > BASIS_BLOCKS:
            return b""
        if self._journal is None:
            return b"".join(self._fresh[index] for index in range(self._known.blocks))
        try:
            return self._journal.joined()
        except OSError:
            return b""  # it was read just now; and without them the file is only read once more

    def finalise(self, mode: int, mtime_ns: int) -> os.stat_result:
        """Set permission bits and time and make all of the file durable; its status after that."""
        self._usable()
        try:
            os.utime(self.fd, ns=(mtime_ns, mtime_ns))
            os.fchmod(self.fd, stat.S_IMODE(mode))
            os.fsync(self.fd)
            return os.fstat(self.fd)
        except OSError as error:
            raise self._fail(error) from error

    # -- the end ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Make durable what can be, give back what was reserved in vain, and close. Never raises.

        A partial whose data could not be synced is removed: nothing in it can be believed. One without a journal is
        removed, too: it holds nothing that a later job could go on with.
        """
        try:
            if self._failure is None and self._fresh:
                self.sync()
        except FtxError:
            pass
        for step in self._reserved:
            offset = step * RESERVE_STEP
            self._release(offset, min(RESERVE_STEP, self.size - offset))
        self.release()
        if self._journal is None or (self._failure is not None and self._failure.name != "no-space"):
            self.remove()

    def release(self) -> None:
        """Close the descriptors and nothing else. May be called again."""
        if self.fd >= 0:
            close(self.fd)
            self.fd = -1
        if self._journal is not None:
            self._journal.close()

    def remove(self) -> None:
        """Remove the staged file and its journal; best effort, `clean()` gets what stays."""
        with contextlib.suppress(OSError):
            self._staging.remove(self.key)
