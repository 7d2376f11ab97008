"""DNS-SD: this daemon published as `_ftx._tcp`, and others found by it, for programs that know nothing of ftx.

python-zeroconf (the extra `mdns`) does it, with sockets and a thread of its own: its event loop and Twisted's need not
know of each other. It is made and closed in a thread of ours, since registering takes a second and closing some tenths;
what it finds comes back by `callFromThread`. What is published is a claim that nobody signed: `docs/discovery.md`,
section 11, says what it is good for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ftx import limits
from ftx.core.discovery import Interface
from ftx.core.identity import format_id
from ftx.net.worker import Worker
from ftx.text import show

__all__ = ["Browser", "Offered", "Publisher", "available", "instance_name", "offered"]

_log = Logger()

_TYPE: Final = "_ftx._tcp.local."
#: Bytes of an instance name (RFC 6763, 4.1.1: one DNS label).
_LABEL: Final = 63
#: Milliseconds in which an instance says where it is.
_RESOLVE: Final = 1000


@attrs.frozen
class Offered:
    """What somebody published. Nothing of it is proven, and all of it is cleaned before it is shown."""

    name: str
    #: The identity as text, as it was published; perhaps none.
    id: str
    addresses: tuple[str, ...]
    port: int
    versions: tuple[int, ...]


def available() -> bool:
    """Whether python-zeroconf is installed; it is not imported for that."""
    return importlib.util.find_spec("zeroconf") is not None


def instance_name(name: str) -> str:
    """`name` as the name of an instance: without control characters, at most 63 bytes of UTF-8, never empty."""
    plain = "".join(char if char.isprintable() else " " for char in name).strip().strip(".")
    return plain.encode("utf-8", "replace")[:_LABEL].decode("utf-8", "ignore").strip() or "ftx"


def _wanted(interfaces: Iterable[Interface]) -> list[str | int]:
    """What zeroconf takes for these interfaces: IPv4 addresses, and the numbers of those that have IPv6."""
    wanted: list[str | int] = []
    for one in interfaces:
        wanted += [str(item.ip) for item in one.addresses if item.version == 4]
        if not one.loopback and any(item.version == 6 for item in one.addresses):
            wanted.append(one.index)
    return wanted


def _open(interfaces: Iterable[Interface]) -> Any:
    """A zeroconf on these interfaces, None where there is nothing to be on. Blocking."""
    from zeroconf import IPVersion, Zeroconf

    wanted = _wanted(interfaces)
    if not wanted:
        return None
    six = any(isinstance(one, int) for one in wanted)
    four = any(isinstance(one, str) for one in wanted)
    version = IPVersion.All if six and four else IPVersion.V6Only if six else IPVersion.V4Only
    return Zeroconf(interfaces=wanted, ip_version=version)


class _Owner:
    """One zeroconf at a time, and the thread in which it is made and closed."""

    def __init__(self, reactor: Any, what: str) -> None:
        self._reactor = reactor
        self._what = what
        self._worker = Worker(reactor, 1)
        self._worker.start()
        self._zeroconf: Any = None
        self._running: set[Deferred[Any]] = set()
        self._stopped = False

    def _do(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run something in the thread, one after the other; a failure is a line in the log."""
        if self._stopped:
            return
        doing: Deferred[Any] = self._worker.run(function, *arguments)
        self._running.add(doing)
        doing.addErrback(self._failed)
        doing.addBoth(lambda _: self._running.discard(doing))

    def _failed(self, failure: Failure) -> None:
        """A convenience that did not work: the other ways do."""
        _log.warn("{what}: {why}", what=self._what, why=show(failure.getErrorMessage() or repr(failure.value)))

    def _close(self) -> None:
        """In the thread."""
        closing, self._zeroconf = self._zeroconf, None
        if closing is not None:
            closing.close()

    async def stop(self) -> None:
        """Withdraw what was published, close the sockets and end the threads."""
        if not self._stopped:
            self._do(self._close)
            self._stopped = True
            await self._worker.stop()


