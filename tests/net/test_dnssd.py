"""DNS-SD: published and found again on loopback, by real sockets; and what a stranger may publish."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.bounded import bounded, until
from support.ports import free_port

pytest.importorskip("zeroconf", reason="the extra mdns is not installed")

from zeroconf import ServiceInfo

from ftx import limits
from ftx.core.identity import format_id
from ftx.net.dnssd import Browser, Offered, Publisher, available, instance_name, offered
from ftx.net.interfaces import interfaces

ID = bytes(range(32))


def info(addresses: list[str], properties: dict[str, Any], port: int = 7389, name: str = "attic") -> ServiceInfo:
    return ServiceInfo(
        "_ftx._tcp.local.",
        f"{name}._ftx._tcp.local.",
        port=port,
        parsed_addresses=addresses,
        properties=properties,
        server="x.local.",
    )


@bounded(40)
async def test_published_found_and_withdrawn(reactor: Any) -> None:
    """Under a name with everything odd that is allowed; afterwards no socket, thread or timer is left."""
    lo = tuple(one for one in interfaces() if one.loopback)
    port = free_port()
    publisher = Publisher(reactor, name="Ada's attic. Nº 1", id=ID, port=port, versions=(1, 3))
    found: list[Offered] = []
    browser = Browser(reactor, found.append)
    try:
        publisher.serve(lo)
        browser.start(lo)
        await until(lambda: any(one.port == port for one in found), seconds=20)
        one = next(one for one in found if one.port == port)
        assert re.fullmatch(r"Ada's attic\. Nº 1(-\d+)?", one.name)
        assert (one.id, one.versions) == (format_id(ID), (1, 2, 3))
        assert "127.0.0.1" in one.addresses
    finally:
        await browser.stop()
        await publisher.stop()
        await publisher.stop()


@bounded(20)
async def test_stopped_before_it_began(reactor: Any) -> None:
    """Nothing is opened, and nothing is waited for."""
    publisher = Publisher(reactor, name="attic", id=ID, port=1, versions=(1, 1))
    publisher.serve(())
    await publisher.stop()
    publisher.serve(interfaces())
    assert available()


@pytest.mark.parametrize(
    ("name", "becomes"),
    [("attic", "attic"), ("a\nb\x1b", "a b"), ("ä" * 64, "ä" * 31), ("...", "ftx"), (" ", "ftx"), ("\udcff", "ftx")],
)
def test_names_of_instances(name: str, becomes: str) -> None:
    made = instance_name(name)
    assert made == becomes
    assert 0 < len(made.encode()) <= 63


def test_what_a_stranger_publishes_is_bounded() -> None:
    """Hundreds of addresses, names beyond all bounds, versions that are none, ports that nobody can dial."""
    many = [f"192.0.2.{number}" for number in range(200)]
    one = offered(info(many, {"id": "x" * 200, "v": "1-99999999999"}))
    assert one is not None
    assert len(one.addresses) == limits.DISCOVERED_ADDRESSES
    assert (len(one.id), one.versions) == (80, ())
    assert offered(info([], {})) is None
    assert offered(info(["192.0.2.1"], {}, port=0)) is None
    for said, versions in (("3-1", ()), ("0", ()), ("2", (2,)), ("a-b", ()), ("1-300", ()), ("", ())):
        spoken = offered(info(["192.0.2.1"], {"v": said}))
        assert spoken is not None
        assert spoken.versions == versions
