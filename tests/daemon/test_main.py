"""The doors of the daemon: ftx-server, twistd and twist say the same things and end with the same codes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftx import __version__
from ftx.daemon.tap import Options
from ftx.disk.settings import ROWS

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
RUNNERS = {
    "ftx-server": [sys.executable, "-m", "ftx.daemon.main"],
    "twistd -n": [*TWISTD, "-n", "--pidfile=", "ftx"],
    "twistd": [*TWISTD, "--pidfile=twistd.pid", "--logfile=twistd.log", "ftx"],
    "twist": [sys.executable, "-m", "twisted", "ftx"],
}


def run(*command: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **environ}, timeout=60)


def called(runner: str) -> str:
    """What messages begin with: the name of the program, or of the plugin where another program runs it."""
    return runner if runner == "ftx-server" else "ftx"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_options_become_a_request() -> None:
    """What was given is in the request by key, repeated ones as lists, and nothing that was not given."""
    options = Options()
    options.parseOptions(
        [
            "--home",
            "h",
            "--listen",
            "tcp:1",
            "--listen=tcp6:2",
            "--no-discovery",
            "--drain-timeout",
            "0",
            "--name",
            "x",
            "--config",
            "c",
        ]
    )
    request = options.request()
    assert request.options == {
        "listen": ["tcp:1", "tcp6:2"],
        "no_discovery": True,
        "drain_timeout": "0",
        "name": "x",
    }
    assert (request.home, request.config) == ("h", "c")
    assert request.environ == {"FTX_DISCOVERY_INTERFACE": "lo", "FTX_MDNS": "no"}
    again = Options()
    again.parseOptions([])
    assert again.request().options == {}, "nothing is shared between two command lines"


@pytest.mark.parametrize("runner", RUNNERS)
def test_help_names_every_option(runner: str, tmp_path: Path) -> None:
    """--help lists every option there is, and none for what only the configuration has."""
    done = run(*RUNNERS[runner], "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for row in ROWS.values():
        assert (f"--{row.flag}" in done.stdout) == row.option


@pytest.mark.parametrize("runner", RUNNERS)
def test_version_is_ours(runner: str, tmp_path: Path) -> None:
    """--version is that of ftx, not of Twisted; -V is short for it, as for the client."""
    for option in ("--version", "-V"):
        done = run(*RUNNERS[runner], option, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, f"ftx {__version__}\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--bogus"], "option --bogus not recognized"), (["extra", "more"], "unexpected argument: extra")],
    ids=["option", "argument"],
)
def test_a_command_line_that_is_none(words: list[str], says: str, tmp_path: Path) -> None:
    """Exit code 2, two lines, nothing made."""
    done = run(*RUNNERS["ftx-server"], *words, cwd=tmp_path, FTX_HOME=str(tmp_path / "home"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"ftx-server: {says}\nhint: see ftx-server --help\n"
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("words", "environ", "says"),
    [
        (
            ["--conflict", "replace"],
            {},
            '--conflict: "replace" is not one of the choices\nhint: choose fail, skip, rename, backup or overwrite',
        ),
        (["--drain-timeout", "x"], {}, '--drain-timeout: "x" is not a number\nhint: see --help'),
        ([], {"FTX_NAME": "a/b"}, "FTX_NAME: a peer's name cannot contain \"/\": a/b"),
        (
            [],
            {"FTX_DRAIN_TIMEOUT": "-1"},
            "FTX_DRAIN_TIMEOUT: -1.0 is not between 0 and 86400\nhint: correct FTX_DRAIN_TIMEOUT, or unset it",
        ),
    ],
    ids=["choice", "number", "name", "variable"],
)
def test_a_bad_setting(words: list[str], environ: dict[str, str], says: str, tmp_path: Path) -> None:
    """What is said names where the value was set, and the hint fits that place."""
    done = run(*RUNNERS["ftx-server"], *words, cwd=tmp_path, FTX_HOME=str(tmp_path / "home"), **environ)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ftx-server: {says}")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_bad_configuration(runner: str, tmp_path: Path) -> None:
    """One sentence, a hint, exit code 1, whichever program runs the daemon; no pid file stays behind."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text("inbxo = 1\n", "utf-8")
    done = run(*RUNNERS[runner], cwd=tmp_path, FTX_HOME=str(home))
    assert done.returncode == 1
    assert done.stderr == f"{called(runner)}: unknown key inbxo in {home}/config.toml\nhint: did you mean inbox?\n"
    assert not (tmp_path / "twistd.pid").exists()


@pytest.mark.case("F108")
@pytest.mark.parametrize("runner", RUNNERS)
def test_a_port_in_use(runner: str, taken: int, tmp_path: Path) -> None:
    """The sentence of the contract, before any fork."""
    done = run(*RUNNERS[runner], "--listen", f"tcp:{taken}", cwd=tmp_path, FTX_HOME=str(tmp_path / "home"))
    assert done.returncode == 1
    says = f"{called(runner)}: port {taken} is in use; stop the other program or use --listen tcp:PORT\n"
    assert done.stderr == says
    assert not (tmp_path / "twistd.pid").exists()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_server_stops_with_0_and_holds_its_home(sign: signal.Signals, short_tmp: Path) -> None:
    """A second daemon of the home is refused while the first one runs; a signal ends that with 0."""
    environ = {"FTX_HOME": str(short_tmp / "home")}
    command = [*RUNNERS["ftx-server"], "--listen", "tcp:0:interface=127.0.0.1", "--no-discovery"]
    with (short_tmp / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, **environ}, cwd=short_tmp)
    deadline = time.monotonic() + 30
    try:
        while "ready" not in (short_tmp / "log").read_text("utf-8"):
            assert process.poll() is None, (short_tmp / "log").read_text("utf-8")
            assert time.monotonic() < deadline, (short_tmp / "log").read_text("utf-8")
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        second = run(*RUNNERS["ftx-server"], "--listen", "tcp:0", cwd=short_tmp, **environ)
        assert second.returncode == 1
        assert second.stderr.startswith(f"ftx-server: another ftx daemon uses {short_tmp}/home\n")
        process.send_signal(sign)
        assert process.wait(30) == 0, (short_tmp / "log").read_text("utf-8")
    finally:
        process.kill()
        process.wait()
