"""Word from the kernel that links or addresses of this host have changed (rtnetlink(7)).

What has changed is not read from the messages: whoever is told looks at the interfaces anew, as at the start. Where
the kernel cannot be asked (a sandbox without netlink) there is no word, and looking from time to time has to do.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ftx import limits

__all__ = ["LinkWatch"]

# Multicast groups of <linux/rtnetlink.h>: links, IPv4 addresses, IPv6 addresses.
_GROUPS: Final = 0x1 | 0x10 | 0x100
_READ: Final = 4096


@implementer(IReadDescriptor)
class LinkWatch:
    """Calls `changed` once for each bundle of changes, LINKS_SETTLE after the first of them, from `start` to `stop`.

    `clock` gives the delayed calls, by default the reactor does.
    """

    def __init__(self, reactor: Any, changed: Callable[[], object], clock: Any = None) -> None:
        self._reactor = reactor
        self._clock = reactor if clock is None else clock
        self._changed = changed
        self._socket: socket.socket | None = None
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
        self._socket = made
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Listen no more; what was about to be told is not. Again does nothing."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None

    # -- for the reactor -------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The descriptor, -1 when closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """What the reactor calls this in its log."""
        return "links"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops, or has found the descriptor unusable."""
        self.stop()

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
                    self.stop()
                    return
            if self._settling is None:
                self._settling = self._clock.callLater(limits.LINKS_SETTLE, self._tell)

    def _tell(self) -> None:
        self._settling = None
        self._changed()
