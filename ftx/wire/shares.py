"""Messages about shares: listings, requests, and what cannot be sent (section 16)."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta

from ftx import limits
from ftx.wire.fields import LINKS, Count, Entry, ErrorNumber, Folder, Job, Message, Mode, Time, WirePath

__all__ = ["Item", "ItemKind", "List", "Listing", "Omission", "Omitted", "Request"]


class List(Message, frozen=True):
    """What is there? An empty path asks for the shares."""

    job: Job
    path: Folder
    deep: bool


class ItemKind(IntEnum):
    """What an item of a listing is."""

    FILE = 0
    FOLDER = 1
    LINK = 2
    OTHER = 3
    SHARE = 4


class Item(Entry, frozen=True):
    """One thing in a listing; its path is counted from what was asked for, empty for that. `error` is 0, or why more is
    not known.
    """

    kind: ItemKind
    path: Folder
    size: Count
    mtime: Time
    mode: Mode
    error: Annotated[int, Meta(ge=0, le=20_000)]


class Listing(Message, frozen=True):
    """The next items of a listing."""

    job: Job
    items: Annotated[list[Item], Meta(max_length=limits.BATCH)]
    last: bool


class Request(Message, frozen=True):
    """A job with the roles swapped: what the client would like to have, and what below it it would not."""

    job: Job
    paths: Annotated[list[WirePath], Meta(min_length=1, max_length=limits.REQUEST_PATHS)]
    exclude: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=limits.PATTERN)]], Meta(max_length=limits.REQUEST_PATTERNS)
    ]
    links: Annotated[int, Meta(ge=0, le=len(LINKS) - 1)]


class Omission(Entry, frozen=True):
    """Something that cannot be sent, and why."""

    path: WirePath
    error: ErrorNumber


class Omitted(Message, frozen=True):
    """What there is besides the entries of the manifest, and cannot be sent."""

    items: Annotated[list[Omission], Meta(min_length=1, max_length=limits.BATCH)]
