"""Hooks of a daemon: what they are run on, in which order, how many at once, and what is said when they misbehave."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from support.bounded import bounded
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogEvent, globalLogPublisher

from ftx import limits
from ftx.daemon.events import EventStream, snapshot_of
from ftx.daemon.hooks import Hooks
from ftx.disk.hooks import HookSetting
from ftx.errors import FtxError
from ftx.wire import events

PEER = events.PeerInfo("pi", "id", "127.0.0.1", 1)


def hook(name: str, script: str, *on: str, timeout: float = 20.0) -> HookSetting:
    """A hook that is a shell script."""
    return HookSetting(name, on or ("failed",), ("/bin/sh", "-c", script), timeout, {})


def failed(job: str = "0" * 32) -> events.Failed:
    error = events.error_info(FtxError("cancelled").as_value())
    assert error is not None
    return events.Failed(job=job, peer=PEER, error=error, exit=6, resumable=False, direction="in")


def done(job: str = "0" * 32, direction: str = "in", **fields: Any) -> events.Done:
    zero = dict.fromkeys(("files", "directories", "bytes", "bytes_wire"), 0)
    more = dict.fromkeys(("files_identical", "files_skipped", "files_failed", "exit"), 0)
    return events.Done(
        job=job, peer=PEER, result="ok", seconds=0.1, receipt=None, direction=direction, **(zero | more | fields)
    )


class Clocked:
    """A reactor whose timers wait for `advance()`; `seconds()` is real."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        clock = Clock()
        self.callLater = clock.callLater
        self.advance = clock.advance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


