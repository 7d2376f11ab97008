"""Looking through what earlier uploads left behind: how often, and what goes."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ftx import limits
from ftx.client import upkeep


def test_a_process_looks_after_the_first_upload_and_then_now_and_then(tmp_path: Path) -> None:
    """Once in so many uploads, for each home by itself; of how many homes that is remembered is bounded."""
    state, other = str(tmp_path / "one"), str(tmp_path / "other")
    looks = [upkeep.due(state) for _ in range(2 * limits.UPKEEP_JOBS + 1)]
    assert [number for number, look in enumerate(looks) if look] == [0, limits.UPKEEP_JOBS, 2 * limits.UPKEEP_JOBS]
    assert upkeep.due(other)
    assert not upkeep.due(other)
    for number in range(limits.UPKEEP_JOBS):
        assert upkeep.due(str(tmp_path / str(number)))
    assert len(upkeep._ended) <= limits.UPKEEP_JOBS


def test_old_receipts_and_digests_go(tmp_path: Path) -> None:
    """Of both what was not touched for too long, and nothing else; folders that are missing are no matter."""
    state, now = str(tmp_path), time.time()
    upkeep.clean(state, now)
    for folder, suffix in ((upkeep.receipts_in(state), ".receipt"), (upkeep.memory_in(state), ".digests")):
        os.mkdir(folder)
        for name, age in (("old", limits.STATE_DAYS + 1), ("new", 1)):
            file = Path(folder, name + suffix)
            file.touch()
            os.utime(file, (now, now - age * 86400))
    upkeep.clean(state, now)
    assert os.listdir(upkeep.receipts_in(state)) == ["new.receipt"]
    assert os.listdir(upkeep.memory_in(state)) == ["new.digests"]
