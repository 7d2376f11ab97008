"""The parts that a daemon is put together from: each with what it needs to know, once its threads and folders exist.

What depends on the configuration and may change while the daemon runs is set in one place, `follow`.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import ip_network
from typing import TYPE_CHECKING

from ftx.core.bucket import parse_timetable
from ftx.core.rights import may_see_share
from ftx.core.trust import Trusted
from ftx.daemon.commands import Commands
from ftx.daemon.hooks import Hooks, folder_of
from ftx.daemon.jobs import Jobs
from ftx.daemon.listen import ListeningService
from ftx.daemon.pairing import Pairings
from ftx.daemon.probes import Probes
from ftx.daemon.queue import Queue
from ftx.daemon.reception import Reception
from ftx.daemon.serving import Serving
from ftx.disk.inbox import Inbox
from ftx.disk.ledger import Ledger
from ftx.disk.names import NameRules
from ftx.disk.places import absolute
from ftx.disk.queue import QueueFile
from ftx.disk.shares import Shares, ShareSetting
from ftx.net.control import ControlServer
from ftx.net.discovery import Responder
from ftx.net.dnssd import Publisher, available

if TYPE_CHECKING:
    from ftx.daemon.config import Config
    from ftx.daemon.service import Daemon

__all__ = [
    "control",
    "follow",
    "hooks",
    "inbox",
    "jobs",
    "never_shared",
    "pairings",
    "queue",
    "reception",
    "responder",
    "scraped",
    "serving",
]


def inbox(daemon: Daemon, report: Callable[[str], None], urge: Callable[[str], None]) -> Inbox:
    """The inbox; `report` hears of failures of storage, `urge` what a person has to do, in a worker's thread."""
    return Inbox.open(daemon.config.inbox, rules=_name_rules(daemon.config), report=report, urge=urge)


def _name_rules(config: Config) -> NameRules:
    """Which names the operator accepts beyond the usual."""
    any_name = config.names == "any"
    return NameRules(control=any_name, dot_at_top=any_name)


def serving(daemon: Daemon) -> Serving:
    """The shares."""
    config = daemon.config

    def sees(trusted: Trusted, share: ShareSetting) -> bool:
        """Whether a key may see a share, as rights and rules are now."""
        public = [share.name] if share.public else []
        rights = daemon.config.rules.rights_of(trusted.id, own=trusted.own)
        return may_see_share(
            share.name, own=trusted.own, paired=trusted.peer is not None, public=public, rights=rights
        )

    shares = Shares(config.share, never_shared(config))
    return Serving(
        daemon.reactor, daemon.share_worker, daemon.identity, shares, config.places.state, time.time, sees=sees
    )


def jobs(daemon: Daemon, store: Inbox, served: Serving) -> Jobs:
    """The jobs, those of the shares included."""
    return Jobs(
        daemon.reactor,
        daemon.worker,
        store,
        daemon.identity,
        daemon.config.rules,
        time.time,
        ledger=Ledger(os.path.join(daemon.config.places.state, "quota.json")),
        serving=served,
    )


def queue(daemon: Daemon, running: Jobs) -> Queue:
    """What waits to be sent, by clients that run with the daemon's own home, configuration and discovery."""
    config = daemon.config
    home = [] if config.places.home is None else ["--home", config.places.home]
    discovery = [f"--discovery-port={config.discovery_port}"]
    discovery += [f"--discovery-interface={name}" for name in config.discovery_interface]
    # -P: whatever is called ftx in the current folder is not us
    client = [sys.executable, "-P", "-m", "ftx.client.bound", str(os.getpid())]
    words = [*client, "--json", "--no-input", *home, *discovery, "send"]
    environ = dict(os.environ)
    if config.request.config:
        environ["FTX_CONFIG"] = absolute(config.request.config, config.request.cwd)

    file = QueueFile(os.path.join(config.places.state, "queue"))

    def outgoing() -> int:
        return running.rates.daemon[1]

    return Queue(daemon.reactor, daemon.state_worker, file, words, environ, running.events, time.time, outgoing)


def pairings(daemon: Daemon, running: Jobs) -> Pairings:
    """Pairing by code."""
    return Pairings(
        daemon.reactor,
        daemon.state_worker,
        daemon.identity.id,
        lambda: daemon.config.name,
        daemon.watched,
        running.events.publish,
    )


