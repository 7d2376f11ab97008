"""A transfer that is under way: looking at it, stopping it, losing its connection, from both sides."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from time import monotonic
from typing import Any

import pytest
from support.gate import Gate
from support.lab import Lab, until
from support.trees import MiB, make_tree, snapshot, visible

from ftx import limits

SIZE = 24 * MiB


@pytest.fixture
def source(lab: Lab) -> int:
    """A large file and some small ones; the bytes in them."""
    return make_tree(lab.root / "source", {"large": SIZE, "s/1": 10, "s/2": 20, "s/3": 0})


def test_looking_at_it(lab: Lab, source: int) -> None:
    """status, jobs, show, watch, call and metrics while a job runs, by the client, by socat and by hand."""
    daemon = lab.daemon()
    with Gate(daemon.port, hold=10 * MiB) as gate:
        client = lab.sending(gate.url, "source")
        gate.wait()
        client.reaches("progress", bytes_confirmed=8 * MiB)
        job = client.of("accepted")[0]["job"]

        status = lab.client("ctl", "status").ends().events[0]
        assert status["jobs"] == {"active": 1, "waiting": 0, "done": 0, "failed": 0, "partial": 0}
        assert status["pid"] == daemon.pid
        assert status["listening"] == [{"address": "127.0.0.1", "port": daemon.port}]
        assert 8 * MiB <= status["bytes_in"] <= 10 * MiB
        jobs = lab.client("ctl", "jobs").ends().events
        shown = jobs[0]["jobs"][0] if "jobs" in jobs[0] else jobs[0]
        assert (shown["job"], shown["state"], shown["direction"]) == (job, "active", "in")
        assert (shown["files"], shown["bytes_total"]) == (4, source)
        assert 8 * MiB <= shown["bytes_confirmed"] <= 10 * MiB
        assert shown["bytes_durable"] <= shown["bytes_confirmed"]
        called = lab.client("ctl", "call", "jobs.show", json.dumps({"job": job})).ends().events[0]
        assert called["job"] == job
        assert "ftx_jobs_active 1" in daemon.call("metrics.get")["text"]
        if shutil.which("socat"):
            answer = subprocess.run(
                ["socat", "-t5", "-", f"UNIX:{daemon.control}"], input=b"status\n", capture_output=True, timeout=10
            )
            assert json.loads(answer.stdout)["result"]["jobs"]["active"] == 1

        watcher = lab.client("ctl", "watch")
        snapshot_ = watcher.reaches("snapshot")
        assert [one["job"] for one in snapshot_["jobs"]] == [job]
        gate.open()
        client.ends()
        done = watcher.reaches("done")
        assert (done["job"], done["files"], done["bytes"], done["result"]) == (job, 4, source, "ok")
        assert {event["path"] for event in watcher.of("file")} >= {"source/large"}
        watcher.signal(signal.SIGINT)
        assert watcher.wait() in (0, 130)
    assert daemon.call("daemon.status")["jobs"] == {"active": 0, "waiting": 0, "done": 1, "failed": 0, "partial": 0}
    assert daemon.call("jobs.show", job=job)["state"] == "done"
    daemon.clean_log()


def test_cancelled_by_the_receiver(lab: Lab, source: int) -> None:
    """ctl cancel: within a second, on the sender's screen too; what came stays, the same command goes on."""
    daemon = lab.daemon()
    with Gate(daemon.port, hold=10 * MiB) as gate:
        client = lab.sending(gate.url, "source")
        gate.wait()
        client.reaches("progress", bytes_confirmed=8 * MiB)
        lab.client("ctl", "cancel", client.of("accepted")[0]["job"]).ends()
        begun = monotonic()
        client.ends(6)
        # The word comes at once; what is left of the bound is for a machine that is busy. Without the word the sender
        # would ask after PING_INTERVAL, and give up much later.
        assert monotonic() - begun < limits.PING_INTERVAL
        assert client.failure()["name"] == "cancelled"
    assert visible(daemon.inbox) == {}
    done = lab.send(daemon, "source").one("done")
    assert done["bytes_wire"] <= source - 8 * MiB
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")


@pytest.mark.case("G113", "H132")
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_the_daemon(sign: signal.Signals, lab: Lab, source: int) -> None:
    """No new connections, the running job ends as it should, then exit 0."""
    daemon = lab.daemon()
    with Gate(daemon.port, hold=10 * MiB) as gate:
        client = lab.sending(gate.url, "source")
        gate.wait()
        daemon.signal(sign)
        until(lambda: "draining" in daemon.text(), "it drains", said=daemon)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", daemon.port), 5)
        assert daemon.call("daemon.status")["jobs"]["active"] == 1
        gate.open()
        client.ends()
    assert daemon.wait() == 0
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    daemon.clean_log()


@pytest.mark.case("G114")
def test_a_second_signal_stops_the_daemon_now(lab: Lab, source: int) -> None:
    """The job is cut, the exit code is 0 or the sender's to judge; both go on later where they were."""
    daemon = lab.daemon()
    with Gate(daemon.port, hold=10 * MiB) as gate:
        client = lab.sending(gate.url, "source")
        gate.wait()
        client.reaches("progress", bytes_confirmed=8 * MiB)
        daemon.signal(signal.SIGTERM)
        until(lambda: "draining" in daemon.text(), "it drains", said=daemon)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(10) == 0
        daemon.clean_log()
        # the client waits for it to come back
        client.reaches("retry")
        assert client.reaches("progress", stage="waiting")["rate"] is None
        gate.open()
        again = lab.again(daemon)
        client.ends()
    assert again.call("daemon.status")["bytes_in"] <= source - 8 * MiB
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")


