"""Records that wait, in memory, for the next transaction of their database, and count already."""

from __future__ import annotations

from collections.abc import Sequence

from ftx.disk.namerecord import NameKey, NameRecord, PathRecord, keyed

__all__ = ["Unwritten"]


class Unwritten:
    """In the order in which they came: of one version of a file the last one counts. Not thread-safe."""

    def __init__(self) -> None:
        """Nothing waits."""
        self._batches: list[tuple[bytes, Sequence[PathRecord], bool]] = []
        #: The intents that they are the outcome of.
        self.fulfilled: list[int] = []
        #: By peer, those of the first so many batches: made when somebody asks, which few transfers do.
        self._known: dict[bytes, dict[NameKey, NameRecord]] = {}
        self._indexed = 0
        self._count = 0

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    def __bool__(self) -> bool:
        """Whether a transaction would have anything to do."""
        return bool(self._batches or self.fulfilled)

    @property
    def owed(self) -> bool:
        """Whether there is anything that the database knows nothing of."""
        return any(owed for _, _, owed in self._batches)

    def add(self, peer: bytes, records: Sequence[PathRecord], intent: int | None = None) -> None:
        """Let `records` wait: completions of what the database knows, or the outcome of `intent`, which is owed."""
        if records:
            self._batches.append((peer, records, intent is not None))
            self._count += len(records)
        if intent is not None:
            self.fulfilled.append(intent)

    def known(self, peer: bytes) -> dict[NameKey, NameRecord]:
        """What waits of `peer`; not to be changed."""
        for whose, records, _ in self._batches[self._indexed :]:
            of_peer = self._known.setdefault(whose, {})
            of_peer.update(keyed(records))
        self._indexed = len(self._batches)
        return self._known.get(peer, {})

    def by_peer(self) -> dict[bytes, list[PathRecord]]:
        """All that waits."""
        found: dict[bytes, list[PathRecord]] = {}
        for peer, records, _ in self._batches:
            found.setdefault(peer, []).extend(records)
        return found

    def keep_owed(self) -> None:
        """Let go of what is not owed."""
        self._batches = [batch for batch in self._batches if batch[2]]
        self._count = sum(len(records) for _, records, _ in self._batches)
        self._known, self._indexed = {}, 0

    def clear(self) -> None:
        """All of it was written."""
        self._batches = []
        self.fulfilled = []
        self._known, self._indexed, self._count = {}, 0, 0
