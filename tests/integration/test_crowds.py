"""Many at once: what a crowd of strangers costs, what connections leave behind, and what happens without descriptors.

`make crowds` runs the same with the figures of the promise: two thousand strangers at once, ten thousand connections
one after the other.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.crowd import Cost, connect, cost, crowd, processor_seconds
from support.hostile import Hostile, entry, raw_frame
from support.lab import Daemon, Lab, until
from support.trees import MiB, make_tree, snapshot

from ftx import limits
from ftx.core.peers import Peer, TrustStore
from ftx.disk import peers
from ftx.disk.keys import Identity, load
from ftx.wire.frames import FrameType
from ftx.wire.messages import Goodbye, Hello, Needs

KiB = limits.KiB
#: Silent and trickling strangers at once.
STRANGERS = int(os.environ.get("CROWD_STRANGERS", "200"))
#: Connections one after the other, before which as many as WARM_UP make what stays.
CYCLES = int(os.environ.get("CROWD_CYCLES", "200"))
WARM_UP = int(os.environ.get("CROWD_WARM_UP", "200"))
#: Peers with a slow job each, and tiny files.
SLOW = int(os.environ.get("CROWD_SLOW", "40"))
TINY = int(os.environ.get("CROWD_TINY", "1600"))
#: Resident bytes that one connection may cost before sign-in, TLS included.
PER_CONNECTION = 128 * KiB


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Daemon]:
    """A daemon that is alive and quiet in the end."""
    made = lab.daemon()
    yield made
    assert made.alive
    made.clean_log()


@pytest.fixture
def key(daemon: Daemon) -> Identity:
    """The daemon's own key."""
    return load(str(daemon.home / "identity.key"))


def strangers(daemon: Daemon) -> int:
    """How many connections that are not signed in the daemon holds."""
    text = daemon.call("metrics.get")["text"]
    return int(next(line for line in text.splitlines() if 'signed_in="no"' in line).rpartition(" ")[2])


def at_rest(daemon: Daemon) -> Cost:
    """What it holds when nothing is just ending, such as our own question on the control socket."""
    seen: list[Cost] = []

    def still() -> bool:
        seen.append(cost(daemon.pid))
        return len(seen) >= 10 and len({one.descriptors for one in seen[-10:]}) == 1

    until(still, "its descriptors stay the same", said=daemon)
    return seen[-1]


@pytest.mark.slow
@pytest.mark.case("B26")
def test_a_crowd_of_strangers_and_a_transfer(lab: Lab, daemon: Daemon) -> None:
    """Hundreds that say nothing and hundreds that trickle, all of whom come back: the transfer is whole."""
    source = lab.root / "source"
    make_tree(source, {"large": 24 * MiB, **{f"small/{n}": 100 + n for n in range(200)}})
    before = cost(daemon.pid)
    with crowd(daemon.port, STRANGERS, STRANGERS) as returns:
        until(lambda: strangers(daemon) == limits.UNSIGNED_TOTAL, "the door is full", said=daemon)
        for into in ("one", "two"):
            lab.send(daemon, "--into", into, "source")
        during = cost(daemon.pid)
        until(lambda: returns[0] > 2 * STRANGERS, "they come back", 20 + STRANGERS / 10)
    for into in ("one", "two"):
        assert snapshot(daemon.inbox / into / "source") == snapshot(source)
    assert during.descriptors <= before.descriptors + limits.UNSIGNED_TOTAL + 60
    assert during.resident < 200 * MiB
    assert len(daemon.text().splitlines()) < 30
    until(lambda: strangers(daemon) == 0, "all are gone", 20, said=daemon)


@pytest.mark.parametrize("stage", ["half a handshake", "half a hello"])
def test_memory_of_a_stranger(stage: str, daemon: Daemon, key: Identity) -> None:
    """Whatever it has begun, a connection that is not signed in costs less than 128 KiB, TLS included."""
    # So few that all can be there within HELLO_DEADLINE, also on a machine that is busy.
    first, count = 10, 40

    def arrive() -> socket.socket | Hostile:
        if stage == "half a handshake":
            one = connect(daemon.port)
            one.sendall(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + bytes(16_000))
            return one
        client = Hostile(daemon.port, key)
        client.send(bytes([0, 0, 0x0F, 0xFF, 1]) + bytes(4000))
        return client

    with contextlib.ExitStack() as stack:
        for _ in range(first):
            stack.enter_context(arrive())
        until(lambda: strangers(daemon) == first, "the first are in", said=daemon)
        before = cost(daemon.pid)
        for _ in range(count):
            stack.enter_context(arrive())
        until(lambda: strangers(daemon) == first + count, "all are in", said=daemon)
        each = (cost(daemon.pid).resident - before.resident) / count
    print(f"{stage}: {each / KiB:.0f} KiB for each connection")
    assert each < PER_CONNECTION


