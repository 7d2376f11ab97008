"""The events of a job as JSON: the names and fields that scripts rely on."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from ftx.errors import FtxError
from ftx.wire import events

PEER = events.PeerInfo("attic", "abc", "192.0.2.7", 7389)
ERROR = events.ErrorInfo(606, "no-space", "the receiver has too little space", "free some")
BASE = {"v": 1, "time": "2026-01-02T03:04:05.000006Z", "job": None, "peer": None}

#: One event of each kind with the least it needs, and the fields it has besides those of every event.
CASES: list[tuple[type[events.Event], dict[str, Any], dict[str, Any]]] = [
    (events.Connecting, {}, {"event": "connecting"}),
    (events.Connected, {}, {"event": "connected"}),
    (events.Offered, {}, {"event": "offered", "files": None, "bytes": None}),
    (events.Waiting, {}, {"event": "waiting", "files": None, "bytes": None, "deadline_s": None, "phrase": None}),
    (events.Accepted, {}, {"event": "accepted", "files": None, "bytes": None}),
    (events.Refused, {"error": ERROR}, {"event": "refused", "error": msgspec.to_builtins(ERROR)}),
    (
        events.Progress,
        {"stage": "receiving"},
        {
            "event": "progress",
            "stage": "receiving",
            "bytes_confirmed": 0,
            "bytes_durable": 0,
            "bytes_sent": 0,
            "bytes_total": None,
            "files_done": 0,
            "files_total": None,
            "rate": None,
            "eta_s": None,
        },
    ),
    (
        events.FileEvent,
        {"path": "a"},
        {
            "event": "file",
            "path": "a",
            "stored_as": None,
            "size": None,
            "digest": None,
            "status": "stored",
            "error": None,
        },
    ),
    (
        events.Retry,
        {"attempt": 1, "delay_s": 0.5, "error": ERROR},
        {"event": "retry", "attempt": 1, "delay_s": 0.5, "error": msgspec.to_builtins(ERROR)},
    ),
    (
        events.Failed,
        {"error": ERROR, "exit": 6, "resumable": True},
        {
            "event": "failed",
            "error": msgspec.to_builtins(ERROR),
            "exit": 6,
            "resumable": True,
            "files_stored": None,
            "bytes_stored": None,
        },
    ),
    (
        events.Summary,
        {"exit": 0, "targets": [events.TargetResult(PEER, "complete", 0)]},
        {
            "event": "summary",
            "exit": 0,
            "targets": [{"peer": msgspec.to_builtins(PEER), "result": "complete", "exit": 0}],
        },
    ),
    (events.Snapshot, {"jobs": [], "offers": []}, {"event": "snapshot", "jobs": [], "offers": []}),
]


@pytest.mark.parametrize(("kind", "fields", "expected"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_every_event(kind: type[events.Event], fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """One line of JSON with exactly these fields, those that say nothing too."""
    line = events.encode(kind(time=BASE["time"], **fields))  # type: ignore[arg-type]
    assert b"\n" not in line
    assert json.loads(line) == BASE | expected


def test_only_progress_may_be_dropped() -> None:
    """Everything else reaches even a slow reader."""
    kinds = [value for value in vars(events).values() if isinstance(value, type) and issubclass(value, events.Event)]
    assert [kind for kind in kinds if kind.droppable] == [events.Progress]


def test_time() -> None:
    """ISO 8601 in UTC, always with six digits."""
    assert events.iso_time(0) == "1970-01-01T00:00:00.000000Z"
    assert events.iso_time(1.5) == "1970-01-01T00:00:01.500000Z"
    assert len(events.iso_time()) == 27


@pytest.mark.case("K162")
@pytest.mark.parametrize(
    ("path", "text", "exact"),
    [
        ([b"a", b"b.txt"], "a/b.txt", True),
        (["é".encode()], "é", True),
        ([b"\x1b[31m\n"], "\x1b[31m\n", True),
        ([b"\xff"], "�", False),
        ([b"\xed\xa0\x80"], "���", False),
        (["�".encode()], "�", True),
    ],
)
def test_paths_are_exact_or_say_that_they_are_not(path: list[bytes], text: str, exact: bool) -> None:
    """`path_b64` is there exactly when the text is not the whole truth, and then is the bytes."""
    event = events.file_event(path, job="00", peer=PEER, status="stored", size=5, digest=b"\xab" * 32, stored_as=path)
    found = json.loads(events.encode(event))
    assert found["path"] == found["stored_as"] == text
    assert found["digest"] == "ab" * 32
    if exact:
        assert "path_b64" not in found
    else:
        assert base64.b64decode(found["path_b64"]) == b"/".join(path)


def test_errors_in_events() -> None:
    """An error is its number, its name and its sentence; none is null."""
    assert events.error_info(None) is None
    info = events.error_info(FtxError("no-space", "the receiver is full").as_value())
    assert info is not None
    assert (info.code, info.name, info.message) == (606, "no-space", "the receiver is full")
    failed = events.file_event([b"a"], job=None, peer=None, status="failed", error=FtxError("exists").as_value())
    assert json.loads(events.encode(failed))["error"]["code"] == 607
