"""The root of an inbox: the only place where names from the wire become files.

One directory descriptor is held from the start, and every name is resolved relative to it (or to a folder opened
through it) by openat2(2) in a way that cannot leave it: no symbolic links, no magic links, no `..`, no other file
system. Where openat2 is not to be had the path is walked one component at a time with O_NOFOLLOW. Nothing here, and
nothing that receives, uses a path that starts anywhere else; a test in `tests/disk/` holds the package to that.

Files get their final names without replacing anything: by linkat(2) of an unnamed file, or by renameat2(2) with
RENAME_NOREPLACE, or by link and unlink. The one exception is `replace()`, for operators who chose that: a plain
rename, over a regular file only.

It is longer than other modules because it is the one place that has to be believed: who audits what a name from the
wire can do reads this file, and no other.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ftx.disk import linux, many
from ftx.disk.fds import close, sync_folder
from ftx.disk.names import PRIVATE
from ftx.errors import FtxError

if TYPE_CHECKING:
    from ftx.disk.store import Path

__all__ = ["Means", "Root", "storage_error"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BENEATH: Final = (
    linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS | linux.RESOLVE_NO_XDEV
)
_UNNAMED: Final = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
_STAGED: Final = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_EXISTING: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
#: What kernels and file systems say that do not offer a call or a flag.
_ABSENT: Final = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
#: Besides, for O_TMPFILE (a kernel that does not know it opens a folder for writing)…
_NO_TMPFILE: Final = _ABSENT | {errno.EISDIR}
#: …and for linking what /proc/self/fd names (no /proc there, or links forbidden).
_NO_LINK: Final = _ABSENT | {errno.ENOENT, errno.EPERM, errno.EXDEV}

#: What leads to no entry of a folder.
_NO_NAMES: Final = frozenset({b"", b".", b".."})


@frozen
class Means:
    """What of the kernel may be used; all of it, unless a test takes something away."""

    openat2: bool = True
    tmpfile: bool = True
    empty_path: bool = True
    noreplace: bool = True
    syncfs: bool = True
    fallocate: bool = True
    #: No call of the kernel, but a library that makes many of them.
    many: bool = True


def storage_error(error: OSError) -> FtxError:
    """The FtxError of a failed file operation. Its message names no path."""
    number = error.errno
    why = (error.strerror or "input/output error").lower()
    if number in (errno.ENOSPC, errno.EDQUOT):
        return FtxError("no-space", why)
    if number in (errno.ELOOP, errno.ENAMETOOLONG):
        return FtxError("bad-name", why)
    if number in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return FtxError("exists", why)
    if number == errno.EFBIG:
        return FtxError("too-large", why)
    if number == errno.EXDEV:
        return FtxError("storage-failed", "another file system is mounted there")
    return FtxError("storage-failed", why)


def _single(name: bytes) -> bytes:
    """`name` if it is one component; the last line of defence, after `ftx.disk.names`."""
    if b"/" in name or b"\0" in name or name in _NO_NAMES:
        raise FtxError("bad-name")
    return name


def _all_single(names: Sequence[bytes]) -> Sequence[bytes]:
    """`names` if each is one component: the same line of defence, for many at once."""
    text = b"/".join(names)
    if text.count(b"/") != len(names) - 1 or b"\0" in text or not _NO_NAMES.isdisjoint(names):
        raise FtxError("bad-name")
    return names


def _make(path: str) -> None:
    """Make the folder `path`, durably, if it is not there."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    parent = os.open(os.path.dirname(os.path.abspath(path)), _FOLDER)
    try:
        sync_folder(parent)
    finally:
        close(parent)


