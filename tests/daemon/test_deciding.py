"""Each file of a job is judged by the rules and the time of that moment, however many were judged before it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import attrs

from ftx.core.policy import Rule, Rules
from ftx.core.rights import parse_hours
from ftx.core.trust import Trusted
from ftx.daemon.deciding import Deciding
from ftx.disk.store import FileEntry, Refuse, Want

#: Noon of a day, local time.
NOON = time.mktime((2026, 11, 22, 12, 0, 0, 0, 0, -1))


class Wanting:
    """The least of a `JobStore`: wants everything, without conditions."""

    def look_up(self, entries: Sequence[FileEntry]) -> list[Want]:
        return [Want(entry.number, None) for entry in entries]


@attrs.define(slots=False)
class Desk:
    """One job, whose clock and rules are the test's."""

    now: float
    rules: Rules
    number: int = 0

    def __attrs_post_init__(self) -> None:
        store: Any = Wanting()
        self.by = Deciding(self.rules, None, lambda: self.now)
        trusted = Trusted(bytes(32), "desk", True)
        self.guarded = self.by.guard(store, trusted, "192.0.2.1", approved=False, charge=False)

    def taken(self, name: bytes = b"file", size: int = 1) -> bool:
        """Whether a file of this name and size is taken at this moment."""
        self.number += 1
        (answer,) = self.guarded.look_up([FileEntry(self.number, (name,), size, 0, 0o644, None)])
        assert isinstance(answer, Refuse | Want)
        return isinstance(answer, Want)


def test_the_hour_of_a_rule_ends_in_the_middle_of_a_job() -> None:
    """To the second: what is announced before noon is refused, what is announced at noon is taken."""
    morning = Rule("refuse", "in the morning", hours=(parse_hours("00:00-12:00"),))
    desk = Desk(NOON - 0.5, Rules(rules=(morning,)))
    assert not desk.taken()
    desk.now = NOON - 0.001
    assert not desk.taken()
    desk.now = NOON
    assert desk.taken()
    desk.now = NOON - 60  # the clock was set
    assert not desk.taken()


def test_each_file_is_judged_by_its_own_name_and_size() -> None:
    """Within one second."""
    rules = Rules(rules=(Rule("refuse", "large", larger=10), Rule("refuse", "temporary", names=("*.tmp",))))
    desk = Desk(NOON, rules)
    found = [desk.taken(name, size) for name, size in ((b"a", 10), (b"a", 11), (b"a.tmp", 1), (b"b", 0))]
    assert found == [True, False, False, True]


def test_rules_that_are_replaced_count_for_the_next_file() -> None:
    """Within one second, too."""
    desk = Desk(NOON, Rules())
    assert desk.taken()
    desk.by.rules = Rules(rules=(Rule("refuse", "nothing any more"),))
    assert not desk.taken()
