"""Lanes: how many further connections a job opens for its content, and what proves that one belongs to it.

`docs/protocol.md`, section 20. One TCP connection has so many bytes on its way and no more, so its rate falls with
the round trip; several connections have as many times that. On a short path one is enough, and the cheapest.
"""

from __future__ import annotations

import math
from typing import Final

from ftx import limits

__all__ = ["EXPORTER", "FEATURE", "Withdrawn", "exporter_context", "lanes_for"]

#: The feature that both hellos list.
FEATURE: Final = "lanes"
#: Label and length of what the TLS session of a job's own connection gives for each lane.
EXPORTER: Final = (b"EXPORTER-ftx-lane-v1", 32)


def exporter_context(job: bytes, number: int) -> bytes:
    """The context of the exporter (RFC 8446, section 7.5) for lane `number` of `job`."""
    return job + bytes([number])


def lanes_for(round_trip: float | None, processors: int, content: int) -> int:
    """How many lanes to open beside a job's own connection: 0 to `limits.LANES`.

    `round_trip` is the shortest that was measured, in seconds, None when none was; `processors` are those of this
    machine, each of which encrypts at a certain rate; `content` is what there is to send, in bytes.
    """
    if round_trip is None or round_trip < limits.LANE_ROUND_TRIP:
        return 0
    rate = limits.LANE_RATE * min(max(processors, 1), 2)
    useful = math.ceil(rate * round_trip / limits.LANE_FLIGHT)
    return max(0, min(useful, limits.LANES + 1, content // limits.LANE_LEAST) - 1)


class Withdrawn:
    """Files that are over while blocks of them may still be under way on lanes; the latest `limits.WITHDRAWN`."""

    def __init__(self) -> None:
        self._numbers: dict[int, None] = {}

    def add(self, number: int) -> None:
        """What still comes for this entry is dropped."""
        self._numbers[number] = None
        if len(self._numbers) > limits.WITHDRAWN:
            del self._numbers[next(iter(self._numbers))]

    def __contains__(self, number: int) -> bool:
        return number in self._numbers
