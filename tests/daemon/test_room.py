"""The memory for received content, shared by the jobs of a daemon: who finds none is not read, and has its turn."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.bounded import bounded, until
from support.hostile import Hostile, data, entry
from support.receiving_end import ReceivingEnd
from twisted.internet.task import Clock, LoopingCall
from twisted.internet.threads import deferToThread

from ftx import limits
from ftx.core.blocks import block_digest, file_digest
from ftx.core.lanes import EXPORTER, exporter_context
from ftx.core.room import Room
from ftx.errors import kind
from ftx.net.receiving import Receiving
from ftx.wire.frames import copy_frame, data_frames
from ftx.wire.messages import EntryEnd, Join, Joined, Needs, Offer, Refuse, Results, Stored

BLOCK = bytes(limits.BLOCK)


@pytest_twisted.async_yield_fixture
async def end(reactor: Any, short_tmp: Path) -> AsyncIterator[ReceivingEnd]:
    """A receiving end with room for two blocks."""
    made = ReceivingEnd(reactor, short_tmp)
    made.jobs._room = Room(2 * limits.BLOCK, 2 * limits.BLOCK)
    yield made
    await made.stop()


def piece(number: int, block: int = 0) -> bytes:
    """The piece of this number of a block; the last with its digest."""
    pieces = data_frames(0, block, memoryview(BLOCK), block_digest([BLOCK]))
    parts = [*pieces[2 * number : 2 * number + 2], *(pieces[-1:] if number == 7 else ())]
    return b"".join(bytes(part) for part in parts)


def wanted(end: ReceivingEnd, name: bytes) -> Hostile:
    """A client whose file of one block is waited for."""
    client = end.hostile()
    client.greet()
    client.offer(job=os.urandom(16))
    client.announce([entry(0, name, size=limits.BLOCK)])
    client.until(Needs)
    return client


def jobs(end: ReceivingEnd) -> list[Receiving]:
    """What runs, in the order in which it began."""
    return list(end.jobs._running)


def begun(job: Receiving, *, waits: bool) -> bool:
    """Whether its block has begun to come, or waits for its turn to."""
    return job.queued if waits else job.machine.received > 0


async def crowd(end: ReceivingEnd, closing: ExitStack, count: int) -> list[Hostile]:
    """So many of them."""
    made = []
    for _ in range(count):
        made.append(closing.enter_context(await deferToThread(wanted, end, os.urandom(8).hex().encode())))
    return made


@bounded(20)
async def test_whoever_finds_no_room_is_not_read_and_called_dead_by_nobody(end: ReceivingEnd) -> None:
    """Two have begun a block. The third's is not read on, nor is its silence judged, until one of those is done."""
    with ExitStack() as closing:
        clients = await crowd(end, closing, 3)
        for number in (0, 1):
            await deferToThread(clients[number].send, piece(0))
            await until(lambda number=number: jobs(end)[number].machine.received > 0)  # type: ignore[misc]
        await deferToThread(clients[2].send, data(0, 0, BLOCK))
        await until(lambda: jobs(end)[2].queued)
        third = jobs(end)[2]
        assert third.machine.received <= limits.READ_SIZE + limits.PIECE
        assert third.connection.session.paused, "so that it is not called silent"
        assert end.jobs._room.taken == 2 * limits.BLOCK
        await deferToThread(clients[0].send, b"".join(map(piece, range(1, 8))))
        for client in (clients[0], clients[2]):
            assert (await deferToThread(client.until, Results)).results
        assert not third.queued
        await deferToThread(clients[1].send, b"".join(map(piece, range(1, 8))))
        assert (await deferToThread(clients[1].until, Results)).results
    await until(lambda: not jobs(end))
    assert end.jobs._room.taken == 0


@bounded(20)
async def test_whoever_goes_leaves_its_room_and_its_place(end: ReceivingEnd) -> None:
    """Two hold the room, two wait. The first that waits goes, then one that holds it: the last one is served."""
    with ExitStack() as closing:
        clients = await crowd(end, closing, 4)
        for number, client in enumerate(clients):
            await deferToThread(client.send, piece(0))
            await until(lambda number=number: begun(jobs(end)[number], waits=number > 1))  # type: ignore[misc]
        jobs(end)[2].connection.abort()
        await until(lambda: len(jobs(end)) == 3)
        assert jobs(end)[2].queued
        jobs(end)[0].connection.abort()
        await until(lambda: len(jobs(end)) == 2)
        assert not jobs(end)[1].queued
        await deferToThread(clients[3].send, b"".join(map(piece, range(1, 8))))
        assert (await deferToThread(clients[3].until, Results)).results
    await until(lambda: not jobs(end))
    assert end.jobs._room.taken == 0