class Publisher(_Owner):
    """Publishes the daemon `name` with the identity `id` on TCP port `port` wherever `serve` says."""

    def __init__(self, reactor: Any, *, name: str, id: bytes, port: int, versions: tuple[int, int]) -> None:
        super().__init__(reactor, "DNS-SD does not publish this daemon")
        self._name = instance_name(name)
        self._id = id
        self._port = port
        self._versions = versions

    def serve(self, interfaces: tuple[Interface, ...]) -> None:
        """Be published on these interfaces from now on; on loopback only where there is nothing else."""
        outside = tuple(one for one in interfaces if not one.loopback)
        self._do(self._publish, outside or interfaces)

    def _publish(self, interfaces: tuple[Interface, ...]) -> None:
        """In the thread."""
        self._close()
        self._zeroconf = _open(interfaces)
        if self._zeroconf is None:
            return
        from zeroconf import ServiceInfo

        written = format_id(self._id)
        lowest, highest = self._versions
        addresses = [item.ip.packed for one in interfaces for item in one.addresses]
        info = ServiceInfo(
            _TYPE,
            f"{self._name}.{_TYPE}",
            port=self._port,
            addresses=addresses[: limits.DISCOVERED_ADDRESSES * 2],
            properties={"txtvers": "1", "id": written, "v": f"{lowest}-{highest}"},
            server=f"ftx-{written[:15]}.local.",
        )
        self._zeroconf.register_service(info, allow_name_change=True)


class Browser(_Owner):
    """Calls `found`, in the reactor's thread, with what is published on `interfaces`, from `start` to `stop`."""

    def __init__(self, reactor: Any, found: Callable[[Offered], object]) -> None:
        super().__init__(reactor, "DNS-SD does not look for others")
        self._found = found
        self._seen = 0
        self._browser: Any = None

    def start(self, interfaces: Iterable[Interface]) -> None:
        """Begin to look."""
        self._do(self._browse, tuple(interfaces))

    def _browse(self, interfaces: tuple[Interface, ...]) -> None:
        """In the thread."""
        self._zeroconf = _open(interfaces)
        if self._zeroconf is None:
            return
        from zeroconf import ServiceBrowser

        self._browser = ServiceBrowser(self._zeroconf, _TYPE, handlers=[self._changed])

    def _close(self) -> None:
        """In the thread: end the one that looks first, and wait for it."""
        if self._browser is not None:
            self._browser.cancel()
            self._browser = None
        super()._close()

    def _changed(self, zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        """In zeroconf's thread: an instance has come, or has changed; what has gone need not be said."""
        if state_change.name == "Removed" or self._stopped or self._seen >= limits.DISCOVERED:
            return
        self._seen += 1
        info = zeroconf.get_service_info(service_type, name, timeout=_RESOLVE)
        one = None if info is None else offered(info)
        if one is not None and not self._stopped:
            self._reactor.callFromThread(self._tell, one)

    def _tell(self, one: Offered) -> None:
        if not self._stopped:
            self._found(one)


def offered(info: Any) -> Offered | None:
    """What a `ServiceInfo` says, bounded; None for one that nobody can connect to."""
    addresses = tuple(dict.fromkeys(info.parsed_scoped_addresses()))[: limits.DISCOVERED_ADDRESSES]
    port = info.port or 0
    if not addresses or not 0 < port <= 0xFFFF:
        return None
    properties = info.decoded_properties
    lowest, _, highest = str(properties.get("v") or "").partition("-")
    versions: tuple[int, ...] = ()
    if lowest.isdecimal() and (highest or lowest).isdecimal() and len(lowest) < 4 and len(highest) < 4:
        low, high = int(lowest), int(highest or lowest)
        versions = tuple(range(low, high + 1)) if 0 < low <= high <= 0xFF else ()
    return Offered(
        name=info.name.removesuffix("." + info.type)[: limits.DISPLAY_NAME],
        id=str(properties.get("id") or "")[:80],
        addresses=addresses,
        port=port,
        versions=versions,
    )
