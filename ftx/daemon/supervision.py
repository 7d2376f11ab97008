"""Living under a supervisor: sockets that it opened for us, and what it is told (sd_listen_fds(3), sd_notify(3)).

Both are a few lines of a documented protocol: environment variables, descriptors from 3 on, datagrams of `KEY=value`
lines. The library of systemd would be a dependency for less than this.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import Any, Final

import attrs
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ftx import limits
from ftx.errors import StartupError
from ftx.text import show

__all__ = ["Inherited", "Supervisor", "inherited"]

_FIRST: Final = 3


@attrs.frozen
class Inherited:
    """Sockets that a supervisor has opened for us, by what they are for; each is non-blocking and ours to close."""

    tcp: tuple[socket.socket, ...] = ()
    udp: tuple[socket.socket, ...] = ()
    control: socket.socket | None = None
    control_packet: socket.socket | None = None

    @property
    def doors(self) -> Mapping[int, socket.socket]:
        """The control sockets, by their type."""
        found = {socket.SOCK_STREAM: self.control, socket.SOCK_SEQPACKET: self.control_packet}
        return {int(kind): one for kind, one in found.items() if one is not None}


def inherited(environ: Mapping[str, str], pid: int) -> Inherited:
    """The sockets that `LISTEN_FDS` speaks of, if it speaks to the process `pid` (`LISTEN_PID`).

    A socket is known by what it is: TCP that listens takes peers, UDP answers discovery, AF_UNIX that listens is a
    control socket, of lines or of packets. StartupError `listen-failed` for anything else, and for two control sockets
    of a kind: what a unit names and the daemon does not use would be a silent mistake.
    """
    if environ.get("LISTEN_PID", "") != str(pid):
        return Inherited()
    count = environ.get("LISTEN_FDS", "")
    if not count.isdigit() or int(count) > limits.CONFIG_ITEMS:
        raise StartupError("listen-failed", f"LISTEN_FDS is {show(count)}, which is no number of sockets")
    tcp: list[socket.socket] = []
    udp: list[socket.socket] = []
    doors: dict[int, socket.socket] = {}
    made: list[socket.socket] = []
    try:
        for descriptor in range(_FIRST, _FIRST + int(count)):
            one = socket.socket(fileno=descriptor)
            made.append(one)
            one.setblocking(False)
            one.set_inheritable(False)
            listening = bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            internet = one.family in (socket.AF_INET, socket.AF_INET6)
            if internet and one.type == socket.SOCK_STREAM and listening:
                tcp.append(one)
            elif internet and one.type == socket.SOCK_DGRAM:
                udp.append(one)
            elif one.family == socket.AF_UNIX and listening and int(one.type) not in doors:
                doors[int(one.type)] = one
            else:
                raise StartupError("listen-failed", f"descriptor {descriptor} is a socket that has no use here")
    except OSError as error:
        for one in made:
            one.close()
        reason = (error.strerror or "error").lower()
        raise StartupError("listen-failed", f"a socket of LISTEN_FDS cannot be used: {reason}") from error
    except StartupError:
        for one in made:
            one.close()
        raise
    return Inherited(tuple(tcp), tuple(udp), doors.get(socket.SOCK_STREAM), doors.get(socket.SOCK_SEQPACKET))


class Supervisor:
    """What a supervisor is told, if one listens at `NOTIFY_SOCKET`; every method does nothing otherwise.

    While the reactor turns, the watchdog is told twice per `WATCHDOG_USEC`: a daemon that hangs is restarted.
    """

    _log = Logger()

    def __init__(self, clock: Any, environ: Mapping[str, str], pid: int) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        self._beating = LoopingCall(self._beat)
        self._beating.clock = clock
        every = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        #: Seconds between two signs of life, 0 for none.
        self.interval = int(every) / 2e6 if ours and every.isdigit() else 0.0

    def ready(self, status: str) -> None:
        """Everything is up. From now on the watchdog hears of us."""
        self._say("READY=1", f"STATUS={status}")
        if self._address and self.interval and not self._beating.running:
            self._beating.start(self.interval)

    def status(self, status: str) -> None:
        """One line for people (`systemctl status`)."""
        self._say(f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is being read again; `ready()` follows."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """The end has begun, which may take a while."""
        self._say("STOPPING=1", f"STATUS={status}")

    def close(self) -> None:
        """Nothing more is said."""
        if self._beating.running:
            self._beating.stop()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _beat(self) -> None:
        self._say("WATCHDOG=1")

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError as error:  # a supervisor that is gone, or does not read, is no reason to stop working
            self._log.warn("the supervisor could not be told: {reason}", reason=error.strerror)
