"""`ctl`: what each verb prints, for people and for programs."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.bounded import bounded, until
from support.control_daemon import SmallDaemon, job, job_id
from twisted.internet.defer import Deferred

from ftx.client.ctl import VERBS, run_ctl
from ftx.client.ctl_text import event_line, job_lines, jobs_table, status_lines
from ftx.daemon.view import OfferInfo
from ftx.errors import FtxError
from ftx.wire.events import (
    Accepted,
    Done,
    ErrorInfo,
    Event,
    Failed,
    FileEvent,
    Offered,
    Pairing,
    PeerInfo,
    Progress,
    Retry,
    Waiting,
    encode,
)

Ctl = Callable[..., Coroutine[Any, Any, list[str]]]


@asynccontextmanager
async def running(reactor: Any, folder: Path, **daemon: Any) -> AsyncIterator[tuple[SmallDaemon, Ctl]]:
    """A small daemon, and `ctl` for it: a coroutine function that returns the lines."""
    small = SmallDaemon(reactor, **daemon)
    path = str(folder / "control.sock")
    server = small.serve(path)

    async def ctl(verb: str, *args: str, json: bool = False) -> list[str]:
        lines: list[str] = []
        assert await run_ctl(reactor, path, verb, args, json=json, out=lines.append) == 0
        return lines

    try:
        yield small, ctl
    finally:
        await server.stop()


@bounded(20)
async def test_status(reactor: Any, short_tmp: Path) -> None:
    async with running(reactor, short_tmp) as (_, ctl):
        lines = await ctl("status")
        assert "name       desk" in lines
        assert "listening  127.0.0.1:7389, [::1]:7389" in lines
        assert "received   2.0 KiB" in lines
        assert "limit in   977 KiB/s" in lines
        assert f"control    {short_tmp / 'control.sock'}" in lines
        (line,) = await ctl("status", json=True)
        assert json.loads(line)["name"] == "desk"


@bounded(20)
async def test_jobs(reactor: Any, short_tmp: Path) -> None:
    async with running(reactor, short_tmp) as (daemon, ctl):
        assert await ctl("jobs") == ["no jobs"]
        daemon.all_jobs = {job_id(number << 112): job(number << 112, path="\x1b[31mred") for number in (1, 2)}
        head, first, second = await ctl("jobs")
        assert head.split() == ["JOB", "STATE", "PEER", "FILES", "DONE", "PATH"]
        assert first.split()[:4] == ["00010000", "active", "pi", "3"]
        assert "10 B of 1000 B" in second
        assert "\\x1b[31mred" in second


def test_a_column_that_says_nothing_is_left_out() -> None:
    ended = {"job": job_id(1), "state": "done", "peer": {"name": "pi"}, "direction": "in", "files": 2, "path": ""}
    cancelled = ended | {"state": "failed", "error": {"name": "cancelled", "message": "cancelled here"}}
    assert jobs_table([ended])[0].split() == ["JOB", "STATE", "PEER", "FILES", "DONE"]
    head, _, why = jobs_table([ended, cancelled])
    assert head.split()[-1] == "WHY"
    assert why.endswith("cancelled here")
    old, new = ended | {"started": "2026-01-01"}, ended | {"started": "2026-01-02", "direction": "out"}
    head, *rows = jobs_table([old, new, old | {"state": "active"}])
    assert head.split()[-1] == "WAY"
    assert [(row.split()[1], row.split()[-1]) for row in rows] == [("active", "in"), ("done", "out"), ("done", "in")]


def test_what_did_not_travel_is_not_shown_as_lacking() -> None:
    """A dry run is called one; of what was skipped there is no part that is still to come."""
    ended = {"job": job_id(1), "state": "done", "bytes_confirmed": 0, "bytes_total": 1000, "files_skipped": 2}
    assert jobs_table([ended])[1].split()[1:] == ["done", "-", "-", "0", "B,", "2", "skipped"]
    assert jobs_table([ended | {"dry_run": True}])[1].split()[1:] == ["dry", "run", "-", "-", "-"]
    assert "verified   0 B, 2 skipped" in job_lines(ended)
    assert "10 B of 1000 B, 2 skipped" in jobs_table([ended | {"state": "active", "bytes_confirmed": 10}])[1]


def test_a_job_that_lacks_files() -> None:
    """Done, but not all of it: `partial`, with how many failed and when it was over; the counts say so, too."""
    ended = {"job": job_id(1), "state": "done", "files_failed": 2, "ended": "2026-11-22T10:53:01.123456Z"}
    head, row = jobs_table([ended])
    assert head.split() == ["JOB", "STATE", "PEER", "FILES", "DONE", "ENDED"]
    assert row.split()[1] == "partial"
    assert row.split()[-1] == "10:53:01"
    lines = job_lines(ended)
    assert "state      partial" in lines
    assert "failed     2 files" in lines
    assert "ended      2026-11-22T10:53:01.123456Z" in lines
    assert job_lines(ended | {"files_failed": 0})[1] == "state      done"
    counts = {"active": 1, "done": 12, "partial": 2, "failed": 0}
    assert "jobs       1 active, 0 waiting, 12 done (2 partial), 0 failed" in status_lines({"jobs": counts})


@bounded(30)
async def test_jobs_puts_pages_together(reactor: Any, short_tmp: Path) -> None:
    jobs = {job_id(number): job(number, path="x" * 1000) for number in range(150)}
    async with running(reactor, short_tmp, all_jobs=jobs) as (_, ctl):
        assert len(await ctl("jobs")) == 151
        (line,) = await ctl("jobs", json=True)
        assert [one["job"] for one in json.loads(line)["jobs"]] == list(jobs)


@bounded(20)
async def test_cancel_by_the_first_digits(reactor: Any, short_tmp: Path) -> None:
    one, other, third = 0xAB << 120, 0xAC << 120, 0x12 << 120
    jobs = {job_id(number): job(number) for number in (one, other, third)}
    async with running(reactor, short_tmp, all_jobs=jobs) as (daemon, ctl):
        assert "state      failed" in await ctl("cancel", "AB")
        assert daemon.all_jobs[job_id(one)].state == "failed"
        (line,) = await ctl("cancel", job_id(third), json=True)
        assert json.loads(line)["state"] == "failed"
        for written, name in {"a": "usage", "b": "no-such-job", "": "usage", "xyz": "usage", "1" * 33: "usage"}.items():
            with pytest.raises(FtxError) as caught:
                await ctl("cancel", written)
            assert caught.value.name == name
        assert daemon.all_jobs[job_id(other)].state == "active"


@pytest.mark.parametrize("verb", ["reload", "drain", "shutdown"])
@bounded(20)
async def test_orders(reactor: Any, short_tmp: Path, verb: str) -> None:
    async with running(reactor, short_tmp) as (daemon, ctl):
        (first, *more) = await ctl(verb)
        assert first
        assert more == (["changed: name"] if verb == "reload" else [])
        (line,) = await ctl(verb, json=True)
        assert json.loads(line)["ok"] is True
        assert daemon.orders == [verb, verb]


@bounded(20)
async def test_call(reactor: Any, short_tmp: Path) -> None:
    async with running(reactor, short_tmp, all_jobs={job_id(1): job(1, path="h\u00e9")}) as (_, ctl):
        lines = await ctl("call", "jobs.show", json.dumps({"job": job_id(1)}))
        assert json.loads("\n".join(lines))["path"] == "h\u00e9"
        assert len(lines) > 10
        listed = await ctl("call")
        assert listed[0].split()[0] == "METHOD"
        assert any(line.startswith("daemon.status  ") for line in listed)
        assert len(listed) < 40
        (line,) = await ctl("call", json=True)
        assert "rpc.discover" in [method["name"] for method in json.loads(line)["methods"]]
        assert "\n".join(lines).isascii()
        (line,) = await ctl("call", "jobs.show", json.dumps({"job": job_id(1)}), json=True)
        assert json.loads(line)["path"] == "h\u00e9"
        for params in ("[1]", "{", "7", '{"x":NaN}'):
            with pytest.raises(FtxError) as caught:
                await ctl("call", "jobs.show", params)
            assert caught.value.name == "usage"
            assert "ftx-client ctl call" in caught.value.hint
        with pytest.raises(FtxError) as caught:
            await ctl("call", "jobs.dance")
        assert caught.value.name == "unknown-method"


@pytest.mark.parametrize("as_json", [False, True])
@bounded(20)
async def test_watch(reactor: Any, short_tmp: Path, as_json: bool) -> None:
    async with running(reactor, short_tmp) as (daemon, _):
        lines: list[str] = []
        watching = Deferred.fromCoroutine(
            run_ctl(reactor, str(short_tmp / "control.sock"), "watch", ["accepted"], json=as_json, out=lines.append)
        )
        await until(lambda: len(lines) == 1)
        daemon.stream.publish(Accepted(job=job_id(1), files=3, bytes=2048, time="2026-01-01T10:11:12.5Z"))
        daemon.stream.publish(Progress(job=job_id(1), stage="transferring"))
        await until(lambda: len(lines) == 2)
    assert await watching == 0
    if as_json:
        assert [json.loads(line)["event"] for line in lines] == ["snapshot", "accepted"]
    else:
        assert lines == ["no jobs", "10:11:12  00000000  -  accepted  3 files, 2.0 KiB"]


def _offer(number: int) -> OfferInfo:
    return OfferInfo(
        job=job_id(number),
        peer=PeerInfo(name="\x1b[31mdesk", id="x", address="192.0.2.7"),
        who="unknown",
        files=2,
        folders=0,
        bytes=2048,
        path="",
        phrase="acorn maple zinc",
        left_s=42.0,
        since="2026-01-01T00:00:00Z",
        why="no rule",
    )


@bounded(20)
async def test_offers(reactor: Any, short_tmp: Path) -> None:
    """What waits, with the words to compare; yes with and without pairing, no with a reason, each by who asked."""
    async with running(reactor, short_tmp) as (daemon, ctl):
        assert await ctl("offers") == ["no offers"]
        daemon.all_jobs = {job_id(number): job(number, state="waiting") for number in (1, 2, 3)}
        daemon.all_offers = {job_id(number): _offer(number) for number in (1, 2, 3)}
        head, first, *_ = await ctl("offers")
        assert head.split() == ["JOB", "FROM", "ADDRESS", "FILES", "SIZE", "WORDS", "LEFT"]
        assert "\\x1b[31mdesk (not paired)  192.0.2.7  2      2.0 KiB  acorn maple zinc  42 s" in first
        assert json.loads((await ctl("offers", json=True))[0])["offers"][0]["phrase"] == "acorn maple zinc"
        assert await ctl("approve", job_id(1)) == [
            "approved: 00000000 of \\x1b[31mdesk, 2 files, 2.0 KiB",
        ]
        assert (await ctl("approve", "--always", job_id(2), "pi"))[0].endswith("; its sender is paired now")
        assert (await ctl("deny", job_id(3), "not", "now"))[0].startswith("denied: ")
        uid = os.getuid()
        assert daemon.orders == [f"approve False None by {uid}", f"approve True pi by {uid}", f"deny not now by {uid}"]
        for wrong in (("approve", job_id(1), "pi"), ("approve", "--always"), ("deny",)):
            with pytest.raises(FtxError) as caught:
                await ctl(*wrong)
            assert caught.value.name == "usage"
        with pytest.raises(FtxError) as caught:
            await ctl("approve", job_id(1))
        assert caught.value.name == "no-such-job"


@pytest.mark.parametrize(
    ("verb", "args"),
    [("dance", []), ("status", ["x"]), ("cancel", []), ("cancel", ["1", "2"]), ("call", ["a", "b", "c"])],
)
@bounded(20)
async def test_usage(reactor: Any, verb: str, args: list[str]) -> None:
    """Found before anybody is asked."""
    with pytest.raises(FtxError) as caught:
        await run_ctl(reactor, "/nowhere", verb, args, json=False, out=lambda line: None)
    assert caught.value.name == "usage"


def test_every_verb_says_what_it_takes() -> None:
    for name, verb in VERBS.items():
        assert verb.usage.split()[0] == name


# -- text --------------------------------------------------------------------------------------------------

ERROR = ErrorInfo(606, "no-space", "the disk is \x1b[7mfull")


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Offered(files=1, bytes=1024), "offered  1 file, 1.0 KiB"),
        (Offered(), "offered"),
        (
            Waiting(files=1, bytes=1024, deadline_s=42, phrase="acorn maple zinc"),
            "waiting  1 file, 1.0 KiB, 42 s left, words acorn maple zinc: ftx-client ctl approve 01234567",
        ),
        (
            Progress(stage="syncing", bytes_confirmed=512, bytes_total=1024, rate=2048.0, eta_s=3),
            "progress  syncing, 512 B of 1.0 KiB, 2.0 KiB/s, 3.0 s left",
        ),
        (Progress(stage="scanning"), "progress  scanning, 0 B"),
        (FileEvent(path="a\u202eb", stored_as="a (1)"), "file  stored a\\u202eb as a (1)"),
        (FileEvent(path="a", status="failed", error=ERROR), "file  failed a: the disk is \\x1b[7mfull"),
        (Failed(error=ERROR, exit=6, resumable=True), "failed  the disk is \\x1b[7mfull"),
        (Retry(attempt=2, delay_s=1, error=ERROR), "retry  attempt 2 in 1.0 s: the disk is \\x1b[7mfull"),
        (
            Done(
                result="partial",
                files=2,
                directories=0,
                bytes=10,
                bytes_wire=10,
                files_identical=0,
                files_skipped=0,
                files_failed=1,
                seconds=0.2,
                receipt=None,
                exit=9,
            ),
            "done  2 files, 10 B, 0.2 s, 1 failed",
        ),
    ],
)
def test_event_lines(event: Event, said: str) -> None:
    common = {"time": "2026-01-01T10:11:12.5Z", "job": "0123456789" * 3, "peer": {"name": "pi"}}
    assert event_line(json.loads(encode(event)) | common) == f"10:11:12  01234567  pi  {said}"


@pytest.mark.parametrize(
    "odd", [{}, {"event": 7}, {"event": "new\x1b", "job": 5, "peer": []}, {"event": "done", "files": "x"}]
)
def test_an_event_of_a_newer_daemon_is_a_line_all_the_same(odd: dict[str, Any]) -> None:
    assert event_line(odd).isprintable()


@pytest.mark.case("K162")
@pytest.mark.parametrize(
    "odd", [{}, {"jobs": [], "limits": 3, "listening": [7, {}], "name": "\x1b[2J", "uptime_s": "long", "discovery": 1}]
)
def test_odd_answers_are_shown_and_clean(odd: dict[str, Any]) -> None:
    lines = [*status_lines(odd), *job_lines(odd), *jobs_table([odd, 7])]
    assert all(line.isprintable() for line in lines)


@bounded(20)
async def test_pairing(reactor: Any, short_tmp: Path) -> None:
    """The code, and what to type on the other machine; or that the window is closed. For programs the result."""
    async with running(reactor, short_tmp) as (daemon, ctl):
        code, how, _, good = await ctl("pairing")
        assert code == "code: 7-acorn-willow"
        assert how == "on the other machine: ftx-client pair desk"
        assert good == "good for 2 min and one attempt"
        [line] = await ctl("pairing", json=True)
        assert json.loads(line) == {"code": "7-acorn-willow", "expires_s": 120.0}
        assert await ctl("pairing", "close") == ["the window is closed"]
        assert await ctl("pairing", "close") == ["there was no window"]
        with pytest.raises(FtxError, match="does not know shut"):
            await ctl("pairing", "shut")
    assert daemon.orders == ["pairing 120 2  True"] * 2 + ["no pairing"] * 2


def test_events_of_a_window() -> None:
    """As lines for people."""
    failed = ErrorInfo(507, "wrong-code", "the pairing code was wrong")
    for event, said in (
        (Pairing(state="opened", expires_s=120.0), "opened for 2 min"),
        (Pairing(state="paired", peer=PeerInfo("desk")), "paired"),
        (Pairing(state="failed", error=failed), "failed: the pairing code was wrong"),
    ):
        assert event_line(json.loads(encode(event))).endswith(said)
