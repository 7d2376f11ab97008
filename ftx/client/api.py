"""Send, get and list files, and find peers, from Python: the engine of the command line, and the only one.

    async def main(reactor):
        settings = Settings.from_environment()
        done = await send(reactor, settings, ["holiday/"], "laptop:")
        async for event in get(reactor, settings, ["laptop:photos/2026"], "here"):
            print(event)

Everything runs on the reactor that is given; disks are read in worker threads that belong to the call. Events are the
Structs of `ftx.wire.events`, the same that `ftx-client --json` prints.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs
from twisted.logger import Logger

from ftx import limits
from ftx.client.attempts import Attempts
from ftx.client.download import Destination, Download
from ftx.client.find import DEFAULT_PORT, locate, place_of
from ftx.client.listing import Listed, RemoteListing
from ftx.client.running import Flow, Run
from ftx.client.target import Target, parse_folder, parse_target
from ftx.client.upload import Compare, Upload
from ftx.core.identity import format_id, same
from ftx.core.peers import TrustStore
from ftx.disk.inbox import Inbox
from ftx.disk.keys import Identity, load_or_create
from ftx.disk.landing import open_landing
from ftx.disk.peers import load
from ftx.disk.places import Places, places, prepare_home
from ftx.disk.selection import LINKS, Selection
from ftx.disk.source import Root, pipe_root, roots
from ftx.disk.store import Store
from ftx.disk.stream import Stream
from ftx.errors import FtxError
from ftx.net.discovery import Reply, find
from ftx.net.interfaces import interfaces, missing
from ftx.net.worker import Worker
from ftx.text import show
from ftx.wire.events import Discovered, Done, Event, Failed
from ftx.wire.messages import CONFLICTS, FEATURES

__all__ = ["Listed", "Run", "Settings", "discover", "get", "ls", "send"]

_log = Logger()
_T = TypeVar("_T")

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


def send(
    reactor: Any,
    settings: Settings,
    sources: Sequence[str],
    target: str,
    *,
    into: str = "",
    conflict: str | None = None,
    checksum: bool = False,
    dry_run: bool = False,
    exclude: Sequence[str] = (),
    links: str = "skip",
    name: str = "",
    compress: bool = True,
    limit: int = 0,
    compare: Compare | None = None,
    on_event: OnEvent | None = None,
    warn: Callable[[str], object] = lambda _: None,
) -> Run[Event, Done | Failed]:
    """Send `sources` (files and folders) to `target`. Awaited, it gives the last event of the job; iterated, all.

    `into` is a folder below the receiver's inbox, `conflict` a wish (`fail`, `skip`, `rename`, `backup`, `overwrite`)
    that the receiver may refuse. With `checksum` files are read before they are offered, and recognised there by their
    content whatever their time. `exclude` has patterns as in `.gitignore`, applied below each source; `links` says
    what becomes of symbolic links there: `skip`, `follow` or `keep`. Without `compress` nothing is compressed on the
    way. With a `name` standard input is sent under it: `sources` is then `["-"]`, and nothing is tried again.
    A `dry_run` changes nothing: files that would travel have the status `wanted`, and there is no receipt. `limit`
    is in bytes per second on the network, 0 for none.

    With `compare` the receiver may be one that is not paired here: somebody is asked there, `compare` gets its name
    and the words that are on both screens, and nothing is said of the files before it answers True.

    `on_event` gets every event, `warn` a sentence about anything odd that stops nothing. A connection that is lost
    is tried again as `settings` say; what fails before a job exists raises FtxError (nobody there, not trusted, a
    source that is missing). Cancelling keeps what has arrived.
    """

    async def start(put: Callable[[Event], object], flow: Flow) -> Done | Failed:
        where = parse_target(target, option=True).with_folder(into)
        wish = None if conflict is None else CONFLICTS.index(conflict)
        folder = tuple(os.fsencode(part) for part in parse_folder(where.into).split("/") if part)
        if links not in LINKS:
            raise FtxError("usage", f"links cannot be '{show(links)}'")
        selection = Selection.of(exclude, links)
        async with _working(reactor, limits.WORKER_THREADS) as worker:
            identity, peers, tops = await worker.run(_prepare, settings, sources, name)
            job = secrets.token_bytes(16)
            features = [feature for feature in FEATURES if compress or feature != "zstd"]
            way = _Way(reactor, settings, worker, identity, peers, put, warn)
            attempts, hint = await way.find(where, job.hex(), features, strangers=compare is not None)
            upload = Upload(
                reactor,
                worker,
                identity,
                attempts,
                tops,
                folder,
                wish,
                job=job,
                checksum=checksum,
                dry_run=dry_run,
                limit=limit,
                state=settings.places.state,
                selection=selection,
                compare=compare,
                on_event=put,
            )
            flow.on_change = upload.hold
            return await _hinted(upload.run(), hint)

    return Run(reactor, start, on_event, limits.EVENTS_QUEUED, _droppable)


def get(
    reactor: Any,
    settings: Settings,
    sources: Sequence[str],
    folder: str = ".",
    *,
    conflict: str = "fail",
    exclude: Sequence[str] = (),
    output: int | None = None,
    on_event: OnEvent | None = None,
    warn: Callable[[str], object] = lambda _: None,
) -> Run[Event, Done | Failed]:
    """Get `sources`, each `TARGET:SHARE/PATH` and all of one machine, into `folder`, which is made if need be.

    Each arrives under its last component. `conflict` is what happens when that name is taken by other content (one of
    `ftx.wire.messages.CONFLICTS`); what is there already is a success. `exclude` has patterns as in `.gitignore`,
    applied below each source. With `output`, a descriptor, a single file is written there instead, block by block as
    each is verified; what cannot be written any more fails the file.

    Everything else is as with `send`: awaited it gives the last event, iterated all of them.
    """

    async def start(put: Callable[[Event], object], flow: Flow) -> Done | Failed:
        where, paths = _asked(sources)
        if conflict not in CONFLICTS:
            raise FtxError("usage", f"there is no conflict rule '{show(conflict)}'")
        Selection.of(exclude)
        async with _working(reactor, limits.WORKER_THREADS) as worker:
            identity, peers = await worker.run(_identified, settings)
            job = secrets.token_bytes(16)
            way = _Way(reactor, settings, worker, identity, peers, put, warn)
            attempts, hint = await way.find(where, job.hex())
            target: Destination = _Pipe(output) if output is not None else _Folder(folder, settings.places.state)
            download = Download(
                reactor, worker, identity, attempts, paths, exclude, conflict, target, job=job, on_event=put
            )
            flow.on_change = download.hold
            return await _hinted(download.run(), hint)

    return Run(reactor, start, on_event, limits.EVENTS_QUEUED, _droppable)


def ls(
    reactor: Any,
    settings: Settings,
    target: str,
    *,
    deep: bool = False,
    on_item: Callable[[Listed], object] | None = None,
    warn: Callable[[str], object] = lambda _: None,
) -> Run[Listed, int]:
    """What there is at `target`, `TARGET:` for its shares or `TARGET:SHARE/PATH`; with `deep` what is below, too.

    Iterated, it gives every item, in the order of names; awaited, how many there were. FtxError for whatever goes
    wrong, `not-shared` for what is not there or not for this machine.
    """

    async def start(put: Callable[[Listed], object], flow: Flow) -> int:
        where = parse_target(target, option=True)
        path = _components(where.into)
        async with _working(reactor, 1) as worker:
            identity, peers = await worker.run(_identified, settings)
            way = _Way(reactor, settings, worker, identity, peers, lambda event: None, warn)
            attempts, hint = await way.find(where, None)
            listing = RemoteListing(attempts, path, deep, put)
            flow.on_change = listing.hold
            return await _hinted(listing.run(), hint)

    return Run(reactor, start, on_item, limits.ITEMS_QUEUED)


def _droppable(event: Event) -> bool:
    return event.droppable


@contextlib.asynccontextmanager
async def _working(reactor: Any, threads: int) -> AsyncIterator[Worker]:
    """Threads for as long as the block takes."""
    worker = Worker(reactor, threads)
    worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


@attrs.frozen
class _Way:
    """What it takes to find a peer and to keep coming back to it."""

    reactor: Any
    settings: Settings
    worker: Worker
    identity: Identity
    peers: TrustStore
    on_event: OnEvent
    warn: Callable[[str], object]

    async def find(
        self, where: Target, job: str | None, features: Sequence[str] = FEATURES, *, strangers: bool = False
    ) -> tuple[Attempts, str]:
        """The way to `where`, and what to say when no address of it can be found."""
        settings = self.settings
        found = await locate(
            self.reactor,
            where,
            self.peers,
            own_id=self.identity.id,
            port=settings.discovery_port,
            interfaces=settings.discovery_interfaces,
            warn=self.warn,
        )
        attempts = Attempts(
            self.reactor,
            self.worker,
            self.identity,
            self.peers,
            found,
            peers_file=settings.places.peers,
            name=settings.own_name,
            own_key_anywhere=settings.own_key_anywhere,
            retries=settings.retries,
            on_event=self.on_event,
            job=job,
            features=features,
            strangers=strangers,
        )
        return attempts, found.hint


async def _hinted(work: Awaitable[_T], hint: str) -> _T:
    """Do the work; when there is no such host, say what is known that looks like it."""
    try:
        return await work
    except FtxError as error:
        if error.name == "name-not-found" and hint:
            error.hint = hint
        raise


def _components(folder: str) -> tuple[bytes, ...]:
    return tuple(os.fsencode(part) for part in parse_folder(folder).split("/") if part)


def _asked(sources: Sequence[str]) -> tuple[Target, list[tuple[bytes, ...]]]:
    """The machine and the paths that the sources of a `get` name; FtxError `usage` or `bad-target`."""
    if not sources:
        raise FtxError("usage", "there is nothing to get")
    targets = [parse_target(source) for source in sources]
    if len({target.machine() for target in targets}) > 1:
        raise FtxError("usage", "what is got at once is on one machine", "get from the others with calls of their own")
    paths = [_components(target.into) for target in targets]
    for target, path in zip(targets, paths, strict=True):
        if not path:
            hint = f"ftx-client ls {target.label}: shows the shares there"
            raise FtxError("usage", f"{show(target.text)} names no share", hint)
    if len(paths) > limits.REQUEST_PATHS:
        raise FtxError("usage", f"more than {limits.REQUEST_PATHS} things at once", "get the folder that they are in")
    names = {path[-1] for path in paths}
    if len(names) < len(paths):
        raise FtxError("duplicate-name", "two of the paths end in the same name", "get them into different folders")
    return targets[0], paths


@attrs.frozen
class _Folder:
    """A folder as the destination of a `get`."""

    path: str
    state: str
    _open: list[Inbox] = attrs.field(factory=list)

    def open(self) -> Store:
        """See `Destination`."""
        self._open.append(open_landing(self.path, self.state, _report))
        return self._open[0]

    def close(self) -> None:
        """See `Destination`."""
        for inbox in self._open:
            inbox.close()

    @property
    def failure(self) -> FtxError | None:
        """See `Destination`: each file has its own."""
        return None


@attrs.frozen
class _Pipe:
    """A descriptor as the destination of a `get`."""

    fd: int
    _open: list[Stream] = attrs.field(factory=list)

    def open(self) -> Store:
        """See `Destination`."""
        self._open.append(Stream(self.fd))
        return self._open[0]

    def close(self) -> None:
        """See `Destination`."""
        for stream in self._open:
            stream.forget()

    @property
    def failure(self) -> FtxError | None:
        """See `Destination`."""
        return self._open[0].failure if self._open else None


def _report(sentence: str) -> None:
    """A failure of storage, from a worker thread, already clean for display."""
    _log.warn("{sentence}", sentence=sentence)


def _identified(settings: Settings) -> tuple[Identity, TrustStore]:
    prepare_home(settings.places)
    return load_or_create(settings.places.key), load(settings.places.peers)


def _prepare(settings: Settings, sources: Sequence[str], name: str) -> tuple[Identity, TrustStore, tuple[Root, ...]]:
    """What is on our own disk: the sources first, since a mistake there should leave nothing behind.

    With a `name` the only source is standard input.
    """
    if not sources:
        raise FtxError("usage", "there is nothing to send")
    if ("-" in sources) is not bool(name) or (name and len(sources) > 1):
        raise FtxError("usage", "standard input is sent alone, as '-', and under a name")
    tops = (pipe_root(name),) if name else roots(sources, os.getcwd())
    return *_identified(settings), tops


def discover(
    reactor: Any,
    settings: Settings,
    wait: float = limits.DISCOVERY_BURST,
    *,
    on_event: Callable[[Discovered], object] | None = None,
) -> Run[Discovered, list[Discovered]]:
    """Ask on the network who is there for `wait` seconds. Iterated, it gives every answer at once; awaited, all.

    A peer that answers from several addresses is there once for each. `verified` says that the answer is signed by a
    key that is paired or mine; a paired peer has the name it is paired by, whatever it calls itself. Nobody found is an
    empty list, unless discovery is restricted to interfaces of which this machine has none: FtxError `usage`.
    """

    async def start(put: Callable[[Discovered], object], flow: Flow) -> list[Discovered]:
        return await _discover(reactor, settings, wait, put)

    return Run(reactor, start, on_event, limits.EVENTS_QUEUED, lambda event: True)


async def _discover(
    reactor: Any, settings: Settings, wait: float, put: Callable[[Discovered], object]
) -> list[Discovered]:
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
        put(event(reply, reply.address))

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
