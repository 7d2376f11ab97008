"""`get` and `ls`: what others share."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ftx.client.options import COMPRESS, EXCLUDE, LANES, PORT, Verb, current
from ftx.client.verbs.send import complete_names
from ftx.errors import FtxError
from ftx.text import show

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ftx.client.target import Target

__all__ = ["get", "ls"]


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Paired names; behind the first source a folder may stand."""
    from click.shell_completion import CompletionItem

    names = complete_names(ctx, ":")
    items = [CompletionItem(name, help=address) for name, address in names if name.startswith(incomplete)]
    return items or [CompletionItem(incomplete, type="dir")]


@click.command(
    cls=Verb,
    short_help="Get files and folders that a peer shares.",
    epilog="Interrupted? Run the same command again: what has arrived does not come twice. Also called pull.",
)
@click.argument("args", nargs=-1, metavar="TARGET:SHARE[/PATH]... [DIR]", shell_complete=_complete)
@click.option("-p", "--port", type=PORT, metavar="PORT", help="Another TCP port than 7389.")
@click.option(
    "--conflict",
    type=click.Choice(["fail", "skip", "rename", "backup", "overwrite"]),
    default="fail",
    show_default=True,
    help="When a name is taken by other content here.",
)
@click.option(
    "--checksum",
    is_flag=True,
    help="Have every file read there first, and recognise it here by its content, not only by size and time.",
)
@EXCLUDE
@click.option(
    "--links",
    type=click.Choice(["skip", "follow", "keep"]),
    default="skip",
    show_default=True,
    help="Symbolic links in the share: leave them out and say so, get what they lead to there, or make the links here.",
)
@click.option(
    "--names",
    type=click.Choice(["usual", "any"]),
    default="usual",
    show_default=True,
    help="Names that may come: usual, or any: with control characters too.",
)
@COMPRESS
@LANES
@click.option("-o", "--output", metavar="-", help="With -o -: a single file to standard output, as it is verified.")
def get(**given: Any) -> int:
    """Get what a peer shares into the folder DIR (default: this one), which is made if need be.

    TARGET is written as for send. What is there already, the same, is a success and does not travel.
    """
    from ftx.client.getting import Getting
    from ftx.client.render import command_line
    from ftx.client.run import run

    options = current()
    to_stdout = given["output"] is not None
    sources, folder = _split(list(given["args"]), given["port"], to_stdout)
    if to_stdout:
        if given["checksum"]:
            raise FtxError("usage", "-o - has nothing to compare with", "leave --checksum out")
        _check_output(given["output"], [source for machine in sources.values() for source in machine[1]])
        options.output.results_to_stderr()
    _check_patterns(given["exclude"])
    targets = [target for target, _ in sources.values()]
    getting = Getting(
        options,
        targets,
        conflict=given["conflict"],
        sources={machine: texts for machine, (_, texts) in sources.items()},
        folder=folder,
        checksum=given["checksum"],
        lanes=given["lanes"],
        exclude=given["exclude"],
        links=given["links"],
        any_names=given["names"] == "any",
        compress=given["compress"] == "auto",
        to_stdout=to_stdout,
    )
    what = f"cannot get from {targets[0].label}" if len(targets) == 1 else "cannot get"
    return run(getting.main, options, what=what, resume=command_line(("ftx-client", *options.argv)))


def _check_output(output: str, sources: Sequence[str]) -> None:
    """FtxError `usage` unless one thing goes to standard output, and nothing else does."""
    if output != "-":
        hint = "name a folder behind the source, or redirect: -o - > FILE"
        raise FtxError("usage", "-o takes nothing but - (standard output)", hint)
    if len(sources) != 1:
        raise FtxError("usage", "-o - is for one file", "get several things into a folder")
    if current().json:
        raise FtxError("usage", "-o - and --json both want standard output")
    if sys.stdout is None or sys.stdout.isatty():
        hint = "redirect it: -o - > FILE, or -o - | PROGRAM"
        raise FtxError("usage", "standard output is a terminal, which a file could upset", hint)


def _check_patterns(exclude: Sequence[str]) -> None:
    """FtxError `usage` unless each of them is a pattern, before anything else is done."""
    from ftx.disk.selection import Selection

    Selection.of(exclude)


def _is_remote(text: str) -> bool:
    return text.startswith("ftx://") or ":" in text.partition("/")[0] or text.startswith("[")


