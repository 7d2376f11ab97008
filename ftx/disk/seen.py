"""Names that were seen on the network, for the completion of command lines: a cache, believed by nobody.

`docs/storage.md` has the format. Whatever is wrong with the file, there are no names; it is written anew next time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from ftx import limits
from ftx.disk.private import ensure_folder, read, replace
from ftx.errors import FtxError

__all__ = ["SeenName", "names", "remember"]

_KIND = "state-unusable"


class SeenName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name that somebody announced, where that was, and when: seconds since 1970."""

    name: str
    address: str
    time: float


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    names: list[SeenName]


def _path(state: str) -> str:
    return os.path.join(state, "seen.json")


def names(state: str, now: float) -> list[SeenName]:
    """The names of the last SEEN_AGE seconds before `now`, latest first; none where the file says nothing."""
    try:
        found = read(_path(state), limits.SEEN_FILE, _KIND)
        if found is None:
            return []
        content = msgspec.json.decode(found[0], type=_File)
    except (FtxError, OSError, msgspec.DecodeError, RecursionError):  # a ValidationError is a DecodeError
        return []
    if content.version != 1:
        return []
    fresh = [one for one in content.names if 0 <= now - one.time < limits.SEEN_AGE]
    return sorted(fresh, key=lambda one: -one.time)[: limits.DISCOVERED]


def remember(state: str, seen: Iterable[SeenName], now: float) -> None:
    """Add `seen` to what is kept. Blocking. A convenience: what cannot be written is not, and nobody hears of it."""
    merged = {one.name: one for one in reversed([*seen, *names(state, now)])}
    kept = sorted(merged.values(), key=lambda one: -one.time)[: limits.DISCOVERED]
    try:
        ensure_folder(state, _KIND)
        replace(_path(state), msgspec.json.encode(_File(1, kept)), _KIND)
    except (FtxError, OSError):
        return
