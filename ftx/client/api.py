"""Send files and find peers, from Python: the engine of the command line, and the only one.

    async def main(reactor):
        settings = Settings.from_environment()
        done = await send(reactor, settings, ["holiday/"], "laptop:", on_event=print)

Everything runs on the reactor that is given; disks are read in worker threads that belong to the call. Events are the
Structs of `ftx.wire.events`, the same that `ftx-client --json` prints.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from ftx import limits
from ftx.client.find import DEFAULT_PORT, locate, place_of
from ftx.client.target import parse_folder, parse_target
from ftx.client.upload import Upload
from ftx.core.identity import format_id, same
from ftx.core.peers import TrustStore
from ftx.disk.keys import Identity, load_or_create
from ftx.disk.peers import load
from ftx.disk.places import Places, places, prepare_home
from ftx.disk.selection import LINKS, Selection
from ftx.disk.source import Root, pipe_root, roots
from ftx.errors import FtxError
from ftx.net.discovery import Reply, find
from ftx.net.interfaces import interfaces, missing
from ftx.net.worker import Worker
from ftx.text import show
from ftx.wire.events import Discovered, Done, Event, Failed
from ftx.wire.messages import CONFLICTS

__all__ = ["Settings", "discover", "send"]

OnEvent = Callable[[Event], object]


@attrs.frozen
class Settings:
    """What a client runs with. `timeout` and `retries` are the command line's: seconds, and a count; None for none."""

    places: Places
    discovery_port: int = DEFAULT_PORT
    discovery_interfaces: tuple[str, ...] = ()
    timeout: float | None = None
    retries: int | None = None
    #: What we call ourselves; empty for the short host name.
    name: str = ""
    #: Accept my own key from any address, not only from this host's.
    own_key_anywhere: bool = False

    @property
    def own_name(self) -> str:
        """What the other side is told."""
        return (self.name or socket.gethostname().partition(".")[0])[: limits.DISPLAY_NAME]

    @classmethod
    def from_environment(cls, home: str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
        """The settings of this user as environment variables have them; `home` as `--home`."""
        environ = os.environ if environ is None else environ
        names = environ.get("FTX_DISCOVERY_INTERFACE", "")
        port = environ.get("FTX_DISCOVERY_PORT", "")
        return cls(
            places(home, environ, os.geteuid(), os.getcwd()),
            discovery_port=int(port) if port.isdigit() else DEFAULT_PORT,
            discovery_interfaces=tuple(names.split()),
        )


async def send(
    reactor: Any,
    settings: Settings,
    sources: Sequence[str],
    target: str,
    *,
    into: str = "",
    conflict: str | None = None,
    checksum: bool = False,
    exclude: Sequence[str] = (),
    links: str = "skip",
    name: str = "",
    compress: bool = True,
    on_event: OnEvent,
    warn: Callable[[str], object] = lambda _: None,
) -> Done | Failed:
    """Send `sources` (files and folders) to `target` and return the last event of the job.

    `into` is a folder below the receiver's inbox, `conflict` a wish (`fail`, `skip`, `rename`, `backup`, `overwrite`)
    that the receiver may refuse. With `checksum` files are read before they are offered, and recognised there by their
    content whatever their time. `exclude` has patterns as in `.gitignore`, applied below each source; `links` says
    what becomes of symbolic links there: `skip`, `follow` or `keep`. Without `compress` nothing is compressed on the
    way. With a `name` standard input is sent under it: `sources` is then `["-"]`, and nothing is tried again.

    `on_event` gets every event, `warn` a sentence about anything odd that stops nothing. A connection that is lost
    is tried again as `settings` say; what fails before a job exists raises FtxError (nobody there, not trusted, a
    source that is missing). Cancelling keeps what has arrived.
    """
    where = parse_target(target, option=True).with_folder(into)
    wish = None if conflict is None else CONFLICTS.index(conflict)
    folder = tuple(os.fsencode(part) for part in parse_folder(where.into).split("/") if part)
    if links not in LINKS:
        raise FtxError("usage", f"links cannot be '{show(links)}'")
    selection = Selection.of(exclude, links)
    worker = Worker(reactor, limits.WORKER_THREADS)
    worker.start()
    try:
        identity, peers, tops = await worker.run(_prepare, settings, sources, name)
        found = await locate(
            reactor,
            where,
            peers,
            own_id=identity.id,
            port=settings.discovery_port,
            interfaces=settings.discovery_interfaces,
            warn=warn,
        )
        upload = Upload(
            reactor,
            worker,
            identity,
            peers,
            found,
            tops,
            folder,
            wish,
            checksum=checksum,
            compress=compress,
            state=settings.places.state,
            peers_file=settings.places.peers,
            name=settings.own_name,
            own_key_anywhere=settings.own_key_anywhere,
            retries=settings.retries,
            selection=selection,
            on_event=on_event,
        )
        try:
            return await upload.run()
        except FtxError as error:
            if error.name == "name-not-found" and found.hint:
                error.hint = found.hint
            raise
    finally:
        await worker.stop()


def _prepare(settings: Settings, sources: Sequence[str], name: str) -> tuple[Identity, TrustStore, tuple[Root, ...]]:
    """What is on our own disk: the sources first, since a mistake there should leave nothing behind.

    With a `name` the only source is standard input.
    """
    if not sources:
        raise FtxError("usage", "there is nothing to send")
    if ("-" in sources) is not bool(name) or (name and len(sources) > 1):
        raise FtxError("usage", "standard input is sent alone, as '-', and under a name")
    tops = (pipe_root(name),) if name else roots(sources, os.getcwd())
    prepare_home(settings.places)
    return load_or_create(settings.places.key), load(settings.places.peers), tops


async def discover(
    reactor: Any, settings: Settings, wait: float = limits.DISCOVERY_BURST, *, on_event: OnEvent
) -> list[Discovered]:
    """Ask on the network who is there for `wait` seconds; every answer is an event at once, all are returned.

    A peer that answers from several addresses is there once for each. `verified` says that the answer is signed by a
    key that is paired or mine; a paired peer has the name it is paired by, whatever it calls itself. Nobody found is an
    empty list, unless discovery is restricted to interfaces of which this machine has none: FtxError `usage`.
    """
    absent = missing(settings.discovery_interfaces, interfaces())
    if absent and len(absent) == len(settings.discovery_interfaces):
        names = ", ".join(show(name) for name in absent)
        raise FtxError("usage", f"this machine has no network interface {names}", "see --discovery-interface")
    worker = Worker(reactor, 1)
    worker.start()
    try:
        own, peers = await worker.run(_own, settings)
    finally:
        await worker.stop()

    def event(reply: Reply, address: str) -> Discovered:
        mine = own is not None and same(reply.id, own)
        peer = peers.by_id(reply.id)
        return Discovered(
            name=reply.name if peer is None else peer.name,
            id=format_id(reply.id),
            address=address,
            port=reply.port,
            verified=mine or peer is not None,
            paired=peer is not None,
            via=reply.via,
            interface=reply.interface,
            versions=list(reply.versions),
            announced=reply.name,
        )

    def tell(reply: Reply) -> None:
        on_event(event(reply, reply.address))

    hosts = [place_of(hint, DEFAULT_PORT).host for peer in peers.peers for hint in peer.addresses]
    known = {peer.id for peer in peers.peers} | ({own} if own is not None else set())
    replies = await find(
        reactor,
        port=settings.discovery_port,
        wait=wait,
        interfaces=settings.discovery_interfaces,
        extra_hosts=hosts,
        known=known,
        on_reply=tell,
        on_address=tell,
    )
    return [event(reply, address) for reply in replies for address in reply.addresses]


def _own(settings: Settings) -> tuple[bytes | None, TrustStore]:
    own = load_or_create(settings.places.key).id if os.path.exists(settings.places.key) else None
    return own, load(settings.places.peers)
