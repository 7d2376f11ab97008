"""Power cuts, with a real file system: what was promised is there after it, what was not is not half there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import support.power_cut


@pytest.fixture
def quick_tmp() -> Iterator[Path]:
    """A folder in memory, where images are copied in no time."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="ftx-cut-", dir=base)
    yield Path(folder)
    shutil.rmtree(folder)


@pytest.mark.case("E97")
def test_power_cuts(quick_tmp: Path) -> None:
    """After `Stored` a file is complete under its name and known; before, nothing partial is visible; all goes on."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount")
    if shutil.which("mkfs.ext4") is None or shutil.which("unshare") is None:
        pytest.skip("needs mkfs.ext4 and unshare")
    command = ["unshare", "-m", sys.executable, support.power_cut.__file__, str(quick_tmp)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "mounted" not in run.stdout:
        pytest.skip("no loop devices here: " + run.stderr.strip()[-200:])
    assert run.stdout.rstrip().endswith("all is well"), run.stderr
