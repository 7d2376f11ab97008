"""What a firewall's rules do to a packet for one of our ports, as far as the rules can be understood. Pure.

nftables prints its rules as JSON (libnftables-json(5)), iptables as the words of its own command (iptables-save(8)).
Both are walked as the kernel walks them: base chains of the input hook by priority, rules in order, chains that are
jumped to. A match that is not understood neither matches nor does not, and a statement or target that is not may do
anything: then the answer is that it is not clear.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import attrs

__all__ = ["Packet", "Verdict", "judge_iptables", "judge_nftables"]

#: What becomes of a packet.
Verdict = Literal["accepted", "dropped", "unclear"]
_DEPTH: Final = 16


@attrs.frozen
class Packet:
    """The first packet of a peer to us: `protocol` is `tcp` or `udp`, `version` that of IP."""

    protocol: str
    port: int
    version: int
    interface: str


# -- nftables ----------------------------------------------------------------------------------------------


def judge_nftables(listing: Mapping[str, Any], packet: Packet) -> Verdict:
    """What `nft -j list ruleset` does to `packet`: dropped by one base chain is dropped, whatever the others say."""
    chains: dict[tuple[Any, Any, Any], list[Mapping[str, Any]]] = {}
    bases = []
    for item in listing.get("nftables", ()):
        if not isinstance(item, dict):
            continue
        chain, rule = item.get("chain"), item.get("rule")
        if isinstance(chain, dict):
            chains.setdefault(_place(chain, "name"), [])
            if chain.get("hook") == "input" and chain.get("family") in _families(packet.version):
                bases.append(chain)
        elif isinstance(rule, dict):
            chains.setdefault(_place(rule, "chain"), []).append(rule)
    outcomes = []
    for base in sorted(bases, key=lambda one: _number(one.get("prio"))):
        verdict, doubt = _walk(chains, _place(base, "name"), packet, _DEPTH)
        policy = "dropped" if base.get("policy") == "drop" else "accepted"
        outcomes.append(_settled(verdict or policy, doubt))
    return _worst(outcomes)


def _place(item: Mapping[str, Any], name: str) -> tuple[Any, Any, Any]:
    return item.get("family"), item.get("table"), str(item.get(name))


def _families(version: int) -> tuple[str, ...]:
    return ("inet", "ip" if version == 4 else "ip6")


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _walk(
    chains: Mapping[tuple[Any, Any, Any], list[Mapping[str, Any]]],
    place: tuple[Any, Any, Any],
    packet: Packet,
    depth: int,
) -> tuple[str, set[str]]:
    """The verdict of a chain, empty where it has none; and what rules that are not understood might have said."""
    if not depth:
        return "", set(_BOTH)
    doubt: set[str] = set()
    for rule in chains.get(place, ()):
        matches: bool | None = True
        for expression in rule.get("expr", ()):
            key, value = _looked_up(*_statement(expression), packet)
            if key in _ENDS:
                verdict, ends = _VERDICTS.get(key, ""), key in ("return", "goto")
                if key in ("jump", "goto"):
                    target = value.get("target") if isinstance(value, dict) else None
                    verdict, below = _walk(chains, (*place[:2], str(target)), packet, depth - 1)
                    doubt |= below
                if matches and (verdict or ends):
                    return verdict, doubt
                doubt |= _might(verdict, ends) if matches is None else set()
            elif key == "match":
                matches = _and(matches, _nft_match(value, packet))
            elif key in _SOMETIMES:
                matches = _and(matches, None)
            elif key not in _PASSING:
                matches = None
                doubt |= _BOTH
            if matches is False:
                break
    return "", doubt


#: What a rule that is not understood may do.
_BOTH: Final = frozenset({"accepted", "dropped"})
_VERDICTS: Final = {"accept": "accepted", "drop": "dropped", "reject": "dropped"}
#: Statements with which a rule ends, where it matches.
_ENDS: Final = frozenset({*_VERDICTS, "return", "jump", "goto"})
#: Statements that let some packets through to the rest of the rule, and we do not know which.
_SOMETIMES: Final = frozenset({"limit", "quota", "ct count", "xt match"})
#: Statements that change nothing about what becomes of a packet.
_PASSING: Final = frozenset({"counter", "log", "comment", "notrack", "continue"})


def _might(verdict: str, ends: bool) -> set[str]:
    """What a rule says that may match or not; where one only ends its chain, whatever comes later may be left out."""
    return {verdict} if verdict else set(_BOTH) if ends else set()


def _statement(expression: Any) -> tuple[str, Any]:
    """The name of a statement, empty where it has none, and what belongs to it."""
    if not isinstance(expression, dict) or not expression:
        return "", None
    key, value = next(iter(expression.items()))
    if key == "xt" and isinstance(value, dict) and value.get("type") == "match":
        return "xt match", value
    return str(key), value


def _looked_up(key: str, value: Any, packet: Packet) -> tuple[str, Any]:
    """A statement; of a map of verdicts, the one for this packet: a match that fails where there is none."""
    if key != "vmap" or not isinstance(value, dict):
        return key, value
    left, data = value.get("key"), value.get("data")
    actual = _nft_actual(left, packet) if isinstance(left, dict) else None
    pairs = data.get("set") if isinstance(data, dict) else None
    if actual is None or not isinstance(pairs, list):
        return key, value
    for pair in pairs:
        found = _among(actual, pair[0]) if isinstance(pair, list) and len(pair) == 2 else None
        if found is None:
            return key, value
        if found and actual != "":
            return _statement(pair[1])
    return "match", {"op": "==", "left": left, "right": {"set": []}}


def _and(one: bool | None, other: bool | None) -> bool | None:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def _nft_match(match: Any, packet: Packet) -> bool | None:
    """Whether the packet matches; None when that cannot be told."""
    if not isinstance(match, dict):
        return None
    left, right = match.get("left"), match.get("right")
    if not isinstance(left, dict):
        return None
    actual = _nft_actual(left, packet)
    if actual is None:
        return None
    if actual == "":  # a field of another protocol than the packet's
        return False
    found = _among(actual, right)
    if match.get("op") == "!=":
        return None if found is None else not found
    return found if match.get("op") in ("==", "in") else None


def _nft_actual(left: Mapping[str, Any], packet: Packet) -> str | int | None:
    """The packet's value of what a rule looks at; empty where it has no such field, None where we do not know."""
    payload, meta, ct = left.get("payload"), left.get("meta"), left.get("ct")
    if isinstance(payload, dict):
        if payload.get("field") == "dport" and payload.get("protocol") in ("tcp", "udp", "th"):
            return packet.port if payload["protocol"] in (packet.protocol, "th") else ""
        if payload.get("protocol") in ("tcp", "udp", "icmp", "icmpv6") and payload["protocol"] != packet.protocol:
            return ""
        if payload.get("field") in ("protocol", "nexthdr"):
            return packet.protocol
    if isinstance(meta, dict):
        return {
            "l4proto": packet.protocol,
            "iifname": packet.interface,
            "iif": packet.interface,
            "nfproto": "ipv4" if packet.version == 4 else "ipv6",
        }.get(str(meta.get("key")))
    return "new" if isinstance(ct, dict) and ct.get("key") == "state" else None


