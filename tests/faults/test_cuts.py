"""Power cuts, with a real file system: what was promised is there after it, what was not is not half there.

A sample, drawn by CUT_SEED: CUTS of each scenario in CUT_SCENARIOS. `make cuts` runs all.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
CUTS = os.environ.get("CUTS", "3")


@pytest.mark.slow
@pytest.mark.case("E97")
def test_power_cuts() -> None:
    """After `Stored` a file is complete under its name and known; before, nothing partial is visible; all goes on."""
    names = os.environ.get("CUT_SCENARIOS", "tree state").split()
    words = [word for name in names for word in ("--scenario", name)]
    words += ["--most", CUTS, "--seed", os.environ.get("CUT_SEED", "1")]
    command = [sys.executable, "-m", "faults.cuts", *words]
    run = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=100, check=False)
    if run.stdout.startswith("skipped: "):
        pytest.skip(run.stdout.strip())
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{len(names) * int(CUTS)} cuts, 0 broken" in run.stdout
