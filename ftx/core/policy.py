"""Who may put what where: a pure decision over an offer, the peer and the receiver's rules.

Anything that cannot be decided is a refusal.
"""

from __future__ import annotations

import attrs

from ftx.wire.messages import CONFLICTS, Offer

__all__ = ["Decision", "Rules", "decide", "may_push"]


@attrs.frozen
class Rules:
    """What the receiver's operator allows. `conflict` is the ceiling and the default of what a sender may wish."""

    conflict: str = "rename"
    #: `paired`: my own key and paired keys; `own`: my own key only.
    accept: str = "paired"


@attrs.frozen
class Decision:
    """`refusal` is the name of an error, or empty when the offer is accepted with this `conflict` policy."""

    conflict: str = ""
    refusal: str = ""


def decide(offer: Offer, rules: Rules) -> Decision:
    """Accept or refuse `offer` of a peer that may push.

    A wish above the ceiling is refused here, before anything is sent (`docs/protocol.md`, section 4, offer).
    """
    ceiling = CONFLICTS.index(rules.conflict)
    if offer.conflict is None:
        return Decision(conflict=rules.conflict)
    if offer.conflict > ceiling:
        return Decision(refusal="refused")
    return Decision(conflict=CONFLICTS[offer.conflict])


def may_push(*, own: bool, paired: bool, rules: Rules) -> bool:
    """Whether a key may push at all."""
    return own or (paired and rules.accept == "paired")
