"""Uploads whose connection ends at an awkward moment: nothing hangs, nothing is forgotten, nothing stays behind."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.bounded import bounded, until
from support.receiving_end import ReceivingEnd
from support.trees import make_tree
from twisted.internet.defer import CancelledError, Deferred

from ftx import limits
from ftx.core.peers import Peer
from ftx.core.policy import Rules
from ftx.disk.keys import load_or_create
from ftx.disk.peers import update
from ftx.disk.places import places, prepare_home
from ftx.wire.events import Connected, Done, Event, Failed, Progress, Retry, iso_time

MiB = limits.MiB


@pytest_twisted.async_yield_fixture
async def end(reactor: Any, short_tmp: Path) -> AsyncIterator[ReceivingEnd]:
    """A receiving end."""
    made = ReceivingEnd(reactor, short_tmp)
    yield made
    await made.stop()


def of(heard: list[Event], *kinds: type[Event]) -> list[Any]:
    """The events of these kinds."""
    return [event for event in heard if isinstance(event, kinds)]


def open_below(*folders: Path) -> list[str]:
    """What this process has open in these folders."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # the one with which the list was read
            continue
        if any(path.startswith(f"{folder}{os.sep}") or path == str(folder) for folder in folders):
            found.append(path)
    return found


@bounded(30)
async def test_a_receipt_that_is_lost(reactor: Any, end: ReceivingEnd) -> None:
    """The connection ends between `end` and the receipt: the retry knows what failed, and keeps a whole receipt."""

    async def ends(name: str, heard: list[Event]) -> Done:
        source = end.folder / name
        deep = source.joinpath(*["d"] * (limits.DEPTH - 1))
        deep.mkdir(parents=True)
        (deep / "too deep").write_bytes(b"x")
        (source / "f").write_bytes(b"x" * 100)
        os.mkfifo(source / "pipe")
        last = await end.send(source, on_event=heard.append)
        assert isinstance(last, Done)
        return last

    undisturbed = await ends("a", [])
    assert (undisturbed.exit, undisturbed.files_failed, undisturbed.files_skipped) == (9, 1, 1)
    assert undisturbed.receipt is not None

    heard: list[Event] = []
    end.store.before("save_receipt", lambda: reactor.callFromThread(end.cut))
    lost = await ends("b", heard)
    assert [event.error.name for event in of(heard, Retry)] == ["connection-reset"]
    fields = ("exit", "result", "files", "directories", "files_failed", "files_skipped")
    assert [getattr(lost, field) for field in fields] == [getattr(undisturbed, field) for field in fields]
    assert lost.receipt is not None
    whole, kept = (Path(path).read_bytes().splitlines() for path in (undisturbed.receipt, lost.receipt))
    assert len(kept) == len(whole) > limits.DEPTH


@bounded(30)
async def test_a_connection_lost_before_the_job_runs(reactor: Any, end: ReceivingEnd) -> None:
    """Between the server's hello and the offer, while the client waits for its own disk: it tries again."""
    theirs = places(str(end.folder / "client"), {}, os.geteuid(), "/")
    prepare_home(theirs)
    key = load_or_create(theirs.key)
    update(end.peers_file, lambda store: store.add(Peer("desk", key.id, (), iso_time())))
    update(theirs.peers, lambda store: store.add(Peer("attic", end.identity.id, (), iso_time())))
    (end.folder / "f").write_bytes(b"content")
    heard: list[Event] = []
    with open(f"{theirs.peers}.lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the address is noted under it, before the offer
        sending = Deferred.fromCoroutine(end.send(end.folder / "f", home="client", on_event=heard.append))
        await until(lambda: bool(of(heard, Connected)))
        end.cut()
        await until(lambda: end.reception.connections == (0, 0))
    last = await sending
    assert isinstance(last, Done)
    assert len(of(heard, Retry)) == 1
    assert (end.inbox_path / "f").read_bytes() == b"content"


@bounded(30)
async def test_a_server_that_drops_newcomers(end: ReceivingEnd) -> None:
    """A connection that is dropped before a word was said is tried again; the exit is that of the one that worked."""
    (end.folder / "f").write_bytes(b"content")
    end.door.dropped = 2
    last = await end.send(end.folder / "f")
    assert isinstance(last, Done)
    end.door.dropped = 100
    with pytest.raises(Exception, match="connection"):
        await end.send(end.folder / "f", settings={"retries": 1})
    assert end.door.dropped == 98
    end.door.dropped = 0


@bounded(30)
async def test_a_refusal_leaves_no_connection(reactor: Any, short_tmp: Path) -> None:
    """After the refusal of an offer nobody wants the connection any more: it ends, on both sides."""
    end = ReceivingEnd(reactor, short_tmp, rules=Rules("fail", "paired"))
    try:
        (short_tmp / "f").write_bytes(b"content")
        last = await end.send(short_tmp / "f", conflict="rename")
        assert isinstance(last, Failed)
        assert last.error.name == "refused"
        await until(lambda: end.reception.connections == (0, 0), seconds=limits.ABORT_AFTER + 1)
    finally:
        await end.stop()


@bounded(30)
async def test_cancelling_lets_go_of_everything(end: ReceivingEnd) -> None:
    """In the middle of a large file: when the call has ended, nothing is open or locked, and nothing was logged."""
    source = end.folder / "source" / "large"
    source.parent.mkdir()
    with source.open("wb") as file:
        file.truncate(8192 * MiB)  # a hole: nothing of it travels, and reading it takes longer than the test
    state = end.home / "state" / "digests"
    # Of a file this young nothing would be remembered.
    await until(lambda: time.time() - source.stat().st_ctime > limits.RACY_SECONDS + 0.1)
    for _ in range(5):  # each at another moment of the reading
        end.store.hold("write_block")
        stopped: list[Any] = []
        sending = Deferred.fromCoroutine(end.send(source.parent))
        await until(lambda: str(source) in open_below(source.parent) and bool(open_below(state)))
        sending.addBoth(stopped.append)
        sending.cancel()
        await until(lambda: bool(stopped))  # noqa: B023
        assert stopped[0].check(CancelledError)
        assert open_below(source.parent, state) == []
        [remembered] = state.iterdir()
        with remembered.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        end.store.release("no-space")
        await until(lambda: end.jobs.counts.active == 0)


@pytest.mark.slow
@bounded(60)
async def test_a_tree_that_the_walk_does_not_come_to_the_end_of_soon_is_counted(end: ReceivingEnd) -> None:
    """A receiver takes its time, and the walk waits for it: how much there is becomes known all the same."""
    files = limits.WALK_AHEAD + limits.WINDOW_UNANSWERED + 2 * limits.BATCH
    make_tree(end.folder / "source", {f"{number // 1000}/{number}": number % 2 for number in range(files)})
    heard: list[Event] = []
    end.store.hold("look_up")
    sending = Deferred.fromCoroutine(end.send(end.folder / "source", on_event=heard.append))
    await until(lambda: any(each.files_total == files for each in of(heard, Progress)), seconds=20)
    assert of(heard, Progress)[-1].bytes_total == files // 2
    end.store.release()
    last = await sending
    assert isinstance(last, Done)
    assert (last.files, last.bytes) == (files, files // 2)
