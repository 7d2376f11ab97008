"""Checks: what the doctor has looked at, as values; and the exit code that follows from all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import attrs

from ftx.errors import FtxError

__all__ = ["Check", "Figure", "Outcome", "bad", "exit_code", "fair", "good", "of_error"]

Outcome = Literal["pass", "warn", "fail"]
#: What was measured, or said, for programs.
Figure = float | int | str | None

_UNTRUSTED: Final = 5
_UNREACHABLE: Final = 4


@attrs.frozen
class Check:
    """One thing that was looked at. All text is clean for display.

    `name` says what it is about (`interface`, `tcp`, …) and is stable; `about` which one of several. `message` is one
    sentence, `hint` what to try, empty where all is well. `figures` are what was measured, for programs. `code` is the
    exit code of a check about a peer that failed: 4 or 5 where it means that the peer cannot be used.
    """

    name: str
    outcome: Outcome
    message: str
    hint: str = ""
    about: str = ""
    figures: Mapping[str, Figure] = attrs.field(factory=dict)
    code: int = 1


def good(name: str, message: str, about: str = "", /, **figures: Figure) -> Check:
    """All is well."""
    return Check(name, "pass", message, about=about, figures=figures)


def fair(name: str, message: str, hint: str, about: str = "", /, **figures: Figure) -> Check:
    """It works, and might not, or not as well as it could."""
    return Check(name, "warn", message, hint, about, figures)


def bad(name: str, message: str, hint: str, about: str = "", code: int = 1, /, **figures: Figure) -> Check:
    """It does not work."""
    return Check(name, "fail", message, hint, about, figures, code)


def of_error(name: str, error: FtxError, about: str = "", *, peer: bool = False) -> Check:
    """A failure with the words of the error. Of a `peer`, it means that the peer cannot be used."""
    code = (_UNTRUSTED if error.exit_code == _UNTRUSTED else _UNREACHABLE) if peer else 1
    return Check(name, "fail", error.message, error.hint, about, code=code)


def exit_code(checks: Iterable[Check]) -> int:
    """0 where nothing failed; 5 or 4 where a peer is not trusted or cannot be reached; else 1."""
    codes = {check.code for check in checks if check.outcome == "fail"}
    return next((code for code in (_UNTRUSTED, _UNREACHABLE, 1) if code in codes), 0)
