"""What one peer may do here, as values: where it may put files, what it may see, how much, how large, and when.

A peer without rights of its own has the usual ones: it may put new files into the inbox, and see nothing.
Rights are written by the operator (`docs/configuration.md`, "Rights of a peer") and belong to an identity, whatever
name the peer has: a name can be given to another key, an identity cannot.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

import attrs

__all__ = ["USUAL", "Hours", "Rights", "may_see_share", "parse_hours", "within"]

#: Minutes in a day.
_DAY: Final = 24 * 60
_HOURS: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})")


@attrs.frozen
class Hours:
    """A part of every day, local time: minutes since midnight, from `start` up to but not including `end`.

    Where `end` is not after `start`, it is on the next day.
    """

    start: int
    end: int

    def __contains__(self, minute: int) -> bool:
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def __str__(self) -> str:
        return "-".join(f"{moment // 60:02}:{moment % 60:02}" for moment in (self.start, self.end))


def parse_hours(written: str) -> Hours:
    """`22:00-06:00` as hours; ValueError for anything else, and for a span that is empty. `24:00` ends a day."""
    match = _HOURS.fullmatch(written.strip())
    if match is None:
        raise ValueError(f'"{written}" is not of the form 22:00-06:00')
    start_hour, start_minute, end_hour, end_minute = map(int, match.groups())
    start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
    if start >= _DAY or end > _DAY or start_minute > 59 or end_minute > 59 or start == end:
        raise ValueError(f'"{written}" is not a part of a day')
    return Hours(start, end)


def within(hours: Sequence[Hours], minute: int | None) -> bool | None:
    """Whether `minute` of the day is in one of `hours`; no hours are all day, None where the time is not known."""
    if not hours:
        return True
    return None if minute is None else any(minute in one for one in hours)


@attrs.frozen
class Rights:
    """What a peer may do. Sizes are bytes; None is no limit."""

    #: Put files into the inbox.
    push: bool = True
    #: The folder of the inbox where they go, a template as in `ftx.core.policy.folder_of`; empty: the inbox itself.
    folder: str = ""
    #: Names of the shares it may list and read, besides public ones.
    shares: frozenset[str] = frozenset()
    #: The most it may wish for when a name is taken; empty: what counts for everybody.
    conflict: str = ""
    bytes_per_day: int | None = None
    files_per_day: int | None = None
    file_size: int | None = None
    #: When it may put anything here; empty: always.
    hours: tuple[Hours, ...] = ()


#: The rights of a peer of whom nothing else is said.
USUAL: Final = Rights()


def may_see_share(share: str, *, own: bool, paired: bool, public: Collection[str], rights: Rights = USUAL) -> bool:
    """Whether a key may list and read `share`: my own always, a paired one what is `public` or granted to it.

    Nobody else sees anything: an unknown key has no rights, whatever is public.
    """
    return own or (paired and (share in public or share in rights.shares))
