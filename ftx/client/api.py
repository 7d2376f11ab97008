"""Send, get and list files, and find peers, from Python: the engine of the command line, and the only one.

    async def main(reactor):
        settings = Settings.from_environment()
        done = await send(reactor, settings, ["holiday/"], "laptop:")
        async for event in get(reactor, settings, ["laptop:photos/2026"], "here"):
            print(event)

A connection that is lost is tried again as the settings say; what fails before a job exists raises FtxError (nobody
there, not trusted, a source that is missing). Cancelling keeps what has arrived.

Everything runs on the reactor that is given; disks are read in worker threads that belong to the call. Events are the
Structs of `ftx.wire.events`, the same that `ftx-client --json` prints.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ftx import limits
from ftx.client.listing import Listed, RemoteListing
from ftx.client.running import Flow, Run
from ftx.client.settings import Settings
from ftx.client.target import Target, parse_folder, parse_target
from ftx.client.way import OnEvent, Way, carried_out, working
from ftx.core.checks import Check, of_error
from ftx.core.peers import TrustStore
from ftx.disk.keys import Identity, load_or_create
from ftx.disk.keys import load as load_key
from ftx.disk.peers import load
from ftx.disk.places import prepare_home
from ftx.disk.selection import LINKS, Selection
from ftx.disk.source import Root, pipe_root, roots
from ftx.errors import FtxError
from ftx.text import show
from ftx.wire.events import Discovered, Done, Event, Failed
from ftx.wire.messages import CONFLICTS, FEATURES

if TYPE_CHECKING:
    from ftx.client.attempts import Attempts
    from ftx.client.upload import Compare

__all__ = ["Check", "Listed", "Run", "Settings", "discover", "doctor", "get", "ls", "send"]


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
    lanes: int | None = None,
    compare: Compare | None = None,
    every_file: bool = True,
    on_event: OnEvent | None = None,
    warn: Callable[[str], object] = lambda _: None,
) -> Run[Event, Done | Failed]:
    """Send `sources` (files and folders) to `target`. Awaited, it gives the last event of the job; iterated, all.

    `into` is a folder below the receiver's inbox, `conflict` a wish (`fail`, `skip`, `rename`, `backup`, `overwrite`)
    that the receiver may refuse. With `checksum` files are read before they are offered, and recognised there by their
    content whatever their time. `exclude` has patterns as in `.gitignore`, applied below each source; `links` says
    what becomes of symbolic links there: `skip`, `follow` or `keep`. Without `compress` nothing is compressed on the
    way. With a `name` standard input is sent under it: `sources` is then `["-"]`, and nothing is tried again.
    A `dry_run` changes nothing: files that would travel have the status `wanted`, and there is no receipt. `limit` is
    in bytes per second, 0 for none; `lanes` connections may have content, 1 to 8, else as the measured round trip asks.

    With `compare` the receiver may be one that is not paired here: somebody is asked there, `compare` gets its name
    and the words that are on both screens, and nothing is said of the files before it answers True.
    `on_event` gets every event, `warn` a sentence about anything odd that stops nothing. With `every_file` False only
    those files have an event that failed, are there under another name, or would travel in a dry run: each costs time.
    """

    async def start(put: Callable[[Event], object], flow: Flow) -> Done | Failed:
        from ftx.client.upload import Upload  # what others here do not need is imported when it is
        where, folder, wish, selection = _wished(target, into, conflict, exclude, links)
        async with working(reactor, limits.WORKER_THREADS) as worker:
            identity, peers, tops = await worker.run(_prepare, settings, sources, name)
            way = Way(reactor, settings, worker, identity, peers, put, warn)
            job, attempts, hint = await _begin(way, where, compare is not None, zstd=compress)
            upload = Upload(
                *(reactor, worker, identity, attempts, tops, folder, wish),
                job=job,
                checksum=checksum,
                dry_run=dry_run,
                limit=limit,
                lanes=_further(lanes),
                state=settings.places.state,
                selection=selection,
                compare=compare,
                every_file=every_file,
                on_event=put,
            )
            return await carried_out(upload, flow, hint)

    return Run(reactor, start, on_event, limits.EVENTS_QUEUED, _droppable)


def get(
    reactor: Any,
    settings: Settings,
    sources: Sequence[str],
    folder: str = ".",
    *,
    conflict: str = "fail",
    checksum: bool = False,
    exclude: Sequence[str] = (),
    links: str = "skip",
    any_names: bool = False,
    compress: bool = True,
    lanes: int | None = None,
    output: int | None = None,
    on_event: OnEvent | None = None,
    warn: Callable[[str], object] = lambda _: None,
) -> Run[Event, Done | Failed]:
    """Get `sources`, each `TARGET:SHARE/PATH` and all of one machine, into `folder`, which is made if need be.

    Each arrives under its last component. `conflict` is what happens when that name is taken by other content (one of
    `ftx.wire.messages.CONFLICTS`); what is there already is a success. `exclude` has patterns as in `.gitignore`,
    applied below each source; `links` says what becomes of symbolic links there: `skip`, `follow` (inside what is
    shared, and nowhere else) or `keep`. With `checksum` the peer reads its files before it offers them, and they are
    recognised here by their content whatever their time; with that it can learn whether files of these names here are
    the same. Without `compress` it compresses nothing on the way. With `output`, a descriptor, a single file is written
    there instead, block by block as each is verified; what cannot be written any more fails the file. With `any_names`
    names may have control characters in them, which fail with `bad-name` otherwise.

    Everything else is as with `send`: awaited it gives the last event, iterated all of them.
    """

    # The receiving side, inbox, records and all: half of what there is to import, and nothing that `send` needs.
    from ftx.client.destination import Folder, Pipe
    from ftx.client.download import Destination, Download
    from ftx.disk.landing import check_landing

    async def start(put: Callable[[Event], object], flow: Flow) -> Done | Failed:
        where, paths = _asked(sources)
        if conflict not in CONFLICTS:
            raise FtxError("usage", f"there is no conflict rule '{show(conflict)}'")
        _selection(exclude, links)
        async with working(reactor, limits.WORKER_THREADS) as worker:
            if output is None:  # nobody need be asked for what has no place here
                await worker.run(check_landing, folder)
            identity, peers = await worker.run(_identified, settings)
            way = Way(reactor, settings, worker, identity, peers, put, warn)
            job, attempts, hint = await _begin(way, where, checksum=checksum, zstd=compress)
            state = settings.places.state
            target: Destination = Pipe(output) if output is not None else Folder(folder, state, any_names)
            download = Download(
                *(reactor, worker, identity, attempts, paths, exclude, conflict, target),
                job=job,
                compare=checksum,
                links=links,
                lanes=0 if output is not None else _further(lanes),  # what is written at once should come in order
                on_event=put,
            )
            return await carried_out(download, flow, hint)

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
        async with working(reactor, 1) as worker:
            identity, peers = await worker.run(_identified, settings)
            way = Way(reactor, settings, worker, identity, peers, lambda event: None, warn)
            attempts, hint = await way.find(where, None)
            listing = RemoteListing(attempts, path, deep, put)
            return await carried_out(listing, flow, hint)

    return Run(reactor, start, on_item, limits.ITEMS_QUEUED)


def _selection(exclude: Sequence[str], links: str) -> Selection:
    """What of the sources is meant; FtxError `usage` when that is not said well."""
    if links not in LINKS:
        raise FtxError("usage", f"links cannot be '{show(links)}'")
    return Selection.of(exclude, links)


async def _begin(way: Way, where: Target, strangers: bool = False, **wanted: bool) -> tuple[bytes, Attempts, str]:
    """A number for a new job, and what `way` finds for it; `wanted` as for `_features`."""
    job = secrets.token_bytes(16)
    return job, *await way.find(where, job.hex(), _features(**wanted), strangers=strangers)


def _droppable(event: Event) -> bool:
    return event.droppable


def _further(lanes: int | None) -> int | None:
    """How many connections beside the first; FtxError `usage`."""
    if lanes is not None and not 1 <= lanes <= limits.LANES + 1:
        raise FtxError("usage", f"lanes are 1 to {limits.LANES + 1}")
    return None if lanes is None else lanes - 1


def _features(**wanted: bool) -> list[str]:
    """What our hello lists: all that we know, without what is not `wanted` for this job."""
    return [feature for feature in FEATURES if wanted.get(feature, True)]


def _components(folder: str) -> tuple[bytes, ...]:
    return tuple(os.fsencode(part) for part in parse_folder(folder).split("/") if part)


def _wished(
    target: str, into: str, conflict: str | None, exclude: Sequence[str], links: str
) -> tuple[Target, tuple[bytes, ...], int | None, Selection]:
    """The machine, the folder there, the conflict rule by its number, and what of the sources is meant.

    FtxError `usage` or `bad-target`.
    """
    where = parse_target(target, option=True).with_folder(into)
    wish = None if conflict is None else CONFLICTS.index(conflict)
    return where, _components(where.into), wish, _selection(exclude, links)


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
    watch: bool = False,
    hosts: Sequence[str] = (),
    on_event: Callable[[Discovered], object] | None = None,
) -> Run[Discovered, list[Discovered]]:
    """Ask on the network who is there for `wait` seconds. Iterated, it gives every answer at once; awaited, all.

    `hosts`, names or addresses, are asked as well, wherever they are; those behind a router must let us ask.
    With `watch` it goes on until it is cancelled: `state` is `here` for what is new or has changed, `still` for what
    was said before, `gone` for who is missed.

    A peer that answers from several addresses is there once for each. `verified` says that the answer is signed by a
    key that is paired or mine; a paired peer has the name it is paired by, whatever it calls itself. Nobody found is an
    empty list, unless discovery is restricted to interfaces of which this machine has none: FtxError `usage`.
    """
    from ftx.client import discovering

    async def start(put: Callable[[Discovered], object], flow: Flow) -> list[Discovered]:
        if watch:
            await discovering.watch(reactor, settings, put, hosts)
        return await discovering.search(reactor, settings, wait, put, hosts)

    return Run(reactor, start, on_event, limits.EVENTS_QUEUED, lambda event: True)


def doctor(
    reactor: Any,
    settings: Settings,
    target: str = "",
    *,
    port: int | None = None,
    control: str = "",
    inbox: str = "",
    raw: bool = True,
    on_event: Callable[[Check], object] | None = None,
) -> Run[Check, list[Check]]:
    """Look at this machine, or with a `target` (and `port`, if it names none) at the way to that peer; change nothing.

    Iterated, it gives every check as it is done; awaited, all of them. `control` is the control socket of the daemon on
    this machine, `inbox` the folder that is configured for it, the usual places unless given. `raw=False` does without
    a raw socket for ICMP. What does not work is a check that failed, and no error; FtxError `bad-target` only for a
    target that is none.
    """
    # What only a doctor needs is imported when there is one.
    from ftx.client.doctor import LocalExamination
    from ftx.client.doctor_peer import PeerExamination

    async def start(put: Callable[[Check], object], flow: Flow) -> list[Check]:
        where = parse_target(target, option=True).with_port(port) if target else None
        checks: list[Check] = []

        def note(check: Check) -> None:
            checks.append(check)
            put(check)

        async with working(reactor, 2) as worker:
            if where is None:
                socket = control or settings.places.control
                await LocalExamination(reactor, settings, socket, inbox, worker, note).run()
                return checks
            try:
                own, peers = await worker.run(_known, settings)
            except FtxError as error:
                note(of_error("files", error))
                return checks
            await PeerExamination(reactor, settings, where, own, peers, worker, note, raw=raw).run()
        return checks

    return Run(reactor, start, on_event, limits.EVENTS_QUEUED)


def _known(settings: Settings) -> tuple[Identity | None, TrustStore]:
    """This machine's key and peers as they are; nothing is made."""
    own = load_key(settings.places.key) if os.path.lexists(settings.places.key) else None
    return own, load(settings.places.peers)
