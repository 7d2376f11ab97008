"""What arrives at the port of a daemon that is not a peer, or is one that keeps no rules.

Every case: a stable error or a close, the daemon lives, nothing is visible, no traceback in the log, and few lines.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import msgspec
import pytest
from support.gate import Gate
from support.hostile import JOB, Hostile, data, entry, raw_frame
from support.lab import Daemon, Lab, rests, until
from support.trees import MiB, make_tree, snapshot, visible

from ftx import limits
from ftx.disk.keys import Identity, load
from ftx.errors import KINDS
from ftx.wire.frames import FrameType
from ftx.wire.messages import (
    Accept,
    End,
    EntryEnd,
    EntryFailed,
    Failed,
    FolderEnd,
    FolderEntry,
    Goodbye,
    Manifest,
    Needs,
    Offer,
    Ping,
    Results,
    Totals,
    encode,
)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Lab, Daemon]]:
    """One daemon for every case: it has to live through all of them."""
    root = Path(tempfile.mkdtemp(prefix="ftx-", dir="/tmp"))
    with Lab(root) as lab:
        yield lab, lab.daemon()
    shutil.rmtree(root)


@pytest.fixture
def daemon(shared: tuple[Lab, Daemon]) -> Iterator[Daemon]:
    """The shared daemon, which must be alive and have nothing visible after the case."""
    _, one = shared
    yield one
    assert one.alive
    assert [path for path in visible(one.inbox) if not path.startswith(b"ok/")] == []
    until(lambda: one.call("daemon.status")["jobs"]["active"] == 0, "no job is left", said=one)
    one.clean_log()


@pytest.fixture
def key(daemon: Daemon) -> Identity:
    """The daemon's own key: signed in, and so let into every room."""
    return load(str(daemon.home / "identity.key"))


# -- before TLS --------------------------------------------------------------------------------------------

GARBAGE = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.9\r\n",
    "random": bytes(range(256)) * 16,
    "a TLS record that is none": b"\x16\x03\x01\x00\x05hello",
    "TLS 1.0 hello": bytes.fromhex("160301002f0100002b0301") + bytes(32) + bytes.fromhex("000004002f000a0100"),
    "frames without TLS": raw_frame(1, b"\x97\xa3ftx\x01\x01\x90\xa1x\xa1x\xc2"),
    "zeros": bytes(70_000),
}


@pytest.mark.case("A18", "A19")
@pytest.mark.parametrize("what", GARBAGE)
def test_what_is_not_tls_is_closed(what: str, daemon: Daemon) -> None:
    """Closed at once, with at most one line in the log."""
    lines = len(daemon.text().splitlines())
    with socket.create_connection(("127.0.0.1", daemon.port), 5) as client, contextlib.suppress(OSError):
        client.sendall(GARBAGE[what])
        while client.recv(4096):
            pass
    assert len(daemon.text().splitlines()) <= lines + 1