class Told:
    """Hooks with a stream of events of our own, and what they log."""

    def __init__(self, reactor: Any, folder: Path, *settings: HookSetting, timed: Any = None) -> None:
        self.reactor = reactor
        self.folder = folder
        self.stream = EventStream(reactor, lambda: snapshot_of([]))
        self.hooks = Hooks(timed or reactor, str(folder / "hooks"), "/inbox", "/run/control.sock")
        self.hooks.follow(settings, self.stream)
        self.log: list[str] = []
        globalLogPublisher.addObserver(self._observe)

    def _observe(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "ftx.daemon.hooks":
            self.log.append(event["log_format"].format(**event))

    async def until(self, condition: Callable[[], Any], seconds: float = 20.0) -> None:
        deadline = self.reactor.seconds() + seconds
        while not condition():
            assert self.reactor.seconds() < deadline, self.log
            await deferLater(self.reactor, 0.01)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """What a hook has written into `said` in its folder."""
        path = self.folder / "hooks" / name / "said"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    async def close(self) -> None:
        await self.hooks.stop()
        globalLogPublisher.removeObserver(self._observe)


def stored(number: int, job: str = "0" * 32, name: bytes = b"n", direction: str = "in") -> events.FileEvent:
    path = [b"%s%d" % (name, number)]
    return events.file_event(
        path, job=job, peer=PEER, status="stored", size=1, digest=b"\1" * 32, stored_as=path, direction=direction
    )


@bounded(30)
async def test_each_gets_what_it_asked_for_and_in_order(reactor: Any, tmp_path: Path) -> None:
    """`received` is what came in and was signed for; a pull from here and a dry run are not."""
    write = "cat >> said"
    told = Told(
        reactor,
        tmp_path,
        hook("in", write, "received"),
        hook("bad", write, "failed"),
        hook("ask", write, "offered", "waiting"),
    )
    for number in range(3):
        told.stream.publish(stored(number))
    told.stream.publish(events.Offered(job="1" * 32, peer=PEER, files=1, bytes=2, direction="in"))
    told.stream.publish(events.Offered(job="2" * 32, peer=PEER, direction="out"))
    told.stream.publish(events.Waiting(job="1" * 32, peer=PEER, phrase="a b c"))
    told.stream.publish(done())
    told.stream.publish(done("3" * 32, direction="out"))
    told.stream.publish(done("4" * 32, dry_run=True))
    told.stream.publish(failed())
    await told.until(lambda: told.hooks.succeeded == 4)
    await told.close()
    assert [line["event"] for line in told.lines("ask")] == ["offered", "waiting"]
    assert told.lines("ask")[1]["phrase"] == "a b c"
    (received,) = told.lines("in")
    assert received["inbox"] == "/inbox"
    assert [item["stored_as"] for item in received["stored"]] == ["n0", "n1", "n2"]
    assert received["stored_more"] == 0
    assert [line["error"]["name"] for line in told.lines("bad")] == ["cancelled"]
    assert told.log == []


@bounded(30)
async def test_what_a_peer_names_is_in_the_json_and_nowhere_else(reactor: Any, tmp_path: Path) -> None:
    """Quotes, newlines, `$(...)`, bytes that are no text, 255 of them; and the list of files is bounded."""
    script = "cat >> said; tr '\\0' '\\n' < /proc/$$/cmdline > argv; env > env"
    told = Told(reactor, tmp_path, hook("in", script, "received"))
    names = [b"$(touch pwned)`touch pwned`", b"a\nb'\"\\;touch pwned", b"\xff\xfe", b"x" * 255, b"-rf", b"%s{0}"]
    for name in names:
        told.stream.publish(
            events.file_event(
                [name], job="0" * 32, peer=PEER, status="stored", size=0, stored_as=[name], direction="in"
            )
        )
    for number in range(limits.HOOK_FILES):
        told.stream.publish(stored(number))
    told.stream.publish(done())
    for number in range(limits.HOOK_FILES):
        told.stream.publish(stored(number, "1" * 32, b"\1" * 200))  # 1,200 bytes each as JSON
    told.stream.publish(done("1" * 32))
    await told.until(lambda: told.hooks.succeeded == 2)
    await told.close()
    first, second = told.lines("in")
    assert len(first["stored"]) == limits.HOOK_FILES
    assert first["stored_more"] == len(names)
    assert [item["stored_as"] for item in first["stored"]][:2] == [names[0].decode(), names[1].decode()]
    assert (first["stored"][2]["stored_as"], first["stored"][2]["stored_as_b64"]) == ("\ufffd\ufffd", "//4=")
    assert len(json.dumps(second["stored"])) < limits.HOOK_FILES_BYTES
    assert len(second["stored"]) + second["stored_more"] == limits.HOOK_FILES
    own = tmp_path / "hooks" / "in"
    assert sorted(os.listdir(own)) == ["argv", "env", "said"]
    assert "pwned" not in (own / "env").read_text("utf-8")
    assert (own / "argv").read_text("utf-8").splitlines()[0] == "/bin/sh"
    assert "touch" not in (own / "argv").read_text("utf-8")


@bounded(30)
async def test_what_is_sent_is_no_file_of_the_inbox(reactor: Any, tmp_path: Path) -> None:
    """A job of the queue that fails has stored nothing here, and nothing of it is remembered."""
    told = Told(reactor, tmp_path, hook("bad", "cat >> said"))
    told.stream.publish(stored(1, direction="out"))
    told.stream.publish(msgspec.structs.replace(failed(), peer=events.PeerInfo("pi"), direction="out"))
    told.stream.publish(stored(2))
    told.stream.publish(failed())
    await told.until(lambda: told.hooks.succeeded == 2)
    await told.close()
    names = [[item["stored_as"] for item in line["stored"]] for line in told.lines("bad")]
    assert names == [[], ["n2"]]
    assert told.hooks.remembered == 0


@bounded(60)
async def test_hooks_that_misbehave(reactor: Any, tmp_path: Path) -> None:
    """One that hangs and ignores SIGTERM, with a child; floods; a child left behind; one that is no program."""
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n", "utf-8")
    clock = Clocked(reactor)
    told = Told(
        reactor,
        tmp_path,
        hook("hangs", "trap '' TERM; sleep 600 & echo $! > child; wait; sleep 600", timeout=1),
        hook("floods", "yes & yes >&2; exit 7"),
        hook("forks", "sleep 600 & echo $! > child"),
        hook("quiet", "exit 0"),
        HookSetting("missing", ("failed", "waiting"), ("/does/not/exist",), 5.0, {}),
        HookSetting("plain", ("failed",), (str(plain),), 5.0, {}),
        timed=clock,
    )
    told.stream.publish(failed())
    told.stream.publish(events.Waiting(job="1" * 32, peer=PEER))
    await told.until(lambda: told.hooks.succeeded + told.hooks.failed == 6)
    child = tmp_path / "hooks" / "hangs" / "child"
    await told.until(lambda: child.exists() and child.read_text("ascii").strip())
    clock.advance(1.0)
    clock.advance(limits.HOOK_GRACE - 0.1)
    assert told.hooks.succeeded + told.hooks.failed == 6
    clock.advance(0.1)
    await told.until(lambda: told.hooks.succeeded + told.hooks.failed == 7)
    await told.close()
    assert sorted(told.log) == [
        "hook floods failed: it ended with exit code 7: y",
        "hook hangs failed: it was ended, since it ran longer than 1.0 s",
        "hook missing failed: it cannot be started: no such file or directory",
        "hook plain failed: it cannot be started: permission denied",
    ]
    for name in ("hangs", "forks"):
        child = int((tmp_path / "hooks" / name / "child").read_text("ascii"))
        await told.until(lambda child=child: _gone(child))  # type: ignore[misc]


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@bounded(60)
async def test_a_flood_of_events_waits_in_bounds(reactor: Any, tmp_path: Path) -> None:
    """So many runs wait, what is beyond is lost and said once; one run at a time; that it works again is said."""
    go = tmp_path / "go"
    script = f"echo x >> runs; while [ ! -e {go} ]; do sleep 0.05; done"
    told = Told(reactor, tmp_path, hook("slow", script))
    for _ in range(limits.HOOK_QUEUE + 50):
        told.stream.publish(failed())
    runs = tmp_path / "hooks" / "slow" / "runs"
    await told.until(lambda: runs.exists() and runs.read_text("ascii"))
    assert (told.hooks.dropped, told.hooks.failed) == (49, 0)  # one run is under way, or nearly
    assert told.log == ["hook slow failed: 256 events wait for it already: newer ones are lost"]
    assert runs.read_text("ascii") == "x\n"
    go.touch()
    await told.until(lambda: told.hooks.succeeded > 2)
    assert told.log[1:] == ["hook slow works again"]
    told.hooks.follow([], told.stream)  # what waits for a hook that is gone is forgotten
    await told.close()
    assert told.hooks.succeeded < limits.HOOK_QUEUE


@bounded(60)
async def test_so_many_hooks_run_at_once(reactor: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"touch began; while [ ! -e {go} ]; do sleep 0.05; done"
    told = Told(reactor, tmp_path, *(hook(f"h{number}", script) for number in range(limits.HOOKS_AT_ONCE + 2)))
    told.stream.publish(failed())

    def began() -> int:
        return len(list((tmp_path / "hooks").glob("*/began"))) if (tmp_path / "hooks").exists() else 0

    await told.until(lambda: began() == limits.HOOKS_AT_ONCE)
    go.touch()
    await told.until(lambda: told.hooks.succeeded == limits.HOOKS_AT_ONCE + 2)
    await told.close()


@bounded(30)
async def test_the_end_waits_a_little_and_then_ends_them(reactor: Any, tmp_path: Path) -> None:
    """A run that is nearly over ends by itself; one that hangs does not outlive the daemon."""
    go, clock = tmp_path / "go", Clocked(reactor)
    quick = hook("quick", f"while [ ! -e {go} ]; do sleep 0.05; done; cat >> said")
    told = Told(reactor, tmp_path, quick, hook("hangs", "echo $$ > me; exec sleep 600"), timed=clock)
    told.stream.publish(failed())
    me = tmp_path / "hooks" / "hangs" / "me"
    await told.until(lambda: me.exists() and me.read_text("ascii").strip())
    closing = Deferred.fromCoroutine(told.close())
    go.touch()
    await told.until(lambda: told.hooks.succeeded == 1)
    assert not closing.called
    clock.advance(limits.HOOK_STOP)
    await closing
    assert len(told.lines("quick")) == 1
    assert _gone(int(me.read_text("ascii")))
    assert told.log == [f"hook hangs failed: it was ended by {signal.SIGKILL.name}"]
