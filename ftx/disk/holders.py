"""Who holds a port of this machine: the kernel's tables, and the processes that have those sockets open."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Literal

import attrs

from ftx.core.ports import Bound, bound_sockets
from ftx.text import show

__all__ = ["Holder", "holders"]


@attrs.frozen
class Holder:
    """A socket on a port, and the process that has it; `pid` is 0 where we may not know."""

    bound: Bound
    pid: int = 0
    #: What the process is called, cleaned.
    command: str = ""

    @property
    def named(self) -> str:
        """The holder for a sentence: `python3 (pid 4711)`, or the user's number where no more is known."""
        return f"{self.command} (pid {self.pid})" if self.pid else f"a program of user {self.bound.uid}"


def holders(protocol: Literal["tcp", "udp"], port: int) -> list[Holder]:
    """Everything bound to `port`; processes of other users only where this process may look at them."""
    bound: list[Bound] = []
    for table in (protocol, protocol + "6"):
        with suppress(OSError), open(f"/proc/net/{table}", encoding="utf-8", errors="replace") as file:
            bound += [one for one in bound_sockets(file.read(), udp=protocol == "udp") if one.port == port]
    if not bound:
        return []
    processes = _processes({one.inode for one in bound})
    return [Holder(one, *processes.get(one.inode, (0, ""))) for one in bound]


def _processes(inodes: set[int]) -> dict[int, tuple[int, str]]:
    """Which process has each of these sockets open."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, tuple[int, str]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with suppress(OSError):
            for descriptor in os.scandir(f"/proc/{name}/fd"):
                with suppress(OSError):
                    inode = wanted.get(os.readlink(descriptor.path))
                    if inode is not None:
                        found.setdefault(inode, (int(name), _command(name)))
    return found


def _command(pid: str) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return show(file.read().strip(), 32)