@pytest.mark.case("B28", "B33")
@pytest.mark.parametrize("alpn", [None, "h2"])
def test_tls_without_our_protocol_or_without_a_key(alpn: str | None, daemon: Daemon) -> None:
    """A browser: TLS, but no ALPN of ours and no certificate."""
    lines = len(daemon.text().splitlines())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols([alpn])
    with (
        socket.create_connection(("127.0.0.1", daemon.port), 5) as plain,
        contextlib.suppress(OSError),
        context.wrap_socket(plain) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.recv(4096) == b""
    assert len(daemon.text().splitlines()) <= lines + 1


@pytest.mark.case("B38")
def test_a_stranger_learns_nothing(daemon: Daemon) -> None:
    """A key nobody knows: `untrusted`, and not even a hello."""
    with Hostile(daemon.port, Identity.generate()) as client, pytest.raises(AssertionError, match="closed"):
        client.greet()
    with Hostile(daemon.port, Identity.generate()) as client:
        client.send(raw_frame(FrameType.OFFER, b"\x90"))
        assert client.end() in range(800, 900)


# -- frames and stages -------------------------------------------------------------------------------------

#: What is sent before hello, right after hello, and in a job of one wanted file of one byte; and the error it earns.
BEFORE: dict[str, tuple[bytes, str]] = {
    "a length over the bound": (raw_frame(1, b"", length=limits.FRAME_BEFORE_SIGN_IN + 1), "frame-too-large"),
    "the longest length": (raw_frame(1, b"", length=2**32 - 1), "frame-too-large"),
    "an unknown type": (raw_frame(0x7F, b""), "unknown-frame"),
    "ping before hello": (encode(Ping(1)), "wrong-state"),
    "offer before hello": (encode(Offer(JOB, 0, [], None, None, None, None)), "wrong-state"),
    "a body that is not MessagePack": (raw_frame(1, b"\xc1"), "bad-message"),
    "an empty body": (raw_frame(1, b""), "bad-message"),
    "too few fields": (raw_frame(1, msgspec.msgpack.encode(["ftx", 1])), "bad-message"),
    "bytes behind the array": (
        raw_frame(1, msgspec.msgpack.encode(["ftx", 1, 1, [], "x", "x", False]) + b"\x00"),
        "bad-message",
    ),
    "a deep nest": (raw_frame(1, b"\x91" * 4000), "bad-message"),
    "another protocol": (raw_frame(1, msgspec.msgpack.encode(["xtf", 1, 1, [], "x", "x", False])), "not-ftx"),
    "a name that is no UTF-8": (raw_frame(1, b"\x97\xa3ftx\x01\x01\x90\xa1\xff\xa1x\xc2"), "bad-message"),
}
SIGNED_IN: dict[str, tuple[bytes, str]] = {
    "hello again": (raw_frame(1, msgspec.msgpack.encode(["ftx", 1, 1, [], "x", "x", False])), "wrong-state"),
    "a length over the bound": (raw_frame(FrameType.MANIFEST, b"", length=limits.FRAME_BATCH + 1), "frame-too-large"),
    "a reserved type": (raw_frame(0x28, b"\x90"), "unknown-frame"),
    "data without a job": (data(0, 0, b"x"), "wrong-state"),
    "manifest without a job": (encode(Manifest([], True)), "wrong-state"),
    "the other side's message": (encode(Results([Failed(0, 606)])), "wrong-state"),
    "into the parent": (encode(Offer(JOB, 0, [b".."], None, None, None, None)), "bad-name"),
    "into an absolute path": (encode(Offer(JOB, 0, [b"/etc"], None, None, None, None)), "bad-name"),
    "into a name with NUL": (encode(Offer(JOB, 0, [b"a\0b"], None, None, None, None)), "bad-name"),
    "a job id that is too short": (
        raw_frame(FrameType.OFFER, msgspec.msgpack.encode([b"x", 0, [], None, None, None, None])),
        "bad-message",
    ),
    "a thousand pings": (encode(Ping(1)) * 1000, "protocol-error"),
    "a data frame shorter than its header": (raw_frame(FrameType.DATA, b"\0" * 5), "bad-message"),
    "a data frame with an unknown encoding": (
        raw_frame(FrameType.DATA, struct.pack(">IQBB", 0, 0, 9, 1) + bytes(33)),
        "bad-message",
    ),
    "a piece over the bound": (raw_frame(FrameType.DATA, b"", length=200_000), "frame-too-large"),
}
IN_A_JOB: dict[str, tuple[bytes, str]] = {
    "a file nobody announced": (data(7, 0, b"x"), "protocol-error"),
    "a block there is not": (data(0, 1, b"x"), "protocol-error"),
    "too much data": (data(0, 0, b"xy"), "protocol-error"),
    "a block twice": (data(0, 0, b"x") + data(0, 0, b"x"), "protocol-error"),
    "a second offer": (encode(Offer(b"another job 0001", 0, [], None, None, None, None)), "wrong-state"),
    "goodbye in the middle": (encode(Goodbye()), "wrong-state"),
    "a manifest after the last": (encode(Manifest([], True)), "wrong-state"),
    "an end that comes too early": (encode(End(1, 0, 1, bytes(32))), "protocol-error"),
    "an entry-end for a file of one block": (encode(EntryEnd(0, 1, bytes(32))), "protocol-error"),
    "the failure of a file nobody announced": (encode(EntryFailed(9, 303)), "protocol-error"),
}


def name_of(number: int | None) -> str:
    """The name of an error by its number."""
    return next((kind.name for kind in KINDS.values() if kind.number == number), f"{number}")


@pytest.mark.case("A1", "A3", "A7", "A9", "A11", "A14")
@pytest.mark.parametrize("what", BEFORE)
def test_before_hello(what: str, daemon: Daemon, key: Identity) -> None:
    """The first frame is wrong."""
    with Hostile(daemon.port, key) as client:
        client.send(BEFORE[what][0])
        assert name_of(client.end()) == BEFORE[what][1]


@pytest.mark.case("A2", "A7", "A9", "A20")
@pytest.mark.parametrize("what", SIGNED_IN)
def test_signed_in(what: str, daemon: Daemon, key: Identity) -> None:
    """A known key is no better."""
    with Hostile(daemon.port, key) as client:
        client.greet()
        client.send(SIGNED_IN[what][0])
        assert name_of(client.end()) == SIGNED_IN[what][1]


@pytest.mark.case("A9", "A16", "A17", "C65")
@pytest.mark.parametrize("what", IN_A_JOB)
def test_in_a_job(what: str, daemon: Daemon, key: Identity) -> None:
    """What was not asked for ends the session; of the job, nothing is visible that was not whole."""
    with Hostile(daemon.port, key) as client:
        client.greet()
        client.offer(b"ok", job=os.urandom(16))
        client.announce([entry(0, os.fsencode(what))])
        client.until(Needs)
        client.send(IN_A_JOB[what][0])
        assert name_of(client.end()) == IN_A_JOB[what][1]


# -- manifests ---------------------------------------------------------------------------------------------

MANIFESTS: dict[str, tuple[list[object], str]] = {
    "the parent": ([entry(0, b"..", b"x")], "bad-name"),
    "the folder itself": ([entry(0, b".")], "bad-name"),
    "an absolute path": ([entry(0, b"/etc/passwd")], "bad-name"),
    "a NUL": ([entry(0, b"a\0")], "bad-name"),
    "an empty component": ([entry(0, b"")], "bad-message"),
    "a name of 256 bytes": ([entry(0, b"x" * 256)], "bad-message"),
    "65 levels": ([entry(0, *[b"x"] * 65)], "bad-message"),
    "a path of more than 4,096 bytes": ([entry(0, *[b"x" * 255] * 20)], "bad-name"),
    "unsorted": ([entry(0, b"b"), entry(1, b"a")], "bad-message"),
    "twice": ([entry(0, b"a"), entry(1, b"a")], "bad-message"),
    "a file that is a folder": ([entry(0, b"a"), FolderEntry(1, [b"a"])], "bad-message"),
    "a child before its folder": ([entry(0, b"a", b"b")], "bad-message"),
    "a child of a file": ([entry(0, b"a"), entry(1, b"a", b"b")], "bad-message"),
    "a folder that is not closed": ([FolderEntry(0, [b"a"])], "bad-message"),
    "the end of no folder": ([FolderEnd(0, 0o755, 1)], "bad-message"),
    "a number too far": ([entry(5, b"a")], "bad-message"),
    "a number again": ([entry(0, b"a"), entry(0, b"b")], "bad-message"),
    "a setuid bit": ([entry(0, b"a", mode=0o4755)], "bad-message"),
    "a negative size": ([entry(0, b"a", size=-1)], "bad-message"),
}


@pytest.mark.case("C49", "C50", "C53", "C55", "C56", "C59", "C61")
@pytest.mark.parametrize("what", MANIFESTS)
def test_manifests(what: str, daemon: Daemon, key: Identity) -> None:
    """No path on the wire leads out, and no order but the one there is."""
    entries, error = MANIFESTS[what]
    with Hostile(daemon.port, key) as client:
        client.greet()
        client.offer(job=os.urandom(16))
        client.announce(entries)
        assert name_of(client.end()) == error


#: Names that are possible, and not welcome: they fail alone.
UNWELCOME = {
    "the reserved folder": [b".ftx", b"records.db"],
    "the reserved folder in capitals": [b".FTX", b"x"],
    "a dot at the top": [b".bashrc"],
    "an escape sequence": [b"a\x1b]0;x\x07"],
    "a line feed": [b"a\nb"],
    "a C1 control": ["a\x9bb".encode()],
}


@pytest.mark.case("C51", "C63")
@pytest.mark.parametrize("what", UNWELCOME)
def test_unwelcome_names_fail_alone(what: str, daemon: Daemon, key: Identity) -> None:
    """bad-name as the result of that entry; the session goes on."""
    path = UNWELCOME[what]
    with Hostile(daemon.port, key) as client:
        client.greet()
        client.offer(job=os.urandom(16))
        entries: list[object] = [entry(0, *path)]
        if len(path) > 1:
            entries = [FolderEntry(0, path[:1]), entry(1, *path), FolderEnd(0, 0o755, 1)]
        client.announce(entries)
        results: Results = client.until(Results)
        assert isinstance(results.results[0], Failed)
        assert name_of(results.results[0].error) == "bad-name"
        client.send(Ping(1))
    assert os.stat(daemon.inbox / ".ftx").st_mode & 0o777 == 0o700


def test_more_than_was_offered(daemon: Daemon, key: Identity) -> None:
    """Numbers in an offer are a ceiling."""
    with Hostile(daemon.port, key) as client:
        client.greet()
        client.send(Offer(os.urandom(16), 0, [], None, 1, 0, 10))
        client.until(Accept)  # what comes with the offer comes too early
        client.announce([entry(0, b"a"), entry(1, b"b")])
        assert name_of(client.end()) == "over-offer"


@pytest.mark.case("C58")
def test_more_entries_than_the_window(daemon: Daemon, key: Identity) -> None:
    """The receiver holds the sender to its window: what it keeps of a manifest is bounded."""
    with Hostile(daemon.port, key) as client:
        client.greet()
        client.offer(b"ok", job=os.urandom(16))
        number = 0
        frames = []
        while number < limits.WINDOW_UNACKNOWLEDGED + 2 * limits.BATCH:
            batch = [entry(n, b"%08d" % n) for n in range(number, number + limits.BATCH)]
            frames.append(encode(Manifest(batch, False)))
            number += limits.BATCH
        client.send(*frames)
        assert name_of(client.end()) == "protocol-error"


@pytest.mark.case("C66", "C67")
def test_lies_about_content(daemon: Daemon, key: Identity) -> None:
    """A digest that does not fit fails the file, not the job; a file digest that does not fit fails it too."""
    with Hostile(daemon.port, key) as client:
        client.greet()
        client.offer(job=os.urandom(16))
        client.announce([entry(0, b"a"), entry(1, b"b", size=MiB + 1)])
        wanted = 0
        while wanted < 2:
            wanted += len(client.until(Needs).wants)
        client.send(data(0, 0, b"x", digest=bytes(32)))
        client.send(data(1, 0, bytes(range(256)) * 4096), data(1, 1, b"x"), EntryEnd(1, MiB + 1, bytes(32)))
        failed: dict[int, str] = {}
        while len(failed) < 2:
            for result in client.until(Results).results:
                assert isinstance(result, Failed)
                failed[result.number] = name_of(result.error)
        assert failed == {0: "digest-mismatch", 1: "digest-mismatch"}
    daemon.idle()
    assert daemon.partials() == []


def test_crumbs(daemon: Daemon, key: Identity) -> None:
    """A block in more than 64 pieces."""
    with Hostile(daemon.port, key) as client:
        client.greet()
        client.offer(job=os.urandom(16))
        client.announce([entry(0, b"a", size=1000)])
        client.until(Needs)
        crumb = raw_frame(FrameType.DATA, struct.pack(">IQBB", 0, 0, 0, 0) + b"x")
        client.send(crumb * (limits.BLOCK_PIECES + 1))
        assert client.end() in range(800, 900)


@pytest.mark.case("C67")
def test_a_wrong_sum(daemon: Daemon, key: Identity) -> None:
    """An `end` whose sum or transcript is not the receiver's: no receipt."""
    with Hostile(daemon.port, key) as client:
        client.greet()
        client.offer(b"ok", job=os.urandom(16))
        client.announce([entry(0, b"whole")])
        client.until(Needs)
        client.send(data(0, 0, b"x"))
        client.until(Results)
        client.send(Totals(1, 0, 1), End(1, 0, 1, bytes(32)))
        assert client.end() in range(800, 900)


# -- time and memory ---------------------------------------------------------------------------------------


@pytest.mark.case("B24", "B25")
@pytest.mark.slow
def test_silence_before_hello(daemon: Daemon, key: Identity) -> None:
    """Ten seconds from the first byte to hello, whether TLS stands or not, and whatever trickles."""
    begun = monotonic()
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), 5))
        trickle = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), 5))
        trickle.sendall(b"\x16\x03\x01\x02\x00\x01")
        client = stack.enter_context(Hostile(daemon.port, key))
        client.send(raw_frame(1, b"", length=100))
        assert name_of(client.end()) == "hello-timeout"
        # Twice as long on a machine that is busy; what is silent for other reasons is given three times as long.
        assert limits.HELLO_DEADLINE - 0.5 < monotonic() - begun < 2 * limits.HELLO_DEADLINE < limits.SILENCE
        for one in (silent, trickle):
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b""
    daemon.clean_log()


