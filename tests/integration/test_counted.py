"""What a transfer costs, counted and not timed: system calls, memory, and how long the reactor is held up.

Each figure is the difference between two jobs, one larger than the other, so that what a job costs once does not
count. The bounds are what was counted when this was written and a little more: whoever goes beyond one has made ftx
slower or has a reason, which belongs beside the new figure.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.counted import calls, counted, tracing
from support.lab import Daemon, Lab
from support.processor import held_up
from support.trees import MiB, make_tree

FEW, MANY = 100, 300
SHORT, LONG = 6, 18
#: What waits or wakes: how often depends on who runs when, not on what is done.
SCHEDULING = {"futex", "epoll_wait", "epoll_ctl", "sched_yield", "mprotect", "brk", "madvise", "munmap", "mmap"}
SYNCS = {"fsync", "fdatasync", "syncfs"}
#: Runs a command and prints the most memory it had, in KiB: of a process as small as this one it is the command's own.
MEASURE = (
    "import resource, subprocess, sys\n"
    "code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
    "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
)


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Daemon]:
    """A daemon that is alive and quiet in the end."""
    made = lab.daemon()
    yield made
    assert made.alive
    made.clean_log()


def send(daemon: Daemon, source: Path) -> list[str]:
    """The client's command line; over one connection, for on a busy machine it might choose more."""
    words = ["--home", str(daemon.home), "-q", "send", "--lanes", "1", "--to", daemon.url, str(source)]
    return [sys.executable, "-m", "ftx", *words]


def both_ends(lab: Lab, daemon: Daemon, source: Path) -> tuple[Counter[str], Counter[str]]:
    """The calls of the client and of the daemon while `source` is sent."""
    log = lab.root / f"{source.name}.calls"
    with counted(daemon.pid, lab.root / "daemon.calls") as receiving:
        run = subprocess.run([*tracing(log), *send(daemon, source)], capture_output=True, timeout=60, check=False)
        assert run.returncode == 0, run.stderr
        daemon.idle()
    return calls(log), receiving


def more(larger: Counter[str], smaller: Counter[str], units: int) -> Counter[str]:
    """What each further unit costs, in hundredths of a call."""
    found = Counter({name: 100 * (larger[name] - smaller[name]) // units for name in larger})
    return Counter({name: count for name, count in found.items() if count > 0 and name not in SCHEDULING})


@pytest.mark.slow
def test_system_calls(lab: Lab, daemon: Daemon) -> None:
    """Of both ends, for each further small file and for each further MiB of a large one."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    for name, count in (("few", FEW), ("many", MANY)):
        make_tree(lab.root / name, {f"{number // 100}/{number}": 4096 for number in range(count)})
    for name, size in (("short", SHORT), ("long", LONG)):
        make_tree(lab.root / name, {"large": size * MiB})
    costs = {name: both_ends(lab, daemon, lab.root / name) for name in ("few", "many", "short", "long")}
    sending, receiving = (more(costs["many"][end], costs["few"][end], MANY - FEW) for end in (0, 1))
    print(f"a small file, hundredths of calls: {dict(sending)} and {dict(receiving)}")
    # Sender: open, read, close; a look when it is walked, which counts it too, and one at what was read.
    assert sending.total() <= 530
    assert sending["close"] + sending["close_range"] <= 110
    assert sending["openat"] <= 110
    assert sending["pread64"] + sending["read"] <= 110
    assert sending["newfstatat"] + sending["fstat"] <= 220
    assert sending["sendto"] <= 20
    # Receiver: an unnamed file, its content, its times, its name; two looks at what was opened, none at a name in a new
    # folder; syncs and records are shared by a batch, which is closed with one call.
    assert receiving.total() <= 680
    assert receiving["newfstatat"] + receiving["fstat"] <= 220
    assert receiving["close"] <= 10
    assert receiving["openat"] <= 110
    assert receiving["pwritev2"] + receiving["pwritev"] + receiving["pwrite64"] + receiving["write"] <= 150
    assert sum(receiving[name] for name in SYNCS) <= 20
    assert receiving["recvfrom"] <= 20
    sending, receiving = (more(costs["long"][end], costs["short"][end], LONG - SHORT) for end in (0, 1))
    print(f"a MiB, hundredths of calls: {dict(sending)} and {dict(receiving)}")
    # Sender: one read per block, and one write for each WRITE_SLICE of ciphertext; the digests remembered.
    assert sending["pread64"] + sending["read"] <= 400
    assert sending["sendto"] <= 1200
    assert sending["pwrite64"] <= 250
    # Receiver: one write per block, whatever the number of pieces; reads of READ_SIZE_SIGNED_IN, unless less is there.
    assert receiving["pwritev2"] + receiving["pwritev"] <= 110
    assert receiving["recvfrom"] <= 3200
    assert receiving["pwrite64"] <= 60
    assert sum(receiving[name] for name in SYNCS) <= 60


def peak(daemon: Daemon, source: Path) -> int:
    """The most memory that the client had, in bytes."""
    command = [sys.executable, "-I", "-S", "-c", MEASURE, *send(daemon, source)]
    code, kilobytes = map(int, subprocess.run(command, capture_output=True, timeout=60, check=True).stdout.split())
    assert code == 0
    return kilobytes * 1024


def longest_gap(daemon: Daemon) -> float:
    """Seconds for which the daemon's reactor was held up at most, in the last minute."""
    text = daemon.call("metrics.get")["text"]
    return float(next(line for line in text.splitlines() if line.startswith("ftx_reactor_gap_seconds")).split()[1])


@pytest.mark.slow
def test_peak_memory_and_gaps_of_fixed_jobs(lab: Lab, daemon: Daemon) -> None:
    """A large file and many small ones: both ends stay below 96 MiB, and twice as much takes no more.

    No turn of the daemon's reactor takes as long as blocking disk work would. The bound is far above what is needed,
    and what the machine took is not counted: it finds a sync or a digest in the wrong thread.
    """
    make_tree(lab.root / "large", {"large": 16 * MiB})
    make_tree(lab.root / "twice", {"large": 32 * MiB})
    make_tree(lab.root / "few", {f"{number // 100}/{number}": 64 for number in range(500)})
    make_tree(lab.root / "many", {f"{number // 100}/{number}": 64 for number in range(1000)})
    peaks = {}
    for name in ("large", "twice", "few", "many"):
        peaks[name] = peak(daemon, lab.root / name), daemon.memory()
    print({name: [f"{bytes_ / MiB:.0f} MiB" for bytes_ in both] for name, both in peaks.items()})
    assert max(bytes_ for both in peaks.values() for bytes_ in both) <= 96 * MiB
    for less, twice in (("large", "twice"), ("few", "many")):
        assert peaks[twice][0] - peaks[less][0] <= 8 * MiB
        assert peaks[twice][1] - peaks[less][1] <= 8 * MiB
    gap = longest_gap(daemon)
    print(f"the longest gap was {gap * 1000:.0f} ms")
    assert 0 <= gap < 2.0 + held_up(daemon.pid)
