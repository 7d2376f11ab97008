"""The queue at work: real processes, a real file, a clock of its own."""

from __future__ import annotations

import base64
import errno
import os
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from support.bounded import bounded, until
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from ftx import limits
from ftx.core.queueing import Queued
from ftx.daemon.events import EventStream
from ftx.daemon.queue import Queue
from ftx.disk.queue import QueueFile
from ftx.errors import FtxError, kind
from ftx.net.worker import Worker
from ftx.wire.events import Done, Event, Failed, Retry, Snapshot

#: Stands for `ftx-client send`: says what the file that it is given says, and ends as the last line says.
_SAYS = """
import os, sys, time
lines = open(sys.argv[-1]).read().splitlines()
for line in lines[:-1]:
    print(line, flush=True)
    if line == "hang":
        time.sleep(60)
code = int(lines[-1])
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
_DONE = (
    '{"event":"done","v":1,"result":"ok","files":2,"directories":0,"bytes":10,"bytes_wire":10,"files_identical":0,'
    '"files_skipped":0,"files_failed":0,"seconds":1.0,"receipt":null,"exit":0}'
)
_REFUSED = (
    '{"event":"failed","error":{"code":401,"name":"connection-refused","message":"nobody there","hint":""},'
    '"exit":4,"resumable":true}'
)
_DONE_BUT = _DONE.replace('"files_failed":0', '"files_failed":1').replace('"exit":0', '"exit":6')


def _file(name: str) -> str:
    """What a client says of a file that failed for the reason of this name."""
    error = f'{{"code":{kind(name).number},"name":"{name}","message":"of {name}"}}'
    return f'{{"event":"file","path":"a","status":"failed","error":{error}}}'


class Odd:
    """A reactor whose time is that of a `clock`, and which starts no processes if it cannot."""

    def __init__(self, reactor: Any, can_start: bool = True) -> None:
        self.clock = Clock()
        self.callLater = self.clock.callLater
        self.seconds = self.clock.seconds
        self.can_start = can_start
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def spawnProcess(self, *args: Any, **named: Any) -> Any:
        if not self.can_start:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return self._reactor.spawnProcess(*args, **named)


class Bench:
    """A queue below `folder`; what it publishes is in `heard`."""

    def __init__(
        self,
        reactor: Any,
        folder: Path,
        command: Sequence[str] = (sys.executable, "-c", _SAYS),
        file: QueueFile | None = None,
    ) -> None:
        self.folder = folder
        self.file = file or QueueFile(str(folder / "queue"))
        self.heard: list[Event] = []
        self.now = 1000.0
        self.worker = Worker(reactor, 1)
        self.worker.start()
        stream = EventStream(reactor, lambda: Snapshot(jobs=[], offers=[]))
        stream.subscribe(self.heard.append, None, 0.1)
        self.queue = Queue(
            reactor, self.worker, self.file, command, dict(os.environ), stream, lambda: self.now, lambda: 0
        )

    async def add(self, *lines: str, target: str = "pi:") -> str:
        """Something to be sent, whose sending says these lines; its job."""
        path = self.folder / f"source{len(os.listdir(self.folder))}"
        path.write_text("\n".join(lines))
        return (await self.queue.add(target, [os.fsencode(path)], [])).job

    def state(self, job: str) -> str:
        """What `queue.list` shows of it; `gone` when it does not."""
        return next((one.state for one in self.queue.list() if one.job == job), "gone")

    async def stop(self) -> None:
        await self.queue.stop()
        await self.worker.stop()


@pytest_twisted.async_yield_fixture
async def bench(reactor: Any, tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(reactor, tmp_path)
    await made.queue.start()
    yield made
    await made.stop()


def _error(bench: Bench) -> tuple[str, str]:
    """What the oldest entry waits for, or has failed for."""
    error = bench.queue.list()[0].error
    assert error is not None
    return error.name, error.message


def of(heard: Sequence[Event], kind: type[Event]) -> list[Any]:
    return [event for event in heard if isinstance(event, kind)]


@bounded(30)
async def test_sent_and_gone(bench: Bench) -> None:
    """What its client says is said of the entry's job; then it is among the jobs that are done."""
    job = await bench.add('{"event":"accepted"}', '{"event":"summary"}', "no json", _DONE, "0")
    assert [entry.job for entry in bench.file.load()] == [job]
    await until(lambda: bench.state(job) == "gone")
    await until(lambda: bench.file.load() == [])
    assert [event.job for event in of(bench.heard, Done)] == [job]
    shown = bench.queue.jobs()[0]
    assert (shown.job, shown.state, shown.direction, shown.files_stored) == (job, "done", "out", 2)


