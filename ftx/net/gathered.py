"""Small pieces of disk work that gather into batches while the disk is busy with the batch before.

A batch of small files shares its syncs, its record transaction and its thread hand-off, which is most of what a small
file costs. Nothing waits for a batch to fill: whoever owns the queue takes what is there whenever the disk is free.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

import attrs

from ftx import limits
from ftx.core.events import FinishFolder, StoreWhole
from ftx.disk.packing import unpack
from ftx.disk.store import Failed, FolderEnd, JobStore, Stored, Whole

__all__ = ["Batch", "Gathered"]


@attrs.frozen(eq=False)
class Batch:
    """Files of one block and finished folders, stored by one disk job. `size` is the files' content bytes.

    `packed` has the lengths of those files whose content is a zstd frame, by their numbers.
    """

    files: list[Whole]
    folders: list[FolderEnd]
    size: int
    packed: dict[int, int]

    @property
    def numbers(self) -> list[int]:
        """The entries in it."""
        return [file.number for file in self.files] + [folder.number for folder in self.folders]

    def store(self, job_store: JobStore) -> list[Stored | Failed]:
        """Store everything (in a worker thread); one outcome per entry."""
        broken, files = self._unpacked() if self.packed else ([], self.files)
        outcomes = broken + job_store.store_whole(files) if files else broken
        return outcomes + job_store.finish_folders(self.folders) if self.folders else outcomes

    def _unpacked(self) -> tuple[list[Stored | Failed], list[Whole]]:
        """What of it is no such frame and so does not match, and the others with their content."""
        broken: list[Stored | Failed] = []
        files: list[Whole] = []
        for file in self.files:
            length = self.packed.get(file.number)
            if length is None:
                files.append(file)
                continue
            content = unpack(file.chunks, length)
            if content is None:
                broken.append(Failed(file.number, "digest-mismatch"))
            else:
                files.append(Whole(file.number, [content], file.digest))
        return broken, files


class Gathered:
    """What waits for the next batch, in order."""

    def __init__(self) -> None:
        self._files: list[Whole] = []
        #: How long the content of each of them is, and by number that of those that are packed.
        self._lengths: list[int] = []
        self._packed: dict[int, int] = {}
        self._folders: deque[FinishFolder] = deque()
        self._size = 0

    def add(self, files: Sequence[Whole]) -> int:
        """Some more files, each in one piece; gives their content bytes."""
        lengths = [len(file.chunks[0]) for file in files]
        size = sum(lengths)
        self._files += files
        self._lengths += lengths
        self._size += size
        return size

    def add_one(self, file: StoreWhole) -> int:
        """One more file, in any pieces; gives its content bytes."""
        self._files.append(Whole(file.number, file.chunks, file.digest))
        self._lengths.append(file.length)
        self._size += file.length
        if file.packed:
            self._packed[file.number] = file.length
        return file.length

    @property
    def full(self) -> bool:
        """Whether a batch would not get larger by waiting."""
        return len(self._files) >= limits.DISK_BATCH or self._size >= limits.DISK_BATCH_BYTES

    def finish(self, folder: FinishFolder) -> None:
        """One more folder."""
        self._folders.append(folder)

    def take(self) -> Batch:
        """The next batch, within `limits.DISK_BATCH` and `limits.DISK_BATCH_BYTES`; empty when nothing waits.

        A folder is finished after everything in it has its result, so files and folders that wait at the same time
        have nothing to do with each other.
        """
        sizes = list(accumulate(self._lengths[: limits.DISK_BATCH]))
        end = min(bisect_left(sizes, limits.DISK_BATCH_BYTES) + 1, len(sizes))
        size = sizes[end - 1] if end else 0
        files = self._files[:end]
        del self._files[:end], self._lengths[:end]
        self._size -= size
        packed = {}
        if self._packed:
            packed = {one.number: self._packed.pop(one.number) for one in files if one.number in self._packed}
        count = min(len(self._folders), limits.DISK_BATCH)
        folders = [FolderEnd(e.number, e.mode, e.mtime) for e in (self._folders.popleft() for _ in range(count))]
        return Batch(files, folders, size, packed)