def reception(daemon: Daemon, store: Inbox, running: Jobs, served: Serving, pairing: Pairings) -> Reception:
    """Who is let in."""
    config = daemon.config
    daemon.probes = Probes(daemon.reactor, daemon.worker, running.rates, store.write_speed)
    return Reception(
        daemon.reactor,
        daemon.state_worker,
        daemon.identity,
        config.name,
        daemon.watched,
        running,
        pairings=pairing,
        own_key_anywhere=config.own_key == "anywhere",
        keep_links=config.links == "keep",
        serving=served,
        probes=daemon.probes,
    )


def responder(daemon: Daemon, sockets: Iterable[socket.socket]) -> Responder:
    """What answers discovery queries, on `sockets` where a supervisor has given some."""
    config, addresses = daemon.config, daemon.listening.addresses

    def paired() -> Collection[bytes]:
        """Who is paired, as of the last look."""
        return () if daemon.reception is None else daemon.reception.paired_ids

    return Responder(
        daemon.reactor,
        daemon.identity,
        name=config.name,
        tcp_port=addresses[0][1],
        port=config.discovery_port,
        include=config.discovery_interface,
        exclude=config.discovery_exclude,
        listen_addresses=[address for address, _ in addresses],
        networks=[ip_network(text) for text in config.discovery_from],
        on_served=lambda served: None if daemon.publisher is None else daemon.publisher.serve(served),
        peers=paired if config.answered == "paired" else None,
        sockets=sockets,
    )


def publisher(daemon: Daemon) -> Publisher | None:
    """What publishes the daemon by DNS-SD; None where that is not wanted, or not installed."""
    config = daemon.config
    if not config.mdns or config.answered != "everyone" or not available():
        return None
    port = daemon.listening.addresses[0][1]
    return Publisher(daemon.reactor, name=config.name, id=daemon.identity.id, port=port, versions=(1, 1))


def control(daemon: Daemon, given: Mapping[int, socket.socket]) -> ControlServer | None:
    """The control socket, None where it is not wanted; `given`: what a supervisor has opened."""
    config = daemon.config
    if config.no_control:
        return None
    return ControlServer(
        daemon.reactor,
        config.control,
        Commands(daemon.view),
        owner_uid=os.geteuid(),
        packet_path=config.control_packet,
        group=config.control_gid,
        group_pairs=config.control_group_pairs,
        given=given,
    )


def hooks(daemon: Daemon) -> Hooks:
    """The commands that are run when something happens; which, says `follow`."""
    config = daemon.config
    control = "" if config.no_control else config.control
    return Hooks(daemon.reactor, folder_of(config.places.state), config.inbox, control)


def scraped(daemon: Daemon) -> ListeningService | None:
    """The page of metrics, None where it is not wanted."""
    if not daemon.config.metrics:
        return None
    from ftx.daemon.scrape import endpoint_of, scraping

    return scraping(daemon.reactor, endpoint_of(daemon.config.metrics), daemon.view.metrics)


def follow(daemon: Daemon) -> None:
    """Let the parts that run follow the configuration as it is now."""
    config = daemon.config
    if daemon.inbox is not None:
        daemon.inbox.accept_names(_name_rules(config))
    if daemon.responder is not None:
        daemon.responder.rename(config.name)
    if daemon.control is not None:
        daemon.control.group_pairs = config.control_group_pairs
    if daemon.jobs is not None:
        daemon.jobs.rules = config.rules
        daemon.jobs.rates.follow(parse_timetable(config.limit_in), parse_timetable(config.limit_out))
        daemon.jobs.approvals.seconds = config.approval_timeout
        if daemon.hooks is not None:
            daemon.hooks.follow(config.hook, daemon.jobs.events)
    if daemon.reception is not None:
        daemon.reception.name = config.name
        daemon.reception.own_key_anywhere = config.own_key == "anywhere"
        daemon.reception.keep_links = config.links == "keep"
    if daemon.probes is not None:
        daemon.probes.wanted = not config.no_probe


def never_shared(config: Config) -> list[str]:
    """What is in no share, whatever that contains: the home, or what stands for it, and the key wherever it is."""
    places = config.places
    folders = [places.state, places.run] if places.home is None else [places.home]
    return [*folders, places.key, places.peers, *config.files]
