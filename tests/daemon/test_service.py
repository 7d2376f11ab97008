"""The daemon as a whole, in this process."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bounded import bounded, until
from support.faults import Fault
from support.hostile import Hostile, entry
from support.inboxes import Sending
from support.ports import free_port
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from ftx import limits
from ftx.core.peers import Peer
from ftx.daemon.config import Request, load
from ftx.daemon.service import Daemon, make_service
from ftx.disk.keys import load_or_create
from ftx.disk.peers import update
from ftx.errors import kind
from ftx.net.transfer import our_hello
from ftx.wire.events import iso_time
from ftx.wire.messages import Manifest, Results


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Every line that is logged."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def started(reactor: Any, folder: Path, **more: Any) -> Daemon:
    """A daemon that leaves the signals alone."""
    options: dict[str, Any] = {"listen": ["tcp:0:interface=127.0.0.1"], "no_control": True}
    options |= more or {"no_discovery": True}
    daemon = make_service(load(Request(options, str(folder / "home"))), reactor, owns_process=False)
    daemon.privilegedStartService()
    daemon.startService()
    return daemon


@bounded(30)
async def test_a_flood_of_failures_is_no_flood_of_lines(reactor: Any, short_tmp: Path, logged: list[str]) -> None:
    """Offers of what never fits, and a stranger who knocks: a few lines, however many there are and however long."""
    daemon = started(reactor, short_tmp)
    port = daemon.listening.addresses[0][1]
    count = 20 * limits.STORAGE_LINES

    def offer_what_does_not_fit(job: bytes) -> None:
        with Hostile(port, daemon.identity) as greedy:
            greedy.greet()
            greedy.offer(job=job)
            names = [entry(number, b"%04d" % number, size=limits.FILE_SIZE) for number in range(count)]
            greedy.send(Manifest(names, False))
            answered = 0
            while answered < count:
                answered += len(greedy.until(Results).results)

    def knock() -> None:
        stranger = load_or_create(str(short_tmp / "stranger.key"))
        for _ in range(limits.PENALTY_FREE + 2):  # more would be held back for longer and longer
            with Hostile(port, stranger) as unknown:
                unknown.send(our_hello("nobody"))
                assert unknown.end() == kind("untrusted").number

    def pair_somebody() -> None:
        update(daemon.config.places.peers, lambda store: store.add(Peer("pi", bytes(32), (), iso_time())))

    try:
        await deferToThread(offer_what_does_not_fit, b"1" * 16)
        # The daemon looks at its peers twice a second; that it has complained must outlive such a look.
        reception = daemon.reception
        assert reception is not None
        await deferToThread(pair_somebody)
        await until(lambda: reception.paired == 1)
        await deferToThread(offer_what_does_not_fit, b"2" * 16)
        await deferToThread(knock)
        await until(lambda: reception.connections == (0, 0))
    finally:
        await daemon.stopService()
    assert sum(line.startswith("storage: ") for line in logged) == limits.STORAGE_LINES
    assert sum(line.startswith("connection from 127.0.0.1 ended: ") for line in logged) == 1


@pytest.mark.case("E89")
@bounded(30)
async def test_what_a_person_has_to_do_is_said(reactor: Any, short_tmp: Path, logged: list[str]) -> None:
    """A sync of a folder fails when the lines for failures are used up: the log says what to do, once."""
    daemon = started(reactor, short_tmp)
    inbox = daemon.inbox
    assert inbox is not None
    tree: dict[str, bytes | None] = {"folder": None, "folder/file": b"file"}

    def fail() -> None:
        for number in range(2 * limits.STORAGE_LINES):  # failures of files, as many as anybody likes
            with Fault("fsync", 1, errno.EIO):
                other = Sending(inbox, {f"other-{number}": b"other"}, job=b"o" * 16)
                other.offer()
                other.send_small()
                other.store.close()
        for _ in range(2):
            with Fault("fsync", 2, errno.EIO):  # the first is the file's own
                sending = Sending(inbox, tree)
                sending.offer()
                sending.send_small()
                sending.store.close()
                assert sending.result("folder/file") == "storage-failed"

    try:
        await deferToThread(fail)
    finally:
        await daemon.stopService()
    said = [line for line in logged if line.startswith("storage: ")]
    assert len([line for line in said if "input/output error" in line]) == limits.STORAGE_LINES
    assert len([line for line in said if "restart the daemon" in line]) == 1, said


@pytest.mark.parametrize(
    ("said", "opened"),
    [({"discovery": "off"}, False), ({"no_discovery": True}, False), ({"discovery": "paired"}, True), ({}, True)],
)
@bounded(30)
async def test_I150_discovery_that_is_off_has_no_socket(
    reactor: Any, short_tmp: Path, said: dict[str, Any], opened: bool
) -> None:
    """Its port is free for anybody; with discovery on, it is not."""
    port = free_port(socket.SOCK_DGRAM)
    daemon = started(reactor, short_tmp, discovery_port=str(port), discovery_interface=["lo"], **said)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            try:
                other.bind(("0.0.0.0", port))
                free = True
            except OSError:
                free = False
        assert free is not opened
        discovery = daemon.view.status().discovery
        assert (discovery is not None) is opened
        assert discovery is None or discovery.answers == said.get("discovery", "everyone")
    finally:
        await daemon.stopService()
