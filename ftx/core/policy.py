"""Who may put what where: pure decisions over an offer, one file of it, the peer and the receiver's rules.

Theory. A decision is made twice. When a job is *offered*, the peer, its address and the time are known, but no file:
rules that speak of files cannot be judged yet, and what they may come to is kept open. When a *file* is announced, all
is known, and the first rule that matches decides. So an offer is refused only when no file of it could be accepted,
and is put to a person when any file of it might have to be.

Conditions are three-valued: true, false, or not known. For an offer, what only a file can tell is *open*; anything
else that is not known cannot be decided, and what cannot be decided is a refusal.

Rights of a peer (`ftx.core.rights`) are a ceiling: no rule gives more than they do. An unknown key never gets in
without a person's consent: where a rule would accept it, it is asked for instead.
"""

from __future__ import annotations

import contextlib
import fnmatch
import mimetypes
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

import attrs

from ftx.core.rights import USUAL, Hours, Rights, within
from ftx.wire.messages import CONFLICTS, Offer

__all__ = [
    "ACTIONS",
    "Facts",
    "Rule",
    "Rules",
    "Verdict",
    "decide_file",
    "decide_offer",
    "folder_of",
    "matches",
    "may_push",
    "media_type",
    "passes_all",
]

#: What a rule can say.
ACTIONS: Final = ("accept", "ask", "refuse")

with contextlib.suppress(OSError):  # Python reads a machine's own lists all the same, which a sandbox may forbid
    mimetypes.init()
#: The types that Python knows by itself: a machine's own list would make two machines decide differently.
_TYPES: Final = mimetypes.MimeTypes(filenames=())


@attrs.frozen
class Facts:
    """What a decision can be about. None is not known: of an offer, what only a file can tell."""

    #: `own`, `paired` or `unknown`.
    who: str
    #: The name by which the peer is paired; for an unknown one, the beginning of its identity.
    peer: str = ""
    #: Where it connects from, IPv4 taken out of IPv6.
    address: IPv4Address | IPv6Address | None = None
    #: Minutes since midnight, local time.
    minute: int | None = None
    #: The day, `2026-11-22`, local time; for folder templates.
    day: str = ""
    #: One file: its path as the sender offers it, and its size in bytes.
    path: tuple[bytes, ...] | None = None
    size: int | None = None