def _split(args: list[str], port: int | None, to_stdout: bool) -> tuple[dict[str, tuple[Target, list[str]]], str]:
    """The sources by their machine, and the folder. FtxError `usage` or `bad-target`."""
    from ftx.client.target import parse_target

    example = "for example: ftx-client get NAME:SHARE/FOLDER ."
    if not args:
        raise FtxError("usage", "missing argument 'TARGET:SHARE[/PATH]... [DIR]'", example)
    folder = "."
    if not _is_remote(args[-1]):
        if to_stdout and len(args) > 1:
            raise FtxError("usage", "-o - and a folder cannot both be given")
        folder = args.pop()
        if not folder:
            raise FtxError("usage", "the folder is empty", "'.' is the folder you are in")
        if folder == "-":
            hint = "to standard output: -o - before the source; a folder of that name is written ./-"
            raise FtxError("usage", "'-' is no folder", hint)
    if not args:
        raise FtxError("usage", f"{show(folder)} names no machine", example)
    found: dict[str, tuple[Target, list[str]]] = {}
    for text in args:
        if not _is_remote(text):
            hint = "a machine's name ends with a colon; only the last argument is a folder here"
            raise FtxError("usage", f"{show(text)} names no machine", hint)
        target = parse_target(text).with_port(port)
        if not target.into:
            raise FtxError("usage", f"{show(text)} names no share", f"to see them: ftx-client ls {show(text)}")
        machine = target.machine()
        whole = machine + ("" if machine.endswith(":") else "/") + _quoted(target.into, machine)
        found.setdefault(machine, (target, []))[1].append(whole)
    _check_names(found)
    return found, folder


def _quoted(path: str, machine: str) -> str:
    from urllib.parse import quote

    return quote(path, errors="surrogateescape") if machine.startswith("ftx://") else path


def _check_names(found: dict[str, tuple[Target, list[str]]]) -> None:
    """FtxError `duplicate-name` when two sources would arrive under one name."""
    names: set[str] = set()
    for _, texts in found.values():
        for text in texts:
            name = os.path.basename(text.rstrip("/"))
            name = name.rpartition(":")[2] or name
            if name in names:
                hint = "get them into folders of their own"
                raise FtxError("duplicate-name", f"two sources are called {show(name)}", hint)
            names.add(name)


@click.command(cls=Verb, short_help="List what a peer shares.")
@click.argument("target", metavar="TARGET:[SHARE[/PATH]]", shell_complete=_complete)
@click.option("-p", "--port", type=PORT, metavar="PORT", help="Another TCP port than 7389.")
@click.option("-l", "--long", "detailed", is_flag=True, help="With permissions, size and time.")
@click.option("-R", "--recursive", is_flag=True, help="What is below, too.")
def ls(target: str, port: int | None, detailed: bool, recursive: bool) -> int:
    """List the shares of TARGET, or what is in one of them. Symbolic links are shown, and never followed.

    With --json, each line is {"path", "kind", "size", "mtime"}, and `path` is what `get` takes behind the colon.
    """
    from ftx.client.run import run
    from ftx.client.target import parse_target

    options = current()
    where = parse_target(target, option=True).with_port(port)

    async def main(reactor: Any, stop: Any) -> int:
        from ftx.client import api
        from ftx.client.configured import api_settings
        from ftx.client.render import listed_json, listed_line
        from ftx.client.sending import listing

        machine = where.machine()
        whole = machine + ("" if machine.endswith(":") or not where.into else "/") + _quoted(where.into, machine)
        items = api.ls(
            reactor,
            api_settings(options),
            whole,
            deep=recursive,
            warn=lambda text: options.output.note(text, "warn"),
        )
        unreadable = listed = 0
        try:
            async for item in items:
                listed += 1
                unreadable += bool(item.error)
                options.output.line(listed_json(item) if options.json else listed_line(item, where.into, long=detailed))
                if options.output.closed or options.output.problem is not None:
                    break  # nobody reads any further
        except FtxError as error:
            error.hint = listing(where) if error.name == "not-shared" else error.hint
            raise
        if not listed and not where.into:
            options.output.note(f"{where.label} shares nothing with this machine")
        if unreadable:
            options.output.note(f"{unreadable:,} folders cannot be read there", "warn")
        return FtxError("partial").exit_code if unreadable else 0

    return run(main, options, what=f"cannot list {where.label}")
