"""Larger files on their way out: what is remembered of them, and that they arrive although it cannot be."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support.inboxes import content, digest_of_content
from support.private_mount import with_private_mount

from ftx.disk.memory import DigestMemory
from ftx.disk.outgoing import LargeSource
from ftx.disk.source import Walk, roots
from ftx.disk.walk import SourceFile
from ftx.limits import BLOCK, GROUP

LATER = time.time() + 3600


def source(path: Path) -> SourceFile:
    """`path` as the walk finds it."""
    (found,) = Walk(roots([str(path)], str(path.parent))).batch(10)
    assert isinstance(found, SourceFile)
    return found


@pytest.fixture
def memory(tmp_path: Path) -> DigestMemory:
    return DigestMemory(str(tmp_path / "digests"))


def journal_fd(tmp_path: Path) -> int:
    """The descriptor of the journal that is open."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith(str(tmp_path / "digests")):
                return int(name)
        except OSError:
            continue
    raise AssertionError("no journal is open")


def spoil(tmp_path: Path, instead: str) -> None:
    """From here on the open journal is `instead`: `/dev/full` cannot be written, a folder not even read."""
    fd = os.open(instead, os.O_RDONLY if os.path.isdir(instead) else os.O_RDWR)
    os.dup2(fd, journal_fd(tmp_path), inheritable=False)
    os.close(fd)


@pytest.mark.parametrize("instead", ["/dev/full", "/"])
@pytest.mark.parametrize("after", range(5))
def test_a_memory_that_fails_on_the_way_fails_no_file(
    tmp_path: Path, memory: DigestMemory, instead: str, after: int
) -> None:
    """The state's disk fills up, or breaks, after some blocks: the rest is sent, and the file digest is right."""
    data = content(3 * BLOCK + 5)
    path = tmp_path / "big"
    path.write_bytes(data)
    large = LargeSource.open(1, source(path), memory, LATER)
    before = len(os.listdir("/proc/self/fd"))
    for index in range(4):
        if index == after:
            spoil(tmp_path, instead)
        assert large.block(index, send=True)[1] == len(data[index * BLOCK : (index + 1) * BLOCK])
    if after == 4:
        spoil(tmp_path, instead)
    assert large.digest() == digest_of_content(data)
    assert len(os.listdir("/proc/self/fd")) == before
    large.close()
    assert len(os.listdir("/proc/self/fd")) == before - 2


def test_digests_that_cannot_be_read_back_are_found_out_again(tmp_path: Path, memory: DigestMemory) -> None:
    """Known from an earlier run and on a disk that has broken since: the file is read, not failed."""
    data = content(2 * BLOCK) + bytes(BLOCK)
    path = tmp_path / "big"
    path.write_bytes(data)
    first = LargeSource.open(1, source(path), memory, LATER)
    for index in range(2):
        first.block(index, send=True)
    first.close()
    again = LargeSource.open(1, source(path), memory, LATER)
    assert list(again.known) == [0, 1]
    spoil(tmp_path, "/")
    assert again.block(2, send=True) != (b"", 0)
    assert again.digest() == digest_of_content(data)
    again.close()


def test_other_groups_are_taken_along(tmp_path: Path, memory: DigestMemory) -> None:
    """What is known of groups that are not in memory at the moment is known after the disk has filled up, too."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(3 * GROUP * BLOCK + 1)
    large = LargeSource.open(1, source(path), memory, LATER)
    known = [group * GROUP + offset for group in range(4) for offset in (0, 1) if group < 3 or not offset]
    for index in known[:-1]:
        large.block(index, send=True)
    fd = os.open(f"/proc/self/fd/{journal_fd(tmp_path)}", os.O_RDONLY)  # can be read, and not written any more
    os.dup2(fd, journal_fd(tmp_path), inheritable=False)
    os.close(fd)
    large.block(known[-1], send=True)
    assert list(large.known) == known
    large.close()


FULL_STATE = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from support.inboxes import content, digest_of_content
from ftx.disk.memory import DigestMemory
from ftx.disk.outgoing import LargeSource
from ftx.disk.source import Walk, roots
from ftx.limits import BLOCK

folder = sys.argv[1]
data = content(4 * BLOCK)
Path(folder, "big").write_bytes(data)
(file,) = Walk(roots([folder + "/big"], folder)).batch(10)
state = folder + "/state"
os.mkdir(state + "/digests", 0o700)
with open(state + "/fill", "wb", buffering=0) as fill:
    try:
        while True:
            fill.write(bytes(4096))
    except OSError:
        pass
large = LargeSource.open(1, file, DigestMemory(state + "/digests"), time.time() + 3600)
assert sum(large.block(index, send=True)[1] for index in range(4)) == len(data)
assert large.digest() == digest_of_content(data)
large.close()
print("all is well")
"""


def test_a_full_disk_for_the_state_fails_no_file(tmp_path: Path) -> None:
    """There never was any room for what is to be remembered: nothing is remembered, and everything is sent."""
    (tmp_path / "state").mkdir()
    with_private_mount(tmp_path / "state", "size=64k", FULL_STATE)
