"""`send` and `discover` against a real daemon on the loopback interface, each in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

#: `python -m ftx.client.cli` with SIGINT as a terminal's shell leaves it: a runner in the background may ignore it.
LAUNCH = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from ftx.client.cli import main; sys.exit(main())"
)
#: Large enough to be interrupted, sparse so that nobody has to write it first; reading it hashes zeros.
LARGE = 8 << 30


class World:
    """A home with a daemon, and the client that uses the same home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = os.environ | {"FTX_HOME": str(home), "PYTHONWARNINGS": "error"}
        self.daemon = subprocess.Popen(
            [sys.executable, "-m", "ftx.daemon.main", "--listen", "tcp:0:interface=127.0.0.1", "--no-discovery"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.daemon.stdout is not None
        ready = next(line for line in self.daemon.stdout if "ready:" in line)
        found = re.search(r"127\.0\.0\.1:(\d+)", ready)
        assert found is not None, ready
        self.port = found[1]
        self.target = f"ftx://127.0.0.1:{self.port}"
        self.nobody = "ftx://127.0.0.1:1"

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-c", LAUNCH, *args]

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*args), env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def events(self, *args: str) -> tuple[int, list[dict[str, object]]]:
        done = self.run("--json", *args)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def stop(self) -> None:
        self.daemon.terminate()
        self.daemon.communicate(timeout=60)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("world") / "home"
    home.mkdir(mode=0o700)
    made = World(home)
    yield made
    made.stop()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    file = tmp_path / "large"
    with open(file, "wb") as sparse:
        sparse.truncate(LARGE)
    return file


def test_a_file_arrives_and_the_line_says_so(world, tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    done = world.run("send", str(tmp_path / "a"), f"{world.target}/in/here")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"sent 1 file, 7 B to \S+ in [\d.]+ s, verified\n", done.stdout)
    assert done.stderr.splitlines() == [f"connecting to 127.0.0.1 port {world.port}"]
    assert (world.home / "inbox" / "in" / "here" / "a").read_bytes() == b"content"
    again = world.run("put", str(tmp_path / "a"), "--to", "127.0.0.1", "-p", world.port, "--into", "in/here", "-q")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_a_name_that_is_taken_there_and_a_name_that_is_refused_are_said(world, tmp_path):
    notes = tmp_path / "notes.txt"
    for content in (b"one", b"two"):
        notes.write_bytes(content)
        done = world.run("send", str(notes), f"{world.target}/taken")
        assert done.returncode == 0, done.stderr
    assert ", 1 under another name, verified\n" in done.stdout
    assert done.stderr.splitlines()[1:] == ["  notes.txt is taken/notes (1).txt there"]
    (tmp_path / ".bashrc").write_bytes(b"x")
    done = world.run("send", str(tmp_path / ".bashrc"), world.target)
    assert done.returncode == 6
    assert "begins with a dot is not accepted at the top of an inbox" in done.stderr
    assert "hint: send it into a folder there: 127.0.0.1:DIR" in done.stderr


@pytest.mark.case("K172")
def test_json_tells_the_whole_story_and_the_summary_comes_last(world, tmp_path):
    (tmp_path / "b").write_bytes(b"content")
    receipt = tmp_path / "receipt"
    code, events = world.events("send", str(tmp_path / "b"), world.target, "--receipt", str(receipt))
    names = [event["event"] for event in events]
    assert code == 0
    assert names[:2] == ["connecting", "connected"]
    assert names[-2:] == ["done", "summary"]
    assert "file" in names
    assert events[-1]["exit"] == 0
    assert events[-1]["targets"][0]["result"] == "ok"
    assert receipt.stat().st_size > 0


def test_several_targets_are_served_one_after_the_other(world, tmp_path):
    (tmp_path / "c").write_bytes(b"content")
    code, events = world.events("send", str(tmp_path / "c"), "--to", world.target, "--to", world.nobody)
    assert code == 9
    assert all(event["peer"] for event in events if event["event"] != "summary")
    assert [(target["result"], target["exit"]) for target in events[-1]["targets"]] == [("ok", 0), ("failed", 4)]
    code, events = world.events("send", str(tmp_path / "c"), "--to", world.nobody, "--to", world.nobody)
    assert code == events[-1]["exit"] == 4


@pytest.mark.case("K170", "K172")
@pytest.mark.parametrize(
    ("source", "target", "code", "said"),
    [
        ("/missing", None, 3, "/missing does not exist"),
        (__file__, "ftx://127.0.0.1:1", 4, "refused the connection"),
        (__file__, "ftx://nobody.invalid", 4, "nobody.invalid"),
    ],
)
def test_what_fails_is_a_sentence_a_hint_an_event_and_an_exit_code(world, source, target, code, said):
    done = world.run("send", source, target or world.target)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("connecting")]
    assert done.returncode == code
    assert done.stdout == ""
    assert lines[0].startswith("ftx-client: cannot send to ")
    assert said in lines[0]
    assert lines[1].startswith("hint: ")
    returned, events = world.events("send", source, target or world.target)
    assert returned == code
    assert [event["event"] for event in events[-2:]] == ["failed", "summary"]
    assert events[-2]["exit"] == events[-1]["exit"] == code


