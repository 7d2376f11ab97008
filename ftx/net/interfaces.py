"""The network interfaces of this host, as values for the discovery rules.

Names, addresses and prefixes come from ifaddr (getifaddrs(3)); whether an interface is up, loops back, carries
broadcasts or has one far end comes from the kernel by ioctl (netdevice(7)). Both only read kernel memory, so they
may be called in the reactor thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import sys
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import Final

import attrs
import ifaddr

from ftx import limits
from ftx.core.discovery import Address, Interface

__all__ = ["interfaces", "links", "missing", "own_addresses"]

# ioctl numbers and flags of <linux/sockios.h> and <linux/if.h>; the request is a name and a union of 24 bytes.
_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFDSTADDR: Final = 0x8917
_IFF_UP: Final = 0x1
_IFF_BROADCAST: Final = 0x2
_IFF_LOOPBACK: Final = 0x8
_IFF_POINTOPOINT: Final = 0x10
_IFF_RUNNING: Final = 0x40
_NAME: Final = 16
_REQUEST: Final = 40


def interfaces() -> tuple[Interface, ...]:
    """The interfaces that are up and have an address, by the kernel's number, at most DISCOVERY_INTERFACES.

    Labels (`eth0:1`) are addresses of the interface before the colon. A host whose interfaces cannot be read
    has none.
    """
    try:
        adapters = list(ifaddr.get_adapters())
        asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    except (OSError, UnicodeDecodeError):
        return ()
    found: dict[int, Interface] = {}
    with asked:
        for adapter in adapters:
            interface = _interface(asked, adapter)
            if interface is None:
                continue
            first = found.get(interface.index)
            if first is not None:
                interface = attrs.evolve(
                    first,
                    addresses=first.addresses + interface.addresses,
                    far_ends=first.far_ends + interface.far_ends,
                )
            found[interface.index] = interface
    return tuple(sorted(found.values(), key=lambda item: item.index)[: limits.DISCOVERY_INTERFACES])


def links() -> dict[str, bool]:
    """Every network interface of this host, with addresses or without: whether it is up, and has a carrier."""
    found: dict[str, bool] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asked:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it has gone meanwhile
                flags = int.from_bytes(_ioctl(asked, _SIOCGIFFLAGS, name)[:2], sys.byteorder)
                found[name] = bool(flags & _IFF_UP) and bool(flags & _IFF_RUNNING)
    return found


def own_addresses(found: Iterable[Interface]) -> frozenset[Address]:
    """All addresses of these interfaces."""
    return frozenset(item.ip for interface in found for item in interface.addresses)


def missing(include: Iterable[str], found: Iterable[Interface]) -> tuple[str, ...]:
    """The names in `include` that no interface in `found` has."""
    names = {interface.name for interface in found}
    return tuple(name for name in include if name not in names)


def _interface(asked: socket.socket, adapter: ifaddr.Adapter) -> Interface | None:
    """What the kernel says about one row of ifaddr's answer; None if it is down or gone."""
    if not adapter.index:
        return None
    try:
        flags = int.from_bytes(_ioctl(asked, _SIOCGIFFLAGS, adapter.name)[:2], sys.byteorder)
    except OSError:
        return None
    if not flags & _IFF_UP:
        return None
    addresses = tuple(item for ip in adapter.ips if (item := _address(ip)) is not None)
    far_ends: tuple[Address, ...] = ()
    if flags & _IFF_POINTOPOINT:
        with contextlib.suppress(OSError):  # it has no IPv4 address
            far = IPv4Address(_ioctl(asked, _SIOCGIFDSTADDR, adapter.name)[4:8])
            if not far.is_unspecified and all(far != item.ip for item in addresses):
                far_ends = (far,)
    return Interface(
        name=adapter.name.partition(":")[0],
        index=adapter.index,
        addresses=addresses,
        loopback=bool(flags & _IFF_LOOPBACK),
        broadcast=bool(flags & _IFF_BROADCAST),
        far_ends=far_ends,
    )


def _ioctl(asked: socket.socket, request: int, name: str) -> bytes:
    """The union of the kernel's answer about interface `name`."""
    argument = name.encode("utf-8")[: _NAME - 1].ljust(_REQUEST, b"\0")
    return fcntl.ioctl(asked, request, argument)[_NAME:]


def _address(ip: ifaddr.IP) -> IPv4Interface | IPv6Interface | None:
    host = ip.ip if isinstance(ip.ip, str) else ip.ip[0].partition("%")[0]
    try:
        kind = IPv4Interface if isinstance(ip.ip, str) else IPv6Interface
        return kind((host, ip.network_prefix))
    except ValueError:
        return None
