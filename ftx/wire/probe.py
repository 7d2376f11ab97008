"""Messages of a probe: how fast content travels between two peers, without storing any (section 19)."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta

from ftx import limits
from ftx.wire.fields import Count, Job, Message, Time

__all__ = ["Probe", "ProbeDone", "ProbeEnd", "ProbeKind", "ProbeReady"]

_Bytes = Annotated[int, Meta(ge=0, le=limits.PROBE)]


class ProbeKind(IntEnum):
    """What is measured."""

    #: The client sends.
    UP = 0
    #: The server sends.
    DOWN = 1
    #: The server writes to its own disk.
    DISK = 2


class Probe(Message, frozen=True):
    """Let us measure, with so many bytes."""

    job: Job
    kind: ProbeKind
    bytes: Annotated[int, Meta(ge=1, le=limits.PROBE)]


class ProbeReady(Message, frozen=True):
    """The server has room for a probe: the client may send."""

    job: Job


class ProbeEnd(Message, frozen=True):
    """The client has sent so many bytes, and no more will come."""

    job: Job
    bytes: _Bytes


class ProbeDone(Message, frozen=True):
    """What the server has seen of a probe. Times are microseconds, but for `time`, its clock: nanoseconds since 1970.

    `rate` is a limit in bytes per second, `window` bytes; 0 stands for none, and for what is not known.
    """

    job: Job
    bytes: _Bytes
    elapsed: Count
    processor: Count
    rate: Count
    retransmits: Count
    window: Count
    round_trip: Count
    stalled: Count
    time: Time
