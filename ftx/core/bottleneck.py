"""Whether the network is what a sender waits for: only then is it worth compressing what gains by it.

Where the network takes bytes faster than a processor compresses them (one machine, a fast wire), compression makes a
job slower and takes the processor from whatever else there is to do. So it is looked at from time to time how fast
uncompressed bytes go away: between two moments at which the transport has taken enough to want more, so many bytes
were given to it, and for so long there was nothing to do but wait. A sender that never waits is not held up by the
network at all. A receiver that is slower than the network looks like a slow network: beyond `limits.ZSTD_FASTEST` that
is too likely to compress for it; and since a receiver takes its time for each file, a small one counts as
`limits.ZSTD_FILE` bytes more than it has.
"""

from __future__ import annotations

from ftx import limits

__all__ = ["Bottleneck", "is_slow"]


def is_slow(sent: int, waited: float) -> bool:
    """Whether a network that made a sender of `sent` bytes wait for `waited` seconds is slower than compressing."""
    return sent < waited * limits.ZSTD_FASTEST


class Bottleneck:
    """What is known of the network of one job. Time is in seconds of any steady clock.

    It begins with compressing, so that on a slow network nothing is lost, for `limits.ZSTD_TERM` bytes on the wire.
    Then it looks; each time the network was slow, the next term is twice as long, up to `limits.ZSTD_LONGEST`.
    """

    def __init__(self) -> None:
        self._term = limits.ZSTD_TERM
        #: Bytes on the wire for which the last look still counts.
        self._left = self._term
        self._sent = 0
        self._full_since: float | None = None
        #: Whether the transport has wanted more since compressing ended: what was sent before says nothing.
        self._looking = False

    @property
    def packs(self) -> bool:
        """Whether to compress what gains by it."""
        return self._left > 0

    def sent(self, size: int, files: int = 0) -> None:
        """So many bytes, as they go over the wire, were given to the transport, of so many small files if any."""
        if self._left > 0:
            self._left -= size
            self._looking = False
        else:
            self._sent += size + files * limits.ZSTD_FILE

    def full(self, now: float) -> None:
        """The transport wants nothing more for now."""
        self._full_since = now

    def drained(self, now: float) -> None:
        """The transport wants more."""
        since, self._full_since = self._full_since, None
        sent, self._sent = self._sent, 0
        if since is None or self._left > 0:
            return
        if not self._looking:
            self._looking = True
        elif is_slow(sent, now - since):
            self._term = min(2 * self._term, limits.ZSTD_LONGEST)
            self._left = self._term
        else:
            self._term = limits.ZSTD_TERM
