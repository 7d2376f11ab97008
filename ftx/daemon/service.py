"""The running daemon: what exists, in which order it begins, and in which order it ends.

`make_service()` runs before a daemon leaves its terminal and lays hands on everything that can fail: the home and its
lock, the identity, the peers, the inbox, the ports and the control socket. What it cannot have, it says in one
sentence. `startService()` starts threads and opens the doors; `stopService()` closes them in the order listeners,
discovery, jobs, inbox, control, so that `ctl status` works while the rest is going down.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ftx import limits
from ftx.core.identity import format_id
from ftx.daemon import parts
from ftx.daemon.complaints import StorageComplaints
from ftx.daemon.config import Config
from ftx.daemon.ending import Ending
from ftx.daemon.gap import Gap
from ftx.daemon.hooks import Hooks
from ftx.daemon.jobs import Jobs
from ftx.daemon.listen import ListeningService
from ftx.daemon.pairing import Pairings
from ftx.daemon.probes import Probes
from ftx.daemon.reception import Reception
from ftx.daemon.reloading import reload
from ftx.daemon.running import Running
from ftx.daemon.sandbox import Sandbox
from ftx.daemon.serving import Serving
from ftx.daemon.startup import as_user, claim
from ftx.daemon.supervision import Inherited, Supervisor, inherited
from ftx.daemon.view import ReloadResult
from ftx.daemon.watching import Watching
from ftx.disk.homelock import HomeLock
from ftx.disk.inbox import Inbox
from ftx.disk.keys import Identity, load_or_create
from ftx.disk.peers import Watched
from ftx.disk.shares import Shares
from ftx.errors import FtxError
from ftx.net.control import ControlServer
from ftx.net.discovery import Responder
from ftx.net.dnssd import Publisher
from ftx.net.tls import Credentials
from ftx.net.worker import Worker
from ftx.text import plural, show

__all__ = ["Daemon", "make_service"]

_log = Logger()


def make_service(config: Config, reactor: Any, *, owns_process: bool = True) -> Daemon:
    """Everything the daemon needs, claimed and checked; FtxError, one sentence, when something cannot be had.

    A daemon that does not own its process leaves the signals alone, and where it would end the process it ends itself.
    """
    account = config.account
    if account is None:
        return _made(config, reactor, owns_process, contextlib.nullcontext)
    if not owns_process:
        problem = "an application decides itself as whom it runs"
        raise config.origins["uid"].wrong("uid", problem, "leave uid and gid out")
    groups = [] if config.control_gid is None else [config.control_gid]  # so that the socket can be given to it
    with as_user(config, account, groups):
        return _made(config, reactor, owns_process, account.as_root)


def _made(
    config: Config, reactor: Any, owns_process: bool, as_starter: Callable[[], AbstractContextManager[None]]
) -> Daemon:
    """See `make_service`. `as_starter`: the context for what only whoever starts the daemon may do."""
    lock = claim(config, owns_process=owns_process)
    try:
        identity = load_or_create(config.places.key)
        watched = Watched(config.places.peers)
        watched.current()
        # Opened for a moment only: its database must not be carried across a fork.
        Inbox.open(config.inbox).close()
        Shares(config.share).done()
        given = inherited(os.environ, os.getpid()) if owns_process else Inherited()
        daemon = Daemon(config, reactor, lock, identity, watched, owns_process=owns_process, given=given)
        with as_starter():
            daemon.listening.listeners.bind()
        try:
            if daemon.control is not None:
                daemon.control.bind()
            if daemon.scraped is not None:
                daemon.scraped.listeners.bind()
        except BaseException:
            daemon.listening.listeners.close()
            if daemon.control is not None:
                daemon.control.unbind()
            raise
    except BaseException:
        lock.release()
        raise
    return daemon


class Daemon(MultiService):
    """The daemon as one service. `exit_status` is what a process that ran nothing else should end with."""

    def __init__(
        self,
        config: Config,
        reactor: Any,
        lock: HomeLock,
        identity: Identity,
        watched: Watched,
        *,
        owns_process: bool,
        given: Inherited | None = None,
    ) -> None:
        super().__init__()
        self.setName("ftx")
        self.config = config
        self.identity = identity
        self.watched = watched
        self.reactor = reactor
        self.exit_status = 0
        self.worker = Worker(reactor, limits.WORKER_THREADS)
        #: For the shares: whoever reads there, however much, must not keep others from the inbox.
        self.share_worker = Worker(reactor, limits.WORKER_THREADS)
        #: For peers and configuration: a disk that stalls under the inbox must not keep anybody from signing in.
        self.state_worker = Worker(reactor, limits.STATE_THREADS)
        self.inbox: Inbox | None = None
        self.jobs: Jobs | None = None
        self.pairings: Pairings | None = None
        self.serving: Serving | None = None
        self.probes: Probes | None = None
        self.responder: Responder | None = None
        self.publisher: Publisher | None = None
        self.hooks: Hooks | None = None
        self.sandbox = Sandbox()
        self._lock = lock
        self._owns_process = owns_process
        self._credentials = Credentials(identity)
        self._incoming = _Incoming()
        self._given = given or Inherited()
        self.supervisor = Supervisor(reactor, os.environ if owns_process else {}, os.getpid())
        self.listening = ListeningService(config.listen, self._incoming, reactor, self._given.tcp)
        self.reception: Reception | None = None
        self.view = Running(self)
        self.control: ControlServer | None = parts.control(self, self._given.doors)
        self.scraped: ListeningService | None = parts.scraped(self)
        self.gap = Gap(reactor)
        self._watching = LoopingCall(Watching(self).look)
        self._cleaning = LoopingCall(self._clean)
        self._storage = StorageComplaints(reactor)
        self._ending = Ending(self, owns_process=owns_process)

    # -- start ---------------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Bind what is not bound, while the process may still use low ports."""
        super().privilegedStartService()
        self.listening.privilegedStartService()

    def startService(self) -> None:
        """Open the inbox, start the threads, open the doors, and say that we are ready."""
        super().startService()
        config = self.config
        if config.account is not None:
            config.account.become()
        if self._owns_process:
            self.sandbox.begin(config)
        self.inbox = parts.inbox(self, self._report_storage, self._urge)
        self.worker.start()
        self.share_worker.start()
        self.state_worker.start()
        self.serving = parts.serving(self)
        self.jobs = parts.jobs(self, self.inbox, self.serving)
        self.jobs.queue = parts.queue(self, self.jobs)
        self.spawn(self.jobs.queue.start(), "the queue")
        self.pairings = parts.pairings(self, self.jobs)
        self.reception = parts.reception(self, self.inbox, self.jobs, self.serving, self.pairings)
        self.hooks = parts.hooks(self)
        parts.follow(self)
        self._incoming.target = self._credentials.server(self.reception)
        if self.control is not None:
            self.control.start()
        self.listening.startService()
        if self.scraped is not None:
            self.scraped.startService()
        if config.answered != "off":
            self.publisher = parts.publisher(self)
            self.responder = parts.responder(self, self._given.udp)
            self.responder.start()
        for call, seconds in ((self._watching, limits.PEERS_RECHECK), (self._cleaning, limits.CLEAN_INTERVAL)):
            call.clock = self.reactor
            call.start(seconds)
        self.gap.start()
        if self._owns_process:
            self.reactor.callWhenRunning(self._ending.take_signals)
            self.reactor.callWhenRunning(self._log_ready)  # whoever reads it may send a signal at once
            # A daemon that twistd sends to the background has another process id by then.
            self.reactor.callWhenRunning(self.say_ready)
        else:
            self._log_ready()

    def _log_ready(self) -> None:
        config = self.config
        _log.info(
            "ready: {name}, id {id}, listening on {addresses}, inbox {inbox}, control {control}",
            name=config.name,
            id=format_id(self.identity.id),
            addresses=", ".join(_address(host, port) for host, port in self.listening.addresses),
            inbox=show(config.inbox),
            control=show(config.control) if self.control is not None else "off",
        )

    def say_ready(self) -> None:
        """Tell the supervisor that everything is up, or up again."""
        if not self._ending.begun:
            addresses = ", ".join(_address(host, port) for host, port in self.listening.addresses)
            self.supervisor.ready(f"{self.config.name} listens on {addresses}")

    # -- stop ----------------------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Close everything in order; fires when nothing of the daemon is left."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._ending.begun = True
        if self.jobs is not None and self.jobs.queue is not None:
            self.jobs.queue.close()  # a supervisor ends its attempts together with us: that is no failure of theirs
        self.gap.stop()
        for call in (self._watching, self._cleaning):
            if call.running:
                call.stop()
        self.listening.stopService()
        if self.scraped is not None:
            self.scraped.stopService()
        if self.responder is not None:
            self.responder.stop()
        if self.publisher is not None:
            await self._ending.bounded(self.publisher.stop(), "DNS-SD")
        if self.jobs is not None:
            await self._ending.bounded(self.jobs.stop(), "jobs")
        if self.reception is not None:
            await self._ending.bounded(self.reception.stop(), "connections")
        if self.pairings is not None:
            await self._ending.bounded(self.pairings.stop(), "pairing")
        if self.hooks is not None:
            await self._ending.bounded(self.hooks.stop(), "hooks")
        if await self._ending.bounded(self.worker.stop(), "the disk") and self.inbox is not None:
            self.inbox.close()
        await self._ending.bounded(self.share_worker.stop(), "the shares")
        await self._ending.bounded(self.state_worker.stop(), "the state folder")
        if self.control is not None:
            await self._ending.bounded(self.control.stop(), "the control socket")
        self._lock.release()
        self._ending.give_back()
        self.supervisor.close()
        await super().stopService()
        _log.info("stopped")

    async def drain(self) -> None:
        """Take nothing new, wait for what runs (at most `drain_timeout`), then stop the process."""
        await self._ending.drain()

    def end_process(self) -> None:
        """Stop the reactor, as whoever runs us expects; in an application that is not ours, this service."""
        self._ending.end_process()

    # -- while running -------------------------------------------------------------------------------------

    async def reload(self) -> ReloadResult:
        """Read the configuration and the peers again; FtxError, and everything stays as it is, if they are wrong."""
        return await reload(self)

    @property
    def sockets_given_for_discovery(self) -> bool:
        """Whether a supervisor has opened them, who alone could open others."""
        return bool(self._given.udp)

    def be_found(self) -> None:
        """Answer discovery queries as the configuration says now, or not any more."""
        if self.responder is not None:
            self.responder.stop()
            self.responder = None
        if self.config.answered != "off":
            self.responder = parts.responder(self, self._given.udp)
            self.responder.start()

    def spawn(self, coroutine: Any, what: str) -> None:
        """Run something nobody waits for; a failure is logged."""

        def failed(failure: Failure) -> None:
            error = failure.value
            if isinstance(error, FtxError):
                _log.warn("{what} failed: {reason}", what=what, reason=error.message)
            else:
                _log.failure("{what} failed in an unforeseen way", failure=failure, what=what)

        Deferred.fromCoroutine(coroutine).addErrback(failed)

    def _report_storage(self, sentence: str) -> None:
        """A storage failure, from a worker thread, already clean for display."""
        self.reactor.callFromThread(self._storage.say, sentence)

    def _urge(self, sentence: str) -> None:
        """What a person has to do about the storage, from a worker thread."""
        self.reactor.callFromThread(self._storage.urge, sentence)

    def _clean(self) -> Deferred[None] | None:
        if self.inbox is None:
            return None
        cleaning = self.worker.run(self.inbox.clean, time.time())

        def cleaned(count: int) -> None:
            if count:
                _log.info("removed {partials}", partials=plural(count, "abandoned partial file"))

        return cleaning.addCallbacks(
            cleaned, lambda failure: _log.warn("cleaning up failed: {reason}", reason=failure.getErrorMessage())
        )

class _Incoming(Factory):
    """The factory the listeners have from the start; what it makes comes from `target`, set when the daemon runs."""

    noisy = False

    def __init__(self) -> None:
        self.target: Any = None

    def buildProtocol(self, addr: Any) -> Any:
        return None if self.target is None else self.target.buildProtocol(addr)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
