"""The one place that knows identities: whose key it is that TLS has proved, as a pure decision.

The key is all that counts. The address is looked at for one thing only: my own key is me when it comes from one of this
host's own addresses, and a copy of me (a cloned machine, an image with a home in it) when it does not.
"""

from __future__ import annotations

from collections.abc import Container
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import attrs

from ftx.core.identity import format_id, same
from ftx.core.peers import Peer, TrustStore
from ftx.errors import FtxError

__all__ = ["Trusted", "canonical_address", "judge", "source_of"]


@attrs.frozen
class Trusted:
    """Who a key belongs to: me (`own`), a paired peer, or a stranger. `name` is what we call it here."""

    id: bytes
    name: str
    own: bool
    peer: Peer | None = None

    @property
    def known(self) -> bool:
        """Whether the key is mine or paired. Else a stranger was let in once, and `name` is what it calls itself."""
        return self.own or self.peer is not None


def canonical_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address in `text`, without its zone, IPv4 taken out of IPv6 (RFC 4291, 2.5.5.2); None for no address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def source_of(address: str) -> str:
    """What counts as one source of connections: an IPv4 address, or the 64 bits of an IPv6 network; else the text.

    Who has one address of an IPv6 network usually has all 2^64 of them.
    """
    known = canonical_address(address)
    if isinstance(known, IPv6Address):
        return str(IPv6Network((int(known) >> 64 << 64, 64)))
    return address if known is None else str(known)


def judge(
    key: bytes,
    address: str,
    *,
    own_id: bytes,
    own_name: str,
    own_addresses: Container[IPv4Address | IPv6Address],
    own_key_anywhere: bool,
    peers: TrustStore,
    unknown: str,
) -> Trusted:
    """Who proved `key` (an identity) from `address`.

    `own_addresses` is asked only where that decides: for my own key, from an address that is not loopback.

    Raises FtxError `identity-copied` for my own key from elsewhere (unless `own_key_anywhere`), and the error named
    `unknown` for a key that is neither mine nor paired: `untrusted` is what a server says, `unknown-peer` a client.
    """
    if same(key, own_id):
        where = canonical_address(address)
        if own_key_anywhere or (where is not None and (where.is_loopback or where in own_addresses)):
            return Trusted(key, own_name, own=True)
        raise FtxError("identity-copied", f"{address or 'the peer'} uses this machine's own key")
    peer = peers.by_id(key)
    if peer is None:
        message = f"the key of {address} is not paired here: {format_id(key)}" if unknown == "unknown-peer" else ""
        raise FtxError(unknown, message)
    return Trusted(key, peer.name, own=False, peer=peer)
