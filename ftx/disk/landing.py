"""The folder that a `get` puts things into: an inbox for as long as that takes.

What such a folder needs besides is `.ftx` with the partials, which goes away with the last of them. The name records,
by which a second `get` finds that everything is there already, are kept in the user's state folder: somebody else's
folder is not the place for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from blake3 import blake3

from ftx import limits
from ftx.disk import private
from ftx.disk.inbox import Inbox
from ftx.disk.names import NameRules
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["check_landing", "open_landing"]

_CONTEXT: Final = "ftx 2026-11-22 landing v1"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def check_landing(folder: str) -> None:
    """FtxError `local-io` for what can be no folder, by a look that changes nothing. Blocking."""
    there = os.path.lexists(folder)
    if not os.path.isdir(folder if there else os.path.dirname(os.path.abspath(folder))):
        why = "not a directory" if there else "no such file or directory"
        raise FtxError("local-io", f"the folder {show(folder)} cannot be used: {why}")


def open_landing(folder: str, state: str, report: Callable[[str], None], *, any_names: bool = False) -> Inbox:
    """Open `folder`, making its last component if need be, with its records below the folder `state`. Blocking.

    With `any_names` names may have control characters in them. `report` gets a sentence for each failure of storage,
    from worker threads.

    FtxError `local-io` when it cannot be used, `busy` while a daemon or another `get` uses it.
    """
    parent = os.path.join(state, "received")
    kept = os.path.join(parent, blake3(os.fsencode(os.path.realpath(folder)), derive_key_context=_CONTEXT).hexdigest())
    private.ensure_folder(parent, "state-unusable")
    private.ensure_folder(kept, "state-unusable")
    with suppress(OSError):
        os.utime(kept)  # used now: forgotten last
    _forget(parent, os.path.basename(kept))
    try:
        records_fd = os.open(kept, _FOLDER)
    except OSError as error:
        raise FtxError("state-unusable", f"{show(kept)}: {(error.strerror or 'input/output error').lower()}") from error
    with suppress(OSError):  # what is wrong with it is said below
        os.mkdir(folder)
    try:
        rules = NameRules(control=any_names, dot_at_top=True)
        return Inbox.open(folder, rules=rules, report=report, records_fd=records_fd, passing=True)
    except FtxError as error:
        if error.name == "already-running":
            hint = "wait for the other one to end, or get into another folder"
            raise FtxError("busy", f"another ftx puts files into {show(folder)} at the moment", hint) from error
        if error.name == "inbox-unusable":
            why = error.message.rpartition(": ")[2]
            raise FtxError("local-io", f"the folder {show(folder)} cannot be used: {why}", error.hint) from error
        raise


def _forget(parent: str, ours: str) -> None:
    """Remove the records of folders that were not used for the longest time, beyond `limits.LANDINGS`."""
    with suppress(OSError):
        names = [entry for entry in os.scandir(parent) if entry.name != ours]
        names.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
        for entry in names[limits.LANDINGS :]:
            for name in os.listdir(entry.path):
                os.unlink(os.path.join(entry.path, name))
            os.rmdir(entry.path)