@pytest.mark.case("A23")
def test_a_refused_peer_that_never_closes(daemon: Daemon, key: Identity) -> None:
    """The daemon ends the connection itself, however much still comes: long before silence would end it."""
    with Hostile(daemon.port, key) as client:
        client.greet()
        client.send(raw_frame(0x7F, b""))
        client.send_until_blocked(bytes(65536), 64 * MiB)
        assert name_of(client.end()) in ("unknown-frame", "None")  # the word may be lost with what it had not read
    until(lambda: 'signed_in="yes"} 0' in daemon.call("metrics.get")["text"], "it is gone")


def test_a_peer_that_never_reads(daemon: Daemon, key: Identity) -> None:
    """Answers that nobody takes are bounded by the windows."""
    before = daemon.memory()
    with Hostile(daemon.port, key, receive_buffer=4096) as client:
        client.greet()
        client.offer(job=os.urandom(16))
        batches = [
            Manifest([entry(n, b"%08d" % n, size=1) for n in range(start, start + limits.BATCH)], False)
            for start in range(0, limits.WINDOW_UNANSWERED, limits.BATCH)
        ]
        client.send(*batches)
        client.send(Ping(1), Ping(2))
        until(lambda: daemon.call("daemon.status")["jobs"]["active"] == 1, "the job runs")
        assert daemon.memory() - before < 16 * MiB
    daemon.idle()


