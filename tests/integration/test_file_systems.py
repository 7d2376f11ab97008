"""Daemons on kernels and file systems that offer less, change under them, or are in an odd state."""

from __future__ import annotations

import os

import pytest
import support.refusing
from support.lab import Lab
from support.trees import MiB, make_tree, snapshot

EVERYTHING = ("openat2", "renameat2", "syncfs", "fallocate", "tmpfile")


def refusing(errno: str, *calls: str) -> list[str]:
    """The words of a daemon that is refused system calls."""
    return [support.refusing.__file__, errno, *calls, "--"]


@pytest.mark.parametrize(
    ("errno", "calls"), [("ENOSYS", EVERYTHING), ("EPERM", ("openat2",))], ids=["old-kernel", "sandbox"]
)
def test_D73_D83_a_kernel_that_refuses(lab: Lab, errno: str, calls: tuple[str, ...]) -> None:
    """openat2 and the other newer calls answered with an error, for real: all arrives, and nothing leads out."""
    if os.uname().machine not in support.refusing.CALLS:
        pytest.skip("the numbers of the system calls are not known here")
    sizes: dict[str | bytes, int] = {f"many/{number}": 100 + number for number in range(12)}
    make_tree(lab.root / "source", sizes | {"large": 2 * MiB + 1, "out/file": 10, "in/deep/file": 10})
    daemon = lab.daemon(runner=refusing(errno, *calls))
    outside = lab.root / "outside"
    outside.mkdir()
    (daemon.inbox / "source").mkdir()
    (daemon.inbox / "source" / "out").symlink_to(outside)
    (daemon.inbox / "source" / "large").write_bytes(b"mine")
    client = lab.send(daemon, "source", code=9)
    failed = {event["path"]: event["error"]["name"] for event in client.of("file") if event["status"] == "failed"}
    assert set(failed) == {"source/out", "source/out/file"}
    assert failed["source/out"] == "bad-name"
    assert os.listdir(outside) == []
    assert (daemon.inbox / "source" / "large").read_bytes() == b"mine"
    assert (daemon.inbox / "source" / "large (1)").stat().st_size == 2 * MiB + 1
    (daemon.inbox / "source" / "out").unlink()
    daemon.kill()
    daemon = lab.again(daemon)
    again = lab.send(daemon, "source").one("done")
    assert (again["bytes_wire"], again["files_identical"]) == (10, 14)
    (daemon.inbox / "source" / "large").unlink()
    (daemon.inbox / "source" / "large (1)").rename(daemon.inbox / "source" / "large")
    here, there = snapshot(daemon.inbox / "source"), snapshot(lab.root / "source")
    del here[b"."], there[b"."]  # that folder was there before
    assert here == there
    assert daemon.partials() == []
    daemon.clean_log()
