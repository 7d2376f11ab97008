"""A pairing window: one code, for a while, for one attempt (`docs/protocol.md`, section 15)."""

from __future__ import annotations

import attrs

from ftx.errors import FtxError

__all__ = ["Window"]


@attrs.define(eq=False)
class Window:
    """Open until `expires` (seconds on the clock that every `now` here is of), or until somebody has taken its code.

    `name` is what the person wants the peer to be called, or empty; `keep` says whether it is paired for good.
    """

    code: str = attrs.field(repr=False)
    expires: float
    name: str = ""
    keep: bool = True
    #: Who makes the attempt, once there is one.
    taker: object = attrs.field(default=None, init=False)
    _closed: bool = attrs.field(default=False, init=False)

    def is_open(self, now: float) -> bool:
        """Whether an attempt may begin."""
        return not self._closed and self.taker is None and now < self.expires

    def take(self, who: object, now: float) -> str:
        """The code, for the one attempt that `who` begins; FtxError `pairing-closed` for whoever comes later."""
        if not self.is_open(now):
            raise FtxError("pairing-closed")
        self.taker = who
        return self.code

    def spoil(self, who: object) -> None:
        """Whoever broke the protocol in front of the window has used the code up."""
        if self.taker is None:
            self.taker = who

    def close(self) -> None:
        """No attempt begins any more."""
        self._closed = True
