"""What is shown to people: nothing from a peer gets through as it is, and figures read well."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftx.text import duration, path_text, plural, show, show_path, size


@pytest.mark.case("C52")
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("", ""),
        ("naïve 日本語 🙂", "naïve 日本語 🙂"),
        ("back\\slash", "back\\slash"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\r\tc\0\x7f", "a\\x0ab\\x0d\\x09c\\x00\\x7f"),
        ("\x85\x9b", "\\x85\\x9b"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("\u2066\u2069\u200b\ufeff\u00ad", "\\u2066\\u2069\\u200b\\ufeff\\xad"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("\ue000", "\\ue000"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff\xfe", "\\xff\\xfe"),
    ],
)
def test_show(value: str | bytes, shown: str) -> None:
    """Letters stay; what controls, hides or reorders becomes visible."""
    assert show(value) == shown


@pytest.mark.case("K168")
@pytest.mark.parametrize("limit", [1, 2, 10, 200])
def test_show_cuts(limit: int) -> None:
    """At the limit nothing is cut; above it an ellipsis says so, and escapes count."""
    assert show("x" * limit, limit) == "x" * limit
    assert show("x" * (limit + 1), limit) == "x" * (limit - 1) + "…"
    assert len(show("\0" * limit, limit)) <= limit


@pytest.mark.case("K162")
@given(st.text(st.characters(), max_size=60) | st.binary(max_size=60), st.integers(1, 80))
def test_show_anything(value: str | bytes, limit: int) -> None:
    """Whatever it is: one line, within the limit, nothing that controls; and once shown it stays as it is."""
    shown = show(value, limit)
    assert len(shown) <= limit
    assert not [char for char in shown if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"}]
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
    assert show(shown, limit) == shown


def test_paths() -> None:
    """For people cleaned, for machines as exact as text can be."""
    assert show_path([b"a", b"\x1b", b"\xff"]) == "a/\\x1b/\\xff"
    assert path_text([b"a", b"\x1b", b"\xff"]) == "a/\x1b/�"


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (99.94 * 1024, "99.9 KiB"),
        (99.95 * 1024, "100 KiB"),
        (1023.9 * 1024, "1024 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (212 * 1024**2, "212 MiB"),
        (1024**3, "1.0 GiB"),
        (1024**4, "1.0 TiB"),
        (1024**5, "1.0 PiB"),
        (5000 * 1024**5, "5000.0 PiB"),
    ],
)
def test_size(count: float, shown: str) -> None:
    """Binary units, three figures."""
    assert size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (0.3, "0.3 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3599.6, "1 h"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (90_000, "25 h"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    """As a person would say it."""
    assert duration(seconds) == shown


def test_plural() -> None:
    """One is one; thousands are set apart."""
    assert [plural(count, "file") for count in (0, 1, 2, 12_345)] == ["0 files", "1 file", "2 files", "12,345 files"]
