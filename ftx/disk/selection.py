"""What of the sources is sent: patterns of what is left out, and what becomes of symbolic links."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final, Self

import attrs

from ftx.errors import FtxError
from ftx.text import show
from ftx.wire.fields import LINKS

__all__ = ["LINKS", "Selection"]

#: Stands for a newline in names and patterns, where the matcher takes it for the end: no decoded name has it.
_NEWLINE: Final = str.maketrans({"\n": "\udc0a"})


@attrs.frozen
class Selection:
    """A choice that walking and counting share. The default leaves links out, and nothing else."""

    links: str = "skip"
    #: Whether to leave out, and what: the last one first.
    _rules: tuple[tuple[bool, re.Pattern[str]], ...] = ()

    @classmethod
    def of(cls, exclude: Iterable[str] = (), links: str = "skip") -> Self:
        """The selection that leaves out what a pattern matches, as gitignore(5) has it; the last that matches counts.

        FtxError `usage` for what is no pattern.
        """
        return cls(links, tuple(reversed([_rule(pattern) for pattern in exclude])))

    @property
    def chooses(self) -> bool:
        """Whether anything is left out by its name."""
        return bool(self._rules)

    def excludes(self, path: tuple[bytes, ...], *, folder: bool) -> bool:
        """Whether `path`, which begins with the name of its source, is left out; a source that is named never is.

        Patterns see the path below the source. What is in an excluded folder is not to be asked for.
        """
        if not self._rules or len(path) < 2:
            return False
        below = os.fsdecode(b"/".join(path[1:])).translate(_NEWLINE) + ("/" if folder else "")
        return next((leave_out for leave_out, regex in self._rules if _matches(regex, below)), False)


def _matches(regex: re.Pattern[str], path: str) -> bool:
    """Whether a pattern means `path` itself, and not only a folder above it.

    A folder above was asked for before, and not left out: in gitignore(5), too, a pattern that re-includes a folder
    says nothing of what is in it. The named group of the library's expressions marks the end of a folder's name.
    """
    found = regex.search(path)
    while found is not None and found.lastgroup is not None and found.end(found.lastgroup) < len(path):
        found = regex.search(path, found.end(found.lastgroup))
    if found is None:
        return False
    # `a/**` is what is in a folder, not the folder: its expression ends with the slash, and marks nothing.
    return found.lastgroup is not None or not path.endswith("/") or found.end() < len(path)


def _rule(pattern: str) -> tuple[bool, re.Pattern[str]]:
    """Whether the pattern leaves out or takes in, and what. FtxError `usage` when it can match nothing."""
    from pathspec import GitIgnoreSpec, RegexPattern  # thirty modules, which few runs need

    try:
        spec = GitIgnoreSpec.from_lines([pattern.translate(_NEWLINE)])
    except ValueError as error:
        hint = "patterns are written as in .gitignore"
        raise FtxError("usage", f"'{show(pattern)}' is not a pattern", hint) from error
    for one in spec.patterns:
        if one.include is not None and isinstance(one, RegexPattern) and one.regex is not None:
            return one.include, one.regex
    hint = "a # or a space that is meant is written with a backslash before it"
    raise FtxError("usage", f"the pattern '{show(pattern)}' matches nothing", hint)