@bounded(20)
async def test_blocks_behind_each_other_and_small_files_take_turns(end: ReceivingEnd) -> None:
    """Four clients with a file of five blocks each and forty small ones, in room for two blocks: all are stored."""
    end.jobs._room = Room(2 * limits.BLOCK, limits.BLOCK)
    large, small = end.folder / "large", end.folder / "small"
    small.mkdir()
    content = os.urandom(5 * limits.BLOCK)
    large.write_bytes(content)
    for number in range(40):
        (small / f"{number}").write_bytes(b"%d" % number * 5000)
    sending = [end.send(large, small, into=f"to {number}", settings={"own_key_anywhere": False}) for number in range(4)]
    for one in sending:
        assert (await one).exit == 0
    for number in range(4):
        assert (end.inbox_path / f"to {number}" / "large").read_bytes() == content
        assert len(list((end.inbox_path / f"to {number}" / "small").iterdir())) == 40
    await until(lambda: end.jobs._room.taken == 0)


async def laned(end: ReceivingEnd, closing: ExitStack, lanes: int) -> list[Hostile]:
    """The connections of a job with a file of three blocks that is waited for: its own, and so many lanes."""
    job = os.urandom(16)

    def begin() -> list[Hostile]:
        made = [closing.enter_context(end.hostile()) for _ in range(lanes + 1)]
        for one in made:
            one.greet(features=["lanes"])
        own = made[0]
        own.offer(job=job)
        for number, lane in enumerate(made[1:], 1):
            lane.send(Join(job, number, own.exported(*EXPORTER, exporter_context(job, number))))
            assert lane.receive() == Joined(job, True)
        own.announce([entry(0, job.hex().encode(), size=3 * limits.BLOCK)])
        own.until(Needs)
        return made

    return await deferToThread(begin)


@bounded(20)
async def test_jobs_with_lanes_do_not_wait_for_each_other_in_a_circle(end: ReceivingEnd) -> None:
    """Each has a block that has begun, and another one for which there is no room: what has begun is read on."""
    end.jobs._room = Room(3 * limits.BLOCK, 3 * limits.BLOCK)
    ended = EntryEnd(0, 3 * limits.BLOCK, file_digest(3 * limits.BLOCK, [block_digest([BLOCK])] * 3))
    with ExitStack() as closing:
        both = [await laned(end, closing, 2) for _ in range(2)]
        for block in range(3):
            for number, connections in enumerate(both):
                job = jobs(end)[number]
                await deferToThread(connections[block].send, piece(0, block))
                await until(lambda job=job, block=block: job.queued or job.machine.received > block * limits.PIECE)  # type: ignore[misc]
        assert all(job.queued for job in jobs(end))
        assert end.jobs._room.taken == 3 * limits.BLOCK
        for connections in both:
            for block in range(3):
                for number in range(1, 8):
                    await deferToThread(connections[block].send, piece(number, block))
            await deferToThread(connections[0].send, ended)
        for connections in both:
            (result,) = (await deferToThread(connections[0].until, Results)).results
            assert isinstance(result, Stored)
    await until(lambda: not jobs(end))
    assert end.jobs._room.taken == 0


@bounded(20)
async def test_whoever_fills_its_room_too_slowly_has_to_go(reactor: Any, short_tmp: Path) -> None:
    """A piece in eleven seconds: after a minute in which another one waited it is told `busy`, and that one is not."""
    clock = Clock()
    ticking = LoopingCall(lambda: clock.advance(0.005))
    ticking.start(0.005)
    end = ReceivingEnd(reactor, short_tmp, clock=clock)
    end.jobs._room = Room(limits.BLOCK, limits.BLOCK)
    try:
        with ExitStack() as closing:
            slow, quick = await crowd(end, closing, 2)
            await deferToThread(slow.send, piece(0))
            await until(lambda: jobs(end)[0].machine.received > 0)
            first = jobs(end)[0]
            await deferToThread(quick.send, data(0, 0, BLOCK))
            await until(lambda: jobs(end)[1].queued)
            for number in range(1, 7):
                assert not first.connection.over
                await deferToThread(slow.send, piece(number))
                await until(lambda number=number: first.machine.received > number * limits.PIECE)  # type: ignore[misc]
                for _ in range(44):
                    if not first.connection.over:  # or the second after which it is cut off would pass as well
                        clock.advance(0.25)
            assert await deferToThread(slow.end) == kind("busy").number
            assert (await deferToThread(quick.until, Results)).results
    finally:
        await end.stop()
        ticking.stop()


