"""The lines of `ctl watch`: of any size, for any number of jobs, whatever they are called."""

from __future__ import annotations

from typing import Any

import pytest

from ftx.client.board import Board
from ftx.text import columns, fitted

HOSTILE = "\x1b[2J\u202e" + "界" * 40


def job(number: int, state: str = "active", **more: Any) -> dict[str, Any]:
    """A job as a snapshot has it."""
    return {
        "job": f"{number:08x}" + "0" * 24,
        "state": state,
        "peer": {"name": f"peer{number}"},
        "direction": "in",
        "bytes_total": 2000,
        "bytes_confirmed": 500,
        "path": "photos",
        **more,
    }


def board(*jobs: dict[str, Any], offers: tuple[dict[str, Any], ...] = ()) -> Board:
    made = Board()
    made.take({"event": "snapshot", "jobs": list(jobs), "offers": list(offers)}, 0.0)
    return made


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (200, 50), (66, 3), (1, 1), (9, 2)])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_no_name_leaves_its_place(size: tuple[int, int], count: int) -> None:
    """Nothing is wider or higher than the screen, and nothing on it is a control character."""
    states = ("active", "waiting", "done", "failed")
    hostile: dict[str, Any] = {"path": "a\nb" * 99, "peer": {"name": HOSTILE}, "error": {"message": HOSTILE}}
    jobs = [job(number, states[number % 4], **hostile) for number in range(count)]
    offer = {"job": "f" * 32, "peer": {"name": HOSTILE}, "files": 1, "bytes": 5, "phrase": "acorn maple zinc"}
    lines = board(*jobs, offers=(offer,) if count else ()).lines(*size, 0.0, name=HOSTILE)
    assert len(lines) <= size[1]
    assert max(map(columns, lines)) <= size[0]
    assert all(char.isprintable() for line in lines for char in line)
    if size == (40, 10) and count:
        assert any("acorn maple zinc" in line for line in lines), "no name pushes the words off the screen"
    if size == (40, 10) and count == 50:
        assert "more" in lines[-2]


def test_what_happens_to_a_job() -> None:
    made = board(job(1))
    name = job(1)["job"]

    def line(width: int = 120) -> str:
        return made.lines(width, 10, 1.0)[1]

    assert " 25 %" in line()
    progress = {"event": "progress", "job": name, "bytes_confirmed": 1000, "bytes_total": 2000}
    made.take({**progress, "stage": "transferring", "rate": 1024.0, "eta_s": 61.0}, 1.0)
    for word in ("00000001 < peer1", " 50 %", "1.0 KiB/s", "██", "1000 B of 2.0 KiB", "1 min", "photos"):
        assert word in line(160), line(160)
    assert "%" in line(40)
    assert "/s" not in line(40)
    assert "#####" in made.lines(160, 10, 1.0, fancy=False)[1]
    made.take({**progress, "stage": "paused"}, 2.0)
    assert "paused" in line()
    assert "/s" not in line()
    made.take({"event": "failed", "job": name, "error": {"message": "no space"}}, 3.0)
    assert "failed    no space" in line()
    made.take({"event": "accepted", "job": name}, 4.0)
    made.take({"event": "done", "job": name, "bytes": 2000, "files_failed": 1}, 5.0)
    assert "partial   2.0 KiB  photos" in line()
    assert made.unknown == []


def test_order_and_what_began_later() -> None:
    """What runs, then what waits, then what ended, the last first; of a new job more has to be asked."""
    made = board(job(1, "done"), job(2, "waiting"), job(3), job(4, "failed"))
    new = job(5)["job"]
    made.take({"event": "offered", "job": new, "peer": {"name": "late"}, "direction": "out"}, 0.0)
    assert made.unknown == [new]
    made.know(job(5, direction="out", peer={"name": "late"}))
    assert made.unknown == []
    shown = [line.split()[0] for line in made.lines(120, 20, 0.0)[1:6]]
    assert shown == ["00000003", "00000005", "00000002", "00000004", "00000001"]
    made.take({"event": "retry", "job": new, "error": {"message": "nobody there"}}, 0.0)
    assert any("waiting   nobody there" in line for line in made.lines(120, 20, 0.0))


def test_an_offer_until_it_is_answered() -> None:
    made = board()
    waiting = {"event": "waiting", "job": "a" * 32, "peer": {"name": "desk"}, "files": 2, "deadline_s": 90.0}
    made.take({**waiting, "phrase": "acorn maple zinc"}, 100.0)
    said = "\n".join(made.lines(120, 20, 130.0))
    assert "aaaaaaaa ? acorn maple zinc  1 min left, 2 files from desk" in said
    assert "ctl approve aaaaaaaa" in said
    made.take({"event": "accepted", "job": "a" * 32}, 131.0)
    assert "acorn" not in "\n".join(made.lines(120, 20, 131.0))


@pytest.mark.parametrize(
    "odd", [{}, {"event": 7}, {"event": "progress", "job": 3}, {"event": "snapshot", "jobs": [7, {}]}]
)
def test_a_newer_daemon_breaks_nothing(odd: dict[str, Any]) -> None:
    made = board()
    made.take(odd, 0.0)
    made.take({"event": "progress", "job": "x", "stage": 7, "rate": "fast", "bytes_total": None, "peer": 9}, 0.0)
    assert made.lines(80, 24, 0.0)


def test_cutting_and_filling() -> None:
    assert fitted("abc", 5) == "abc  "
    assert fitted("abcdef", 4) == "abc…"
    assert fitted("界界界", 4) == "界… "
    assert fitted("e\u0301e\u0301", 2) == "e\u0301e\u0301"
    assert fitted("abc", 0) == ""
