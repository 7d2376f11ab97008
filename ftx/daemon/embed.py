"""A receiver inside another Twisted application.

    service = receiver(reactor, "/srv/app/ftx", listen=["tcp:7389"], on_event=print)
    service.setServiceParent(application)

It is the daemon of `ftx-server`, with its rules, its inbox and its sockets, but it takes no signals and never stops the
reactor: the application starts and stops it like any other service. `ftx.client.api` is the other direction.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Any

from twisted.application.service import MultiService
from twisted.logger import Logger

from ftx import limits
from ftx.core.identity import format_id
from ftx.daemon.config import Request, load
from ftx.daemon.service import Daemon, make_service
from ftx.errors import FtxError
from ftx.wire.events import Event

__all__ = ["Receiver", "receiver"]

_log = Logger()


class Receiver(MultiService):
    """What `receiver()` returns: a service that receives while it runs. Started once, and not again."""

    def __init__(self, daemon: Daemon, on_event: Callable[[Event], object] | None) -> None:
        super().__init__()
        self._daemon = daemon
        self._on_event = on_event
        daemon.setServiceParent(self)

    @property
    def id(self) -> str:
        """Our identity, as `ftx-client peers add` takes it."""
        return format_id(self._daemon.identity.id)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens, host and port, known from the beginning: the real port if 0 was asked for."""
        return list(self._daemon.listening.addresses)

    @property
    def inbox(self) -> str:
        """The folder in which files appear."""
        return self._daemon.config.inbox

    @property
    def control(self) -> str | None:
        """The path of the control socket; None without one."""
        return self._daemon.config.control if self._daemon.control is not None else None

    def startService(self) -> None:
        """Open the inbox and the doors; FtxError when the inbox cannot be used."""
        super().startService()
        if self._on_event is not None:
            self.subscribe(self._on_event)

    def subscribe(
        self,
        callback: Callable[[Event], object],
        types: Collection[str] | None = None,
        interval: float = limits.CONTROL_INTERVAL,
    ) -> Callable[[], None]:
        """Call `callback` with a snapshot, before this returns, and with every event from then on.

        The events are the Structs of `ftx.wire.events`. `types` are their names (`done`, `file`, ...), None for all;
        `interval` is the least number of seconds between two progress events of one job. What the callback raises is
        logged. Returns what ends the subscription. FtxError `busy` before the start.
        """

        def guarded(event: Event) -> None:
            try:
                callback(event)
            except Exception:  # the application's mistake must not end a transfer
                _log.failure("an event was not taken by {callback!r}", callback=callback)

        jobs = self._daemon.jobs
        if jobs is None:
            raise FtxError("busy", "the receiver has not been started")
        return jobs.events.subscribe(guarded, types, interval)


def receiver(
    reactor: Any,
    home: str,
    *,
    inbox: str | None = None,
    listen: Sequence[str] = (),
    name: str | None = None,
    accept: str | None = None,
    conflict: str | None = None,
    discovery: bool = True,
    control: bool = True,
    on_event: Callable[[Event], object] | None = None,
) -> Receiver:
    """A service that receives files, everything claimed and checked: home, key, inbox, ports.

    `home` is the folder of its identity, peers and state, made if it is missing; `inbox` is where files appear
    (default: `inbox` in the home). `listen` are endpoint descriptions (`tcp:7389`; default: that port on every
    address), `name` is shown in discovery. `accept` (`own`, `paired`) and `conflict` (`fail` to `overwrite`) are
    the rules, as for `ftx-server`. What is not given comes from `config.toml` in the home; environment variables do
    not count. Without `control` there is no control socket, without `discovery` nobody is answered. `on_event` is
    subscribed to all events at the start.

    Blocking, for a few milliseconds: call it where the application is put together. FtxError, one sentence, when
    something cannot be had: `config-invalid`, `home-unusable`, `inbox-unusable`, `key-unusable`, `state-unusable`,
    `already-running`, `port-in-use`.
    """
    given: dict[str, str | bool | Sequence[str] | None] = {
        "inbox": inbox,
        "listen": list(listen) or None,
        "name": name,
        "accept": accept,
        "conflict": conflict,
        "no_discovery": not discovery or None,
        "no_control": not control or None,
    }
    options = {key: value for key, value in given.items() if value is not None}
    request = Request(options, home, None, {}, os.geteuid(), os.getcwd(), socket.gethostname())
    return Receiver(make_service(load(request), reactor, owns_process=False), on_event)
