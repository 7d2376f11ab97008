"""Claims: no two jobs of one inbox work on the same file of the same peer at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from ftx.limits import CLAIM_WAIT

__all__ = ["Claimant", "Claims"]

#: Identity of the peer and requested path, joined with `/`.
Key = tuple[bytes, bytes]


class Claimant(Protocol):
    """A job, as far as claims are concerned."""

    @property
    def revoked(self) -> bool:
        """Whether its right to change anything has ended, for good."""
        ...

    def end(self, timeout: float | None) -> bool:
        """Wait for its last operation and release its claims; False when that took longer than `timeout` seconds."""
        ...


class Claims:
    """Who works on what. Thread-safe."""

    def __init__(self) -> None:
        self._holders: dict[Key, Claimant] = {}
        self._lock = threading.Lock()

    def take(self, keys: Sequence[Key], claimant: Claimant) -> list[bool]:
        """Claim `keys`; for each whether it was free. What a revoked job holds is taken over when it has come to rest.

        What `claimant` holds already is not free either: a path comes once in a job.
        """
        taken = self._try(keys, claimant)
        if all(taken):
            return taken
        with self._lock:
            refused = [key for key, free in zip(keys, taken, strict=True) if not free]
            ended = {id(job): job for key in refused if (job := self._holders.get(key)) and job.revoked}
        for job in ended.values():
            job.end(CLAIM_WAIT)
        if ended:
            again = iter(self._try(refused, claimant))
            taken = [free or next(again) for free in taken]
        return taken

    def _try(self, keys: Sequence[Key], claimant: Claimant) -> list[bool]:
        with self._lock:
            return [self._take(key, claimant) for key in keys]

    def _take(self, key: Key, claimant: Claimant) -> bool:
        if key in self._holders:
            return False
        self._holders[key] = claimant
        return True

    def release(self, keys: Sequence[Key], claimant: Claimant) -> None:
        """Give up those of `keys` that `claimant` holds."""
        with self._lock:
            for key in keys:
                if self._holders.get(key) is claimant:
                    del self._holders[key]
