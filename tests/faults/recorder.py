"""A disk that remembers every write and every flush that reaches it: a file of a FUSE file system of our own.

A loop device over that file hands on what a file system writes, and its flushes as fsync. So each state in which a
power failure could have left the disk can be built afterwards: all that was written before some flush, and any part of
what came behind it. (The kernel's own device mapper can do the same, `dm-log-writes`, where it is there.)

Run as a program it is the server: `recorder.py FD IMAGE LOG COUNTER`. FD is an open /dev/fuse, mounted by `Recorded`;
IMAGE is read once; entries are appended to LOG, and how many there are stands in the first 8 bytes of COUNTER.
The protocol is that of <linux/fuse.h>; only what a single file needs is answered.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import attrs

__all__ = ["Entry", "Recorded", "entries", "missing_means"]

_ENTRY = struct.Struct("<BQI")
_WRITE, _FLUSH = 1, 2

# -- the server --------------------------------------------------------------------------------------------

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITING = 2, 3, 4, 14, 15, 16
_STATFS, _RELEASE, _FSYNC, _FLUSHING, _INIT, _ACCESS, _BATCH_FORGET = 17, 18, 20, 25, 26, 34, 42
_MOST = 128 * 1024


def _attributes(size: int) -> bytes:
    numbers = [1, size, size // 512, 0, 0, 0, 0, 0, 0, stat.S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0]
    return struct.pack("<QIIQQQQQQIIIIIIIIII", 1 << 20, 0, 0, *numbers)


class _Server:
    """Answers requests until the file system is unmounted."""

    def __init__(self, device: int, image: Path, log: Path, counter: Path) -> None:
        self._device = device
        self._image = bytearray(image.read_bytes())
        self._log = log.open("ab", buffering=0)
        with counter.open("r+b") as file:
            self._counter = mmap.mmap(file.fileno(), 8)
        self._count = 0

    def serve(self) -> None:
        while True:
            try:
                request = os.read(self._device, _MOST + 4096)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                raise
            _, opcode, unique, *_ = _IN.unpack_from(request)
            if opcode in (_FORGET, _BATCH_FORGET):
                continue
            answer = self._answer(opcode, memoryview(request)[_IN.size :])
            number, body = (-answer, b"") if isinstance(answer, int) else (0, answer)
            os.write(self._device, _OUT.pack(_OUT.size + len(body), number, unique) + body)

    def _append(self, kind: int, offset: int, data: bytes | memoryview) -> None:
        self._log.write(_ENTRY.pack(kind, offset, len(data)) + bytes(data))
        self._count += 1
        self._counter[:8] = struct.pack("<Q", self._count)

    def _answer(self, opcode: int, body: memoryview) -> bytes | int:
        if opcode == _INIT:
            # big writes, as many pages as one of them has, and no wish beyond that
            flags = (1 << 5) | (1 << 22)
            return struct.pack("<IIIIHHIIHH", 7, 31, 0, flags, 16, 12, _MOST, 1, _MOST // 4096, 0).ljust(64, b"\0")
        if opcode in (_GETATTR, _SETATTR):
            return _attributes(len(self._image))
        if opcode == _OPEN:
            return struct.pack("<QII", 1, 0, 0)
        if opcode == _READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return bytes(self._image[offset : offset + size])
        if opcode == _WRITING:
            _, offset, size = struct.unpack_from("<QQI", body)
            data = body[40 : 40 + size]
            self._image[offset : offset + size] = data
            self._append(_WRITE, offset, data)
            return struct.pack("<II", size, 0)
        if opcode == _FSYNC:
            self._append(_FLUSH, 0, b"")
            return b""
        if opcode in (_RELEASE, _FLUSHING, _ACCESS):
            return b""
        if opcode == _STATFS:
            return struct.pack("<QQQQQIIII", 0, 0, 0, 0, 0, 4096, 255, 4096, 0).ljust(80, b"\0")
        return errno.ENOSYS


# -- what was recorded -------------------------------------------------------------------------------------


@attrs.frozen
class Entry:
    """Something that reached the disk: a write, or a flush (`data` is None), which covers all before it."""

    offset: int
    data: bytes | None


def entries(log: Path) -> Iterator[Entry]:
    """What is in a log, in order."""
    content = log.read_bytes()
    place = 0
    while place < len(content):
        kind, offset, size = _ENTRY.unpack_from(content, place)
        place += _ENTRY.size
        yield Entry(offset, content[place : place + size] if kind == _WRITE else None)
        place += size


def missing_means() -> str | None:
    """What is not here and would be needed; None when all is."""
    if os.geteuid() != 0:
        return "needs root, to mount"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "needs /dev/fuse"
    if not os.path.exists("/dev/loop-control"):
        return "needs loop devices"
    return None if shutil.which("mkfs.ext4") else "needs mkfs.ext4"


def run(*command: str | Path) -> None:
    """Run a command, which must succeed."""
    subprocess.run(command, check=True, capture_output=True)


class Recorded:
    """A disk below `folder`, which begins as `image`; `mounted` is where its file system is. A context manager.

    Needs root and a mount name space of its own. `log` is complete when the block is left.
    """

    def __init__(self, folder: Path, image: Path, options: str) -> None:
        self._folder = folder
        self._image = image
        self._options = options
        self.log = folder / "log"
        self.mounted = folder / "mounted"
        self._disk = folder / "disk"
        self._counter: mmap.mmap | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def position(self) -> int:
        """How many entries there are: all that has reached the disk by now."""
        if self._counter is None:
            raise RuntimeError("not entered")
        count: int = struct.unpack("<Q", self._counter[:8])[0]
        return count

    def stall(self, stalls: bool = True) -> None:
        """From now on the disk answers nothing; or, with False, it goes on."""
        if self._server is not None:
            self._server.send_signal(signal.SIGSTOP if stalls else signal.SIGCONT)

    def __enter__(self) -> Recorded:
        self.mounted.mkdir()
        self._disk.touch()
        self.log.touch()
        counter = self._folder / "counter"
        counter.write_bytes(bytes(8))
        with counter.open("r+b") as file:
            self._counter = mmap.mmap(file.fileno(), 8)
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            options = f"fd={device},rootmode={stat.S_IFREG:o},user_id=0,group_id=0,max_read={_MOST}".encode()
            if libc.mount(b"recorder", bytes(self._disk), b"fuse", 0, options) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            words = [str(device), self._image, self.log, counter]
            self._server = subprocess.Popen([sys.executable, __file__, *words], pass_fds=[device])
        finally:
            os.close(device)
        run("mount", "-o", f"loop,{self._options}", self._disk, self.mounted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stall(False)
        run("umount", "-l", self.mounted)
        run("umount", "-l", self._disk)
        if self._server is None:
            return
        try:
            self._server.wait(5)
        except subprocess.TimeoutExpired:  # a mount name space that was made meanwhile has a copy of the mount
            self._server.kill()
            self._server.wait(5)


if __name__ == "__main__":
    _Server(int(sys.argv[1]), *map(Path, sys.argv[2:5])).serve()
