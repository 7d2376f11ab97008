"""What the parts of one incoming job share: its entries, its claims, its folders, its right to go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attrs import frozen
from msgspec import Struct

from ftx import limits
from ftx.disk.basis import Basis
from ftx.disk.claims import Claims
from ftx.disk.growing import Growing
from ftx.disk.handles import HandleCache
from ftx.disk.namerecord import NameKey, NameRecord
from ftx.disk.names import NameRules
from ftx.disk.partial import Partial
from ftx.disk.records import Records
from ftx.disk.root import Root
from ftx.disk.space import Space
from ftx.disk.staging import Staging, path_tag
from ftx.disk.store import Path
from ftx.disk.syncing import Syncs
from ftx.disk.tree import DurableNames, Tree
from ftx.disk.turn import Turn
from ftx.errors import FtxError, LocalProtocolError
from ftx.text import show_path

__all__ = ["Device", "Job", "Wanted", "joined"]


def joined(path: Path) -> bytes:
    """`path` as records and partial keys have it."""
    return b"/".join(path)


@frozen
class Device:
    """What all jobs of one inbox share. `report` gets a sentence, clean for a log, for each failure of storage."""

    root: Root
    staging: Staging
    records: Records
    claims: Claims
    space: Space
    syncs: Syncs
    rules: NameRules
    names: DurableNames
    umask: int
    report: Callable[[str], None]


class Wanted(Struct, eq=False):
    """A file that was asked for and is not stored yet."""

    number: int
    folder: Path
    name: bytes
    path: bytes
    size: int
    mtime_ns: int
    mode: int
    #: Whether the name was taken when it was looked up.
    taken: bool
    #: The key of its partial; None for a file of one block.
    key: bytes | None
    #: Bytes promised to it that are not on disk yet.
    promised: int
    #: The record of this very version that there was when it was looked up, of a file that is not where it should be.
    record: NameRecord | None
    #: The name of an older copy in the same folder, if there is one, and its record, if it was found by that.
    copy: bytes | None = None
    copied: NameRecord | None = None
    #: Key and size of what an interrupted transfer of another version left, if there is that.
    older: tuple[bytes, int] | None = None
    #: Whether what is staged for this version has no journal, and is all there is to take blocks from.
    left_over: bool = False
    #: Whichever of them is in use.
    basis: Basis | None = None
    #: What ended the use of its partial, if anything did.
    failure: FtxError | None = None
    #: A file of unknown size (`size` is 0 until it is complete), and whether its staged file was begun.
    pipe: bool = False
    begun: bool = False
    #: Whether the operator has been told of that.
    told: bool = False

    @property
    def version(self) -> NameKey:
        """What its record is found by."""
        return self.path, self.size, self.mtime_ns


class Job:
    """The shared part. Thread-safe; `running()` encloses every operation."""

    def __init__(self, device: Device, peer: bytes, into: Path, conflict: str, *, reads: bool = False) -> None:
        self.device = device
        #: Whether the peer may read what is in the inbox, whoever stored it.
        self.reads = reads
        self.peer = peer
        self.into = into
        self.conflict = conflict
        self.tree = Tree(device.root, device.umask, device.names)
        #: The open partials, by entry number.
        self.partials: HandleCache[int, Partial | Growing] = HandleCache(
            limits.OPEN_PARTIALS, self._open_partial, self._close_partial
        )
        #: Entry number -> file.
        self.wanted: dict[int, Wanted] = {}
        #: Entry number -> folder, and whether this peer's transfers made it.
        self.folders: dict[int, tuple[Path, bool]] = {}
        #: Those of them that this job has made: nothing was in them then.
        self.new: set[Path] = set()
        #: What interrupted transfers have left: tag of the path -> key and size. Found out when it is first needed.
        self.left: dict[bytes, tuple[bytes, int]] | None = None
        #: Of its batches of small files and its look-ups.
        self.turn = Turn()
        self._revoked = False
        self._ended = False
        self._looking = True
        self._active = 0
        self._state = threading.Condition()

    # -- life ---------------------------------------------------------------------------------------------

    def revoke(self) -> None:
        """End that right."""
        self._revoked = True

    def check(self) -> None:
        """FtxError `superseded` once the job was revoked or has ended; to be called before each change."""
        if self._revoked or self._ended:
            raise FtxError("superseded")

    def stop_looking(self) -> None:
        """Let look-ups end early; see `JobStore`."""
        self._looking = False

    def check_looking(self) -> None:
        """As `check()`, and also once nobody waits for look-ups; to be called on the way through what is only read."""
        self.check()
        if not self._looking:
            raise FtxError("superseded")

    def forget_folder(self, number: int) -> None:
        """It has its result, or was given up: nothing more comes into it."""
        path, _ = self.folders.pop(number, ((), False))
        self.new.discard(path)

    @contextmanager
    def running(self) -> Iterator[None]:
        """An operation; the job does not end before the block does. FtxError `superseded` as `check()`."""
        with self._state:
            self.check()
            self._active += 1
        try:
            yield
        finally:
            with self._state:
                self._active -= 1
                if not self._active:
                    self._state.notify_all()

    def rest(self) -> None:
        """Let no further operation begin, and wait for those under way."""
        with self._state:
            self._ended = True
            while self._active:
                self._state.wait()

    # -- entries ------------------------------------------------------------------------------------------

    def file(self, number: int) -> Wanted:
        """The file of entry `number`. LocalProtocolError when it is not wanted."""
        wanted = self.wanted.get(number)
        if wanted is None:
            raise LocalProtocolError(f"entry {number} is not a wanted file")
        return wanted

    def on_disk(self, wanted: Wanted, size: int) -> None:
        """Note that `size` bytes promised to `wanted` are on disk now, or reserved there."""
        size = min(size, wanted.promised)
        wanted.promised -= size
        self.device.space.release(size)

    def _open_partial(self, number: int) -> Partial | Growing:
        wanted = self.file(number)
        if wanted.failure is not None:
            raise FtxError(wanted.failure.name, wanted.failure.message)
        if wanted.pipe:
            if wanted.begun:  # its place was needed: a pipe cannot be put aside
                raise FtxError("storage-failed", "too many files of unknown size at once")
            wanted.begun = True
            return Growing(self.device.root, self.device.staging, self.device.space, number)
        if wanted.key is None:
            raise LocalProtocolError(f"entry {number} is a file of one block")
        return Partial(
            self.device.staging,
            wanted.key,
            wanted.size,
            lambda size: self.on_disk(wanted, size),
            wanted.number,
            tag=path_tag(self.peer, wanted.path),
        )

    def _close_partial(self, partial: Partial | Growing) -> None:
        partial.close()
        wanted = self.wanted.get(partial.number)
        if wanted is not None:
            wanted.failure = partial.failure

    def release(self, *files: Wanted) -> None:
        """Forget files: their claims and what they were promised."""
        promised = 0
        for wanted in files:
            if self.wanted.pop(wanted.number, None) is None:
                continue
            promised += wanted.promised
            wanted.promised = 0
            if wanted.key is not None:
                self.device.staging.leave(wanted.key)
            if wanted.older is not None:
                self.device.staging.leave(wanted.older[0])
            if wanted.basis is not None:
                wanted.basis.close()
        self.device.space.release(promised)
        self.device.claims.release([(self.peer, wanted.path) for wanted in files], self)

    def end(self) -> None:
        """Come to rest and release everything. May be called again, from any thread."""
        self.rest()
        self.partials.close()
        self.release(*self.wanted.values())
        self.folders.clear()
        self.new.clear()
        self.tree.close()

    def reported(self, error: FtxError, path: Path) -> str:
        """The name of `error`, after telling the operator about it if it is this machine's fault."""
        if error.name in ("storage-failed", "no-space", "internal"):
            inodes = error.name == "no-space" and self.device.space.out_of_inodes()
            why = "no inodes left on the file system of the inbox" if inodes else error.message
            self.device.report(f"{show_path(path)}: {why}")
        return error.name
