"""Lanes between the real programs: content over several connections, and what becomes of a job that loses one."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import re
import socket
import threading
import time
from pathlib import Path

import pytest
from support.hostile import JOB, Hostile, data, entry
from support.lab import Daemon, Lab, rests, until
from support.relay import Relay, shut
from support.trees import make_noise

from ftx import limits
from ftx.core.blocks import block_digest, file_digest
from ftx.core.lanes import EXPORTER, exporter_context
from ftx.core.receipt import Transcript
from ftx.disk.keys import load
from ftx.errors import KINDS
from ftx.wire.frames import Piece
from ftx.wire.messages import (
    Accept,
    End,
    EntryEnd,
    ErrorMessage,
    FileEntry,
    Goodbye,
    Join,
    Joined,
    Manifest,
    Message,
    Needs,
    Offer,
    Receipt,
    Refuse,
    Request,
    Results,
    WantAll,
)

MIB = 1 << 20
SIZE = 24 * MIB + 12_345


class Line(Relay):
    """Counts what each connection carries inward and outward, `delay` seconds late; can let one be lost.

    What the daemon says on the first connection is `answers` seconds later than that.
    """

    def __init__(self, port: int, *, delay: float = 0.0, answers: float = 0.0) -> None:
        super().__init__(port)
        self._delay = delay
        self._answers = answers
        #: While it is clear, nothing more is taken.
        self.taking = threading.Event()
        self.taking.set()
        self.carried: dict[socket.socket, list[int]] = {}
        #: Whether no connection lives long that comes while there is another one.
        self.narrow = False
        self._alive: set[socket.socket] = set()

    def _carry(self, origin: socket.socket, target: socket.socket, inward: bool) -> None:
        client = origin if inward else target
        carried = self.carried.setdefault(client, [0, 0])
        dies = self.narrow and not self._alive <= {client}
        self._alive.add(client)
        on_the_way: queue.Queue[tuple[float, bytes]] = queue.Queue(16)

        def put(due: float, data: bytes) -> None:
            while not ended.is_set():
                with contextlib.suppress(queue.Full):
                    on_the_way.put((due, data), timeout=0.1)
                    return

        def bring() -> None:
            with contextlib.suppress(OSError):
                while True:
                    due, data = on_the_way.get()
                    if not data or self._over.wait(max(0.0, due - time.monotonic())):
                        break
                    target.sendall(data)
            ended.set()
            shut(origin, target)

        delay = self._delay + (self._answers if not inward and client is self._open[0] else 0.0)
        ended = threading.Event()
        self._start(bring)
        with contextlib.suppress(OSError):
            while self.taking.wait(60) and (data := origin.recv(65536)):
                carried[0 if inward else 1] += len(data)
                if dies and inward and carried[0] > MIB // 4:
                    break
                put(time.monotonic() + delay, data)
        self._alive.discard(client)
        put(0.0, b"")

    def _taken(self, end: socket.socket) -> None:
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # what is on the way shall be in the queue
            end.setsockopt(socket.SOL_SOCKET, buffer, 65536)

    def used(self, least: int = MIB // 4) -> int:
        """How many connections have carried content, one way or the other."""
        return sum(max(both) >= least for both in list(self.carried.values()))

    def lose(self, number: int) -> None:
        """The connection that was taken as this one is cut."""
        shut(*self._open[2 * number : 2 * number + 2])


def large(lab: Lab, name: str = "large", size: int = SIZE) -> Path:
    """A file of random bytes."""
    return make_noise(lab.root / name, size)


def stored(daemon: Daemon, source: Path) -> None:
    """It arrived as it is."""
    assert (daemon.inbox / source.name).read_bytes() == source.read_bytes()


@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_content_takes_as_many_connections_as_were_asked_for(lab: Lab, lanes: int) -> None:
    """Each carries some of it, and nothing more than before travels."""
    source, daemon = large(lab), lab.daemon()
    # Eight seconds to join in, for a machine that is busy. By the sender: else the first would take all there is.
    slowly = ["--limit", "3M"] if lanes > 1 else []
    with Line(daemon.port) as line:
        done = lab.sending(line.url, "--lanes", str(lanes), *slowly, source).ends().one("done")
        assert line.used() == lanes
        total = sum(inward for inward, _ in line.carried.values())
    assert done["bytes_wire"] == SIZE
    assert SIZE < total < SIZE * 1.01 + 100_000
    stored(daemon, source)
    daemon.idle()
    daemon.clean_log()


def test_a_pull_takes_them_too(lab: Lab) -> None:
    """The client opens them, and the server sends."""
    shared = lab.root / "shared"
    shared.mkdir()
    source = large(lab, "shared/large")
    daemon = lab.daemon("home", f"--share=files={shared}", "--limit-out", "2M")
    with Line(daemon.port, delay=0.05) as line:
        client = lab.client("get", "--lanes", "3", f"{line.url}/files", "out")
        until(lambda: line.used() == 3, "content on three connections")
        daemon.call("limits.set", rate_out=0)
        client.ends()
        assert line.used() == 3
    assert (lab.root / "out" / "files" / "large").read_bytes() == source.read_bytes()
    daemon.clean_log()


def test_they_are_chosen_by_the_round_trip(lab: Lab) -> None:
    """None on a short path; some on a long one, whichever way content goes; none for a file that is soon over."""
    source, small, daemon = large(lab), large(lab, "small", MIB), lab.daemon()
    with Line(daemon.port) as near:
        told = lab.sending(near.url, "--into", "near", "-v", source, lanes=None).ends()
        # The path to a machine that is busy at that moment is a long one, and then it says so.
        why = re.search(r"takes up to 3 connections for the content, for a round trip takes (\d+) ms", told.text())
        assert len(near.carried) == 1 or (why is not None and int(why[1]) >= 1000 * limits.LANE_ROUND_TRIP)
    with Line(daemon.port, delay=0.03) as far:
        told = lab.sending(far.url, "--into", "far", "-v", source, lanes=None)
        told.ends()
        assert len(far.carried) > 1
        assert "takes up to 3 connections for the content, for a round trip takes" in told.text()
        before = len(far.carried)
        lab.sending(far.url, "--into", "far", small, lanes=None).ends()
        assert len(far.carried) == before + 1
    for folder in ("near", "far"):
        assert (daemon.inbox / folder / "large").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("which", [0, 2], ids=["its own connection", "a lane"])
def test_a_connection_is_lost(lab: Lab, which: int) -> None:
    """The job is resumed; what was durable does not come again; no connection outlives the job."""
    source, daemon = large(lab, size=2 * SIZE), lab.daemon()
    with Line(daemon.port, delay=0.02) as line:
        client = lab.sending(line.url, "--lanes", "4", "--limit", "8M", source)
        until(lambda: line.used() == 4, "content on four connections")
        kept = client.reaches("progress", bytes_confirmed=SIZE)["bytes_confirmed"]
        line.lose(which)
        events = client.ends()
        again = sum(inward for inward, _ in list(line.carried.values())[4:])
        assert again < (2 * SIZE - kept) * 1.01 + 100_000
        assert [event["error"]["name"] for event in events.of("retry")] in (["connection-lost"], ["connection-reset"])
        travelled = sum(inward for inward, _ in line.carried.values())
        # What waited at the sender when it was lost did not travel: where nobody has time to take it, that is all that
        # may wait for a connection, LANE_QUEUE_HIGH and what the kernel takes. What came first is more than that.
        assert abs(events.one("done")["bytes_wire"] - travelled) < 4 * 4 * MIB < kept
        assert travelled < 2 * 2 * SIZE
    stored(daemon, source)
    daemon.idle()
    assert not daemon.partials()


def test_where_no_lane_lives_a_job_goes_on_without(lab: Lab) -> None:
    """Each attempt would be lost with its lanes, for ever."""
    source, daemon = large(lab), lab.daemon()
    with Line(daemon.port) as line:
        line.narrow = True
        events = lab.sending(line.url, "--lanes", "8", "--limit", "8M", source).ends()
        assert 1 <= len(events.of("retry")) <= 3
    stored(daemon, source)
    daemon.idle()
    assert not daemon.partials()


def test_memory_of_a_sender_with_lanes(lab: Lab) -> None:
    """Eight connections to somebody who takes nothing more: a little waits for each, and no more is read."""
    source, daemon = large(lab, size=128 * MIB), lab.daemon()
    with Line(daemon.port, delay=0.02) as line:
        client = lab.sending(line.url, "--lanes", "8", "--limit", "32M", source)
        until(lambda: line.used() == 8, "content on eight connections")
        line.taking.clear()
        before = client.io()["rchar"]
        read = rests(lambda: client.io()["rchar"], "a sender that waits")
        print(f"{(read - before) / MIB:.0f} MiB more after {before / MIB:.0f}; memory: {client.memory() / MIB:.0f} MiB")
        # For each: LANE_QUEUE_HIGH and a block, 4 MiB with the kernel (net.ipv4.tcp_wmem), 1 MiB in the line. How much
        # went before all had joined is another matter.
        assert read - before < 8 * 7 * MIB
        assert client.memory() < 130 * MIB
        line.taking.set()
        client.ends()
    stored(daemon, source)


def test_limits_hold_for_all_of_them_together(lab: Lab) -> None:
    """Twice as fast as allowed would be half the time."""
    source, daemon = large(lab, size=8 * MIB), lab.daemon()
    begun = time.monotonic()
    lab.send(daemon, "--lanes", "4", "--limit", "4Mi", source)
    assert time.monotonic() - begun > 1.5


def test_a_pause_holds_for_all_of_them(lab: Lab) -> None:
    """Nothing travels on any, and then everything arrives."""
    source, daemon = large(lab), lab.daemon()
    with Line(daemon.port) as line:
        client = lab.sending(line.url, "--lanes", "4", "--limit", "4M", source)
        until(lambda: line.used() == 4, "content on four connections")
        job = client.one("accepted")["job"]
        daemon.call("jobs.pause", job=job)
        carried = rests(lambda: [tuple(both) for both in line.carried.values()], "a pause that holds")
        assert sum(inward for inward, _ in carried) < SIZE
        daemon.call("jobs.resume", job=job)
        client.ends()
    stored(daemon, source)


def test_nothing_is_left_of_a_job_that_is_cancelled(lab: Lab) -> None:
    """By its receiver, while content is on every lane."""
    source, daemon = large(lab), lab.daemon()
    with Line(daemon.port) as line:
        client = lab.sending(line.url, "--lanes", "4", "--limit", "4M", source)
        until(lambda: line.used() == 4, "content on four connections")
        daemon.call("jobs.cancel", job=client.one("accepted")["job"])
        assert client.ends(KINDS["cancelled"].exit_code).failure()["name"] == "cancelled"
    daemon.idle()
    daemon.clean_log()


def test_a_cancel_that_comes_behind_the_end_of_a_lane(lab: Lab) -> None:
    """Connections are no order for each other. A lane that is left is no reason to begin anew before we hear why."""
    source, daemon = large(lab), lab.daemon()
    with Line(daemon.port, answers=0.5) as line:
        client = lab.sending(line.url, "--lanes", "4", "--limit", "4M", source)
        until(lambda: line.used() == 4, "content on four connections")
        daemon.call("jobs.cancel", job=client.one("accepted")["job"])
        assert client.ends(KINDS["cancelled"].exit_code).failure()["name"] == "cancelled"
        assert not client.of("retry")
    daemon.idle()
    daemon.clean_log()


# -- a client that keeps no rules --------------------------------------------------------------------------


@pytest.fixture
def daemon(lab: Lab) -> Daemon:
    """A daemon whose own key the hostile clients have."""
    return lab.daemon()


def connected(daemon: Daemon, *more: str, receive_buffer: int = 0) -> Hostile:
    """Signed in, with lanes and these features."""
    client = Hostile(daemon.port, load(str(daemon.home / "identity.key")), receive_buffer=receive_buffer)
    client.greet(features=["lanes", "repair", *more])
    return client


def proof(client: Hostile, number: int) -> bytes:
    """What lane `number` of its job has to show."""
    return client.exported(*EXPORTER, exporter_context(JOB, number))


def test_a_file_over_three_connections(daemon: Daemon) -> None:
    """By hand: two lanes, the end of the file before its blocks, a goodbye from the server on each lane."""
    blocks = [os.urandom(MIB) for _ in range(3)]
    with connected(daemon) as own, connected(daemon) as one, connected(daemon) as other:
        own.offer()
        for number, lane in ((1, one), (2, other)):
            lane.send(Join(JOB, number, proof(own, number)))
            assert lane.receive() == Joined(JOB, True)
        own.announce([entry(0, b"f", size=3 * MIB)])
        own.until(Needs)
        digest = file_digest(3 * MIB, [block_digest([block]) for block in blocks])
        own.send(EntryEnd(0, 3 * MIB, digest))
        other.send(data(0, 2, blocks[2]))
        one.send(data(0, 0, blocks[0]))
        own.send(data(0, 1, blocks[1]))
        assert isinstance(own.until(Results), Results)
        assert (daemon.inbox / "f").read_bytes() == b"".join(blocks)
    daemon.clean_log()


@pytest.mark.parametrize("what", ["proof", "number twice", "own proof", "data first"])
def test_a_lane_without_a_right_to_it(daemon: Daemon, what: str) -> None:
    """It ends; the job does not notice."""
    with connected(daemon) as own, connected(daemon) as one, connected(daemon) as lane:
        own.offer()
        one.send(Join(JOB, 1, proof(own, 1)))
        assert one.receive() == Joined(JOB, True)
        wrong: dict[str, Message | bytes] = {
            "proof": Join(JOB, 2, bytes(32)),
            "number twice": Join(JOB, 1, proof(own, 1)),
            "own proof": Join(JOB, 2, proof(lane, 2)),
            "data first": data(0, 0, b"x"),
        }
        lane.send(wrong[what])
        assert isinstance(lane.until(ErrorMessage), ErrorMessage)
        own.announce([entry(0, b"f")])
        own.until(Needs)
        one.send(data(0, 0, b"x"))
        assert isinstance(own.until(Results), Results)


def test_a_lane_of_no_job(lab: Lab, daemon: Daemon) -> None:
    """Of one that does not run, that is over, or that is another key's: refused, and the connection is as before."""
    lab.pair("home", "guest", "guest")
    with connected(daemon) as own, connected(daemon) as lane:
        busy = Refuse(JOB, KINDS["busy"].number)
        lane.send(Join(JOB, 1, bytes(32)))
        assert lane.receive() == busy
        own.offer()
        until(lambda: daemon.call("daemon.status")["peers_paired"] == 1, "a look at the peers")
        with Hostile(daemon.port, lab.key("guest")) as guest:
            guest.greet(features=["lanes"])
            guest.send(Join(JOB, 1, proof(own, 1)))
            assert guest.receive() == busy
        own.close_in_order()
        daemon.idle()
        lane.send(Join(JOB, 1, bytes(32)))
        assert lane.receive() == busy


