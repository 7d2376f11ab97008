"""What the parts of a sending job have in common: announcing and reading go on beside each other for one machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from ftx.core.events import Effect
from ftx.core.sender import Sender
from ftx.disk.memory import DigestMemory
from ftx.net.backlog import Backlog

__all__ = ["Course"]


@attrs.frozen(eq=False)
class Course:
    """The course of one sending job, as its parts see it."""

    machine: Sender
    #: Where disk work of the job is counted.
    backlog: Backlog
    #: Digests of files that were sent before.
    memory: DigestMemory
    #: The time since the epoch, in seconds.
    wall: Callable[[], float]
    #: Carries out the effects of the machine.
    perform: Callable[[Sequence[Effect]], None]
    #: Whether anything more may be begun.
    may_go_on: Callable[[], bool]
    #: Whether the job has ended; asked by threads that read.
    over: Callable[[], bool]
