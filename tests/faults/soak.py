"""A soak: mixed jobs between real processes with random faults, for as long as one likes, and what stays behind of it.

Two daemons receive and share. `steady` lives through the whole run, and is looked at once a minute when nothing runs:
its descriptors, threads, memory, and what lies in its `.ftx` must stay as they are. `mortal` is killed, stopped and
given failing system calls, and comes back each time. Workers send trees, large files and pipes, get, list, discover
and pair; faults strike in the middle; then the same command is run again until it succeeds, and source and copy must
be the same byte for byte. Everything that should not have been is written down as a violation.

Run by root in a mount name space of its own: `unshare -m python tests/faults/soak.py --seconds 3600 --report FILE`, or
`make soak`. Both inboxes are on one small ext4 file system, which is full now and then.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent.parent)]

from faults.soak_jobs import Worker
from faults.soak_report import Account, Sample, written
from support.crowd import cost
from support.lab import Daemon, Lab, until
from support.trees import MiB, make_tree

from ftx import limits
from ftx.disk.inbox import Inbox

#: The size of the file system with the inboxes, and what is seldom left of it.
IMAGE = 512 * MiB
#: Seconds between two looks at what is there when nothing runs.
EACH = 60.0
WORKERS = 2


class Soak:
    """Both daemons, the workers, and the account of what happened."""

    def __init__(self, lab: Lab, disk: Path, seed: int, account: Account) -> None:
        self.lab = lab
        self.disk = disk
        self.account = account
        self.random = random.Random(seed)
        #: Held while a daemon is started or ended, and while a process is begun: the laboratory counts them.
        self.starting = threading.RLock()
        #: Clear while everybody has to wait between two jobs.
        self.going = threading.Event()
        self.over = threading.Event()
        self.library = lab.root / "library"
        few = {f"d/{n}": 90 + n for n in range(40)}
        make_tree(self.library, {"a": 5, "b/c": 70_000, "b/large": 5 * MiB + 11, **few})
        options = ("--conflict", "overwrite", "--share", f"library={self.library}", "--drain-timeout", "5")
        lab.identity("writer")
        for home in ("steady", "mortal"):
            lab.pair(home, "writer", "writer")
        _fill(disk / "steady")
        self.steady = lab.daemon("steady", *options, inbox=disk / "steady", discovery=True)
        self.mortal = lab.daemon("mortal", *options, inbox=disk / "mortal")
        for daemon in (self.steady, self.mortal):
            lab.pair("writer", daemon.home.name, daemon.home.name, f"127.0.0.1:{daemon.port}")
        self.workers = [Worker(self, number, self.random.randrange(1 << 60)) for number in range(WORKERS)]

    def mortal_again(self, how: str) -> None:
        """End `mortal`, by a signal's name, and start it again."""
        with self.starting:
            if how == "KILL":
                self.mortal.kill()
            else:
                self.mortal.signal(15)
                self.mortal.wait(60)
            self.read_log(self.mortal)
            self.mortal = self.lab.again(self.mortal)

    def read_log(self, daemon: Daemon) -> None:
        """Look for what must not be in a daemon's log."""
        try:
            daemon.clean_log()
        except AssertionError as error:
            self.account.violation(f"log of {daemon.home.name}", str(error)[:4000])

    def run(self, seconds: float) -> None:
        """Work until the time is over."""
        began = time.monotonic()
        for worker in self.workers:
            worker.start()
        try:
            while time.monotonic() - began < seconds and self.steady.alive:
                self.going.set()
                self.over.wait(min(EACH, max(1.0, began + seconds - time.monotonic())))
                self.going.clear()
                self.look(time.monotonic() - began)
        finally:
            self.over.set()
            self.going.set()
            for worker in self.workers:
                worker.join(300)
        if not self.steady.alive:
            self.account.violation("steady", "the daemon that should live through all has ended")
        for daemon in (self.steady, self.mortal):
            self.read_log(daemon)

    def look(self, seconds: float) -> None:
        """What is there when nothing runs."""
        until(lambda: all(worker.waits or not worker.is_alive() for worker in self.workers), "all wait", 600, 0.1)
        self.steady.idle()
        until(self._at_rest, "descriptors at rest", 30, 0.1)
        held = cost(self.steady.pid)
        store = self.steady.inbox / ".ftx"
        kept = sum(path.stat().st_blocks * 512 for path in store.rglob("*") if path.is_file())
        partials = self.steady.partials()
        if partials:
            self.account.violation("partials", f"{partials} lie in the inbox when every job is complete")
        written = [path for path in (self.lab.root / "writer").rglob("*") if path.is_file()]
        home = sum(path.stat().st_blocks * 512 for path in written if path.parent.name != "receipts")
        sample = Sample(seconds, held.descriptors, held.threads, held.resident, kept, home, self.account.jobs)
        self.account.samples.append(sample)
        print(sample, dict(self.account.faults), len(self.account.violations), "violations", flush=True)
        self._tidy()

    def _at_rest(self) -> bool:
        first = cost(self.steady.pid)
        time.sleep(0.2)
        return cost(self.steady.pid).descriptors == first.descriptors

    def _tidy(self) -> None:
        """What a person does to an inbox: older copies are thrown away. So are words of processes long ended."""
        for inbox in (self.steady.inbox, self.mortal.inbox):
            for path in inbox.rglob("*.~*~"):
                if path.is_file():
                    path.unlink()
        for path in self.lab.root.glob("client-*"):
            path.unlink()


def _fill(inbox: Path) -> None:
    """Fill the table of receipts of an inbox, which has a bound: what it grows by is no leak."""
    opened = Inbox.open(str(inbox))
    for number in range(limits.RECEIPT_FILES):
        job = opened.begin(bytes(32), number.to_bytes(16, "big"), (), "rename")
        job.save_receipt(bytes(260))
        job.close()
    opened.close()


def commit() -> str:
    """What is being tested."""
    here = Path(__file__).resolve().parent
    command = ["git", "-c", "safe.directory=*", "-C", str(here), "log", "-1", "--format=%h", "--", "../../ftx"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def main() -> int:
    """Run it and write the report; 1 when something should not have been."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--report", type=Path, required=True)
    given = parser.parse_args()
    os.environ["FTX_DISCOVERY_INTERFACE"] = "lo"
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    image = Path(tempfile.mkdtemp(prefix="ftx-soak-", dir=base))
    root = Path(tempfile.mkdtemp(prefix="ftx-soak-", dir="/tmp"))
    disk = root / "disk"
    disk.mkdir()
    account = Account(given.seed, commit())
    mounted = False
    try:
        with (image / "image").open("wb") as file:
            file.truncate(IMAGE)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image / "image"], check=True)
        subprocess.run(["mount", "-o", "loop,discard", image / "image", disk], check=True)
        mounted = True
        print(f"seed {given.seed}, commit {account.commit}, below {root}", flush=True)
        with Lab(root) as lab:
            Soak(lab, disk, given.seed, account).run(given.seconds)
    finally:
        if account.samples:
            given.report.write_text(written(account), "utf-8")
        if mounted:
            subprocess.run(["umount", "-l", disk], check=False)
        shutil.rmtree(image, ignore_errors=True)
        shutil.rmtree(root, ignore_errors=True)
    return 1 if account.violations or not account.flat() else 0


if __name__ == "__main__":
    sys.exit(main())
