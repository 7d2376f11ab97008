"""`pair`: two machines learn each other's keys with a short code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ftx.client.options import PORT, Options, Verb, current
from ftx.errors import FtxError
from ftx.text import duration, show

if TYPE_CHECKING:
    from ftx.client.pairing import Met
    from ftx.client.target import Target

__all__ = ["pair"]


@click.command(cls=Verb, short_help="Pair with another machine by a short code.")
@click.argument("target", required=False)
@click.option("--open", "opens", is_flag=True, help="Show a code on this machine, for the other one to type.")
@click.option("--name", metavar="NAME", default="", help="What to call the other machine here.")
@click.option("--words", metavar="N", type=click.IntRange(2, 4), help="With --open: how many words the code has (2).")
@click.option(
    "--code-file",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Read the code from the first line of FILE, - is standard input (else FTX_CODE, else you are asked).",
)
@click.option("-p", "--port", type=PORT, metavar="PORT", help="Another TCP port than 7389.")
def pair(target: str | None, opens: bool, name: str, words: int | None, code_file: str | None, port: int | None) -> int:
    """Pair with TARGET: type the code that `ftx-client pair --open` shows there.

    Afterwards both machines know each other's key, name and address. A code is good for two minutes and one attempt,
    right or wrong.
    """
    options = current()
    if opens == (target is not None):
        raise FtxError(
            "usage",
            "missing the machine to pair with, or --open" if not opens else "--open takes no machine",
            "here: ftx-client pair --open, and on the other machine: ftx-client pair NAME",
        )
    if target is None:
        if code_file is not None or port is not None:
            raise FtxError("usage", "--open takes no --code-file and no --port")
        return _open(options, name, words)
    if words is not None:
        raise FtxError("usage", "--words goes with --open: here the code is typed")
    from ftx.client.codes import CodeSource, refuse_code
    from ftx.client.target import parse_target

    refuse_code(target)
    where = parse_target(target, option=True).with_port(port)
    if where.into:
        raise FtxError("usage", f"a machine to pair with has no folder: {show(where.into)}")
    return _type(options, where, name, CodeSource(options, code_file))


def _type(options: Options, target: Target, name: str, source: Any) -> int:
    from ftx.client.run import run

    async def main(reactor: Any, stop: Any) -> int:
        from ftx.client.configured import api_settings, control_path
        from ftx.client.pairing import own_port
        from ftx.client.pairing import pair as pair_with
        from ftx.core.identity import format_id, words

        async def code(met: Met) -> str:
            options.output.note(f"{show(met.name)} is at {met.where} and shows a code, good for one attempt")
            typed: str = await source.get(reactor, "code: ")
            return typed

        port = await own_port(reactor, control_path(options))
        settings = api_settings(options)
        peer = await pair_with(
            reactor, settings, target, code, name=name, port=port, warn=lambda text: options.output.stderr(text, "warn")
        )
        from ftx.client.verbs.peers import print_peer

        print_peer(options, peer, f"paired {show(peer.name)}, id {format_id(peer.id)}, {words(peer.id)}")
        return 0

    return run(main, options, what=f"cannot pair with {target.label}")


def _open(options: Options, name: str, words: int | None) -> int:
    from ftx.client.run import run

    async def main(reactor: Any, stop: Any) -> int:
        from ftx.client import control
        from ftx.client.configured import api_settings, control_path
        from ftx.client.pairing import befriend, show_code
        from ftx.client.reach import commands

        path = control_path(options)
        try:
            status = await control.call(reactor, path, "daemon.status")
        except FtxError as error:
            if error.name == "no-daemon":
                error.hint = "start it with: ftx-server; or receive without one: ftx-client receive"
            raise
        options.output.note(f"the daemon {show(str(status.get('name')))}, control socket {show(path, 4096)}")
        friend = await befriend(reactor, api_settings(options), path)
        if friend is not None:
            options.output.note(f"it has a key of its own: this user and {show(friend.name)} are paired now")

        def on_code(result: dict[str, Any]) -> None:
            options.output.record(result)
            options.output.result(f"code: {show(str(result.get('code')))}", "title")
            for line in commands(status, "ftx-client pair", "on the other machine"):
                options.output.note(line)
            options.output.note(f"good for {duration(float(result.get('expires_s') or 0))} and one attempt")

        params = {"name": name, **({"words": words} if words is not None else {})}
        peer = await show_code(reactor, path, params, on_code)
        options.output.record(peer)
        options.output.result(f"paired {show(str(peer.get('name')))}, id {show(str(peer.get('id')))}")
        return 0

    return run(main, options, what="no pairing")
