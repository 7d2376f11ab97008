"""Why a receiver may have refused something: only a number crosses the wire, and the sender knows what it sent."""

from __future__ import annotations

from typing import Final

from ftx.disk.names import PRIVATE, NameRules, check_path
from ftx.errors import Error, FtxError
from ftx.text import show

__all__ = ["explained", "explained_here"]


def explained(error: Error, path: tuple[bytes, ...], peer: str, wish: str | None = None) -> Error:
    """`error` with the reason: of `bad-name` as the rules of every receiver have it (`docs/storage.md`), of `refused`
    when there was a `wish` for a conflict rule.

    `path` is counted from the top of the inbox, `peer` what the receiver is called here. What the rules do not explain
    (a symbolic link on the way there, an operator's own rule) stays as it is.
    """
    if error.name == "refused" and wish is not None:
        hint = "leave --conflict out: then the receiver's own rule counts"
        return Error(error.name, f"the receiver's rules do not allow --conflict {wish}", hint)
    if error.name != "bad-name":
        return error
    try:
        check_path(path, NameRules())
    except FtxError:
        return _reason(error, path, peer)
    return error


def _reason(error: Error, path: tuple[bytes, ...], peer: str) -> Error:
    if any(part.lower() == PRIVATE for part in path):
        return Error(error.name, f"the name {PRIVATE.decode()} is kept for ftx itself", error.hint)
    if path and path[0].startswith(b"."):
        return Error(
            error.name,
            "a name that begins with a dot is not accepted at the top of an inbox",
            f"send it into a folder there: {show(peer)}:DIR",
        )
    try:
        check_path(path, NameRules(control=True))
    except FtxError:
        return Error(error.name, "the name or the path is too long for a receiver", error.hint)
    return Error(error.name, "there is a control character in the name", error.hint)


#: What a receiver's words mean when the receiver is this machine: kind, sentence, hint.
_HERE: Final = {
    "exists": ("exists", "the name is taken by other content here", "--conflict rename keeps both, skip this one"),
    "no-space": ("local-no-space", "the disk here is full", "free some space, then run this again"),
    "storage-failed": ("local-io", "it could not be stored here", "run again with -v to see why"),
    "bad-name": ("bad-name", "a name that is not accepted here", "--names any takes control characters, too"),
    "source-unreadable": ("source-unreadable", "it cannot be read there", "check its permissions there"),
    "source-changed": ("source-changed", "it changed while it was read", "get it again when it is at rest"),
    "source-vanished": ("source-vanished", "it disappeared while it was read", ""),
}


def explained_here(error: Error) -> Error:
    """`error` of a file that was to come here, in the words of this machine: as a receiver says it, or the sender."""
    name, sentence, hint = _HERE.get(error.name, (error.name, error.message, error.hint))
    return Error(name, sentence, hint)
