"""A reactor whose seconds are those of the monotonic clock.

Twisted's reactors count by the time of day (`twisted.python.runtime.seconds`). When that is set, by a person or by the
first answer of a time server, every deadline moves with it: an hour forward, and all peers seem to have been silent for
too long; an hour back, and nothing times out for an hour.
"""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.base import ReactorBase

__all__ = ["steady"]


def steady(reactor: Any) -> None:
    """Let `reactor`, which this process owns, count by `time.monotonic()`; calls that wait keep what time they have.

    Reactors that keep their calls elsewhere (asyncio's) are left as they are. May be called again.
    """
    if type(reactor).callLater is not ReactorBase.callLater or reactor.seconds is time.monotonic:
        return
    shift = time.monotonic() - reactor.seconds()
    for call in reactor.getDelayedCalls():
        call.time += shift
        call.seconds = time.monotonic
    reactor.seconds = time.monotonic