def _among(actual: str | int, right: Any) -> bool | None:
    """Whether a value is one, in a set or in a range."""
    if isinstance(right, dict):
        if isinstance(right.get("set"), list):
            return _any(_among(actual, one) for one in right["set"])
        span = right.get("range")
        if isinstance(span, list) and len(span) == 2 and all(isinstance(one, int) for one in (*span, actual)):
            return bool(span[0] <= actual <= span[1])
        return None
    if isinstance(right, list):
        return _any(_among(actual, one) for one in right)
    if isinstance(right, str) and right.startswith("@"):
        return None
    if isinstance(right, str) and right.endswith("*") and isinstance(actual, str):
        return actual.startswith(right[:-1])
    return bool(actual == right)


def _any(found: Iterable[bool | None]) -> bool | None:
    answers = list(found)
    return True if True in answers else None if None in answers else False


# -- iptables ----------------------------------------------------------------------------------------------


def judge_iptables(saved: str, packet: Packet) -> Verdict:
    """What the table `filter` of `iptables-save` (or `ip6tables-save`) does to `packet`."""
    chains: dict[str, list[list[str]]] = {}
    policy, table = "accepted", ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif table != "filter":
            continue
        elif line.startswith(":"):
            name, *rest = line[1:].split()
            chains.setdefault(name, [])
            if name == "INPUT":
                policy = "dropped" if rest[:1] == ["DROP"] else "accepted"
        elif line.startswith("-A "):
            try:
                _, name, *words = shlex.split(line)
            except ValueError:  # whatever it is, and of whatever chain
                name, words = "INPUT", ["-j", "?"]
            chains.setdefault(name, []).append(words)
    verdict, doubt = _follow(chains, "INPUT", packet, _DEPTH)
    return _settled(verdict or policy, doubt)


