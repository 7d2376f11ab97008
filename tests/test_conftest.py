"""The guard on the guards: what a test leaves behind does fail it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent

PROGRAM = '''
import threading
from twisted.internet.defer import fail
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from support.bounded import bounded, until

stop = threading.Event()

def test_clean(reactor):
    reactor.callLater(50, print).cancel()

def test_call(reactor):
    reactor.callLater(50, print)

def test_port(reactor):
    global port
    port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")

@bounded(10)
async def test_port_goes(reactor):
    await port.stopListening()

def test_deferred():
    fail(ValueError("nobody looks"))

def test_thread():
    threading.Thread(target=stop.wait).start()

def test_thread_goes():
    stop.set()

def test_log(logged_errors):
    Logger().failure("expected", failure=__import__("twisted.python.failure").python.failure.Failure(OSError()))
    assert len(logged_errors) == 1
    logged_errors.clear()

@bounded(0.1)
async def test_hang(reactor):
    await until(lambda: False)
'''


def test_what_is_left_behind_fails_the_test(tmp_path: Path) -> None:
    """Each kind of leak is an error of just that test, and a hanging test fails alone."""
    file = tmp_path / "test_leaks.py"
    file.write_text(PROGRAM, "utf-8")
    environ = {**os.environ, "PYTHONPATH": str(TESTS)}
    arguments = ["-p", "conftest", "-p", "no:cacheprovider", "-q", "-rEF", "--tb=no", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, "-c", str(TESTS.parent / "pyproject.toml"), str(file)],
        capture_output=True,
        text=True,
        env=environ,
        cwd=tmp_path,
        timeout=60,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(("ERROR", "FAILED"))]
    failed = {line.split("::")[1].split()[0] for line in lines}
    assert failed == {"test_call", "test_port", "test_deferred", "test_thread", "test_hang"}, done.stdout