@attrs.frozen
class Rule:
    """If every condition that it has is true, `action`. A condition with several values is true when one of them is."""

    action: str
    #: How the operator calls it.
    title: str
    #: Folded names of peers, or `@own`, `@paired`, `@unknown`.
    peers: tuple[str, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    hours: tuple[Hours, ...] = ()
    #: Patterns for the last component of a file's path; for the whole of it where the pattern has a slash.
    names: tuple[str, ...] = ()
    #: Patterns for the media type that the name stands for, such as `image/*`.
    types: tuple[str, ...] = ()
    #: Files of more, and of less, than this many bytes.
    larger: int | None = None
    smaller: int | None = None
    #: Why, for the log and for `policy test`; it never crosses the wire.
    reason: str = ""
    #: Where the files go, below the inbox; and what happens when a name is taken. Of rules for whole offers only.
    folder: str = ""
    conflict: str = ""

    @property
    def of_files(self) -> bool:
        """Whether it speaks of files, and can be judged only when one is announced."""
        return bool(self.names or self.types) or self.larger is not None or self.smaller is not None


@attrs.frozen
class Rules:
    """What the receiver's operator allows. `conflict` is the ceiling and the default of what a sender may wish."""

    conflict: str = "rename"
    #: `own`: my own key only; `paired`: paired keys too; `ask`: anybody, after a person's consent.
    accept: str = "paired"
    #: Rights by identity; who is not in it has the usual ones.
    rights: Mapping[bytes, Rights] = attrs.field(factory=dict)
    #: In the order in which they count.
    rules: tuple[Rule, ...] = ()

    def rights_of(self, identity: bytes, *, own: bool = False) -> Rights:
        """The rights of the key `identity`; my own has no bounds."""
        return USUAL if own else self.rights.get(identity, USUAL)


@attrs.frozen
class Verdict:
    """What was decided, and by which rule.

    `action` is `accept`, `ask` or `refuse`; with `refuse`, `error` is the name of the error that the peer is told.
    `rule` is None where no rule of the configuration decided; `why` is a sentence for the operator. `conflict` and
    `folder` are the terms of an offer that is not refused.
    """

    action: str
    why: str
    rule: Rule | None = None
    error: str = ""
    conflict: str = ""
    folder: tuple[bytes, ...] = ()


def media_type(name: bytes) -> str:
    """The media type that a file's name stands for, `application/octet-stream` where it says nothing."""
    return _TYPES.guess_type(name.decode("utf-8", "replace").lower())[0] or "application/octet-stream"


def _like(text: str, patterns: Sequence[str]) -> bool:
    """Whether one of `patterns` (`*`, `?`, `[...]`) fits, whatever the case."""
    folded = text.casefold()
    return any(fnmatch.fnmatchcase(folded, pattern.casefold()) for pattern in patterns)


def _who(rule: Rule, facts: Facts) -> bool | None:
    if not rule.peers:
        return True
    if f"@{facts.who}" in rule.peers:
        return True
    return facts.who == "paired" and facts.peer.casefold() in rule.peers


def _where(rule: Rule, facts: Facts) -> bool | None:
    if not rule.networks:
        return True
    address = facts.address
    return None if address is None else any(address in network for network in rule.networks)


def _named(rule: Rule, facts: Facts) -> bool | None:
    if not rule.names:
        return True
    if facts.path is None:
        return None
    whole = b"/".join(facts.path).decode("utf-8", "replace")
    last = facts.path[-1].decode("utf-8", "replace")
    return any(_like(whole if "/" in pattern else last, [pattern]) for pattern in rule.names)


def _typed(rule: Rule, facts: Facts) -> bool | None:
    if not rule.types:
        return True
    return None if facts.path is None else _like(media_type(facts.path[-1]), rule.types)


def _sized(rule: Rule, facts: Facts) -> bool | None:
    if rule.larger is None and rule.smaller is None:
        return True
    if facts.size is None:
        return None
    return (rule.larger is None or facts.size > rule.larger) and (rule.smaller is None or facts.size < rule.smaller)


def _both(values: Sequence[bool | None]) -> bool | None:
    """Three-valued `and`: false if one is false, else not known if one is not known."""
    if False in values:
        return False
    return None if None in values else True


def matches(rule: Rule, facts: Facts) -> bool | None:
    """Whether `rule` counts for `facts`; None when that is not known."""
    return _both([_of_offer(rule, facts), _of_file(rule, facts)])


def _of_offer(rule: Rule, facts: Facts) -> bool | None:
    return _both([_who(rule, facts), _where(rule, facts), within(rule.hours, facts.minute)])


def _of_file(rule: Rule, facts: Facts) -> bool | None:
    return _both([_named(rule, facts), _typed(rule, facts), _sized(rule, facts)])


def folder_of(template: str, facts: Facts) -> tuple[bytes, ...]:
    """The components of `template`, with `{peer}`, `{date}`, `{year}`, `{month}` and `{day}` filled in."""
    year, month, day = ([*facts.day.split("-"), "", ""])[:3]
    filled = {"{peer}": facts.peer or facts.who, "{date}": facts.day, "{year}": year, "{month}": month, "{day}": day}
    parts = []
    for part in template.split("/"):
        for placeholder, value in filled.items():
            part = part.replace(placeholder, value)
        if part:
            parts.append(part.encode("utf-8", "surrogateescape"))
    return tuple(parts)


def _refuse(error: str, why: str, rule: Rule | None = None) -> Verdict:
    return Verdict("refuse", why, rule, error)


def _said(rule: Rule) -> str:
    return f"{rule.title}: {rule.reason}" if rule.reason else rule.title


def may_push(who: str, rules: Rules, rights: Rights = USUAL) -> Verdict | None:
    """The refusal of a key that may not push at all, whatever it offers; None for one that may.

    `who` is as in `Facts`; an unknown key may, after a person's consent.
    """
    if who == "own" or (who == "unknown" and rules.accept == "ask"):
        return None
    if who != "paired":
        return _refuse("untrusted", "not paired")
    if rules.accept not in ("paired", "ask"):
        return _refuse("not-authorised", "only this identity itself may send (accept)")
    return None if rights.push else _refuse("not-authorised", "this peer may not send (its rights)")


def _by_rights(facts: Facts, rules: Rules, rights: Rights) -> Verdict | None:
    """The refusal that the peer's rights demand now, or None."""
    refusal = may_push(facts.who, rules, rights)
    if refusal is not None or facts.who != "paired":
        return refusal
    allowed = within(rights.hours, facts.minute)
    if allowed:
        return None
    return _refuse("refused", "not at this hour (its rights)" if allowed is False else "the hour is not known")


def decide_offer(offer: Offer, facts: Facts, rules: Rules, rights: Rights = USUAL) -> Verdict:
    """Accept, ask about or refuse `offer`, of which nothing is known yet but `facts`.

    A wish above the ceiling is refused here, before anything is sent (`docs/protocol.md`, section 4, offer).
    """
    refusal = _by_rights(facts, rules, rights)
    if refusal is not None:
        return refusal
    open_actions: set[str] = set()
    decided: Rule | None = None
    for rule in rules.rules:
        known = _of_offer(rule, facts)
        if known is None:
            return _refuse("refused", f"{rule.title}: cannot be decided, so it is refused", rule)
        if known and rule.of_files:
            open_actions.add(rule.action)
        elif known:
            decided = rule
            break
    action = "accept" if decided is None else decided.action
    if decided is not None and action == "refuse":
        if not open_actions - {"refuse"}:
            return _refuse("refused", _said(decided), decided)
        action, decided = "accept", None  # of some files; the others are refused one by one
    if facts.who == "unknown" or "ask" in open_actions:
        action = "ask"
    why = _said(decided) if decided is not None else "it depends on each file" if open_actions else "no rule"
    return _on_terms(offer, facts, rules, rights, Verdict(action, why, decided))


def _on_terms(offer: Offer, facts: Facts, rules: Rules, rights: Rights, verdict: Verdict) -> Verdict:
    """`verdict` with folder and conflict policy, or the refusal of a wish above the ceiling."""
    terms = verdict.rule
    ceilings = [rights.conflict or rules.conflict, *([terms.conflict] if terms is not None and terms.conflict else [])]
    ceiling = min(CONFLICTS.index(one) for one in ceilings)
    if offer.conflict is not None and offer.conflict > ceiling:
        return _refuse("refused", f"{CONFLICTS[offer.conflict]} is more than {CONFLICTS[ceiling]}", verdict.rule)
    template = (terms.folder if terms is not None else "") or rights.folder
    conflict = CONFLICTS[ceiling if offer.conflict is None else offer.conflict]
    return attrs.evolve(verdict, conflict=conflict, folder=folder_of(template, facts))


def passes_all(facts: Facts, rules: Rules, rights: Rights = USUAL) -> bool:
    """Whether `decide_file` accepts every file now, whatever its name and size: then none is judged by itself."""
    sized = facts.who != "own" and rights.file_size is not None
    return not rules.rules and not sized and facts.who != "unknown" and _by_rights(facts, rules, rights) is None


def decide_file(facts: Facts, rules: Rules, rights: Rights = USUAL, *, approved: bool = False) -> Verdict:
    """Accept or refuse one file of a job; `ask` counts as accepted where a person has `approved` the job."""
    refusal = _by_rights(facts, rules, rights)
    if refusal is not None and not (approved and facts.who == "unknown"):
        return refusal
    if facts.size is None or facts.path is None:
        return _refuse("refused", "the file is not known, so it is refused")
    if facts.who != "own" and rights.file_size is not None and facts.size > rights.file_size:
        return _refuse("too-large", "larger than this peer may send (its rights)")
    verdict = Verdict("accept", "no rule")
    for rule in rules.rules:
        match = matches(rule, facts)
        if match is None:
            return _refuse("refused", f"{rule.title}: cannot be decided, so it is refused", rule)
        if match:
            if rule.action == "refuse":
                return _refuse("refused", _said(rule), rule)
            verdict = Verdict(rule.action, _said(rule), rule)
            break
    if facts.who == "unknown":
        verdict = attrs.evolve(verdict, action="ask")
    if verdict.action == "ask" and approved:
        return attrs.evolve(verdict, action="accept")
    return verdict
