"""`send`: push files and trees to one or several targets."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ftx.client.options import COMPRESS, EXCLUDE, LANES, PORT, RATE, Options, Verb, current
from ftx.errors import FtxError
from ftx.text import show

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ftx.client.sending import Sending
    from ftx.client.target import Target

__all__ = ["send"]


def complete_names(ctx: click.Context, suffix: str, *, seen: bool = True) -> list[tuple[str, str]]:
    """The paired names with `suffix`, each with its first address, and with `seen` those seen on the network lately.

    Nobody is asked, and files that cannot be read have no names.
    """
    from ftx.disk.peers import load
    from ftx.disk.seen import names

    places = ctx.find_root().ensure_object(Options).places()
    try:
        paired = {peer.name: peer.addresses[0] if peer.addresses else "" for peer in load(places.peers).peers}
    except (FtxError, OSError):
        paired = {}
    lately = names(places.state, time.time()) if seen else []
    others = {one.name: one.address for one in lately if _can_be_typed(one.name)}
    return [(name + suffix, where) for name, where in {**others, **paired}.items()]


def _can_be_typed(name: str) -> bool:
    """Whether a name that somebody announced means what it says on a command line."""
    from ftx.core.peers import peer_name

    try:
        return peer_name(name) == name and not any(char.isspace() or char in "\"'$`\\!;&|<>*?~#(){}" for char in name)
    except FtxError:
        return False


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Paired names, and local files where those may stand.

    The script for bash forgets all else when it is told to complete files by itself. Where names stand beside them,
    the files are therefore listed here.
    """
    from click.shell_completion import CompletionItem

    argument = param.name == "args"
    if argument and not ctx.params.get("args") and not ctx.params.get("targets"):
        return [CompletionItem(incomplete, type="file")]  # the first one can only be a source
    items = [
        CompletionItem(name, help=address)
        for name, address in complete_names(ctx, ":" if argument else "")
        if name.startswith(incomplete)
    ]
    if not argument:
        return items
    return [*items, *map(CompletionItem, _files(incomplete))] if items else [CompletionItem(incomplete, type="file")]


def _files(incomplete: str) -> list[str]:
    """The paths that begin with `incomplete`, folders with a slash; hidden ones only when asked for."""
    folder, slash, start = incomplete.rpartition("/")
    try:
        with os.scandir(folder + slash or ".") as entries:
            found = [
                folder + slash + entry.name + ("/" if entry.is_dir() else "")
                for entry in entries
                if entry.name.startswith(start) and (start or not entry.name.startswith("."))
            ]
    except OSError:
        return []
    return sorted(found)


