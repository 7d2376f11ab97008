"""Who may put what where: every input against every rule, and that offers and files are decided alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pair import offer

from ftx.core.policy import (
    ACTIONS,
    Facts,
    Rule,
    Rules,
    decide_file,
    decide_offer,
    folder_of,
    matches,
    may_push,
    media_type,
    passes_all,
)
from ftx.core.rights import USUAL, Hours, Rights, may_see_share, parse_hours, within
from ftx.wire.messages import CONFLICTS

INSIDE, OUTSIDE = ip_address("192.0.2.7"), ip_address("2001:db8::1")
NIGHT = Hours(22 * 60, 6 * 60)

#: Every input: what is known of who, where, when and what. The second of each pair says whether the condition of
#: `CONDITIONS` with the same place is true of it.
WHO = [("own", False), ("paired", True), ("unknown", False)]
WHERE = [(INSIDE, True), (OUTSIDE, False), (None, None)]
WHEN = [(23 * 60, True), (0, True), (12 * 60, False), (None, None)]
WHAT = [((b"in", b"Setup.EXE"), True), ((b"in", b"photo.jpg"), False), (None, None)]
SIZE = [(10, False), (1000, True), (None, None)]
#: The five conditions of a rule, each of which may be there or not.
CONDITIONS = (
    {"peers": ("pi", "@nobody")},
    {"networks": (ip_network("192.0.2.0/24"),)},
    {"hours": (NIGHT,)},
    {"names": ("*.exe",)},
    {"larger": 100},
)


def inputs() -> Iterator[tuple[Facts, tuple[bool | None, ...]]]:
    """Every input with the truth of each condition."""
    for (who, a), (address, b), (minute, c), (path, d), (size, e) in itertools.product(WHO, WHERE, WHEN, WHAT, SIZE):
        yield Facts(who, "Pi", address, minute, "2026-11-22", path, size), (a, b, c, d, e)


def rules() -> Iterator[tuple[Rule, tuple[bool, ...]]]:
    """Every rule with which conditions it has."""
    for action, *there in itertools.product(ACTIONS, *[(False, True)] * len(CONDITIONS)):
        given = [one for use, one in zip(there, CONDITIONS, strict=True) if use]
        conditions: dict[str, Any] = {key: value for one in given for key, value in one.items()}
        yield Rule(str(action), "the rule", **conditions), tuple(bool(one) for one in there)


def test_every_input_against_every_rule() -> None:
    """A rule counts when all it demands is true, does not when anything is false, and is not known otherwise."""
    table = [(rule, there, Rules(accept="ask", rules=(rule,))) for rule, there in rules()]
    for facts, truth in inputs():
        for rule, there, whole in table:
            demanded = [value for value, given in zip(truth, there, strict=True) if given]
            expected = False if False in demanded else None if None in demanded else True
            assert matches(rule, facts) is expected, (rule, facts)
            verdict = decide_file(facts, whole)
            if facts.path is None or facts.size is None or expected is None:
                assert (verdict.action, verdict.error) == ("refuse", "refused")
                continue
            action = rule.action if expected else "accept"
            if facts.who == "unknown" and action == "accept":
                action = "ask"
            assert verdict.action == action, (rule, facts)
            assert verdict.rule is (rule if expected else None)
            assert (verdict.error == "refused") is (action == "refuse")
            approved = decide_file(facts, whole, approved=True)
            assert approved.action == ("refuse" if action == "refuse" else "accept")


def test_every_offer_against_every_rule() -> None:
    """An offer is refused by what is known of it alone; what only files can tell stays open."""
    table = [(rule, there, Rules(accept="ask", rules=(rule,))) for rule, there in rules()]
    for facts, truth in inputs():
        if facts.path is not None or facts.size is not None:
            continue
        for rule, there, whole in table:
            demanded = [value for value, given in zip(truth[:3], there[:3], strict=True) if given]
            known = False if False in demanded else None if None in demanded else True
            verdict = decide_offer(offer(), facts, whole)
            refused = known is None or (known and rule.action == "refuse" and not rule.of_files)
            asked = facts.who == "unknown" or (bool(known) and rule.action == "ask")
            assert verdict.action == ("refuse" if refused else "ask" if asked else "accept"), (rule, facts)


def _rule(draw: st.DrawFn) -> Rule:
    action = draw(st.sampled_from(ACTIONS))
    given = [draw(st.booleans()) for _ in CONDITIONS]
    used = [one for use, one in zip(given, CONDITIONS, strict=True) if use]
    there: dict[str, Any] = {key: value for one in used for key, value in one.items()}
    return Rule(action, "a rule", **there)


@st.composite
def _lists(draw: st.DrawFn) -> tuple[Rule, ...]:
    return tuple(_rule(draw) for _ in range(draw(st.integers(0, 4))))


@settings(max_examples=150)
@given(_lists(), st.sampled_from(WHO), st.sampled_from(WHERE), st.sampled_from(WHEN))
def test_an_offer_promises_what_its_files_get(
    found: tuple[Rule, ...], who: tuple[str, bool], where: tuple[object, object], when: tuple[int | None, object]
) -> None:
    """Refused: no file would be taken. Accepted: no file needs a person. Asked: some file may, or a stranger's."""
    facts = Facts(who[0], "pi", where[0], when[0], "2026-11-22")  # type: ignore[arg-type]
    whole = Rules(accept="ask", rules=found)
    verdict = decide_offer(offer(), facts, whole)
    files = [
        decide_file(attrs.evolve(facts, path=path, size=size), whole).action
        for (path, _), (size, _) in itertools.product(WHAT[:2], SIZE[:2])
    ]
    if passes_all(facts, whole):
        assert set(files) == {"accept"}
    if verdict.action == "refuse":
        undecided = where[0] is None or when[0] is None
        assert undecided or not {"accept", "ask"} & set(files)
    elif verdict.action == "accept":
        assert "ask" not in files
    elif facts.who != "unknown":
        assert any(rule.action == "ask" for rule in found)


