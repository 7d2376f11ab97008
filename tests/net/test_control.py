"""The control socket over real AF_UNIX connections, with a small daemon behind it."""

from __future__ import annotations

import array
import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.bounded import bounded, until
from support.control_daemon import SmallDaemon, job, job_id
from support.local_client import LocalClient
from twisted.internet.defer import Deferred

from ftx import limits
from ftx.daemon.commands import Commands
from ftx.daemon.view import Metric
from ftx.errors import FtxError
from ftx.net.control import ControlServer
from ftx.net.local import Caller
from ftx.wire.events import Failed, Progress, error_info


class Hurried:
    """The reactor with a quicker clock: what waits 10 s waits 0.1 s. Sockets are as they are."""

    def __init__(self, reactor: Any, factor: float = 100) -> None:
        self._reactor = reactor
        self._factor = factor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def seconds(self) -> float:
        return float(self._reactor.seconds() * self._factor)

    def callLater(self, delay: float, call: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
        return self._reactor.callLater(delay / self._factor, call, *args, **kwargs)


def socket_path(folder: Path) -> str:
    return str(folder / "run" / "control.sock")


def start_refused(reactor: Any, path: str) -> FtxError:
    server = ControlServer(reactor, path, Commands(SmallDaemon(reactor)), owner_uid=os.geteuid())
    with pytest.raises(FtxError) as caught:
        server.start()
    return caught.value


def failed(number: int) -> Failed:
    error = error_info(FtxError("cancelled").as_value())
    assert error is not None
    return Failed(job=job_id(number), error=error, exit=6, resumable=True)


# -- asking ------------------------------------------------------------------------------------------------


@bounded(20)
async def test_a_request_is_answered(reactor: Any, short_tmp: Path) -> None:
    server = SmallDaemon(reactor).serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client:
        reply = await client.ask("daemon.status", 7)
        assert reply["id"] == 7
        assert reply["result"]["name"] == "desk"
        assert (await client.ask("no.such", "x"))["error"]["data"]["name"] == "unknown-method"
    await server.stop()


@bounded(20)
async def test_requests_of_one_connection_are_answered_in_order(reactor: Any, short_tmp: Path) -> None:
    """Also when the first takes longer than those behind it; another connection does not wait."""
    daemon = SmallDaemon(reactor)
    daemon.gate = Deferred()
    server = daemon.serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client, LocalClient(socket_path(short_tmp)) as other:
        await client.send(b'peers\n{"id":2,"method":"daemon.status"}\nstatus now\n')
        assert (await other.ask("daemon.status"))["result"]["name"] == "desk"
        client.read()
        assert client.received == b""
        daemon.gate.callback(None)
        replies = [await client.line() for _ in range(3)]
        assert [reply["id"] for reply in replies] == [None, 2, None]
        assert [list(reply)[2] for reply in replies] == ["result", "result", "error"]
    await server.stop()


@bounded(20)
async def test_byte_by_byte(reactor: Any, short_tmp: Path) -> None:
    server = SmallDaemon(reactor).serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client:
        for byte in b'\r\n\n{"id":1,"method":"daemon.status"}\r\n':
            await client.send(bytes([byte]))
        assert (await client.line())["id"] == 1
    await server.stop()


@bounded(20)
async def test_a_notification_is_carried_out_and_not_answered(reactor: Any, short_tmp: Path) -> None:
    daemon = SmallDaemon(reactor)
    server = daemon.serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client:
        await client.send(b'{"method":"daemon.reload"}\n{"method":"no.such"}\n{"id":3,"method":"daemon.status"}\n')
        assert (await client.line())["id"] == 3
        assert daemon.orders == ["reload"]
    await server.stop()


@bounded(20)
async def test_garbage_is_answered_and_the_connection_goes_on(reactor: Any, short_tmp: Path) -> None:
    server = SmallDaemon(reactor).serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client:
        await client.send(b"\xff\xfe\n[]\nGET / HTTP/1.1\n" + b"[" * 60000 + b"\n")
        for _ in range(4):
            reply = await client.line()
            assert (reply["id"], reply["error"]["data"]["name"]) == (None, "bad-request")
        assert "result" in await client.ask("daemon.status")
    await server.stop()


@bounded(20)
async def test_an_own_mistake_is_internal_and_logged(
    reactor: Any, short_tmp: Path, logged_errors: list[Any]
) -> None:
    daemon = SmallDaemon(reactor, measured=[Metric("not a name", "gauge", "", 0)])
    server = daemon.serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client:
        error = (await client.ask("metrics.get"))["error"]
        assert (error["code"], error["data"]["name"]) == (101, "internal")
        assert "result" in await client.ask("daemon.status")
    assert len(logged_errors) == 1
    logged_errors.clear()
    await server.stop()


# -- half-closed connections -------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"status\n", b"status", b"peers\nstatus\n", b'{"id":1,"method":"peers.list"}'])
@bounded(20)
async def test_a_half_closed_client_gets_its_answers(reactor: Any, short_tmp: Path, sent: bytes) -> None:
    """`echo status | socat - UNIX:PATH`: the end of the input comes before the answer is even begun."""
    daemon = SmallDaemon(reactor)
    daemon.gate = Deferred()
    server = daemon.serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client:
        await client.send(sent)
        client.half_close()
        reactor.callLater(0.05, daemon.gate.callback, None)
        replies = await client.rest()
        assert len(replies) == len(sent.split())
        assert all("result" in reply for reply in replies)
    await server.stop()


@bounded(20)
async def test_a_half_closed_subscriber_keeps_its_stream(reactor: Any, short_tmp: Path) -> None:
    daemon = SmallDaemon(reactor)
    server = daemon.serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client:
        await client.send(b"watch\n")
        client.half_close()
        assert (await client.line())["result"] == {"ok": True}
        assert (await client.line())["event"] == "snapshot"
        daemon.stream.publish(failed(1))
        assert (await client.line())["event"] == "failed"
        assert not client.ended
    await server.stop()


@bounded(20)
async def test_a_half_closed_subscriber_that_went_away_is_noticed_without_events(
    reactor: Any, short_tmp: Path
) -> None:
    daemon = SmallDaemon(Hurried(reactor))
    server = daemon.serve(socket_path(short_tmp))
    client = LocalClient(socket_path(short_tmp))
    await client.send(b"watch\n")
    client.half_close()
    await client.line()
    client.socket.close()
    await until(lambda: daemon.stream.subscribers == 0)
    await server.stop()


@pytest.mark.parametrize("command", [["socat", "-t5", "-", "UNIX:{}"], ["nc", "-N", "-U", "{}"]], ids=["socat", "nc"])
@bounded(30)
async def test_shell_tools(reactor: Any, short_tmp: Path, command: list[str]) -> None:
    """`echo status | socat -t5 - UNIX:PATH`, and the same with nc."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    server = SmallDaemon(reactor).serve(socket_path(short_tmp))
    words = [word.format(socket_path(short_tmp)) for word in command]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as stdin:
        stdin.write(b"status\n")
    await until(lambda: process.poll() is not None)
    with process.stdout as stdout:
        assert json.loads(stdout.read())["result"]["name"] == "desk"
    await server.stop()


# -- who may -----------------------------------------------------------------------------------------------

FOREIGNER = """
import socket, sys
with socket.socket(socket.AF_UNIX) as door:
    door.settimeout(10)
    door.connect(sys.argv[1])
    door.sendall(b"status\\n")
    received = b""
    while data := door.recv(65536):
        received += data
    sys.stdout.write(received.decode())
"""


@bounded(30)
async def test_J151_another_user_is_turned_away_though_the_modes_were_loosened(reactor: Any, short_tmp: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    server = SmallDaemon(reactor).serve(socket_path(short_tmp))
    for loosened, mode in ((short_tmp, 0o755), (short_tmp / "run", 0o755), (Path(socket_path(short_tmp)), 0o666)):
        loosened.chmod(mode)
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    process = subprocess.Popen(
        [python, "-I", "-S", "-c", FOREIGNER, socket_path(short_tmp)],
        user=65534,
        group=65534,
        extra_groups=[],
        stdout=subprocess.PIPE,
        cwd="/",
    )
    assert process.stdout is not None
    await until(lambda: process.poll() is not None)
    with process.stdout as stdout:
        lines = [json.loads(line) for line in stdout.read().splitlines()]
    assert process.returncode == 0
    assert [line["error"]["data"]["name"] for line in lines] == ["not-authorised"]
    await server.stop()


@bounded(20)
async def test_the_dispatcher_is_told_who_asks(reactor: Any, short_tmp: Path) -> None:
    seen: list[Caller] = []

    class Asked:
        async def answer(self, request: Any, client: Any) -> bytes:
            seen.append(client.caller)
            return b"{}"

    server = ControlServer(reactor, socket_path(short_tmp), Asked(), owner_uid=os.geteuid())
    server.start()
    with LocalClient(socket_path(short_tmp)) as client:
        await client.ask("anything")
    assert [(caller.uid, caller.pid, caller.restricted) for caller in seen] == [(os.geteuid(), os.getpid(), False)]
    await server.stop()


@bounded(20)
async def test_what_changes_something_is_logged_with_the_caller(reactor: Any, short_tmp: Path) -> None:
    from twisted.logger import globalLogPublisher

    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    server = SmallDaemon(reactor).serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client:
        await client.ask("daemon.status")
        await client.ask("daemon.reload")
    globalLogPublisher.removeObserver(events.append)
    logged = [(event["method"], event["uid"], event["pid"]) for event in events if "uid" in event]
    assert logged == [("daemon.reload", os.geteuid(), os.getpid())]
    await server.stop()


@bounded(20)
async def test_J156_descriptors_are_closed_and_end_the_connection(reactor: Any, short_tmp: Path) -> None:
    server = SmallDaemon(reactor).serve(socket_path(short_tmp))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with LocalClient(socket_path(short_tmp)) as client, open(os.devnull, "rb") as file:
            rights = array.array("i", [file.fileno()] * 20)
            client.socket.sendmsg([b"status\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            replies = await client.rest()
            assert [reply["error"]["data"]["name"] for reply in replies] == ["bad-request"]
    await until(lambda: len(os.listdir("/proc/self/fd")) == before)
    await server.stop()


# -- bounds ------------------------------------------------------------------------------------------------


@bounded(30)
async def test_J158_the_seventeenth_client_is_told_that_it_is_one_too_many(reactor: Any, short_tmp: Path) -> None:
    server = SmallDaemon(reactor).serve(socket_path(short_tmp))
    clients = [LocalClient(socket_path(short_tmp)) for _ in range(limits.CONTROL_CLIENTS)]
    for client in clients:
        await client.ask("daemon.status")
    for _ in range(40):
        with LocalClient(socket_path(short_tmp)) as late:
            (reply,) = await late.rest()
            assert (reply["id"], reply["error"]["data"]["name"]) == (None, "busy")
    assert "result" in await clients[0].ask("daemon.status")
    clients.pop().socket.close()

    async def served() -> bool:
        with LocalClient(socket_path(short_tmp)) as again:
            try:
                return "result" in await again.ask("daemon.status")
            except (BrokenPipeError, EOFError):
                return False

    await until(served)
    for client in clients:
        client.socket.close()
    await server.stop()


@bounded(30)
async def test_J154_a_line_without_end_is_refused_at_the_limit(reactor: Any, short_tmp: Path) -> None:
    server = SmallDaemon(reactor).serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client:
        with contextlib.suppress(BrokenPipeError):
            await client.send(b"x" * (64 << 20))
        (reply,) = await client.rest()
        assert "longer than 65,536 bytes" in reply["error"]["message"]
    await server.stop()


@bounded(30)
async def test_J154_half_a_line_then_silence(reactor: Any, short_tmp: Path) -> None:
    """A client that is between lines may be as silent as it likes."""
    server = SmallDaemon(Hurried(reactor)).serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as silent, LocalClient(socket_path(short_tmp)) as client:
        await client.send(b'status\n{"id":1,')
        assert "result" in await client.line()
        (reply,) = await client.rest()
        assert "not finished within 10 s" in reply["error"]["message"]
        assert "result" in await silent.ask("daemon.status")
    await server.stop()


@bounded(60)
async def test_J154_ten_thousand_requests_at_once(reactor: Any, short_tmp: Path) -> None:
    """All are answered, in order, while another client is served in between."""
    server = SmallDaemon(reactor).serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client, LocalClient(socket_path(short_tmp)) as other:
        many = b"".join(b'{"id":%d,"method":"jobs.list"}\n' % number for number in range(10_000))
        sending = Deferred.fromCoroutine(client.send(many))
        numbers: list[int] = []
        while len(numbers) < 10_000:
            numbers.append((await client.line())["id"])
            if len(numbers) % 2000 == 0:
                assert "result" in await other.ask("daemon.status")
        await sending
        assert numbers == list(range(10_000))
    await server.stop()


@bounded(60)
async def test_J157_a_client_that_never_reads_is_dropped(reactor: Any, short_tmp: Path) -> None:
    """It stops being read first, so what it is owed stays bounded."""
    server = SmallDaemon(Hurried(reactor, 20)).serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client, LocalClient(socket_path(short_tmp)) as other:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await client.send(b"methods\n" * 1_000_000)
        client.read()
        assert len(client.received) < 2 << 20
        assert "result" in await other.ask("daemon.status")
    await server.stop()


@bounded(30)
async def test_J157_a_client_that_dies_before_its_answer(reactor: Any, short_tmp: Path) -> None:
    daemon = SmallDaemon(reactor)
    daemon.gate = Deferred()
    server = daemon.serve(socket_path(short_tmp))
    client = LocalClient(socket_path(short_tmp))
    await client.send(b"peers\nstatus\n")
    client.socket.close()
    with LocalClient(socket_path(short_tmp)) as other:
        assert "result" in await other.ask("daemon.status")
        daemon.gate.callback(None)
        assert "result" in await other.ask("daemon.status")
    await server.stop()


# -- events ------------------------------------------------------------------------------------------------


@bounded(20)
async def test_subscribe(reactor: Any, short_tmp: Path) -> None:
    daemon = SmallDaemon(reactor, all_jobs={job_id(1): job(1)})
    server = daemon.serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client:
        assert (await client.ask("events.subscribe"))["result"] == {"ok": True}
        snapshot = await client.line()
        assert snapshot["event"] == "snapshot"
        assert [one["job"] for one in snapshot["jobs"]] == [job_id(1)]
        assert (await client.ask("jobs.cancel", 5, job=job_id(1)))["event"] == "failed"
        reply = await client.line()
        assert (reply["id"], reply["result"]["state"]) == (5, "failed")
        again = await client.ask("events.subscribe")
        assert again["error"]["data"]["name"] == "bad-request"
    await until(lambda: daemon.stream.subscribers == 0)
    await server.stop()


@bounded(20)
async def test_subscribe_to_unknown_events_or_too_often(reactor: Any, short_tmp: Path) -> None:
    daemon = SmallDaemon(reactor)
    server = daemon.serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client:
        for params in ({"types": ["done", "dnoe"]}, {"interval": 0.1}, {"interval": 4000}, {"type": []}):
            reply = await client.ask("events.subscribe", 1, **params)
            assert reply["error"]["data"]["name"] == "bad-parameters"
        assert daemon.stream.subscribers == 0
    await server.stop()


@bounded(60)
async def test_J160_a_slow_reader_loses_progress_and_nothing_else(reactor: Any, short_tmp: Path) -> None:
    daemon = SmallDaemon(reactor)
    server = daemon.serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client:
        await client.send(b"watch\n")
        await client.line()
        await client.line()
        for number in range(8000):  # about 3 MB, of different jobs: none is merged with another
            daemon.stream.publish(Progress(job=job_id(number), stage="transferring"))
            if number % 100 == 0:
                daemon.stream.publish(failed(number))
        daemon.stream.publish(failed(8000))
        ended, progress = 0, 0
        while (event := await client.line())["job"] != job_id(8000):
            ended += event["event"] == "failed"
            progress += event["event"] == "progress"
        assert ended == 80
        assert 100 < progress < 7000
        assert "result" in await client.ask("daemon.status")
    await server.stop()


@bounded(30)
async def test_J157_a_subscriber_that_leaves_too_much_unread_is_dropped(reactor: Any, short_tmp: Path) -> None:
    daemon = SmallDaemon(reactor)
    server = daemon.serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client:
        await client.send(b"watch\n")
        await client.line()
        for number in range(10_000):
            daemon.stream.publish(failed(number))
        await until(lambda: daemon.stream.subscribers == 0)
    await server.stop()


@bounded(30)
async def test_J157_a_subscriber_that_never_reads_is_dropped(reactor: Any, short_tmp: Path) -> None:
    daemon = SmallDaemon(Hurried(reactor))
    server = daemon.serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client:
        await client.send(b"watch\n")
        await client.line()
        for number in range(2_000):  # more than the transport takes, less than is too much
            daemon.stream.publish(failed(number))
        await until(lambda: daemon.stream.subscribers == 0)
    await server.stop()


# -- the socket --------------------------------------------------------------------------------------------


@bounded(20)
async def test_the_socket_is_private_and_goes_with_the_server(reactor: Any, short_tmp: Path) -> None:
    path = Path(socket_path(short_tmp))
    umask = os.umask(0)
    try:
        server = SmallDaemon(reactor).serve(str(path))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await server.stop()
    assert list(path.parent.iterdir()) == []


@bounded(20)
async def test_a_socket_that_is_not_ours_any_more_is_left_alone_on_stop(reactor: Any, short_tmp: Path) -> None:
    path = Path(socket_path(short_tmp))
    server = SmallDaemon(reactor).serve(str(path))
    path.unlink()
    path.write_text("somebody's")
    await server.stop()
    assert path.read_text() == "somebody's"


@bounded(20)
async def test_a_socket_that_cannot_be_removed_stops_no_stop(reactor: Any, short_tmp: Path) -> None:
    """The disk has become read-only: the server ends all the same, and the next one takes the dead socket away."""
    path = Path(socket_path(short_tmp))
    server = SmallDaemon(reactor).serve(str(path))
    path.parent.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        await server.stop()
    finally:
        os.seteuid(user)
        path.parent.chmod(0o700)
    assert path.is_socket()
    await SmallDaemon(reactor).serve(str(path)).stop()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
@bounded(20)
async def test_J153_a_folder_that_others_can_write_to(reactor: Any, short_tmp: Path, mode: int) -> None:
    folder = short_tmp / "run"
    folder.mkdir()
    folder.chmod(mode)
    error = start_refused(reactor, socket_path(short_tmp))
    assert error.name == "control-unusable"
    assert "others can write" in error.message
    assert list(folder.iterdir()) == []


@bounded(20)
async def test_a_folder_of_another_user(reactor: Any, short_tmp: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a folder away")
    (short_tmp / "run").mkdir(mode=0o700)
    os.chown(short_tmp / "run", 65534, 65534)
    assert "another user" in start_refused(reactor, socket_path(short_tmp)).message


@pytest.mark.parametrize("what", ["file", "symlink", "dangling", "folder", "fifo"])
@bounded(20)
async def test_J152_what_is_not_a_socket_is_never_removed(reactor: Any, short_tmp: Path, what: str) -> None:
    path = Path(socket_path(short_tmp))
    path.parent.mkdir(mode=0o700)
    if what == "file":
        path.write_text("precious")
    elif what == "symlink":
        (short_tmp / "target").write_text("precious")
        path.symlink_to(short_tmp / "target")
    elif what == "dangling":
        path.symlink_to(short_tmp / "nowhere")
    elif what == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    before = path.lstat()
    error = start_refused(reactor, str(path))
    assert error.name == "control-unusable"
    assert "not a socket" in error.message
    assert path.lstat().st_ino == before.st_ino
    assert not (short_tmp / "nowhere").exists()


@bounded(20)
async def test_J152_a_symlink_to_a_dead_socket_is_left_alone(reactor: Any, short_tmp: Path) -> None:
    path = Path(socket_path(short_tmp))
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(short_tmp / "dead"))
    path.symlink_to(short_tmp / "dead")
    assert start_refused(reactor, str(path)).name == "control-unusable"
    assert (short_tmp / "dead").exists()


@bounded(20)
async def test_J152_the_socket_of_another_user(reactor: Any, short_tmp: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a socket away")
    path = Path(socket_path(short_tmp))
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    os.chown(path, 65534, 65534)
    assert "another user" in start_refused(reactor, str(path)).message
    assert path.exists()


@pytest.mark.case("G121")
@bounded(20)
async def test_the_socket_of_a_killed_daemon_is_replaced(reactor: Any, short_tmp: Path) -> None:
    path = Path(socket_path(short_tmp))
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    server = SmallDaemon(reactor).serve(str(path))
    with LocalClient(path) as client:
        assert "result" in await client.ask("daemon.status")
    await server.stop()


@bounded(20)
async def test_a_daemon_that_listens_is_not_disturbed(reactor: Any, short_tmp: Path) -> None:
    path = socket_path(short_tmp)
    server = SmallDaemon(reactor).serve(path)
    error = start_refused(reactor, path)
    assert error.name == "already-running"
    assert path in error.message
    with LocalClient(path) as client:
        assert "result" in await client.ask("daemon.status")
    await server.stop()


@bounded(20)
async def test_a_listening_socket_of_another_kind_is_not_disturbed(reactor: Any, short_tmp: Path) -> None:
    path = Path(socket_path(short_tmp))
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind(str(path))
        other.listen()
        assert start_refused(reactor, str(path)).name == "already-running"
        assert path.exists()


@pytest.mark.parametrize("path", ["missing/run/control.sock", "file/control.sock", "run/", "run/" + "x" * 200])
@bounded(20)
async def test_a_path_that_cannot_be(reactor: Any, short_tmp: Path, path: str) -> None:
    (short_tmp / "file").write_text("")
    error = start_refused(reactor, f"{short_tmp}/{path}")
    assert error.name == "control-unusable"
    assert str(short_tmp) in error.message


@pytest.mark.parametrize("length", [100, 107, 108, 300])
@bounded(20)
async def test_J159_long_paths(reactor: Any, short_tmp: Path, length: int) -> None:
    folder = short_tmp
    while length - len(str(folder)) - len("/control.sock") > 60:
        folder = folder / ("d" * 40)
        folder.mkdir()
    folder = folder / ("e" * (length - len(str(folder)) - len("//control.sock")))
    path = folder / "control.sock"
    assert len(str(path)) == length
    server = SmallDaemon(reactor).serve(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert start_refused(reactor, str(path)).name == "already-running"
    with LocalClient(path) as client:
        assert "result" in await client.ask("daemon.status")
    await server.stop()
    assert not path.exists()


@bounded(20)
async def test_no_descriptor_is_left_by_a_start_that_was_refused(reactor: Any, short_tmp: Path) -> None:
    (short_tmp / "run").mkdir(mode=0o700)
    Path(socket_path(short_tmp)).write_text("")
    before = sorted(os.listdir("/proc/self/fd"))
    start_refused(reactor, socket_path(short_tmp))
    assert sorted(os.listdir("/proc/self/fd")) == before


# -- stopping ----------------------------------------------------------------------------------------------


@bounded(20)
async def test_stop_lets_the_last_answer_out(reactor: Any, short_tmp: Path) -> None:
    """The daemon begins to stop while the answer to `daemon.shutdown` is on its way."""
    daemon = SmallDaemon(reactor)
    server = daemon.serve(socket_path(short_tmp))
    stopped: list[Deferred[None]] = []

    def stop() -> None:
        stopped.append(Deferred.fromCoroutine(server.stop()))

    daemon.on_shutdown = lambda: reactor.callLater(0, stop)
    with LocalClient(socket_path(short_tmp)) as client, LocalClient(socket_path(short_tmp)) as watcher:
        await watcher.send(b"watch\n")
        await watcher.line()
        assert (await client.ask("daemon.shutdown"))["result"] == {"ok": True}
        assert await client.rest() == []
        assert [event["event"] for event in await watcher.rest()] == ["snapshot"]
    await stopped[0]
    assert daemon.stream.subscribers == 0


@bounded(20)
async def test_stop_does_not_wait_for_what_does_not_end(reactor: Any, short_tmp: Path) -> None:
    daemon = SmallDaemon(Hurried(reactor, 10))
    daemon.gate = Deferred()
    server = daemon.serve(socket_path(short_tmp))
    with LocalClient(socket_path(short_tmp)) as client, LocalClient(socket_path(short_tmp)) as idle:
        await idle.ask("daemon.status")
        await client.send(b"peers\n")
        await until(lambda: daemon.held == 1)
        await server.stop()
        assert await client.rest() == []
        assert await idle.rest() == []


@bounded(20)
async def test_a_server_that_never_started_stops(reactor: Any, short_tmp: Path) -> None:
    server = ControlServer(reactor, socket_path(short_tmp), Commands(SmallDaemon(reactor)), owner_uid=os.geteuid())
    server.bind()
    await server.stop()
    await server.stop()
    assert list((short_tmp / "run").iterdir()) == []
