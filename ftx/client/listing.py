"""One look into a peer's shares, over as many connections as it takes."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from ftx.client.attempts import Attempts
from ftx.errors import kind_from_peer
from ftx.net.asking import Looking
from ftx.net.dial import Dialled
from ftx.text import path_text
from ftx.wire.messages import Item, ItemKind

__all__ = ["Listed", "RemoteListing"]

_KINDS: Final = {
    ItemKind.FILE: "file",
    ItemKind.FOLDER: "folder",
    ItemKind.LINK: "link",
    ItemKind.OTHER: "other",
    ItemKind.SHARE: "share",
}
_SECOND: Final = 1_000_000_000


class Listed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing in a share, as `ftx-client ls --json` prints it.

    `path` is what `get` takes behind the colon, share and all; `path_b64` is there when that text is not exact. `kind`
    is `file`, `folder`, `link`, `other` or `share`; `size` in bytes, of files; `mtime` ISO 8601 with nanoseconds.
    `error` names why a folder could not be looked into.
    """

    path: str
    path_b64: str | msgspec.UnsetType = msgspec.UNSET
    kind: str
    size: int | None
    mtime: str
    mode: int
    error: str = ""


class RemoteListing:
    """One listing; `run()` may be called once. `on_item` gets every item, in order."""

    def __init__(
        self, attempts: Attempts, path: Sequence[bytes], deep: bool, on_item: Callable[[Listed], object]
    ) -> None:
        self._attempts = attempts
        self._path = tuple(path)
        self._deep = deep
        self._on_item = on_item
        self._looking: Looking | None = None
        self._full = False
        self._shown = 0
        self._last: tuple[bytes, ...] | None = None

    async def run(self) -> int:
        """How many items there were. FtxError when they could not be had."""
        await self._attempts.run(self._attempt, lambda: None)
        return self._shown

    def hold(self, full: bool) -> None:
        """Whoever takes the items has enough of them for now, or wants more."""
        self._full = full
        if not full and self._looking is not None:
            self._looking.more()

    async def _attempt(self, dialled: Dialled) -> None:
        self._looking = Looking(dialled.connection, secrets.token_bytes(16), self._items)
        try:
            await self._looking.run(self._path, deep=self._deep)
        finally:
            self._looking = None

    def _items(self, items: Sequence[Item]) -> bool:
        for item in items:
            path = tuple(item.path)
            if self._last is not None and path <= self._last:
                continue  # shown before a connection was lost: items come in this order
            self._last = path
            self._shown += 1
            self._on_item(_listed(self._path, item))
        return not self._full


def _listed(asked: tuple[bytes, ...], item: Item) -> Listed:
    raw = b"/".join((*asked, *item.path))
    text = path_text([raw])
    exact = text.encode("utf-8", "surrogatepass") == raw
    return Listed(
        path=text,
        path_b64=msgspec.UNSET if exact else base64.b64encode(raw).decode("ascii"),
        kind=_KINDS[item.kind],
        size=item.size if item.kind is ItemKind.FILE else None,
        mtime=_iso(item.mtime),
        mode=item.mode,
        error=kind_from_peer(item.error, (3, 6), "source-unreadable").name if item.error else "",
    )


def _iso(nanoseconds: int) -> str:
    """ISO 8601 in UTC, with nanoseconds; years that Python cannot say become the first or the last it can."""
    seconds, rest = divmod(nanoseconds, _SECOND)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        moment = datetime.max.replace(microsecond=0) if seconds > 0 else datetime.min
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