def test_the_first_rule_that_counts_decides() -> None:
    """The order of the configuration is the order of the decisions."""
    facts = Facts("paired", "pi", INSIDE, 0, "2026-11-22", (b"a.exe",), 1)
    exe, rest = Rule("refuse", "no programs", names=("*.exe",)), Rule("accept", "the rest")
    assert decide_file(facts, Rules(rules=(exe, rest))).why == "no programs"
    assert decide_file(facts, Rules(rules=(rest, exe))).why == "the rest"
    assert decide_file(facts, Rules()).why == "no rule"


def test_an_open_acceptance_keeps_an_offer_alive() -> None:
    """`accept pictures, refuse the rest` cannot refuse an offer: it may be nothing but pictures."""
    facts = Facts("paired", "pi", INSIDE, 0, "2026-11-22")
    found = Rules(rules=(Rule("accept", "pictures", types=("image/*",)), Rule("refuse", "the rest")))
    assert decide_offer(offer(), facts, found).action == "accept"
    picture = attrs.evolve(facts, path=(b"a.JPG",), size=1)
    assert decide_file(picture, found).action == "accept"
    assert decide_file(attrs.evolve(picture, path=(b"a.txt",)), found).action == "refuse"


@pytest.mark.parametrize("ceiling", CONFLICTS)
@pytest.mark.parametrize("wish", [None, *range(len(CONFLICTS))])
@pytest.mark.parametrize("by", ["configuration", "rights", "rule"])
def test_a_wish_up_to_the_ceiling(ceiling: str, wish: int | None, by: str) -> None:
    """No wish is the receiver's own rule; a stricter or equal one is granted; a looser one refuses the offer."""
    facts = Facts("paired", "pi", INSIDE, 0, "2026-11-22")
    rights = Rights(conflict=ceiling) if by == "rights" else USUAL
    rule = Rule("accept", "a rule", conflict=ceiling)
    found = Rules(conflict=ceiling if by == "configuration" else "overwrite", rules=(rule,) if by == "rule" else ())
    verdict = decide_offer(msgspec.structs.replace(offer(), conflict=wish), facts, found, rights)
    if wish is None:
        assert (verdict.action, verdict.conflict) == ("accept", ceiling)
    elif wish <= CONFLICTS.index(ceiling):
        assert (verdict.action, verdict.conflict) == ("accept", CONFLICTS[wish])
    else:
        assert (verdict.action, verdict.error) == ("refuse", "refused")


def test_a_rule_gives_no_more_than_rights() -> None:
    """Of two ceilings the lower one counts, whoever set which."""
    facts = Facts("paired", "pi", INSIDE, 0, "2026-11-22")
    for mine, rule in itertools.product(CONFLICTS, repeat=2):
        found = Rules(rules=(Rule("accept", "a rule", conflict=rule),))
        lower = CONFLICTS[min(CONFLICTS.index(mine), CONFLICTS.index(rule))]
        assert decide_offer(offer(), facts, found, Rights(conflict=mine)).conflict == lower


@pytest.mark.parametrize(
    ("who", "accept", "push", "error"),
    [
        ("own", "own", False, ""),
        ("own", "paired", True, ""),
        ("paired", "own", True, "not-authorised"),
        ("paired", "paired", True, ""),
        ("paired", "paired", False, "not-authorised"),
        ("paired", "ask", True, ""),
        ("paired", "ask", False, "not-authorised"),
        ("paired", "anything else", True, "not-authorised"),
        ("unknown", "own", True, "untrusted"),
        ("unknown", "paired", True, "untrusted"),
        ("unknown", "ask", True, ""),
        ("somebody", "ask", True, "untrusted"),
    ],
)
def test_who_may_push(who: str, accept: str, push: bool, error: str) -> None:
    """My own key always, paired keys as their rights say, an unknown one where people are asked, nobody else."""
    refusal = may_push(who, Rules(accept=accept), Rights(push=push))
    assert (refusal.error if refusal is not None else "") == error
    verdict = decide_offer(offer(), Facts(who, minute=0), Rules(accept=accept), Rights(push=push))
    assert verdict.error == error
    assert (verdict.action == "refuse") is bool(error)


