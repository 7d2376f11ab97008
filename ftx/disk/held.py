"""What a peer has named in a share: reached through a held descriptor, and never by a path of the machine."""

from __future__ import annotations

import os

import attrs

from ftx.disk.names import PRIVATE
from ftx.disk.root import Root
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

    def enter(self) -> tuple[int, bytes]:
        """The folder that it is in, as a descriptor that the caller closes, and its name there."""
        if not self.below:
            return os.dup(self.root.fd), b"."
        return self.root.open_folder(self.below[:-1]), self.below[-1]

    def open(self, path: Path) -> int:
        """Open a file for reading, without waiting; `path` begins with the name that stands for this place."""
        return self.root.open_below((*self.below, *path[1:]))

    def hides(self, name: bytes, status: os.stat_result) -> bool:
        """Whether what is called `name` and has this status is not to be seen."""
        return name.lower() == PRIVATE or (status.st_dev, status.st_ino) in self.hidden
