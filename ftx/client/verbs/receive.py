"""`receive`: a receiver in the foreground, for one time, without a daemon."""

from __future__ import annotations

import os
from typing import Any

import click

from ftx.client.options import Options, Verb, current
from ftx.text import show

__all__ = ["receive"]


@click.command(cls=Verb, short_help="Receive here and now, without a daemon.")
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(file_okay=False))
@click.option("--once", is_flag=True, help="End when one transfer has ended.")
@click.option("--keep", is_flag=True, help="Stay paired with whoever pairs (else you are asked at the end).")
def receive(folder: str | None, once: bool, keep: bool) -> int:
    """Receive into DIR (or the inbox) for as long as this runs; show a code for a machine that is not paired yet.

    Who is paired can send at once. Who pairs with the code is trusted until this ends, or for good if you say so.
    """
    from ftx.client.run import run

    options = current()
    guests: dict[str, tuple[str, str]] = {}

    async def main(reactor: Any, stop: Any) -> int:
        from ftx.client.configured import control_path
        from ftx.client.receiving import Receiver

        arguments = ["--home", options.home] if options.home else []
        if folder is not None:
            arguments += ["--inbox", os.path.abspath(folder)]
        path = control_path(options)
        receiver = Receiver(reactor, options.output, path, [*arguments, "--control", path], once=once)
        try:
            await receiver.run()
        finally:
            guests.update(receiver.guests)
        return receiver.code

    code = run(main, options, what="cannot receive")
    _remember(options, guests, keep)
    return code


def _remember(options: Options, guests: dict[str, tuple[str, str]], keep: bool) -> None:
    """Pair for good with those guests whom the person wants to keep."""
    from ftx.core.identity import parse_id
    from ftx.core.peers import Peer, TrustStore
    from ftx.disk.peers import update
    from ftx.wire.events import iso_time

    for name, (identity, address) in guests.items():
        if not keep and not options.confirm_here(f"Stay paired with {show(name)}?"):
            continue

        def add(store: TrustStore, name: str = name, identity: str = identity, address: str = address) -> TrustStore:
            return store.add(Peer(store.free_name(name), parse_id(identity), (address,), iso_time(), iso_time()))

        update(options.places().peers, add)
        options.output.note(f"paired with {show(name)}")
