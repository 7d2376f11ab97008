"""Known peers, as a value: who is paired, under which name, and where each was last seen.

Trust is the identity and nothing else. A name is what the person here calls that identity; addresses are
hints for dialling. Every change makes a new `TrustStore`; reading and writing the file is `ftx.disk.peers`.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from typing import Final

import attrs

from ftx import limits, text
from ftx.core import identity
from ftx.errors import FtxError

__all__ = ["Peer", "TrustStore", "fold", "is_address", "peer_address", "peer_name"]

# These end or split a target (`NAME:DIR`, `NAME@ADDRESS`, `[IPv6]`, `ftx://NAME/DIR`).
_FORBIDDEN: Final = ":/@[]"


def peer_name(written: str) -> str:
    """`written` as a peer's name: NFC, white space around it removed.

    1 to 64 characters, nothing invisible, none of `: / @ [ ]` (they have a meaning in a target), no dash in
    front (it would be read as an option), and not itself an identity. Raises FtxError `usage` saying which.
    """
    name = unicodedata.normalize("NFC", written).strip()
    hint = "use letters, digits, dots and dashes"
    if not name:
        raise FtxError("usage", "a peer's name cannot be empty", hint)
    if len(name) > limits.DISPLAY_NAME:
        raise FtxError("usage", f"a peer's name has at most {limits.DISPLAY_NAME} characters", hint)
    if text.show(name) != name:
        raise FtxError("usage", f"a peer's name cannot contain invisible characters: {text.show(name)}", hint)
    for char in _FORBIDDEN:
        if char in name:
            raise FtxError("usage", f"a peer's name cannot contain \"{char}\": {name}", hint)
    if name.startswith("-"):
        raise FtxError("usage", f"a peer's name cannot begin with a dash: {name}", hint)
    try:
        identity.parse_id(name)
    except FtxError:
        return name
    raise FtxError("usage", "a peer's name cannot be an identity", hint)


def peer_address(written: str) -> str:
    """`written` as an address hint: 1 to 255 visible characters, no white space, else FtxError `usage`.

    Whether it can be dialled shows when it is dialled: hints may be host names, IPv4, IPv6 with a zone, with
    or without a port.
    """
    address = written.strip()
    if not address or len(address) > limits.ADDRESS:
        raise FtxError("usage", f"an address has 1 to {limits.ADDRESS} characters")
    if text.show(address, limits.ADDRESS) != address or any(char.isspace() for char in address):
        raise FtxError("usage", f"that is not an address: {text.show(address)}")
    return address


def is_address(name: str) -> bool:
    """Whether `name` is an IP address: as a target it would mean the address, whoever is there."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _addresses(written: tuple[str, ...]) -> tuple[str, ...]:
    """Checked, without repetition, the first ones when there are too many."""
    return tuple(dict.fromkeys(peer_address(one) for one in written))[: limits.PEER_ADDRESSES]


def _check_id(_peer: Peer, _attribute: attrs.Attribute[bytes], value: bytes) -> None:
    if len(value) != identity.ID_BYTES:
        raise ValueError("an identity has 32 bytes")


def fold(name: str) -> str:
    """What two names must differ in: case does not count, so that `Pi` cannot pose as `pi`."""
    return unicodedata.normalize("NFC", name).strip().casefold()


@attrs.frozen
class Peer:
    """One paired peer. Name and addresses are checked and cleaned on construction (FtxError `usage`)."""

    #: What this side calls it.
    name: str = attrs.field(converter=peer_name)
    #: The 32 bytes that are trusted; ValueError for another length.
    id: bytes = attrs.field(validator=_check_id)
    #: Where to dial, best first; at most `limits.PEER_ADDRESSES` are kept.
    addresses: tuple[str, ...] = attrs.field(default=(), converter=_addresses)
    #: When it was paired, ISO 8601 in UTC.
    added: str = ""
    #: When it was last connected, ISO 8601 in UTC, or None.
    seen: str | None = None