@pytest.mark.case("K170")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_transfer_says_how_to_resume_and_ends_its_story(world, large, number, code):
    child = subprocess.Popen(
        world.command("--json", "send", str(large), world.target),
        env=world.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    next(line for line in child.stdout if '"progress"' in line)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == code
    assert err.splitlines()[1] == f"hint: to resume: ftx-client --json send {large} {world.target}"
    last = [json.loads(line) for line in out.splitlines()[-2:]]
    assert [event["event"] for event in last] == ["failed", "summary"]
    assert last[0]["resumable"] is True
    assert last[1]["exit"] == code


def test_running_out_of_time_is_exit_code_10(world, tmp_path):
    (tmp_path / "slow").write_bytes(os.urandom(4 << 20))
    code, events = world.events("send", str(tmp_path / "slow"), world.target, "--timeout", "0.7", "--limit", "512Ki")
    assert code == events[-1]["exit"] == 10
    assert events[-2]["error"]["name"] == "timeout"


def test_a_bar_is_drawn_on_a_terminal_and_taken_away(world, tmp_path):
    (tmp_path / "d").write_bytes(bytes(1 << 20))
    terminal, slave = pty.openpty()
    child = subprocess.Popen(
        world.command("send", str(tmp_path / "d"), world.target),
        env=world.environment | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:
            break
    os.close(terminal)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert out.startswith("sent 1 file, 1.0 MiB")
    assert b"\rconnecting to 127.0.0.1" in shown
    assert shown.rstrip(b" ").endswith(b"\r")


def test_nobody_found_is_exit_code_11(world):
    done = world.run("discover", "--wait", "0.2", "--discovery-port", "1")
    assert done.returncode == 11
    assert done.stdout == ""
    assert "ftx-client: nobody answered within 0.2 s" in done.stderr
    code, events = world.events("discover", "--wait", "0.2", "--discovery-port", "1")
    assert (code, [event["event"] for event in events], events[-1]["exit"]) == (11, ["summary"], 11)


@pytest.mark.case("G116")
def test_watching_ends_quietly_when_the_reader_has_gone(world):
    command = f"{sys.executable} -m ftx.client.cli ctl watch --json" + " | head -1; exit ${PIPESTATUS[0]}"
    watching = subprocess.Popen(
        ["bash", "-c", command], env=world.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["event"] == "snapshot"
    while watching.poll() is None:  # each transfer is an event, and one that nobody reads ends the watching
        world.run("send", __file__, world.target, "-q")
    assert watching.returncode == 0
    assert watching.communicate()[1] == ""