_TARGETS: Final = {"ACCEPT": "accepted", "DROP": "dropped", "REJECT": "dropped"}
#: Targets behind which the next rule has its turn.
_NO_TARGETS: Final = frozenset({"", "LOG", "NFLOG", "ULOG", "AUDIT", "MARK", "CONNMARK", "SET", "TRACE"})


def _follow(chains: Mapping[str, list[list[str]]], name: str, packet: Packet, depth: int) -> tuple[str, set[str]]:
    if not depth:
        return "", set(_BOTH)
    doubt: set[str] = set()
    for words in chains.get(name, ()):
        matches, target = _ipt_match(words, packet)
        if matches is False or target in _NO_TARGETS:
            continue
        verdict, ends = _TARGETS.get(target, ""), target == "RETURN" or "-g" in words
        if target in chains:
            verdict, below = _follow(chains, target, packet, depth - 1)
            doubt |= below
        elif not verdict and not ends:
            doubt |= _BOTH
        if matches and (verdict or ends):
            return verdict, doubt
        doubt |= _might(verdict, ends) if matches is None else set()
    return "", doubt


def _ipt_match(words: list[str], packet: Packet) -> tuple[bool | None, str]:
    """Whether a rule matches, and its target."""
    matches: bool | None = True
    target, place, negated = "", 0, False
    while place < len(words):
        word, value = words[place], words[place + 1] if place + 1 < len(words) else ""
        place += 1
        if word == "!":
            negated = True
            continue
        if word in ("-j", "-g", "-m", "--comment", "--reject-with"):
            target = value if word in ("-j", "-g") else target
            place += 1
            continue
        found: bool | None = None
        if word in ("-p", "-i", "--dport", "--dports", "--state", "--ctstate"):
            place += 1
            found = _ipt_value(word, value, packet)
        if negated:
            found, negated = None if found is None else not found, False
        matches = _and(matches, found)
    return matches, target


def _ipt_value(word: str, value: str, packet: Packet) -> bool | None:
    if word == "-p":
        return value in (packet.protocol, "all")
    if word == "-i":
        return packet.interface.startswith(value[:-1]) if value.endswith("+") else packet.interface == value
    if word in ("--state", "--ctstate"):
        return "NEW" in value.split(",")
    for part in value.split(","):
        low, _, high = part.partition(":")
        if low.isdigit() and int(low) <= packet.port <= int(high if high.isdigit() else low):
            return True
    return False


def _settled(verdict: str, doubt: set[str]) -> Verdict:
    """A verdict counts where no rule before it may have said otherwise."""
    if doubt - {verdict}:
        return "unclear"
    return "dropped" if verdict == "dropped" else "accepted"


def _worst(outcomes: Iterable[Verdict]) -> Verdict:
    found = set(outcomes)
    return "dropped" if "dropped" in found else "unclear" if "unclear" in found else "accepted"
