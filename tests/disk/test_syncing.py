"""Shared syncs: when they are used, and when files get their own."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftx.disk.syncing import Syncs
from ftx.limits import SYNC_EACH, SYNCFS_PAUSE, SYNCFS_SLOW


class Clock:
    """A clock that a sync moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sync_takes = 0.0
        self.synced = 0

    def __call__(self) -> float:
        return self.now

    def syncfs(self, fd: int) -> None:
        """A shared sync that takes its time."""
        os.fstat(fd)
        self.synced += 1
        self.now += self.sync_takes


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """A folder's descriptor."""
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_few_are_synced_each_and_many_at_once(folder: int) -> None:
    """Up to eight files get their own fsync; nine share one."""
    clock = Clock()
    syncs = Syncs(folder, syncfs=clock.syncfs, clock=clock)
    group = syncs.group()
    assert not group.shared(SYNC_EACH)
    assert group.shared(SYNC_EACH + 1)
    assert clock.synced == 1
    group.close()
    group.close()


def test_a_slow_shared_sync_is_not_tried_again_soon(folder: int) -> None:
    """It waits for other programs' data, so files get their own syncs for a while."""
    clock = Clock()
    clock.sync_takes = SYNCFS_SLOW + 0.1
    syncs = Syncs(folder, syncfs=clock.syncfs, clock=clock)
    group = syncs.group()
    assert group.shared(100)
    group.close()
    group = syncs.group()
    assert not group.shared(100)
    group.close()
    clock.now += SYNCFS_PAUSE
    group = syncs.group()
    assert group.shared(100)
    group.close()


def test_forbidden_shared_sync(folder: int) -> None:
    """On file systems that do not report errors that way it is never used."""
    group = Syncs(folder, use_syncfs=False).group()
    assert not group.shared(100)
    group.files([folder], 100)
    group.close()


@pytest.mark.case("E88")
def test_a_failed_sync_is_an_error(folder: int) -> None:
    """It is never taken for success, and not tried a second time by another way."""

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    group = Syncs(folder, syncfs=fail).group()
    with pytest.raises(OSError, match="input/output"):
        group.files(iter(()), 100)
    group.close()


@pytest.mark.case("D83")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_a_refused_shared_sync_is_none(folder: int, number: int) -> None:
    """An old kernel or a sandbox without the call: every file gets its own sync, from the first batch on."""
    asked: list[int] = []

    def refuse(fd: int) -> None:
        asked.append(fd)
        raise OSError(number, os.strerror(number))

    syncs = Syncs(folder, syncfs=refuse)
    for _ in range(2):
        group = syncs.group()
        assert not group.shared(100)
        group.close()
    assert len(asked) == 1
