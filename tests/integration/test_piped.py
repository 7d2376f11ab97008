"""Standard input as a source: of any length, known only at its end, read once."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from support.lab import Lab, until
from support.trees import MiB, visible

NOISE = random.Random(3).randbytes(5 * MiB + 77)
CONTENTS = {
    "nothing": b"",
    "a byte": b"1",
    "less than a block": NOISE[: MiB - 1],
    "a block": NOISE[:MiB],
    "blocks": NOISE[: 3 * MiB],
    "more": NOISE,
    "holes": bytes(2 * MiB) + NOISE[:5000] + bytes(2 * MiB + 5),
}


def test_streams_of_every_length(lab: Lab) -> None:
    """Stored whole, under the name that was given, with the digest that `hash` prints; a hole is a hole."""
    daemon = lab.daemon()
    for name, content in CONTENTS.items():
        reading, writing = os.pipe()
        client = lab.sending(daemon.url, "--into", "in", "-", "--name", name, stdin=reading)
        os.close(reading)
        with open(writing, "wb") as stream:
            stream.write(content)
        done = client.ends().one("done")
        event = client.one("file")
        stored = daemon.inbox / "in" / name
        assert stored.read_bytes() == content, name
        assert (done["files"], done["bytes"]) == (1, len(content))
        assert (event["path"], event["status"], event["size"]) == (name, "stored", len(content))
        (lab.root / "copy").write_bytes(content)
        assert lab.client("hash", str(lab.root / "copy")).ends().events[0]["digest"] == event["digest"]
    assert (daemon.inbox / "in" / "holes").stat().st_blocks * 512 < 64 * 1024
    assert daemon.partials() == []
    again = lab.sending(daemon.url, "--into", "in", "-", "--name", "a byte").ends()
    assert again.one("file")["stored_as"] == "in/a byte (1)", "another stream is another file"
    daemon.clean_log()


def test_a_file_as_standard_input(lab: Lab) -> None:
    """`< FILE` works like any stream; so does a stream that stays silent for a while."""
    (lab.root / "file").write_bytes(NOISE)
    daemon = lab.daemon()
    with (lab.root / "file").open("rb") as file:
        lab.sending(daemon.url, "-", "--name", "copy", stdin=file).ends()
    assert (daemon.inbox / "copy").read_bytes() == NOISE
    client = lab.sending(daemon.url, "-", "--name", "slow", stdin=subprocess.PIPE)
    stream = client.popen.stdin
    assert stream is not None
    stream.write(NOISE[: 2 * MiB])
    stream.flush()
    client.reaches("progress", bytes_confirmed=2 * MiB)
    assert client.of("progress")[-1]["bytes_total"] is None
    assert visible(daemon.inbox) == {b"copy": len(NOISE)}, "no name before the end"
    stream.write(b"end")
    stream.close()
    client.ends()
    assert (daemon.inbox / "slow").read_bytes() == NOISE[: 2 * MiB] + b"end"


@pytest.mark.parametrize("who", ["client", "daemon"])
def test_a_stream_that_is_cut_leaves_nothing(lab: Lab, who: str) -> None:
    """It cannot be read again: no retry, no partial, no name; and the exit code says that the peer was lost."""
    daemon = lab.daemon()
    client = lab.sending(daemon.url, "-", "--name", "cut", stdin=subprocess.PIPE)
    stream = client.popen.stdin
    assert stream is not None
    stream.write(NOISE)
    stream.flush()
    client.reaches("progress", bytes_confirmed=4 * MiB)
    if who == "client":
        client.kill()
        daemon.idle()
    else:
        daemon.kill()
        client.ends(4)
        assert client.one("failed")["resumable"] is False
        assert client.of("retry") == []
        daemon = lab.again(daemon)
        until(lambda: daemon.partials() == [], "what was left over is gone")
    assert visible(daemon.inbox) == {}
    assert daemon.partials() == []
    stream.close()


def test_conflict_rules_hold_for_streams(lab: Lab) -> None:
    """fail and skip answer before anything is read; overwrite replaces at the end."""
    daemon = lab.daemon("home", "--conflict", "overwrite")
    (daemon.inbox / "a").write_bytes(b"mine")
    (daemon.inbox / "folder").mkdir()
    fails = ["--conflict", "fail", "-", "--name", "a"]
    assert lab.sending(daemon.url, *fails).ends(6).one("file")["error"]["name"] == "exists"
    skipped = lab.sending(daemon.url, "--conflict", "skip", "-", "--name", "a").ends()
    assert skipped.one("done")["files_skipped"] == 1
    assert lab.sending(daemon.url, "-", "--name", "folder").ends(6).one("file")["error"]["name"] == "exists"
    with Path("/dev/null").open("rb") as empty:
        lab.sending(daemon.url, "-", "--name", "a", stdin=empty).ends()
    assert (daemon.inbox / "a").read_bytes() == b""
    daemon.clean_log()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-"], "needs a name"),
        (["-", "--name", "a/b"], "not the name of a file"),
        (["-", "--name", ".."], "not the name of a file"),
        (["x", "--name", "a"], "--name is for standard input"),
        (["-", "x", "--name", "a"], "is sent alone"),
        (["-", "--name", "a", "--to", "b"], "is sent alone"),
    ],
)
def test_usage(lab: Lab, words: list[str], said: str) -> None:
    """What cannot be meant is said before anything is asked."""
    client = lab.client("send", "--to", "nobody", *words, json=False)
    assert client.wait() == 2
    assert said in client.text()