def test_memory_of_a_receiver_that_is_flooded(daemon: Daemon, key: Identity) -> None:
    """64 MiB as fast as they go: what waits for the disk is bounded, the rest waits at the sender."""
    blocks = 64
    content = os.urandom(MiB)
    with Hostile(daemon.port, key, seconds=20) as client:
        client.greet()
        client.offer(job=os.urandom(16))
        client.announce([entry(0, b"flood", size=blocks * MiB)])
        client.until(Needs)
        before = daemon.memory()
        for block in range(blocks):
            client.send(data(0, block, content))
        until(lambda: daemon.call("jobs.list")["jobs"][-1]["bytes_confirmed"] == blocks * MiB, "all came", said=daemon)
        assert daemon.memory() - before < 24 * MiB
    daemon.idle()


@pytest.mark.case("B26")
def test_a_crowd_of_silent_connections(shared: tuple[Lab, Daemon], daemon: Daemon) -> None:
    """Three hundred that say nothing do not keep an honest client out; the oldest make room."""
    lab, _ = shared
    (lab.root / "honest").write_bytes(b"1")
    with contextlib.ExitStack() as stack:
        crowd = [
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), 5))
            for _ in range(limits.UNSIGNED_TOTAL + 44)
        ]
        lab.send(daemon, "--into", "ok", "honest")
        crowd[0].settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert crowd[0].recv(1) == b""
    assert (daemon.inbox / "ok" / "honest").read_bytes() == b"1"


