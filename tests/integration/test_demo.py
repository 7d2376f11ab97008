"""The demo holds what it says, cleans up after itself, and ends all it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.lab import until

from ftx.limits import BLOCK, DEMO_BYTES_LEAST


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start the demo with its temporary home in `folder`; what it prints is in the files `out` and `err` beside it."""
    folder.mkdir()
    with folder.with_suffix(".out").open("wb") as out, folder.with_suffix(".err").open("wb") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "ftx", *words, "demo"],
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(folder)},
        )


def records(folder: Path) -> list[dict[str, Any]]:
    """The whole lines it has printed so far."""
    return [json.loads(line) for line in folder.with_suffix(".out").read_bytes().split(b"\n")[:-1]]


@pytest.mark.slow
def test_the_demo(short_tmp: Path) -> None:
    """Every step happens in order and holds; what was durable at the kill does not travel again; nothing is left."""
    folder = short_tmp / "tmp"
    demo = start(folder, "--json")
    code = demo.wait(240)  # 15 s by itself, and 97 s beside twenty others on two processors
    errors = folder.with_suffix(".err").read_text("utf-8")
    found = records(folder)
    assert code == 0, f"{errors}\n{found}"
    assert errors == ""
    *steps, summary = found
    names = ["make", "daemon", "discover", "cut", "resume", "compare", "again", "control", "stop"]
    assert [step["step"] for step in steps] == names
    assert all(step["ok"] and step["problems"] == [] and step["event"] == "step" for step in steps)
    assert (summary["event"], summary["exit"], summary["problems"], summary["kept"]) == ("summary", 0, [], None)
    make, daemon, discover, cut, resume, compare, again, control, stop = steps

    assert make["bytes"] > DEMO_BYTES_LEAST
    assert (discover["verified"], discover["port"]) == (True, daemon["port"])
    assert cut["exit"] == 4
    assert make["bytes"] // 4 <= cut["bytes_durable"] <= cut["bytes_sent"] < make["bytes"]
    assert resume["bytes_again"] <= BLOCK
    assert resume["bytes_wire"] + cut["bytes_sent"] - make["bytes"] == resume["bytes_twice"]
    assert resume["bytes_wire"] <= make["bytes"] - cut["bytes_durable"] + BLOCK
    assert resume["bytes_read"] < make["bytes"], "the durable part was read again"
    for count in ("files", "folders", "bytes"):
        assert compare[count] == make[count]
    assert (again["files_identical"], again["bytes_wire"]) == (make["files"], 0)
    assert control["status"]["jobs"] == {"active": 0, "waiting": 0, "done": 2, "failed": 0, "partial": 0}
    assert control["status"]["pid"] != daemon["pid"], "it was killed, and another one started"
    assert [job["state"] for job in control["jobs"]] == ["done", "done"]
    assert stop["exit"] == 0
    assert os.listdir(folder) == []


@pytest.mark.slow
def test_an_interrupted_demo(short_tmp: Path) -> None:
    """Ctrl-C: the exit code says so, the daemon has ended and the folder is gone."""
    folder = short_tmp / "tmp"
    demo = start(folder, "--json")
    until(lambda: len(records(folder)) >= 2, "the daemon runs", 60)
    pid = records(folder)[1]["pid"]
    os.kill(pid, 0)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(30) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert os.listdir(folder) == []
    assert folder.with_suffix(".err").read_text("utf-8") == "ftx-client: interrupted\n"
    assert [records(folder)[-1][key] for key in ("event", "exit", "kept")] == ["summary", 130, None]


def test_options_that_it_cannot_follow(short_tmp: Path) -> None:
    """The demo has a home of its own, and says so."""
    demo = start(short_tmp / "tmp", "--home", "x")
    assert demo.wait(30) == 2
    assert "demo takes no --home" in (short_tmp / "tmp.err").read_text("utf-8")
