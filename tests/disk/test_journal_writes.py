"""What durability costs: writes to the journal per group of blocks, not per block."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftx.core.blocks import block_digest
from ftx.disk.journal import Journal
from ftx.limits import BLOCK, GROUP


def writes() -> int:
    """Calls of this thread that wrote to files so far (proc(5), syscw)."""
    lines = Path("/proc/thread-self/io").read_text("ascii").splitlines()
    return next(int(line.partition(":")[2]) for line in lines if line.startswith("syscw"))


@pytest.mark.parametrize(
    ("blocks", "groups"),
    [([0], 1), (range(32), 1), (range(GROUP), 1), ([0, GROUP - 1], 1), ([GROUP - 1, GROUP], 2), (range(2 * GROUP), 2)],
)
def test_two_writes_per_group_that_changed(tmp_path: Path, blocks: list[int], groups: int) -> None:
    """Digests and state, however many blocks; and again as many for the next commit."""
    fd = os.open(tmp_path / "journal", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    journal = Journal.create(fd, bytes(32), 2 * GROUP * BLOCK)
    for round_ in range(2):
        for block in blocks:
            journal.set(block, block_digest([b"%d" % round_]))
        before = writes()
        journal.commit(sync=True)
        assert writes() - before == 2 * groups
    journal.close()
