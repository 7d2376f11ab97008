"""Symbolic links: which may travel (`docs/protocol.md`, section 5). Both sides ask here."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from ftx import limits
from ftx.wire.fields import PULL

__all__ = ["ASKED_FOR", "in_force", "stays_inside"]

#: The feature of those who can ask for links with what they get (section 16).
ASKED_FOR = "links"


def in_force(features: AbstractSet[str], kind: int, asked: bool) -> frozenset[str]:
    """The features that a job of this kind has, of those that both hellos listed: `symlinks` is for a push what both
    listed, and for a pull what its request has `asked` for.
    """
    if kind != PULL:
        return frozenset(features)
    return frozenset(features) - {"symlinks"} | ({"symlinks"} if asked and ASKED_FOR in features else frozenset())


def stays_inside(path: Sequence[bytes], target: bytes) -> bool:
    """Whether a link at `path` to `target` leads, wherever it is stored, to something in the tree that `path[0]` is.

    `path` is counted from the top of the manifest. `..` may only stand at the beginning: there it is applied to real
    folders, while behind a name that is itself a link it could lead anywhere. Since every link of the tree obeys this,
    none of them, and no chain of them, leads out.
    """
    if len(path) < 2:
        return False
    if not target or len(target) > limits.LINK or b"\0" in target or target.startswith(b"/"):
        return False
    up = 0
    down = False
    for component in target.split(b"/"):
        if component in (b"", b"."):
            continue
        if component != b"..":
            down = True
        elif down:
            return False
        else:
            up += 1
    return up <= len(path) - 2
