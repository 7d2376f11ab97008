"""`policy`: what the rules of this machine would decide, without anybody sending anything."""

from __future__ import annotations

import os
import secrets
import time
from typing import TYPE_CHECKING, Any

import click

from ftx.client.options import Options, Verb, Verbs, current
from ftx.errors import KINDS, FtxError
from ftx.text import parse_size, show, show_path

if TYPE_CHECKING:
    from ftx.core.policy import Facts, Rules, Verdict
    from ftx.core.rights import Rights

__all__ = ["policy"]


def _size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_size(value)
    except ValueError as error:
        raise click.BadParameter(show(str(error))) from None


@click.group(cls=Verbs, short_help="Try the rules of this machine.")
def policy() -> None:
    """Try what the rights and rules in the configuration of this machine decide."""


@policy.command(cls=Verb, short_help="Say which rule decides about files of a peer.")
@click.option("--peer", required=True, metavar="PEER", help="Who sends: a paired name, @own or @unknown.")
@click.option("--address", metavar="ADDRESS", help="Where from; a rule that needs it and has it not refuses.")
@click.option("--size", metavar="SIZE", callback=_size, help="The size of each file, such as 4G (default: 0).")
@click.option("--at", metavar="HH:MM", help="The time of day (default: now).")
@click.option(
    "--conflict",
    type=click.Choice(["fail", "skip", "rename", "backup", "overwrite"]),
    help="What the sender wishes when a name is taken (default: nothing).",
)
@click.argument("names", metavar="[NAME]...", nargs=-1)
def test(
    peer: str, address: str | None, size: int | None, at: str | None, conflict: str | None, names: tuple[str, ...]
) -> int:
    """Say what would become of an offer of PEER, and of each file NAME in it, and which rule decides.

    A NAME is a path as the sender would offer it. Nothing is sent, and no daemon need run. The exit code is that of
    the first refusal, 0 when there is none.
    """
    import attrs

    from ftx.core.policy import decide_file, decide_offer
    from ftx.wire.messages import CONFLICTS, Offer

    options = current()
    rules = _rules(options)
    facts, rights = _peer(options, peer, rules)
    facts = _placed(facts, address, at)
    wish = None if conflict is None else CONFLICTS.index(conflict)
    verdict = decide_offer(Offer(secrets.token_bytes(16), 0, [], wish, None, None, None), facts, rules, rights)
    code = _say(options, None, verdict)
    for name in names:
        path = tuple(part for part in os.fsencode(name).split(b"/") if part not in (b"", b"."))
        if not path:
            raise FtxError("usage", f"not the name of a file: {show(name)}")
        file = attrs.evolve(facts, path=path, size=size or 0)
        found = verdict if verdict.action == "refuse" else decide_file(file, rules, rights)
        said = _say(options, path, found)
        code = code or said
    return code


def _rules(options: Options) -> Rules:
    from ftx.core.policy import Rules

    found = options.settings()

    def value(key: str, default: Any) -> Any:
        return found[key].value if key in found else default

    return Rules(value("conflict", "rename"), value("accept", "paired"), value("peer", {}), value("rule", ()))


def _peer(options: Options, written: str, rules: Rules) -> tuple[Facts, Rights]:
    """What is known of the peer that was named, and what it may do."""
    from ftx.client.verbs.peers import named_peer
    from ftx.core.policy import Facts
    from ftx.core.rights import USUAL

    if written in ("@own", "@unknown"):
        return Facts(written[1:], "stranger" if written == "@unknown" else ""), USUAL
    peer = named_peer(options, written)
    return Facts("paired", peer.name), rules.rights_of(peer.id)


def _placed(facts: Facts, address: str | None, at: str | None) -> Facts:
    """With the address and the time of day."""
    import attrs

    from ftx.core.rights import parse_hours
    from ftx.core.trust import canonical_address

    where = None if address is None else canonical_address(address)
    if address is not None and where is None:
        raise FtxError("usage", f"not an address: {show(address)}")
    now = time.localtime()
    minute = now.tm_hour * 60 + now.tm_min
    if at is not None:
        try:
            minute = parse_hours(f"{at}-24:00").start
        except ValueError:
            raise FtxError("usage", f"not a time of day: {show(at)}", "for example --at 22:30") from None
    return attrs.evolve(facts, address=where, minute=minute, day=time.strftime("%Y-%m-%d", now))


def _say(options: Options, path: tuple[bytes, ...] | None, verdict: Verdict) -> int:
    """Print one verdict; returns the exit code it stands for."""
    from ftx.text import path_text

    options.output.record(
        {
            "name": None if path is None else path_text(path),
            "action": verdict.action,
            "rule": None if verdict.rule is None else verdict.rule.title,
            "why": verdict.why,
            "error": verdict.error or None,
            "folder": path_text(verdict.folder),
            "conflict": verdict.conflict or None,
        }
    )
    what = "the offer" if path is None else show_path(path)
    terms = ""
    if verdict.conflict:
        folder = f" into {show_path(verdict.folder)}" if verdict.folder else ""
        terms = f" ({verdict.conflict}{folder})"
    options.output.result(f"{verdict.action:<7} {what}: {verdict.why}{terms}")
    return KINDS[verdict.error].exit_code if verdict.action == "refuse" else 0
