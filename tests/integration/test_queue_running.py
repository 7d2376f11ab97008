"""`send --later` with the real programs: left with one daemon, sent to another, over a crash in between."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from support.lab import Lab, until


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
