"""What a daemon lays its hands on before it starts: its home, its inbox, and the right to be the only one."""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import resource
from collections.abc import Iterator, Sequence

import pathspec
from twisted.logger import Logger

from ftx import limits
from ftx.daemon.config import Config
from ftx.disk import many
from ftx.disk.account import Account
from ftx.disk.heap import settle
from ftx.disk.homelock import HomeLock
from ftx.disk.places import prepare_home, prepare_inbox

__all__ = ["as_user", "claim"]

_log = Logger()


#: Imported now what `ftx.disk.selection` imports at the first pattern: a daemon may have no right to by then.
_NEEDED_LATER = (pathspec,)
#: What the libraries import late.
_NEEDED_BY_OTHERS = (
    "encodings.idna",
    "ifaddr",
    "multiprocessing.util",
    "sqlite3",
    "twisted.internet._resolver",
    "twisted.internet._signals",
)


def _allow_descriptors() -> None:
    """Use as many descriptors as the system allows: four batches of files without a name alone take a thousand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, limits.DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < limits.DESCRIPTORS_ENOUGH:
        _log.warn(
            "only {count} files may be open at once (ulimit -n): where many connect or send, some have to wait",
            count=wanted,
        )


def _forbid_cores() -> None:
    """Write no core when we crash: it would have the key in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _import_now() -> None:
    """Load what is otherwise loaded when it is needed: the interpreter may lie where another user cannot look."""
    for floor in ("wire", "core", "disk", "net", "daemon"):
        package = importlib.import_module(f"ftx.{floor}")
        for module in pkgutil.iter_modules(package.__path__, f"ftx.{floor}."):
            importlib.import_module(module.name)
    for name in _NEEDED_BY_OTHERS:
        importlib.import_module(name)
    many.available()


@contextlib.contextmanager
def as_user(config: Config, account: Account, groups: Sequence[int]) -> Iterator[None]:
    """Lay hands on things as the user that the daemon will be, `account`; also in `groups`.

    Folders that are missing and that only root can make are made for it first. FtxError `config-invalid` when we are
    not root.
    """
    if os.geteuid() != 0 and not account.is_ours:
        hint = "start it as root, or as that user and without --uid"
        raise config.origins["uid"].wrong("uid", "only root can become another user", hint)
    _import_now()
    if os.geteuid() == 0:
        for path in (config.places.home or config.places.state, os.path.dirname(config.control), config.inbox):
            account.give_folder(path)
    with account.acted_as(groups):
        yield


def claim(config: Config, *, owns_process: bool = True) -> HomeLock:
    """Make the home and the inbox where they are missing, and take the lock of the home; the caller releases it.

    A daemon that has the process to itself also takes all descriptors the system allows, forbids cores, and settles the
    heap.

    Blocking, quick, and meant for `makeService`, before a fork. Raises FtxError `home-unusable`, `inbox-unusable`
    or `already-running`. The lock comes before the ports: a second daemon is told that it is the second one, not
    that a port is in use.
    """
    if owns_process:
        _allow_descriptors()
        _forbid_cores()
        settle(limits.GARBAGE_DAEMON)
    prepare_home(config.places)
    lock = HomeLock(config.places)
    try:
        # Nobody has chosen the download folder, so nobody can be told to make it.
        prepare_inbox(config.inbox, parents=config.is_default("inbox") and config.places.home is None)
    except BaseException:
        lock.release()
        raise
    return lock
