"""The folders that jobs work in: kept open a bounded number at a time, made, and made durable in groups.

A file is only as durable as the name of every folder above it, and it does not matter who made that: another job may
not have come to its sync yet, and a process that was killed never will. So a name counts as durable only after a sync
of its parent in this process (`DurableNames`, shared by all jobs). Before, whoever stores something below it syncs
the parent.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Self

from ftx.disk.fds import close, sync_folder
from ftx.disk.handles import HandleCache, Slot
from ftx.disk.root import Root
from ftx.disk.store import Path
from ftx.disk.syncing import SyncGroup
from ftx.errors import FtxError
from ftx.limits import DURABLE_NAMES, FOLDERS_TOGETHER, OPEN_FOLDERS

__all__ = ["Cursor", "DurableNames", "Folders", "Tree"]

#: What the owner of a received folder always keeps: without it nothing can be sent into it again.
_ENTER: Final = 0o500
#: What a person has to do when a sync of a folder has failed.
_RESTART: Final = "check the disk, then restart the daemon"


def _say_nothing(sentence: str) -> None:
    """What is told when nobody wants to know."""


class DurableNames:
    """The folders whose names are durable in their parents, as far as that is known. Thread-safe."""

    def __init__(self, urge: Callable[[str], None] = _say_nothing) -> None:
        """`urge` gets one same sentence whenever a person has to do something: it must not get lost among others."""
        self._urge = urge
        #: In the order in which they became known.
        self._known: dict[Path, None] = {}
        #: What is being synced, by somebody.
        self._syncing: list[set[Path]] = []
        #: Folders, by device and inode, of which a sync has failed. The kernel may have forgotten what it could not
        #: write, and would say yes to the next sync: nothing in them is believed again by this process.
        self._failed: set[tuple[int, int]] = set()
        self._lock = threading.Lock()

    def make(self, path: Path, make: Callable[[], None]) -> None:
        """Call `make()`, which makes the folder `path` or raises; it is not durable then, whatever was known.

        Nobody can see the new folder and take it for an older one of the same name.
        """
        with self._lock:
            make()
            self._known.pop(path, None)
            for names in self._syncing:
                names.discard(path)

    def begin(self, paths: Iterable[Path]) -> set[Path]:
        """Those of `paths` and of the folders above them that are not known to be durable, to be synced and `end()`ed.

        A folder that is made anew meanwhile vanishes from the set.
        """
        above = {path[:depth] for path in paths for depth in range(1, len(path) + 1)}
        with self._lock:
            names = above - self._known.keys()
            self._syncing.append(names)
            return names

    @property
    def any_failed(self) -> bool:
        """Whether there is a folder for which `failed()` is true."""
        return bool(self._failed)

    def failed(self, fd: int) -> bool:
        """Whether a sync of the open folder `fd` has failed before."""
        status = os.fstat(fd)
        return (status.st_dev, status.st_ino) in self._failed

    def note_failure(self, fd: int) -> None:
        """A sync of the open folder `fd` has failed."""
        status = os.fstat(fd)
        with self._lock:
            self._failed.add((status.st_dev, status.st_ino))
        self.urge()

    def urge(self) -> None:
        """Something fails, or is going to, until a person does what has to be done."""
        self._urge(f"a sync of a folder has failed, and nothing is stored there any more: {_RESTART}")

    def end(self, names: set[Path], durable: bool) -> None:
        """The sync of what `begin()` returned is over, and whether that went well."""
        with self._lock:
            self._syncing = [other for other in self._syncing if other is not names]
            if durable:
                self._known.update(dict.fromkeys(names))
                while len(self._known) > DURABLE_NAMES:
                    del self._known[next(iter(self._known))]


class Tree:
    """The folders of one job below the inbox's root. Thread-safe. OSError (and `bad-name`) as they come."""

    def __init__(self, root: Root, umask: int, names: DurableNames) -> None:
        """Folders get their permissions less `umask`; `names` is what all trees of the inbox share."""
        self.root = root
        self._umask = umask
        self._names = names
        self._folders: HandleCache[Path, int] = HandleCache(OPEN_FOLDERS, root.open_folder, close)

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
        """Make the folder `path` in its existing parent, unless there is something of that name; whether it was made.

        To be followed by `enter()`. That is apart because it may fail by itself (it needs a descriptor): who remembers
        what was made has to know that it was.
        """
        with self.folder(path[:-1]) as parent_fd:
            try:
                self._names.make(
                    path, lambda: self.root.make_folder(parent_fd, path[-1], 0o777 & ~self._umask)
                )
            except FileExistsError:
                return False
        return True

    def enter(self, path: Path, made: bool) -> None:
        """Open the folder `path`, and give it the permissions of a new one if it was `made`. `ENOTDIR` for a file."""
        with self.folder(path) as fd:
            if made:
                mode = stat.S_IMODE(os.fstat(fd).st_mode)
                wanted = self._mode(0o777, mode)
                if mode != wanted:
                    os.fchmod(fd, wanted)

    def ensure(self, path: Path) -> None:
        """Make `path` and its parents, as far as they are missing."""
        for depth in range(1, len(path) + 1):
            self.enter(path[:depth], self.make(path[:depth]))

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

    def reopen(self, fd: int, inode: int = 0) -> bool:
        """Let our own folder, open as `fd`, which an earlier job may have finished as read-only, take new names.

        False, and nothing is done, when it is not the folder `inode` (0: whichever it is).
        """
        status = os.fstat(fd)
        if inode not in (0, status.st_ino):
            return False
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o300 != 0o300:
            os.fchmod(fd, mode | 0o300)
        return True

    def sync(self, group: SyncGroup, paths: Iterable[Path], extra: Iterable[int] = ()) -> None:
        """Make the names in the folders `paths` durable, and those of the folders themselves and of all above them.

        `extra` are open folders. OSError when that failed: nothing in these folders may be believed.
        """
        touched, others = set(paths), list(extra)
        names = self._names.begin(touched)
        durable = False
        try:
            # what lies deeper first, so that a name is never durable before what it leads to
            folders = sorted({*touched, *(path[:-1] for path in names)}, key=len, reverse=True)
            self._refuse_failed(folders)
            try:
                shared = group.shared(len(folders) + len(others))
            except OSError as error:
                self._note_failure(folders, error)
                raise
            if not shared:
                for path in folders:
                    self._sync_one(path, gone_is_well=path not in touched)
                for fd in others:
                    sync_folder(fd)
            durable = True
        finally:
            self._names.end(names, durable)

    def refuse(self, paths: Iterable[Path]) -> None:
        """OSError `EIO` when a sync of these folders would be refused, as one has failed that would be part of it."""
        if self._names.any_failed:
            touched = set(paths)
            names = self._names.begin(touched)
            self._names.end(names, False)
            self._refuse_failed({*touched, *(path[:-1] for path in names)})

    def _refuse_failed(self, folders: Iterable[Path]) -> None:
        """OSError `EIO` when a sync of one of `folders` has failed before: it is not tried again."""
        if not self._names.any_failed:
            return
        for path in folders:
            try:
                with self.folder(path) as fd:
                    failed = self._names.failed(fd)
            except OSError:
                continue  # gone: its sync will say so
            if failed:
                self._names.urge()
                raise OSError(errno.EIO, f"a sync of its folder has failed before; {_RESTART}")

    def _note_failure(self, folders: Iterable[Path], error: OSError) -> None:
        """A sync of `folders` has failed; for want of space nothing is forgotten that was written."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return
        for path in folders:
            with contextlib.suppress(OSError), self.folder(path) as fd:
                self._names.note_failure(fd)

    def _sync_one(self, path: Path, gone_is_well: bool) -> None:
        try:
            with self.folder(path) as fd:
                try:
                    sync_folder(fd)
                except OSError as error:
                    self._note_failure([path], error)
                    raise
        except OSError as error:
            # somebody moved or removed a folder of ours: what was made in it is no longer below this path
            if not gone_is_well or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise


class Folders:
    """Several folders of a tree at a time, at most `limits.FOLDERS_TOGETHER`. Not thread-safe; to be used by `with`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._slots: dict[Path, Slot[Path, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for slot in self._slots.values():
            self._tree.give_back(slot)

    def at(self, path: Path) -> int | None:
        """The descriptor of the folder `path`, valid within; None where there are too many, or it cannot be opened."""
        slot = self._slots.get(path)
        if slot is None:
            if len(self._slots) >= FOLDERS_TOGETHER:
                return None
            try:
                slot = self._slots[path] = self._tree.take(path)
            except (OSError, FtxError):
                return None
        return slot.handle


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
