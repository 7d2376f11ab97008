"""The main job, for real: a daemon receives what a client sends, under each of the programs that run one."""

from __future__ import annotations

import itertools
import os
import re
import signal
from pathlib import Path

import pytest
from support.lab import RUNNERS, Lab, until
from support.trees import MiB, make_tree, snapshot, visible

from ftx import __version__

#: Names and sizes that have been somebody's bug; a negative size is a file of zeros.
ODD = {
    "plain.txt": 11,
    "empty": 0,
    "with spaces and (1).txt": 100,
    "-dash": 5,
    "--to": 6,
    "ümlaut 文件.txt": 7,
    b"not-utf-8-\xff\xfe": 8,
    "x" * 255: 9,
    "ab" * 127 + "c": 10,
    "/".join(f"deep{level}" for level in range(40)) + "/leaf": 12,
    "exactly-one-block": MiB,
    "one-block-and-one": MiB + 1,
    "five-blocks": 5 * MiB,
    "zeros": -(8 * MiB + 3),
    "folder/in/folder": 13,
    "folder/a": 1,
    "folder.b": 2,  # '.' sorts before '/', the trap of byte order
    "folder/.hidden": 3,
}

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def make_source(root: Path) -> int:
    """The odd tree, with an empty folder in it; the bytes of its files."""
    (root / "empty folder" / "and another").mkdir(parents=True)
    return make_tree(root, ODD)


def test_everything_arrives_as_it_was(lab: Lab) -> None:
    """Content, modes and times of files and folders, whatever their names and sizes; and every event in order."""
    total = make_source(lab.root / "source")
    (lab.root / "one file").write_bytes(b"one")
    daemon = lab.daemon()
    client = lab.send(daemon, "source", "one file")
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    assert snapshot(daemon.inbox / "one file") == snapshot(lab.root / "one file")
    assert len(visible(daemon.inbox)) == len(ODD) + 1
    assert daemon.partials() == []

    events = client.events
    order = [name for name in (event["event"] for event in events) if name not in ("progress", "file")]
    assert order == ["connecting", "connected", "offered", "accepted", "done", "summary"]
    job, identity = events[0]["job"], lab.identity("home")
    assert re.fullmatch("[0-9a-f]{32}", job)
    for event in events[:-1]:
        assert event["v"] == 1
        assert TIME.fullmatch(event["time"])
        assert event["job"] == job
        assert event["peer"]["address"] == "127.0.0.1"
        assert event["peer"]["port"] == daemon.port
        assert event["peer"]["id"] == ("" if event["event"] == "connecting" else identity)
    done = client.one("done")
    assert {key: done[key] for key in ("result", "exit", "files", "bytes", "files_identical", "files_failed")} == {
        "result": "ok",
        "exit": 0,
        "files": len(ODD) + 1,
        "bytes": total + 3,
        "files_identical": 0,
        "files_failed": 0,
    }
    assert done["directories"] == sum(os.path.isdir(path) for path, _, _ in os.walk(os.fsencode(lab.root / "source")))
    assert done["files_skipped"] == 0
    assert done["seconds"] > 0
    assert Path(done["receipt"]).is_file()
    assert events[-1] == {
        "v": 1,
        "event": "summary",
        "time": events[-1]["time"],
        "job": None,
        "peer": None,
        "exit": 0,
        "targets": [{"peer": done["peer"], "result": "ok", "exit": 0}],
    }
    daemon.clean_log()
    assert client.text().count("\n") <= 3, "stderr has a line or two, not one per file"


def test_file_and_progress_events(lab: Lab) -> None:
    """One `file` event for each file, with its digest; progress never goes back and ends at the total."""
    total = make_source(lab.root / "source")
    daemon = lab.daemon()
    client = lab.send(daemon, "source")
    files = {event["path"]: event for event in client.of("file")}
    assert len(files) == len(client.of("file")) == len(ODD)
    assert {event["status"] for event in files.values()} == {"stored"}
    assert all(event["error"] is None and event["stored_as"] == event["path"] for event in files.values())
    assert files["source/five-blocks"]["size"] == 5 * MiB
    hashed = lab.client("hash", "source/five-blocks", "source/empty").ends().events
    assert [one["digest"] for one in hashed] == [
        files["source/five-blocks"]["digest"],
        files["source/empty"]["digest"],
    ]
    assert files["source/empty"]["digest"] == "0fcb8fbc35cbce1f9f2c534c172afae914dc79dc7d93fc04bb60d871e0084f4f"
    odd = [event for event in files.values() if "path_b64" in event]
    assert [event["path"] for event in odd] == ["source/not-utf-8-\ufffd\ufffd"]
    assert odd[0]["path_b64"] == "c291cmNlL25vdC11dGYtOC3//g=="
    reports = client.of("progress")
    for before, after in itertools.pairwise(reports):
        for key in ("bytes_confirmed", "bytes_durable", "bytes_sent", "files_done"):
            assert before[key] <= after[key]
    for report in reports:
        assert report["bytes_durable"] <= report["bytes_confirmed"] <= total
        assert report["stage"] in ("scanning", "transferring", "syncing")
        assert report["bytes_total"] in (None, total)


@pytest.mark.parametrize("runner", [name for name in RUNNERS if name != "ftx-server"])
def test_under_twisted(runner: str, lab: Lab) -> None:
    """twistd in the foreground and in the background, and twist: all receive, and stop at a signal."""
    make_tree(lab.root / "source", {"a": 1, "b/c": 2 * MiB + 1, "empty": 0})
    daemon = lab.daemon(runner=runner)
    lab.send(daemon, "source")
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    status = daemon.call("daemon.status")
    assert (status["pid"], status["version"]) == (daemon.pid, __version__)
    assert status["jobs"]["done"] == 1
    daemon.signal(signal.SIGTERM)
    until(lambda: not daemon.alive, f"the end of {runner}:\n{daemon.text()}")
    assert "stopped" in daemon.text()
    daemon.clean_log()
    again = lab.again(daemon)
    assert lab.send(again, "source").one("done")["files_identical"] == 3


def test_into_a_folder_and_several_sources(lab: Lab) -> None:
    """--into and a folder in the target mean the same; '.' takes the folder's name; leading dashes come after --."""
    daemon = lab.daemon()
    (lab.root / "work" / "-x").mkdir(parents=True)
    (lab.root / "work" / "-x" / "f").write_bytes(b"1")
    work = lab.root / "work"
    lab.send(daemon, "--into", "a/b", "./-x", cwd=work)
    lab.send(daemon, "--into", "c", "--", "-x", cwd=work)
    lab.client("send", ".", f"{daemon.url}/d", cwd=work).ends()
    assert sorted(visible(daemon.inbox)) == [b"a/b/-x/f", b"c/-x/f", b"d/work/-x/f"]


@pytest.mark.case("C54", "K163")
def test_a_locale_without_letters(lab: Lab) -> None:
    """LC_ALL=C on both sides, and a name that is no UTF-8 beside one that is."""
    make_tree(lab.root / "source", {"ü": 1, b"\xff": 2, "a": 3})
    environ = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    daemon = lab.daemon(environ=environ)
    client = lab.send(daemon, "source", environ=environ)
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    assert "source/ü" in {event["path"] for event in client.of("file")}
    plain = lab.client("send", "-v", "--to", daemon.url, "source", environ=environ, json=False).ends()
    assert "\\xfc" in plain.text() or "ü" in plain.text()