@pytest.mark.parametrize("bad", ["a block", "a file", "a message"])
def test_nonsense_on_a_lane_ends_its_job(daemon: Daemon, bad: str) -> None:
    """The peer is told on the job's own connection, where that is where it went wrong."""
    with connected(daemon) as own, connected(daemon) as lane:
        own.offer()
        own.announce([entry(0, b"f", size=2 * MIB)])
        own.until(Needs)
        lane.send(Join(JOB, 1, proof(own, 1)))
        assert lane.receive() == Joined(JOB, True)
        nonsense: dict[str, Message | bytes] = {
            "a block": data(0, 7, bytes(MIB)),
            "a file": data(5, 0, b"x"),
            "a message": End(0, 0, 0, bytes(32)),
        }
        lane.send(nonsense[bad])
        assert own.end() == (None if bad == "a message" else KINDS["protocol-error"].number)
    daemon.idle()


def test_a_lane_that_says_nothing_does_not_hold_the_job(daemon: Daemon) -> None:
    """The job ends with its receipt on its own connection; the lane hears a goodbye."""
    with connected(daemon) as own, connected(daemon) as lane:
        own.offer()
        lane.send(Join(JOB, limits.LANES, proof(own, limits.LANES)))
        assert lane.receive() == Joined(JOB, True)
        own.announce([])
        own.send(End(0, 0, 0, Transcript().digest()))
        assert isinstance(own.until(Receipt), Receipt)
        assert isinstance(lane.until(Goodbye), Goodbye)
        assert not isinstance(lane.receive(), Piece)


