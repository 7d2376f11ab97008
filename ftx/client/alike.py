"""Guesses at mistyped names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from ftx.text import show

__all__ = ["alike"]


def alike(name: str, names: Iterable[str]) -> str:
    """`did you mean attic?` with the one of `names` that is written most like `name`, cleaned; or nothing."""
    by_fold = {one.casefold(): one for one in names}
    close = get_close_matches(name.casefold(), by_fold, n=1)
    return f"did you mean {show(by_fold[close[0]])}?" if close else ""