@bounded(30)
async def test_a_peer_that_is_away_is_tried_again_when_it_is_time_or_seen(bench: Bench) -> None:
    job = await bench.add(_REFUSED, "4")
    await until(lambda: bench.state(job) == "waiting")
    entry = bench.queue.list()[0]
    assert (entry.attempts, entry.next_s) == (1, limits.QUEUE_FIRST)
    assert entry.error is not None
    assert (entry.error.name, entry.error.message) == ("connection-refused", "nobody there")
    assert [event.delay_s for event in of(bench.heard, Retry)] == [limits.QUEUE_FIRST]
    await until(lambda: bench.file.load()[0].attempts == 1)
    bench.queue.peer_seen("attic")
    assert bench.state(job) == "waiting", "somebody else"
    bench.queue.peer_seen("pi")
    assert bench.state(job) == "active"
    await until(lambda: bench.queue.list()[0].attempts == 2)
    assert bench.queue.list()[0].next_s == 2 * limits.QUEUE_FIRST


@bounded(30)
async def test_what_no_attempt_will_change_stays_as_failed(bench: Bench) -> None:
    job = await bench.add("no events", "2")
    await until(lambda: bench.state(job) == "failed")
    assert [(event.job, event.resumable) for event in of(bench.heard, Failed)] == [(job, False)]
    with pytest.raises(FtxError, match="has failed"):
        await bench.queue.pause(job, True)
    await bench.queue.remove(job)
    assert bench.queue.list() == []
    with pytest.raises(FtxError) as caught:
        await bench.queue.remove(job)
    assert caught.value.name == "no-such-job"


@bounded(30)
async def test_held_back_and_taken_out_while_it_is_tried(bench: Bench) -> None:
    """A pause ends the process and keeps the entry; a removal ends both, and says what the receiver has."""
    job = await bench.add('{"event":"accepted"}', "hang", "0")
    await until(lambda: len(bench.heard) > 1)
    await bench.queue.pause(job, True)
    assert (bench.state(job), bench.queue.list()[0].paused) == ("waiting", True)
    await until(lambda: bench.file.load()[0].paused)
    bench.queue.peer_seen("pi")
    assert bench.state(job) == "waiting"
    await bench.queue.pause(job, False)
    assert bench.state(job) == "active"
    await bench.queue.remove(job)
    assert bench.queue.list() == []
    shown = bench.queue.jobs()[0]
    assert shown.error is not None
    assert (shown.state, shown.error.message) == ("failed", "cancelled here; nothing was published")


@bounded(30)
async def test_a_client_that_never_ends_its_line_is_ended(bench: Bench) -> None:
    job = await bench.add("x" * 2 * limits.QUEUE_LINE, "hang", "0")
    await until(lambda: bench.state(job) != "active")
    assert bench.state(job) in ("failed", "waiting")


@bounded(30)
async def test_a_client_that_does_not_heed_the_end_is_killed(reactor: Any, tmp_path: Path) -> None:
    deaf = "import signal,time;signal.signal(signal.SIGTERM,signal.SIG_IGN)"
    says = "print('{\"event\":\"accepted\"}',flush=True);time.sleep(60)"
    odd = Odd(reactor)
    bench = Bench(odd, tmp_path, (sys.executable, "-c", f"{deaf};{says}"))
    await bench.queue.start()
    job = await bench.add("0")
    await until(lambda: len(bench.heard) > 1)
    removed = Deferred.fromCoroutine(bench.queue.remove(job))
    await until(lambda: bool(odd.clock.calls))
    odd.clock.advance(limits.QUEUE_GRACE - 0.1)
    assert bench.queue.counts == (1, 0)
    odd.clock.advance(0.1)
    await removed
    assert bench.queue.counts == (0, 0)
    await bench.stop()


