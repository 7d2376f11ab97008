"""Pairing codes: `7-acorn-willow`, made on one machine and typed into the other (`docs/protocol.md`, section 15).

A digit, which tells codes that follow each other apart, and words of 8 bits each from the list that fingerprints use.
No two of those words begin with the same three letters, so that many are enough when typing, and a word that is none
is noticed before it costs the one attempt that a code is good for.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Final

from ftx import limits
from ftx.core.wordlist import WORDS
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["new_code", "parse_code"]

_DIGITS: Final = "123456789"
#: Letters that tell any two words of the list apart.
_TELLING: Final = 3
_SHAPE: Final = "a code is a digit and words, such as 7-acorn-willow"


def new_code(below: Callable[[int], int], words: int = limits.PAIRING_WORDS) -> str:
    """A new code with `words` words (1 to `limits.PAIRING_WORDS_MOST`, else ValueError).

    `below(n)` is a random number from 0 to n - 1, of a quality that keys are made of (`secrets.randbelow`).
    """
    if not 1 <= words <= limits.PAIRING_WORDS_MOST:
        raise ValueError("a code has one to four words")
    return "-".join([_DIGITS[below(len(_DIGITS))], *(WORDS[below(len(WORDS))] for _ in range(words))])


def parse_code(written: str) -> str:
    """The code that a person typed, in the form in which it is used: lower case, whole words, dashes.

    Spaces serve as dashes, and the first three letters of a word as the word. Raises FtxError `usage` with what is
    wrong: that is no guess, so nothing has been lost.
    """
    parts = written[: limits.PAIRING_CODE_TEXT].replace("-", " ").casefold().split()
    if len(written) > limits.PAIRING_CODE_TEXT or not 2 <= len(parts) <= 1 + limits.PAIRING_WORDS_MOST:
        raise FtxError("usage", f"'{show(written)}' is not a pairing code", _SHAPE)
    digit, *words = parts
    if len(digit) != 1 or digit not in _DIGITS:
        raise FtxError("usage", f"a pairing code does not begin with '{show(digit)}'", _SHAPE)
    return "-".join([digit, *(_word(word) for word in words)])


def _word(written: str) -> str:
    """The word of the list that `written` is, or is the beginning of."""
    for word in WORDS:
        if word == written or (len(written) >= _TELLING and word.startswith(written)):
            return word
    close = difflib.get_close_matches(written, WORDS, n=1)
    raise FtxError("usage", f"codes have no word '{show(written)}'", f"did you mean {close[0]}?" if close else _SHAPE)
