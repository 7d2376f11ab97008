"""What a daemon lays its hands on before it starts: its home, its inbox, and the right to be the only one."""

from __future__ import annotations

import resource

import pathspec

from ftx import limits
from ftx.daemon.config import Config
from ftx.disk.heap import settle
from ftx.disk.homelock import HomeLock
from ftx.disk.places import prepare_home, prepare_inbox

__all__ = ["claim"]

#: Imported now what `ftx.disk.selection` imports at the first pattern: a daemon may have no right to by then.
_NEEDED_LATER = (pathspec,)


def _allow_descriptors() -> None:
    """Use as many descriptors as the system allows: four batches of files without a name alone take a thousand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, limits.DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _forbid_cores() -> None:
    """Write no core when we crash: it would have the key in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


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
