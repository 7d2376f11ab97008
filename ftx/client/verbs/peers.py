"""`peers`: the trust store. Everything here works without a network, and a running daemon sees each change."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ftx.client.options import Options, Verbs, current
from ftx.errors import FtxError
from ftx.text import show

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ftx.core.peers import Peer, TrustStore

__all__ = ["named_peer", "peer_record", "peers", "print_peer"]


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from ftx.client.verbs.send import complete_names

    paired = complete_names(ctx, "", seen=False)
    return [CompletionItem(name, help=at) for name, at in paired if name.startswith(incomplete)]


@click.group(cls=Verbs, invoke_without_command=True, short_help="Show and change the paired peers.")
@click.pass_context
def peers(ctx: click.Context) -> int:
    """Show and change the paired peers: whose keys this machine trusts, and by which names.

    Without a verb, list them.
    """
    return _list() if ctx.invoked_subcommand is None else 0


@peers.command("list", short_help="List the paired peers.")
def list_peers() -> int:
    """List the paired peers."""
    return _list()


@peers.command(short_help="Trust the identity ID under NAME.")
@click.argument("name")
@click.argument("identity", metavar="ID")
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1)
def add(name: str, identity: str, addresses: tuple[str, ...]) -> int:
    """Trust the identity ID, as `ftx-client id` prints it there, and call it NAME.

    An ADDRESS says where to look for it first. An identity that is known already takes the new name, and the
    addresses besides those it has.
    """
    from ftx.core.identity import format_id, parse_id, words
    from ftx.core.peers import Peer
    from ftx.wire.events import iso_time

    options = current()
    _refuse_address(name)
    peer = Peer(name, parse_id(identity), addresses, iso_time())
    _refuse_own(options, peer.id)
    before: list[Peer] = []

    def change(store: TrustStore) -> TrustStore:
        before[:] = filter(None, [store.by_id(peer.id)])
        return store.add(peer)

    added = _change(options, change).by_id(peer.id)
    if added is not None:
        until_now = "".join(f" (until now {show(one.name)})" for one in before if one.name != added.name)
        print_peer(options, added, f"paired {show(added.name)}{until_now}, id {format_id(added.id)}, {words(added.id)}")
        if not before:
            _other_way(options)
    return 0


@peers.command(short_help="Trust NAME no longer.")
@click.argument("name", shell_complete=_complete)
def remove(name: str) -> int:
    """Trust the peer NAME no longer: a running daemon refuses it from now on."""
    options = current()
    gone = _named(_load(options), name)
    if not options.confirm(f"Trust {show(gone.name)} no longer?"):
        options.output.note("nothing was changed")
        return 0
    _change(options, lambda store: store.remove(name))
    print_peer(options, gone, f"removed {show(gone.name)}")
    return 0


@peers.command(short_help="Call the peer OLD by the name NEW.")
@click.argument("old", shell_complete=_complete)
@click.argument("new")
def rename(old: str, new: str) -> int:
    """Call the peer OLD by the name NEW."""
    options = current()
    _refuse_address(new)
    changed = _named(_change(options, lambda store: store.rename(old, new)), new)
    print_peer(options, changed, f"renamed {show(old)} to {show(changed.name)}")
    return 0


@peers.command("show", short_help="Show all that is known of NAME.")
@click.argument("name", shell_complete=_complete)
def show_peer(name: str) -> int:
    """Show all that is known of the peer NAME, with the words to compare aloud."""
    from ftx.core.identity import format_id, words

    options = current()
    peer = _named(_load(options), name)
    options.output.record(peer_record(peer))
    for label, value in (
        ("name", peer.name),
        ("id", format_id(peer.id)),
        ("words", words(peer.id)),
        ("addresses", ", ".join(peer.addresses) or "-"),
        ("added", peer.added or "-"),
        ("seen", peer.seen or "-"),
    ):
        options.output.result(f"{label + ':':<11}{show(value, 1000)}")
    return 0


def _list() -> int:
    from ftx.client.render import peers_table

    options = current()
    store = _load(options)
    for peer in store.peers:
        options.output.record(peer_record(peer))
    if store.peers:
        for line in peers_table(store):
            options.output.result(line)
    else:
        options.output.note("nobody is paired yet; there: ftx-client pair --open, then here: ftx-client pair NAME")
    return 0


def named_peer(options: Options, name: str) -> Peer:
    """The peer that is paired as `name`; FtxError `no-such-peer`, with a guess where there is one."""
    return _named(_load(options), name)


def _load(options: Options) -> TrustStore:
    from ftx.disk.peers import load

    return load(options.places().peers)


def _change(options: Options, change: Callable[[TrustStore], TrustStore]) -> TrustStore:
    from ftx.disk.peers import update
    from ftx.disk.places import prepare_home

    places = options.places()
    prepare_home(places)
    return update(places.peers, change)


def _named(store: TrustStore, name: str) -> Peer:
    peer = store.by_name(name)
    if peer is not None:
        return peer
    from ftx.client.alike import alike

    raise FtxError("no-such-peer", f"no peer is called {show(name)}", alike(name, (one.name for one in store.peers)))


def _refuse_address(name: str) -> None:
    """An address as a name would be dialled by nobody: as a target it means the address, whoever is there."""
    from ftx.core.peers import is_address

    if not is_address(name.strip()):
        return
    raise FtxError(
        "usage",
        f"a peer's name cannot be an address: {show(name)}",
        f"give it a name, and the address behind the id: ftx-client peers add NAME ID {show(name)}",
    )


def _other_way(options: Options) -> None:
    """Pairing by id takes both sides: what to type on the other one."""
    from ftx.client.configured import own_name
    from ftx.core.identity import format_id
    from ftx.disk.keys import load_or_create

    mine = format_id(load_or_create(options.places().key).id)
    name = shlex.quote(show(own_name(options)))
    options.output.note(f"and there, if it is not done yet: ftx-client peers add {name} {mine}")


def _refuse_own(options: Options, identity: bytes) -> None:
    """The id of the wrong machine is the commonest mistake: this one's own needs no pairing, and is none."""
    key = options.places().key
    if not os.path.exists(key):
        return
    from ftx.disk.keys import load

    if load(key).id == identity:
        raise FtxError(
            "usage",
            "that is the identity of this machine itself",
            "give the one that `ftx-client id` prints on the other machine",
        )


def peer_record(peer: Peer) -> dict[str, Any]:
    """`peer` as `--json` prints it."""
    from ftx.core.identity import format_id

    return {
        "name": peer.name,
        "id": format_id(peer.id),
        "addresses": list(peer.addresses),
        "added": peer.added,
        "seen": peer.seen,
    }


def print_peer(options: Options, peer: Peer, sentence: str) -> None:
    """Say `sentence` about `peer`: for programs, the peer itself."""
    options.output.record(peer_record(peer))
    if not options.quiet:
        options.output.result(sentence)
