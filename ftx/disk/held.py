"""What a peer has named in a share: reached through a held descriptor, and never by a path of the machine."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import attrs

from ftx import limits
from ftx.disk import fds
from ftx.disk.names import PRIVATE
from ftx.disk.root import Root

if TYPE_CHECKING:
    from ftx.disk.store import Path

__all__ = ["Held", "Identity"]

#: Device and inode: what a file or folder is, whatever it is called.
Identity = tuple[int, int]


@attrs.frozen(eq=False)
class Held:
    """Something below the held folder `root`. Thread-safe; OSError as it comes, `ELOOP` for a symbolic link."""

    root: Root
    #: Where it is, counted from the root; empty for the root itself.
    below: Path
    #: What is never there, whoever asks: ftx's own key, configuration and state.
    hidden: frozenset[Identity] = frozenset()
    #: How many components of a path on the wire stand for this place.
    depth: int = 1

    def enter(self) -> tuple[int, bytes]:
        """The folder that it is in, as a descriptor that the caller closes, and its name there."""
        if not self.below:
            return os.dup(self.root.fd), b"."
        return self.root.open_folder(self.below[:-1]), self.below[-1]

    def open(self, path: Path) -> int:
        """Open a file for reading, without waiting; `path` begins with the names that stand for this place."""
        return self.root.open_below((*self.below, *path[self.depth :]))

    def follow(self, path: Path) -> Held:
        """Where `path`, which begins with the names that stand for this place, leads once all links are followed.

        A link is followed only inside the root, one component at a time, and nothing hidden is passed: `ENOENT` for
        that and for what is not there, `EXDEV` for a link that leads out or names a path of the machine, `ELOOP` for
        more than `limits.LINKS_FOLLOWED`. What is found is a place without links, and opened as such: who exchanges
        something for a link meanwhile wins nothing.
        """
        real: list[bytes] = []
        ahead = [*self.below, *path[self.depth :]][::-1]
        links = 0
        while ahead:
            name = ahead.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                if not real:
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
                real.pop()
                continue
            target = self._target(tuple(real), name)
            if target is None:
                real.append(name)
                continue
            links += 1
            if links > limits.LINKS_FOLLOWED:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if target.startswith(b"/"):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            ahead += target.split(b"/")[::-1]
        return attrs.evolve(self, below=tuple(real), depth=len(path))

    def _target(self, folder: Path, name: bytes) -> bytes | None:
        """Where `name` in `folder` leads, if it is a link. OSError, `ENOENT` for what is hidden."""
        fd = self.root.open_folder(folder)
        try:
            status = self.root.status(fd, name)
            if status is None or self.hides(name, status):
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            return self.root.link_target(fd, name) if stat.S_ISLNK(status.st_mode) else None
        finally:
            fds.close(fd)

    def hides(self, name: bytes, status: os.stat_result) -> bool:
        """Whether what is called `name` and has this status is not to be seen."""
        return name.lower() == PRIVATE or (status.st_dev, status.st_ino) in self.hidden
