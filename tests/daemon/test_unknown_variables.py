"""A mistyped environment variable is told at the start."""

from __future__ import annotations

from ftx.daemon.main import _unknown


def test_a_variable_that_sets_nothing_is_named_with_a_suggestion() -> None:
    said = list(_unknown(["FTX_LIMT_IN", "FTX_LIMIT_IN", "FTX_HOME", "HOME", "FTX_ZZZZ"]))
    assert said == [
        "the variable FTX_LIMT_IN sets nothing; did you mean FTX_LIMIT_IN?",
        "the variable FTX_ZZZZ sets nothing",
    ]


def test_a_variable_of_the_build_is_no_mistyped_one() -> None:
    assert list(_unknown(["FTX_NATIVE"])) == ["the variable FTX_NATIVE sets nothing here: it counts when ftx is built"]
