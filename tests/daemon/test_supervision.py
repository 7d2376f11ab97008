"""Under a supervisor: sockets by LISTEN_FDS, what is said to NOTIFY_SOCKET, the log as JSON, and the unit files."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger

from ftx.daemon.logs import json_line
from ftx.daemon.supervision import Inherited, inherited
from ftx.errors import FtxError

UNITS = Path(__file__).parents[2] / "ftx" / "units"

#: Does what a supervisor does between fork and exec: descriptors from 3 on, and the variables that speak of them.
LAUNCHER = """
import os, sys
fds = [int(fd) for fd in sys.argv[1].split(",") if fd]
for place, fd in enumerate(fds):
    os.dup2(fd, 100 + place)
for place in range(len(fds)):
    os.dup2(100 + place, 3 + place)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)))
os.execv(sys.executable, [sys.executable, "-m", "ftx.daemon.main", *sys.argv[2:]])
"""


class Supervised:
    """A daemon whose sockets and whose supervisor are ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("0.0.0.0", 0))
        self.doors = []
        for name, kind in (("c.sock", socket.SOCK_STREAM), ("c.seq", socket.SOCK_SEQPACKET)):
            door = socket.socket(socket.AF_UNIX, kind)
            door.bind(str(folder / name))
            door.listen(5)
            self.doors.append(door)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.settimeout(20)
        self.process: subprocess.Popen[str] | None = None

    def start(self, *options: str, **environ: str) -> subprocess.Popen[str]:
        given = [self.tcp, self.udp, *self.doors]
        numbers = [one.fileno() for one in given]
        home = str(self.folder / "home")
        command = [sys.executable, "-c", LAUNCHER, ",".join(map(str, numbers)), "--home", home, *options]
        told = {"NOTIFY_SOCKET": str(self.folder / "notify"), "FTX_DISCOVERY_INTERFACE": "lo"}
        variables = os.environ | told | environ
        self.process = subprocess.Popen(command, pass_fds=numbers, stderr=subprocess.PIPE, text=True, env=variables)
        for one in given:
            one.close()
        return self.process

    def heard(self) -> dict[str, str]:
        """The next word of the daemon to its supervisor."""
        lines = self.notify.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def until(self, key: str) -> dict[str, str]:
        """The next one with that key in it."""
        while key not in (said := self.heard()):
            pass
        return said

    def drain(self) -> None:
        """Take every word that waits: the kernel keeps ten of them, and the daemon does not wait for room."""
        self.notify.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self.notify.recv(4096):
                pass
        self.notify.settimeout(20)

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        for one in (self.tcp, self.udp, *self.doors, self.notify):
            one.close()


@pytest.fixture
def supervised(short_tmp: Path) -> Iterator[Supervised]:
    made = Supervised(short_tmp)
    yield made
    made.close()


def ask(path: Path, kind: int) -> Any:
    with socket.socket(socket.AF_UNIX, kind) as door:
        door.settimeout(20)
        door.connect(str(path))
        door.sendall(b"status\n")
        return json.loads(door.recv(70_000))["result"]


def test_a_life_under_a_supervisor(supervised: Supervised) -> None:
    """It uses the sockets it was given, says when it is ready, lives, reloads, stops, and leaves the names alone."""
    folder, port, discovery = supervised.folder, supervised.tcp.getsockname()[1], supervised.udp.getsockname()[1]
    process = supervised.start("--log-format", "json", WATCHDOG_USEC="400000")
    ready = supervised.until("READY")
    assert ready["READY"] == "1"
    assert str(port) in ready["STATUS"]
    assert supervised.until("WATCHDOG")["WATCHDOG"] == "1"
    for name, kind in (("c.sock", socket.SOCK_STREAM), ("c.seq", socket.SOCK_SEQPACKET)):
        status = ask(folder / name, kind)
        assert status["listening"] == [{"address": "127.0.0.1", "port": port}]
        assert status["discovery"] == {
            "port": discovery,
            "interfaces": ["lo"],
            "answers": "everyone",
            "published": False,
        }
    found = subprocess.run(
        [sys.executable, "-m", "ftx", "--home", str(folder / "other"), "--json", "discover"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "FTX_DISCOVERY_PORT": str(discovery)},
    )
    assert json.loads(found.stdout.splitlines()[0])["port"] == port, "its UDP socket answers"
    supervised.drain()
    process.send_signal(signal.SIGHUP)
    assert supervised.until("RELOADING")["MONOTONIC_USEC"].isdigit()
    assert str(port) in supervised.until("READY")["STATUS"]
    process.send_signal(signal.SIGTERM)
    stopping = supervised.until("STOPPING")
    assert stopping["STOPPING"] == "1"
    assert "stopping when the running ones have ended" in stopping["STATUS"]
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert (folder / "c.sock").exists(), "whoever made the name keeps it"
    lines = [json.loads(line) for line in log.splitlines()]
    assert all({"time", "level", "source", "message"} <= line.keys() for line in lines)
    assert any(line["message"].startswith("ready: ") for line in lines)


def test_sockets_meant_for_another_process_are_left_alone() -> None:
    assert inherited({"LISTEN_FDS": "3", "LISTEN_PID": "1"}, 2) == Inherited()
    assert inherited({}, 2) == Inherited()


@pytest.mark.parametrize("count", ["", "x", "-1", "65"])
def test_what_is_no_number_of_sockets(count: str) -> None:
    with pytest.raises(FtxError) as caught:
        inherited({"LISTEN_FDS": count, "LISTEN_PID": "2"}, 2)
    assert caught.value.name == "listen-failed"


def test_a_socket_without_use_stops_the_start(short_tmp: Path) -> None:
    """In one sentence."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as odd:
        odd.bind(str(short_tmp / "odd"))
        number = odd.fileno()
        command = [sys.executable, "-c", LAUNCHER, str(number), "--home", str(short_tmp / "home"), "--no-discovery"]
        done = subprocess.run(command, pass_fds=[number], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "descriptor 3 is a socket that has no use here" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_line_of_the_log_is_one_object_whatever_is_in_it() -> None:
    seen: list[dict[str, Any]] = []
    log = Logger(namespace="ftx.test", observer=seen.append)
    log.warn("from {peer}: {count}", peer="\u202e\nx", count=3, odd=object())
    line = json_line(seen[0])
    assert line.isascii()
    assert "\n" not in line
    decoded = json.loads(line)
    assert (decoded["level"], decoded["source"], decoded["count"]) == ("warn", "ftx.test", 3)
    assert decoded["peer"] == "\u202e\nx"
    assert decoded["message"] == "from \u202e\nx: 3"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", ["ftx.service", "ftx-user.service", "ftx.socket"])
def test_systemd_takes_the_units(tmp_path: Path, name: str) -> None:
    for unit in UNITS.iterdir():
        text = unit.read_text("utf-8")
        text = text.replace("/usr/local/bin/ftx-server", "/bin/true").replace("%h/.local/bin/ftx-server", "/bin/true")
        (tmp_path / unit.name).write_text(text, "utf-8")
    command = ["systemd-analyze", "verify", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    said = [line for line in (done.stdout + done.stderr).splitlines() if name in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_sandbox_of_the_service_is_tight(tmp_path: Path) -> None:
    """`systemd-analyze security`: 1.5 at most, of 10."""
    unit = tmp_path / "ftx.service"
    text = (UNITS / "ftx.service").read_text("utf-8")
    unit.write_text(text.replace("/usr/local/bin/ftx-server", "/bin/true"), "utf-8")
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=15", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-400:]
