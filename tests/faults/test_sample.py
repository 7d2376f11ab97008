"""A sample of the fault lab, drawn by a seed: `make faults` runs all of it.

FAULT_SECONDS: how long it takes, all kinds together, but one point of each is hit in any case; FAULT_SEED: which
sample. A point that is broken is run again by its name: `cd tests && python -m faults.run --only NAME`.
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
SECONDS = float(os.environ.get("FAULT_SECONDS", "4"))
SEED = os.environ.get("FAULT_SEED", "1")


@pytest.fixture(scope="module")
def sample() -> subprocess.CompletedProcess[str]:
    """One run for all kinds, which take turns."""
    words = ["--sample", "--seed", SEED, "--seconds", str(SECONDS), "--least", "1"]
    command = [sys.executable, "-m", "faults.run", *words]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.case("G112")
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_sample(sample: subprocess.CompletedProcess[str], kind: str) -> None:
    """Hurt at moments drawn from the seed, nothing is lost, and the same command again ends byte-identical."""
    said = f"seed {SEED}:\n{sample.stdout}{sample.stderr}"
    skipped = re.search(rf"^skipped: {kind}: .*", sample.stdout, re.M)
    if skipped is not None:
        pytest.skip(skipped[0])
    tried = re.search(rf"^{kind}: (\d+) points tried, (\d+) missed, (\d+) broken$", sample.stdout, re.M)
    assert tried is not None, said
    assert int(tried[1]) > int(tried[2]), f"nothing was hurt: {said}"
    assert tried[3] == "0", said
