"""Jobs that are paused, resumed and cancelled while they run, from either side."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.bounded import bounded, until
from support.hostile import JOB, data, entry
from support.receiving_end import ReceivingEnd
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread

from ftx import limits
from ftx.errors import FtxError
from ftx.wire.events import Done, Event, Failed, Progress
from ftx.wire.messages import Cancel, ErrorMessage, Pause, Resume

MiB = limits.MiB


@pytest_twisted.async_yield_fixture
async def end(reactor: Any, short_tmp: Path) -> AsyncIterator[ReceivingEnd]:
    """A receiving end."""
    made = ReceivingEnd(reactor, short_tmp)
    yield made
    await made.stop()


def large(end: ReceivingEnd, name: str = "large", size: int = 64 * MiB) -> Path:
    """A file that takes a while."""
    path = end.folder / name
    with path.open("wb") as file:
        for _ in range(size // MiB):
            file.write(os.urandom(MiB))
    return path


def stage(heard: list[Event]) -> str:
    """The stage that the sender's screen shows."""
    shown = [event.stage for event in heard if isinstance(event, Progress)]
    return shown[-1] if shown else ""


async def begun(end: ReceivingEnd) -> str:
    """The id of the job, once some of its content is here."""
    await until(lambda: any(job.bytes_confirmed for job in end.jobs.list("active")))
    return end.jobs.list("active")[0].job


@bounded(60)
async def test_a_pause_is_seen_on_both_ends_and_nothing_moves(end: ReceivingEnd) -> None:
    source = large(end)
    heard: list[Event] = []
    sending = Deferred.fromCoroutine(end.send(source, on_event=heard.append))
    job = await begun(end)
    assert end.jobs.pause(job, True).paused == "here"
    await until(lambda: stage(heard) == "paused")
    settled = [-1]

    def still() -> bool:
        settled.append(end.jobs.received_so_far())
        return settled[-1] == settled[-2]

    await until(still, interval=0.3)
    arrived = end.jobs.received_so_far()
    assert arrived < source.stat().st_size
    assert end.jobs.pause(job, True).paused == "here", "once more changes nothing"
    assert end.jobs.pause(job, False).paused == ""
    done = await sending
    assert isinstance(done, Done)
    assert done.bytes_wire == source.stat().st_size, "nothing travelled twice"
    assert end.jobs.received_so_far() > arrived
    await until(lambda: not end.jobs.list("active"))  # its sender has the receipt before it is closed
    with pytest.raises(FtxError) as caught:
        end.jobs.pause(job, True)
    assert caught.value.name == "job-over"


@bounded(60)
async def test_cancelled_by_the_receiver(end: ReceivingEnd) -> None:
    """Both ends say so, with what stays, and the same command goes on where it was."""
    folder = end.folder / "some"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_bytes(name.encode())
    large(end, "some/large")
    end.jobs.rates.change("daemon", 8 * MiB, None)  # so that it is not over when the first of it is durable
    heard: list[Event] = []
    sending = Deferred.fromCoroutine(end.send(folder, on_event=heard.append))
    job = await begun(end)
    await until(lambda: end.jobs.find(job).files_stored == 3 and end.jobs.find(job).bytes_durable > MiB)
    shown = await end.jobs.cancel(job)
    assert (shown.state, shown.files_stored) == ("failed", 3)
    assert shown.error is not None
    assert (shown.error.name, shown.error.message) == (
        "cancelled",
        "cancelled here; 3 files (3 B) are published, whole and verified",
    )
    failed = await sending
    assert isinstance(failed, Failed)
    assert (failed.error.name, failed.exit, failed.resumable) == ("cancelled", 6, True)
    assert failed.error.message.endswith("3 files (3 B) are published, whole and verified")
    assert (failed.files_stored, failed.bytes_stored) == (3, 3)
    assert sorted(path.name for path in (end.inbox_path / "some").iterdir()) == ["a", "b", "c"]
    with pytest.raises(FtxError) as caught:
        await end.jobs.cancel(job)
    assert caught.value.name == "job-over"
    end.jobs.rates.change("daemon", 0, None)
    done = await end.send(folder)
    assert isinstance(done, Done)
    assert done.files_identical == 3
    assert done.bytes_wire < 64 * MiB


@bounded(60)
async def test_cancelled_by_the_sender(end: ReceivingEnd) -> None:
    """The receiver knows that it was no lost connection."""
    source = large(end)
    heard: list[Event] = []
    sending = Deferred.fromCoroutine(end.send(source, on_event=heard.append))
    job = await begun(end)
    sending.cancel()
    with pytest.raises(CancelledError):
        await sending
    failed = heard[-1]
    assert isinstance(failed, Failed)
    assert (failed.error.name, failed.files_stored) == ("interrupted", 0)
    await until(lambda: not end.jobs.list("active"))
    shown = end.jobs.find(job)
    assert shown.error is not None
    assert shown.error.message == "cancelled by the sender; nothing was published"
    done = await end.send(source)
    assert isinstance(done, Done)
    assert done.bytes_wire < source.stat().st_size


