"""Who may put what where."""

from __future__ import annotations

import msgspec
import pytest
from support.pair import offer

from ftx.core.policy import Decision, Rules, decide, may_push
from ftx.wire.messages import CONFLICTS


@pytest.mark.parametrize("ceiling", CONFLICTS)
@pytest.mark.parametrize("wish", [None, *range(len(CONFLICTS))])
def test_a_wish_up_to_the_ceiling(ceiling: str, wish: int | None) -> None:
    """No wish is the receiver's own rule; a stricter or equal one is granted; a looser one refuses the offer."""
    decision = decide(msgspec.structs.replace(offer(), conflict=wish), Rules(conflict=ceiling))
    if wish is None:
        assert decision == Decision(conflict=ceiling)
    elif wish <= CONFLICTS.index(ceiling):
        assert decision == Decision(conflict=CONFLICTS[wish])
    else:
        assert decision == Decision(refusal="refused")


@pytest.mark.parametrize(
    ("own", "paired", "accept", "allowed"),
    [
        (True, False, "paired", True),
        (True, False, "own", True),
        (False, True, "paired", True),
        (False, True, "own", False),
        (False, False, "paired", False),
        (False, False, "own", False),
        (False, True, "anything else", False),
    ],
)
def test_who_may_push(own: bool, paired: bool, accept: str, allowed: bool) -> None:
    """My own key always, paired keys unless only my own is accepted, nobody else."""
    assert may_push(own=own, paired=paired, rules=Rules(accept=accept)) is allowed
