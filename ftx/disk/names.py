"""Names from the wire: which are accepted, and which free name comes next when one is taken.

Pure functions over bytes; the rules are in `docs/storage.md`, "Names". They are checked here once more at the
only place where names become files, whatever was checked when they were decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ftx import limits
from ftx.errors import FtxError
from ftx.text import show

if TYPE_CHECKING:
    from ftx.disk.store import Path

__all__ = ["PRIVATE", "NameRules", "all_plain", "aside_names", "check_component", "check_path", "free_names"]

#: The folder at the top of an inbox that is ftx's own.
PRIVATE: Final = b".ftx"

#: C0 and DEL, and C1 as UTF-8 (0xC2 begins no other character's bytes).
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]")
#: What is accepted by every rule; nearly all names are, and one search is enough for them.
_PLAIN: Final = re.compile(rb"[^\x00-\x1f\x7f/.\xc2][^\x00-\x1f\x7f/\xc2]{0,%d}" % (limits.NAME - 1))
_NEVER: Final = re.compile(rb"[/\x00]")
#: Without these, and without a separator or a dot in front, a name is as plain as that.
_ODD: Final = bytes(range(0x20)) + b"\x7f\xc2"


@frozen
class NameRules:
    """What the operator accepts beyond the default: control characters in names, dot files at the top level.
    """

    control: bool = False
    dot_at_top: bool = False


def _refuse(name: bytes, why: str) -> FtxError:
    return FtxError("bad-name", f"the name {show(name, 60)} is not accepted: {why}")


def check_component(name: bytes, rules: NameRules, *, top: bool = False) -> None:
    """Raise FtxError `bad-name` unless `name` may be a component (the first one, if `top`)."""
    if _PLAIN.fullmatch(name):
        return
    if not name or name in (b".", b".."):
        raise _refuse(name, "it does not name anything")
    if len(name) > limits.NAME:
        raise _refuse(name, f"longer than {limits.NAME} bytes")
    if (_NEVER if rules.control else _CONTROL).search(name) or b"/" in name:
        raise _refuse(name, "it has a separator or a control character in it")
    if name[:1] == b".":
        if name.lower() == PRIVATE:
            raise _refuse(name, "it is reserved")
        if top and not rules.dot_at_top:
            raise _refuse(name, "it begins with a dot")


def all_plain(names: Sequence[bytes]) -> bool:
    """Whether every rule accepts each of `names`, of which there is one at least: looked at all at once.

    Nearly always they are. If not, `check_component()` says which of them, if any, is not accepted.
    """
    text = b"/%b/" % b"/".join(names)
    return (
        text.count(b"/") == len(names) + 1
        and b"//" not in text
        and b"/." not in text
        and len(text.translate(None, _ODD)) == len(text)
        and max(map(len, names)) <= limits.NAME
    )


def check_path(path: Path, rules: NameRules) -> None:
    """Raise FtxError `bad-name` unless `path`, counted from the inbox's root, is acceptable as a whole."""
    if not path:
        raise FtxError("bad-name", "the empty path is not accepted")
    if len(path) > limits.DEPTH:
        raise FtxError("bad-name", f"a path has more than {limits.DEPTH} components")
    if sum(map(len, path)) + len(path) - 1 > limits.PATH:
        raise FtxError("bad-name", f"a path is longer than {limits.PATH} bytes")
    for depth, name in enumerate(path):
        check_component(name, rules, top=depth == 0)


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Stem and extension (with its dot); leading dots belong to the stem."""
    dots = len(name) - len(name.lstrip(b"."))
    last = name.rfind(b".")
    return (name[:last], name[last:]) if last > dots else (name, b"")


def _cut(stem: bytes, room: int) -> bytes:
    """At most `room` bytes of `stem`, not ending inside a UTF-8 character."""
    if len(stem) <= room:
        return stem
    end = room
    while end > max(room - 3, 0) and stem[end] & 0xC0 == 0x80:
        end -= 1
    # four continuation bytes in a row are no UTF-8: then any place is as good
    return stem[: room if stem[end] & 0xC0 == 0x80 else end]


def free_names(name: bytes, first: int = 1, room: int = limits.NAME) -> Iterator[tuple[int, bytes]]:
    """The names to try when `name` is taken, with their numbers: `stem (1).ext` … `stem (999).ext`.

    `first` is the number to begin with; `limits.RENAME_TRIES` the last. Each fits `room` bytes (at most `limits.NAME`);
    there are none when that leaves nothing of the name.
    """
    stem, extension = _split(name)
    longest = len(b" (%d)" % limits.RENAME_TRIES)
    if len(extension) + longest >= room:
        stem, extension = name, b""
    if longest >= room:
        return
    for number in range(first, limits.RENAME_TRIES + 1):
        tail = b" (%d)" % number + extension
        yield number, _cut(stem, room - len(tail)) + tail


def aside_names(name: bytes) -> Iterator[bytes]:
    """The names to try for a file that makes room for another: `name.~1~` … `name.~999~`, each fits `limits.NAME`."""
    for number in range(1, limits.RENAME_TRIES + 1):
        tail = b".~%d~" % number
        yield _cut(name, limits.NAME - len(tail)) + tail
