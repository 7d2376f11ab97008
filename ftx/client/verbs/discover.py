"""`discover`: who is here."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ftx.client.options import SECONDS, Options, Verb, current
from ftx.errors import FtxError
from ftx.text import duration, plural, show

if TYPE_CHECKING:
    from ftx.client.livetable import LiveLines
    from ftx.wire.events import Discovered

__all__ = ["discover"]


@click.command(cls=Verb, short_help="List the peers that answer on this network.")
@click.option(
    "--wait", type=SECONDS, default=1.0, show_default=True, metavar="SECONDS", help="How long to wait for answers."
)
@click.option("--watch", is_flag=True, help="Go on, and show who comes and goes, until interrupted.")
@click.option("--plain", is_flag=True, help="One line for each answer, as it comes: fields between tabs, no heading.")
@click.argument("hosts", nargs=-1, metavar="[HOST]...")
def discover(wait: float, watch: bool, plain: bool, hosts: tuple[str, ...]) -> int:
    """Ask on every network of this machine who is here, and list who answers.

    Addresses of paired machines are asked as well, and each HOST, which may be a name or an address. A host behind a
    router answers only if its daemon has our network in discovery_from.

    TRUST says what an answer proves: paired and mine are signed by a key that is known here; whoever is not paired may
    call itself anything. Exit code 11 when nobody answers;
    a --watch that you end with Ctrl-C has exit code 0. With --json, peers are printed as they answer.
    """
    from ftx.client.run import run

    options = current()

    async def main(reactor: Any, stop: Any) -> int:
        from twisted.internet.defer import CancelledError
        from twisted.internet.task import LoopingCall

        from ftx.client import api
        from ftx.client.configured import api_settings
        from ftx.client.discovering import nobody
        from ftx.wire.events import Summary

        output = options.output
        settings = api_settings(options)
        screen = _Screen(options, plain=plain, watch=watch)
        began = time.monotonic()
        screen.begin()
        ticking = LoopingCall(screen.draw)
        if watch:
            ticking.start(1.0, now=False)  # what was last seen grows older
        try:
            found = await api.discover(reactor, settings, wait, watch=watch, hosts=hosts, on_event=screen.take)
        except CancelledError:
            if watch and stop.error is None:
                output.record(Summary(exit=0, targets=[]))
            raise
        finally:
            if ticking.running:
                ticking.stop()
            screen.end()
        code = 0 if found else FtxError("none-found").exit_code
        output.record(Summary(exit=code, targets=[]))
        if not found:
            output.error(FtxError("none-found", f"nobody answered within {duration(wait)}"))
            for reason in nobody(settings):
                output.note(f"  {reason}")
            return code
        screen.table(found)
        for name in sorted({one.name for one in found if one.conflict}):
            output.note(f"conflict: more than one machine calls itself {show(name)}; the ID tells them apart", "warn")
        output.note(_summary(found, time.monotonic() - began))
        return code

    return run(main, options, what="cannot look for peers", endless=watch)


def _summary(found: Sequence[Discovered], seconds: float) -> str:
    """How many there are, and what to type to send to one of them."""
    names = sorted({(not one.paired, one.name) for one in found if one.verified})
    send = f"; to send: ftx-client send FILE {shlex.quote(show(names[0][1]) + ':')}" if names else ""
    return f"{plural(len({one.id for one in found}), 'peer')} in {duration(seconds)}{send}"


class _Screen:
    """What a person sees: a table that fills on a terminal, lines elsewhere; or, with --json, what a program reads."""

    def __init__(self, options: Options, *, plain: bool, watch: bool) -> None:
        from ftx.client.output import is_terminal
        from ftx.client.sightings import Sightings

        self._output = options.output
        self._ids = options.verbose > 0
        self._watch = watch
        terminal = is_terminal(sys.stdout) and _draws()
        #: Lines as answers come: asked for, or nobody redraws a pipe.
        self._lines = (plain or (watch and not terminal)) and not options.json
        self._plain = plain
        self._live: LiveLines | None = None
        if terminal and not self._lines and not options.json:
            from ftx.client.livetable import LiveLines

            self._live = LiveLines(sys.stdout)
        self._sightings = Sightings()

    def begin(self) -> None:
        """Say that something is being done."""
        if self._live is not None:
            self._live.draw(["looking for peers"])
        elif not self._lines:
            self._output.open_view().announce("looking for peers")

    def take(self, event: Discovered) -> None:
        """An answer, or who is gone."""
        from ftx.client.sightings import plain_line

        if event.state == "gone":
            self._sightings.drop(event.id)
        else:
            self._sightings.take(event, time.monotonic())
        if event.state != "still":
            self._output.record(event)
            if self._lines:
                self._output.result(plain_line(event))
        self.draw()

    def end(self) -> None:
        """Take away what does not stay; who was there at the end of a watch stays."""
        self._output.close_view()
        if self._live is not None and not self._watch:
            self._live.clear()

    def table(self, found: Sequence[Discovered]) -> None:
        """The table of the whole search."""
        from ftx.client.sightings import discovered_table

        if self._lines:
            return
        for line in discovered_table(found, ids=self._ids):
            self._output.result(line)

    def draw(self) -> None:
        """Draw the table as it is now, where one is drawn."""
        from ftx.client.sightings import discovered_table

        if self._live is None:
            return
        events = self._sightings.events()
        ages = self._sightings.ages(time.monotonic()) if self._watch else None
        lines = discovered_table(events, ages, ids=self._ids) if events else []
        status = "watching; Ctrl-C ends" if self._watch else "looking for more"
        self._live.draw([*lines, f"{plural(len({one.id for one in events}), 'peer')}, {status}"])


def _draws() -> bool:
    import os

    return os.environ.get("TERM", "") not in ("", "dumb")
