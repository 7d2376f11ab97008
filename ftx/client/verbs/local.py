"""`id`, `hash` and `completion`: what concerns this machine alone."""

from __future__ import annotations

import base64
import os
import stat
import time
from collections.abc import Iterator
from typing import Any

import click

from ftx.client.options import Verb, current
from ftx.errors import FtxError
from ftx.limits import BLOCK
from ftx.text import path_text, show

__all__ = ["completion", "hash_files", "identity"]


@click.command("id", cls=Verb, short_help="Show this machine's identity.")
@click.option("--renew", is_flag=True, help="Make a new identity: everybody must pair with this machine again.")
def identity(renew: bool) -> int:
    """Show the identity of this machine: its id, its name, and words to compare aloud.

    The daemon and the client of one user share it. It is made when it is first needed.
    """
    from ftx.client.configured import own_name
    from ftx.core.identity import format_id, words
    from ftx.disk import keys
    from ftx.disk.places import prepare_home

    options = current()
    places = options.places()
    prepare_home(places)
    if renew and not options.confirm("Make a new identity, and lose the old one for good?", final=True):
        options.output.note("nothing was changed")
        return 0
    me = keys.renew(places.key) if renew else keys.load_or_create(places.key)
    record = {"id": format_id(me.id), "name": own_name(options), "words": words(me.id)}
    options.output.record(record)
    for label, value in record.items():
        options.output.result(f"{label + ':':<7}{show(value)}")
    if renew:
        options.output.note("a daemon that is running keeps the old identity until it is started again")
    return 0


@click.command("hash", cls=Verb, short_help="Print the digest that ftx uses for files.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
def hash_files(files: tuple[str, ...]) -> int:
    """Print the digest of each FILE, as events and receipts have it."""
    from ftx.client.outcome import combined

    options = current()
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    codes = []
    for path in files:
        if options.output.closed:
            break
        try:
            digest, size = _digest(path, deadline)
        except FtxError as error:
            options.output.error(error, f"cannot hash {show(path)}")
            codes.append(error.exit_code)
            if error.name == "timeout":
                return error.exit_code
            continue
        codes.append(0)
        options.output.record(_record(path, digest, size))
        options.output.result(f"{digest.hex()}  {show(path, 10_000)}")
    return combined(codes)


def _record(path: str, digest: bytes, size: int) -> dict[str, Any]:
    raw = os.fsencode(path)
    record: dict[str, Any] = {"path": path_text([raw]), "digest": digest.hex(), "size": size}
    if record["path"].encode("utf-8") != raw:
        record["path_b64"] = base64.b64encode(raw).decode("ascii")
    return record


def _digest(path: str, deadline: float | None) -> tuple[bytes, int]:
    """The file's digest and its size in bytes; FtxError of the local kinds, or `timeout` at `deadline`."""
    from ftx.core.blocks import block_digest, file_digest

    try:
        # Without O_NONBLOCK, a pipe that nobody writes to would be waited for instead of refused.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise _local(error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            folder = stat.S_ISDIR(status.st_mode)
            raise FtxError(
                "special-file",
                "it is a folder" if folder else "it is not a regular file",
                "name the files in it" if folder else "only regular files have a digest",
            )
        size = status.st_size
        blocks = (block_digest([block]) for block in _blocks(descriptor, size, deadline))
        return file_digest(size, blocks), size
    except OSError as error:
        raise _local(error) from error
    finally:
        os.close(descriptor)


def _blocks(descriptor: int, size: int, deadline: float | None) -> Iterator[bytes]:
    """The file block by block; an empty file has one empty block. FtxError `source-changed` at another size."""
    position = 0
    while True:
        if deadline is not None and time.monotonic() > deadline:
            raise FtxError("timeout")
        wanted = min(BLOCK, size - position)
        block = _read(descriptor, position, wanted)
        position += len(block)
        if len(block) < wanted:
            raise FtxError("source-changed", "it became shorter while it was read")
        yield block
        if position >= size:
            break
    if os.pread(descriptor, 1, size):
        raise FtxError("source-changed", "it became longer while it was read")


def _read(descriptor: int, position: int, wanted: int) -> bytes:
    """`wanted` bytes from `position`, fewer at the end of the file."""
    block = os.pread(descriptor, wanted, position)
    while len(block) < wanted and (more := os.pread(descriptor, wanted - len(block), position + len(block))):
        block += more
    return block


def _local(error: OSError) -> FtxError:
    kinds: dict[type[OSError], str] = {FileNotFoundError: "source-missing", PermissionError: "source-unreadable"}
    why = (error.strerror or "input/output error").lower()
    return FtxError(kinds.get(type(error), "local-io"), why)


@click.command(cls=Verb, short_help="Print the completion script for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the script that completes ftx-client's commands in SHELL, peers' names included.

    \b
    bash:  echo 'eval "$(ftx-client completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(ftx-client completion zsh)"' >> ~/.zshrc
    fish:  ftx-client completion fish > ~/.config/fish/completions/ftx-client.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    root = click.get_current_context().find_root()
    if kind is None:
        raise FtxError("usage", f"there is no completion for {shell}")
    completer = kind(root.command, {}, "ftx-client", "_FTX_CLIENT_COMPLETE")
    # The template itself: `source()` starts a bash to look at its version, which a login file should not wait for.
    click.echo(completer.source_template % completer.source_vars())
    return 0
