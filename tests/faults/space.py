"""Disks that end: no space, no inodes, a file system that has met an error and takes no more writing.

The process is stopped at a moment, the world around it is changed, and it goes on. What holds the home (inbox, records,
key, state) and the folder that receives is a small file system of the point's own, in a mount name space of its own:
`python -m faults.run` makes that where it may.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from faults.forks import missing_means
from faults.invariants import after_the_fault, at_the_end, came_back
from faults.model import BROKEN, HELD, MISSED, Outcome, Point, Scenario, Survey, Verdict
from faults.page import CHANGES, Fault
from faults.stage import Bench, Stage
from support.lab import until

from ftx.disk import linux

__all__ = ["Space", "own_mounts"]

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
#: Moments of each scenario and way, spread over it.
MOMENTS = 8
MiB = 1 << 20
#: Large enough for every scenario, and a tenth more.
SIZE, INODES = 40 * MiB, 400
_moved = False


def own_mounts() -> str | None:
    """Move this process, which must have one thread, into a mount name space of its own; why not, where it may not."""
    global _moved
    libc = ctypes.CDLL(None, use_errno=True)
    if not _moved and os.geteuid() != 0:
        return "only root may mount"
    if not _moved and libc.unshare(_CLONE_NEWNS) != 0:
        return f"no mount name space: {os.strerror(ctypes.get_errno())}"
    libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    _moved = True
    return None


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")


class Disk:
    """A small file system at `folder`; `way` is how it is going to end."""

    def __init__(self, way: str, folder: Path, image: Path) -> None:
        self.way, self.folder, self.image = way, folder, image
        folder.mkdir(exist_ok=True)
        if way == "read-only":
            with image.open("wb") as file:
                file.truncate(SIZE)
            _run("mkfs.ext4", "-q", "-F", "-m", "0", image)
        self.mount()

    def mount(self) -> None:
        """Mount it."""
        if self.way == "read-only":
            _run("mount", "-o", "loop,errors=remount-ro", self.image, self.folder)
        else:
            options = f"size={SIZE},nr_inodes={INODES},mode=700"
            _run("mount", "-t", "tmpfs", "-o", options, "none", self.folder)
        self.folder.chmod(0o700)

    def sync(self) -> None:
        """Make all that is on it durable."""
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            linux.syncfs(fd)
        finally:
            os.close(fd)

    def ends(self) -> None:
        """From now on it takes no more."""
        if self.way == "read-only":
            [device] = [
                line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if f" {self.folder} " in line
            ]
            (Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error").write_text("1")
            return
        filler = self.folder / "filler"
        filler.mkdir()
        with contextlib.suppress(OSError):
            for number in range(INODES):
                with (filler / str(number)).open("wb", buffering=0) as file:
                    while self.way == "full":
                        file.write(bytes(4096))

    def mended(self) -> None:
        """It takes something again. A file system that has met an error is not mounted by anybody now."""
        if self.way == "read-only":
            self.unmount()
            subprocess.run(["fsck.ext4", "-y", self.image], capture_output=True, check=False)
            self.mount()
            return
        for path in (self.folder / "filler").iterdir():
            path.unlink()
        (self.folder / "filler").rmdir()

    def unmount(self) -> None:
        """Take it away."""
        _run("umount", self.folder)


@contextlib.contextmanager
def _disks(way: str, scenario: Scenario, stage: Stage) -> Iterator[list[Disk]]:
    """The disks that the scenario writes to; gone with the block."""
    places = [stage.home]
    above = scenario.place(stage).parent
    if above != stage.root and not above.is_relative_to(stage.home):
        places.append(above)
    made = []
    try:
        for number, place in enumerate(places):
            made.append(Disk(way, place, stage.bench.folder / f"image-{stage.root.name}-{number}"))
        yield made
    finally:
        stage.end_all()
        for disk in made:
            with contextlib.suppress(RuntimeError):
                disk.unmount()
            disk.image.unlink(missing_ok=True)


class Space:
    """The kind `disk`. Labels: `full/N`, `inodes/N`, `read-only/N`: after the N-th change."""

    name = "disk"
    about = "after the N-th change the disk is full, or has no inodes left, or has met an error and is read-only"

    def missing(self) -> str | None:
        """A compiler for the shim, and mounts of our own."""
        return missing_means() or own_mounts()

    def labels(self, scenario: Scenario, victim: str, survey: Survey) -> Sequence[str]:
        """Moments spread over all changes."""
        changes = sum(count for call, count in survey.items() if call in CHANGES)
        moments = sorted({1 + number * changes // MOMENTS for number in range(MOMENTS)}) if changes else []
        return [f"{way}/{nth}" for way in ("full", "inodes", "read-only") for nth in moments]

    def run(self, bench: Bench, scenario: Scenario, point: Point) -> Outcome:
        """Stop it, let the disk end, go on, look; mend the disk, run the same command again, look."""
        way, _, nth = point.label.partition("/")
        verdict = Verdict()
        with bench.stage() as stage, _disks(way, scenario, stage) as disks:
            scenario.before(stage)
            for disk in disks:
                disk.sync()  # what was there before was there for long
            page = stage.pages[point.victim]
            stage.arm(point.victim, Fault("stop", int(nth)))
            over = threading.Event()

            def change() -> None:
                until(lambda: page.struck or over.is_set(), "the moment", 60, 0.002)
                if page.struck:
                    pid = page.pid
                    until(lambda: _stopped(pid), "it has stopped")
                    for disk in disks:
                        disk.ends()
                    os.kill(pid, signal.SIGCONT)

            changing = threading.Thread(target=change)
            changing.start()
            code = None
            with verdict.holds("I10"):
                code = scenario.act(stage)
            over.set()
            changing.join()
            hit = stage.hit(point.victim)
            stage.disarm()
            if stage.running is not None and not stage.running.alive and not scenario.from_start:
                verdict.fails("I10", f"the daemon ended with {stage.running.wait()}:\n{stage.running.text()[-2000:]}")
            after_the_fault(scenario, stage, code, verdict)
            if hit is not None:
                if way == "read-only":
                    stage.end_all()
                for disk in disks:
                    disk.mended()
            if came_back(stage, verdict):
                with verdict.holds("I9"):
                    at_the_end(scenario, stage, scenario.act(stage), verdict)
        if hit is None and not verdict.broken:
            return Outcome(MISSED, code=code)
        return Outcome(BROKEN if verdict.broken else HELD, verdict.broken, str(hit or ""), code)


def _stopped(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
    return state in "TtZ"