@pytest.mark.case("G113")
def test_the_drain_has_an_end(lab: Lab, source: int) -> None:
    """--drain-timeout: a job that takes longer is cut, resumable."""
    daemon = lab.daemon("home", "--drain-timeout", "0.5")
    with Gate(daemon.port, hold=10 * MiB) as gate:
        client = lab.sending(gate.url, "source", "--retries", "0")
        gate.wait()
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(10) == 0
        client.ends(4)
        assert client.one("failed")["resumable"] is True
    daemon.clean_log()


@pytest.mark.case("H132")
def test_ctl_shutdown_and_drain(lab: Lab) -> None:
    """Both end the process with 0, and say so on the socket first."""
    daemon = lab.daemon()
    lab.client("ctl", "drain", "-y").ends()
    assert daemon.wait(10) == 0
    daemon = lab.again(daemon)
    lab.client("ctl", "shutdown", "-y").ends()
    assert daemon.wait(10) == 0
    assert lab.client("ctl", "status").wait() == 12
    daemon.clean_log()


@pytest.mark.case("G114")
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_client(sign: signal.Signals, code: int, lab: Lab, source: int) -> None:
    """130 or 143, the command that resumes, which then does."""
    daemon = lab.daemon()
    with Gate(daemon.port, hold=10 * MiB) as gate:
        client = lab.sending(gate.url, "source")
        gate.wait()
        client.reaches("progress", bytes_confirmed=8 * MiB)
        client.signal(sign)
        client.ends(code)
        assert f"send --lanes 1 --to {gate.url} source" in client.text()
        assert client.events[-1]["exit"] == code
        assert client.one("failed")["resumable"] is True
        daemon.idle()
        gate.open()
        words = next(line for line in client.text().splitlines() if "ftx-client" in line and "send" in line)
        resumed = words[words.index("--home") :].split()
        done = lab.client(*resumed, home="unused", json=False)
        done.ends()
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    assert daemon.call("daemon.status")["bytes_in"] <= source + 2 * MiB
    daemon.clean_log()


@pytest.mark.case("F99")
def test_the_connection_is_cut_again_and_again(lab: Lab, source: int) -> None:
    """Resets in the middle: one client run goes on each time, and nothing durable comes twice."""
    daemon = lab.daemon()
    with Gate(daemon.port, hold=6 * MiB) as gate:
        client = lab.sending(gate.url, "source")
        for round_ in (1, 2, 3):
            gate.wait()
            client.reaches("progress", bytes_confirmed=round_ * 4 * MiB)
            daemon_job: dict[str, Any] = daemon.call("jobs.list")["jobs"][-1]
            assert daemon_job["state"] == "active"
            gate.cut()
            gate.open(hold=6 * MiB)
            client.reaches("retry", attempt=round_)
        gate.open()
        client.ends()
        assert gate.connections >= 4
    retries = client.of("retry")
    assert [event["attempt"] for event in retries] == list(range(1, len(retries) + 1))
    assert all(event["error"]["name"] in ("connection-reset", "connection-lost", "busy") for event in retries)
    assert all(event["delay_s"] > 0 for event in retries)
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    assert daemon.call("daemon.status")["bytes_in"] <= source + 4 * 2 * MiB
    daemon.clean_log()


def test_two_at_once(lab: Lab, source: int) -> None:
    """Two runs over the same files: one does them, the other follows and finds them there; no second copy."""
    daemon = lab.daemon()
    with Gate(daemon.port, rate=1 << 16) as gate:  # slow, and heard all the time: what is silent is taken over
        first = lab.sending(gate.url, "source")
        first.reaches("progress", bytes_confirmed=4 * MiB)
        second = lab.sending(daemon.url, "source")
        second.reaches("accepted")
        first.ends()
        second.ends()
        for client in (first, second):
            assert client.one("done")["files_failed"] == 0
            reasons = {"busy", "superseded", "peer-silent", "connection-lost"}
            assert {event["error"]["name"] for event in client.of("retry")} <= reasons
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    assert len(visible(daemon.inbox)) == 4
    daemon.clean_log()


@pytest.mark.case("G115")
def test_reload(lab: Lab) -> None:
    """SIGHUP takes a good configuration, keeps the old one for a bad one, and says which; SIGUSR1 logs the jobs."""
    (lab.root / "a").write_bytes(b"1")
    daemon = lab.daemon()
    config = daemon.home / "config.toml"
    config.write_text('accept = "nonsense"\n', "utf-8")
    daemon.signal(signal.SIGHUP)
    until(lambda: "nonsense" in daemon.text(), "it refuses", said=daemon)
    assert daemon.call("daemon.status")["pid"] == daemon.pid
    config.write_text('conflict = "fail"\n', "utf-8")
    daemon.signal(signal.SIGHUP)
    until(lambda: "read again" in daemon.text(), "it takes it", said=daemon)
    lab.send(daemon, "a")
    (lab.root / "a").write_bytes(b"22")
    assert lab.send(daemon, "a", code=6).of("file")[0]["error"]["name"] == "exists"
    daemon.signal(signal.SIGUSR1)
    until(lambda: "0 running jobs" in daemon.text(), "it lists its jobs", said=daemon)
    daemon.clean_log()
