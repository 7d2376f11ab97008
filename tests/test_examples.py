"""The examples run as they are, in processes of their own, and move real files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import until
from support.trees import make_tree, snapshot

EXAMPLES = Path(__file__).parent.parent / "examples"


class Example:
    """One running example; what it prints goes to a file."""

    def __init__(self, folder: Path, name: str, *words: str | Path) -> None:
        self._out = folder / f"{name}.out"
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, EXAMPLES / name, *words],
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "FTX_HOME": str(folder / "home"), "PYTHONUNBUFFERED": "1"},
            )

    @property
    def text(self) -> str:
        return self._out.read_text("utf-8")

    def says(self, pattern: str) -> re.Match[str]:
        """Wait for it to print this."""
        found: re.Match[str] = until(lambda: re.search(pattern, self.text), f"{pattern} in {self.text!r}")
        return found

    def end(self, number: int | None = None) -> int:
        """Its exit code, after a signal if there is a number."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def started(short_tmp: Path) -> Iterator[list[Example]]:
    """Examples that are ended with the test."""
    running: list[Example] = []
    yield running
    for example in running:
        example.process.kill()
        example.process.wait(10)


def test_a_script_sends_to_an_application_that_is_watched(short_tmp: Path, started: list[Example]) -> None:
    """All three at once: what the script sends is in the application's inbox, and the watcher saw it come."""
    make_tree(short_tmp / "tree", {"small": 10, "deep/er/file": 70_000, "empty": 0, "large": 3 << 20})
    application = Example(short_tmp, "embed_receiver.py", short_tmp / "home")
    started.append(application)
    url = application.says(r"send to (ftx://127\.0\.0\.1:\d+); files appear in ")[1]
    watcher = Example(short_tmp, "watch_events.py")
    started.append(watcher)
    watcher.says("0 jobs so far")

    script = Example(short_tmp, "send_from_script.py", short_tmp / "tree", url)
    started.append(script)
    assert script.end() == 0, script.text
    assert f"done: 4 files, {10 + 70_000 + (3 << 20)} bytes travelled, receipt in " in script.text
    assert snapshot(short_tmp / "home" / "inbox" / "tree") == snapshot(short_tmp / "tree")

    job = watcher.says(r"([0-9a-f]{8}) accepted")[1]
    watcher.says(f"{job} stored: 'tree/deep/er/file'")
    watcher.says(f"{job} done")
    application.says(r"stored 'tree/large', 3145728 bytes")
    application.says(rf"done: 4 files, {10 + 70_000 + (3 << 20)} bytes")
    assert application.end(signal.SIGTERM) in (0, -signal.SIGTERM), application.text
    assert watcher.end() == 0, watcher.text
    assert "the daemon has stopped" in watcher.text
    assert "Traceback" not in application.text + watcher.text + script.text


def test_a_script_and_a_watcher_without_a_daemon(short_tmp: Path, started: list[Example]) -> None:
    """Nobody there: a sentence, a hint, and the exit codes of the command line."""
    make_tree(short_tmp / "tree", {"file": 1})
    for name, words, code in (
        ("send_from_script.py", (short_tmp / "tree", "ftx://127.0.0.1:1"), 4),
        ("watch_events.py", ("done",), 12),
    ):
        example = Example(short_tmp, name, *words)
        started.append(example)
        assert example.end() == code, example.text
        assert "hint: " in example.text
        assert "Traceback" not in example.text


def test_a_script_lists_and_gets(short_tmp: Path, started: list[Example]) -> None:
    """Only so many items are looked at; the files come; the second time they are here already."""
    make_tree(short_tmp / "tree", {f"file-{number:02}": 10 for number in range(30)})
    home = short_tmp / "home"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(f'share = ["all={short_tmp / "tree"}"]\n')
    application = Example(short_tmp, "embed_receiver.py", home)
    started.append(application)
    url = application.says(r"send to (ftx://127\.0\.0\.1:\d+); files appear in ")[1]
    for here in (0, 30):
        script = Example(short_tmp, "get_and_list.py", f"{url}/all", short_tmp / "out")
        started.append(script)
        assert script.end() == 0, script.text
        assert "file: 'all/file-19'\n...\n" in script.text
        assert f"done: 30 files, {here} were here already" in script.text
        assert "Traceback" not in script.text
    assert snapshot(short_tmp / "out" / "all") == snapshot(short_tmp / "tree")
    absent = Example(short_tmp, "get_and_list.py", f"{url}/none", short_tmp / "out")
    started.append(absent)
    assert absent.end() == 6, absent.text
    assert application.end(signal.SIGTERM) in (0, -signal.SIGTERM), application.text


def test_a_hook_writes_down_what_was_received(tmp_path: Path) -> None:
    """As the daemon runs it: one event on standard input, and a working folder; names are quoted."""
    (tmp_path / "a\nb").touch()
    peer = {"name": "pi"}
    items = [{"stored_as": "a\nb", "size": 0, "digest": "00"}, {"stored_as": "gone", "size": 0, "digest": "11"}]
    event = {"time": "now", "peer": peer, "inbox": str(tmp_path), "stored": items, "stored_more": 2}
    command = [sys.executable, EXAMPLES / "hook_list.py"]
    subprocess.run(command, input=json.dumps(event), cwd=tmp_path, check=True, text=True, timeout=30)
    said = (tmp_path / "received.tsv").read_text("utf-8").splitlines()
    assert said == ["now\tpi\t00\t\"a\\nb\"\tTrue", 'now\tpi\t11\t"gone"\tFalse', "now\tpi\t\tand 2 more\t"]


def test_every_example_is_short_and_in_this_test() -> None:
    """A reader sees each of them whole."""
    here = Path(__file__).read_text("utf-8")
    names = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert names
    for name in names:
        assert len((EXAMPLES / name).read_text("utf-8").splitlines()) < 60, name
        assert f'"{name}"' in here, name


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_help_is_only_printed(example, tmp_path):
    """It says how it is used, and makes nothing."""
    command = [sys.executable, str(example), "--help"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (told.returncode, told.stderr, list(tmp_path.iterdir())) == (0, "", [])
    assert told.stdout.strip()
