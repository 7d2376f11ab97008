"""Programs that are no part of ftx, for the lab to try itself on: `faults.careless HOW SOURCE FOLDER`.

`in-place` copies a file under its own name, so that a kill leaves a part of it. `renamed` does it well. `every-call`
makes each kind of call that the shim is to see, as `os`, `ctypes` and SQLite make them; `many` makes two files with the
native library.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from pathlib import Path

__all__ = ["main"]


def _copied(source: Path, target: Path) -> None:
    content = source.read_bytes()
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, content[:100])
    os.write(fd, content[100:])
    os.fsync(fd)
    os.close(fd)


def _every_call(source: Path, folder: Path) -> None:
    from ftx.disk import linux

    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.mkdir("folder", dir_fd=top)
    fd = linux.openat2(top, b"folder/a", os.O_RDWR | os.O_CREAT, 0o600, linux.RESOLVE_BENEATH)
    os.write(fd, b"1234")
    os.pwrite(fd, b"5", 1)
    os.pwritev(fd, [b"6", b"7"], 2)
    os.ftruncate(fd, 8192)
    linux.reserve(fd, 0, 8192)
    os.fchmod(fd, 0o640)
    os.utime(fd, (1, 1))
    os.fsync(fd)
    os.fdatasync(fd)
    linux.syncfs(fd)
    other = os.open("b", os.O_RDWR | os.O_CREAT, dir_fd=top)
    with contextlib.suppress(OSError):  # few file systems can
        linux.clone_range(fd, 0, other, 0, 4096)
    os.link("b", "c", src_dir_fd=top, dst_dir_fd=top)
    linux.rename_noreplace(b"c", top, b"d", top)
    os.symlink("d", "e", dir_fd=top)
    os.unlink("e", dir_fd=top)
    for one in (fd, other, top):
        os.close(one)
    database = sqlite3.connect(folder / "records.db")
    database.execute("PRAGMA journal_mode = WAL")
    with database:
        database.execute("CREATE TABLE t (a)")
    database.close()


def _many(folder: Path) -> None:
    from ftx.disk import many

    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.umask(0o022)
    made = many.write_unnamed([(top, 0o666, 1, b"content")] * 2)
    many.link([(one.fd, top, name) for one, name in zip(made, (b"a", b"b"), strict=True)])


def main() -> int:
    """Do it."""
    how, source, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if how == "every-call":
        _every_call(source, folder)
    elif how == "many":
        _many(folder)
    elif how == "in-place":
        _copied(source, folder / source.name)
    else:
        hidden = folder / ".ftx"
        hidden.mkdir(exist_ok=True)
        _copied(source, hidden / "new")
        os.rename(hidden / "new", folder / source.name)
    return 0
