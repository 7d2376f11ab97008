"""`doctor`: why this machine is not found, or why a peer cannot be reached or is slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from ftx.client.options import PORT, Verb, current

if TYPE_CHECKING:
    from ftx.core.checks import Check

__all__ = ["doctor"]

_STYLES: Final = {"pass": "", "warn": "warn", "fail": "error"}
_WORDS: Final = {"pass": "ok", "warn": "warn", "fail": "FAIL"}
_HINT: Final = " " * 17 + "-> "


@click.command(cls=Verb, short_help="Find out why a peer is not found, not reached or slow.")
@click.argument("target", required=False, metavar="[TARGET]")
@click.option("-p", "port", type=PORT, metavar="PORT", help="TCP port of the peer, where it is not the usual one.")
def doctor(target: str | None, port: int | None) -> int:
    """Look at this machine, or at the way to one peer.

    Without TARGET: interfaces, ports, the firewall, the daemon, rights of files, the clock, room in the inbox. With one
    (as for send): its name, ICMP, discovery, TCP, its key, versions, and with a paired peer the speed both ways, by
    content that is stored nowhere. Nothing is changed on either side.

    Exit code 0 when nothing failed, 4 or 5 when the peer cannot be used, 1 otherwise.
    """
    from ftx.client.run import run

    options = current()
    output = options.output

    async def main(reactor: Any, stop: Any) -> int:
        from ftx.client import api
        from ftx.client.configured import api_settings, control_path
        from ftx.core.checks import exit_code, of_error
        from ftx.errors import FtxError
        from ftx.wire.events import Summary

        def put(check: Check) -> None:
            output.record(_record(check))
            _show(output, check)

        try:
            settings, control = api_settings(options), control_path(options)
        except FtxError as error:
            checks = [of_error("config", error)]
            put(checks[0])
        else:
            configured = options.settings().get("inbox")
            inbox = "" if configured is None else str(configured.value)
            checks = await api.doctor(
                reactor, settings, target or "", port=port, control=control, inbox=inbox, on_event=put
            )
        code = exit_code(checks)
        output.record(Summary(exit=code, targets=[]))
        counts = {outcome: sum(check.outcome == outcome for check in checks) for outcome in _WORDS}
        output.note(f"{counts['pass']} ok, {counts['warn']} to look at, {counts['fail']} failed")
        return code

    return run(main, options, what=f"cannot look at {target}" if target else "cannot look at this machine")


def _show(output: Any, check: Check) -> None:
    """One check for people: the sentence, and below it the way out."""
    output.result(f"{_WORDS[check.outcome]:<5}{check.name:<11} {check.message}", _STYLES[check.outcome])
    if check.hint:
        output.result(_HINT + check.hint)


def _record(check: Check) -> dict[str, Any]:
    return {
        "check": check.name,
        "about": check.about,
        "outcome": check.outcome,
        "message": check.message,
        "hint": check.hint,
        "figures": dict(check.figures),
    }
