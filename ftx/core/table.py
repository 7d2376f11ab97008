"""State tables: what may follow what, as data.

A machine of ftx is a table `state -> {event class -> next state}` at the top of its module. `advance()` looks one
step up; a pair that is not in the table is one uniform error that names both. Tables are data, so tests can walk all
pairs and `docs/architecture.md` can be drawn from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TypeVar

from ftx.errors import ProtocolError

__all__ = ["Table", "Trace", "advance", "diagram"]

S = TypeVar("S", bound=Enum)
Table = Mapping[S, Mapping[type, S]]
#: Told of every step: state before, event class, state after. For debugging; must not raise.
Trace = Callable[[Enum, type, Enum], None]


def advance(table: Table[S], state: S, event: type, trace: Trace | None = None) -> S:
    """The state after an event of class `event` in `state`.

    Raises ProtocolError `wrong-state` when the table does not have the pair. Whether the peer or we ourselves are to
    blame is for the caller to say: it knows who made the event.
    """
    following = table.get(state, {}).get(event)
    if following is None:
        raise ProtocolError("wrong-state", f"{event.__name__} is not allowed in state {state.name.lower()}")
    if trace is not None:
        trace(state, event, following)
    return following


def diagram(table: Table[S]) -> str:
    """The table as a Mermaid state diagram: one arrow per pair of states, labelled with the events."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for state, row in table.items():
        for event, following in row.items():
            arrows.setdefault((state.name.lower(), following.name.lower()), []).append(event.__name__)
    lines = ["stateDiagram-v2"]
    lines += [f"    {a} --> {b}: {', '.join(sorted(names))}" for (a, b), names in arrows.items()]
    return "\n".join(lines)
