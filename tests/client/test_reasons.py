"""A refusal is explained by what the sender knows of it."""

from __future__ import annotations

import pytest

from ftx.client.reasons import explained
from ftx.errors import KINDS, Error

ROW = KINDS["bad-name"]
BAD = Error(ROW.name, ROW.sentence, ROW.hint)


@pytest.mark.parametrize(
    ("path", "why", "hint"),
    [
        ((b".bashrc",), "begins with a dot", "send it into a folder there: pi:DIR"),
        ((b".config", b"x"), "begins with a dot", "pi:DIR"),
        ((b"in", b"new\nline"), "a control character", "rename it"),
        ((b"in", b".FTX", b"x"), "kept for ftx", "rename it"),
        ((b"in", b"x" * 300), "too long", "rename it"),
        ((b"in",) * 100, "too long", "rename it"),
        ((b"in", b".bashrc"), ROW.sentence, ROW.hint),  # the rules accept it: the receiver has a reason of its own
    ],
)
def test_the_reason_is_named(path, why, hint):
    error = explained(BAD, path, "pi")
    assert error.name == "bad-name"
    assert why in error.message
    assert hint in error.hint


def test_other_errors_stay_as_they_are():
    other = Error("exists", "taken", "rename it")
    assert explained(other, (b".bashrc",), "pi") is other


def test_the_name_of_the_peer_is_cleaned():
    assert explained(BAD, (b".a",), "p\x1bi").hint.endswith("p\\x1bi:DIR")


def test_a_wish_beyond_the_receivers_rules_is_named():
    refused = Error("refused", "the peer's rules refuse this")
    assert "--conflict rename" in explained(refused, (), "pi", "rename").message
    assert "leave --conflict out" in explained(refused, (), "pi", "rename").hint
    assert explained(refused, (), "pi") is refused
