"""Who was found, as it is shown: merged by identity, with how and when each was seen, and what is doubtful about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs
import msgspec

from ftx import limits
from ftx.client.render import table
from ftx.text import show
from ftx.wire.events import Discovered

__all__ = ["Sightings", "discovered_table", "plain_line"]

_HEAD = ("NAME", "ADDRESS", "HOW", "TRUST", "VERSIONS", "SEEN")


@attrs.define(eq=False)
class Sightings:
    """The peers that are here, as far as anybody knows; `now` is a number of seconds that only grows."""

    _found: dict[tuple[str, str, int, str], tuple[Discovered, float]] = attrs.field(factory=dict, init=False)

    def take(self, event: Discovered, now: float) -> bool:
        """Note an answer; True when it says something new: another peer, address, way, name or trust."""
        key = (event.id, event.address, event.port, event.via)
        before = self._found.get(key)
        self._found[key] = (event, now)
        return before is None or _said(before[0]) != _said(event)

    def drop(self, identity: str) -> None:
        """Forget whoever has gone."""
        self._found = {key: found for key, found in self._found.items() if key[0] != identity}

    def gone(self, since: float) -> list[Discovered]:
        """Forget what was not heard of after `since`; one event for each identity that is gone altogether."""
        lost = [self._found.pop(key)[0] for key, (_, seen) in list(self._found.items()) if seen < since]
        here = {key[0] for key in self._found}
        last = {event.id: event for event in lost if event.id not in here}
        return [msgspec.structs.replace(event, state="gone") for event in last.values()]

    def events(self) -> list[Discovered]:
        """What is known, oldest first."""
        return [event for event, _ in self._found.values()]

    def ages(self, now: float) -> dict[str, float]:
        """Seconds since each identity was last heard of."""
        ages: dict[str, float] = {}
        for event, seen in self._found.values():
            ages[event.id] = min(now - seen, ages.get(event.id, now - seen))
        return ages


def _said(event: Discovered) -> tuple[object, ...]:
    """What makes an answer another one than that before."""
    return (event.name, event.announced, event.paired, event.verified, event.conflict, event.versions)


def discovered_table(
    found: Iterable[Discovered], ages: Mapping[str, float] | None = None, *, ids: bool = False
) -> list[str]:
    """Who answered, known ones first, then by name: a line for each identity, and one more for each further address.

    NAME is what to write as a target. `ages`: seconds since each identity was last heard of, for whoever watches; else
    SEEN is how long the first answer took. `ids` adds the identities, as does a conflict of names.
    """
    by_id: dict[str, list[Discovered]] = {}
    for one in found:
        by_id.setdefault(one.id, []).append(one)
    ordered = sorted(by_id.items(), key=lambda item: (not _known(item[1]), item[1][0].name.casefold(), item[0]))
    same_name: dict[str, int] = {}
    for _, ones in ordered[: limits.DISCOVERED]:
        same_name[ones[0].name] = same_name.get(ones[0].name, 0) + 1
    ids = ids or any(count > 1 for count in same_name.values())
    head = (*_HEAD, "ID") if ids else _HEAD
    rows: list[tuple[str, ...]] = []
    for identity, ones in ordered[: limits.DISCOVERED]:
        shared = same_name[ones[0].name] > 1 or any(one.conflict for one in ones)
        seen = _seen(ones, None if ages is None else ages.get(identity))
        places = _places(ones)
        for number, (address, how) in enumerate(places):
            first = (_called(ones[0]), address, how, _trust(ones, shared), _versions(ones), seen)
            row = first if number == 0 else ("", address, how, "", "", "")
            rows.append((*row, f"{show(identity[:15])}…" if number == 0 and identity else "") if ids else row)
    return table(head, rows)


def plain_line(one: Discovered) -> str:
    """One answer as fields between tabs: state, name, address and port, way, interface, trust, versions, identity."""
    fields = (
        one.state,
        show(one.name),
        _endpoint(one),
        show(one.via),
        show(one.interface) or "-",
        _trust([one], one.conflict),
        _versions([one]),
        show(one.id) or "-",
    )
    return "\t".join(field.replace("\t", " ") for field in fields)


def _known(ones: Sequence[Discovered]) -> bool:
    return any(one.verified for one in ones)


def _places(ones: Sequence[Discovered]) -> list[tuple[str, str]]:
    """Every address, and by which ways it was found on which interface; proven answers first."""
    places: dict[str, dict[str, None]] = {}
    for one in sorted(ones, key=lambda one: one.via == "dns-sd"):
        how = " ".join(part for part in (show(one.via), show(one.interface)) if part)
        places.setdefault(_endpoint(one), {})[how] = None
    published = {address for address, ways in places.items() if all(how.startswith("dns-sd") for how in ways)}
    if len(published) == len(places):
        published = set()  # nothing of it is proven, which TRUST says
    rows = [(at, ", ".join(ways) + (" (unproven)" if at in published else "")) for at, ways in places.items()]
    return rows[: limits.DISCOVERED_ADDRESSES]


def _called(one: Discovered) -> str:
    """`loft`, or `loft (calls itself attic)` where it is paired by another name."""
    itself = f" (calls itself {show(one.announced)})" if one.announced not in ("", one.name) else ""
    return show(one.name) + itself


def _endpoint(one: Discovered) -> str:
    address = show(one.address)
    return f"[{address}]:{one.port}" if ":" in address else f"{address}:{one.port}"


def _trust(ones: Sequence[Discovered], shared: bool) -> str:
    """A reply that nobody signed may claim to be anyone: only a proven one is called paired, or mine."""
    if any(one.verified for one in ones):
        return "paired" if any(one.paired for one in ones) else "mine"
    if any(one.paired for one in ones) or (not shared and all(one.via == "dns-sd" for one in ones)):
        return "unproven"
    return "conflict" if shared else "not paired"


def _versions(ones: Sequence[Discovered]) -> str:
    spoken = sorted({version for one in ones for version in one.versions})
    if not spoken:
        return "-"
    return str(spoken[0]) if len(spoken) == 1 else f"{spoken[0]}-{spoken[-1]}"


def _seen(ones: Sequence[Discovered], age: float | None) -> str:
    if age is not None:
        return "now" if age < 1 else f"{int(age)} s ago"
    after = [one.after_s for one in ones if one.after_s is not None]
    return f"after {max(1, round(min(after) * 1000))} ms" if after else "-"
