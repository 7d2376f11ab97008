"""Where a `get` puts things: a folder, or a descriptor. Both are a `Destination` of `ftx.client.download`."""

from __future__ import annotations

import attrs
from twisted.logger import Logger

from ftx.disk.inbox import Inbox
from ftx.disk.landing import open_landing
from ftx.disk.store import Store
from ftx.disk.stream import Stream
from ftx.errors import FtxError

__all__ = ["Folder", "Pipe"]

_log = Logger()


@attrs.frozen
class Folder:
    """A folder as the destination of a `get`."""

    path: str
    state: str
    #: Whether names may have control characters in them.
    any_names: bool = False
    _open: list[Inbox] = attrs.field(factory=list)

    def open(self) -> Store:
        """See `Destination`."""
        self._open.append(open_landing(self.path, self.state, _report, any_names=self.any_names))
        return self._open[0]

    def close(self) -> None:
        """See `Destination`."""
        for inbox in self._open:
            inbox.close()

    @property
    def failure(self) -> FtxError | None:
        """See `Destination`: each file has its own."""
        return None


@attrs.frozen
class Pipe:
    """A descriptor as the destination of a `get`."""

    fd: int
    _open: list[Stream] = attrs.field(factory=list)

    def open(self) -> Store:
        """See `Destination`."""
        self._open.append(Stream(self.fd))
        return self._open[0]

    def close(self) -> None:
        """See `Destination`."""
        for stream in self._open:
            stream.forget()

    @property
    def failure(self) -> FtxError | None:
        """See `Destination`."""
        return self._open[0].failure if self._open else None


def _report(sentence: str) -> None:
    """A failure of storage, from a worker thread, already clean for display."""
    _log.warn("{sentence}", sentence=sentence)
