"""Rights and rules as they are written in a configuration file: the tables `[peer.NAME]` and `[[rule]]`.

What a person wrote is checked to the last key: a misspelt condition would otherwise be one that is always true. The
meaning is `ftx.core.rights` and `ftx.core.policy`; the words are in `docs/configuration.md`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, TypeVar

import msgspec

from ftx import limits
from ftx.core.identity import parse_id
from ftx.core.peers import peer_name
from ftx.core.policy import ACTIONS, Rule
from ftx.core.rights import Hours, Rights, parse_hours
from ftx.disk.configfile import invalid
from ftx.disk.hooks import hooks_table
from ftx.disk.written import Reading, listed
from ftx.text import parse_size, show
from ftx.wire.messages import CONFLICTS

__all__ = ["TABLES", "rights_table", "rules_table"]

_T = TypeVar("_T")
_Texts = str | list[str]
_Size = int | str

_WHO: Final = ("@own", "@paired", "@unknown")
_PLACEHOLDER: Final = re.compile(r"[{}]")
_PLACEHOLDERS: Final = ("{peer}", "{date}", "{year}", "{month}", "{day}")


class _Peer(msgspec.Struct, forbid_unknown_fields=True):
    """One `[peer.NAME]`."""

    id: str
    push: bool = True
    folder: str = ""
    shares: list[str] = []
    conflict: str = ""
    bytes_per_day: _Size | None = None
    files_per_day: int | None = None
    file_size: _Size | None = None
    hours: _Texts = []


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    """One `[[rule]]`."""

    action: str
    title: str = ""
    peer: _Texts = []
    address: _Texts = []
    hours: _Texts = []
    name: _Texts = []
    type: _Texts = []
    larger: _Size | None = None
    smaller: _Size | None = None
    reason: str = ""
    folder: str = ""
    conflict: str = ""


def _each(value: _Texts, parse: Callable[[str], _T]) -> tuple[_T, ...]:
    return tuple(parse(one) for one in listed(value))


def _size(value: _Size | None) -> int | None:
    if value is None or isinstance(value, str):
        return None if value is None else parse_size(value)
    if not 0 <= value < 2**63:
        raise ValueError(f"{value} is not a number of bytes")
    return value


def _count(value: int | None) -> int | None:
    if value is not None and not 0 <= value < 2**63:
        raise ValueError(f"{value} is not a number of files")
    return value


def _choice(value: str, choices: Sequence[str], *, needed: bool = False) -> str:
    if value not in choices and (needed or value):
        raise ValueError(f'"{value}" is not one of {", ".join(choices)}')
    return value


def _folder(value: str) -> str:
    """A folder template: relative, no way up, and no placeholder that does not exist."""
    rest = value
    for placeholder in _PLACEHOLDERS:
        rest = rest.replace(placeholder, "")
    if _PLACEHOLDER.search(rest):
        raise ValueError(f'"{value}" has a placeholder that does not exist: use {", ".join(_PLACEHOLDERS)}')
    if value.startswith("/") or any(part in (".", "..") for part in value.split("/")) or "\0" in value:
        raise ValueError(f'"{value}" is not a folder inside the inbox')
    return value.strip("/")


def _who(value: str) -> str:
    return _choice(value, _WHO) if value.startswith("@") else peer_name(value).casefold()


def _network(value: str) -> IPv4Network | IPv6Network:
    return ip_network(value.strip(), strict=False)


def _pattern(value: str) -> str:
    if not value:
        raise ValueError("a pattern is empty")
    return value


def _hours(value: str) -> Hours:
    return parse_hours(value)


def rights_table(table: Any, where: str) -> Mapping[bytes, Rights]:
    """The rights in the table `peer` of the file `where`, by identity; FtxError `config-invalid`."""
    if not isinstance(table, dict):
        raise invalid(f"peer in {show(where)}", "it has to be tables", "write [peer.NAME]")
    if len(table) > limits.PEERS:
        raise invalid(f"peer in {show(where)}", f"more than {limits.PEERS} peers")
    found: dict[bytes, Rights] = {}
    for name, written in table.items():
        reading = Reading(f"[peer.{name}]", where)
        if not isinstance(written, dict):
            raise reading.wrong("it has to be a table", hint=f"write [peer.{show(name)}]")
        if "id" not in written:
            raise reading.wrong("the id is missing", hint="rights belong to an identity: ftx-client peers show NAME")
        reading.field("name", lambda name=name: peer_name(name))  # type: ignore[misc]
        peer = reading.convert(written, _Peer)
        identity = reading.field("id", lambda peer=peer: parse_id(peer.id))  # type: ignore[misc]
        if identity in found:
            raise reading.wrong("another table has the same id", "id")
        found[identity] = _rights(peer, reading)
    return found


def _rights(peer: _Peer, reading: Reading) -> Rights:
    return Rights(
        push=peer.push,
        folder=reading.field("folder", lambda: _folder(peer.folder)),
        shares=frozenset(reading.field("shares", lambda: listed(peer.shares))),
        conflict=reading.field("conflict", lambda: _choice(peer.conflict, CONFLICTS)),
        bytes_per_day=reading.field("bytes_per_day", lambda: _size(peer.bytes_per_day)),
        files_per_day=reading.field("files_per_day", lambda: _count(peer.files_per_day)),
        file_size=reading.field("file_size", lambda: _size(peer.file_size)),
        hours=reading.field("hours", lambda: _each(peer.hours, _hours)),
    )


def rules_table(table: Any, where: str) -> tuple[Rule, ...]:
    """The rules in the array `rule` of the file `where`, in their order; FtxError `config-invalid`."""
    if not isinstance(table, list):
        raise invalid(f"rule in {show(where)}", "it has to be a list of tables", "write [[rule]]")
    if len(table) > limits.RULES:
        raise invalid(f"rule in {show(where)}", f"more than {limits.RULES} rules")
    return tuple(_rule(written, number, where) for number, written in enumerate(table, 1))


def _rule(written: Any, number: int, where: str) -> Rule:
    title = written.get("title") if isinstance(written, dict) else None
    named = title if isinstance(title, str) and title else f"rule {number}"
    reading = Reading(named, where)
    if not isinstance(written, dict):
        raise reading.wrong("it has to be a table", hint="write [[rule]]")
    if "action" not in written:
        raise reading.wrong("the action is missing", hint=f"choose {', '.join(ACTIONS[:-1])} or {ACTIONS[-1]}")
    rule = reading.convert(written, _Rule)
    made = Rule(
        action=reading.field("action", lambda: _choice(rule.action, ACTIONS, needed=True)),
        title=show(named),
        peers=reading.field("peer", lambda: _each(rule.peer, _who)),
        networks=reading.field("address", lambda: _each(rule.address, _network)),
        hours=reading.field("hours", lambda: _each(rule.hours, _hours)),
        names=reading.field("name", lambda: _each(rule.name, _pattern)),
        types=reading.field("type", lambda: _each(rule.type, _pattern)),
        larger=reading.field("larger", lambda: _size(rule.larger)),
        smaller=reading.field("smaller", lambda: _size(rule.smaller)),
        reason=show(rule.reason),
        folder=reading.field("folder", lambda: _folder(rule.folder)),
        conflict=reading.field("conflict", lambda: _choice(rule.conflict, CONFLICTS)),
    )
    if made.of_files and (made.folder or made.conflict):
        problem = "folder and conflict count for whole offers, of which no name or size is known yet"
        raise reading.wrong(problem, hint="leave name, type, larger and smaller out of this rule")
    if made.action == "refuse" and (made.folder or made.conflict):
        raise reading.wrong("what is refused goes nowhere: folder and conflict mean nothing here")
    return made


#: The tables of a configuration file besides its settings, and what reads each.
TABLES: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    "peer": rights_table,
    "rule": rules_table,
    "hook": hooks_table,
}
