"""Strangers: who connected and is not signed in, by how much each has shown, and who has to make room for the next.

Three ranks: said nothing, said something, proved a key. Within the lowest rank that anybody is in, the source that has
the most of them loses its oldest one. So a crowd from one place locks out at most itself, and one from everywhere
those who never say anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Generic, TypeVar

__all__ = ["Rank", "Strangers"]

K = TypeVar("K")


class Rank(IntEnum):
    """What a stranger has shown."""

    #: Nothing, as far as is known.
    SILENT = 0
    #: A byte.
    SPOKE = 1
    #: A key.
    PROVED = 2


class Strangers(Generic[K]):
    """The strangers of a door; each is any hashable thing, and comes from a source, any text."""

    def __init__(self) -> None:
        self._ranks: dict[Rank, dict[str, dict[K, None]]] = {rank: {} for rank in Rank}
        self._where: dict[K, tuple[Rank, str]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._where))

    def add(self, stranger: K, source: str) -> None:
        """A new one."""
        self._put(stranger, Rank.SILENT, source)

    def raise_to(self, rank: Rank, stranger: K) -> None:
        """It has shown this much; the youngest of that rank now. Nothing happens to one that is not here."""
        if stranger in self._where:
            _, source = self._where[stranger]
            self.forget(stranger)
            self._put(stranger, rank, source)

    def forget(self, stranger: K) -> None:
        """It is no stranger any more. Nothing happens to one that is not here."""
        if stranger not in self._where:
            return
        rank, source = self._where.pop(stranger)
        sources = self._ranks[rank]
        del sources[source][stranger]
        if not sources[source]:
            del sources[source]

    def least(self, has_spoken: Callable[[K], bool]) -> K | None:
        """Who has to go, None if nobody is here. `has_spoken` tells of one that is taken for silent whether it is."""
        while (silent := self._oldest(Rank.SILENT)) is not None:
            if not has_spoken(silent):
                return silent
            self.raise_to(Rank.SPOKE, silent)
        spoke = self._oldest(Rank.SPOKE)
        return self._oldest(Rank.PROVED) if spoke is None else spoke

    def _oldest(self, rank: Rank) -> K | None:
        """The oldest of this rank from the source that has the most of it."""
        sources = self._ranks[rank]
        if not sources:
            return None
        greediest = max(sources, key=lambda source: len(sources[source]))
        return next(iter(sources[greediest]))

    def _put(self, stranger: K, rank: Rank, source: str) -> None:
        self._where[stranger] = rank, source
        self._ranks[rank].setdefault(source, {})[stranger] = None