@bounded(30)
async def test_files_that_failed_decide_whether_there_is_another_attempt(bench: Bench) -> None:
    """A quota passes; a name that is taken does not, and then the whole is `partial`."""
    job = await bench.add(_file("exists"), _file("quota"), _DONE_BUT.replace('"exit":0', '"exit":9'), "9")
    await until(lambda: bench.state(job) == "waiting")
    assert _error(bench) == ("quota", "of quota")
    await bench.queue.remove(job)
    retried = '{"event":"retry","attempt":1,"delay_s":1,"error":{"code":404,"name":"connection-lost","message":""}}'
    job = await bench.add(_file("quota"), retried, _file("exists"), _DONE_BUT, "6")
    await until(lambda: bench.state(job) == "failed")
    assert _error(bench) == ("partial", "1 file failed: of exists")
    [said] = [event for event in of(bench.heard, Failed) if event.job == job]
    assert (said.error.name, said.files_stored) == ("partial", 2)


@bounded(30)
async def test_an_attempt_that_a_signal_ends_is_no_failure(bench: Bench) -> None:
    job = await bench.add("-15")
    await until(lambda: bench.state(job) == "waiting")
    assert _error(bench) == ("terminated", "its process was ended by signal 15")


@bounded(30)
async def test_no_process_can_be_started(reactor: Any, tmp_path: Path) -> None:
    """It is tried again when it is time, and that is on disk."""
    odd = Odd(reactor, can_start=False)
    bench = Bench(odd, tmp_path)
    await bench.queue.start()
    job = await bench.add(_DONE, "0")
    await until(lambda: bench.file.load()[0].attempts == 1)
    odd.can_start = True
    bench.now += limits.QUEUE_FIRST
    odd.clock.advance(limits.QUEUE_FIRST)
    await until(lambda: bench.state(job) == "gone")
    await bench.stop()


_WAITS = """
import os, sys, time
while not os.path.exists({go!r}):
    time.sleep(0.01)
print({says!r}, flush=True)
sys.exit({code})
"""


def _waiting(go: Path, says: str, code: int) -> tuple[str, ...]:
    """A client that says this when the file `go` is there."""
    return (sys.executable, "-c", _WAITS.format(go=str(go), says=says, code=code))


