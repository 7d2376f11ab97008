"""The queue of things to be sent, as rules: what is due, what an attempt came to, and when the next one is.

A peer that is away is asked for again and again, ever less often; everything that another attempt would not change ends
an entry: it stays in the queue as failed, until somebody has seen and removed it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Literal

import msgspec

from ftx import limits
from ftx.errors import KINDS

__all__ = ["Queued", "Verdict", "due", "limited", "passing", "unreached", "verdict", "wait_after"]

#: Of an attempt: the entry is done and goes; it is tried again; it has failed and stays.
Verdict = Literal["done", "again", "failed"]

_LIMIT: Final = "--limit="
#: Exit codes of attempts that may go better later: not reached, out of time, interrupted, terminated.
_LATER: Final = frozenset({4, 10, 130, 143})
_UNREACHED: Final = 4
#: Errors of which the same is true, whatever their family.
_PASSING: Final = frozenset({"approval-timeout", "busy", "no-space", "quota", "source-changed", "superseded"})


class Queued(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the queue: what to send to whom, and how far that is. Times are seconds since the epoch."""

    #: 32 hex digits.
    job: str
    #: Whom to send to, as a person wrote it, with its folder and port.
    target: str
    #: Absolute paths, as base64 of their bytes: names need not be text.
    sources: list[str]
    #: Options of `ftx-client send`, as words.
    options: list[str] = []
    added: float = 0.0
    #: Attempts that came to nothing.
    attempts: int = 0
    #: The next attempt is not before this.
    not_before: float = 0.0
    #: Why the last attempt failed: the name of the error, and its sentence.
    error: str = ""
    why: str = ""
    #: Another attempt would not go better.
    failed: bool = False
    #: Nothing is tried until somebody lets it go on.
    paused: bool = False


def wait_after(attempts: int) -> float:
    """Seconds to the next attempt after so many (at least one) that came to nothing."""
    grown = limits.QUEUE_FIRST * 2.0 ** min(attempts - 1, 30)
    return min(grown, limits.QUEUE_MOST)


def verdict(exit_code: int, error: str) -> Verdict:
    """What an attempt with this exit code comes to, whose last error had this name (empty for none).

    A negative code is the number of a signal: whoever sent it, the system or a person, it says nothing of what is sent.
    """
    if exit_code == 0:
        return "done"
    return "again" if exit_code < 0 or exit_code in _LATER or passing(error) else "failed"


def passing(error: str) -> bool:
    """Whether an attempt that came to an error of this name may go better later."""
    known = KINDS.get(error)
    return error in _PASSING or (known is not None and known.exit_code in _LATER)


def unreached(error: str) -> bool:
    """Whether it says that the peer was not reached: then it is worth an attempt that the peer shows itself."""
    known = KINDS.get(error)
    return known is not None and known.exit_code == _UNREACHED


def due(entries: Sequence[Queued], running: Collection[str], now: float) -> list[Queued]:
    """The entries to begin now, oldest first: one at a time for each target, and no more than there may be in all.

    `running` are the jobs that are being tried.
    """
    busy = {entry.target for entry in entries if entry.job in running}
    room = limits.QUEUE_RUNNING - len(running)
    found: list[Queued] = []
    for entry in entries:
        if room <= len(found):
            break
        if entry.failed or entry.paused or entry.not_before > now or entry.target in busy:
            continue
        busy.add(entry.target)
        found.append(entry)
    return found


def limited(options: Sequence[str], most: int) -> list[str]:
    """`options` with the lower one of their own limit and `most` (bytes per second, 0 for none)."""
    own = [int(word.removeprefix(_LIMIT)) for word in options if word.startswith(_LIMIT)]
    rates = [rate for rate in (*own, most) if rate]
    rest = [word for word in options if not word.startswith(_LIMIT)]
    return [*rest, *([f"{_LIMIT}{min(rates)}"] if rates else [])]