@click.command(
    cls=Verb,
    short_help="Send files and folders to a peer.",
    epilog="Interrupted? Run the same command again: what has arrived is not sent twice. Also called put and push.",
)
@click.argument("args", nargs=-1, metavar="SRC... TARGET:[DIR]", shell_complete=_complete)
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
    type=click.Choice(["fail", "skip", "rename", "backup", "overwrite"]),
    help="When a name exists there with other content (default: what the receiver has set).",
)
@click.option(
    "--ask",
    is_flag=True,
    help="Also to a receiver that is not paired here: it asks its person, and you compare the words on both screens.",
)
@click.option(
    "--checksum",
    is_flag=True,
    help="Read every file first and let the receiver recognise it by its content, not only by size and time.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Send nothing: list the files that would travel, having asked the receiver which it has.",
)
@click.option(
    "--name",
    metavar="NAME",
    default="",
    help="What the file is called there when SRC is '-', standard input. It cannot be resumed.",
)
@EXCLUDE
@click.option(
    "--links",
    type=click.Choice(["skip", "follow", "keep"]),
    default="skip",
    show_default=True,
    help="Symbolic links below a source: leave them out and say so, send what they lead to, or send the links.",
)
@COMPRESS
@click.option(
    "--limit",
    metavar="RATE",
    type=RATE,
    default=0,
    show_default=False,
    help="Bytes per second at most, for example 20M or 512Ki; 0, the default, is no limit.",
)
@LANES
@click.option(
    "--receipt",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Also copy the receipt, signed by the receiver, to this file.",
)
@click.option(
    "--later",
    is_flag=True,
    help="Leave it with the daemon of this machine, which sends it as soon as the peer, paired there or at an address, "
    "can be reached.",
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
    _check_pipe(sources, targets, given["name"])
    if given["dry_run"] and (given["name"] or receipt is not None):
        raise FtxError("usage", "--dry-run sends nothing: there is no receipt, and standard input would be lost")
    _check_patterns(given["exclude"])
    if given["later"]:
        return _later(sources, targets, given)
    wishes = {name: given[name] for name in ("ask", "conflict", "checksum", "dry_run", "exclude", "links", "name")}
    wishes |= {"compress": given["compress"] == "auto", "limit": given["limit"], "lanes": given["lanes"]}
    sending = Sending(options, targets, sources=sources, receipt=receipt, **wishes)
    resume = "" if given["name"] else command_line(("ftx-client", *options.argv))  # a pipe is read once
    return run(sending.main, options, what=_what(sending), resume=resume)


def _later(sources: list[str], targets: list[Target], given: dict[str, Any]) -> int:
    """Leave it with the daemon. FtxError `usage` for what only somebody who waits can have."""
    from ftx.client.later import leave
    from ftx.client.run import run

    for name in ("ask", "dry_run", "receipt", "name"):
        if given[name]:
            said = f"--later cannot be combined with --{name.replace('_', '-')}"
            raise FtxError("usage", said, "what is left with the daemon has nobody who waits for it")
    written = list(given["targets"]) or [given["args"][-1]]
    wishes = {name: given[name] for name in ("port", "conflict", "links", "checksum", "lanes")}
    wishes["limit"] = given["limit"] or None
    wishes["into"] = given["into"]
    wishes["exclude"] = list(given["exclude"])
    wishes["compress"] = None if given["compress"] == "auto" else given["compress"]
    options = current()

    async def main(reactor: Any, stop: Any) -> int:
        return await leave(reactor, options, sources, written, wishes)

    return run(main, options, what="cannot queue")


def _check_pipe(sources: list[str], targets: list[Target], name: str) -> None:
    """Whether what is said of standard input fits together; FtxError `usage`."""
    from ftx.disk.roots import pipe_root

    if "-" in sources and not name:
        hint = "for example: --name backup.tar; a file that is called '-' is sent as './-'"
        raise FtxError("usage", "'-' is standard input, and needs a name there", hint)
    if name and "-" not in sources:
        raise FtxError("usage", "--name is for standard input", "write '-' as the source")
    if name and (len(sources) > 1 or len(targets) > 1):
        raise FtxError("usage", "standard input is sent alone, and to one target: it is read once")
    if name:
        pipe_root(name)


def _check_patterns(exclude: Sequence[str]) -> None:
    """FtxError `usage` unless each of them is a pattern, before anything else is done."""
    from ftx.disk.selection import Selection

    Selection.of(exclude)


def _what(sending: Sending) -> str:
    return f"cannot send to {sending.targets[0].label}" if len(sending.targets) == 1 else "cannot send"


def _split(args: list[str], to: list[str], into: str, port: int | None) -> tuple[list[str], list[Target]]:
    """The sources and the targets, checked as far as the words go; FtxError `usage` or `bad-target`."""
    from ftx.client.target import parse_target

    if not args and not to:
        raise FtxError("usage", "missing argument 'SRC... TARGET:[DIR]'", "for example: ftx-client send FILE NAME:")
    written = to or [args[-1]]
    sources = args if to else args[:-1]
    _refuse_remote(sources, to, "" if to else args[-1])
    targets = [parse_target(text, option=bool(to)).with_port(port).with_folder(into) for text in written]
    if not sources:
        raise FtxError("usage", "there is nothing to send", "name the files and folders before the target")
    if "" in sources:
        raise FtxError("usage", "a source is empty", "name a file or a folder; '.' is the folder you are in")
    return sources, targets


def _refuse_remote(sources: list[str], to: list[str], last: str) -> None:
    """Refuse with FtxError `usage` what people know from scp: a machine among the sources, to fetch from or to send to.

    A file that exists is a source whatever its name; `last` is the argument that stands for the target, if one does.
    """
    remote = [text for text in sources if _names_a_machine(text) and not os.path.lexists(text)]
    if not remote:
        return
    machine, path = _machine_and_path(remote[0])
    shown = show(remote[0])
    if last and not path and os.path.lexists(last) and not _names_a_machine(last):
        raise FtxError(
            "usage",
            f"{shown} is a target, and the target stands last",
            f"to send: ftx-client send {shlex.quote(show(last))} {shlex.quote(shown)}",
        )
    if last and (os.path.lexists(last) or not _names_a_machine(last)):
        raise FtxError(
            "usage",
            f"{shown} does not exist here, and send does not fetch",
            f"to fetch what {show(machine)} shares: ftx-client get {shlex.quote(shown)}",
        )
    if path:
        return  # it may be a mistyped file as well: the sender says that it does not exist
    every = [*to, *(text.removesuffix(":") for text in [*remote, *([last] if last else [])])]
    raise FtxError(
        "usage",
        f"{shown} is a target among the sources",
        "several targets are named with --to: " + " ".join(f"--to {shlex.quote(show(one))}" for one in every),
    )


def _machine_and_path(text: str) -> tuple[str, str]:
    """What stands before and after the colon, or in the URL."""
    from ftx.client.target import parse_target

    try:
        target = parse_target(text)
    except FtxError:  # an absolute path, perhaps
        machine, _, path = text.partition(":")
        return machine, path
    return target.label, target.into


def _names_a_machine(text: str) -> bool:
    """Whether scp would take it for a machine, and perhaps a path there: a colon before any slash, or our URL."""
    return text.startswith("ftx://") or ":" in text.partition("/")[0]


def _check_receipt(receipt: str, targets: list[Target]) -> None:
    """Whether the receipt can be copied there, before anything is sent."""
    if len(targets) > 1:
        raise FtxError("usage", "--receipt is for one target", "send to the others with commands of their own")
    folder = os.path.dirname(receipt) or "."
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK) or os.path.isdir(receipt):
        raise FtxError("local-io", f"the receipt cannot be written to {receipt}", "check the folder of --receipt")
