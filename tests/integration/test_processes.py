"""The life of the processes: left-overs of a crash, clocks that jump, limits of the system, signals in every stage."""

from __future__ import annotations

import ast
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest
from support.gate import Gate
from support.lab import Daemon, Lab, until
from support.trees import MiB, make_tree, snapshot, visible

import ftx

#: Seconds for which a process is stopped; long enough to be given up with 60 (`make kills`).
STOPPED = float(os.environ.get("STOPPED_SECONDS", "1"))
LEFT_OVERS = 10_000
#: Moments at which a client is interrupted.
POINTS = int(os.environ.get("INTERRUPTIONS", "4"))


def arrives(lab: Lab, daemon: Daemon, name: str = "source") -> None:
    """A whole tree arrives."""
    lab.send(daemon, name)
    assert snapshot(daemon.inbox / name) == snapshot(lab.root / name)


@pytest.mark.case("G121", "G125")
def test_what_a_crash_leaves_behind(lab: Lab) -> None:
    """Locks that name another process, a dead socket, thousands of staged files: it starts at once, and cleans up."""
    make_tree(lab.root / "source", {"large": 2 * MiB, "small": 10})
    home = lab.root / "home"
    home.mkdir(mode=0o700)
    for folder in ("run", "inbox", "inbox/.ftx", "inbox/.ftx/partial"):
        (home / folder).mkdir(mode=0o700)
    for lock in ("lock", "inbox/.ftx/lock", "twistd.pid"):
        (home / lock).write_text("1\n")  # a process that certainly runs
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home / "run" / "control.sock"))
    partial = home / "inbox" / ".ftx" / "partial"
    for number in range(LEFT_OVERS):
        (partial / f"whole-0123456789abcdef-{number}").touch()
    daemon = lab.daemon()
    arrives(lab, daemon)
    until(lambda: daemon.partials() == [], "the left-overs are gone", said=daemon)
    daemon.clean_log()


@pytest.mark.case("K165")
def test_G123_clocks_that_jump(lab: Lab) -> None:
    """An hour forth and back at every look, on both sides: no time-out, no wrong rate, nothing is removed."""
    make_tree(lab.root / "source", {"large": 12 * MiB, "small": 10})
    (lab.root / "jump").mkdir()
    (lab.root / "jump" / "sitecustomize.py").write_text(
        "import itertools, time\n"
        "_steps, _time, _time_ns = itertools.cycle([0, 3600, -3600]), time.time, time.time_ns\n"
        "time.time = lambda: _time() + next(_steps)\n"
        "time.time_ns = lambda: _time_ns() + next(_steps) * 10**9\n"
    )
    environ = {"PYTHONPATH": str(lab.root / "jump")}
    probe = [sys.executable, "-c", "import time; a = [time.time() for _ in range(3)]; print(max(a) - min(a) > 7000)"]
    assert subprocess.run(probe, env={**os.environ, **environ}, capture_output=True).stdout.strip() == b"True"
    daemon = lab.daemon(environ=environ)
    with Gate(daemon.port, hold=6 * MiB) as gate:
        client = lab.sending(gate.url, "source", environ=environ)
        gate.wait()
        client.kill()
        gate.open()
    daemon.idle()
    again = lab.send(daemon, "source", environ=environ)
    assert again.of("retry") == []
    assert again.one("done")["bytes_wire"] < 12 * MiB
    assert all(0 <= event["rate"] < 2**40 for event in again.of("progress") if event.get("rate") is not None)
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    daemon.clean_log()


def test_G124_without_assertions(lab: Lab) -> None:
    """No check of ours is an assertion; and with -O both programs do their work and refuse what they refuse."""
    for path in Path(ftx.__file__).parent.rglob("*.py"):
        found = [node.lineno for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Assert)]
        assert found == [], path
    environ = {"PYTHONOPTIMIZE": "1"}
    make_tree(lab.root / "source", {"large": 2 * MiB, "small": 10})
    daemon = lab.daemon(environ=environ)
    lab.send(daemon, "source", environ=environ)
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    (daemon.inbox / "small").write_bytes(b"mine")
    lab.send(daemon, "source/small", "--conflict", "fail", environ=environ, code=6)
    lab.send(daemon, "source/small", home="stranger", environ=environ, code=5)


def test_G127_no_key_where_others_look(lab: Lab) -> None:
    """Not in the arguments, nor in the environment; and no core is written, which would have it."""
    make_tree(lab.root / "source", {"large": 12 * MiB})
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        daemon = lab.daemon()
        gate = Gate(daemon.port, hold=4 * MiB)
        client = lab.sending(gate.url, "source")
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    words = {word for word in (daemon.home / "identity.key").read_bytes().split() if len(word) > 20}
    assert words
    with gate:
        gate.wait()
        for process in (daemon, client):
            proc = Path(f"/proc/{process.pid}")
            for name in ("cmdline", "environ"):
                assert not any(word in (proc / name).read_bytes() for word in words)
            limits = (proc / "limits").read_text()
            assert next(line for line in limits.splitlines() if line.startswith("Max core")).split()[4] == "0"
        gate.open()
        client.ends()