# -- a hostile or dead receiver ----------------------------------------------------------------------------


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"", bytes(100)])
def test_a_server_that_is_not_ftx(says: bytes, lab: Lab) -> None:
    """Exit 8 (or 5 where it only closes), one sentence, no traceback."""
    (lab.root / "a").write_bytes(b"1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        client = lab.sending(f"ftx://127.0.0.1:{server.getsockname()[1]}", "a")
        with server.accept()[0] as accepted:
            accepted.settimeout(10)
            accepted.recv(65536)
            accepted.sendall(says)
            if not says:  # which may be tried again: a server with too many strangers at its door does the same
                server.close()
                accepted.close()
            client.wait()
    lost = ("connection-lost", "connection-reset", "connection-refused", "tls-failed")
    assert client.failure()["name"] in (("not-ftx",) if says else lost)
    assert client.wait() in ((8,) if says else (4, 5))
    assert "Traceback" not in client.text()


@pytest.mark.case("F104", "F106")
def test_a_receiver_that_stops_reading(lab: Lab) -> None:
    """The sender's memory does not grow with what it cannot send, and it sends all once it can."""
    make_tree(lab.root / "source", {"large": 48 * MiB})
    daemon = lab.daemon()
    with Gate(daemon.port, hold=2 * MiB) as gate:
        client = lab.sending(gate.url, "source")
        gate.wait()
        client.reaches("progress", bytes_confirmed=1 * MiB)
        read = rests(lambda: client.io()["rchar"], "a sender that waits")
        print(f"{read / MiB:.0f} MiB were read, its own modules included, and {client.memory() / MiB:.0f} MiB kept")
        assert read < 40 * MiB, "it reads on, though nothing goes"
        held = client.memory()
        gate.open()
        client.ends()
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    assert held < 120 * MiB
    daemon.clean_log()

