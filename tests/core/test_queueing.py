"""The rules of the queue: what is due, what an attempt came to, when the next one is."""

from __future__ import annotations

import pytest

from ftx import limits
from ftx.core.queueing import Queued, due, limited, unreached, verdict, wait_after


def entry(job: str, target: str = "pi:", **how: object) -> Queued:
    return Queued(job=job, target=target, sources=[], **how)  # type: ignore[arg-type]


def test_attempts_are_ever_further_apart_up_to_a_bound() -> None:
    waits = [wait_after(attempts) for attempts in range(1, 200)]
    assert waits[0] == limits.QUEUE_FIRST
    assert waits == sorted(waits)
    assert waits[1] == 2 * waits[0]
    assert waits[-1] == limits.QUEUE_MOST


@pytest.mark.parametrize(
    ("exit_code", "error", "expected"),
    [
        (0, "", "done"),
        (4, "connection-refused", "again"),
        (4, "", "again"),
        (10, "timeout", "again"),
        (130, "interrupted", "again"),
        (143, "", "again"),
        (6, "busy", "again"),
        (6, "no-space", "again"),
        (3, "source-changed", "again"),
        (6, "exists", "failed"),
        (6, "denied", "failed"),
        (5, "untrusted", "failed"),
        (3, "source-missing", "failed"),
        (9, "partial", "failed"),
        (2, "", "failed"),
        (1, "connection-lost", "again"),
        (1, "no such error", "failed"),
        (-9, "", "again"),
        (-15, "", "again"),
    ],
)
def test_what_an_attempt_comes_to(exit_code: int, error: str, expected: str) -> None:
    assert verdict(exit_code, error) == expected


def test_what_it_helps_to_see_the_peer_for() -> None:
    assert [name for name in ("connection-refused", "busy", "no-space", "terminated", "", "?") if unreached(name)] == [
        "connection-refused"
    ]


def test_one_for_each_target_and_few_at_once() -> None:
    """The oldest first; whoever waits, is held back or has failed does not begin."""
    many = [entry(f"{n}", f"peer{n}:") for n in range(2 * limits.QUEUE_RUNNING)]
    assert [one.job for one in due(many, (), 0.0)] == [f"{n}" for n in range(limits.QUEUE_RUNNING)]
    assert [one.job for one in due(many, ("5", "0"), 0.0)] == ["1", "2"]
    assert due(many, [f"{n}" for n in range(limits.QUEUE_RUNNING)], 0.0) == []
    same = [entry("a"), entry("b"), entry("c", "attic:")]
    assert [one.job for one in due(same, (), 0.0)] == ["a", "c"]
    assert [one.job for one in due(same, ("b",), 0.0)] == ["c"]
    odd = [entry("later", not_before=5.0), entry("held", "b:", paused=True), entry("lost", "c:", failed=True)]
    assert due(odd, (), 4.9) == []
    assert [one.job for one in due(odd, (), 5.0)] == ["later"]


def test_the_lower_limit_counts() -> None:
    assert limited(["--into=a"], 0) == ["--into=a"]
    assert limited(["--into=a"], 500) == ["--into=a", "--limit=500"]
    assert limited(["--limit=70", "--into=a"], 500) == ["--into=a", "--limit=70"]
    assert limited(["--limit=700"], 500) == ["--limit=500"]
    assert limited(["--limit=700"], 0) == ["--limit=700"]
    assert limited(["--limit=0"], 500) == ["--limit=500"]
