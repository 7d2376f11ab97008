"""A folder with everything in it that a transfer must get right, and the comparison of such a folder with its copy.

Everything here blocks: it belongs in a worker thread.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import attrs
from blake3 import blake3

from ftx import limits
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["Comparison", "Sample", "compare", "make_sample", "present"]

_FOLDER: Final = b"holiday"
_VIDEO: Final = b"video.mov"
#: Names that have broken programs, each for a reason of its own.
_ODD: Final = (
    "ümläut and ☕.txt".encode(),
    "cafe\u0301 twice, composed and not.txt".encode(),
    "café twice, composed and not.txt".encode(),
    "👩\u200d🚀 to the moon.txt".encode(),
    b"-rf",
    b"--to",
    b" a space at each end ",
    b"'single' \"double\" $HOME `id` * ?",
    b"back\\slash",
    b"not UTF-8: \xff\xfe",
    b".hidden",
    b"con",
    b"...",
    b"CON",
    b"%s%n%2F",
    b"x" * limits.NAME,
)
_MODES: Final = (0o644, 0o600, 0o755, 0o640, 0o444)
#: 2001-09-09 01:46:40 UTC, and a fraction that a clock of microseconds would lose.
_EPOCH_NS: Final = 1_000_000_000_123_456_789
_CHUNK: Final = 8 * limits.MiB


@attrs.frozen
class Sample:
    """What was made. Paths are absolute; counts are of the folder, which counts itself."""

    folder: bytes
    video: bytes
    video_size: int
    #: Odd names that this file system took.
    odd: int
    files: int
    folders: int
    bytes: int


def make_sample(parent: bytes) -> Sample:
    """Make the folder `holiday` in `parent`: one large file first, then small ones; FtxError when that fails.

    The large file has `limits.DEMO_BYTES`, or less where the disk is so slow that it would take longer than
    `limits.DEMO_WRITING`, but never less than `limits.DEMO_BYTES_LEAST`. The content is pseudo-random and always
    the same.
    """
    folder = os.path.join(parent, _FOLDER)
    try:
        os.mkdir(folder, 0o755)
        video = os.path.join(folder, _VIDEO)
        video_size = _write_video(video)
        odd, sizes, folders = _write_small(folder)
    except OSError as error:
        name = "local-no-space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "local-io"
        reason = (error.strerror or "input/output error").lower()
        raise FtxError(name, f"the files to send cannot be made in {show(parent)}: {reason}") from error
    return Sample(folder, video, video_size, odd, len(sizes) + 1, folders, video_size + sum(sizes))


def _write_video(path: bytes) -> int:
    """The large file; every chunk is synced, so that the time it takes is the disk's own."""
    stream = blake3(b"ftx demo: video")
    began = time.monotonic()
    size = 0
    with open(path, "xb", buffering=0) as file:
        while size < limits.DEMO_BYTES_LEAST or (
            size < limits.DEMO_BYTES and time.monotonic() - began < limits.DEMO_WRITING
        ):
            _write_all(file.fileno(), stream.digest(length=_CHUNK, seek=size))
            os.fdatasync(file.fileno())
            size += _CHUNK
        os.fchmod(file.fileno(), 0o640)
    os.utime(path, ns=(_EPOCH_NS, _EPOCH_NS))
    return size


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _write_small(folder: bytes) -> tuple[int, list[int], int]:
    """Everything but the video: how many odd names there are, the sizes of the files, and how many folders."""
    sizes: list[int] = []
    folders = [folder]

    def add_folder(*names: bytes) -> bytes:
        path = os.path.join(folder, *names)
        os.mkdir(path)
        os.chmod(path, 0o750 if len(folders) % 3 == 0 else 0o755)
        folders.append(path)
        return path

    def add_file(path: bytes, size: int) -> None:
        number = len(sizes)
        with open(path, "xb") as file:
            file.write(blake3(b"ftx demo: %d" % number).digest(length=size) if size else b"")
            os.fchmod(file.fileno(), _MODES[number % len(_MODES)])
        moment = _EPOCH_NS + number * 86_400_000_000_001
        os.utime(path, ns=(moment, moment))
        sizes.append(size)

    photos = add_folder(b"photos")
    for month in range(1, 13):
        name = b"2026-%02d" % month
        add_folder(b"photos", name)
        for day in range(1, 25):
            add_file(os.path.join(photos, name, b"%02d.jpg" % day), 500 + (month * 797 + day * 1499) % 12_000)
    deep = [b"letters", *(b"level %d" % level for level in range(1, 9))]
    for depth in range(1, len(deep) + 1):
        add_file(os.path.join(add_folder(*deep[:depth]), b"note.txt"), 90 * depth)
    odd = 0
    names = add_folder(b"odd names")
    for name in _ODD:
        with suppress(OSError):  # not every file system takes every name
            add_file(os.path.join(names, name), len(name))
            odd += 1
    add_folder(b"empty folder")
    add_file(os.path.join(folder, b"empty file"), 0)
    for number, path in enumerate(reversed(folders)):
        moment = _EPOCH_NS + number * 3_600_000_000_001
        os.utime(path, ns=(moment, moment))
    return odd, sizes, len(folders)


