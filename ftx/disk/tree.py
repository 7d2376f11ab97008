"""The folders that one job works in: kept open a bounded number at a time, made, and made durable in groups."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from ftx.disk.handles import HandleCache, Slot
from ftx.disk.root import Root
from ftx.disk.store import Path
from ftx.disk.syncing import SyncGroup, sync_folder
from ftx.limits import OPEN_FOLDERS

__all__ = ["Cursor", "Tree"]

#: What the owner of a received folder always keeps: without it nothing can be sent into it again.
_ENTER: Final = 0o500


class Tree:
    """The folders of one job below the inbox's root. Thread-safe. OSError (and `bad-name`) as they come."""

    def __init__(self, root: Root, umask: int) -> None:
        """Folders get their permissions less `umask`."""
        self.root = root
        self._umask = umask
        self._folders: HandleCache[Path, int] = HandleCache(OPEN_FOLDERS, root.open_folder, os.close)
        #: Folder -> names of folders made in it that are not durable yet.
        self._unsynced: dict[Path, set[bytes]] = {}
        self._lock = threading.Lock()

    def take(self, path: Path) -> Slot[Path, int]:
        """The open folder `path`, to be given back."""
        return self._folders.take(path)

    def give_back(self, slot: Slot[Path, int]) -> None:
        """End what `take()` began."""
        self._folders.give_back(slot)

    @contextmanager
    def folder(self, path: Path) -> Iterator[int]:
        """The descriptor of the folder `path`, valid inside the block."""
        with self._folders.use(path) as fd:
            yield fd

    def close(self) -> None:
        """Close all folders; nobody may be using any."""
        self._folders.close()

    # -- making -------------------------------------------------------------------------------------------

    def make(self, path: Path) -> bool:
        """Make the folder `path` in its existing parent, or find it; whether it was made. `ENOTDIR` for a file."""
        made = True
        with self.folder(path[:-1]) as parent_fd:
            try:
                self.root.make_folder(parent_fd, path[-1], 0o777 & ~self._umask)
            except FileExistsError:
                made = False
        with self.folder(path) as fd:
            if made:
                mode = stat.S_IMODE(os.fstat(fd).st_mode)
                wanted = self._mode(0o777, mode)
                if mode != wanted:
                    os.fchmod(fd, wanted)
        if made:
            self.unsynced(path)
        return made

    def ensure(self, path: Path) -> None:
        """Make `path` and its parents, as far as they are missing."""
        for depth in range(1, len(path) + 1):
            self.make(path[:depth])

    def unsynced(self, path: Path) -> None:
        """Note that the name of the folder `path` may not be durable in its parent."""
        with self._lock:
            self._unsynced.setdefault(path[:-1], set()).add(path[-1])

    # -- finishing ----------------------------------------------------------------------------------------

    def _mode(self, mode: int, present: int) -> int:
        """Permission bits `mode` as a received folder gets them; what the parent handed down (setgid) stays."""
        return (mode & 0o777 & ~self._umask) | _ENTER | (present & stat.S_ISGID)

    def finish(self, path: Path, mode: int, mtime_ns: int) -> os.stat_result:
        """Set permissions and time of the folder `path`; its status after that."""
        with self.folder(path) as fd:
            os.fchmod(fd, self._mode(mode, os.fstat(fd).st_mode))
            os.utime(fd, ns=(mtime_ns, mtime_ns))
            return os.fstat(fd)

    def reopen(self, path: Path) -> None:
        """Let our own folder `path`, which an earlier job may have finished as read-only, take new names."""
        with self.folder(path) as fd:
            mode = stat.S_IMODE(os.fstat(fd).st_mode)
            if mode & 0o300 != 0o300:
                os.fchmod(fd, mode | 0o300)

    def sync(self, group: SyncGroup, paths: Iterable[Path], extra: Iterable[int] = ()) -> None:
        """Make the names in the folders `paths` durable, and those of all new folders; `extra` are open folders.

        OSError when that failed: nothing in these folders may be believed.
        """
        with self._lock:
            new = {parent: set(names) for parent, names in self._unsynced.items()}
        touched = set(paths)
        # what lies deeper first, so that a name is never durable before what it leads to
        folders = sorted({*touched, *new}, key=len, reverse=True)
        others = list(extra)
        if not group.shared(len(folders) + len(others)):
            for path in folders:
                self._sync_one(path, gone_is_well=path not in touched)
            for fd in others:
                sync_folder(fd)
        with self._lock:
            for parent, names in new.items():
                left = self._unsynced.get(parent, set())
                left -= names
                if not left:
                    self._unsynced.pop(parent, None)

    def _sync_one(self, path: Path, gone_is_well: bool) -> None:
        try:
            with self.folder(path) as fd:
                sync_folder(fd)
        except OSError as error:
            # somebody moved or removed a folder of ours: what was made in it is no longer below this path
            if not gone_is_well or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise


class Cursor:
    """One folder of a tree at a time, kept while consecutive entries are in it. Not thread-safe; to be closed."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._slot: Slot[Path, int] | None = None

    def at(self, path: Path) -> int:
        """The descriptor of the folder `path`, valid until the next call. OSError as it comes."""
        slot = self._slot
        if slot is not None:
            if slot.key == path:
                return slot.handle
            self.close()
        self._slot = slot = self._tree.take(path)
        return slot.handle

    def close(self) -> None:
        """Give the folder back. May be called again."""
        slot, self._slot = self._slot, None
        if slot is not None:
            self._tree.give_back(slot)
