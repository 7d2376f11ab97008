"""Scripts in name spaces of their own, with a file system in memory at a folder: small disks, other disks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["with_private_mount"]


def with_private_mount(folder: Path, options: str, script: str) -> None:
    """Run `script` (arguments: folder, tests) in name spaces of its own where `folder` is a file system in memory."""
    inner = f'mount -t tmpfs -o {options} none {folder} && exec {sys.executable} -c "$0" "$@"'
    tests = str(Path(__file__).parent.parent)
    command = ["unshare", "-rm", "sh", "-c", inner, script, str(folder.parent), tests]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if run.stdout.strip() != "all is well" and run.stderr.startswith(("unshare", "mount")):
        pytest.skip("no private mounts here: " + run.stderr.strip())
    assert run.stdout.strip() == "all is well", run.stderr
