"""An inbox in a folder of a local file system: `Store` of `ftx.disk.store`.

What it keeps there, and in which order it writes, is specified in `docs/storage.md`.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from attrs import evolve

from ftx.disk.claims import Claims
from ftx.disk.fds import close
from ftx.disk.job import Device
from ftx.disk.jobstore import InboxJob
from ftx.disk.names import NameRules, check_path
from ftx.disk.records import Records
from ftx.disk.rehearsal import Rehearsal
from ftx.disk.root import Means, Root, storage_error
from ftx.disk.space import Space
from ftx.disk.staging import Staging
from ftx.disk.store import Path
from ftx.disk.syncing import Syncs
from ftx.disk.tree import DurableNames
from ftx.disk.trial import write_speed
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["Inbox"]

#: The conflict policies there are, as an offer names them.
_POLICIES: Final = frozenset({"fail", "skip", "rename", "backup", "overwrite"})
#: Attempts to open an inbox that others use in passing.
_TRIES: Final = 16
_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def _say_nothing(sentence: str) -> None:
    """The `report` of an inbox whose owner does not want to know."""


class Inbox:
    """An open inbox; locked, so that there is only one in all processes. Thread-safe."""

    def __init__(
        self, device: Device, private_fd: int, lock_fd: int, records_fd: int | None = None, *, passing: bool = False
    ) -> None:
        """Use `Inbox.open()`."""
        self._records_fd = records_fd
        self._passing = passing
        self._device = device
        self._private_fd = private_fd
        self._lock_fd = lock_fd

    @classmethod
    def open(
        cls,
        path: str,
        *,
        umask: int = 0o022,
        rules: NameRules | None = None,
        report: Callable[[str], None] = _say_nothing,
        urge: Callable[[str], None] = _say_nothing,
        means: Means | None = None,
        records_fd: int | None = None,
        passing: bool = False,
    ) -> Inbox:
        """Open the inbox `path`, making it (0700) if its parent exists.

        Received files get their permission bits less `umask`. `rules` say which names the operator accepts beyond the
        usual. `report` gets one sentence, fit for a log, for each failure of storage, from worker threads; it must not
        raise. Nor must `urge`, which gets one same sentence as long as files fail until a person does what it says.
        `means` takes kernel facilities away, for tests.

        `records_fd` is another folder for the records than the inbox's own; it becomes the inbox's. A `passing` inbox
        is used for one transfer: closing it removes what it has made for itself, unless a partial is left.

        FtxError `already-running` when another process has it open, `inbox-unusable` with a sentence when it is no
        folder, not ours, open to everybody, not writable, or when its records are damaged or too new.
        """
        means = means or Means()
        with _saying_which(path), ExitStack() as undoing:
            if records_fd is not None:
                undoing.callback(close, records_fd)
            root = Root(path, means)
            undoing.callback(root.close)
            _check_rights(path, root.fd)
            private_fd, lock_fd = _private(path, root)
            undoing.callback(_close_both, private_fd, lock_fd)
            staging = Staging(root, fallocate=means.fallocate)
            undoing.callback(staging.close)
            root.probe(staging.fd, staging.fresh_name())
            records = Records(private_fd if records_fd is None else records_fd)
            records.check()
            device = Device(
                root=root,
                staging=staging,
                records=records,
                claims=Claims(),
                space=Space(root.fd),
                syncs=Syncs(root.fd, means.syncfs),
                rules=rules or NameRules(),
                names=DurableNames(urge),
                umask=umask,
                report=report,
            )
            undoing.pop_all()  # from here on it is closed as a whole
        return cls(device, private_fd, lock_fd, records_fd, passing=passing)

    def accept_names(self, rules: NameRules) -> None:
        """Accept names by these rules from the next job on."""
        self._device = evolve(self._device, rules=rules)

    def begin(
        self, peer: bytes, job: bytes, into: Path, conflict: str, *, reads: bool = False, dry: bool = False
    ) -> InboxJob:
        """See `Store`. The folder `into` is made when the first entry arrives."""
        if conflict not in _POLICIES:
            raise FtxError("not-supported", f"the conflict rule {show(conflict)} is not supported")
        if into:
            check_path(into, self._device.rules)
            try:
                close(self._device.root.open_folder(into))
            except FileNotFoundError:
                pass
            except OSError as error:
                raise storage_error(error) from error
        kind = Rehearsal if dry else InboxJob
        return kind(self._device, peer, job, into, conflict, reads=reads)

    def write_speed(self, size: int) -> float:
        """Seconds that `size` bytes take to be durable here; nothing of them stays. FtxError as `ftx.disk.trial`."""
        return write_speed(self._device.root.fd, size)

    def receipt(self, peer: bytes, job: bytes) -> bytes | None:
        """See `Store`."""
        return self._device.records.receipt(peer, job)

    def free(self) -> int:
        """See `Store`. FtxError `storage-failed` when the file system does not say."""
        try:
            return self._device.space.free()
        except OSError as error:
            raise storage_error(error) from error

    def clean(self, now: float) -> int:
        """See `Store`. FtxError `storage-failed` when it had to stop early."""
        try:
            removed = self._device.staging.clean(now)
        except OSError as error:
            raise storage_error(error) from error
        self._device.records.prune()
        return removed

    def _leave_nothing(self) -> None:
        """Remove `.ftx` while we still have its lock, unless there is something to be resumed."""
        root, staging = self._device.root, self._device.staging
        with suppress(OSError):
            if not os.listdir(staging.fd):
                root.remove_private(self._private_fd)

    def close(self) -> None:
        """See `Store`. May be called again."""
        if self._lock_fd < 0:
            return
        try:
            self._device.records.close()
        except FtxError as error:
            self._device.report(error.message)
        if self._passing:
            self._leave_nothing()
        self._device.staging.close()
        self._device.root.close()
        if self._records_fd is not None:
            close(self._records_fd)
            self._records_fd = None
        close(self._private_fd)
        close(self._lock_fd)
        self._private_fd = self._lock_fd = -1


def _private(path: str, root: Root) -> tuple[int, int]:
    """The folder `.ftx` and its lock, which is ours. A passing inbox may just have removed what we had opened."""
    for _ in range(_TRIES):
        private_fd = root.open_private()
        lock_fd = -1
        try:
            lock_fd = os.open("lock", _LOCK, 0o600, dir_fd=private_fd)
            _lock(path, lock_fd)
            if os.fstat(lock_fd).st_nlink:
                return private_fd, lock_fd
        except FileNotFoundError:
            pass
        except BaseException:
            _close_both(private_fd, lock_fd)
            raise
        _close_both(private_fd, lock_fd)
    raise _unusable("others come and go in it all the time")


def _close_both(private_fd: int, lock_fd: int) -> None:
    close(private_fd)
    if lock_fd >= 0:
        close(lock_fd)


def _unusable(why: str, hint: str = "") -> FtxError:
    """As it is known below; `_saying_which` says of which inbox."""
    return FtxError("inbox-unusable", why, hint)


@contextmanager
def _saying_which(path: str) -> Iterator[None]:
    """Turn what makes the inbox `path` unusable into a sentence about it."""
    try:
        yield
    except OSError as error:
        raise _named(path, (error.strerror or "input/output error").lower()) from error
    except FtxError as error:
        if error.name != "inbox-unusable":
            raise
        raise _named(path, error.message, error.hint) from error


def _named(path: str, why: str, hint: str = "") -> FtxError:
    return FtxError("inbox-unusable", f"the inbox {show(path)} cannot be used: {why}", hint)


def _check_rights(path: str, fd: int) -> None:
    """Nobody but us (and root) may be able to exchange what is in the inbox."""
    status = os.fstat(fd)
    if status.st_uid not in (os.geteuid(), 0):
        raise _unusable("it belongs to another user")
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise _unusable("everybody may write to it", f"chmod o-w {show(path)}")
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True):
        raise _unusable("it is not writable")


def _lock(path: str, lock_fd: int) -> None:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FtxError("already-running", f"another ftx daemon uses the inbox {show(path)}") from error
