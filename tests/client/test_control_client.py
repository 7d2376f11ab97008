"""The client side of the control socket, against the real server and against servers that misbehave."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.bounded import bounded, until
from support.control_daemon import SmallDaemon, job, job_id
from twisted.internet.defer import CancelledError, Deferred

from ftx import limits
from ftx.client.control import call, subscribe
from ftx.client.pairing import own_port
from ftx.errors import FtxError
from ftx.wire.events import Connected


async def failure_of(asking: Awaitable[Any]) -> FtxError:
    with pytest.raises(FtxError) as caught:
        await asking
    return caught.value


@contextmanager
def odd_server(path: Path, answer: bytes | None) -> Iterator[None]:
    """A server that sends `answer` to the first client unasked and hangs up, or says nothing for None."""
    from twisted.internet import reactor as any_reactor

    reactor: Any = any_reactor
    kept = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.setblocking(False)

        def serve() -> None:
            try:
                connection, _ = listening.accept()
            except BlockingIOError:
                timer[0] = reactor.callLater(0.01, serve)
                return
            kept.append(connection)
            if answer is not None:
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_RDWR)

        timer = [reactor.callLater(0.01, serve)]
        try:
            yield
        finally:
            if timer[0].active():
                timer[0].cancel()
            for connection in kept:
                connection.close()


@bounded(20)
async def test_call(reactor: Any, short_tmp: Path) -> None:
    path = str(short_tmp / "control.sock")
    server = SmallDaemon(reactor, all_jobs={job_id(1): job(1)}).serve(path)
    assert (await call(reactor, path, "daemon.status"))["name"] == "desk"
    assert (await call(reactor, path, "jobs.show", {"job": job_id(1)}))["state"] == "active"
    error = await failure_of(call(reactor, path, "jobs.show", {"job": job_id(2)}))
    assert (error.name, error.exit_code) == ("no-such-job", 2)
    assert error.hint == "ftx-client ctl jobs (jobs.list) shows the jobs there are"
    await server.stop()


@bounded(20)
async def test_call_over_a_long_path(reactor: Any, short_tmp: Path) -> None:
    folder = short_tmp / ("d" * 120)
    folder.mkdir(mode=0o700)
    path = str(folder / "control.sock")
    server = SmallDaemon(reactor).serve(path)
    before = len(os.listdir("/proc/self/fd"))
    assert (await call(reactor, path, "daemon.status"))["name"] == "desk"
    await until(lambda: len(os.listdir("/proc/self/fd")) == before)
    await server.stop()


@bounded(20)
async def test_two_hundred_calls_at_once_queue_up_or_are_told_to_wait(reactor: Any, short_tmp: Path) -> None:
    path = str(short_tmp / "control.sock")
    server = SmallDaemon(reactor).serve(path)

    async def outcome() -> str:
        try:
            return str((await call(reactor, path, "daemon.status"))["name"])
        except FtxError as error:
            return error.name

    outcomes = [await one for one in [Deferred.fromCoroutine(outcome()) for _ in range(200)]]
    assert set(outcomes) <= {"desk", "busy", "connection-lost"}
    assert outcomes.count("desk") >= limits.CONTROL_CLIENTS

    async def served() -> bool:
        return await outcome() == "desk"

    await until(served)
    await server.stop()


@pytest.mark.parametrize("where", ["nothing.sock", "no/folder/control.sock", "file/x", "x" * 150 + "/y"])
@bounded(20)
async def test_no_daemon_names_the_path(reactor: Any, short_tmp: Path, where: str) -> None:
    (short_tmp / "file").write_text("")
    path = str(short_tmp / where)
    error = await failure_of(call(reactor, path, "daemon.status"))
    assert (error.name, error.exit_code) == ("no-daemon", 12)
    assert path in error.message
    error = await failure_of(subscribe(reactor, path, None, 1.0, print))
    assert error.name == "no-daemon"


@bounded(20)
async def test_a_socket_that_nobody_listens_on(reactor: Any, short_tmp: Path) -> None:
    path = str(short_tmp / "dead.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    assert (await failure_of(call(reactor, path, "daemon.status"))).name == "no-daemon"


@bounded(20)
async def test_a_path_that_is_none(reactor: Any) -> None:
    assert (await failure_of(call(reactor, "a\0b", "daemon.status"))).name == "usage"


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (b"", "connection-lost"),
        (b'{"jsonrpc":"2.0"', "connection-lost"),
        (b"HTTP/1.1 200 OK\r\n", "protocol-error"),
        (b"\xff\n", "protocol-error"),
        (b"x" * (limits.CONTROL_LINE + 2), "protocol-error"),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":605,"message":"full"}}\n', "busy"),
    ],
)
@bounded(20)
async def test_odd_answers(reactor: Any, short_tmp: Path, answer: bytes, name: str) -> None:
    with odd_server(short_tmp / "odd.sock", answer):
        assert (await failure_of(call(reactor, str(short_tmp / "odd.sock"), "daemon.status"))).name == name


@bounded(20)
async def test_a_daemon_that_does_not_answer(reactor: Any, short_tmp: Path) -> None:
    path = str(short_tmp / "odd.sock")
    with odd_server(Path(path), None):
        error = await failure_of(call(reactor, path, "daemon.status", timeout=0.1))
    assert error.name == "timeout"
    assert path in error.message


@bounded(20)
async def test_a_daemon_that_does_not_say_where_it_listens(reactor: Any, short_tmp: Path) -> None:
    """Whoever pairs does not wait for it: after PAIRING_STATUS its port is not told."""
    path = str(short_tmp / "odd.sock")
    with odd_server(Path(path), None):
        begun = reactor.seconds()
        assert await own_port(reactor, path) == 0
        assert limits.PAIRING_STATUS <= reactor.seconds() - begun < limits.CONTROL_ANSWER


@bounded(20)
async def test_subscribe_until_the_daemon_stops(reactor: Any, short_tmp: Path) -> None:
    path = str(short_tmp / "control.sock")
    daemon = SmallDaemon(reactor)
    server = daemon.serve(path)
    got: list[str] = []
    watching = Deferred.fromCoroutine(subscribe(reactor, path, None, 1.0, lambda event: got.append(event["event"])))
    await until(lambda: got == ["snapshot"])
    for _ in range(3000):
        daemon.stream.publish(Connected(job=job_id(1)))
    await until(lambda: len(got) == 3001)
    await server.stop()
    await watching


@bounded(20)
async def test_a_cancelled_subscription_ends_at_the_daemon_too(reactor: Any, short_tmp: Path) -> None:
    path = str(short_tmp / "control.sock")
    daemon = SmallDaemon(reactor)
    server = daemon.serve(path)
    got: list[Any] = []
    watching = Deferred.fromCoroutine(subscribe(reactor, path, ["failed"], 1.0, got.append))
    await until(lambda: len(got) == 1)
    watching.cancel()
    with pytest.raises(CancelledError):
        await watching
    await until(lambda: daemon.stream.subscribers == 0)
    await server.stop()


@bounded(20)
async def test_what_the_callback_raises_ends_the_subscription(reactor: Any, short_tmp: Path) -> None:
    path = str(short_tmp / "control.sock")
    daemon = SmallDaemon(reactor)
    server = daemon.serve(path)

    def on_event(event: dict[str, Any]) -> None:
        raise FtxError("local-io")

    assert (await failure_of(subscribe(reactor, path, None, 1.0, on_event))).name == "local-io"
    await until(lambda: daemon.stream.subscribers == 0)
    await server.stop()


@bounded(20)
async def test_subscribing_to_nonsense(reactor: Any, short_tmp: Path) -> None:
    path = str(short_tmp / "control.sock")
    server = SmallDaemon(reactor).serve(path)
    error = await failure_of(subscribe(reactor, path, ["nonsense"], 1.0, print))
    assert error.name == "bad-parameters"
    await server.stop()
