"""`discover`: who is here."""

from __future__ import annotations

import shlex
import time
from typing import Any

import click

from ftx.client.options import SECONDS, Verb, current
from ftx.errors import FtxError
from ftx.text import duration, plural, show

__all__ = ["discover"]


@click.command(cls=Verb, short_help="List the peers that answer on this network.")
@click.option(
    "--wait", type=SECONDS, default=2.0, show_default=True, metavar="SECONDS", help="How long to wait for answers."
)
def discover(wait: float) -> int:
    """Ask on every network of this machine who is here, and list who answers.

    Exit code 11 when nobody does. With --json, peers are printed as they answer.
    """
    from ftx.client.run import run

    options = current()
    output = options.output

    async def main(reactor: Any, stop: Any) -> int:
        from ftx.client import api, render
        from ftx.client.configured import api_settings
        from ftx.wire.events import Summary

        output.open_view().announce("looking for peers")
        began = time.monotonic()
        found = await api.discover(reactor, api_settings(options), wait, on_event=output.record)
        output.close_view()
        code = 0 if found else FtxError("none-found").exit_code
        output.record(Summary(exit=code, targets=[]))
        if not found:
            output.error(FtxError("none-found", f"nobody answered within {duration(wait)}"))
            return code
        lines = render.discovered_table(found)
        for line in lines:
            output.result(line)
        example = next((one.name for one in sorted(found, key=lambda one: not one.paired) if one.verified), "")
        send = f"; to send: ftx-client send FILE {shlex.quote(show(example) + ':')}" if example else ""
        seconds = duration(time.monotonic() - began)
        output.note(f"{plural(len(lines) - 1, 'peer')} in {seconds}{send}")
        return code

    return run(main, options, what="cannot look for peers")
