"""The queue at work: real processes, a real file, a clock of its own."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.bounded import bounded, until

from ftx import limits
from ftx.core.queueing import Queued
from ftx.daemon.events import EventStream
from ftx.daemon.queue import Queue
from ftx.disk.queue import QueueFile
from ftx.errors import FtxError
from ftx.net.worker import Worker
from ftx.wire.events import Done, Event, Failed, Retry, Snapshot

#: Stands for `ftx-client send`: says what the file that it is given says, and ends as the last line says.
_SAYS = """
import sys, time
lines = open(sys.argv[-1]).read().splitlines()
for line in lines[:-1]:
    print(line, flush=True)
    if line == "hang":
        time.sleep(60)
sys.exit(int(lines[-1]))
"""
_DONE = (
    '{"event":"done","v":1,"result":"ok","files":2,"directories":0,"bytes":10,"bytes_wire":10,"files_identical":0,'
    '"files_skipped":0,"files_failed":0,"seconds":1.0,"receipt":null,"exit":0}'
)
_REFUSED = (
    '{"event":"failed","error":{"code":401,"name":"connection-refused","message":"nobody there","hint":""},'
    '"exit":4,"resumable":true}'
)


class Bench:
    """A queue below `folder`; what it publishes is in `heard`."""

    def __init__(self, reactor: Any, folder: Path, command: Sequence[str] = (sys.executable, "-c", _SAYS)) -> None:
        self.folder = folder
        self.file = QueueFile(str(folder / "queue"))
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
    bench = Bench(reactor, tmp_path, (sys.executable, "-c", f"{deaf};{says}"))
    await bench.queue.start()
    job = await bench.add("0")
    await until(lambda: len(bench.heard) > 1)
    await bench.queue.remove(job)  # within limits.QUEUE_GRACE
    assert bench.queue.counts == (0, 0)
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
