"""Measuring a disk: what is written is nowhere to be seen, and what cannot be measured is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.private_mount import with_private_mount

from ftx.disk.trial import write_speed
from ftx.errors import FtxError
from ftx.limits import MiB

FULL = """
import os, sys
from ftx.disk.trial import write_speed
from ftx.errors import FtxError
folder = os.open(os.path.join(sys.argv[1], "small"), os.O_RDONLY)
try:
    write_speed(folder, 2 << 20)
except FtxError as error:
    assert error.name == "no-space", error.name
else:
    raise AssertionError("measured")
write_speed(folder, 1 << 20)
assert os.listdir(folder) == []
print("all is well")
"""


def test_nothing_is_left(tmp_path: Path) -> None:
    """Neither a name, nor space, nor another time on the folder."""
    folder = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    before = os.stat(folder)
    assert write_speed(folder, 2 * MiB + 5) > 0
    after = os.stat(folder)
    os.close(folder)
    assert os.listdir(tmp_path) == []
    assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)


def test_a_file_system_without_nameless_files() -> None:
    """There is no other way that would leave no trace."""
    folder = os.open("/proc/self", os.O_RDONLY)
    with pytest.raises(FtxError) as caught:
        write_speed(folder, 1)
    os.close(folder)
    assert caught.value.name in ("not-supported", "no-space")


def test_a_full_disk_is_not_measured(tmp_path: Path) -> None:
    """Ten times the size must be free: a measurement must not be what fills a disk."""
    (tmp_path / "small").mkdir()
    with_private_mount(tmp_path / "small", "size=15m", FULL)