@pytest.mark.slow
def test_connections_leave_nothing_behind(daemon: Daemon, key: Identity) -> None:
    """One after the other, ended in every way there is: no descriptor, no thread, and at most a MiB of memory.

    Memory is counted from where the bounded tables are full and the heap has its size: the hundred jobs that are
    remembered take five hundred connections, caches and arenas about as many more. From the first connection on it
    is 2.5 MiB for a thousand, 0.4 for the second thousand, then 0.4 for eight thousand more, most of it what is
    remembered of each source of refusals, which ends with PENALTY_SOURCES and COMPLAINT_SOURCES of them.
    """
    stranger = Identity.generate()

    def cycle(number: int) -> None:
        way = number % 5
        if way == 0:
            connect(daemon.port).close()
        elif way == 1:
            with connect(daemon.port) as one:
                one.sendall(b"GET / HTTP/1.1\r\n\r\n")
        elif way == 2:
            # from a new place before its refusals are held back, for that would be what is waited for
            place = number // 5 // limits.PENALTY_FREE
            with Hostile(daemon.port, stranger, source=f"127.0.{place // 250}.{1 + place % 250}") as client:
                client.send(Hello("ftx", 1, 1, [], "x", "x", False))
                client.end()
        else:
            with Hostile(daemon.port, key) as client:
                client.greet()
                if way == 4:
                    client.offer(b"cycle", job=os.urandom(16))
                    client.announce([entry(0, b"a", size=5)])
                else:
                    client.send(Goodbye())
                    client.end()

    def quiet() -> bool:
        return strangers(daemon) == 0 and 'signed_in="yes"} 0' in daemon.call("metrics.get")["text"]

    for number in range(WARM_UP):
        cycle(number)
    daemon.idle()
    until(quiet, "the first are gone", said=daemon)
    before = half = at_rest(daemon)
    for number in range(WARM_UP, WARM_UP + CYCLES):
        if number == WARM_UP + CYCLES // 2:
            half = cost(daemon.pid)
        cycle(number)
    daemon.idle()
    until(quiet, "all are gone", said=daemon)
    after = at_rest(daemon)
    grown = [later.resident - earlier.resident for earlier, later in ((before, half), (half, after))]
    print(f"{CYCLES} connections after {WARM_UP}: {sum(grown):+,} bytes resident, in halves {grown}")
    assert after.descriptors == before.descriptors
    assert after.threads == before.threads
    assert sum(grown) <= MiB
    assert grown[1] <= MiB / 2


@pytest.mark.slow
@pytest.mark.case("H130")
def test_many_slow_peers_and_a_fast_one(lab: Lab, daemon: Daemon) -> None:
    """Signed in, each with a job and a file of which a piece comes now and then: the fast one is not held up."""
    make_tree(lab.root / "fast", {"large": 16 * MiB, **{f"small/{n}": 50 for n in range(100)}})
    piece = raw_frame(FrameType.DATA, struct.pack(">IQBB", 0, 0, 0, 0) + bytes(100))
    keys = [Identity.generate() for _ in range(SLOW)]

    def paired(store: TrustStore) -> TrustStore:
        for number, one in enumerate(keys):
            store = store.add(Peer(f"slow{number}", one.id, (), "2026-11-22", None))
        return store

    peers.update(str(daemon.home / "peers.toml"), paired)
    until(lambda: daemon.call("daemon.status")["peers_paired"] == SLOW, "all are paired", said=daemon)
    with contextlib.ExitStack() as stack:
        slow = []
        for number, one in enumerate(keys):
            client = stack.enter_context(Hostile(daemon.port, one))
            slow.append(client)
            client.greet()
            client.offer(b"slow", job=os.urandom(16))
            client.announce([entry(0, b"%04d" % number, size=MiB)])
            client.until(Needs)
            for each in slow if number % 10 == 9 else (client,):
                each.send(piece)  # or the first would be silent for too long where the machine is busy
        before = cost(daemon.pid)
        lab.send(daemon, "fast")
        for client in slow:
            client.send(piece)
        assert daemon.call("daemon.status")["jobs"]["active"] == SLOW
        print(f"{SLOW} slow jobs: {before.resident / MiB:.0f} MiB resident in all")
    assert snapshot(daemon.inbox / "fast") == snapshot(lab.root / "fast")
    daemon.idle()