class Root:
    """The folder of an inbox or a share, held open. Thread-safe: what it learns of the kernel is only ever made False.

    Methods take descriptors of folders that `open_folder()` opened, and single names in them. They raise OSError as it
    comes, to be turned by `storage_error()`, or FtxError `bad-name`.
    """

    def __init__(self, path: str, means: Means, *, shared: bool = False) -> None:
        """Hold the folder `path` (the operator's word, not a peer's), making its last component if need be.

        A folder that is `shared` is only read: it is not made, and what is mounted below it belongs to it.
        """
        if not shared:
            _make(path)
        self._resolve_flags = _BENEATH & ~linux.RESOLVE_NO_XDEV if shared else _BENEATH
        self._one_device = not shared
        #: The folder itself.
        self.fd = os.open(path, _FOLDER)
        self.device = os.fstat(self.fd).st_dev
        self._private = -1
        self._openat2 = means.openat2
        self._noreplace = means.noreplace
        self._empty_path = means.empty_path
        #: Whether unnamed files can be made and linked; `probe()` finds out.
        self.tmpfile = means.tmpfile
        self._many = means.many and many.available()

    def close(self) -> None:
        """Let the folder go."""
        if self.fd >= 0:
            close(self.fd)
            self.fd = -1

    # -- ftx's own folder ---------------------------------------------------------------------------------

    def open_private(self, *names: bytes) -> int:
        """Make and open `.ftx`, or the folder below it that `names` leads to, private; returns a descriptor.

        FtxError `inbox-unusable` when it is another user's, or on another file system.
        """
        fd = os.dup(self.fd)
        try:
            for name in (PRIVATE, *names):
                try:
                    os.mkdir(_single(name), 0o700, dir_fd=fd)
                except FileExistsError:
                    pass
                else:
                    sync_folder(fd)
                inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                close(fd)
                fd = inner
                self._secure(fd)
        except BaseException:
            close(fd)
            raise
        return fd

    def remove_private(self, private_fd: int) -> None:
        """Remove `.ftx`, open as `private_fd`, if it holds no more than an empty `partial` and the lock. OSError."""
        os.rmdir("partial", dir_fd=private_fd)
        if os.listdir(private_fd) == ["lock"]:
            os.unlink("lock", dir_fd=private_fd)
            os.rmdir(PRIVATE, dir_fd=self.fd)

    def _secure(self, fd: int) -> None:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid():
            raise FtxError("inbox-unusable", "its folder .ftx belongs to another user")
        if status.st_dev != self.device:
            raise FtxError("inbox-unusable", "its folder .ftx is on another file system")
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.fchmod(fd, 0o700)
        if self._private < 0:
            self._private = status.st_ino

    def probe(self, staging_fd: int, name: bytes) -> None:
        """Find out whether unnamed files work here, with a trial file `name` in `staging_fd`."""
        fd = self.create_unnamed(staging_fd, 0o600)
        if fd is None:
            return
        try:
            self.link(fd, staging_fd, name)
            os.unlink(name, dir_fd=staging_fd)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self.tmpfile = False
        finally:
            close(fd)

    # -- folders ------------------------------------------------------------------------------------------

    def open_folder(self, path: Path) -> int:
        """Open the folder `path` below the root for reading names and syncing; the caller closes it.

        `ELOOP` for a symbolic link on the way, `ENOTDIR` for a file, `EXDEV` for another file system, FtxError
        `bad-name` when it turns out to be `.ftx`.
        """
        fd = self._resolve(path)
        try:
            status = os.fstat(fd)
            if self._one_device and status.st_dev != self.device:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            if status.st_ino == self._private:
                raise FtxError("bad-name", "the name leads to ftx's own folder")
        except BaseException:
            close(fd)
            raise
        return fd

    def _resolve(self, path: Path) -> int:
        for name in path:
            _single(name)
        if self._openat2:
            try:
                return linux.openat2(self.fd, b"/".join(path) or b".", _FOLDER, 0, self._resolve_flags)
            except OSError as error:
                self._cannot(error)
        return self._walk(path)

    def _cannot(self, error: OSError) -> None:
        """Return when openat2 failed for a reason that does not concern the file: then there is the other way."""
        if error.errno in (errno.ENOSYS, errno.EPERM):
            self._openat2 = False
        elif error.errno != errno.ENAMETOOLONG:  # longer than it takes at once, though each component may be in order
            raise error

    def _walk(self, path: Path) -> int:
        """The fall-back: one component at a time, following no link."""
        fd = os.open(".", _FOLDER, dir_fd=self.fd)
        for name in path:
            try:
                inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as error:
                if error.errno == errno.ENOTDIR and self._is_link(fd, name):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error
                raise
            finally:
                close(fd)
            fd = inner
        return fd

    def _is_link(self, folder_fd: int, name: bytes) -> bool:
        status = self.status(folder_fd, name)
        return status is not None and stat.S_ISLNK(status.st_mode)

    def make_folder(self, folder_fd: int, name: bytes, mode: int) -> None:
        """Make the folder `name` with permission bits `mode`, less what the process umask takes; may be `EEXIST`."""
        os.mkdir(_single(name), mode, dir_fd=folder_fd)

    # -- files --------------------------------------------------------------------------------------------

    def open_below(self, path: Path) -> int:
        """Open the file `path` below the root for reading, never waiting; `ELOOP` for a symbolic link on the way.

        What it is (a FIFO, perhaps) is for the caller to find out.
        """
        flags = os.O_RDONLY | _EXISTING
        for name in path:
            _single(name)
        if self._openat2:
            try:
                return linux.openat2(self.fd, b"/".join(path), flags, 0, self._resolve_flags)
            except OSError as error:
                self._cannot(error)
        folder = self._walk(path[:-1])
        try:
            return os.open(path[-1], flags, dir_fd=folder)
        finally:
            close(folder)

    def status(self, folder_fd: int, name: bytes) -> os.stat_result | None:
        """lstat of `name`, or None when there is nothing."""
        try:
            return os.stat(_single(name), dir_fd=folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def statuses(self, folder_fd: int, names: Sequence[bytes]) -> list[os.stat_result | None]:
        """`status()` of each of `names`, of which there is one at least."""
        try:
            return [os.stat(name, dir_fd=folder_fd, follow_symlinks=False) for name in _all_single(names)]
        except FileNotFoundError:
            return [self.status(folder_fd, name) for name in names]

    def open_file(self, folder_fd: int, name: bytes, flags: int = os.O_RDONLY) -> int | None:
        """Open the regular file `name`, or None when it is gone or something else; never waits for a FIFO."""
        try:
            fd = os.open(_single(name), flags | _EXISTING, dir_fd=folder_fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR):
                return None
            raise
        try:
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
        except BaseException:
            close(fd)
            raise
        if not regular:
            close(fd)
            return None
        return fd

    def open_own(self, staging_fd: int, name: bytes) -> int | None:
        """Open `name`, in one of ftx's own folders, for reading and writing.

        None unless it is a regular file of ours with one link: through another link it could be changed, or it could be
        somebody's file. One that was about to be published as read-only can be opened, too.
        """
        try:
            # O_PATH opens nothing yet, whatever it is: what is looked at is what is opened
            held = os.open(_single(name), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=staging_fd)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(held)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
                return None
            if status.st_mode & 0o600 != 0o600:
                os.chmod(f"/proc/self/fd/{held}", 0o600)
            return os.open(f"/proc/self/fd/{held}", os.O_RDWR | os.O_CLOEXEC)
        finally:
            close(held)

    def give_mode(self, folder_fd: int, name: bytes, status: os.stat_result, mode: int) -> os.stat_result | None:
        """Give the file that `status` is of these permission bits; its status then, or None where it is not to be done.

        That is: when something else has the name by now, or it was touched, or it is another user's,
        or it has a second name, which may be anywhere.
        """
        try:
            held = os.open(_single(name), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
        except OSError:
            return None
        try:
            found = os.fstat(held)
            if (found.st_ino, found.st_ctime_ns, found.st_mode) != (status.st_ino, status.st_ctime_ns, status.st_mode):
                return None
            if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1:
                os.chmod(f"/proc/self/fd/{held}", mode)
                return os.fstat(held)
            return None
        finally:
            close(held)

    def create_unnamed(self, folder_fd: int, mode: int) -> int | None:
        """An unnamed file that can be linked into `folder_fd`, or None where there is no such thing."""
        if not self.tmpfile:
            return None
        try:
            return os.open(".", _UNNAMED, mode, dir_fd=folder_fd)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
            self.tmpfile = False
            return None

    @property
    def together(self) -> bool:
        """Whether many unnamed files can be made and linked with one call."""
        return self._many and self.tmpfile and self._empty_path

    def create_all(self, files: Sequence[tuple[int, int, int, bytes | memoryview]]) -> list[many.Unnamed]:
        """Unnamed files that can be linked into open folders: folder, permission bits, time (ns since 1970), content.

        The first of them, up to one with which anything was wrong: that is to be tried by itself.
        """
        return many.write_unnamed(files) if self.together else []

    def create_staged(self, staging_fd: int, name: bytes) -> int:
        """A new file `name` in one of ftx's own folders, for reading and writing, 0600."""
        return os.open(_single(name), _STAGED, 0o600, dir_fd=staging_fd)

    def link(self, fd: int, folder_fd: int, name: bytes) -> None:
        """Give the unnamed file `fd` its name; `EEXIST` when there is anything of that name."""
        _single(name)
        # by the descriptor itself where the kernel lets us: finding a file by way of /proc takes as long as linking it
        if self._empty_path:
            try:
                linux.link_open(fd, name, folder_fd)
                return
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder_fd, follow_symlinks=True)
        self._empty_path = False

    def link_all(self, files: Sequence[tuple[int, int, bytes]]) -> list[many.Linked]:
        """`link()` for descriptor, folder and name of each, one at least: the first, up to one that got none."""
        _all_single([name for _, _, name in files])
        return many.link(files) if self.together else []

    def expect(self, fd: int, staging_fd: int, staged: bytes) -> None:
        """`ESTALE` unless the staged name leads to the very file that `fd` is open on: that is what was verified."""
        found = self.status(staging_fd, staged)
        if found is None or found.st_ino != os.fstat(fd).st_ino:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def move(self, staging_fd: int, staged: bytes, folder_fd: int, name: bytes) -> None:
        """Give the staged file its final name; `EEXIST` when there is anything of that name.

        Where no rename can promise that, it is linked under the new name before the old one goes.
        """
        _single(name)
        if self._noreplace:
            try:
                linux.rename_noreplace(staged, staging_fd, name, folder_fd)
                return
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                self._noreplace = False
        os.link(staged, name, src_dir_fd=staging_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
        os.unlink(staged, dir_fd=staging_fd)

    def stage_unnamed(self, fd: int, staging_fd: int, name: bytes) -> None:
        """Give the unnamed file `fd` a name in one of ftx's own folders, since only what has a name can replace."""
        self.link(fd, staging_fd, name)

    def replace(self, staging_fd: int, staged: bytes, folder_fd: int, name: bytes) -> None:
        """Give the staged file the name of a regular file, in one step; that file ends, unless it has other names.

        FtxError `exists` when something else has the name; a folder the kernel refuses to replace besides (`EISDIR`). A
        name that has become free is taken.
        """
        there = self.status(folder_fd, name)
        if there is not None and not stat.S_ISREG(there.st_mode):
            raise FtxError("exists")
        os.rename(staged, name, src_dir_fd=staging_fd, dst_dir_fd=folder_fd)

    def set_aside(self, folder_fd: int, name: bytes, aside: bytes) -> None:
        """Rename the regular file `name` to `aside`; `EEXIST` when there is anything of that name.

        FtxError `exists` when `name` is something else: it stays, or is moved back, where it was.
        """
        there = self.status(folder_fd, _single(name))
        if there is None:
            return
        if not stat.S_ISREG(there.st_mode):
            raise FtxError("exists")
        try:
            self.move(folder_fd, name, folder_fd, _single(aside))
        except FileExistsError:
            old = self.status(folder_fd, aside)
            if old is None or (old.st_dev, old.st_ino) != (there.st_dev, there.st_ino):
                raise
            # killed between its link and its unlink, where a move is made of both: it is aside already
            os.unlink(name, dir_fd=folder_fd)
            return
        moved = self.status(folder_fd, aside)
        if moved is not None and not stat.S_ISREG(moved.st_mode):  # exchanged in between
            self.move(folder_fd, aside, folder_fd, name)
            raise FtxError("exists")

    # -- symbolic links: made and looked at, never followed ------------------------------------------------

    def make_link(self, folder_fd: int, name: bytes, target: bytes) -> None:
        """Make the symbolic link `name` to `target`. `EEXIST` for a taken name."""
        os.symlink(target, _single(name), dir_fd=folder_fd)

    def date_link(self, folder_fd: int, name: bytes, mtime_ns: int) -> os.stat_result:
        """Set the time of the symbolic link `name`; its status after that."""
        os.utime(_single(name), ns=(mtime_ns, mtime_ns), dir_fd=folder_fd, follow_symlinks=False)
        return os.stat(name, dir_fd=folder_fd, follow_symlinks=False)

    def link_target(self, folder_fd: int, name: bytes) -> bytes | None:
        """Where the symbolic link `name` leads, or None when it is gone or something else."""
        try:
            return os.readlink(_single(name), dir_fd=folder_fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):
                return None
            raise

    def unlink_staged(self, staging_fd: int, name: bytes) -> bool:
        """Remove a name from one of ftx's own folders; whether it was there. Nothing else is ever removed."""
        try:
            os.unlink(_single(name), dir_fd=staging_fd)
        except FileNotFoundError:
            return False
        return True
