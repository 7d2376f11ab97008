"""Deciding about offers and files: the rules in force, what is known at the moment, and what follows from both."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs

from ftx.core.identity import format_id
from ftx.core.policy import Facts, Rules, Verdict, decide_file, decide_offer, may_push, passes_all
from ftx.core.rights import Rights
from ftx.core.trust import Trusted, canonical_address
from ftx.disk.guarded import Account, Guarded
from ftx.disk.ledger import Ledger
from ftx.disk.store import FileEntry, JobStore
from ftx.wire.messages import Offer

__all__ = ["Deciding", "who_is"]

#: Characters of an identity by which an unknown peer is called.
_SHORT = 7


def who_is(trusted: Trusted) -> str:
    """`own`, `paired` or `unknown`, as the policy calls them."""
    return "own" if trusted.own else "paired" if trusted.peer is not None else "unknown"


@attrs.define(eq=False)
class Deciding:
    """The policy at work. `rules` may be replaced at any time; they count for the next offer and batch of files.

    `ledger` (None: no quota is known, and none is given) counts what peers with a quota have stored; `wall` is seconds
    since 1970.
    """

    rules: Rules
    ledger: Ledger | None
    wall: Callable[[], float]

    def facts(self, trusted: Trusted, address: str) -> Facts:
        """What is known of an offer of `trusted` from `address`."""
        now = time.localtime(self.wall())
        who = who_is(trusted)
        return Facts(
            who=who,
            peer=format_id(trusted.id)[:_SHORT] if who == "unknown" else trusted.name,
            address=canonical_address(address),
            minute=now.tm_hour * 60 + now.tm_min,
            day=time.strftime("%Y-%m-%d", now),
        )

    def rights_of(self, trusted: Trusted) -> Rights:
        """What it may do, as the rules are now."""
        return self.rules.rights_of(trusted.id, own=trusted.own)

    def offer(self, offer: Offer, trusted: Trusted, address: str) -> Verdict:
        """The verdict on an offer."""
        return decide_offer(offer, self.facts(trusted, address), self.rules, self.rights_of(trusted))

    def still_welcome(self, trusted: Trusted) -> Verdict | None:
        """The refusal of a peer whose jobs may not go on, as the rules are now; None for one whose may."""
        return may_push(who_is(trusted), self.rules, self.rights_of(trusted))

    def guard(self, store: JobStore, trusted: Trusted, address: str, *, approved: bool, charge: bool) -> Guarded:
        """`store`, letting pass only what the rules allow; `approved`: a person has consented to the job."""
        known: tuple[float, Rules, Rights, Facts, bool] | None = None

        def in_force() -> tuple[float, Rules, Rights, Facts, bool]:
            nonlocal known
            rules, second = self.rules, self.wall() // 1
            if known is None or known[0] != second or known[1] is not rules:
                # besides the rules, which have the rights, nothing but the time can change, and that by the minute
                facts, rights = self.facts(trusted, address), rules.rights_of(trusted.id, own=trusted.own)
                known = (second, rules, rights, facts, passes_all(facts, rules, rights))
            return known

        def judge(entry: FileEntry) -> tuple[str, str]:
            _, rules, rights, job, all_pass = in_force()
            if all_pass:
                return "", ""
            facts = Facts(job.who, job.peer, job.address, job.minute, job.day, entry.path, entry.size)
            verdict = decide_file(facts, rules, rights, approved=approved)
            if verdict.action == "accept":
                return "", ""
            return verdict.error or "not-authorised", verdict.why

        account = None
        if charge and self.ledger is not None and not trusted.own:
            account = Account(
                self.ledger, trusted.id, lambda: self.facts(trusted, address).day, lambda: self.rights_of(trusted)
            )
        return Guarded(store, judge, account, lambda: in_force()[-1])
