"""Jobs whose content takes several connections, at a rate that leaves them time to join."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from faults.scenarios.pulling import Pulling
from faults.scenarios.sending import SMALL, Sending
from faults.stage import Bench, Stage
from support.trees import MiB

#: Bytes per second. The first megabytes go by the job's own connection, which is there before its lanes.
RATE = "12Mi"


def sizes(large: int) -> Mapping[str | bytes, int]:
    """One file of so many blocks and a little, and some that are one each."""
    return {**SMALL, "large": large * MiB + 77}


class SendingOverLanes(Sending):
    """Send with lanes beside the job's own connection."""

    lanes = 3

    def __init__(self, name: str, about: str) -> None:
        super().__init__(name, about, sizes(8), "--lanes", str(self.lanes + 1), "--limit", RATE)


class PullingOverLanes(Pulling):
    """Get with lanes; it is the daemon that sends, at a rate of its own."""

    lanes = 2
    sends = "daemon"

    def __init__(self, name: str, about: str) -> None:
        super().__init__(name, about, "--lanes", str(self.lanes + 1))

    def source(self, bench: Bench) -> Path:
        return bench.source(self.name, sizes(12))

    def before(self, stage: Stage) -> None:
        self.place(stage).parent.mkdir(exist_ok=True)
        stage.up("--share", f"{self.name}={self.source(stage.bench)}", "--limit-out", RATE)


lanes = SendingOverLanes("lanes", "content over four connections")
pull_lanes = PullingOverLanes("pull-lanes", "get content over three connections")
