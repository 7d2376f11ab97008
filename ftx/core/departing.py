"""The entries of a job, as the sender remembers them until each has its result."""

from __future__ import annotations

from typing import Any

import msgspec

from ftx.core.blocks import BlockSet

__all__ = ["Departing"]


class Departing(msgspec.Struct, eq=False, gc=False):
    """A file, folder or link without its result."""

    number: int
    path: tuple[bytes, ...]
    size: int
    folder: bool
    #: The owner's own note of where the file is.
    source: Any
    #: Blocks asked for, None until the whole answer is here; a file of one block needs none.
    wanted: BlockSet | None = None
    next_group: int = 0
    #: Content bytes that the receiver holds already.
    present: int = 0
    #: A want or a result has come.
    answered: bool = False
    #: A whole want has come: the file must be closed, once.
    asked: bool = False
    #: Handed out as disk work that has not come back.
    active: bool = False
    #: We have sent its last piece, its entry-end or its entry-failed.
    closed: bool = False
    #: The receiver gave its result before we closed the file: close it, and that is all.
    failed: bool = False
    #: Its size is what has been read so far: its blocks, of which one at a time is read.
    pipe: bool = False
    blocks: int = 0
    reading: bool = False
    #: We have closed it with an entry-failed: nothing opens it again.
    withdrawn: bool = False
    #: Blocks to be sent once more, and how often that was asked of us.
    again: tuple[int, ...] = ()
    repeats: int = 0
    digest: bytes | None = None
    #: The digests of the receiver's older copy, joined.
    basis: bytes | bytearray = b""
    #: The digest that it was announced with.
    claimed: bytes | None = None
