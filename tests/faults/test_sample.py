"""A sample of the fault lab, drawn by a seed: `make faults` runs all of it.

FAULT_SECONDS: how long it takes, all kinds together; FAULT_SEED: which sample. A point that is broken is run again by
its name: `cd tests && python -m faults.run --only NAME`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from faults.kinds import KINDS

TESTS = Path(__file__).parent.parent
SECONDS = float(os.environ.get("FAULT_SECONDS", "30"))
SEED = os.environ.get("FAULT_SEED", "1")


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.case("G112")
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_sample(kind: str) -> None:
    """Hurt at moments drawn from the seed, nothing is lost, and the same command again ends byte-identical."""
    words = ["--sample", "--kind", kind, "--seed", SEED, "--seconds", str(SECONDS / len(KINDS))]
    command = [sys.executable, "-m", "faults.run", *words]
    run = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    if run.stdout.startswith("skipped: "):
        pytest.skip(run.stdout.splitlines()[0])
    assert run.returncode == 0, f"seed {SEED}:\n{run.stdout}{run.stderr}"
    tried = re.search(r"^(\d+) points tried, (\d+) missed", run.stdout, re.M)
    assert tried is not None, run.stdout
    assert int(tried[1]) > int(tried[2]), f"nothing was hurt: {run.stdout}"