def present(folder: bytes) -> dict[bytes, tuple[int, int, int]]:
    """Everything below `folder` that a person would see, by its path from there: inode, size, mtime in nanoseconds.

    What ftx keeps for itself in an inbox, its folder `.ftx`, is left out; folders count as size 0.
    """
    return {path: (found.st_ino, _size(found), found.st_mtime_ns) for path, found in _walk(folder) if path}


def _size(found: os.stat_result) -> int:
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _walk(folder: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """The folder itself, as an empty path, and everything below it, without following links."""
    todo = [b""]
    while todo:
        path = todo.pop()
        whole = os.path.join(folder, path) if path else folder
        found = os.lstat(whole)
        yield path, found
        if stat.S_ISDIR(found.st_mode):
            names = [name for name in sorted(os.listdir(whole), reverse=True) if path or name != b".ftx"]
            todo.extend(os.path.join(path, name) for name in names)


@attrs.frozen
class Comparison:
    """What agreed, and what did not: sentences, at most `limits.FAILURES_SHOWN` of them."""

    files: int
    folders: int
    bytes: int
    differences: tuple[str, ...]


def compare(source: bytes, copy: bytes, *, whole: bool) -> Comparison:
    """Compare `copy` with `source`: names, kinds, sizes, every byte, permissions and times to the nanosecond.

    With `whole` everything must be there; otherwise nothing need be there, but every file that is must be right,
    and of folders only that they exist counts. Permissions are those of the source without the write bits that an
    inbox takes from group and others.
    """
    wanted = dict(_walk(source))
    there = dict(_walk(copy)) if whole or os.path.lexists(copy) else {}
    differences: list[str] = [f"{show(path)} is not in the source" for path in there.keys() - wanted.keys()]
    if whole:
        differences += [f"{show(path)} is missing" for path in wanted.keys() - there.keys()]
    files = folders = size = 0
    for path in sorted(wanted.keys() & there.keys()):
        mine, theirs = wanted[path], there[path]
        folder = stat.S_ISDIR(mine.st_mode)
        if not folder or whole:
            differences += [f"{show(path) or 'the folder'}: {what}" for what in _unlike(mine, theirs)]
        if folder:
            folders += 1
            continue
        files += 1
        size += theirs.st_size
        if mine.st_size == theirs.st_size and not _same_bytes(os.path.join(source, path), os.path.join(copy, path)):
            differences.append(f"{show(path)}: other bytes")
    return Comparison(files, folders, size, tuple(differences[: limits.FAILURES_SHOWN]))


def _unlike(mine: os.stat_result, theirs: os.stat_result) -> Iterator[str]:
    if stat.S_IFMT(mine.st_mode) != stat.S_IFMT(theirs.st_mode):
        yield "another kind of thing"
        return
    if _size(mine) != _size(theirs):
        yield f"{_size(theirs)} bytes instead of {_size(mine)}"
    wanted, got = stat.S_IMODE(mine.st_mode) & 0o755, stat.S_IMODE(theirs.st_mode)
    if wanted != got:
        yield f"mode {got:04o} instead of {wanted:04o}"
    if mine.st_mtime_ns != theirs.st_mtime_ns:
        yield f"modified at {theirs.st_mtime_ns} ns instead of {mine.st_mtime_ns}"


def _same_bytes(first: bytes, second: bytes) -> bool:
    with open(first, "rb") as one, open(second, "rb") as other:
        while True:
            chunk = one.read(limits.MiB)
            if chunk != other.read(limits.MiB):
                return False
            if not chunk:
                return True
