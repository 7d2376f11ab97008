"""Power cuts by the thousand: what a run writes to its disk is recorded once, and then cut everywhere.

A point is a state of the disk: `in-order/N` is all that was written before entry N of the record. `out-of-order/N~K`
is all before the last flush ahead of N, and a part, drawn by a seed, of what was written after it: a disk may write
what was not flushed in any order, or not at all. On each state the file system is mounted, which replays its journal;
what had been promised by then must be there, nothing half done may be visible, and the same once more must end well.

`python -m faults.cuts`, from the folder `tests`, as root: see `make cuts`. Evidence goes to the same report as that of
every other kind of fault (`faults.run`); what it has for this commit already is not run again.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import attrs
from faults.cut_scenarios import SCENARIOS
from faults.model import BROKEN, HELD, Outcome, Point
from faults.recorder import Entry, Recorded, entries, missing_means, run
from faults.report import Report
from faults.space import own_mounts
from support.trees import MiB

from ftx.disk import linux

__all__ = ["ABOUT", "KIND", "Record", "check", "labels", "main", "recorded"]

KIND = "power-cut"
ABOUT = "the power fails: the disk keeps what it had been told to keep, and any part of what came after"
IMAGE = 16 * MiB
#: Nothing is written but what is asked for: the next commit by itself comes in ten minutes.
OPTIONS = "commit=600"
#: What a disk writes in one piece at most, when it is cut: a block of the file system.
PIECE = 1024
#: Points that are handed to each worker before the time is looked at.
_SOME = 8


@attrs.frozen
class Record:
    """What reached the disk while a scenario ran: the image before, every entry, where cuts begin, the promises."""

    scenario: str
    image: bytes
    entries: Sequence[Entry]
    start: int
    #: Promises with the number of entries there were by then.
    promises: Sequence[tuple[int, str]]

    def promised(self, at: int) -> frozenset[str]:
        """What had been promised when so many entries had reached the disk."""
        return frozenset(one for position, one in self.promises if position <= at)

    def state(self, label: str) -> bytes:
        """The disk at a point."""
        draw, end = "~" in label, _place(label)
        flushed = max((n for n in range(end) if self.entries[n].data is None), default=0) if draw else end
        disk = bytearray(self.image)
        for entry in self.entries[:flushed]:
            if entry.data is not None:
                disk[entry.offset : entry.offset + len(entry.data)] = entry.data
        if draw:
            dice = random.Random(f"{self.scenario} {label}")
            part = dice.random()
            for entry in self.entries[flushed:end]:
                for place in range(0, len(entry.data or b""), PIECE):
                    if dice.random() < part:
                        piece = (entry.data or b"")[place : place + PIECE]
                        disk[entry.offset + place : entry.offset + place + len(piece)] = piece
        return bytes(disk)


def _place(label: str) -> int:
    """How many entries had reached the disk at the point of that label."""
    return int(label.rpartition("/")[2].partition("~")[0])


def _sync(top: Path) -> None:
    """Sync this file system, and no other."""
    fd = os.open(top, os.O_RDONLY)
    linux.syncfs(fd)
    os.close(fd)


def recorded(name: str, folder: Path) -> Record:
    """Run a scenario on a disk that is recorded, below `folder`, which is empty."""
    scenario = SCENARIOS[name]
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(IMAGE)
    run("mkfs.ext4", "-q", "-F", "-m", "0", image)
    promises: list[tuple[int, str]] = []
    with Recorded(folder, image, OPTIONS) as disk:
        top = disk.mounted / "top"
        top.mkdir()
        scenario.before(top)
        _sync(top)
        start = disk.position
        (top / "unsynced").write_bytes(b"never asked to be durable")
        scenario.act(top, lambda one: promises.append((disk.position, one)))
        end = disk.position
    return Record(name, image.read_bytes(), list(entries(disk.log))[:end], start, promises)


def _no_mounts(folder: Path) -> str | None:
    """Why a new file system cannot be mounted here at all; None where it can."""
    image, mounted = folder / "tried", folder / "mounted-tried"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE)
    try:
        run("mkfs.ext4", "-q", "-F", "-m", "0", image)
        run("mount", "-o", "loop", image, mounted)
        run("umount", mounted)
    except subprocess.CalledProcessError as error:
        return f"{error.cmd} {error.stderr.decode(errors='replace')}"
    image.unlink()
    return None


def labels(record: Record, subsets: int) -> list[str]:
    """Every point of a record: each prefix, and so many subsets wherever something is not flushed."""
    found, waiting = [], 0
    for number in range(record.start, len(record.entries) + 1):
        found.append(f"in-order/{number}")
        found += [f"out-of-order/{number}~{draw}" for draw in range(subsets) if waiting]
        if number < len(record.entries):
            waiting = waiting + 1 if record.entries[number].data is not None else 0
    return found


def check(record: Record, label: str, folder: Path) -> Outcome:
    """Mount the state of a point below `folder` and look at it."""
    image, mounted = folder / f"image-{os.getpid()}", folder / f"mounted-{os.getpid()}"
    mounted.mkdir(exist_ok=True)
    image.write_bytes(record.state(label))
    promised = record.promised(_place(label))
    try:
        run("mount", "-o", "loop", image, mounted)
    except subprocess.CalledProcessError as error:
        return Outcome(BROKEN, (f"it cannot be mounted: {error.stderr.decode(errors='replace')}",))
    broken: list[str] = []
    try:
        if _place(label) == record.start and (mounted / "top" / "unsynced").exists():
            broken.append("lab: this is no power cut")
        SCENARIOS[record.scenario].check(mounted / "top", promised)
    except AssertionError as error:
        broken.append(f"I2: {error}")
    except Exception:
        broken.append(f"I9: {traceback.format_exc()}"[:3000])
    finally:
        run("umount", "-l", mounted)
    return Outcome(BROKEN if broken else HELD, broken, "cut")


_record: Record


def _checked(label: str, folder: Path) -> tuple[str, Outcome, float]:
    begun = time.monotonic()
    outcome = check(_record, label, folder)
    return label, outcome, time.monotonic() - begun


def _chosen(record: Record, report: Report, given: argparse.Namespace) -> list[str]:
    """The points of a record that the command line asks for, shuffled by the seed, but for those tried already."""
    found = labels(record, given.subsets)
    random.Random(f"{given.seed} {record.scenario}").shuffle(found)
    part, parts = map(int, given.part.split("/"))
    found = found[: given.most][part - 1 :: parts]
    return [label for label in found if not report.done(_point(record.scenario, label))]


def _point(name: str, label: str) -> Point:
    return Point(KIND, f"cut-{name}", "disk", label)


def run_scenario(
    name: str, report: Report, given: argparse.Namespace, folder: Path, seconds: float
) -> tuple[int, list[str]]:
    """Record a scenario and check its points, for so long at most; how many, and those that are broken."""
    global _record
    work = folder / name
    work.mkdir()
    _record = recorded(name, work)
    chosen = _chosen(_record, report, given)
    broken, count = [], 0
    begun = time.monotonic()
    with ProcessPoolExecutor(given.workers, mp_context=get_context("fork")) as pool:
        while count < len(chosen) and time.monotonic() - begun < seconds:
            some = chosen[count : count + _SOME * given.workers]
            count += len(some)
            for label, outcome, taken in pool.map(_checked, some, [folder] * len(some)):
                report.add(_point(name, label), outcome, taken)
                if outcome.verdict == BROKEN:
                    broken.append(f"{name}/{label}")
                    print(f"BROKEN {name}/{label}", *outcome.broken, sep="\n    ", flush=True)
    length, promises = len(_record.entries) - _record.start, len(_record.promises)
    print(f"{name}: {length} entries, {promises} promises, {count} cuts, {time.monotonic() - begun:.0f} s", flush=True)
    shutil.rmtree(work)
    return count, broken


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 when something was broken."""
    parser = argparse.ArgumentParser(prog="python -m faults.cuts", description="Cut the power, by the thousand.")
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS), help="only this one; may be repeated")
    parser.add_argument("--most", type=int, default=1 << 30, help="at most so many cuts of each scenario")
    parser.add_argument("--subsets", type=int, default=1, help="how many reordered states for each prefix")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="every N-th cut, beginning with the K-th")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", type=Path, default=None, help="the file that takes the evidence")
    given = parser.parse_args(arguments)
    lacking = missing_means() or own_mounts()
    if lacking is not None:
        print(f"skipped: {lacking}")
        return 0
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="ftx-cuts-", dir=base))
    report, total, broken = Report(given.report), 0, []
    try:
        lacking = _no_mounts(folder)
        if lacking is not None:
            print(f"skipped: {lacking}")
            return 0
        names = given.scenario or sorted(SCENARIOS)
        ends = time.monotonic() + given.seconds
        for number, name in enumerate(names):  # each has its share of the time that is left
            share = (ends - time.monotonic()) / (len(names) - number)
            count, found = run_scenario(name, report, given, folder, share)
            total += count
            broken += found
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{total} cuts, {len(broken)} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
