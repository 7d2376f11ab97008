"""How others reach a daemon of this machine: the commands that a person types on the other one."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, ip_address
from typing import Any

from ftx.client.target import parse_target
from ftx.disk.defaults import DEFAULT_PORT
from ftx.errors import FtxError
from ftx.net.interfaces import interfaces
from ftx.text import show

__all__ = ["commands"]

#: Addresses listed at most: a machine with more has them for other purposes.
_MOST = 3


def commands(status: Mapping[str, Any], verb: str, where: str) -> list[str]:
    """Lines that say what to type: `WHERE: VERB NAME`, and the same with an address where a name is not found.

    `status` is what `daemon.status` answers.
    """
    name = str(status.get("name") or "")
    discovery = status.get("discovery")
    targets = [f"{name}:"] if discovery and _is_target(name) else []
    targets += _addresses(status)
    if not targets:
        return []
    first, *others = targets
    lines = [f"{where}: {verb} {show(first.removesuffix(':') if first == f'{name}:' else first)}"]
    if others:
        lines.append(f"or, where that name is not found: {' or '.join(f'{verb} {one}' for one in others[:_MOST])}")
    return lines


def _is_target(name: str) -> bool:
    try:
        return parse_target(f"{name}:").kind in ("name", "host") and " " not in name
    except FtxError:
        return False


def _addresses(status: Mapping[str, Any]) -> list[str]:
    """Targets by address, those that others can use first; IPv4 before IPv6, since it is shorter."""
    own = [item.ip for interface in interfaces() for item in interface.addresses]
    outside = [one for one in own if not (one.is_loopback or one.is_link_local)]
    found: dict[str, bool] = {}
    for place in status.get("listening") or []:
        try:
            address, port = ip_address(str(place.get("address"))), int(place.get("port") or 0)
        except ValueError:
            continue
        kind = type(address)
        here = [one for one in outside if isinstance(one, kind)] if address.is_unspecified else [address]
        for one in here:
            host = str(one) if isinstance(one, IPv4Address) else f"[{one}]"
            found[f"{host}:" if port == DEFAULT_PORT else f"ftx://{host}:{port}"] = isinstance(one, IPv4Address)
    return sorted(found, key=lambda one: not found[one])
