"""Jobs with lanes from outside: what the daemon shows and counts of them, and how they are steered."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest
from support.lab import Daemon, Lab, rests, until
from support.trees import make_noise

from ftx.errors import KINDS

MIB = 1 << 20
SIZE = 12 * MIB + 77
#: So slow that a job is still there when programs have been started beside it, however busy the machine is.
SLOW = "2M"


def large(lab: Lab, name: str = "large", size: int = SIZE) -> Path:
    """A file of random bytes."""
    return make_noise(lab.root / name, size)


def measured(daemon: Daemon) -> dict[str, float]:
    """The metrics, by name and labels."""
    text = daemon.call("metrics.get")["text"]
    return {name: float(value) for name, value in re.findall(r"^(ftx_\S+) (\S+)$", text, re.M)}


def signed_in(daemon: Daemon) -> int:
    """Connections that have signed in."""
    return int(measured(daemon)['ftx_connections{signed_in="yes"}'])


def job_of(daemon: Daemon) -> dict[str, Any]:
    """The only job that runs."""
    [job] = daemon.call("jobs.list", state="active")["jobs"]
    return dict(job)


def test_a_push_is_one_job_and_its_bytes_count_once(lab: Lab) -> None:
    """Over four connections, which are shown as such."""
    source, daemon = large(lab), lab.daemon("home", "--limit-in", SLOW)
    watching = lab.client("ctl", "watch", "offered", "accepted", "progress", "file", "done")
    until(lambda: measured(daemon)["ftx_control_clients"] >= 2, "somebody watches")
    client = lab.sending(daemon.url, "--lanes", "4", source)
    until(lambda: signed_in(daemon) == 4, "four connections")
    client.reaches("progress", bytes_confirmed=MIB)
    job = job_of(daemon)
    assert (job["direction"], job["files"], job["bytes_total"]) == ("in", 1, SIZE)
    assert 0 < job["bytes_confirmed"] <= SIZE
    assert measured(daemon)["ftx_jobs_active"] == 1
    daemon.call("limits.set", rate_in=0)
    done = client.ends().one("done")
    assert (done["bytes"], done["bytes_wire"]) == (SIZE, SIZE)
    until(lambda: watching.of("done"), "the end is watched")
    assert [len(watching.of(name)) for name in ("offered", "accepted", "file", "done")] == [1, 1, 1, 1]
    seen = watching.of("progress")
    assert all(one["bytes_confirmed"] <= SIZE for one in seen)
    ended = watching.one("done")
    assert (ended["bytes"], ended["bytes_wire"]) == (SIZE, SIZE)
    figures = measured(daemon)
    assert (figures["ftx_received_bytes_total"], figures["ftx_jobs_done_total"]) == (SIZE, 1)
    until(lambda: signed_in(daemon) == 0, "no connection is left")
    assert "ftx_job_errors_total" not in daemon.call("metrics.get")["text"]
    daemon.clean_log()


def test_a_pull_is_one_job_and_its_bytes_count_once(lab: Lab) -> None:
    """Over three connections; the daemon sends."""
    large(lab, "shared/large")
    daemon = lab.daemon("home", f"--share=files={lab.root / 'shared'}", "--limit-out", SLOW)
    client = lab.client("get", "--lanes", "3", f"{daemon.url}/files", "out")
    until(lambda: signed_in(daemon) == 3, "three connections")
    client.reaches("progress", bytes_confirmed=MIB)
    job = job_of(daemon)
    assert (job["direction"], job["bytes_total"]) == ("out", SIZE)
    assert 0 <= job["bytes_confirmed"] <= SIZE
    daemon.call("limits.set", rate_out=0)
    done = client.ends().one("done")
    assert (done["bytes"], done["bytes_wire"]) == (SIZE, SIZE)
    daemon.idle()
    figures = measured(daemon)
    assert (figures["ftx_sent_bytes_total"], figures["ftx_jobs_done_total"]) == (SIZE, 1)
    until(lambda: signed_in(daemon) == 0, "no connection is left")
    daemon.clean_log()


@pytest.mark.parametrize("way", ["in", "out"])
def test_a_limit_that_comes_and_goes_holds_for_lanes(lab: Lab, way: str) -> None:
    """Set for the job, while it runs, to next to nothing; and taken away."""
    source = large(lab, "shared/large", 2 * SIZE)
    daemon = lab.daemon("home", f"--share=files={lab.root / 'shared'}", f"--limit-{way}", SLOW)
    if way == "in":
        client = lab.sending(daemon.url, "--lanes", "4", source)
    else:
        client = lab.client("get", "--lanes", "4", f"{daemon.url}/files", "out")
    until(lambda: signed_in(daemon) == 4, "four connections")
    job = client.reaches("progress", bytes_confirmed=MIB)["job"]
    lab.client("ctl", "limit", f"--{way}", "64Ki", f"job:{job}").ends()
    lab.client("ctl", "limit", f"--{way}", "0").ends()  # that of the job alone is left
    assert rests(lambda: job_of(daemon)["bytes_confirmed"], "a job that is held up") < 2 * SIZE - 4 * MIB
    lab.client("ctl", "limit", f"--{way}", "0", f"job:{job}").ends()
    client.ends()
    daemon.clean_log()


@pytest.mark.parametrize("way", ["in", "out"])
def test_pause_resume_and_cancel(lab: Lab, way: str) -> None:
    """By the daemon's control socket; a cancelled job is resumed by the same command."""
    source = large(lab, "shared/large", 3 * SIZE)
    daemon = lab.daemon("home", f"--share=files={lab.root / 'shared'}", f"--limit-{way}", SLOW)
    words = ["send", "--to", daemon.url, str(source)] if way == "in" else ["get", f"{daemon.url}/files/large", "out"]
    client = lab.client(*words[:1], "--lanes", "4", *words[1:])
    until(lambda: signed_in(daemon) == 4, "four connections")
    job = client.reaches("progress", bytes_confirmed=MIB)["job"]
    assert lab.client("ctl", "pause", job).ends().events
    assert job_of(daemon)["paused"] == "here"
    until(lambda: client.of("progress")[-1]["stage"] == "paused", "the client shows it")
    assert measured(daemon)["ftx_jobs_paused"] == 1
    lab.client("ctl", "resume", job).ends()
    assert job_of(daemon)["paused"] == ""
    lab.client("ctl", "cancel", job).ends()
    assert client.ends(KINDS["cancelled"].exit_code).failure()["name"] == "cancelled"
    until(lambda: signed_in(daemon) == 0, "no connection is left")
    assert measured(daemon)['ftx_job_errors_total{name="cancelled"}'] == 1
    lab.client("ctl", "limit", f"--{way}", "0").ends()
    done = lab.client(*words[:1], "--lanes", "4", *words[1:]).ends().one("done")
    assert done["bytes_wire"] < 3 * SIZE
    target = daemon.inbox / "large" if way == "in" else lab.root / "out" / "large"
    assert target.read_bytes() == source.read_bytes()
    daemon.clean_log()


