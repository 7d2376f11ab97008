"""`send --later` with the real programs: left with one daemon, sent to another, over a crash in between."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

from support.lab import Lab, until


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                status = Path(f"/proc/{name}/status").read_text("utf-8", "replace")
            except OSError:  # it has gone meanwhile
                continue
            if re.search(rf"^PPid:\t{pid}$", status, re.MULTILINE):
                found.append(int(name))
    return found


def runs(pid: int) -> bool:
    """Whether a process is there, and not just waiting to be counted."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def test_an_attempt_ends_with_its_daemon(lab: Lab, short_tmp: Path) -> None:
    """Killed or crashed: nobody goes on sending whom no daemon could stop."""
    (short_tmp / "file").write_bytes(b"content")
    daemon = lab.daemon("home")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ftx://127.0.0.1:{silent.getsockname()[1]}"
        lab.client("send", str(short_tmp / "file"), "--later", "--to", url).ends()
        silent.settimeout(20)
        taken, _ = silent.accept()
        with taken:
            [attempt] = children(daemon.pid)
            daemon.signal(signal.SIGKILL)
            daemon.wait()
            until(lambda: not runs(attempt), "the attempt has ended", 4)


def test_a_name_that_nobody_has_is_told_at_once(lab: Lab, short_tmp: Path) -> None:
    """Nothing is queued for a mistyped one; for what is an address, or says that it is a host, it is."""
    (short_tmp / "file").write_bytes(b"content")
    here, away = lab.daemon("home"), lab.daemon("away")
    lab.pair("home", "away", "attic", f"127.0.0.1:{away.port}")
    away.kill()
    for target, hint in (
        ("atic:", "did you mean attic?"),
        ("elsewhere:", "if it is a host: ftx://elsewhere/; the names there are: ftx-client peers list"),
        ("nobody@127.0.0.1:", "if it is a host: ftx://nobody/; the names there are: ftx-client peers list"),
    ):
        both = ("--to", "ATTIC:", "--to", target)
        said = lab.client("send", str(short_tmp / "file"), "--later", *both).ends(2).text()
        assert "cannot queue: the daemon knows no peer " in said
        assert f"hint: {hint}\n" in said
    assert here.call("queue.list")["entries"] == []
    named = ["ATTIC:", "attic@127.0.0.1:", "192.0.2.1:", "ftx://elsewhere.invalid/"]
    words = [word for target in named for word in ("--to", target)]
    lab.client("send", str(short_tmp / "file"), "--later", *words).ends()
    assert [entry["target"] for entry in here.call("queue.list")["entries"]] == named


def test_left_for_a_peer_that_is_away_over_a_crash(lab: Lab, short_tmp: Path) -> None:
    """The daemon is killed, started again, and sends as soon as the peer shows itself."""
    source = short_tmp / os.fsdecode(b"odd \xff name")
    source.write_bytes(b"content")
    here, away = lab.daemon("home"), lab.daemon("away")
    lab.pair("home", "away", "attic", f"127.0.0.1:{away.port}")
    lab.pair("away", "home", "desk", f"127.0.0.1:{here.port}")
    away.kill()
    lab.client("send", str(source), "attic:sub", "--later").ends()
    until(lambda: here.call("queue.list")["entries"][0]["attempts"], "an attempt")
    here.signal(signal.SIGKILL)
    here.wait()
    here = lab.again(here)
    assert [entry["target"] for entry in here.call("queue.list")["entries"]] == ["attic:sub"]
    away = lab.again(away)
    lab.client("ls", here.url, home="away").ends(None)  # which signs in there
    until(lambda: not here.call("queue.list")["entries"], "an empty queue", 30)
    assert os.listdir(os.fsencode(away.inbox / "sub")) == [b"odd \xff name"]
    assert [job["state"] for job in here.call("jobs.list")["jobs"]] == ["done"]
    here.clean_log()
    away.clean_log()
