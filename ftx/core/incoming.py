"""The small lives of the entries of a job, as the receiver remembers them until each has its result."""

from __future__ import annotations

from enum import Enum

import attrs
from msgspec import Struct

from ftx.core.blocks import BlockSet
from ftx.wire.messages import FolderEnd

__all__ = ["File", "Folder", "Life"]


class Life(Enum):
    """Where a file stands."""

    #: The disk is asked what there is of it.
    LOOKING = 1
    #: It was asked for; its blocks are coming.
    WANTED = 2
    #: The sender has closed it; the last writes and the publishing are under way.
    CLOSING = 3
    #: It has failed, and the sender has not closed it: what still comes is dropped.
    DRAINING = 4


@attrs.define(eq=False)
class Folder:
    """A folder without its result."""

    number: int
    path: tuple[bytes, ...]
    parent: Folder | None
    #: Entries directly in it that have no result yet.
    open_entries: int = 0
    #: Its folder-end, once it came.
    end: FolderEnd | None = None
    #: The disk has made it.
    made: bool = False


class File(Struct, eq=False, gc=False):
    """A file without its result (or draining). Nothing that it leads to leads back: the collector need not look."""

    number: int
    path: tuple[bytes, ...]
    size: int
    parent: Folder | None
    life: Life = Life.LOOKING
    #: Blocks asked for and not yet here; None for a file of one block.
    missing: BlockSet | None = None
    #: Those of them that were asked for once more, and how many blocks have not verified so far.
    again: frozenset[int] = frozenset()
    mismatches: int = 0
    #: How many blocks of an older copy were offered.
    basis: int = 0
    #: Blocks handed to the disk and not yet reported written.
    writing: int = 0
    #: Content bytes that were there before the job.
    present: int = 0
    #: Content bytes verified, and durable.
    verified: int = 0
    durable: int = 0
    #: A sync is under way; when the last one ended.
    syncing: bool = False
    synced_at: float = 0.0
    #: Its size is what has come so far; the blocks that have, and whether the last of them was shorter than a block.
    pipe: bool = False
    blocks: int = 0
    ended: bool = False
    #: That of an entry-end which has overtaken blocks on lanes.
    early: bytes | None = None
    #: The file digest of entry-end.
    digest: bytes | None = None
    #: The disk has been asked to publish it.
    publishing: bool = False