@attrs.frozen
class TrustStore:
    """All paired peers in the order they were added. Names, in any case, and identities are unique."""

    peers: tuple[Peer, ...] = ()

    def __attrs_post_init__(self) -> None:
        """Refuse what no change can make: ValueError for a name or an identity that occurs twice."""
        names = {fold(peer.name) for peer in self.peers}
        ids = {peer.id for peer in self.peers}
        if len(names) != len(self.peers):
            raise ValueError("two peers have the same name")
        if len(ids) != len(self.peers):
            raise ValueError("two peers have the same identity")
        if len(self.peers) > limits.PEERS:
            raise ValueError(f"there are more than {limits.PEERS} peers")

    def by_name(self, name: str) -> Peer | None:
        """The peer called `name`, whatever the case, or None."""
        wanted = fold(name)
        for peer in self.peers:
            if fold(peer.name) == wanted:
                return peer
        return None

    def by_id(self, id: bytes) -> Peer | None:
        """The peer with this identity, or None."""
        found = None
        for peer in self.peers:
            if identity.same(peer.id, id):
                found = peer
        return found

    def free_name(self, suggested: str) -> str:
        """A name that nobody has, as like `suggested` (what a peer calls itself, not to be trusted) as can be."""
        cleaned = text.show(suggested, limits.DISPLAY_NAME)
        for char in _FORBIDDEN:
            cleaned = cleaned.replace(char, "-")
        cleaned = cleaned.strip("- ")
        try:
            base = peer_name(cleaned)
        except FtxError:
            base = "peer"
        if is_address(base):
            base = f"peer-{base}"
        name, number = base, 2
        while self.by_name(name) is not None:
            end = f"-{number}"
            name, number = base[: limits.DISPLAY_NAME - len(end)].rstrip() + end, number + 1
        return name

    def add(self, peer: Peer) -> TrustStore:
        """With `peer` paired.

        An identity that is known already is updated: it takes the new name, the new addresses come before the
        old ones, and the date it was added stays. FtxError `name-taken` if another identity has the name, and
        `state-unusable` when there are `limits.PEERS` already.
        """
        namesake = self.by_name(peer.name)
        if namesake is not None and namesake.id != peer.id:
            raise FtxError("name-taken", f"another peer is called {namesake.name}")
        known = self.by_id(peer.id)
        if known is None:
            if len(self.peers) >= limits.PEERS:
                what = f"there are {limits.PEERS:,} peers already"
                raise FtxError("state-unusable", what, "remove some first")
            return TrustStore((*self.peers, peer))
        return self._replace(
            known,
            attrs.evolve(
                known,
                name=peer.name,
                addresses=(*peer.addresses, *known.addresses),
                seen=peer.seen or known.seen,
            ),
        )

    def remove(self, name: str) -> TrustStore:
        """Without the peer called `name`; FtxError `no-such-peer` if there is none."""
        gone = self._named(name)
        return TrustStore(tuple(peer for peer in self.peers if peer is not gone))

    def rename(self, old: str, new: str) -> TrustStore:
        """With the peer `old` called `new`; FtxError `no-such-peer`, `name-taken` or `usage`."""
        peer = self._named(old)
        namesake = self.by_name(new)
        if namesake is not None and namesake is not peer:
            raise FtxError("name-taken", f"another peer is called {namesake.name}")
        return self._replace(peer, attrs.evolve(peer, name=new))

    def touch(self, id: bytes, address: str | None, now: str) -> TrustStore:
        """With the peer `id` seen at `now` (ISO 8601) and, unless it is None, `address` as its first hint.

        An identity that is not paired changes nothing: being seen is not a way in.
        """
        peer = self.by_id(id)
        if peer is None:
            return self
        addresses = peer.addresses if address is None else (address, *peer.addresses)
        return self._replace(peer, attrs.evolve(peer, addresses=addresses, seen=now))

    def _named(self, name: str) -> Peer:
        peer = self.by_name(name)
        if peer is None:
            raise FtxError("no-such-peer", f"no peer is called {text.show(name, limits.DISPLAY_NAME)}")
        return peer

    def _replace(self, old: Peer, new: Peer) -> TrustStore:
        return TrustStore(tuple(new if peer is old else peer for peer in self.peers))
