"""What `ctl watch` shows: the jobs and offers of a daemon, from its events, as the lines of a screen of any size.

Pure: events in, lines out. Everything is lenient, like `ftx.client.ctl_text`: the daemon may be newer than this client.
What a peer chose is cleaned and cut to its column, so that no name can push another one away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from ftx.client.ctl_text import job_name
from ftx.text import columns, duration, fitted, plural, show, size

__all__ = ["Board"]

_Map = Mapping[str, Any]

#: Jobs that are over and still shown, while there is room.
_OVER_KEPT: Final = 100
#: Widths from which a line has more in it: the rate, the bar, how much there is, the path.
_WITH_RATE, _WITH_BAR, _WITH_SIZES, _WITH_PATH = 46, 66, 92, 112
#: What stands for a job in each state, before the states of its progress.
_ENDS: Final = {"done": "done", "failed": "failed", "refused": "refused"}


@attrs.define(eq=False)
class _Row:
    """One job."""

    job: str
    peer: str = ""
    out: bool = False
    #: `active`, `waiting`, `paused`, `syncing`, …, or how it ended.
    state: str = ""
    over: bool = False
    confirmed: float = 0
    total: float | None = None
    rate: float | None = None
    eta: float | None = None
    path: str = ""
    #: Why it failed, or waits.
    why: str = ""


@attrs.define(eq=False)
class _Offer:
    """One offer that waits for a person."""

    job: str
    peer: str
    what: str
    phrase: str
    #: When it is too late, on the clock of whoever draws.
    ends: float


def _map(value: Any) -> _Map:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _words(value: Any, limit: int = 200) -> str:
    return show(value, limit) if isinstance(value, str) else ""


def _peer(value: Any) -> str:
    peer = _map(value)
    return _words(peer.get("name") or peer.get("address") or "", 64)


def _what(holder: _Map) -> str:
    files, count = _number(holder.get("files")), _number(holder.get("bytes"))
    known = [plural(int(files), "file")] if files is not None else []
    return ", ".join([*known, *([size(count)] if count is not None else [])])


class Board:
    """All jobs that were heard of; `take()` an event, then draw `lines()`."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._offers: dict[str, _Offer] = {}
        #: Jobs of which more should be asked: they began after the snapshot.
        self.unknown: list[str] = []

    # -- events --------------------------------------------------------------------------------------------

    def take(self, event: _Map, now: float) -> None:
        """An event of the daemon, as it was decoded; `now` in seconds on any clock that `lines()` gets, too."""
        name, job = event.get("event"), event.get("job")
        if name == "snapshot":
            self._rows.clear()
            self._offers.clear()
            for one in event.get("jobs") or ():
                self.know(_map(one))
            for one in event.get("offers") or ():
                self._offered(_map(one), now)
        if not isinstance(job, str) or not isinstance(name, str):
            return
        if name == "waiting":
            self._offered(event, now)
            return
        if name in ("accepted", "refused", "failed", "done"):
            self._offers.pop(job, None)
        row = self._row(job)
        row.peer = _peer(event.get("peer")) or row.peer
        if event.get("direction") in ("in", "out"):
            row.out = event.get("direction") == "out"
        if name == "progress":
            self._progress(row, event)
        elif name in _ENDS:
            self._ended(row, name, event)
        elif name == "retry":
            row.state, row.rate, row.eta = "waiting", None, None
            row.why = _words(_map(event.get("error")).get("message"))
        elif name == "accepted" and row.over:  # the same job, offered again
            row.over, row.why, row.state = False, "", "active"

    def know(self, job: _Map) -> None:
        """A job as `jobs.list` and `jobs.show` have it."""
        name = job.get("job")
        if not isinstance(name, str):
            return
        row = self._row(name)
        if name in self.unknown:
            self.unknown.remove(name)
        state = _words(job.get("state"))
        row.peer, row.out = _peer(job.get("peer")), job.get("direction") == "out"
        row.state = "paused" if job.get("paused") else state
        if state == "done" and _number(job.get("files_failed")):
            row.state = "partial"
        row.over = state in ("done", "failed")
        row.confirmed = _number(job.get("bytes_confirmed")) or 0
        row.total, row.rate = _number(job.get("bytes_total")), _number(job.get("rate"))
        row.path = _words(job.get("path"), 500)
        row.why = _words(_map(job.get("error")).get("message"))

    def _row(self, job: str) -> _Row:
        row = self._rows.get(job)
        if row is None:
            row = self._rows[job] = _Row(job, state="active")
            self.unknown.append(job)
            over = [one.job for one in self._rows.values() if one.over]
            for old in over[:-_OVER_KEPT]:
                del self._rows[old]
        return row

    def _progress(self, row: _Row, event: _Map) -> None:
        stage = _words(event.get("stage"), 20)
        row.state = "active" if stage == "transferring" else stage
        row.confirmed = _number(event.get("bytes_confirmed")) or 0
        row.total = _number(event.get("bytes_total"))
        row.rate, row.eta = _number(event.get("rate")), _number(event.get("eta_s"))
        row.over, row.why = False, ""

    def _ended(self, row: _Row, name: str, event: _Map) -> None:
        row.over, row.rate, row.eta = True, None, None
        row.state = "partial" if name == "done" and _number(event.get("files_failed")) else _ENDS[name]
        row.why = _words(_map(event.get("error")).get("message"))
        if name == "done":
            row.confirmed = _number(event.get("bytes")) or row.confirmed
        # those that ended stand in the order in which they did
        self._rows[row.job] = self._rows.pop(row.job)

    def _offered(self, offer: _Map, now: float) -> None:
        job = offer.get("job")
        if isinstance(job, str) and offer.get("phrase"):
            left = _number(offer.get("left_s")) or _number(offer.get("deadline_s")) or 0
            who = _peer(offer.get("peer"))
            self._offers[job] = _Offer(job, who, _what(offer), _words(offer.get("phrase"), 100), now + left)
            row = self._rows.get(job)
            if row is not None:
                row.state = "waiting"

    # -- lines ---------------------------------------------------------------------------------------------

    def lines(self, width: int, height: int, now: float, *, name: str = "", fancy: bool = True) -> list[str]:
        """At most `height` lines of at most `width` columns: a head, the offers, the jobs, and what may be typed.

        Jobs that run come first, then those that wait, then those that ended, the last one first. `fancy`: the terminal
        has block characters.
        """
        rows = [row for row in self._rows.values() if row.job not in self._offers]
        going = [row for row in rows if not row.over and row.state != "waiting"]
        waiting = [row for row in rows if not row.over and row.state == "waiting"]
        over = [row for row in reversed(rows) if row.over]
        body = [line for offer in self._offers.values() for line in self._offer_lines(offer, now)]
        body += [self._job_line(row, width, fancy=fancy) for row in (*going, *waiting, *over)]
        if not body:
            body = ["no jobs"]
        room = max(height - 2, 1)
        if len(body) > room:
            body = [*body[: room - 1], f"and {len(body) - room + 1:,} more"]
        head = self._head(name, going, waiting)
        foot = [""] * max(height - 2 - len(body), 0) + ["q quits"]
        return [fitted(line, width).rstrip() for line in (head, *body, *foot)][:height]

    def _head(self, name: str, going: Sequence[_Row], waiting: Sequence[_Row]) -> str:
        rates = [sum(row.rate or 0 for row in going if row.out is out) for out in (False, True)]
        parts = [f"{len(going):,} active, {len(waiting):,} waiting"]
        if self._offers:
            parts.append(plural(len(self._offers), "offer"))
        parts += [f"{way} {size(rate)}/s" for way, rate in zip(("in", "out"), rates, strict=True) if rate]
        return "   ".join([f"ftx {show(name, 64)}".rstrip(), *parts])

    def _offer_lines(self, offer: _Offer, now: float) -> list[str]:
        short = job_name(offer.job)
        left = duration(max(offer.ends - now, 0))
        # the words first: they are what is compared, and no name may push them off the screen
        return [
            f"{short} ? {offer.phrase}  {left} left, {offer.what or 'something'} from {offer.peer}",
            f"           ftx-client ctl approve {short}, or deny {short}",
        ]

    def _job_line(self, row: _Row, width: int, *, fancy: bool) -> str:
        """`5d0c12ab < attic  45 %  12.1 MiB/s  ████░░░░  0.9 GiB of 2.0 GiB  1 min left  photos`, as far as it fits."""
        peer = 8 if width < _WITH_RATE else 16
        cells = [job_name(row.job), ">" if row.out else "<", fitted(row.peer or "-", peer)]
        percent = None
        if row.total and not row.over:
            percent = min(int(row.confirmed * 100 / row.total), 100)
        said = row.state if row.state != "active" or percent is None else f"{percent:3} %"
        cells.append(fitted(said, 9))
        if row.over or (row.state == "waiting" and row.why):
            end = row.why or (size(row.confirmed) if row.confirmed else "")
            return " ".join([*cells, "  ".join(part for part in (end, row.path) if part)])
        if width >= _WITH_RATE:
            cells.append(f"{'' if row.rate is None else size(row.rate) + '/s':>12}")
        if width >= _WITH_BAR:
            cells.append(_bar(percent, min(10 + (width - _WITH_BAR) // 4, 30), fancy=fancy))
        if width >= _WITH_SIZES:
            of = size(row.confirmed) + ("" if row.total is None else f" of {size(row.total)}")
            cells.append(fitted(of, 22))
        if width >= _WITH_PATH:
            cells.append(fitted("" if row.eta is None else f"{duration(row.eta)} left", 18))
        used = columns(" ".join(cells))
        return " ".join([*cells, row.path]) if width - used > 8 else " ".join(cells)


def _bar(percent: int | None, width: int, *, fancy: bool) -> str:
    """So much of `width` columns; empty as long as nobody knows the whole."""
    full = 0 if percent is None else percent * width // 100
    done, left = ("█", "░") if fancy else ("#", ".")
    return done * full + left * (width - full)
