"""Metrics over HTTP: a page that Prometheus understands, and clients that get nothing else."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from prometheus_client.parser import text_string_to_metric_families
from support.bounded import bounded, until
from support.local_client import LocalClient
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, globalLogPublisher

from ftx import limits
from ftx.daemon.config import Request, load
from ftx.daemon.metrics import exposition
from ftx.daemon.scrape import endpoint_of, scraping
from ftx.daemon.service import make_service
from ftx.daemon.view import Metric
from ftx.errors import FtxError, StartupError


class _Timed:
    """The reactor, by another clock; what is for its next turn, such as the end of a connection, is left to it."""

    def __init__(self, reactor: Any, clock: Clock) -> None:
        self._reactor = reactor
        self._clock = clock

    def callLater(self, delay: float, call: Callable[..., object], *args: Any, **named: Any) -> IDelayedCall:
        made: IDelayedCall = (self._clock if delay else self._reactor).callLater(delay, call, *args, **named)
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


class Door:
    """A page of metrics; `clock` runs its timers."""

    def __init__(self, reactor: Any) -> None:
        self.clock = Clock()
        self.asked = 0
        self.service = scraping(_Timed(reactor, self.clock), endpoint_of("tcp:0"), self.measure)
        self.service.startService()

    async def measure(self) -> Sequence[Metric]:
        self.asked += 1
        return [Metric("ftx_odd", "gauge", 'a "\\" b\nc', 1.5, {"name": 'x"\\\n'})]

    @property
    def port(self) -> int:
        return self.service.addresses[0][1]

    def connect(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), 10)
        made.settimeout(10)
        return made

    def ask(self, request: bytes) -> bytes:
        """All that is answered until the end."""
        with self.connect() as client:
            client.sendall(request)
            answer = b""
            try:
                while data := client.recv(65536):
                    answer += data
            except ConnectionResetError:
                pass
            return answer


@pytest_twisted.async_yield_fixture
async def door(reactor: Any) -> AsyncIterator[Door]:
    made = Door(reactor)
    yield made
    made.service.stopService()


def get(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n".encode()


@bounded(20)
async def test_one_page_and_nothing_else(door: Door) -> None:
    assert door.service.addresses[0][0] == "127.0.0.1", "nobody else's business unless somebody says so"
    head, _, body = (await deferToThread(door.ask, get("/metrics"))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"text/plain; version=0.0.4" in head
    (family,) = text_string_to_metric_families(body.decode())
    assert (family.name, family.type, family.samples[0].value) == ("ftx_odd", "gauge", 1.5)
    assert family.samples[0].labels == {"name": 'x"\\\n'}
    assert b"see /metrics" in await deferToThread(door.ask, get("/"))
    assert b" 404 " in (await deferToThread(door.ask, get("/../etc/passwd"))).partition(b"\r\n")[0]
    assert b" 405 " in (await deferToThread(door.ask, get("/metrics").replace(b"GET", b"DELETE"))).partition(b"\r\n")[0]
    for more in ("Content-Length: 5\r\n", "Content-Length: 99999999999\r\n", "Transfer-Encoding: chunked\r\n"):
        answer = await deferToThread(door.ask, get("/metrics", more).replace(b"GET", b"POST"))
        assert not answer.startswith(b"HTTP/1.1 200")
    assert door.asked == 1


@bounded(20)
async def test_no_client_fills_the_log(door: Door) -> None:
    """What has a body is cut off without a word, also where the body came with the head; so is who is idle."""
    said: list[LogEvent] = []
    globalLogPublisher.addObserver(said.append)
    body = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    chunks = b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    try:
        for request in (body, body.replace(b"/metrics", b"/none"), body + get("/metrics"), chunks):
            assert await deferToThread(door.ask, request) == b""
        idle = await deferToThread(door.connect)
        await until(lambda: len(door.clock.getDelayedCalls()) >= 2)
        door.clock.advance(limits.METRICS_TIME)
        await until(lambda: not door.clock.getDelayedCalls())
        idle.close()
    finally:
        globalLogPublisher.removeObserver(said.append)
    assert said == []
    assert door.asked == 0


@bounded(20)
async def test_few_at_once_and_not_for_long(door: Door) -> None:
    """Whoever says nothing, or a byte now and then, has `METRICS_TIME`; beyond `METRICS_CLIENTS` nobody is answered."""
    held = [await deferToThread(door.connect) for _ in range(limits.METRICS_CLIENTS)]
    await until(lambda: len(door.clock.getDelayedCalls()) >= limits.METRICS_CLIENTS)
    assert await deferToThread(door.ask, get("/metrics")) == b""
    held[0].sendall(b"G")
    door.clock.advance(limits.METRICS_TIME)

    def gone(client: socket.socket) -> bytes:
        try:
            return client.recv(1)
        except ConnectionResetError:
            return b""

    for client in held:
        assert await deferToThread(gone, client) == b""
        client.close()
    answer = b""
    while b"200 OK" not in answer:  # the last of them may not be forgotten yet
        answer = await deferToThread(door.ask, get("/metrics"))


def test_an_endpoint_is_here_unless_it_says_otherwise() -> None:
    assert endpoint_of("tcp:9389").interface == "127.0.0.1"
    assert endpoint_of("tcp6:9389").interface == "::1"
    assert endpoint_of("tcp:9389:interface=192.0.2.1").interface == "192.0.2.1"
    with pytest.raises(FtxError, match="metrics") as caught:
        load(Request({"metrics": "9389"}, "/nowhere"))
    assert (caught.value.name, caught.value.hint) == ("config-invalid", "for example tcp:9389")


def test_a_port_in_use_names_the_option_that_chose_it() -> None:
    """Not that of the port for files."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = scraping(Clock(), endpoint_of(f"tcp:{taken.getsockname()[1]}"), lambda: succeed([]))
        with pytest.raises(StartupError, match="is in use; stop the other program or use --metrics tcp:PORT"):
            service.privilegedStartService()


