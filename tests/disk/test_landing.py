"""Folders that `get` puts things into: whose records are kept."""

from __future__ import annotations

import os
from pathlib import Path

from ftx import limits
from ftx.disk.landing import open_landing


def test_records_of_the_folders_used_last_are_kept(tmp_path: Path) -> None:
    """One folder more than LANDINGS: the one that was not used for the longest time is forgotten, and nothing else."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    open_landing(str(tmp_path / "first"), str(state), print).close()
    (first,) = (state / "received").iterdir()
    os.utime(first, (1, 1))
    others = [state / "received" / f"{number:064x}" for number in range(limits.LANDINGS - 1)]
    for number, other in enumerate(others):
        other.mkdir(mode=0o700)
        (other / "names.db").touch()
        os.utime(other, (100 + number, 100 + number))
    open_landing(str(tmp_path / "first"), str(state), print).close()
    assert len(list((state / "received").iterdir())) == limits.LANDINGS, "there is room for so many"
    assert any(first.iterdir())
    os.utime(first, (1, 1))
    for name in ("second", "third"):
        open_landing(str(tmp_path / name), str(state), print).close()
    kept = set((state / "received").iterdir())
    assert len(kept) <= limits.LANDINGS + 1
    assert first not in kept
    assert kept >= set(others[1:])
