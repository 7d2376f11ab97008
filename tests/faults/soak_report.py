"""The account of a soak, and its page: what was done, which faults struck, what was found, and what stayed behind."""

from __future__ import annotations

import statistics
import threading
from collections import Counter
from datetime import UTC, datetime

import attrs

__all__ = ["Account", "Sample", "written"]

#: Seconds after which caches and tables of bounded size are full, in a run that is long enough for it.
WARM_UP = 900.0
#: How much more the last quarter may have than what followed the warm-up: descriptors and threads, and a part of bytes.
SLACK = 2
MORE = 1.10


@attrs.frozen
class Sample:
    """What was there at a moment when nothing ran."""

    seconds: float
    descriptors: int
    threads: int
    #: Bytes: resident in the daemon; on disk in `.ftx`; on disk in the sender's home.
    resident: int
    kept: int
    home: int
    #: Jobs until then.
    jobs: int


@attrs.define(eq=False)
class Account:
    """What happened, from any thread."""

    seed: int
    commit: str
    began: datetime = attrs.Factory(lambda: datetime.now(UTC))
    kinds: Counter[str] = attrs.Factory(Counter)
    faults: Counter[str] = attrs.Factory(Counter)
    codes: Counter[int] = attrs.Factory(Counter)
    runs: int = 0
    samples: list[Sample] = attrs.Factory(list)
    #: Where, and what.
    violations: list[tuple[str, str]] = attrs.Factory(list)
    _lock: threading.Lock = attrs.Factory(threading.Lock)

    @property
    def jobs(self) -> int:
        """How many jobs there were, however often each was run."""
        return self.kinds.total()

    def job(self, kind: str) -> None:
        """A job has ended as it should, or was given up."""
        with self._lock:
            self.kinds[kind] += 1

    def fault(self, kind: str) -> None:
        """A fault has struck."""
        with self._lock:
            self.faults[kind] += 1

    def ended(self, code: int) -> None:
        """A client has ended."""
        with self._lock:
            self.codes[code] += 1
            self.runs += 1

    def violation(self, where: str, what: str) -> None:
        """Something should not have been."""
        with self._lock:
            self.violations.append((where, what))
        print(f"VIOLATION {where}: {what}", flush=True)

    def compared(self) -> list[tuple[str, float, float, bool]]:
        """Of each quantity: its median after the warm-up, its median at the end, and whether it is flat."""
        warm = [one for one in self.samples if one.seconds >= WARM_UP] or self.samples
        part = max(1, len(warm) // 4)
        found = []
        for name in ("descriptors", "threads", "resident", "kept", "home"):
            first = statistics.median(getattr(one, name) for one in warm[:part])
            last = statistics.median(getattr(one, name) for one in warm[-part:])
            most = first + SLACK if name in ("descriptors", "threads") else first * MORE
            found.append((name, first, last, last <= most))
        return found

    def flat(self) -> bool:
        """Whether nothing has grown."""
        return all(flat for *_, flat in self.compared())


def _rows(counted: Counter[str] | Counter[int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counted.items(), key=lambda item: -item[1]))


def _verdict(first: float, last: float) -> str:
    """Of what has stayed below its bound: `flat`, or by how much it has grown all the same, from a hundredth on."""
    more = (last - first) / first * 100 if first else 0.0
    return f"grown by {more:.1f} %, within the bound" if more >= 1 else "flat"


def written(account: Account) -> str:
    """The page."""
    length = account.samples[-1].seconds
    lines = [
        "# The soak",
        "",
        "Written by `make soak` (`tests/faults/soak.py`): two daemons and a sender, mixed jobs with random faults in",
        "the middle; after each fault the same command again until it succeeds, and then source and copy compared",
        "byte for byte. Once a minute everybody waits, and what the daemon that lives through all holds is counted.",
        "(The table of receipts in its inbox, which has a bound, is full from the start; the sender keeps its latest",
        "1,000 as files.) Flat: of descriptors and threads the last quarter has at most 2 more than the first one",
        "after the warm-up of 15 minutes, of bytes at most a tenth more; the table below says when it came.",
        "",
        f"{account.began:%Y-%m-%d}, commit {account.commit}, seed {account.seed}, {length / 60:.0f} minutes.",
        "",
        f"- Jobs: {account.jobs:,} ({_rows(account.kinds)}), in {account.runs:,} runs of the client.",
        f"- Faults: {account.faults.total():,} ({_rows(account.faults)}).",
        f"- Exit codes: {_rows(account.codes)} (-9: killed).",
        f"- Violations: {len(account.violations)}.",
        "",
    ]
    for where, what in account.violations:
        lines += [f"    - {where}: {what.splitlines()[0] if what else ''}", ""]
    lines += ["| | after the warm-up | at the end | |", "| --- | ---: | ---: | --- |"]
    titles = {
        "descriptors": "descriptors of the daemon",
        "threads": "its threads",
        "resident": "its resident memory, KiB",
        "kept": "`.ftx` of its inbox on disk, KiB",
        "home": "home of the sender on disk, without its receipts, KiB",
    }
    for name, first, last, flat in account.compared():
        scale = 1 if name in ("descriptors", "threads") else 1024
        verdict = _verdict(first, last) if flat else "GROWN"
        lines.append(f"| {titles[name]} | {first / scale:,.0f} | {last / scale:,.0f} | {verdict} |")
    lines += ["", "| minute | jobs | descriptors | threads | memory KiB | `.ftx` KiB | home KiB |", "| ---: " * 7 + "|"]
    step = max(1, len(account.samples) // 12)
    for one in [*account.samples[:-1:step], account.samples[-1]]:
        cells = [one.seconds / 60, one.jobs, one.descriptors, one.threads]
        cells += [one.resident / 1024, one.kept / 1024, one.home / 1024]
        lines.append("| " + " | ".join(f"{cell:,.0f}" for cell in cells) + " |")
    return "\n".join(lines) + "\n"