@bounded(20)
async def test_an_offer_waits_for_none_of_those_that_wait_for_room(end: ReceivingEnd) -> None:
    """Not read, they cannot say that they live. Who offers a job again that runs is told `busy` all the same."""
    with ExitStack() as closing:
        clients = await crowd(end, closing, 3)
        for client in clients:
            await deferToThread(client.send, piece(0))
        await until(lambda: sum(one.queued for one in jobs(end)) == 1)
        await crowd(end, closing, 1)
        job = jobs(end)[0].offer.job

        def offered() -> Any:
            with end.hostile() as again:
                again.greet()
                again.send(Offer(job, 0, [], None, None, None, None))
                return again.until(Refuse).number

        assert await deferToThread(offered) == kind("busy").number


@bounded(20)
async def test_another_job_whose_peer_is_slow_to_answer_may_come_back(reactor: Any, short_tmp: Path) -> None:
    """One that says nothing while another job of its key is offered is not told that this one took over."""
    clock = Clock()
    ticking = LoopingCall(lambda: clock.advance(0.005))
    ticking.start(0.005)
    end = ReceivingEnd(reactor, short_tmp, clock=clock)
    try:
        with ExitStack() as closing:
            [slow] = await crowd(end, closing, 1)
            older = jobs(end)[0]
            clock.advance(limits.ALIVE + 0.5)
            coming = deferToThread(wanted, end, b"another")

            def over() -> bool:
                clock.advance(0.05)
                return older.connection.over

            await until(over)
            assert await deferToThread(slow.end) == kind("peer-silent").number
            closing.enter_context(await coming)
            assert len(jobs(end)) == 1
    finally:
        await end.stop()
        ticking.stop()


def eight(end: ReceivingEnd, mtime: int) -> Hostile:
    """A client whose file of eight blocks of zeros is waited for."""
    client = end.hostile()
    client.greet(features=["delta", "repair"])
    client.offer(job=os.urandom(16), conflict=2)
    client.announce([entry(0, b"zeros", size=8 * limits.BLOCK, mtime=mtime)])
    client.until(Needs)
    return client


def as_words(*, copies: bool) -> bytes:
    """Its blocks, none of which has content that travels."""
    digest, length = block_digest([BLOCK]), limits.BLOCK
    if copies:
        return b"".join(copy_frame(0, block, block * length, length, digest) for block in range(8))
    return b"".join(b"".join(data_frames(0, block, b"", digest, zero=True)) for block in range(8))


@bounded(20)
@pytest.mark.parametrize("copies", [False, True])
async def test_blocks_that_come_as_a_word_take_next_to_no_room(end: ReceivingEnd, copies: bool) -> None:
    """Eight of zeros, or of an older copy, wait for the disk, in room for two: the block of another one is read."""
    closes = EntryEnd(0, 8 * limits.BLOCK, file_digest(8 * limits.BLOCK, [block_digest([BLOCK])] * 8))
    with ExitStack() as closing:
        if copies:
            older = closing.enter_context(await deferToThread(eight, end, 1))
            await deferToThread(older.send, as_words(copies=False), closes)
            await deferToThread(older.until, Results)
        slow = closing.enter_context(await deferToThread(eight, end, 2))
        end.store.hold("write_block", "copy_block")
        await deferToThread(slow.send, as_words(copies=copies), closes)
        method = "copy_block" if copies else "write_block"
        await until(lambda: (method, 0) in [(name, words[0]) for name, words in end.store.calls[-8:] if words])
        other = closing.enter_context(await deferToThread(wanted, end, b"other"))
        await deferToThread(other.send, data(0, 0, BLOCK))
        assert (await deferToThread(other.until, Results)).results
        end.store.release()
        assert (await deferToThread(slow.until, Results)).results
    await until(lambda: not jobs(end))
    assert end.jobs._room.taken == 0
