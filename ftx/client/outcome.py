"""How several results become one exit code."""

from __future__ import annotations

from collections.abc import Iterable

from ftx.errors import KINDS

__all__ = ["combined"]


def combined(codes: Iterable[int]) -> int:
    """The exit code for parts that ended with `codes`: theirs when all agree, else 9 (partial); 0 for no parts."""
    different = set(codes)
    if not different:
        return 0
    return different.pop() if len(different) == 1 else KINDS["partial"].exit_code
