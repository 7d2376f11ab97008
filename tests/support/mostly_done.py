"""A huge sparse source whose transfer is mostly done: what both ends then have on disk, written by the book.

The journals are put together from the specification (`docs/storage.md`, "Journal"), not by the code that reads them:
a million blocks in a second.
"""

from __future__ import annotations

import os
from pathlib import Path

from blake3 import blake3

from ftx.core.blocks import block_count, block_digest
from ftx.disk.places import places
from ftx.disk.source import SourceFile, Walk, roots
from ftx.limits import BLOCK, GROUP

__all__ = ["journal", "remember", "sparse", "stage"]

_ZERO = block_digest([bytes(BLOCK)])


def sparse(path: Path, size: int, tail: bytes) -> SourceFile:
    """A file of `size` bytes, a hole but for its end, as the walk sees it; old enough to be remembered."""
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size - len(tail))
        file.write(tail)
    os.utime(path, ns=(1, 1_700_000_000_000_000_000))
    walk = Walk(roots([str(path)], "/"))
    found = walk.batch(1)
    walk.close()
    (item,) = found
    if not isinstance(item, SourceFile):
        raise AssertionError(f"not a file: {item}")
    return item


def journal(path: Path, key: bytes, size: int, missing: int) -> None:
    """The journal of a file of zeros whose last `missing` blocks are not known."""
    blocks = block_count(size)
    fields = b"\x89ftxj\r\n\x1a" + (1).to_bytes(4, "big") + BLOCK.to_bytes(4, "big") + size.to_bytes(8, "big") + key
    with path.open("wb") as file:
        file.write((fields + blake3(fields).digest()).ljust(4096, b"\0"))
        for group in range(-(-blocks // GROUP)):
            known = max(0, min(GROUP, blocks - missing - group * GROUP))
            bitmap = ((1 << known) - 1).to_bytes(GROUP // 8, "little")
            said = (1).to_bytes(8, "big") + bitmap
            digests = _ZERO * known
            check = blake3(group.to_bytes(8, "big") + said + digests, key=key).digest()
            file.write(bytes(2048) + (said + check).ljust(2048, b"\0"))
            file.write(digests.ljust(GROUP * 32, b"\0"))
    path.chmod(0o600)


def remember(home: Path, file: SourceFile, missing: int) -> None:
    """What a sender with this home remembers of `file`."""
    numbers = (file.inode, file.size, file.mtime_ns, file.ctime_ns)
    joined = b"".join(number.to_bytes(16, "big", signed=True) for number in numbers)
    key = blake3(joined + file.local, derive_key_context="ftx 2026-11-22 digest memory key v1").digest()
    name = blake3(file.local, derive_key_context="ftx 2026-11-22 digest memory name v1").hexdigest()
    folder = Path(places(str(home), {}, os.geteuid(), "/").state) / "digests"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal(folder / f"{name}.digests", key, file.size, missing)


def stage(inbox: Path, peer: bytes, file: SourceFile, missing: int) -> None:
    """What a receiver keeps of `file`, offered by `peer` at the top of its inbox."""
    hasher = blake3(peer, derive_key_context="ftx 2026-11-22 partial key v1")
    numbers = file.size.to_bytes(8, "big") + file.mtime_ns.to_bytes(8, "big", signed=True)
    key = hasher.update(numbers + b"/".join(file.path)).digest()
    partial = inbox / ".ftx" / "partial" / key.hex()
    with partial.open("wb") as content:
        content.truncate(file.size)
    partial.chmod(0o600)
    journal(partial.with_name(partial.name + ".journal"), key, file.size, missing)
