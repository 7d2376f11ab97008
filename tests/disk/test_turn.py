"""Turns: one thread at a time, but for what the one that has it waits for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ftx.disk.turn import Turn


def test_who_waits_lets_others_have_the_turn() -> None:
    """Another thread takes it within, and has to have given it back before the first goes on."""
    turn, said = Turn(), []

    def other() -> None:
        with turn:
            said.append("other")

    with ThreadPoolExecutor(1) as pool:
        with turn:
            running = pool.submit(other)
            with turn.waiting():
                running.result(30)
            said.append("first")
        assert said == ["other", "first"]
        pool.submit(other).result(30)


def test_a_wait_that_fails_ends_with_the_turn() -> None:
    """What was waited for raised: the turn is ours again, and is given back once."""
    turn = Turn()
    with pytest.raises(OSError, match="no"), turn, turn.waiting():
        raise OSError("no")
    with turn:
        pass
