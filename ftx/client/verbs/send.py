"""`send`: push files and trees to one or several targets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from ftx.client.options import PORT, Options, Verb, current
from ftx.errors import FtxError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ftx.client.sending import Sending
    from ftx.client.target import Target

__all__ = ["send"]


def complete_names(ctx: click.Context, suffix: str) -> list[tuple[str, str]]:
    """The paired names with `suffix`, each with its first address; none when the file cannot be read."""
    from ftx.disk.peers import load

    try:
        store = load(ctx.find_root().ensure_object(Options).places().peers)
    except (FtxError, OSError):
        return []
    return [(peer.name + suffix, peer.addresses[0] if peer.addresses else "") for peer in store.peers]


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Paired names, and local files where those may stand."""
    from click.shell_completion import CompletionItem

    suffix = ":" if param.name == "args" else ""
    items = [
        CompletionItem(name, help=address)
        for name, address in complete_names(ctx, suffix)
        if name.startswith(incomplete)
    ]
    return [*items, CompletionItem(incomplete, type="file")] if param.name == "args" else items


@click.command(
    cls=Verb,
    short_help="Send files and folders to a peer.",
    epilog="Interrupted? Run the same command again: what has arrived is not sent twice. Also called put and push.",
)
@click.argument("args", nargs=-1, required=True, metavar="SRC... TARGET:[DIR]", shell_complete=_complete)
@click.option(
    "--to",
    "targets",
    multiple=True,
    metavar="TARGET",
    shell_complete=_complete,
    help="Whom to send to; may be repeated, for one after the other. Every other argument is then a source.",
)
@click.option("--into", metavar="DIR", default="", help="Folder inside the inbox there.")
@click.option("-p", "--port", type=PORT, metavar="PORT", help="Another TCP port than 7389.")
@click.option(
    "--conflict",
    type=click.Choice(["fail", "skip", "rename"]),
    help="When a name exists there with other content (default: what the receiver has set).",
)
@click.option(
    "--receipt",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Also copy the receipt, signed by the receiver, to this file.",
)
def send(**given: Any) -> int:
    """Send files and folders SRC to TARGET, into its inbox or the folder DIR there.

    TARGET is the name of a peer or a host, an IPv4 address, [IPv6], a full identity, or NAME@ADDRESS, followed by a
    colon as with scp; or ftx://HOST:PORT/DIR.
    """
    from ftx.client.render import command_line
    from ftx.client.run import run
    from ftx.client.sending import Sending

    options = current()
    sources, targets = _split(list(given["args"]), list(given["targets"]), given["into"], given["port"])
    receipt: str | None = given["receipt"]
    if receipt is not None:
        _check_receipt(receipt, targets)
    sending = Sending(options, sources, targets, conflict=given["conflict"], receipt=receipt)
    return run(sending.main, options, what=_what(sending), resume=command_line(("ftx-client", *options.argv)))


def _what(sending: Sending) -> str:
    return f"cannot send to {sending.targets[0].label}" if len(sending.targets) == 1 else "cannot send"


def _split(args: list[str], to: list[str], into: str, port: int | None) -> tuple[list[str], list[Target]]:
    """The sources and the targets, checked as far as the words go; FtxError `usage` or `bad-target`."""
    from ftx.client.target import parse_target

    if "-" in args:
        raise FtxError(
            "usage",
            "standard input cannot be sent",
            "write it to a file first; a file that is called '-' is sent as './-'",
        )
    written = to
    if not to:
        written = [args.pop()]
    targets = [parse_target(text, option=bool(to)).with_port(port).with_folder(into) for text in written]
    if not args:
        raise FtxError("usage", "there is nothing to send", "name the files and folders before the target")
    if "" in args:
        raise FtxError("usage", "a source is empty", "name a file or a folder; '.' is the folder you are in")
    return args, targets


def _check_receipt(receipt: str, targets: list[Target]) -> None:
    """Whether the receipt can be copied there, before anything is sent."""
    if len(targets) > 1:
        raise FtxError("usage", "--receipt is for one target", "send to the others with commands of their own")
    folder = os.path.dirname(receipt) or "."
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK) or os.path.isdir(receipt):
        raise FtxError("local-io", f"the receipt cannot be written to {receipt}", "check the folder of --receipt")