@pytest.mark.parametrize(("minute", "error"), [(23 * 60, ""), (12 * 60, "refused"), (None, "refused")])
def test_hours_of_a_peer(minute: int | None, error: str) -> None:
    """Outside of its hours a peer is refused; where the hour is not known, too. My own key has no hours."""
    rights = Rights(hours=(NIGHT,))
    assert decide_offer(offer(), Facts("paired", "pi", minute=minute), Rules(), rights).error == error
    assert decide_offer(offer(), Facts("own", minute=minute), Rules(), rights).error == ""


def test_the_largest_file_of_a_peer() -> None:
    """A file may have as many bytes as the rights say, and not one more; my own key has no such bound."""
    rights = Rights(file_size=100)
    facts = Facts("paired", "pi", INSIDE, 0, "", (b"a",), 100)
    assert decide_file(facts, Rules(), rights).action == "accept"
    assert decide_file(attrs.evolve(facts, size=101), Rules(), rights).error == "too-large"
    assert decide_file(attrs.evolve(facts, who="own", size=101), Rules(), rights).action == "accept"
    assert passes_all(facts, Rules())
    assert not passes_all(facts, Rules(), rights)
    assert passes_all(attrs.evolve(facts, who="own"), Rules(), rights)
    assert not passes_all(attrs.evolve(facts, who="unknown"), Rules(accept="ask"))
    assert not passes_all(facts, Rules(accept="own"))


def test_rights_belong_to_an_identity() -> None:
    """They are found by the key and by nothing else, and my own key has none that bind it."""
    mine = Rights(push=False)
    found = Rules(rights={b"a" * 32: mine})
    assert found.rights_of(b"a" * 32) is mine
    assert found.rights_of(b"b" * 32) is USUAL
    assert found.rights_of(b"a" * 32, own=True) is USUAL


def test_folders() -> None:
    """Templates are filled in; what is empty is left out; the rule's folder comes before that of the rights."""
    facts = Facts("paired", "pi", INSIDE, 0, "2026-11-22")
    assert folder_of("from/{peer}/{year}-{month}/{day}", facts) == (b"from", b"pi", b"2026-11", b"22")
    assert folder_of("{date}", facts) == (b"2026-11-22",)
    assert folder_of("", facts) == ()
    found = Rules(rules=(Rule("accept", "a rule", folder="rule"),))
    assert decide_offer(offer(), facts, found, Rights(folder="mine")).folder == (b"rule",)
    assert decide_offer(offer(), facts, Rules(), Rights(folder="mine")).folder == (b"mine",)


def test_patterns() -> None:
    """Without a slash a pattern is about the last component, with one about the whole path; case is no matter."""
    facts = Facts("paired", "pi", INSIDE, 0, "", (b"tmp", b"A.Txt"), 1)
    for pattern, expected in (("a.txt", True), ("*.TXT", True), ("tmp/*", True), ("tmp", False), ("a", False)):
        assert matches(Rule("refuse", "a rule", names=(pattern,)), facts) is expected, pattern
    assert media_type(b"photo.JPG") == "image/jpeg"
    assert media_type(b"\xff\xfe") == "application/octet-stream"


def test_hours_are_parts_of_a_day() -> None:
    """Over midnight too; written as people write them, and nothing else."""
    for minute, expected in ((1319, False), (1320, True), (0, True), (359, True), (360, False)):
        assert (minute in NIGHT) is expected
    assert parse_hours("08:00-24:00") == Hours(480, 1440)
    assert str(parse_hours("8:05 - 17:30")) == "08:05-17:30"
    for wrong in ("", "8-17", "24:00-01:00", "08:00-24:01", "08:60-09:00", "08:00-08:00", "08:00-09:00 x"):
        with pytest.raises(ValueError, match="is not"):
            parse_hours(wrong)
    assert within((), None) is True
    assert within((NIGHT,), None) is None


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize("granted", [True, False])
def test_who_sees_a_share(own: bool, paired: bool, public: bool, granted: bool) -> None:
    """My own key all of them, a paired one those that are public or granted to it, an unknown one none at all."""
    rights = Rights(shares=frozenset({"photos"} if granted else ()))
    seen = may_see_share("photos", own=own, paired=paired, public={"photos"} if public else (), rights=rights)
    assert seen is (own or (paired and (public or granted)))
