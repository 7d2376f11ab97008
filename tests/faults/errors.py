"""Errors: a call that is answered with an errno instead of being carried out, once or from then on; or half done.

Nothing is lost by it, the daemon lives, who asked gets a code that says what it was, and when the error is gone the
same command again does the rest: on the same daemon, without a restart. `close` lets go of its descriptor all the same.
"""

from __future__ import annotations

import errno
import zlib
from collections.abc import Sequence

from faults.forks import missing_means
from faults.invariants import after_the_fault, at_the_end, came_back, leaves_nothing_open
from faults.model import BROKEN, HELD, MISSED, Outcome, Point, Scenario, Survey, Verdict
from faults.page import Fault
from faults.stage import Bench

__all__ = ["Errors"]

ERRNOS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EMFILE", "EINTR", "EACCES")
#: The calls that fail, by the name of the system call and that of the shim.
FAILING = {
    "write": "write",
    "pwrite": "pwrite",
    "fsync": "fsync",
    "fdatasync": "fdatasync",
    "syncfs": "syncfs",
    "linkat": "link",
    "renameat2": "rename",
    "openat": "open",
    "create": "create",
    "mkdirat": "mkdir",
    "fallocate": "fallocate",
    "ftruncate": "ftruncate",
    "close": "close",
    "read": "read",
    "pread": "pread",
    "unlinkat": "unlink",
    "utimensat": "utimens",
    "fchmod": "chmod",
    "symlinkat": "symlink",
    "ficlonerange": "copy",
    "flock": "flock",
}
#: What the log says when a sync of a folder has failed.
_RESTART = "restart the daemon"
#: The calls that may do half of what they were asked for, without any error.
SHORT = ("write", "pwrite", "read", "pread", "send", "recv")


class Errors:
    """The kind `errno`. Labels: `CALL-ERRNO/N`, `CALL-ERRNO+/N` (from then on), `CALL-short/N`."""

    name = "errno"
    about = "the N-th call of a kind answers with an error, once or from then on, or does half of what it was asked for"

    def missing(self) -> str | None:
        """A compiler, for the shim."""
        return missing_means()

    def labels(self, scenario: Scenario, victim: str, survey: Survey) -> Sequence[str]:
        """For each call that is made and each error one moment once, and one from then on; which, is drawn by name."""
        found = []
        for call, kind in FAILING.items():
            count = survey.get(kind, 0)
            for error in ERRNOS if count else ():
                for lasting in ("", "+") if error != "EINTR" else ("",):  # nobody is interrupted for ever
                    drawn = zlib.crc32(f"{scenario.name}/{victim}/{call}-{error}{lasting}".encode())
                    found.append(f"{call}-{error}{lasting}/{1 + drawn % count}")
        for kind in SHORT:
            found += [f"{kind}-short/{nth}" for nth in sorted({1, survey.get(kind, 0) // 2 + 1}) if survey.get(kind)]
        return found

    def _fault(self, label: str) -> Fault:
        what, _, nth = label.partition("/")
        call, _, error = what.partition("-")
        if error == "short":
            return Fault("short", int(nth), frozenset([call]))
        mode = "errors" if error.endswith("+") else "error"
        return Fault(mode, int(nth), frozenset([FAILING[call]]), getattr(errno, error.rstrip("+")))

    def run(self, bench: Bench, scenario: Scenario, point: Point) -> Outcome:
        """Let it fail, look, mend it, run the same command again, look."""
        verdict = Verdict()
        usual = bench.usual(scenario) if point.victim == "daemon" else None
        with bench.stage() as stage:
            scenario.before(stage)
            stage.arm(point.victim, self._fault(point.label))
            code = None
            with verdict.holds("I10"):
                code = scenario.act(stage)
            hit = stage.hit(point.victim)
            stage.disarm()
            if stage.running is not None and not stage.running.alive and not scenario.from_start:
                verdict.fails("I10", f"the daemon ended with {stage.running.wait()}:\n{stage.running.text()[-2000:]}")
            after_the_fault(scenario, stage, code, verdict)
            if code == 0:
                with verdict.holds("I2"):
                    scenario.after(stage)
            survived = stage.running is not None and stage.running.alive
            if came_back(stage, verdict):
                with verdict.holds("I9"):
                    code_then = scenario.act(stage)
                    if code_then and stage.running is not None and _RESTART in stage.running.text():
                        # what the operator is told to do then: the kernel may have dropped what it had
                        stage.running.kill()
                        stage.up()
                        survived, code_then = False, scenario.act(stage)
                    at_the_end(scenario, stage, code_then, verdict)
                if survived and usual is not None:
                    leaves_nothing_open(stage, usual, verdict)
        if hit is None and not verdict.broken:
            return Outcome(MISSED, code=code)
        return Outcome(BROKEN if verdict.broken else HELD, verdict.broken, str(hit or ""), code)
