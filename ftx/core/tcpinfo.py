"""What the kernel knows of a TCP connection: TCP_INFO, taken apart.

The structure is that of `<linux/tcp.h>`: it only ever grows at its end, so an older kernel gives less of it, and what
is missing reads as 0. Nothing here sees a socket.
"""

from __future__ import annotations

import sys
from typing import Final

import attrs

__all__ = ["TCP_INFO_BYTES", "TcpInfo"]

#: Bytes to ask for: up to `tcpi_sndbuf_limited`, the last field that is used.
TCP_INFO_BYTES: Final = 192
#: Offset and length of each field.
_FIELDS: Final = {
    "segment": (16, 4),
    "path_mtu": (60, 4),
    "round_trip": (68, 4),
    "window": (80, 4),
    "retransmits": (100, 4),
    "least_round_trip": (148, 4),
    "busy": (168, 8),
    "stalled": (176, 8),
    "buffer_stalled": (184, 8),
}


@attrs.frozen
class TcpInfo:
    """One connection at one moment, as its kernel sees it. Times are microseconds; 0 is also what is not known."""

    #: Bytes in one segment that is sent.
    segment: int = 0
    #: Bytes that the path takes in one packet, as far as the kernel has learnt.
    path_mtu: int = 0
    #: The smoothed round trip, and the shortest seen.
    round_trip: int = 0
    least_round_trip: int = 0
    #: The congestion window in segments.
    window: int = 0
    #: Segments that were sent again, since the connection began.
    retransmits: int = 0
    #: Time with something to send; of it, held up by the other end's receive window, and by our own send buffer.
    busy: int = 0
    stalled: int = 0
    buffer_stalled: int = 0

    @property
    def window_bytes(self) -> int:
        """The congestion window in bytes."""
        return self.window * self.segment

    def since(self, before: TcpInfo) -> TcpInfo:
        """The same, with everything that counts up counted from `before`."""
        return attrs.evolve(
            self,
            retransmits=max(0, self.retransmits - before.retransmits),
            busy=max(0, self.busy - before.busy),
            stalled=max(0, self.stalled - before.stalled),
            buffer_stalled=max(0, self.buffer_stalled - before.buffer_stalled),
        )

    @classmethod
    def of(cls, data: bytes) -> TcpInfo:
        """What `getsockopt(TCP_INFO)` gave; of a shorter structure what is there."""
        found = {
            name: int.from_bytes(data[start : start + length], sys.byteorder)
            for name, (start, length) in _FIELDS.items()
            if len(data) >= start + length
        }
        return cls(**found)