@bounded(30)
async def test_a_peer_that_is_seen_while_it_is_tried_is_tried_once_more(reactor: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    odd = Odd(reactor)
    bench = Bench(odd, tmp_path, _waiting(go, _REFUSED, 4))
    await bench.queue.start()
    job = await bench.add("0")
    bench.queue.peer_seen("pi")
    bench.queue.peer_seen("attic")
    go.touch()
    await until(lambda: bench.queue.list()[0].attempts == 2 and bench.state(job) == "waiting")
    assert bench.queue.list()[0].next_s == 2 * limits.QUEUE_FIRST
    assert [event.delay_s for event in of(bench.heard, Retry)] == [0, 2 * limits.QUEUE_FIRST]
    odd.clock.advance(1)  # seen so soon again: not at once, and not as late either
    bench.queue.peer_seen("pi")
    assert (bench.state(job), bench.queue.list()[0].next_s) == ("waiting", limits.QUEUE_FIRST - 1)
    await bench.stop()


@bounded(30)
async def test_a_peer_that_is_seen_and_said_no_is_not_tried_at_once(bench: Bench) -> None:
    full = _REFUSED.replace("401", "606").replace("connection-refused", "no-space")
    job = await bench.add(full, "6")
    await until(lambda: bench.state(job) == "waiting")
    bench.queue.peer_seen("pi")
    assert (bench.state(job), bench.queue.list()[0].next_s) == ("waiting", limits.QUEUE_FIRST)


@attrs.frozen
class Held(QueueFile):
    """A file that is saved while `go` is set and not else, and not at all while `broken` is."""

    go: threading.Event = attrs.field(factory=threading.Event)
    broken: threading.Event = attrs.field(factory=threading.Event)

    def save(self, entries: Sequence[Queued], room: int = 0) -> None:
        self.go.wait(20)
        if self.broken.is_set():
            raise FtxError("state-unusable")
        super().save(entries, room)


@bounded(30)
async def test_one_that_ends_while_it_is_taken_out_is_told_of_once(reactor: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    held = Held(str(tmp_path / "queue"))
    bench = Bench(reactor, tmp_path, _waiting(go, _DONE, 0), held)
    held.go.set()
    await bench.queue.start()
    job = await bench.add("0")
    held.go.clear()
    removed = Deferred.fromCoroutine(bench.queue.remove(job))
    go.touch()
    await until(lambda: bool(of(bench.heard, Done)))
    held.go.set()
    await removed
    assert of(bench.heard, Failed) == []
    assert [shown.state for shown in bench.queue.jobs()] == ["done"]
    await bench.stop()


@bounded(30)
async def test_what_cannot_be_saved_stays_as_it_was(reactor: Any, tmp_path: Path) -> None:
    held = Held(str(tmp_path / "queue"))
    bench = Bench(reactor, tmp_path, file=held)
    held.go.set()
    await bench.queue.start()
    job = await bench.add('{"event":"accepted"}', "hang", "0")
    await until(lambda: len(bench.heard) > 1)
    held.broken.set()
    for change in (bench.queue.pause(job, True), bench.queue.remove(job)):
        with pytest.raises(FtxError):
            await change
        assert (bench.state(job), bench.queue.list()[0].paused) == ("active", False)
    held.broken.clear()
    await bench.stop()


@bounded(30)
async def test_bounds(bench: Bench, reactor: Any, tmp_path: Path) -> None:
    """A full queue takes nothing more, and of many sources a few are shown."""
    await bench.queue.stop()  # nothing of all this is tried
    source = base64.b64encode(os.fsencode(tmp_path)).decode()
    full = [Queued(job=f"{n:032x}", target="pi:", sources=[source] * 20) for n in range(limits.QUEUE_ENTRIES)]
    bench.file.save(full)
    other = Bench(reactor, tmp_path)
    other.queue.drain()
    await other.queue.start()
    shown = other.queue.list()[0]
    assert (len(shown.sources), shown.sources_total) == (limits.QUEUE_SOURCES_SHOWN, 20)
    with pytest.raises(FtxError) as caught:
        await other.queue.add("pi:", [os.fsencode(tmp_path)], [])
    assert caught.value.name == "busy"
    with pytest.raises(FtxError) as caught:
        await other.queue.add("pi:", [b"/no such file"], [])
    assert caught.value.name == "source-missing"
    await other.stop()


@bounded(30)
async def test_a_queue_that_would_not_be_read_again_is_not_written(reactor: Any, tmp_path: Path) -> None:
    """Something new is refused while there is room for what will be said of the rest."""
    bench = Bench(reactor, tmp_path)
    content = "A" * (limits.QUEUE_FILE - limits.QUEUE_ROOM)
    large = [Queued(job="0" * 32, target="pi:", sources=[content], paused=True)]
    bench.file.save(large)
    with pytest.raises(FtxError) as caught:
        bench.file.save(large, limits.QUEUE_ROOM)
    assert caught.value.name == "busy"
    await bench.queue.start()
    with pytest.raises(FtxError) as caught:
        await bench.add("0")
    assert caught.value.name == "busy"
    assert bench.queue.counts == (0, 1)
    await bench.stop()


@bounded(30)
async def test_a_long_reason_is_cut(bench: Bench) -> None:
    job = await bench.add(_REFUSED.replace("nobody there", "\U0001f600" * 2 * limits.QUEUE_WHY), "4")
    await until(lambda: bench.state(job) == "waiting")
    why = _error(bench)[1]
    assert len(why) <= limits.QUEUE_WHY + 1
    assert len(why.encode()) * limits.QUEUE_ENTRIES < limits.QUEUE_ROOM


@pytest.mark.parametrize("damage", ["flip", "cut", "unknown", "large"])
@bounded(30)
async def test_a_damaged_file_is_left_alone(reactor: Any, tmp_path: Path, damage: str) -> None:
    bench = Bench(reactor, tmp_path)
    bench.file.save([Queued(job="0" * 32, target="pi:", sources=[])])
    path = tmp_path / "queue"
    content = path.read_bytes()
    broken = {
        "flip": content.replace(b"pi:", b"po:"),
        "cut": content[:-1],
        "unknown": content.replace(b"ftx queue 1", b"ftx queue 2"),
        "large": b"",
    }[damage]
    path.write_bytes(broken)
    if damage == "large":
        os.truncate(path, limits.QUEUE_FILE + 1)
    before = path.stat()
    await bench.queue.start()
    with pytest.raises(FtxError) as caught:
        await bench.queue.add("pi:", [os.fsencode(tmp_path)], [])
    assert caught.value.name == "state-unusable"
    assert (path.stat().st_ino, path.stat().st_size) == (before.st_ino, before.st_size)
    await bench.stop()
