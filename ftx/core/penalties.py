"""How long a refusal is held back, by how often the source was refused lately: guessing and flooding get slow.

The first few refusals of a source come at once, for people mistype and machines are set up anew; each further one comes
later, up to a bound. Nobody is ever refused for it, and who is known is never delayed: only refusals are.
"""

from __future__ import annotations

from ftx import limits

__all__ = ["Penalties"]


class Penalties:
    """Refusals by source (any text); a bounded number of sources, of which the one quiet for longest is forgotten."""

    def __init__(self) -> None:
        #: By source: how many refusals, and when the last one was (seconds, any monotonic clock).
        self._refused: dict[str, tuple[int, float]] = {}

    def refused(self, source: str, now: float) -> float:
        """Count one more refusal of `source`; returns for how many seconds it should be held back."""
        count, last = self._refused.pop(source, (0, now))
        # one is forgiven for each so many seconds of quiet, so that a slow trickle costs nothing
        count = max(count - int((now - last) / limits.PENALTY_FORGIVEN), 0) + 1
        while len(self._refused) >= limits.PENALTY_SOURCES:
            del self._refused[next(iter(self._refused))]
        self._refused[source] = (min(count, limits.PENALTY_COUNT), now)
        beyond = count - limits.PENALTY_FREE
        return 0.0 if beyond <= 0 else min(limits.PENALTY_FIRST * 2.0 ** (beyond - 1), limits.PENALTY_MOST)

    def __len__(self) -> int:
        return len(self._refused)
