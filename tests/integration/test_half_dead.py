"""A connection that one end believes in and the other has lost: the job goes on, on a newer one, and nothing mixes.

A proxy between the programs goes deaf in the middle of a transfer: it carries nothing more, and closes nothing. The job
is taken up again within the second, while the older connection still looks as if somebody was there. Two of the cases
belong to the ordinary run; `make kills` plays all of them, HALF_DEAD times.
"""

from __future__ import annotations

import os

import pytest
from support.gate import Gate
from support.lab import Lab
from support.trees import MiB, make_tree, snapshot, visible

ROUNDS = int(os.environ.get("HALF_DEAD", "0"))
SIZES = {"large": 24 * MiB, "s/1": 10, "s/2": 20_000, "s/3": 0}


@pytest.mark.parametrize("round_", range(max(ROUNDS, 1)))
@pytest.mark.parametrize("verb", ["get", "send"] if ROUNDS else ["get"])
def test_the_same_job_again(verb: str, round_: int, lab: Lab) -> None:
    """The client was told and comes back at once; the older connection is given up before the newer one has a say."""
    make_tree(lab.root / "source", SIZES)
    daemon = lab.daemon("home", f"--share=source={lab.root / 'source'}")
    with Gate(daemon.port, hold=(4 + round_) * MiB, back=verb == "get") as gate:
        words = ["send", "--to", gate.url, "source"] if verb == "send" else ["get", f"{gate.url}/source", "back"]
        client = lab.client(*words, "--lanes", "1")
        gate.wait()
        gate.deafen(told=True)
        gate.open()
        client.ends()
        assert gate.connections >= 2
    assert len(client.of("retry")) >= 1
    assert {event["error"]["name"] for event in client.of("retry")} <= {"busy", "connection-lost", "connection-reset"}
    there = daemon.inbox / "source" if verb == "send" else lab.root / "back" / "source"
    assert snapshot(there) == snapshot(lab.root / "source")
    assert len(visible(there.parent)) == len(SIZES)
    assert client.one("done")["bytes_wire"] <= 2 * sum(SIZES.values())  # what was on its way counts, too
    daemon.idle()
    daemon.clean_log()


@pytest.mark.case("K171")
@pytest.mark.parametrize("round_", range(max(ROUNDS, 1)))
@pytest.mark.parametrize("late", [False, True] if ROUNDS else [False])
def test_the_same_command_beside_it(late: bool, round_: int, lab: Lab) -> None:
    """Somebody runs it again elsewhere: it takes over, and what the older one still says changes nothing any more."""
    make_tree(lab.root / "source", SIZES)
    daemon = lab.daemon()
    with Gate(daemon.port, hold=(4 + round_) * MiB) as gate:
        older = lab.sending(gate.url, "source")
        gate.wait()
        gate.deafen()
        gate.open()
        if late:
            older.reaches("progress", bytes_sent=(4 + round_) * MiB)
        newer = lab.sending(daemon.url, "source").ends()
        assert newer.one("done")["files_failed"] == 0
        gate.hear()
        assert older.ends(None).wait() in (0, 4, 6)
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    assert len(visible(daemon.inbox)) == len(SIZES)
    daemon.idle()
    assert daemon.partials() == []
    daemon.clean_log()
