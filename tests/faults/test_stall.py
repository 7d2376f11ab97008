"""A disk that stalls: nothing that is not about this disk waits for it, nobody gives up, and the stage has its name.

The disk is a loop device over a file whose server is stopped (`faults.recorder`), so every write and every flush that
reaches the disk hangs, as with a drive that has gone to sleep. STALL_SECONDS: for how long (`make stall`: 35).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.recorder import Recorded, missing_means, run
from support.gate import Gate
from support.lab import Lab
from support.trees import MiB, make_tree, snapshot

from ftx.wire.announce import NONCE_BYTES, Query, Way, encode_query

SECONDS = float(os.environ.get("STALL_SECONDS", "1.2"))
#: What an answer may take, in seconds.
PROMISED = 0.1


@pytest.fixture
def disk() -> Iterator[Recorded]:
    """A disk that can be stalled."""
    lacking = missing_means()
    if lacking is not None:
        pytest.skip(lacking)
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    work = Path(tempfile.mkdtemp(prefix="ftx-stall-", dir=base))
    image = work / "image"
    with image.open("wb") as file:
        file.truncate(64 * MiB)
    run("mkfs.ext4", "-q", "-F", image)
    try:
        with Recorded(work, image, "commit=600") as made:
            yield made
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop devices here: {error.stderr}")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def asked(port: int) -> float:
    """How long the daemon takes to answer a discovery query, in seconds."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        begun = time.monotonic()
        client.sendto(encode_query(Query(Way.UNICAST, os.urandom(NONCE_BYTES))), ("127.0.0.1", port))
        client.recv(4096)
        return time.monotonic() - begun


@pytest.mark.case("E93")
def test_a_disk_that_stalls_in_sync(short_tmp: Path, disk: Recorded) -> None:
    """Control and discovery answer meanwhile, no connection is given up, the stage is `syncing`, and all is stored."""
    (short_tmp / "lab").mkdir()
    with Lab(short_tmp / "lab") as lab:
        make_tree(lab.root / "source", {"large": 5 * MiB, **{f"small/{number}": 100 for number in range(30)}})
        daemon = lab.daemon(inbox=disk.mounted / "inbox", discovery=True)
        control: list[float] = []
        discovery: list[float] = []
        with Gate(daemon.port, hold=3 * MiB) as gate:
            client = lab.sending(gate.url, "source")
            gate.wait()
            client.reaches("progress", bytes_confirmed=MiB)
            disk.stall()
            begun = time.monotonic()
            gate.open()

            def syncing() -> bool:
                return client.of("progress")[-1]["stage"] == "syncing"

            try:
                # SECONDS, and until what was let through has arrived: on a machine that is busy that takes as long.
                while time.monotonic() < begun + SECONDS or not (syncing() or time.monotonic() > begun + 20):
                    asking = time.monotonic()
                    assert daemon.call("jobs.list")["jobs"]
                    control.append(time.monotonic() - asking)
                    if len(discovery) < (time.monotonic() - begun) / 1.1:  # a source is answered once a second
                        discovery.append(asked(lab.discovery_port))
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        client.popen.wait(0.02)
                assert client.alive, client.text()
                stages = [event["stage"] for event in client.of("progress")]
            finally:
                disk.stall(False)
            client.ends(seconds=60)
        done = client.one("done")
        worst = {"control": max(control), "discovery": max(discovery)}
        middle = {"control": statistics.median(control), "discovery": statistics.median(discovery)}
        print(f"{SECONDS:g} s: {len(control)} answers, {len(discovery)} replies, worst {worst}, median {middle}")
        assert client.of("retry") == []
        assert done["files_failed"] == 0
        assert stages[-1] == "syncing", stages
        assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
        if "STALL_SECONDS" in os.environ:  # a measurement, on a machine that has time
            assert max(middle.values()) < PROMISED / 4
            assert max(worst.values()) < PROMISED
        daemon.clean_log()
        daemon.signal(15)
        assert daemon.wait() == 0
