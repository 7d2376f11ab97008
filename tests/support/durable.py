"""What a receiver has durable of files that are not complete, read from its disk as `docs/storage.md` describes it."""

from __future__ import annotations

import os
from pathlib import Path

from ftx.disk.journal import Journal

__all__ = ["durable_bytes"]


def durable_bytes(inbox: Path) -> int:
    """Bytes in the verified and durable blocks of all partials of `inbox`, which nobody uses at the moment."""
    total = 0
    for path in (inbox / ".ftx" / "partial").glob("*.journal"):
        content = path.with_suffix("")
        if not content.exists() or content.stat().st_nlink > 1:
            continue  # published already
        header = path.read_bytes()[:88]
        size = int.from_bytes(header[16:24], "big")
        journal = Journal.load(os.open(path, os.O_RDWR | os.O_CLOEXEC), header[24:56], size)
        if journal is not None:
            total += journal.blocks.bytes_in(size)
            journal.close()
    return total