def test_memory_of_a_sender_whose_lane_said_goodbye(lab: Lab) -> None:
    """A client that takes nothing: what is ready on a lane that has ended is no reason to read on."""
    shared = lab.root / "shared"
    shared.mkdir()
    with (shared / "large").open("wb") as file:
        file.truncate(200 * MIB)
        for block in range(200):  # or they would be zero runs
            file.seek(block * MIB)
            file.write(b"x")
    daemon = lab.daemon("home", f"--share=files={shared}")
    with connected(daemon, "pull", receive_buffer=4096) as own, connected(daemon) as lane:
        own.send(Request(JOB, [[b"files"]], [], 0))
        assert own.until(Offer).job == JOB
        lane.send(Join(JOB, 1, proof(own, 1)))
        assert lane.receive() == Joined(JOB, False)
        before = daemon.memory()
        lane.send(Goodbye())
        assert lane.receive() is None
        own.send(Accept(JOB, limits.WINDOW_UNANSWERED, limits.WINDOW_UNACKNOWLEDGED, 0, 0))
        manifest = own.until(Manifest)
        number = next(one.number for one in manifest.entries if isinstance(one, FileEntry))
        own.send(Needs([WantAll(number)]))
        rests(lambda: daemon.io()["rchar"], "a sender that waits")
        assert daemon.memory() - before < 24 * MIB
    daemon.idle()
    daemon.clean_log()


def test_a_lane_that_is_left_with_content_on_it(lab: Lab) -> None:
    """What waited for it will never arrive: the job ends, instead of waiting for as long as its peer lives."""
    shared = lab.root / "shared"
    shared.mkdir()
    (shared / "large").write_bytes(random.Random(3).randbytes(120 * MIB))
    daemon = lab.daemon("home", f"--share=files={shared}")
    with connected(daemon, "pull") as own, connected(daemon) as lane:
        own.send(Request(JOB, [[b"files"]], [], 0))
        assert own.until(Offer).job == JOB
        own.send(Accept(JOB, limits.WINDOW_UNANSWERED, limits.WINDOW_UNACKNOWLEDGED, 0, 0))
        manifest = own.until(Manifest)
        lane.send(Join(JOB, 1, proof(own, 1)))
        assert lane.receive() == Joined(JOB, False)
        number = next(one.number for one in manifest.entries if isinstance(one, FileEntry))
        own.send(Needs([WantAll(number)]))
        assert isinstance(lane.receive(), Piece)
        rests(lambda: daemon.io()["rchar"], "a sender that waits")
        lane.send(Goodbye())
        daemon.idle()
    daemon.clean_log()
