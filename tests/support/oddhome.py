"""A home folder with everything odd in it, drawn from a seed; edits to it; and what must be where it was sent to.

Nothing of ftx is used here: what is expected is found out by looking at the folder itself.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs

__all__ = ["Facts", "OddHome", "look"]

KiB, MiB = 1 << 10, 1 << 20
#: Names that somebody will have: no UTF-8, line feeds, escapes, patterns, options, as long as may be, alike.
_NAMES = (
    b"\xff\xfe no text",
    b"line\nfeed",
    b"\x1b[31mred",
    b"*?[a-z]",
    b"--help",
    b" spaces ",
    b"dots...",
    b"a (1)",
    b"back\\slash",
    b"%2e%2e",
    b"COM1",
    b"n" * 255,
    "\u00e9".encode(),
    "e\u0301".encode(),
    "\U0001f980 \u202egpj.exe".encode(),
    b"file.part",
    b".ftx-not",
)
_SIZES = (0, 1, 17, 4096, 4097, 70_000, MiB - 1, MiB, MiB + 1, 2 * MiB + 3)
#: None that the usual umask of a receiver changes.
_MODES = (0o644, 0o600, 0o755, 0o444, 0o400, 0o640, 0o4755, 0o2711 | 0o444, 0o1644)
_TIMES = (0, 1, 1_600_000_000_123_456_789, 4_000_000_000_000_000_001, -86_400_000_000_000 + 7)


@attrs.frozen
class Facts:
    """What there is of one entry: its mode as `ls` shows it, its time, and what it holds."""

    mode: str
    mtime_ns: int
    size: int = 0
    #: SHA-256 of a file, the target of a link.
    content: bytes = b""


def _facts(path: bytes) -> Facts:
    found = os.lstat(path)
    mode = found.st_mode & ~0o7000 if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) else found.st_mode
    if stat.S_ISLNK(mode):
        return Facts("link", found.st_mtime_ns, content=os.readlink(path))
    if not stat.S_ISREG(mode):
        return Facts(stat.filemode(mode), found.st_mtime_ns)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return Facts(stat.filemode(mode), found.st_mtime_ns, found.st_size, digest)


def _below(top: bytes) -> Iterator[bytes]:
    yield top
    for folder, folders, names in os.walk(top):
        for name in (*folders, *names):
            yield os.path.join(folder, name)


def look(root: Path) -> dict[bytes, Facts]:
    """Everything below `root` and itself, by its path below; set-id and sticky bits do not count."""
    top = os.fsencode(root)
    return {os.path.relpath(path, top): _facts(path) for path in _below(top)}


class OddHome:
    """A folder `path`, which is made. `user` owns everything in it; what it may not read belongs to root."""

    def __init__(self, path: Path, seed: int, files: int, user: int | None = None) -> None:
        self.path = path
        self.top = os.fsencode(path)
        self.dice = random.Random(seed)
        self.user = user
        #: What cannot be sent, by path below: it fails, and everything below it is not there.
        self.unreadable: set[bytes] = set()
        #: What is left out and said to be: pipes, sockets, links that lead out.
        self.skipped: set[bytes] = set()
        #: Files with holes.
        self.sparse: set[bytes] = set()
        self._closed: list[bytes] = []
        self._folders = [b"."]
        self._make(files)

    # -- making --------------------------------------------------------------------------------------------

    def _at(self, path: bytes) -> bytes:
        return os.path.join(self.top, path)

    def _place(self, name: bytes) -> bytes:
        folder = self.dice.choice(self._folders)
        return name if folder == b"." else os.path.join(folder, name)

    def _write(self, path: bytes, size: int) -> None:
        with open(self._at(path), "wb") as file:
            file.write(self.dice.randbytes(size))
        os.chmod(self._at(path), self.dice.choice(_MODES))
        moment = self.dice.choice((*_TIMES, self.dice.randrange(1 << 60)))
        os.utime(self._at(path), ns=(1, moment))

    def _write_sparse(self, path: bytes) -> None:
        self.sparse.add(path)
        with open(self._at(path), "wb") as file:
            for _ in range(self.dice.randrange(4)):
                file.seek(self.dice.randrange(40) * 64 * KiB)
                file.write(self.dice.randbytes(9_000))
            file.truncate(3 * MiB + self.dice.randrange(2 * KiB))

    def _make(self, files: int) -> None:
        self.path.mkdir(mode=0o700)
        for depth in range(4):
            for number in range(3):
                made = self._place(b"folder %d%d" % (depth, number))
                os.mkdir(self._at(made))
                self._folders.append(made)
        deep = b"/".join([b"d"] * 20)
        os.makedirs(self._at(deep))
        self._folders.append(deep)
        for name in _NAMES:
            self._write(self._place(name), self.dice.choice(_SIZES[:6]))
        for number in range(files):
            size = self.dice.choice(_SIZES) if number % 8 == 0 else self.dice.randrange(3000)
            self._write(self._place(b"file %d" % number), size)
        for number in range(3):
            self._write_sparse(self._place(b"sparse %d" % number))
        os.mkdir(self._at(self._place(b"empty")))
        os.mkdir(self._at(b"a folder with \xfe in it"))
        self._write(b"twice", 5000)
        os.link(self._at(b"twice"), self._at(self._place(b"twice, too")))
        self._specials()
        self._links()
        for folder in (b"read-only", b"read-only/below"):
            os.mkdir(self._at(folder))
        for name in (b"read-only/one", b"read-only/below/two"):
            self._write(name, 100)
        self._own()
        self._modes()

    def _specials(self) -> None:
        pipe = self._place(b"pipe")
        os.mkfifo(self._at(pipe))
        with socket.socket(socket.AF_UNIX) as made:
            folder = os.open(self.top, os.O_RDONLY)
            try:  # a short way to a long path
                made.bind(f"/proc/self/fd/{folder}/socket")
            finally:
                os.close(folder)
        self.skipped |= {pipe, b"socket"}

    def _links(self) -> None:
        for name, target in ((b"to a file", b"twice"), (b"to nothing", b"nowhere"), (b"to itself", b"to itself")):
            os.symlink(target, self._at(name))
        os.symlink(b"../../twice", self._at(b"d/d/up"))
        os.symlink(b"../twice", self._at(b"d/odd \xff link"))
        for name, target in ((b"absolute", b"/etc/passwd"), (b"out", b"../out"), (b"d/far out", b"../../x")):
            os.symlink(target, self._at(name))
            self.skipped.add(name)

    def _own(self) -> None:
        if self.user is None:
            return
        for path in _below(self.top):
            mode = os.lstat(path).st_mode
            os.lchown(path, self.user, self.user)
            if stat.S_ISREG(mode):
                os.chmod(path, stat.S_IMODE(mode))  # chown has taken the set-id bits
        os.mkdir(self._at(b"closed"))
        for name in (b"closed/inside", b"d/not for you"):
            self._write(name, 50)
            os.chmod(self._at(name), 0o600)
        os.chmod(self._at(b"closed"), 0o700)
        self.unreadable |= {b"closed", b"d/not for you"}

    def _modes(self) -> None:
        for folder in sorted(self._folders[1:], reverse=True):
            os.chmod(self._at(folder), self.dice.choice((0o755, 0o700, 0o750, 0o2755)))
        for folder in sorted(self._folders[1:], reverse=True):
            os.utime(self._at(folder), ns=(1, self.dice.randrange(1 << 60)))
        for folder in (b"read-only/below", b"read-only"):
            os.chmod(self._at(folder), 0o555)
            os.utime(self._at(folder), ns=(1, 1_234_567_890_123_456_789))

    # -- later ---------------------------------------------------------------------------------------------

    def expected(self) -> dict[bytes, Facts]:
        """What arrives of it, as it is now."""
        return {path: facts for path, facts in look(self.path).items() if not self._left_out(path)}

    def _left_out(self, path: bytes) -> bool:
        return path in self.skipped or any(path == one or path.startswith(one + b"/") for one in self.unreadable)

    def files(self) -> list[bytes]:
        """The regular files that can be sent."""
        return sorted(path for path, facts in self.expected().items() if facts.mode.startswith("-"))

    def edit(self) -> dict[str, list[bytes]]:
        """Change a tenth of the files, each in one way; the files by that way."""
        done: dict[str, list[bytes]] = {}
        files = self.files()
        ways = itertools.cycle(("inside", "longer", "shorter", "gone", "renamed", "touched", "mode", "new"))
        for way, path in zip(ways, self.dice.sample(files, max(len(files) // 10, 8)), strict=False):
            done.setdefault(way, []).append(path)
            self._edit(way, path)
        if self.user is not None:
            for path in self.files():
                if os.lstat(self._at(path)).st_uid != self.user:
                    os.chown(self._at(path), self.user, self.user)
        return done

    def _edit(self, way: str, path: bytes) -> None:
        full = self._at(path)
        before = os.stat(full)
        if way == "gone":
            os.unlink(full)
        elif way == "renamed":
            os.rename(full, os.path.join(os.path.dirname(full), b"renamed %d" % self.dice.randrange(1 << 30)))
        elif way == "touched":
            os.utime(full, ns=(1, before.st_mtime_ns + 1))
        elif way == "mode":
            os.chmod(full, 0o600 if stat.S_IMODE(before.st_mode) != 0o600 else 0o640)
        elif way == "new":
            new = os.path.join(os.path.dirname(path), b"new %d" % self.dice.randrange(1 << 30))
            self._write(new, 1000)
        else:
            with open(full, "r+b") as file:
                if way == "inside":
                    file.seek(before.st_size // 2)
                    file.write(b"edited"[: max(before.st_size - before.st_size // 2, 1)])
                elif way == "longer":
                    file.seek(0, os.SEEK_END)
                    file.write(self.dice.randbytes(3000))
                else:
                    file.truncate(before.st_size // 2)
