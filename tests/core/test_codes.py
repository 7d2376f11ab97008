"""Pairing codes: how they are made, how they may be typed, and what is no code."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftx import limits
from ftx.core.codes import new_code, parse_code
from ftx.core.wordlist import WORDS
from ftx.errors import FtxError


def test_a_code_is_a_digit_and_words() -> None:
    """Every digit from 1 to 9 and every word can occur; the numbers drawn decide, and nothing else."""
    drawn = iter([6, 0, 255])
    asked = []

    def below(bound: int) -> int:
        asked.append(bound)
        return next(drawn)

    assert new_code(below) == f"7-{WORDS[0]}-{WORDS[255]}"
    assert asked == [9, 256, 256]
    assert new_code(lambda bound: bound - 1, 4) == "9-zodiac-zodiac-zodiac-zodiac"
    assert new_code(lambda _: 0, 1) == "1-acorn"


@pytest.mark.parametrize("words", [0, 5])
def test_the_number_of_words_is_bounded(words: int) -> None:
    """One to four."""
    with pytest.raises(ValueError, match="one to four"):
        new_code(secrets.randbelow, words)


@given(st.integers(1, limits.PAIRING_WORDS_MOST), st.sampled_from(["-", " ", " - "]), st.booleans())
def test_what_is_shown_can_be_typed(words: int, joint: str, upper: bool) -> None:
    """In either case, with spaces or dashes, whole or as the first three letters of each word."""
    code = new_code(secrets.randbelow, words)
    parts = code.split("-")
    for typed in (joint.join(parts), joint.join([parts[0], *(word[:3] for word in parts[1:])])):
        assert parse_code(f" {typed.upper() if upper else typed}\n") == code


def test_three_letters_tell_all_words_apart() -> None:
    """Or the beginning of one word would be taken for another."""
    assert len({word[:3] for word in WORDS}) == len(WORDS) == 256
    assert all(word.isascii() and word.islower() for word in WORDS)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "is not a pairing code"),
        ("7", "is not a pairing code"),
        ("acorn willow", "does not begin with 'acorn'"),
        ("0-acorn-willow", "does not begin with '0'"),
        ("12-acorn-willow", "does not begin with '12'"),
        ("²-acorn-willow", "does not begin with"),
        ("7-acorn-wilow", "no word 'wilow'"),
        ("7-ac-willow", "no word 'ac'"),
        ("7-acorns-willow", "no word 'acorns'"),
        ("7-acorn-willow-\x1b[31m", "no word '"),
        ("7-" + "-".join(["acorn"] * 5), "is not a pairing code"),
        ("7 acorn" + " " * 130 + "willow", "is not a pairing code"),
    ],
)
def test_what_is_no_code(typed: str, said: str) -> None:
    """It is said before anything is sent, so a slip of the finger costs nothing."""
    with pytest.raises(FtxError) as caught:
        parse_code(typed)
    assert caught.value.exit_code == 2
    assert said in caught.value.message
    assert "\x1b" not in caught.value.message


def test_a_slip_is_recognised() -> None:
    """The word that was meant is suggested."""
    with pytest.raises(FtxError) as caught:
        parse_code("7-acorn-wilow")
    assert caught.value.hint == "did you mean willow?"


@given(st.text(max_size=200))
def test_any_text_is_a_code_or_a_usage_error(typed: str) -> None:
    """Never anything else, and what is accepted is in its final form."""
    try:
        code = parse_code(typed)
    except FtxError as error:
        code = error.name
    assert code == "usage" or parse_code(code) == code
