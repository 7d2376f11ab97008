"""An inbox and a source tree in memory that behave as the real ones do, with faults on order.

Not a stand-in for `ftx.disk`, which has tests of its own, but the smallest honest model of what its interface promises:
look-ups, blocks that are verified and then made durable, digests, names, partials that outlive a job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from ftx import limits
from ftx.core.blocks import BlockSet, block_count, block_digest, block_length, file_digest
from ftx.errors import FtxError
from ftx.wire.messages import DigestedEntry, FileEntry, FolderEntry

__all__ = [
    "MTIME",
    "File",
    "Folder",
    "FolderEnd",
    "Have",
    "Link",
    "Made",
    "MemoryDisk",
    "Refuse",
    "Skip",
    "Want",
    "items",
]

Path = tuple[bytes, ...]
MTIME = 1_700_000_000_000_000_000


@attrs.frozen
class File:
    """A source file. `fault`: `open`, `read N`, `again N` (read a second time), `close`; `lies`: a block that is
    not what its digest says, `times` times.
    """

    path: Path
    content: bytes
    mtime: int = MTIME
    mode: int = 0o644
    fault: str = ""
    lies: int | None = None
    times: int = 1_000_000

    def block(self, index: int) -> bytes:
        """The bytes of one block."""
        return self.content[index * limits.BLOCK : (index + 1) * limits.BLOCK]

    def block_digests(self) -> list[bytes]:
        """The digests of all blocks."""
        return [block_digest([self.block(index)]) for index in range(block_count(len(self.content)))]

    def digest(self) -> bytes:
        """The file digest."""
        return file_digest(len(self.content), self.block_digests())


@attrs.frozen
class Folder:
    """A source folder; its entries follow."""

    path: Path


@attrs.frozen
class Link:
    """A source link; after everything else."""

    path: Path
    target: bytes
    mtime: int = MTIME


@attrs.frozen
class FolderEnd:
    """The end of a source folder."""

    path: Path
    mode: int = 0o755
    mtime: int = MTIME


#: A source tree: a name's content, or the tree of a folder.
Tree = Mapping[bytes, Any]


def items(tree: Tree, faults: Mapping[Path, Mapping[str, Any]] | None = None, above: Path = ()) -> Iterator[Any]:
    """The tree in the order of a manifest; `faults` gives further fields of some files."""
    for name in sorted(tree):
        path = (*above, name)
        value = tree[name]
        if isinstance(value, bytes):
            yield File(path, value, **(faults or {}).get(path, {}))
        else:
            yield Folder(path)
            yield from items(value, faults, path)
            yield FolderEnd(path)


@attrs.frozen
class Have:
    """It is there, verified."""

    stored_as: Path
    digest: bytes


@attrs.frozen
class Want:
    """Send what is not in `held`; `basis` is the content of an older version of several blocks."""

    held: BlockSet | None
    basis: bytes = b""


@attrs.frozen
class Skip:
    """Left out."""


@attrs.frozen
class Made:
    """The folder is there."""


@attrs.frozen
class Refuse:
    """Not taken."""

    error: str


@attrs.define(eq=False)
class _Work:
    entry: FileEntry
    #: Verified, not yet durable.
    fresh: dict[int, bytes] = attrs.field(factory=dict)
    #: An older version, as it is now.
    basis: bytes = b""


class MemoryDisk:
    """One inbox. `faults` maps a path (with the folder of the offer) to `STAGE ERROR` or `write N ERROR`.

    Stages: `look-up`, `write N`, `sync`, `store` (a file of one block), `publish`, `finish` (a folder).
    """

    def __init__(self, *, conflict: str = "rename", faults: Mapping[Path, str] | None = None) -> None:
        self.conflict = conflict
        self.faults = dict(faults or {})
        #: What is visible in the inbox.
        self.files: dict[Path, bytes] = {}
        self.folders: dict[Path, tuple[int, int] | None] = {}
        self.links: dict[Path, bytes] = {}
        #: Durable blocks of unfinished files.
        self.partials: dict[tuple[Path, int, int], dict[int, bytes]] = {}
        self._records: dict[tuple[Path, int, int], Path] = {}
        self._works: dict[int, _Work] = {}
        self._names: dict[int, Path] = {}
        self._refused: dict[Path, str] = {}
        self._into: Path = ()
        #: Every call that changes something, for assertions about order.
        self.trail: list[tuple[str, Path]] = []

    def begin(self, into: Sequence[bytes]) -> None:
        """A new job; of the one before only what is durable is left."""
        self._into = tuple(into)
        self._works.clear()
        self._names.clear()
        self._refused.clear()

    def look_up(self, entry: FileEntry | FolderEntry) -> Have | Want | Skip | Made | Refuse:
        """What there is of an entry."""
        path = self._into + tuple(entry.path)
        self._names[entry.number] = path
        error = self._fault(path, "look-up")
        for depth in range(len(path)):
            error = self._refused.get(path[:depth], error)
        if error:
            if isinstance(entry, FolderEntry):
                self._refused[path] = error
            return Refuse(error)
        if isinstance(entry, FolderEntry):
            self.folders.setdefault(path, None)
            return Made()
        name = self._records.get(self._key(entry))
        if isinstance(entry, DigestedEntry):
            same = [stored for (at, size, _), stored in self._records.items() if (at, size) == (path, entry.size)]
            name = next((stored for stored in same if File(stored, self.files[stored]).digest() == entry.digest), None)
        if name is not None:
            return Have(name, File(name, self.files[name]).digest())
        if path in self.files and self.conflict in ("fail", "skip"):
            return Skip() if self.conflict == "skip" else Refuse("exists")
        self._works[entry.number] = _Work(entry)
        blocks = block_count(entry.size)
        if blocks > 1:  # looked for among all there are, which small files are too many for
            versions = (self.files[name] for (at, _, _), name in self._records.items() if at == path)
            self._works[entry.number].basis = next(filter(None, versions), b"")
        work = self._works[entry.number]
        durable = self.partials.get(self._key(entry))
        if blocks == 1 or durable is None:
            return Want(None, work.basis)
        held = BlockSet(blocks)
        for block in durable:
            held.add(block)
        return Want(held, work.basis)

    def store_whole(self, number: int, content: bytes, digest: bytes) -> tuple[Path, bytes]:
        """A file of one block: stored under this name with this file digest."""
        entry = self._works[number].entry
        self._raise(self._names[number], "store")
        if len(content) != entry.size or block_digest([content]) != digest:
            raise FtxError("digest-mismatch")
        return self._publish(number, content)

    def write_block(self, number: int, index: int, content: bytes | None, digest: bytes) -> bool:
        """A block of a larger file (None: zeros): whether it verified."""
        work = self._works[number]
        self._raise(self._names[number], f"write {index}")
        data = bytes(block_length(work.entry.size, index)) if content is None else content
        if len(data) != block_length(work.entry.size, index) or block_digest([data]) != digest:
            return False
        work.fresh[index] = data
        return True

    def copy_block(self, number: int, index: int, offset: int, digest: bytes) -> bool:
        """A block of the older version, which may have changed since it was offered: whether it verified."""
        work = self._works[number]
        length = block_length(work.entry.size, index)
        return self.write_block(number, index, work.basis[offset : offset + length], digest)

    def spoil_bases(self) -> None:
        """Somebody changes every older version that is on offer."""
        for work in self._works.values():
            work.basis = bytes(byte ^ 0xFF for byte in work.basis[:10]) + work.basis[10:]

    def sync(self, number: int) -> int:
        """Everything verified is durable from now on: how many bytes of this file."""
        work = self._works.get(number)
        if work is None:
            raise FtxError("storage-failed")
        self._raise(self._names[number], "sync")
        durable = self.partials.setdefault(self._key(work.entry), {})
        durable.update(work.fresh)
        work.fresh.clear()
        return sum(map(len, durable.values()))

    def publish(self, number: int, digest: bytes) -> tuple[Path, bytes]:
        """The larger file is complete."""
        entry = self._works[number].entry
        self._raise(self._names[number], "publish")
        self.sync(number)
        blocks = self.partials[self._key(entry)]
        if len(blocks) != block_count(entry.size):
            raise FtxError("internal", "published before all blocks were there")
        content = b"".join(blocks[index] for index in sorted(blocks))
        if File((), content).digest() != digest:
            raise FtxError("digest-mismatch")
        del self.partials[self._key(entry)]
        return self._publish(number, content)

    def finish_folder(self, number: int, mode: int, mtime: int) -> Path:
        """Mode and time of a folder in which nothing changes any more."""
        path = self._names[number]
        self._raise(path, "finish")
        self.folders[path] = (mode, mtime)
        self.trail.append(("finish", path))
        return path

    def make_link(self, path: Path, target: bytes) -> tuple[Path, bool]:
        """A link: where it is, and whether it was there before."""
        whole = self._into + path
        self._raise(whole, "link")
        if self.links.get(whole) == target:
            return whole, True
        if whole in self.files or whole in self.folders or whole in self.links:
            raise FtxError("exists")
        self.links[whole] = target
        self.trail.append(("link", whole))
        return whole, False

    def discard(self, number: int, keep: bool) -> None:
        """Nothing more comes for this entry."""
        work = self._works.pop(number, None)
        if work is not None and not keep:
            self.partials.pop(self._key(work.entry), None)

    def _publish(self, number: int, content: bytes) -> tuple[Path, bytes]:
        path = free = self._names[number]
        count = 0
        while free in self.files or free in self.folders:
            count += 1
            free = (*path[:-1], path[-1] + b" (%d)" % count)
        self.files[free] = content
        self._records[self._key(self._works.pop(number).entry)] = free
        self.trail.append(("publish", path))
        return free, File(path, content).digest()

    def _key(self, entry: FileEntry) -> tuple[Path, int, int]:
        return self._into + tuple(entry.path), entry.size, entry.mtime

    def _fault(self, path: Path, stage: str) -> str:
        fault = self.faults.get(path, "")
        return fault[len(stage) + 1 :] if fault.startswith(stage + " ") else ""

    def _raise(self, path: Path, stage: str) -> None:
        error = self._fault(path, stage)
        if error:
            raise FtxError(error)
