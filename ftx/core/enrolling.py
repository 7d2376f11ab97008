"""What the sender announces, for the receiver: entries in order and within bounds, and what the disk has of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from itertools import groupby, repeat
from typing import cast

from ftx import limits
from ftx.core.blocks import BlockSet, block_count
from ftx.core.events import Effect, LeftOut, LookUp
from ftx.core.incoming import File, Folder, Life
from ftx.core.links import stays_inside
from ftx.core.order import ManifestOrder
from ftx.core.resolving import Resolving
from ftx.errors import KINDS, ProtocolError, kind_from_peer
from ftx.wire.messages import (
    DigestedEntry,
    FileEntry,
    FolderEnd,
    FolderEntry,
    Manifest,
    Offer,
    PipeEntry,
    SymlinkEntry,
    WantAll,
    WantGroup,
)

__all__ = ["Enrolling"]


class Enrolling(Resolving):
    """The layer of a receiver that reads the manifest, and asks for what is missing."""

    def __init__(
        self, offer: Offer, *, features: Set[str] = frozenset(), tops: Collection[bytes] | None = None
    ) -> None:
        super().__init__(offer, features=features, tops=tops)
        self._order = ManifestOrder()
        self._unanswered = 0
        self._announced_bytes = 0
        self._announced_files = 0
        self._announced_folders = 0

    @property
    def bases(self) -> tuple[int, int]:
        """How many files have an older copy on offer, and how many of its blocks they have together."""
        offered = [file.basis for file in self._files.values() if file.basis]
        return len(offered), sum(offered)

    @property
    def copies(self) -> bool:
        """Whether blocks of older copies may be offered: what cannot be taken over has to be asked for again."""
        return {"delta", "repair"} <= self._features

    # -- what the disk answers ---------------------------------------------------------------------------------

    def have(self, found: Sequence[tuple[int, tuple[bytes, ...], bytes]]) -> list[Effect]:
        """These files are there already, verified: number, path below the inbox and digest of each."""
        self._unanswered -= len(found)
        return self._resolve_there(found, identical=True)

    def want_all(self, numbers: Sequence[int], now: float) -> list[Effect]:
        """These files are wanted, and nothing is there of any of them."""
        if self._dry:
            return [effect for number in numbers for effect in self.want(number, None, now)]
        self._unanswered -= len(numbers)
        wanted, block = Life.WANTED, limits.BLOCK
        for file in map(self._files.__getitem__, numbers):
            file.life = wanted
            if file.size > block:
                file.synced_at = now
                file.missing = BlockSet.full(block_count(file.size))
        self._answers.want_all(numbers)
        return []

    def want(self, number: int, held: BlockSet | None, now: float, basis: bytes = b"") -> list[Effect]:
        """The file is wanted; `held` names the blocks that are durable already, None for none.

        `basis` has the digests of the blocks of an older copy, joined, in order.
        """
        file = self._answered(number)
        if self._dry:
            return self._resolve_file(file, "wanted")
        if basis and self.copies:
            file.basis = len(basis) // limits.DIGEST
            self._answers.basis(number, basis)
        file.life = Life.WANTED
        file.synced_at = now
        blocks = block_count(file.size)
        if blocks == 1:  # a pipe, too
            self._answers.want(WantAll(number))
            return []
        file.missing = held.inverted() if held is not None else BlockSet.full(blocks)
        if held is None or not held.count:
            self._answers.want(WantAll(number))
            return []
        file.verified = file.durable = held.bytes_in(file.size)
        self.verified += file.verified
        self.durable += file.durable
        file.present = file.verified
        self.present += file.present
        groups = -(-blocks // limits.GROUP)
        for group in range(groups):
            self._answers.want(WantGroup(number, group, file.missing.group(group), group == groups - 1))
        return []

    def skip(self, number: int) -> list[Effect]:
        """The file or link is left out, as the conflict policy says."""
        if number in self._links:
            return self._resolve_link(number, "skipped")
        return self._resolve_file(self._answered(number), "skipped")

    def refuse(self, number: int, error: str) -> list[Effect]:
        """The entry cannot be taken; `error` is the name of a kind."""
        folder = self._folders.get(number)
        if folder is None:
            return self._resolve_file(self._answered(number), "failed", error=KINDS[error].number)
        return self._resolve_folder(folder, KINDS[error].number)

    # -- the manifest ------------------------------------------------------------------------------------------

    def _manifest(self, message: Manifest) -> list[Effect]:
        if not message.entries and not message.last:
            raise ProtocolError("bad-message", "a manifest frame was empty")
        asked: list[FileEntry | PipeEntry | FolderEntry] = []
        effects: list[Effect] = []
        for kind, run in groupby(message.entries, type):
            if kind is FileEntry:  # nearly all are
                files = cast("list[FileEntry]", list(run))
                self._plain_files(files)
                asked += files
            else:
                for entry in run:
                    effects += self._other(entry, asked)
        self._check_windows()
        if message.last and not self._order.complete:
            raise ProtocolError("bad-message", "the manifest ended inside a folder")
        effects += self._links_if_ready()
        return [LookUp(asked), *effects] if asked else effects

    def _other(
        self,
        entry: FileEntry | PipeEntry | FolderEntry | FolderEnd | SymlinkEntry,
        asked: list[FileEntry | PipeEntry | FolderEntry],
    ) -> list[Effect]:
        """An entry that is no plain file. What the disk has to be asked about goes to `asked`."""
        if isinstance(entry, FolderEnd):
            self._order.folder_end(entry.number)
            folder = self._folders.get(entry.number)
            if folder is None:
                return []
            folder.end = entry
            # A folder may be complete before the disk has even been asked to make it: then the look-up's answer
            # finishes it.
            return self._finish(folder)
        if isinstance(entry, SymlinkEntry):
            return self._symlink(entry)
        if isinstance(entry, DigestedEntry) and "checksum" not in self._features:
            raise ProtocolError("bad-message", "a file came with a digest, and nobody had agreed to that")
        if isinstance(entry, PipeEntry) and "pipes" not in self._features:
            raise ProtocolError("bad-message", "a pipe came, and nobody had agreed to that")
        if isinstance(entry, FolderEntry):
            path, parent = self._placed(entry)
            self._announced_folders += 1
            self._folders[entry.number] = Folder(entry.number, path, parent)
        else:
            self._file(entry)
        asked.append(entry)
        return []

    def _plain_files(self, files: Sequence[FileEntry]) -> None:
        """Files that follow each other, and so are in one folder."""
        parent = self._folders.get(self._order.open_folder)
        paths = self._order.files(files)
        if self._tops is not None:
            for path in paths:
                self._check_asked(path)
        if parent is not None:
            parent.open_entries += len(files)
        numbers = [file.number for file in files]
        sizes = [file.size for file in files]
        self._files.update(zip(numbers, map(File, numbers, paths, sizes, repeat(parent)), strict=True))
        self._announced_files += len(files)
        self._announced_bytes += sum(sizes)
        self._unanswered += len(files)

    def _file(self, entry: FileEntry | PipeEntry) -> None:
        path, parent = self._placed(entry)
        self._announced_files += 1
        if isinstance(entry, PipeEntry):
            self._files[entry.number] = File(entry.number, path, 0, parent, pipe=True)
        else:
            self._announced_bytes += entry.size
            self._files[entry.number] = File(entry.number, path, entry.size, parent)
        self._unanswered += 1

    def _placed(self, entry: FileEntry | PipeEntry | FolderEntry) -> tuple[tuple[bytes, ...], Folder | None]:
        """The path of an entry, which has to be in order, and its folder, which has one more entry now."""
        parent = self._folders.get(self._order.open_folder)
        path = self._order.entry(entry.number, entry.path, folder=isinstance(entry, FolderEntry))
        if self._tops is not None:
            self._check_asked(path)
        if parent is not None:
            parent.open_entries += 1
        return path, parent

    def _symlink(self, entry: SymlinkEntry) -> list[Effect]:
        if "symlinks" not in self._features:
            raise ProtocolError("bad-message", "a symlink came, and nobody had agreed to that")
        path = self._order.symlink(entry.number, entry.path)
        self._check_asked(path)
        link = File(entry.number, path, len(entry.target), None)
        self._announced_files += 1
        self._announced_bytes += link.size
        self._links[entry.number] = link, entry.target
        if not stays_inside(path, entry.target):
            return self._resolve_link(entry.number, "failed", error=KINDS["bad-name"].number)
        self._waiting_links.append(entry)
        return []

    def _left_out(self, path: tuple[bytes, ...], error: int) -> Effect:
        self._check_asked(path)
        return LeftOut(path, kind_from_peer(error, (3, 6), "source-unreadable").number)

    def _check_asked(self, path: tuple[bytes, ...]) -> None:
        """What was not asked for does not come in: a sender does not choose which files of ours it writes."""
        if self._tops is not None and path[0] not in self._tops:
            raise ProtocolError("protocol-error", "the sender announced something that nobody had asked for")

    def _check_windows(self) -> None:
        if (
            self._unanswered > limits.WINDOW_UNANSWERED
            or len(self._files) + len(self._folders) + len(self._links) - self._draining > limits.WINDOW_UNACKNOWLEDGED
        ):
            raise ProtocolError("protocol-error", "the sender announced more entries than its window")
        offer = self._offer
        if (
            (offer.files is not None and self._announced_files > offer.files)
            or (offer.folders is not None and self._announced_folders > offer.folders)
            or (offer.bytes is not None and self._announced_bytes > offer.bytes)
        ):
            raise ProtocolError("over-offer")

    def _answered(self, number: int) -> File:
        file = self._files[number]
        self._unanswered -= 1
        return file