@pytest.mark.parametrize("way", ["in", "out"])
def test_the_client_is_interrupted(lab: Lab, way: str) -> None:
    """That is one job that has failed, for one reason, and no connection is left."""
    source = large(lab, "shared/large")
    daemon = lab.daemon("home", f"--share=files={lab.root / 'shared'}", f"--limit-{way}", SLOW)
    words = ["send", "--to", daemon.url, str(source)] if way == "in" else ["get", f"{daemon.url}/files/large", "out"]
    client = lab.client(*words[:1], "--lanes", "4", *words[1:])
    until(lambda: signed_in(daemon) == 4, "four connections")
    client.reaches("progress", bytes_confirmed=MIB)
    client.signal(signal.SIGTERM)
    client.ends(KINDS["terminated"].exit_code)
    until(lambda: signed_in(daemon) == 0, "no connection is left")
    daemon.idle()
    figures = measured(daemon)
    assert figures["ftx_jobs_failed_total"] == 1
    assert [value for name, value in figures.items() if name.startswith("ftx_job_errors_total")] == [1]
    daemon.clean_log()


def test_left_for_later(lab: Lab, short_tmp: Path) -> None:
    """The daemon sends it over as many connections as were asked for, and shows one job."""
    source, here, away = large(lab), lab.daemon("home"), lab.daemon("away", "--limit-in", SLOW)
    lab.pair("home", "away", "attic", f"127.0.0.1:{away.port}")
    lab.pair("away", "home", "desk", f"127.0.0.1:{here.port}")
    lab.client("send", str(source), "--later", "--lanes", "3", "--to", "attic:").ends()
    until(lambda: signed_in(away) == 3, "three connections")
    job = job_of(here)
    until(lambda: (job_of(here)["bytes_confirmed"] or 0) > MIB, "something has arrived")
    lab.client("ctl", "pause", job["job"]).ends()
    until(lambda: signed_in(away) == 0, "the attempt has ended")
    away.call("limits.set", rate_in=0)
    lab.client("ctl", "resume", job["job"]).ends()
    until(lambda: not here.call("queue.list")["entries"], "it is sent")
    assert (away.inbox / "large").read_bytes() == source.read_bytes()
    for daemon in (here, away):
        daemon.idle()
        daemon.clean_log()