@bounded(30)
async def test_what_a_daemon_says_is_prometheus_text(reactor: Any, short_tmp: Path) -> None:
    """Over HTTP and the control socket alike; counters end in _total, and each name has one kind and one help."""
    options: dict[str, Any] = {
        "listen": ["tcp:0:interface=127.0.0.1"],
        "no_discovery": True,
        "metrics": "tcp:0",
    }
    daemon = make_service(load(Request(options, str(short_tmp / "home"))), reactor, owns_process=False)
    daemon.privilegedStartService()
    daemon.startService()
    try:
        assert daemon.jobs is not None
        assert daemon.scraped is not None
        daemon.jobs.reports.errors["no-space"] = 2
        with LocalClient(daemon.config.control) as client:
            text = (await client.ask("metrics.get"))["result"]["text"]
        families = {family.name: family for family in text_string_to_metric_families(text)}
        expected = (
            "info received_bytes sent_bytes jobs_done jobs_failed jobs_partial jobs_active jobs_waiting jobs_paused "
            "receiving_bytes_per_second sending_bytes_per_second job_errors limit_bytes_per_second connections "
            "peers_paired uptime_seconds draining reactor_gap_seconds control_clients control_dropped "
            "control_events_dropped inbox_free_bytes"
        )
        assert set(families) >= {f"ftx_{name}" for name in expected.split()}
        for family in families.values():
            assert family.type in ("counter", "gauge")
            assert family.documentation
            assert family.samples
            counted = all(sample.name.endswith("_total") for sample in family.samples)
            assert counted == (family.type == "counter")
        assert families["ftx_job_errors"].samples[0].labels == {"name": "no-space"}
        port = daemon.scraped.addresses[0][1]

        def scrape() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                client.sendall(get("/metrics"))
                return b"".join(iter(lambda: client.recv(65536), b""))

        assert b"ftx_inbox_free_bytes" in await deferToThread(scrape)
    finally:
        await Deferred.fromCoroutine(daemon._stop())


def test_a_name_twice_is_one_heading() -> None:
    metrics = [Metric("a_total", "counter", "h", count, {"x": str(count)}) for count in (1, 2)]
    (family,) = text_string_to_metric_families(exposition(metrics))
    assert [sample.value for sample in family.samples] == [1.0, 2.0]
