"""Trees to send, and what became of them: made, looked at and compared without any of our own code."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["MiB", "digest_of", "make_noise", "make_tree", "snapshot", "visible"]

MiB = 1 << 20


def make_tree(root: Path, sizes: Mapping[str | bytes, int], seed: int = 1) -> int:
    """Make files of these sizes below `root`, random content, times of their own; the bytes in them.

    A negative size makes a file of zeros. Folders, `root` too, get odd modes and times with nanoseconds.
    """
    dice = random.Random(seed)
    root.mkdir(parents=True, exist_ok=True)
    total = 0
    for number, (name, size) in enumerate(sizes.items()):
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            if size < 0:
                file.truncate(-size)
            else:
                file.write(dice.randbytes(size))
        os.chmod(path, (0o644, 0o600, 0o755, 0o444, 0o640)[number % 5])
        os.utime(path, ns=(1, 1_600_000_000_000_000_001 + number * 1_000_000_007))
        total += abs(size)
    for number, (folder, _, _) in enumerate(os.walk(os.fsencode(root), topdown=False)):
        os.chmod(folder, (0o755, 0o700, 0o750)[number % 3])
        os.utime(folder, ns=(1, 1_500_000_000_000_000_003 + number * 1_000_000_009))
    return total


def make_noise(path: Path, size: int) -> Path:
    """Make the file `path`, of random bytes, the same for the same size, and the folder that it is in."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(random.Random(size).randbytes(size))
    return path


def _entries(root: bytes) -> Iterator[os.DirEntry[bytes]]:
    with os.scandir(root) as found:
        for entry in found:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)


def visible(inbox: Path) -> dict[bytes, int]:
    """The files that a user sees in an inbox, by path below it, with their sizes; `.ftx` is left out.

    Names that come and go during the look are no error.
    """
    found: dict[bytes, int] = {}
    root = os.fsencode(inbox)
    with os.scandir(root) as top:
        for first in top:
            if first.name == b".ftx":
                continue
            both = [first, *_entries(first.path)] if first.is_dir(follow_symlinks=False) else [first]
            for entry in both:
                if entry.is_file(follow_symlinks=False):
                    found[os.path.relpath(entry.path, root)] = entry.stat(follow_symlinks=False).st_size
    return found


def digest_of(path: str | bytes | Path) -> str:
    """SHA-256 of a file: independent of what ftx computes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def snapshot(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything below and including `root`: kind, permission bits, mtime in ns, and for files size and content."""
    top = os.fsencode(root)
    taken: dict[bytes, tuple[object, ...]] = {}
    paths = [top, *(entry.path for entry in _entries(top))] if root.is_dir() else [top]
    for path in paths:
        found = os.lstat(path)
        what: tuple[object, ...] = (stat.filemode(found.st_mode), found.st_mtime_ns)
        if stat.S_ISREG(found.st_mode):
            what += (found.st_size, digest_of(path))
        taken[os.path.relpath(path, top)] = what
    return taken
