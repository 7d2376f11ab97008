"""The queue on disk: what is to be sent when its peer is there, so that it outlives the daemon (`docs/storage.md`)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Annotated, Final

import attrs
import msgspec

from ftx import limits
from ftx.core.queueing import Queued
from ftx.disk import private
from ftx.errors import FtxError
from ftx.text import show, size

__all__ = ["QueueFile"]

_KIND: Final = "state-unusable"
_MAGIC: Final = b"ftx queue 1 "


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    """Everything behind the first line."""

    entries: Annotated[list[Queued], msgspec.Meta(max_length=limits.QUEUE_ENTRIES)] = []


@attrs.frozen
class QueueFile:
    """The file at `path`, which one daemon has for itself. Everything blocks for as long as a small file takes."""

    path: str

    def load(self) -> list[Queued]:
        """The entries, oldest first; none without a file. FtxError `state-unusable` for a file that is no queue."""
        read = private.read(self.path, limits.QUEUE_FILE, _KIND)
        if read is None:
            return []
        head, _, body = read[0].partition(b"\n")
        try:
            if head != _head(body):
                raise msgspec.DecodeError("its first line does not fit the rest")
            return msgspec.json.decode(body, type=_Content).entries
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            what = f"the queue {show(self.path, limits.PATH)} is damaged: {show(str(error))}"
            raise FtxError(_KIND, what, "move it away: the queue then begins empty") from error

    def save(self, entries: Sequence[Queued], room: int = 0) -> None:
        """Put `entries` there, durably and at once, if that leaves `room` bytes.

        FtxError `busy` when it would be larger than what is read again, and `state-unusable` when it cannot be done.
        """
        body = msgspec.json.encode(_Content(list(entries)))
        content = _head(body) + b"\n" + body
        if len(content) + room > limits.QUEUE_FILE:
            what = f"the queue is full: its file would be larger than {size(limits.QUEUE_FILE - room)}"
            raise FtxError("busy", what, "ftx-client ctl queue")
        private.replace(self.path, content, _KIND)


def _head(body: bytes) -> bytes:
    """The first line: what the file is, and a checksum of the rest."""
    return _MAGIC + f"{zlib.crc32(body):08x}".encode()
