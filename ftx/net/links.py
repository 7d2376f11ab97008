"""Word from the kernel that links or addresses of this host have changed (rtnetlink(7)).

What has changed is not read from the messages: whoever is told looks at the interfaces anew, as at the start. Where
the kernel cannot be asked (a sandbox without netlink) there is no word, and looking from time to time has to do.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall

from ftx import limits
from ftx.net.readable import Readable

__all__ = ["LinkWatch"]

# Multicast groups of <linux/rtnetlink.h>: links, IPv4 addresses, IPv6 addresses.
_GROUPS: Final = 0x1 | 0x10 | 0x100
_READ: Final = 4096


class LinkWatch(Readable):
    """Calls `changed` once for each bundle of changes, LINKS_SETTLE after the first of them, from `start` to `close`.

    `clock` gives the delayed calls, by default the reactor does.
    """

    called = "links"

    def __init__(self, reactor: Any, changed: Callable[[], object], clock: Any = None) -> None:
        super().__init__(reactor)
        self._clock = reactor if clock is None else clock
        self._changed = changed
        self._settling: IDelayedCall | None = None

    @property
    def running(self) -> bool:
        """Whether the kernel tells us."""
        return self._socket is not None

    def start(self) -> None:
        """Listen to the kernel; where it does not let us, nothing happens. Again does nothing."""
        if self._socket is not None:
            return
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        made: socket.socket | None = None
        try:
            made = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
            made.bind((0, _GROUPS))
        except OSError:
            if made is not None:
                made.close()
            return
        self._read_from(made)

    def close(self) -> None:
        """Listen no more; what was about to be told is not. Again does nothing."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        super().close()

    def doRead(self) -> None:
        """Take what the kernel says, at most LINK_MESSAGES, as one change."""
        for _ in range(limits.LINK_MESSAGES):
            if self._socket is None:
                return
            try:
                self._socket.recv(_READ)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more changed than it could tell: a change all the same
                    self.close()
                    return
            if self._settling is None:
                self._settling = self._clock.callLater(limits.LINKS_SETTLE, self._tell)

    def _tell(self) -> None:
        self._settling = None
        self._changed()
