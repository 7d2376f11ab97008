"""What the sender announces: entries, numbered and gathered into manifest frames, as many as the windows allow.

Entries are numbered as they are added and remembered until their result comes, so memory is bounded by the windows.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any, Protocol

from ftx import limits
from ftx.core.blocks import content_digest
from ftx.core.concluding import Concluded, Concluding, SenderState
from ftx.core.departing import Departing
from ftx.core.events import Effect, Send
from ftx.core.table import Trace
from ftx.errors import KINDS
from ftx.wire.messages import (
    PULL,
    DigestedEntry,
    FileEntry,
    FolderEnd,
    FolderEntry,
    Manifest,
    Offer,
    Omission,
    Omitted,
    PipeEntry,
    SymlinkEntry,
    Totals,
)

__all__ = ["Announced", "Announcing"]


class Announced(Protocol):
    """A file to be announced: its path, its bytes, its time in ns since 1970, and its permission bits."""

    @property
    def path(self) -> tuple[bytes, ...]: ...
    @property
    def size(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def mode(self) -> int: ...


class Announcing(Concluding):
    """The layer of a sender that its owner's walk fills."""

    def __init__(
        self,
        offer: Offer,
        concluded: Concluded | None = None,
        trace: Trace | None = None,
        *,
        features: Set[str] = frozenset(),
    ) -> None:
        super().__init__(offer, concluded, trace, features=features)
        self._next = 0
        self._unanswered = 0
        self._manifest: list[FileEntry | PipeEntry | FolderEntry | FolderEnd | SymlinkEntry] = []
        self._manifest_size = 0
        self._manifest_done = False
        self._omissions: list[Omission] = []
        self._omission_size = 0
        self._totals_said = False

    def room(self) -> int:
        """How many entries may be added now without going over the windows."""
        if self.accepted is None or self._manifest_done or self.paused:
            return 0
        # What is announced is held here until its result: a receiver may want less of that than our limits, never more.
        unanswered = min(self.accepted.unanswered, limits.WINDOW_UNANSWERED) - self._unanswered
        unacknowledged = min(self.accepted.unacknowledged, limits.WINDOW_UNACKNOWLEDGED) - len(self._entries)
        return min(unanswered, unacknowledged, limits.BATCH)

    @property
    def idle(self) -> bool:
        """Whether nothing announced is without its result: the receiver has nothing to do."""
        return not self._entries

    def add_file(
        self,
        path: tuple[bytes, ...],
        size: int,
        mtime: int,
        mode: int,
        source: Any,
        digest: bytes | None = None,
    ) -> list[Effect]:
        """Announce a file; `mtime` in ns since 1970, `source` is given back by `source()`.

        `digest` is the file's, when it was read before: the receiver, if it knows the feature, may find it by that.
        """
        number = self._add(path, size, False, source)
        self._unanswered += 1
        if digest is None or "checksum" not in self._features:
            return self._announce(FileEntry(number, list(path), size, mtime, mode), path)
        self._entries[number].claimed = digest
        return self._announce(DigestedEntry(number, list(path), size, mtime, mode, digest), path, 34)

    def add_files(self, files: Sequence[Announced]) -> list[Effect]:
        """Announce files without digests, many at once; each is itself what `source()` gives back."""
        effects: list[Effect] = []
        entries, manifest, most = self._entries, self._manifest, limits.FRAME_BATCH - 64
        for number, file in enumerate(files, self._next):
            path, length = file.path, file.size
            entries[number] = Departing(number, path, length, False, file)
            size = 40 + len(b"".join(path)) + 3 * len(path)
            if self._manifest_size + size > most or len(manifest) >= limits.BATCH:
                effects += self._flush_manifest()
                manifest = self._manifest
            manifest.append(FileEntry(number, list(path), length, file.mtime_ns, file.mode))
            self._manifest_size += size
        self._next += len(files)
        self._unanswered += len(files)
        return effects

    def add_folder(self, path: tuple[bytes, ...]) -> tuple[int, list[Effect]]:
        """Announce a folder; its number is needed for `end_folder`."""
        number = self._add(path, 0, True, None)
        return number, self._announce(FolderEntry(number, list(path)), path)

    def end_folder(self, number: int, mode: int, mtime: int) -> list[Effect]:
        """The folder `number` is complete."""
        return self._announce(FolderEnd(number, mode, mtime), ())

    @property
    def takes_pipes(self) -> bool:
        """Whether the receiver takes files of unknown size."""
        return "pipes" in self._features

    def add_pipe(self, path: tuple[bytes, ...], mtime: int, mode: int, source: Any) -> list[Effect]:
        """Announce a file of unknown size, where `takes_pipes`; `source` is given back by `source()`."""
        number = self._add(path, 0, False, source)
        self._entries[number].pipe = True
        self._unanswered += 1
        return self._announce(PipeEntry(number, list(path), mtime, mode), path)

    @property
    def keeps_links(self) -> bool:
        """Whether the receiver takes symbolic links."""
        return "symlinks" in self._features

    def add_link(self, path: tuple[bytes, ...], target: bytes, mtime: int) -> list[Effect]:
        """Announce a symbolic link, where `keeps_links`; after all files and folders."""
        number = self._add(path, len(target), False, None)
        entry = self._entries[number]
        # There is nothing to ask for, and what it is has been said.
        entry.answered = entry.closed = True
        entry.digest = content_digest(target)
        return self._announce(SymlinkEntry(number, list(path), target, mtime), path, len(target))

    def omit(self, path: tuple[bytes, ...], error: str) -> list[Effect]:
        """Something cannot be sent, for the reason of kind `error`: who has asked for it is told. Not in a push."""
        if self.offer.kind != PULL:
            return []
        path = path[: limits.DEPTH]
        while sum(map(len, path)) + len(path) - 1 > limits.PATH:
            path = path[:-1]
        self._omissions.append(Omission(list(path), KINDS[error].number))
        self._omission_size += 16 + sum(map(len, path)) + 3 * len(path)
        full = len(self._omissions) >= limits.BATCH or self._omission_size > limits.FRAME_BATCH - 2 * limits.PATH
        return self._flush_omissions() if full else []

    def end_manifest(self) -> list[Effect]:
        """There are no more entries."""
        self._manifest_done = True
        return self._flush_omissions() + self._flush_manifest() + self._end_if_complete()

    def flush_manifest(self) -> list[Effect]:
        """Send what was announced so far. `end_manifest` does so by itself."""
        return self._flush_omissions() + (self._flush_manifest() if self._manifest else [])

    def counted(self, files: int, folders: int, size: int) -> list[Effect]:
        """The counting walk has ended."""
        self.totals = Totals(files, folders, size)
        return self._say_totals() if self.state in (SenderState.WAITING, SenderState.STREAMING) else []

    # -- within ------------------------------------------------------------------------------------------------

    def _say_totals(self) -> list[Effect]:
        """Tell the totals, once, as soon as they are known and wanted."""
        if self.totals is None or self._totals_said or self._last_sent:
            return []
        self._totals_said = True
        return [Send(self.totals)]

    def _add(self, path: tuple[bytes, ...], size: int, folder: bool, source: Any) -> int:
        number = self._next
        self._next += 1
        self._entries[number] = Departing(number, path, size, folder, source)
        return number

    def _announce(
        self,
        entry: FileEntry | PipeEntry | FolderEntry | FolderEnd | SymlinkEntry,
        path: Sequence[bytes],
        more: int = 0,
    ) -> list[Effect]:
        size = 40 + len(b"".join(path)) + 3 * len(path) + more
        effects: list[Effect] = []
        if self._manifest_size + size > limits.FRAME_BATCH - 64 or len(self._manifest) >= limits.BATCH:
            effects = self._flush_manifest()
        self._manifest.append(entry)
        self._manifest_size += size
        return effects

    def _flush_manifest(self) -> list[Effect]:
        last = self._manifest_done
        if self._last_sent or not (self._manifest or last):
            return []
        entries, self._manifest, self._manifest_size = self._manifest, [], 0
        self._last_sent = last
        return [Send(Manifest(entries, last))]

    def _flush_omissions(self) -> list[Effect]:
        omissions, self._omissions, self._omission_size = self._omissions, [], 0
        return [Send(Omitted(omissions))] if omissions else []
