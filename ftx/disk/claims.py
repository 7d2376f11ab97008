"""Claims: no two jobs of one inbox work on the same file of the same peer at once.

Whether an older job may go on is not decided here: what it holds is free once it has ended (`ftx.daemon.offers`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

__all__ = ["Claims"]

#: Identity of the peer and requested path, joined with `/`.
Key = tuple[bytes, bytes]


class Claims:
    """Who works on what. Thread-safe."""

    def __init__(self) -> None:
        self._holders: dict[Key, object] = {}
        self._lock = threading.Lock()

    def take(self, keys: Sequence[Key], claimant: object) -> list[bool]:
        """Claim `keys`; for each whether it was free.

        What `claimant` holds already is not free either: a path comes once in a job.
        """
        with self._lock:
            new = dict.fromkeys(keys, claimant)
            if len(new) == len(keys) and self._holders.keys().isdisjoint(new):  # nearly always
                self._holders.update(new)
                return [True] * len(keys)
            return [self._take(key, claimant) for key in keys]

    def _take(self, key: Key, claimant: object) -> bool:
        if key in self._holders:
            return False
        self._holders[key] = claimant
        return True

    def release(self, keys: Sequence[Key], claimant: object) -> None:
        """Give up those of `keys` that `claimant` holds."""
        with self._lock:
            for key in keys:
                if self._holders.get(key) is claimant:
                    del self._holders[key]
