"""Disks that are full, sources that are gone or change, targets that are not there: what is said, and what is kept."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.gate import Gate
from support.lab import Lab
from support.ports import free_port
from support.trees import MiB, make_tree, snapshot, visible


@pytest.fixture
def small_disk(lab: Lab) -> Iterator[Callable[[int], Path]]:
    """Makes a file system of so many bytes, or gives it another size."""
    place = lab.root / "disk"
    place.mkdir()
    mounted = False

    def mount(size: int) -> Path:
        nonlocal mounted
        options = f"size={size},mode=700" + (",remount" if mounted else "")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a tmpfs cannot be mounted: {done.stderr.strip()}")
        mounted = True
        return place

    yield mount
    lab.__exit__()
    if mounted:
        subprocess.run(["umount", place], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the space there is."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


@pytest.mark.case("E91")
def test_too_large_for_the_disk(lab: Lab, small_disk: Callable[[int], Path]) -> None:
    """Refused before a byte of it travels; what fits arrives; with more room the same command does the rest."""
    make_tree(lab.root / "source", {"fits": 2 * MiB + 1, "large": 30 * MiB, "small": 10})
    disk = small_disk(16 * MiB)
    daemon = lab.daemon(inbox=disk / "inbox")
    client = lab.send(daemon, "source", code=9)
    failed = [event for event in client.of("file") if event["status"] == "failed"]
    assert [(event["path"], event["error"]["name"]) for event in failed] == [("source/large", "no-space")]
    assert client.one("done")["bytes_wire"] == 2 * MiB + 11
    assert daemon.partials() == []
    alone = lab.send(daemon, "--into", "x", "source/large", code=6)
    assert "free some space" in alone.text()
    small_disk(64 * MiB)
    done = lab.send(daemon, "source").one("done")
    assert (done["files_identical"], done["bytes_wire"]) == (2, 30 * MiB)
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    daemon.clean_log()


@pytest.mark.case("E86")
def test_the_disk_fills_up_on_the_way(lab: Lab, small_disk: Callable[[int], Path]) -> None:
    """Somebody else takes the space in the middle: `no-space`, the daemon lives; with room again, the rest arrives."""
    make_tree(lab.root / "source", {f"small/{number}": 20_000 for number in range(300)} | {"a": 3 * MiB})
    disk = small_disk(24 * MiB)
    daemon = lab.daemon(inbox=disk / "inbox")
    with Gate(daemon.port, hold=5 * MiB) as gate:
        client = lab.sending(gate.url, "source")
        gate.wait()
        client.reaches("progress", files_done=1)
        filler = fill(disk)
        gate.open()
        code = client.wait()
    assert code in (6, 9), client.text()
    failed = [event for event in client.of("file") if event["status"] == "failed"]
    assert {event["error"]["name"] for event in failed} <= {"no-space"}, client.text()
    assert client.text().count("free some space") >= 1
    assert daemon.alive
    seen = visible(daemon.inbox)
    for path, size in seen.items():
        assert (lab.root / os.fsdecode(path)).stat().st_size == size
    daemon.clean_log()
    filler.unlink()
    done = lab.send(daemon, "source").one("done")
    assert done["files_identical"] >= len(seen) - 1
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    assert len(visible(daemon.inbox)) == 301
    assert daemon.partials() == []


@pytest.mark.case("E88")
def test_the_daemon_starts_on_a_full_disk_or_says_why_not(lab: Lab, small_disk: Callable[[int], Path]) -> None:
    """Its inbox has no room for its own records: one sentence, no traceback; what can be offered is refused."""
    (lab.root / "a").write_bytes(bytes(100_000))
    disk = small_disk(4 * MiB)
    fill(disk)
    code, said = lab.refused(inbox=disk / "inbox")
    assert code == 1
    assert said.startswith("ftx-server: ")
    assert "Traceback" not in said


def test_sources_that_are_not_there(lab: Lab) -> None:
    """Exit 3 before anything is sent, with the path; and nothing is made at home."""
    daemon = lab.daemon("receiver")
    missing = lab.send(daemon, "nothing here", home="sender", code=3)
    assert missing.failure()["name"] == "source-missing"
    assert "nothing here" in missing.text()
    assert not (lab.root / "sender").exists()
    (lab.root / "x").mkdir()
    (lab.root / "y").mkdir()
    for folder in ("x", "y"):
        (lab.root / folder / "same").write_bytes(b"1")
    twice = lab.send(daemon, "x/same", "y/same", home="sender", code=2)
    assert twice.failure()["name"] == "duplicate-name"


def test_links_and_devices_are_skipped_by_name(lab: Lab) -> None:
    """Named each, success all the same; a link that was named itself is followed."""
    make_tree(lab.root / "source", {"a": 10})
    os.symlink("a", lab.root / "source" / "link")
    os.mkfifo(lab.root / "source" / "pipe")
    os.symlink(lab.root / "source", lab.root / "named")
    daemon = lab.daemon()
    client = lab.send(daemon, "named")
    assert {event["path"]: event["status"] for event in client.of("file")} == {
        "named/a": "stored",
        "named/link": "skipped",
        "named/pipe": "skipped",
    }
    assert client.one("done")["files_skipped"] == 2
    assert sorted(visible(daemon.inbox)) == [b"named/a"]


@pytest.mark.case("C71")
@pytest.mark.parametrize("how", ["changed", "shorter", "removed"])
def test_a_source_that_does_not_hold_still(how: str, lab: Lab) -> None:
    """Changed or gone while it is read: that file fails by name, never a mixture; later the same command sends it."""
    make_tree(lab.root / "source", {"a": 24 * MiB, "b": 10})
    daemon = lab.daemon()
    with Gate(daemon.port, hold=4 * MiB) as gate:
        client = lab.sending(gate.url, "source")
        gate.wait()
        client.reaches("progress", bytes_sent=4 * MiB)
        path = lab.root / "source" / "a"
        if how == "removed":
            path.rename(lab.root / "elsewhere")
        else:
            with path.open("r+b") as file:
                file.write(b"another beginning")
                if how == "shorter":
                    file.truncate(6 * MiB)
        gate.open()
        code = client.wait()
    failed = [event for event in client.of("file") if event["status"] == "failed"]
    if how == "removed":  # an open file stays what it is
        assert code in (0, 9)
        return
    assert code == 9, client.text()
    assert [(event["path"], event["error"]["name"]) for event in failed] == [("source/a", "source-changed")]
    assert sorted(visible(daemon.inbox)) == [b"source/b"]
    lab.send(daemon, "source")
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    assert daemon.partials() == []
    daemon.clean_log()


def test_targets_that_are_not_there(lab: Lab) -> None:
    """Nobody listens: exit 4 at once. A name nobody has: exit 4. No target, no such option: exit 2."""
    (lab.root / "a").write_bytes(b"1")
    nobody = lab.sending(f"ftx://127.0.0.1:{free_port()}", "a").ends(4)
    assert nobody.failure()["name"] == "connection-refused"
    assert "is the daemon running there?" in nobody.text()
    assert nobody.of("retry") == []
    unknown = lab.client("send", "a", "nobody-of-that-name.invalid:").ends(4)
    assert unknown.failure()["name"] == "name-not-found"
    assert lab.client("send", "a").wait() == 2
    misspelt = lab.client("send", "a", "x:", "--conflct", "fail").ends(2)
    assert "--conflict" in misspelt.text()
    assert lab.client("send", "a", "x:", "--conflict", "replace").wait() == 2
    for client in (nobody, unknown, misspelt):
        assert "Traceback" not in client.text()


def test_found_by_its_name(lab: Lab) -> None:
    """A daemon that answers discovery is found by name and listed; a stranger's is listed too, unverified."""
    (lab.root / "a").write_bytes(b"1")
    daemon = lab.daemon("home", "--name", "attic", discovery=True)
    lab.client("send", "a", "attic:").ends()
    assert (daemon.inbox / "a").read_bytes() == b"1"
    seen = lab.client("discover").ends()
    assert [(one["name"], one["port"], one["verified"]) for one in seen.of("peer")] == [("attic", daemon.port, True)]
    assert seen.events[-1]["event"] == "summary"
    other = lab.client("discover", home="other").ends().of("peer")
    assert [(one["name"], one["verified"], one["paired"]) for one in other] == [("attic", False, False)]
    daemon.kill()
    assert lab.client("discover", "--wait", "0.3").ends(11).one("summary")["exit"] == 11


@pytest.mark.case("G122")
def test_only_one_daemon_and_one_inbox(lab: Lab) -> None:
    """A second daemon of the home, of the inbox, or of the port: exit 1 and a sentence that names it."""
    daemon = lab.daemon()
    for home, how, words in (
        ("home", {}, f"another ftx daemon uses {lab.root}/home"),
        ("second", {"inbox": daemon.inbox}, str(daemon.inbox)),
        ("third", {"port": daemon.port}, f"port {daemon.port}"),
    ):
        code, said = lab.refused(home, **how)  # type: ignore[arg-type]
        assert code == 1
        assert words in said, said
        assert "Traceback" not in said
    daemon.call("daemon.status")