@bounded(60)
async def test_cancelled_while_the_disk_is_asked_what_is_there(end: ReceivingEnd) -> None:
    """Nobody waits for that any more, and so it ends early; but that is not why the job ends."""
    end.store.hold("look_up")
    sending = Deferred.fromCoroutine(end.send(large(end, size=2 * MiB)))
    await until(lambda: any(name == "look_up" for name, _ in end.store.calls))
    job = end.jobs.list("active")[0].job
    cancelling = end.jobs.cancel(job)
    end.store.release()
    await cancelling
    failed = await sending
    assert isinstance(failed, Failed)
    assert failed.error.name == "cancelled"
    await until(lambda: not end.jobs.list("active"))
    shown = end.jobs.find(job).error
    assert shown is not None
    assert shown.name == "cancelled"


@bounded(60)
async def test_a_disk_that_stalls_holds_up_no_cancel(end: ReceivingEnd) -> None:
    """The sender hears of it while the disk still works, and that disk work is what the job's end waits for."""
    source = large(end, size=8 * MiB)
    end.store.hold("write_block")
    sending = Deferred.fromCoroutine(end.send(source))
    await until(lambda: any(name == "write_block" for name, _ in end.store.calls))
    shown = await end.jobs.cancel(end.jobs.list("active")[0].job)
    assert shown.state == "active"
    failed = await sending
    assert isinstance(failed, Failed)
    assert failed.error.name == "cancelled"
    end.store.release()
    await until(lambda: not end.jobs.list("active"))
    assert end.jobs.find(shown.job).state == "failed"


@bounded(60)
async def test_a_sender_that_pauses_is_shown_and_one_that_does_not_heed_is_not_read(end: ReceivingEnd) -> None:
    content = os.urandom(MiB)
    with await deferToThread(end.hostile, seconds=20) as peer:
        await deferToThread(peer.job, entry(0, b"f", size=4000 * MiB), features=["steer"])
        peer.send(Pause(JOB))
        await until(lambda: end.jobs.list("active")[0].paused == "peer")
        peer.send(Resume(JOB))
        await until(lambda: end.jobs.list("active")[0].paused == "")
        end.jobs.pause(JOB.hex(), True)
        await deferToThread(peer.until, Pause)
        connection, (receiving,) = end.connections[-1], end.jobs._running

        def waits_for_disk() -> bool:
            """Not read either, but for a moment, and not because of the pause."""
            return connection.session.paused and not receiving._backlog.empty

        sent = 0
        while not connection.session.paused:
            assert not connection.over, connection.stopped_by
            await deferToThread(peer.send, data(0, sent, content))
            sent += 1
            await until(lambda: not waits_for_disk())
        assert sent > limits.PAUSE_BYTES // MiB
        assert end.jobs.list("active")[0].paused == "here"
        end.jobs.pause(JOB.hex(), False)
        await deferToThread(peer.until, Resume)
        await until(lambda: end.jobs.received_so_far() == sent * MiB)
        peer.send(Cancel(JOB, 0, 0))
        word = await deferToThread(peer.until, Cancel)
        assert (word.job, word.files, word.bytes) == (JOB, 0, 0)


@bounded(60)
async def test_a_peer_that_knows_nothing_of_it(end: ReceivingEnd) -> None:
    """A pause is a connection that is not read; a cancel is the error that there always was."""
    with await deferToThread(end.hostile, seconds=20) as peer:
        await deferToThread(peer.job, entry(0, b"f", size=2 * MiB))
        end.jobs.pause(JOB.hex(), True)
        await deferToThread(peer.send, data(0, 0, os.urandom(MiB)))
        assert end.connections[-1].session.paused
        end.jobs.pause(JOB.hex(), False)
        await until(lambda: end.jobs.received_so_far() == MiB)
        shown = await end.jobs.cancel(JOB.hex())
        assert shown.state == "failed"
        assert (await deferToThread(peer.until, ErrorMessage)).number == 614


@bounded(60)
async def test_words_about_a_job_that_is_over_are_void(end: ReceivingEnd) -> None:
    """They crossed its end; whoever names another job than the one that runs is no honest sender."""
    with await deferToThread(end.hostile, seconds=20) as peer:
        await deferToThread(peer.greet, features=["steer"])
        for word in (Pause(JOB), Resume(JOB), Cancel(JOB, 0, 0)):
            peer.send(word)
        await deferToThread(peer.offer)
        peer.send(Pause(JOB[::-1]))
        assert (await deferToThread(peer.until, ErrorMessage)).number == 801
