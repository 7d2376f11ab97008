"""What earlier uploads left behind, looked through now and then: receipts and digests that are too old or too many.

That takes a look at each of them, a thousand at most. So a process that makes many uploads does it after the first and
then once in `limits.UPKEEP_JOBS`.
"""

from __future__ import annotations

import os
from typing import Final

from ftx import limits
from ftx.disk import receipts
from ftx.disk.memory import DigestMemory

__all__ = ["clean", "due", "memory_in", "receipts_in"]

#: Uploads of this process that have ended well, by the folder of the state.
_ended: Final[dict[str, int]] = {}


def memory_in(state: str) -> str:
    """The folder below `state` where digests are kept."""
    return os.path.join(state, "digests")


def receipts_in(state: str) -> str:
    """The folder below `state` where receipts are kept."""
    return os.path.join(state, "receipts")


def due(state: str) -> bool:
    """Whether it is time to `clean`, as one more upload has ended."""
    count = _ended.pop(state, 0)
    if len(_ended) >= limits.UPKEEP_JOBS:
        _ended.clear()  # whoever has so many homes looks once more
    _ended[state] = count + 1
    return count % limits.UPKEEP_JOBS == 0


def clean(state: str, now: float) -> None:
    """Remove what is too old at `now`, in seconds since 1970, or too many. Blocking; never raises."""
    receipts.clean(receipts_in(state), now)
    DigestMemory(memory_in(state)).clean(now)
