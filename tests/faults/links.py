"""Links that fail: at every boundary of a TLS record, in both directions, and at bytes that a seed draws.

Where a job has several connections, that is done to its own and to one of its lanes, while the others are left alone.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

from faults.forks import missing_means
from faults.invariants import after_the_fault, at_the_end, came_back
from faults.model import BROKEN, HELD, MISSED, Outcome, Point, Scenario, Survey, Verdict
from faults.stage import Bench, Stage
from faults.wire import MANNERS, Link
from support.lab import until

from ftx.errors import KINDS

__all__ = ["LinkFault"]

#: What a client says of a handshake that was damaged or never went on: that this is no ftx, as far as it can tell.
NO_FTX = ("so it is not ftx", "does not speak ftx", "did not introduce itself in time")

#: Boundaries that are tried in each direction, by who sends: more than there are in the longest session that is run.
BOUNDARIES = {"client": 40, "daemon": 24}
#: Bytes that are drawn in each direction for each manner, most of them early, where the handshake and the offer are.
BYTES = 30
MOST = {"client": 5_000_000, "daemon": 12_000}
#: The same two of a job with lanes: of its own connection and of a lane, for who sends the content and who takes it.
OWN = {True: (40, 4_000_000), False: (20, 3_000)}
LANE = {True: (40, 900_000), False: (8, 2_100)}
#: Seconds for which a person looks at a transfer that does not go on.
PATIENCE = 0.3
#: Manners that must not be noticed.
HARMLESS = ("delay", "trickle")
#: Manners after which nothing may ever come.
SILENT = ("half-open", "lose")
_BUSY = KINDS["busy"].exit_code


def _was_no_ftx(stage: Stage, code: int | None) -> bool:
    """Whether the client ended because what answered did not look like ftx, which is so before the sign-in."""
    said = "".join(client.text() for client in stage.clients)
    return code == 8 and any(words in said for words in NO_FTX)


class LinkFault:
    """The kind `link`. The victim is who sends what is hurt.

    Labels: `MANNER/record-N`, `MANNER/byte-N`; of a lane `MANNER/lane-record-N` and `MANNER/lane-byte-N`.
    """

    name = "link"
    about = "the connection is reset, closed, damaged, held up or silent: at the end of each TLS record, and anywhere"

    def missing(self) -> str | None:
        """What the fork server needs."""
        return missing_means()

    def labels(self, scenario: Scenario, victim: str, survey: Survey) -> Sequence[str]:
        """Every boundary, and bytes that are drawn, the same each time."""
        if victim not in BOUNDARIES or scenario.from_start or not scenario.connects:
            return []
        dice = random.Random(f"{scenario.name} {victim}")
        found = []
        reaches = {"": (BOUNDARIES[victim], MOST[victim])}
        if scenario.lanes:
            reaches = {"": OWN[victim == scenario.sends], "lane-": LANE[victim == scenario.sends]}
        for manner in MANNERS:
            for which, (boundaries, most) in reaches.items():
                found += [f"{manner}/{which}record-{number}" for number in range(boundaries + 1)]
                drawn = sorted({int(most ** dice.random()) for _ in range(BYTES)})
                found += [f"{manner}/{which}byte-{number}" for number in drawn]
        return found

    def _left(self, scenario: Scenario, stage: Stage, link: Link) -> int | None:
        """Nothing passes any more, and the person at the client has enough; the daemon is not told."""
        codes: list[int] = []
        acting = threading.Thread(target=lambda: codes.append(scenario.act(stage)))
        acting.start()
        until(lambda: link.struck.is_set() or not acting.is_alive(), "the moment")
        acting.join(PATIENCE)
        if acting.is_alive() and stage.clients[-1].alive:
            stage.clients[-1].signal(signal.SIGTERM)  # a shell may have us ignore SIGINT
        acting.join(60)
        return codes[0] if codes else None

    def run(self, bench: Bench, scenario: Scenario, point: Point) -> Outcome:
        """Put the link between, look, run the same command again without it, look."""
        manner, _, place = point.label.partition("/")
        where, _, number = place.removeprefix("lane-").partition("-")
        only = None
        if scenario.lanes:  # the first is the job's own
            only = 1 + int(number) % scenario.lanes if place.startswith("lane-") else 0
        verdict = Verdict()
        with bench.stage() as stage:
            scenario.before(stage)
            daemon = stage.up()
            moment: dict[str, Any] = {where: int(number), "seed": int(number), "only": only}
            with Link(daemon.port, manner, inward=point.victim == "client", **moment) as link:
                stage.through = link.url
                code = None
                begun = time.monotonic()
                with verdict.holds("I10"):
                    code = scenario.act(stage) if manner not in SILENT else self._left(scenario, stage, link)
                if manner in HARMLESS and code != 0:
                    verdict.fails("I10", f"it ended with {code} after {time.monotonic() - begun:.1f} s: {stage.said()}")
                struck = link.struck.is_set()
                stage.through = None
                after_the_fault(scenario, stage, None if _was_no_ftx(stage, code) else code, verdict)
                again = None
                if came_back(stage, verdict):
                    with verdict.holds("I9"):
                        again = scenario.act(stage)
                    if again == _BUSY and manner in SILENT:
                        # who was heard of within ALIVE is not asked; when the newcomer comes back, it is
                        again = scenario.act(stage)
            # a daemon that nobody told of the end keeps its job until it has heard nothing for SILENCE
            if again is not None:
                at_the_end(scenario, stage, again, verdict)
            with verdict.holds("I9"):
                daemon.clean_log()
        if not struck and not verdict.broken:
            return Outcome(MISSED, code=code)
        return Outcome(BROKEN if verdict.broken else HELD, verdict.broken, f"{manner} {place}", code)
