"""The sources of a job as a person named them, and what the receiver will call them."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

import attrs

from ftx import limits
from ftx.disk.held import Held
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["Root", "pipe_root", "roots"]


@attrs.frozen
class Root:
    """One source as it was named: what the receiver calls it, and the real path it is read from.

    What a peer has named is `held`: it is read through the descriptor of a share, and `local` only tells files apart.
    """

    name: bytes
    local: bytes
    #: Our standard input: read to its end, of unknown size.
    pipe: bool = False
    held: Held | None = None


def roots(sources: Sequence[str | bytes], cwd: str | bytes) -> tuple[Root, ...]:
    """The sources as named on a command line, relative ones from `cwd`, in the order of their names' bytes.

    A trailing slash does not matter; `.`, `..` and names that end in them take the folder's real name; a link
    that is named is followed and keeps the name it was called by. Raises FtxError `source-missing`,
    `source-unreadable`, `special-file`, `duplicate-name` (two would arrive under one name) or `usage` (`/`
    has no name), each naming the source.
    """
    found: dict[bytes, Root] = {}
    for source in sources:
        root = _root(os.fsencode(cwd), os.fsencode(source), show(source))
        if root.name in found:
            raise FtxError("duplicate-name", f"two sources are called {show(root.name)}")
        found[root.name] = root
    return tuple(found[name] for name in sorted(found))


def pipe_root(name: str) -> Root:
    """Our standard input as a source that the receiver calls `name`; FtxError `usage` when that is no name."""
    encoded = os.fsencode(name)
    if not encoded or len(encoded) > limits.NAME or encoded in (b".", b"..") or b"/" in encoded or b"\0" in encoded:
        raise FtxError("usage", f"'{show(name)}' is not the name of a file", "a folder is named with --into")
    return Root(encoded, b"-", pipe=True)


def _root(cwd: bytes, source: bytes, shown: str) -> Root:
    if not source:  # an unset shell variable must not mean the whole folder
        raise FtxError("source-missing", "a source without a name does not exist")
    local = os.path.join(cwd, source).rstrip(b"/") or b"/"
    try:
        status = os.stat(local)
        # What a shell makes of `<(command)` can be opened, and has no path of its own.
        nameless = stat.S_ISFIFO(status.st_mode)
        real = local if nameless else os.path.realpath(local, strict=True)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL
        raise FtxError("source-missing", f"{shown} does not exist") from error
    except OSError as error:
        why = (error.strerror or "input/output error").lower()
        raise FtxError("source-unreadable", f"{shown} cannot be read: {why}") from error
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        flows = stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode)  # as with `send <(command)`
        hint = "to send what comes out of it: ftx-client send - --name NAME TARGET: < FILE" if flows else ""
        raise FtxError("special-file", f"{shown} is not a regular file or folder", hint)
    name = os.path.basename(local)
    if name in (b"", b".", b".."):
        name = os.path.basename(real)
    if not name:
        raise FtxError("usage", f"{shown} has no name to send it under", "name the folders inside it")
    return Root(name, real)
