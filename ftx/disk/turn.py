"""Whose turn it is, of the threads that work for one job.

A call of the file system lets go of the interpreter lock, and who makes seven of them for each small file lets go of it
seven times. Where two threads do so, each takes it from the other every time: they are put to sleep and woken more than
once for each file, and are slower than one. So a job's batches and look-ups take turns, but for what makes them
wait: syncs, and content that has to be read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Turn"]


class Turn:
    """To be had by one thread at a time, with `with`. Not to be asked for twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let others have the turn, which is ours, within; it is ours again when this has ended."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()