def test_G117_stopped_for_a_while(lab: Lab) -> None:
    """Either side, with SIGSTOP: it goes on or gives up, and what is said of it is true; then the rest arrives."""
    make_tree(lab.root / "source", {"large": 12 * MiB, "small": 10})
    daemon = lab.daemon()
    for side in ("daemon", "client"):
        with Gate(daemon.port, hold=6 * MiB) as gate:
            client = lab.sending(gate.url, "source", "--into", side)
            gate.wait()
            stopped = daemon if side == "daemon" else client
            stopped.signal(signal.SIGSTOP)
            begun = monotonic()
            gate.open()
            until(lambda begun=begun: monotonic() - begun > STOPPED, "the stop is over", STOPPED + 10, 0.05)
            if side == "client":
                assert daemon.call("jobs.list")["jobs"]
            stopped.signal(signal.SIGCONT)
            code = client.wait(120)
        assert code == 0 or (code == 4 and STOPPED > 20), client.text()
        if code == 0:
            assert client.one("done")["files"] == 2
        daemon.idle()
        lab.send(daemon, "source", "--into", side)
        assert snapshot(daemon.inbox / side / "source") == snapshot(lab.root / "source")
    daemon.clean_log()


@pytest.mark.slow
def test_G117_a_daemon_that_hangs(lab: Lab) -> None:
    """Connections are taken, and nobody greets: the client gives up as with any peer that is away, to be resumed."""
    make_tree(lab.root / "source", {"large": 12 * MiB})
    daemon = lab.daemon()
    with Gate(daemon.port, hold=6 * MiB) as gate:
        client = lab.sending(gate.url, "source", "--retries", "1")
        gate.wait()
        daemon.signal(signal.SIGSTOP)
        gate.cut()
        client.ends(4)
        assert client.failure()["name"] == "peer-silent"
        assert client.one("failed")["resumable"] is True
        daemon.signal(signal.SIGCONT)
    daemon.idle()
    arrives(lab, daemon)
    daemon.clean_log()


def test_G119_out_of_memory(lab: Lab) -> None:
    """There is no more memory: the job may fail, the daemon lives or is started again, and nothing is half."""
    make_tree(lab.root / "source", {"large": 24 * MiB} | {f"small/{number}": 5000 for number in range(100)})
    daemon = lab.daemon()
    arrives_first = lab.send(daemon, "source/small")
    assert arrives_first.one("done")["files"] == 100
    size = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    unlimited = resource.prlimit(daemon.pid, resource.RLIMIT_AS)
    resource.prlimit(daemon.pid, resource.RLIMIT_AS, (size + MiB // 2, unlimited[1]))
    client = lab.sending(daemon.url, "source", "--retries", "0")
    client.wait()
    for path, found in visible(daemon.inbox).items():
        name = os.fsdecode(path).removeprefix("source/")
        assert found == (lab.root / "source" / name).stat().st_size, path
    if daemon.alive:
        resource.prlimit(daemon.pid, resource.RLIMIT_AS, unlimited)
        daemon.idle()
    else:
        daemon = lab.again(daemon)
    arrives(lab, daemon)


def test_G114_interrupted_at_any_time(lab: Lab) -> None:
    """SIGINT behind any file that the client opens, its own modules included: no traceback, exit code 130 or 0."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    make_tree(lab.root / "source", {f"{number}": 100 for number in range(20)})
    daemon = lab.daemon()
    command = [sys.executable, "-m", "ftx", "--home", str(daemon.home), "--json", "send"]

    def interrupted(into: str, log: Path, when: int) -> subprocess.CompletedProcess[str]:
        trace = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=openat"]
        inject = ["-e", f"inject=openat:signal=SIGINT:when={when}"] if when else []
        words = [*command, "--to", daemon.url, "--into", into, str(lab.root / "source")]
        return subprocess.run([*trace, *inject, *words], capture_output=True, text=True, timeout=60, check=False)

    assert interrupted("whole", lab.root / "trace", 0).returncode == 0
    opened = [line for line in (lab.root / "trace").read_text().splitlines() if "openat(" in line]
    first = next(number for number, line in enumerate(opened, 1) if "client/__pycache__/cli." in line)
    for part in range(POINTS):
        when = first + (len(opened) - first) * part // POINTS
        run = interrupted(f"{part}", lab.root / "trace", when)
        assert "Traceback" not in run.stderr, f"{when} of {len(opened)}: {run.stderr}"
        assert run.returncode in (0, 130), f"{when} of {len(opened)}: {run.returncode} {run.stderr}"
    daemon.idle()
    arrives(lab, daemon)
    daemon.clean_log()