@pytest.mark.slow
@pytest.mark.case("H135")
def test_tiny_files_in_flat_memory(lab: Lab, daemon: Daemon) -> None:
    """Three times as many tiny files take no more memory than the first third, and far fewer syncs than files."""
    for number in range(TINY):
        folder = lab.root / ("first" if number < TINY // 4 else "more") / f"{number // 500}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}").write_bytes(b"%d" % number)
    lab.send(daemon, "first")
    before = daemon.memory()
    lab.send(daemon, "more")
    print(f"{TINY} files: {daemon.memory() - before:+,} bytes at most")
    assert daemon.memory() - before < 8 * MiB
    assert sum(1 for path in (daemon.inbox / "more").rglob("*") if path.is_file()) == TINY - TINY // 4


# -- without descriptors -----------------------------------------------------------------------------------


def allow(daemon: Daemon, more: int | None) -> None:
    """Let the daemon open so many descriptors beyond those it has; None: as many as it likes."""
    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir(f"/proc/{daemon.pid}/fd"))
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard if more is None else highest + 1 + more, hard))


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file below `folder`."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.case("G118")
def test_no_descriptors_at_the_door(lab: Lab, daemon: Daemon) -> None:
    """New connections wait or are dropped, no processor time is burnt, and as soon as there are some it goes on."""
    (lab.root / "a").write_bytes(b"1")
    lab.send(daemon, "--into", "before", "a")
    with contextlib.ExitStack() as stack:
        allow(daemon, 0)
        for _ in range(40):
            stack.enter_context(connect(daemon.port))
        until(lambda: "no connections taken for now" in daemon.text(), "it says so", said=daemon)
        spent = processor_seconds(daemon.pid)
        lines = len(daemon.text().splitlines())
        threading.Event().wait(2 * limits.ACCEPT_PAUSE)  # nothing is waited for: it is to do nothing
        assert processor_seconds(daemon.pid) - spent < 0.5 * limits.ACCEPT_PAUSE
        assert len(daemon.text().splitlines()) - lines <= 5
        daemon.signal(signal.SIGUSR1)
        until(lambda: "0 running jobs" in daemon.text(), "the log needs no descriptor", said=daemon)
        allow(daemon, None)
    lab.send(daemon, "--into", "after", "a")
    assert (daemon.inbox / "after" / "a").read_bytes() == b"1"


@pytest.mark.case("G118")
@pytest.mark.parametrize("more", [2, 8])
def test_no_descriptors_for_files(more: int, lab: Lab, daemon: Daemon) -> None:
    """What cannot be opened fails, with a reason; nothing half is there, and the same command completes it later."""
    source = lab.root / "source"
    make_tree(source, {"large": 3 * MiB, "d/e/f": 2 * MiB, **{f"small/{n}": 10 for n in range(20)}})
    lab.send(daemon, "--into", "warm", source / "small")
    allow(daemon, more)
    client = lab.send(daemon, "source", code=None)
    assert client.wait() in (0, 4, 6, 9), client.text()
    assert "Traceback" not in client.text()
    assert contents(daemon.inbox / "source").items() <= contents(source).items()
    allow(daemon, None)
    daemon.idle()
    lab.send(daemon, "source")
    assert contents(daemon.inbox / "source") == contents(source)
    assert daemon.partials() == []


def test_the_log_is_few_lines(lab: Lab, daemon: Daemon) -> None:
    """Hundreds of strangers of each kind, from one place: a line for each kind of failure."""
    for number in range(300):
        with connect(daemon.port) as one:
            one.sendall([b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", os.urandom(40)][number % 3])
            with contextlib.suppress(OSError):
                one.recv(100)
    assert len(Path(daemon.out).read_text("utf-8").splitlines()) < 12
