"""What must hold at every point of the fault lab, whatever is done to ftx: the invariants, and how they are looked at.

Each look takes what it needs from the stage and reports to a `Verdict`. Nothing of ftx's own code decides here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from faults.model import Scenario, Verdict
from faults.stage import Stage
from support.lab import until
from support.trees import digest_of, visible

from ftx.errors import KINDS

__all__ = ["INVARIANTS", "after_the_fault", "at_the_end", "came_back", "leaves_nothing_open"]

#: The invariants. The table of docs/faults.md is made from them, by `docs/generate.py`.
INVARIANTS: Final[Mapping[str, str]] = {
    "I1": "a name is visible in the inbox only when its content is complete, verified and durable",
    "I2": "what was reported as stored is stored; a command that ends with 0 has done everything",
    "I3": "nothing outside of the inbox and of ftx's own folders is written, changed or removed",
    "I4": "nothing that exists is replaced unless the receiver's operator said so",
    "I5": "descriptors, threads and what lies in `.ftx` are bounded: "
    "nothing is left when all is done, at the latest after the next clean-up",
    "I6": "nothing that a stranger sends reaches manifest or file code (shown by the tests of hostile peers, not here)",
    "I7": "no byte of a peer reaches a terminal or a log uncleaned",
    "I8": "a failure has one code that says what it was; there are no tracebacks",
    "I9": "after any end the next start is clean, without a person, and the same command again ends byte-identical",
    "I10": "nothing hangs, and the daemon goes on",
}

#: What is said of a mistake of our own, and the exit code of a breach of the protocol.
_OURS = "something went wrong inside ftx"
_BREACH = 8
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BAD = ("Traceback", "Unhandled", "#critical")


def _looks(scenario: Scenario, stage: Stage, verdict: Verdict) -> dict[bytes, str]:
    """I1, I3 and I4: what a user sees now; names with their digests."""
    place = scenario.place(stage)
    seen = visible(place) if place.exists() else {}
    found = {path: digest_of(os.path.join(os.fsencode(place), path)) for path in seen}
    allowed = scenario.allowed(stage)
    for path, digest in found.items():
        if path not in allowed:
            verdict.fails("I1", f"a name that nobody sent: {path!r}")
        elif digest not in allowed[path]:
            verdict.fails("I1", f"not what was sent: {path!r}")
    for path, digests in scenario.kept(stage).items():
        if found.get(path) not in digests:
            verdict.fails("I4", f"replaced or gone: {path!r}")
    if not scenario.always(stage) <= set(found.values()):
        verdict.fails("I4", "content that was there is gone")
    if sorted(os.listdir(stage.outside)) != ["nobody touches this"]:
        verdict.fails("I3", "something was made or removed outside")
    for name in stage.bench.touched():
        verdict.fails("I3", f"a source was changed: {name}")
    return found


def _stored(scenario: Scenario, stage: Stage, found: Mapping[bytes, str], verdict: Verdict) -> None:
    """I2: each file that a client called stored or identical is there, under the name it was told."""
    for client in stage.clients:
        for event in client.of("file"):
            if event["status"] in ("stored", "identical") and "path_b64" not in event:
                name = os.fsencode(event["stored_as"] or event["path"])
                there = name in found or os.path.islink(os.path.join(os.fsencode(scenario.place(stage)), name))
                if not there and not any(other.startswith(name + b".~") for other in found):  # or moved aside since
                    verdict.fails("I2", f"said to be stored, and is not there: {name!r}")


def _words(stage: Stage, verdict: Verdict) -> None:
    """I7 and I8: what was said."""
    for name, text in stage.said():
        for word in _BAD:
            if word in text:
                verdict.fails("I8", f"{word} in {name}:\n{text[-3000:]}")
                break
        if _CONTROL.search(text):
            verdict.fails("I7", f"control characters in {name}")


def after_the_fault(scenario: Scenario, stage: Stage, code: int | None, verdict: Verdict) -> None:
    """Look at what the fault has left; `code` is how the command ended."""
    found = _looks(scenario, stage, verdict)
    _stored(scenario, stage, found, verdict)
    _words(stage, verdict)
    if code is not None and code >= 0:
        said = stage.clients[-1].text() if stage.clients else ""
        if code == _BREACH or _OURS in said:
            verdict.fails("I8", f"exit code {code}: {said}")
        for failed in stage.clients[-1].of("failed") if stage.clients else ():
            kind = KINDS.get(failed["error"]["name"])
            if kind is None or kind.exit_code != failed["exit"]:
                verdict.fails("I8", f"the error does not lead to that exit code: {failed}")


def came_back(stage: Stage, verdict: Verdict) -> bool:
    """I9: the daemon starts, or still runs; whether it does."""
    with verdict.holds("I9"):
        stage.up()
        return True
    return False


def at_the_end(scenario: Scenario, stage: Stage, code: int, verdict: Verdict) -> None:
    """Look after the same command was run again, unhurt, and ended with `code`."""
    if code != 0:
        said = stage.clients[-1].text() if stage.clients else ""
        verdict.fails("I9", f"the same command again ended with {code}: {said}")
    found = _looks(scenario, stage, verdict)
    _stored(scenario, stage, found, verdict)
    with verdict.holds("I9"):
        scenario.after(stage)
    _words(stage, verdict)
    if stage.running is not None and stage.running.alive:
        with verdict.holds("I10"):
            stage.running.idle()
        if code == 0 and stage.running.partials():
            with verdict.holds("I5"):  # what could not be removed goes at the next clean-up: every hour, and at a start
                stage.running.kill()
                left = stage.up().partials
                until(lambda: not left(), f"nothing is left among the partials: {left()}", 3)


def leaves_nothing_open(stage: Stage, usual: tuple[int, int], verdict: Verdict) -> None:
    """I5: the daemon, which survived, has no more descriptors than is usual by now, and no more threads than it may."""
    with verdict.holds("I5"):
        until(
            lambda: all(now <= then for now, then in zip(stage.descriptors(), usual, strict=True)),
            f"no more (descriptors, threads) than {usual}",
            5.0,
        )
