"""Another user to run as: found, acted as for a while, and become for good (`--uid`, `--gid`).

A daemon that root starts binds its ports as root and lays hands on everything else as the user it is going to be, so
whatever it makes belongs to that user from its first moment. Then it gives up root, groups and all, and proves that the
way back is closed before it reads anything a peer sends.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs

from ftx.disk import fds
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["Account", "account_of"]


def account_of(user: str, group: str) -> Account:
    """The account that `user` and `group` (names or numbers; empty for the user's own group) mean. Asks the system.

    FtxError `usage` with a sentence when there is no such user or group, or when it is root.
    """
    number, own = _user(user)
    gid = own if not group else _group(group)
    if gid is None:
        raise FtxError("usage", f"nothing says which group the user {show(user)} is in", "name it with --gid")
    if number == 0:
        raise FtxError("usage", "uid is root itself, of which nothing would be given up", "name another user")
    return Account(number, gid)


def _user(text: str) -> tuple[int, int | None]:
    """A user's number, and the number of its group where the system knows the user."""
    try:
        entry = pwd.getpwuid(int(text)) if text.isdigit() else pwd.getpwnam(text)
    except (KeyError, OverflowError, ValueError):
        if text.isdigit() and int(text) < 2**32 - 1:
            return int(text), None
        raise FtxError("usage", f"there is no user {show(text)}", "getent passwd lists them") from None
    return entry.pw_uid, entry.pw_gid


def _group(text: str) -> int:
    try:
        number = int(text) if text.isdigit() else grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        raise FtxError("usage", f"there is no group {show(text)}", "getent group lists them") from None
    if number >= 2**32 - 1:
        raise FtxError("usage", f"there is no group {show(text)}", "getent group lists them")
    return number


@attrs.frozen
class Account:
    """A user and a group, by their numbers."""

    uid: int
    gid: int

    @contextmanager
    def acted_as(self, groups: Sequence[int] = ()) -> Iterator[None]:
        """Open and make files as this user for as long as the context lasts, in `groups` besides its own.

        For one thread and before there are others; the real user stays root, so it is root again afterwards. Where the
        process is this user already, nothing happens. FtxError `config-invalid` when it cannot become it.
        """
        if self.is_ours:
            yield
            return
        before = os.getgroups()
        self._allowed()
        try:
            os.setgroups(list(groups))
            os.setegid(self.gid)
            os.seteuid(self.uid)
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(before)

    @contextmanager
    def as_root(self) -> Iterator[None]:
        """Within `acted_as`: root again, for what only root may do."""
        if self.is_ours:
            yield
            return
        os.seteuid(0)
        try:
            yield
        finally:
            os.seteuid(self.uid)

    @property
    def is_ours(self) -> bool:
        """Whether the process is this user and no other, with no way to be another."""
        return os.getresuid() == (self.uid,) * 3

    def become(self) -> None:
        """Be this user from now on: every user and group id, no other groups, and no way back.

        FtxError `config-invalid` when that cannot be done, or when it could be undone.
        """
        if not self.is_ours:
            self._allowed()
            os.setgroups([])
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
        try:
            os.setresuid(-1, 0, -1)
        except PermissionError:
            return
        raise FtxError("config-invalid", "root was given up, and could be had again: this system is not to be trusted")

    def _allowed(self) -> None:
        """Take the rights of root back if they are only set aside; FtxError if there are none."""
        try:
            os.seteuid(0)
            os.setegid(0)
        except PermissionError as error:
            hint = "start it as root, or as that user and without --uid"
            raise FtxError("config-invalid", "only root can become another user", hint) from error

    def give_folder(self, path: str) -> None:
        """Make the folder `path`, if it is missing and its parent is there, 0700 and this account's. As root.

        What exists is left as it is: whether it will do is said by whoever uses it.
        """
        try:
            os.mkdir(path, 0o700)
        except OSError:
            return
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(folder).st_uid == 0:  # it is still the one that was made
                os.fchown(folder, self.uid, self.gid)
        finally:
            fds.close(folder)
