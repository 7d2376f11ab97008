"""What people were shown of offers: a yes must mean what was on the screen when it was given.

A person answers by the beginning of a job's id, some time after it was shown, and that id is the sender's choice. So
for as long as somebody may still answer to what they saw, the same digits never stand for anything else.
"""

from __future__ import annotations

import math
from typing import Any, Final

import attrs

from ftx import limits

__all__ = ["SHORT", "Shown"]

#: Hex digits of a job's id by which people call it.
SHORT: Final = 8


@attrs.define(eq=False)
class Shown:
    """The terms of the offers that were shown lately, by the digits that people type."""

    _terms: dict[str, tuple[Any, float]] = attrs.field(factory=dict)

    def add(self, job: str, terms: Any, now: float) -> bool:
        """Whether the offer `job` (hex) may be shown with these `terms`, at `now` in seconds; then it counts as shown.

        False when other terms were shown under the same digits, or when too many offers were shown lately.
        """
        self._terms = {short: kept for short, kept in self._terms.items() if kept[1] > now}
        before = self._terms.get(job[:SHORT])
        if before is None and len(self._terms) >= limits.OFFERS_SHOWN:
            return False
        if before is not None and before[0] != terms:
            return False
        self._terms[job[:SHORT]] = terms, math.inf
        return True

    def over(self, job: str, until: float) -> None:
        """The offer waits no more; what was shown of it counts `until` then."""
        before = self._terms.get(job[:SHORT])
        if before is not None:
            self._terms[job[:SHORT]] = before[0], until
