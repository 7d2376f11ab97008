"""The running daemon: what exists, in which order it begins, and in which order it ends.

`make_service()` runs before a daemon leaves its terminal and lays hands on everything that can fail: the home and its
lock, the identity, the peers, the inbox, the ports and the control socket. What it cannot have, it says in one
sentence. `startService()` starts threads and opens the doors; `stopService()` closes them in the order listeners,
discovery, jobs, inbox, control, so that `ctl status` works while the rest is going down.

Signals: SIGTERM and SIGINT drain, then stop; a second one stops now, everything stays resumable; a third one leaves at
once. SIGHUP reads the configuration and the peers again. SIGUSR1 writes the running jobs into the log.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import attrs
from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ftx import limits
from ftx.core.bucket import parse_timetable
from ftx.core.identity import format_id
from ftx.core.rights import may_see_share
from ftx.core.trust import Trusted
from ftx.daemon.commands import Commands
from ftx.daemon.complaints import StorageComplaints
from ftx.daemon.config import Config, load
from ftx.daemon.gap import Gap
from ftx.daemon.jobs import Jobs
from ftx.daemon.listen import ListeningService
from ftx.daemon.pairing import Pairings
from ftx.daemon.reception import Reception
from ftx.daemon.running import Running
from ftx.daemon.serving import Serving
from ftx.daemon.signals import Signals
from ftx.daemon.startup import claim
from ftx.daemon.supervision import Inherited, Supervisor, inherited
from ftx.daemon.watching import Watching
from ftx.disk.homelock import HomeLock
from ftx.disk.inbox import Inbox
from ftx.disk.keys import Identity, load_or_create
from ftx.disk.ledger import Ledger
from ftx.disk.names import NameRules
from ftx.disk.peers import Watched
from ftx.disk.shares import Shares, ShareSetting
from ftx.errors import FtxError
from ftx.net.control import ControlServer
from ftx.net.discovery import Responder
from ftx.net.tls import Credentials
from ftx.net.worker import Worker
from ftx.text import duration, plural, show, size

__all__ = ["Daemon", "make_service"]

_log = Logger()

#: Signals after which a stop that hangs is cut short: the first drains, the second stops now.
_PATIENCE = 2
#: Settings that are in force as they were at the start, whatever is read later.
_FIXED = (
    "places",
    "listen",
    "inbox",
    "names",
    "control",
    "control_packet",
    "control_group",
    "no_control",
    "discovery_port",
    "discovery_interface",
    "no_discovery",
)


def make_service(config: Config, reactor: Any, *, owns_process: bool = True) -> Daemon:
    """Everything the daemon needs, claimed and checked; FtxError, one sentence, when something cannot be had.

    A daemon that does not own its process leaves the signals alone, and where it would end the process it ends itself.
    """
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
        daemon.listening.listeners.bind()
        try:
            if daemon.control is not None:
                daemon.control.bind()
        except BaseException:
            daemon.listening.listeners.close()
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
        self.responder: Responder | None = None
        self._lock = lock
        self._owns_process = owns_process
        self._credentials = Credentials(identity)
        self._incoming = _Incoming()
        self._given = given or Inherited()
        self.supervisor = Supervisor(reactor, os.environ if owns_process else {}, os.getpid())
        self.listening = ListeningService(config.listen, self._incoming, reactor, self._given.tcp)
        self.reception: Reception | None = None
        self.view = Running(self)
        self.control: ControlServer | None = None
        if not config.no_control:
            self.control = ControlServer(
                reactor,
                config.control,
                Commands(self.view),
                owner_uid=os.geteuid(),
                packet_path=config.control_packet,
                group=config.control_gid,
                given=self._given.doors,
            )
        self.gap = Gap(reactor)
        self._watching = LoopingCall(Watching(self).look)
        self._cleaning = LoopingCall(self._clean)
        self._signals = Signals(reactor)
        #: The first signal that asked for the end, and how many did.
        self._asked_to_stop = 0
        self._stop_requests = 0
        #: What the stop waits for at the moment.
        self._waiting: Deferred[Any] | None = None
        self._ended = False
        self._storage = StorageComplaints(reactor)
        self._stopping = False

    # -- start ---------------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Bind what is not bound, while the process may still use low ports."""
        super().privilegedStartService()
        self.listening.privilegedStartService()

    def startService(self) -> None:
        """Open the inbox, start the threads, open the doors, and say that we are ready."""
        super().startService()
        config = self.config
        any_name = config.names == "any"
        rules = NameRules(control=any_name, dot_at_top=any_name)
        self.inbox = Inbox.open(config.inbox, rules=rules, report=self._report_storage)
        self.worker.start()
        self.share_worker.start()
        self.state_worker.start()
        self.serving = Serving(
            self.reactor,
            self.share_worker,
            self.identity,
            Shares(config.share, _never_shared(config)),
            config.places.state,
            time.time,
            sees=self._sees,
        )
        self.jobs = Jobs(
            self.reactor,
            self.worker,
            self.inbox,
            self.identity,
            config.rules,
            time.time,
            ledger=Ledger(os.path.join(config.places.state, "quota.json")),
            serving=self.serving,
        )
        self.pairings = Pairings(
            self.reactor,
            self.state_worker,
            self.identity.id,
            lambda: self.config.name,
            self.watched,
            self.jobs.events.publish,
        )
        self._follow_rates()
        self.jobs.approvals.seconds = config.approval_timeout
        self.reception = Reception(
            self.reactor,
            self.state_worker,
            self.identity,
            config.name,
            self.watched,
            self.jobs,
            pairings=self.pairings,
            own_key_anywhere=config.own_key == "anywhere",
            keep_links=config.links == "keep",
            serving=self.serving,
        )
        self._incoming.target = self._credentials.server(self.reception)
        if self.control is not None:
            self.control.start()
        self.listening.startService()
        if not config.no_discovery:
            self.responder = Responder(
                self.reactor,
                self.identity,
                name=config.name,
                tcp_port=self.listening.addresses[0][1],
                port=config.discovery_port,
                include=config.discovery_interface,
                listen_addresses=[address for address, _ in self.listening.addresses],
                sockets=self._given.udp,
            )
            self.responder.start()
        for call, seconds in ((self._watching, limits.PEERS_RECHECK), (self._cleaning, limits.CLEAN_INTERVAL)):
            call.clock = self.reactor
            call.start(seconds)
        self.gap.start()
        if self._owns_process:
            self.reactor.callWhenRunning(self._take_signals)
        _log.info(
            "ready: {name}, id {id}, listening on {addresses}, inbox {inbox}, control {control}",
            name=config.name,
            id=format_id(self.identity.id),
            addresses=", ".join(_address(host, port) for host, port in self.listening.addresses),
            inbox=show(config.inbox),
            control=show(config.control) if self.control is not None else "off",
        )
        if self._owns_process:  # a daemon that twistd sends to the background has another process id by now
            self.reactor.callWhenRunning(self._say_ready)

    def _say_ready(self) -> None:
        if not self._stopping:
            addresses = ", ".join(_address(host, port) for host, port in self.listening.addresses)
            self.supervisor.ready(f"{self.config.name} listens on {addresses}")

    def _sees(self, trusted: Trusted, share: ShareSetting) -> bool:
        """Whether a key may see a share, as rights and rules are now."""
        public = [share.name] if share.public else []
        rights = self.config.rules.rights_of(trusted.id, own=trusted.own)
        return may_see_share(
            share.name, own=trusted.own, paired=trusted.peer is not None, public=public, rights=rights
        )

    # -- stop ----------------------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Close everything in order; fires when nothing of the daemon is left."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        self.gap.stop()
        for call in (self._watching, self._cleaning):
            if call.running:
                call.stop()
        self.listening.stopService()
        if self.responder is not None:
            self.responder.stop()
        if self.jobs is not None:
            await self._bounded(self.jobs.stop(), "jobs")
        if self.reception is not None:
            await self._bounded(self.reception.stop(), "connections")
        if self.pairings is not None:
            await self._bounded(self.pairings.stop(), "pairing")
        if await self._bounded(self.worker.stop(), "the disk") and self.inbox is not None:
            self.inbox.close()
        await self._bounded(self.share_worker.stop(), "the shares")
        await self._bounded(self.state_worker.stop(), "the state folder")
        if self.control is not None:
            await self._bounded(self.control.stop(), "the control socket")
        self._lock.release()
        self._signals.give_back()
        self.supervisor.close()
        await super().stopService()
        _log.info("stopped")

    async def _bounded(self, ending: Any, what: str) -> bool:
        """Wait for something to end, but no longer than whoever asked wants to; whether it has ended.

        A thread that hangs in the disk ends with the process; what it was writing can be resumed.
        """
        seconds = limits.STOP_AT_ONCE if self._stop_requests > 1 else limits.STOP_WAIT
        self._waiting = ending if isinstance(ending, Deferred) else Deferred.fromCoroutine(ending)
        try:
            await self._waiting.addTimeout(seconds, self.reactor)
        except (TimeoutError, CancelledError):  # TimeoutError of Twisted, not Python's own
            _log.warn("{what}: not waited for any longer", what=what)
            return False
        except FtxError as error:
            _log.warn("{what}: {reason}", what=what, reason=error.message)
        finally:
            self._waiting = None
        return True

    async def drain(self) -> None:
        """Take nothing new, wait for what runs (at most `drain_timeout`), then stop the process."""
        if self._stopping:
            return
        self._stopping = True
        _log.info("draining: no new jobs; stopping in at most {most}", most=duration(self.config.drain_timeout))
        self.listening.stopService()
        self.supervisor.stopping("no new jobs; stopping when the running ones have ended")
        if self.jobs is not None:
            drained = self.jobs.drain()
            try:
                await drained.addTimeout(self.config.drain_timeout, self.reactor)
            except TimeoutError:  # of Twisted, not Python's own
                _log.warn("jobs are still running; they can be resumed")
        self.end_process()

    def end_process(self) -> None:
        """Stop the reactor, in the way that whoever runs us expects of the signal that asked for it.

        In an application that is not ours, only this service stops.
        """
        self._stopping = True
        if self._ended:  # a drain that a second signal has overtaken
            return
        self._ended = True
        if not self._owns_process:
            self.spawn(self._leave(), "stopping")
            return
        # Twisted's own handler stops the reactor, and makes twistd end by the signal as it always does.
        if not self._signals.pass_on(self._asked_to_stop) and self.reactor.running:
            self.reactor.stop()

    async def _leave(self) -> None:
        """Stop this service alone, and be no part of the application any more."""
        if self.parent is not None:
            await maybeDeferred(self.disownServiceParent)

    # -- while running -------------------------------------------------------------------------------------

    async def reload(self) -> None:
        """Read the configuration and the peers again; FtxError, and everything stays as it is, if they are wrong.

        Rules, the name and the drain time change at once; what the sockets and folders are needs a restart.
        """
        request = self.config.request
        self.supervisor.reloading()
        try:
            config = await self.state_worker.run(load, request)
            await self.state_worker.run(self.watched.current)
            shares = await self.state_worker.run(Shares, config.share, _never_shared(config))
        finally:
            self._say_ready()
        fixed = {name: getattr(self.config, name) for name in _FIXED}
        changed = [name for name, value in fixed.items() if getattr(config, name) != value]
        if changed:
            _log.warn("these settings count after a restart: {settings}", settings=", ".join(changed))
        self.config = attrs.evolve(config, **fixed)
        if self.jobs is not None and self.reception is not None and self.serving is not None:
            self.serving.replace(shares)
            self.jobs.rules = config.rules
            self._follow_rates()
            self.jobs.approvals.seconds = config.approval_timeout
            self.reception.name = config.name
            self.reception.own_key_anywhere = config.own_key == "anywhere"
            self.reception.keep_links = config.links == "keep"
            await self.reception.recheck()
        _log.info("configuration and peers were read again")

    def _follow_rates(self) -> None:
        if self.jobs is not None:
            self.jobs.rates.follow(parse_timetable(self.config.limit_in), parse_timetable(self.config.limit_out))

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

    # -- signals -------------------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        self._signals.take(
            {
                signal.SIGTERM: lambda: self._asked(signal.SIGTERM),
                signal.SIGINT: lambda: self._asked(signal.SIGINT),
                signal.SIGHUP: lambda: self.spawn(self.reload(), "reading the configuration again"),
                signal.SIGUSR1: self._log_jobs,
            }
        )

    def _asked(self, number: int) -> None:
        self._asked_to_stop = self._asked_to_stop or number
        self._stop_requests += 1
        if self._stop_requests == 1 and not self._stopping:
            self.spawn(self.drain(), "draining")
        elif self._stop_requests <= _PATIENCE:
            self.end_process()
            if self._waiting is not None:
                self._waiting.cancel()
        else:
            os._exit(128 + number)  # nothing that was acknowledged is lost by this, as by a kill

    def _log_jobs(self) -> None:
        jobs = self.jobs.list("active") if self.jobs is not None else []
        _log.info("{jobs}", jobs=plural(len(jobs), "running job"))
        for job in jobs:
            done = size(job.bytes_confirmed)
            if job.bytes_total is not None:
                done += f" of {size(job.bytes_total)}"
            _log.info("job {job} from {peer}: {done}", job=job.job, peer=job.peer.name, done=done)


def _never_shared(config: Config) -> list[str]:
    """What is in no share, whatever that contains: the home, or what stands for it, and the key wherever it is."""
    places = config.places
    folders = [places.state, places.run] if places.home is None else [places.home]
    return [*folders, places.key, places.peers, *config.files]


class _Incoming(Factory):
    """The factory the listeners have from the start; what it makes comes from `target`, set when the daemon runs."""

    noisy = False

    def __init__(self) -> None:
        self.target: Any = None

    def buildProtocol(self, addr: Any) -> Any:
        return None if self.target is None else self.target.buildProtocol(addr)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
