"""The packet control socket over real SOCK_SEQPACKET connections, and what members of a group may do."""

from __future__ import annotations

import array
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.bounded import bounded, until
from support.control_daemon import SmallDaemon, job, job_id
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from ftx import limits
from ftx.daemon.commands import METHODS
from ftx.daemon.view import Metric
from ftx.errors import FtxError
from ftx.net.control import ControlServer
from ftx.net.local import Caller, PrivateListener, caller_of
from ftx.wire.events import Failed, Progress, error_info


class PacketClient:
    """Ten lines of any language: a socket that keeps boundaries."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(str(path))
        self.socket.setblocking(False)

    def __enter__(self) -> PacketClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    async def packet(self) -> bytes:
        """The next packet, whole; empty at the end."""
        found: list[bytes] = []

        def come() -> bool:
            try:
                found.append(self.socket.recv(1 << 20))
            except BlockingIOError:
                return False
            return True

        await until(come, interval=0.001)
        return found[0]

    async def answer(self) -> Any:
        return json.loads(await self.packet())

    async def ask(self, method: str, **params: Any) -> Any:
        self.socket.send(json.dumps({"id": 1, "method": method, "params": params}).encode())
        return await self.answer()


def serve(reactor: Any, folder: Path, daemon: SmallDaemon | None = None, group: int | None = None) -> ControlServer:
    daemon = daemon or SmallDaemon(reactor)
    return daemon.serve(str(folder / "run" / "control.sock"), str(folder / "run" / "control.seq"), group)


def seq(folder: Path) -> Path:
    return folder / "run" / "control.seq"


@bounded(20)
async def test_a_packet_is_a_request_and_a_packet_its_reply(reactor: Any, short_tmp: Path) -> None:
    server = serve(reactor, short_tmp)
    assert stat.S_IMODE(seq(short_tmp).stat().st_mode) == 0o600
    with PacketClient(seq(short_tmp)) as client:
        for number in range(50):  # at once: nothing is joined, nothing is cut
            client.socket.send(json.dumps({"id": number, "method": "daemon.status"}).encode())
        assert [(await client.answer())["id"] for _ in range(50)] == list(range(50))
        client.socket.send(b"status")
        assert (await client.answer())["result"]["name"] == "desk"
        client.socket.send(b'{"method":"daemon.reload"}')  # a notification
        client.socket.send(b"\xff[[")
        assert (await client.answer())["error"]["data"]["name"] == "bad-request"
    await server.stop()
    assert not seq(short_tmp).exists()


@bounded(20)
async def test_replies_as_large_as_a_line_may_be(reactor: Any, short_tmp: Path) -> None:
    daemon = SmallDaemon(reactor, {job_id(number): job(number, path="x" * 4000) for number in range(100)})
    server = serve(reactor, short_tmp, daemon)
    with PacketClient(seq(short_tmp)) as client:
        found, cursor = [], None
        while True:
            result = (await client.ask("jobs.list", cursor=cursor))["result"]
            found += result["jobs"]
            cursor = result["cursor"]
            if cursor is None:
                break
        assert len(found) == 100
    await server.stop()


@bounded(20)
async def test_a_request_as_long_as_allowed_and_a_byte_more(reactor: Any, short_tmp: Path) -> None:
    """What the kernel had to cut is an error, which ends the connection; it is never half a request."""
    server = serve(reactor, short_tmp)
    request = b'{"id":1,"method":"daemon.status"}'
    with PacketClient(seq(short_tmp)) as client:
        client.socket.send(request.ljust(limits.CONTROL_LINE))
        assert (await client.answer())["id"] == 1
        client.socket.send(request.ljust(limits.CONTROL_LINE + 1))
        error = (await client.answer())["error"]
        assert (error["data"]["name"], "longer than 65,536" in error["message"]) == ("bad-request", True)
        assert await client.packet() == b""
    await server.stop()


@bounded(20)
async def test_J156_descriptors_are_closed_and_end_the_connection(reactor: Any, short_tmp: Path) -> None:
    server = serve(reactor, short_tmp)
    with PacketClient(seq(short_tmp)) as client:
        await client.ask("daemon.status")
        before = len(os.listdir("/proc/self/fd"))
        passed = array.array("i", [client.socket.fileno()])
        client.socket.sendmsg([b"status"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
        assert (await client.answer())["error"]["message"] == "file descriptors are not accepted"
        assert await client.packet() == b""
        assert len(os.listdir("/proc/self/fd")) <= before
    await server.stop()


@bounded(20)
async def test_a_half_closed_client_gets_its_answers(reactor: Any, short_tmp: Path) -> None:
    """An empty packet says the same as the end."""
    for last in ("shutdown", "empty"):
        daemon = SmallDaemon(reactor)
        daemon.gate = Deferred()
        server = serve(reactor, short_tmp, daemon)
        with PacketClient(seq(short_tmp)) as client:
            client.socket.send(b"peers")
            client.socket.send(b"status")
            if last == "empty":
                client.socket.send(b"")
            else:
                client.socket.shutdown(socket.SHUT_WR)
            await until(lambda daemon=daemon: daemon.held == 1)  # type: ignore[misc]
            daemon.gate.callback(None)
            assert "peers" in (await client.answer())["result"]
            assert (await client.answer())["result"]["name"] == "desk"
            assert await client.packet() == b""
        await server.stop()


@bounded(30)
async def test_J160_a_slow_reader_loses_progress_and_no_states(reactor: Any, short_tmp: Path) -> None:
    daemon = SmallDaemon(reactor, {job_id(1): job(1)})
    server = serve(reactor, short_tmp, daemon)
    error = error_info(FtxError("cancelled").as_value())
    assert error is not None
    with PacketClient(seq(short_tmp)) as client:
        assert (await client.ask("events.subscribe", interval=0.25))["result"]["ok"]
        assert (await client.answer())["event"] == "snapshot"
        for number in range(3000):
            daemon.stream.publish(Progress(job=job_id(number), stage="x" * 300))
        for number in range(100):
            daemon.stream.publish(Failed(job=job_id(number), error=error, exit=6, resumable=True))
        heard = []
        while heard.count("failed") < 100:
            heard.append((await client.answer())["event"])
        assert heard.count("progress") < 3000
        client.socket.send(b"status")
        assert "result" in await client.answer()
    await server.stop()


@bounded(20)
async def test_J158_both_sockets_share_the_places(reactor: Any, short_tmp: Path) -> None:
    server = serve(reactor, short_tmp)
    clients = [PacketClient(seq(short_tmp)) for _ in range(limits.CONTROL_CLIENTS)]
    for client in clients:
        assert "result" in await client.ask("daemon.status")
    with PacketClient(seq(short_tmp)) as late:
        assert (await late.answer())["error"]["data"]["name"] == "busy"
        assert await late.packet() == b""
    for client in clients:
        client.socket.close()
    await server.stop()


@bounded(20)
async def test_an_own_mistake_and_a_client_that_dies(reactor: Any, short_tmp: Path, logged_errors: list[Any]) -> None:
    daemon = SmallDaemon(reactor, measured=[Metric("not a name", "gauge", "", 0)])
    daemon.gate = Deferred()
    server = serve(reactor, short_tmp, daemon)
    client = PacketClient(seq(short_tmp))
    client.socket.send(b"peers")
    await until(lambda: daemon.held == 1)
    client.socket.close()
    daemon.gate.callback(None)
    with PacketClient(seq(short_tmp)) as other:
        assert (await other.ask("metrics.get"))["error"]["code"] == 101
    logged_errors.clear()
    await server.stop()


def test_the_kernel_says_who_and_in_which_groups() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        caller = caller_of(ours)
    assert (caller.uid, caller.pid) == (os.geteuid(), os.getpid())
    assert caller.groups == {os.getegid(), *os.getgroups()}


def test_a_member_of_the_group_may_look_and_cancel() -> None:
    """And nothing else that changes something."""
    member = Caller(1234, 1, frozenset({5}), restricted=True)
    denied = {name for name, method in METHODS.items() if not method.open_to(member)}
    assert denied == {name for name, method in METHODS.items() if method.mutating} - {"jobs.cancel"}
    pairing = Caller(1234, 1, frozenset({5}), restricted=True, pairs=True)
    more = {"peers.add", "pairing.open", "pairing.close"}
    assert {name for name, method in METHODS.items() if not method.open_to(pairing)} == denied - more
    assert all(method.open_to(Caller(0, 1)) for method in METHODS.values())


#: Connects argv[2] times as the user argv[3], of the group 4242, and prints the first line of each answer, or nothing.
_MEMBER = """
import os, socket, sys
path, count, uid, ask = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.setgroups([4242] if ask else []); os.setgid(uid); os.setuid(uid)
held = []
for _ in range(count):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(path)
    held.append(s)
    try:
        s.send(b"status")
        print(s.recv(70000).decode(), flush=True)
    except OSError:
        print("", flush=True)
sys.stdin.read()
"""


async def _others(folder: Path, uid: int, count: int, member: bool = True) -> tuple[Any, list[str]]:
    """A process of another user with so many connections, and what each of them was told."""
    for above in (folder, *folder.parents[:-1]):
        above.chmod(stat.S_IMODE(above.stat().st_mode) | 0o5)
    words = [sys.executable, "-c", _MEMBER, str(seq(folder)), str(count), str(uid), "member" if member else ""]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, [(await deferToThread(process.stdout.readline)).strip() for _ in range(count)]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a member of a group")
@bounded(30)
async def test_members_leave_places_to_the_owner(reactor: Any, short_tmp: Path) -> None:
    """Whoever may only look cannot take every place of those who may do something, nor one member those of others."""
    server = serve(reactor, short_tmp, group=4242)
    held, sent = [], 0
    for uid in (65534, 65533):
        process, lines = await _others(short_tmp, uid, limits.CONTROL_ONE_MEMBER + 1)
        held.append(process)
        said = [json.loads(line) for line in lines]
        assert ["error" in line for line in said] == [False] * limits.CONTROL_ONE_MEMBER + [True]
        assert said[-1]["error"]["data"]["name"] == "busy"
        sent += limits.CONTROL_ONE_MEMBER
    assert sent == limits.CONTROL_MEMBERS
    process, lines = await _others(short_tmp, 65532, 1)
    held.append(process)
    assert "members of the group" in json.loads(lines[0])["error"]["message"]
    with PacketClient(seq(short_tmp)) as owner:
        assert "result" in await owner.ask("daemon.status")
    for process in held:
        await deferToThread(process.communicate, "")
    await server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
@bounded(30)
async def test_refused_connections_take_nobodys_place(reactor: Any, short_tmp: Path) -> None:
    """Connections that are refused and kept open on purpose: a few hear why, the owner is served all along."""
    server = serve(reactor, short_tmp, group=4242)
    (short_tmp / "run").chmod(0o755)
    seq(short_tmp).chmod(0o666)
    held, heard = [], []
    for uid in range(65500, 65500 + limits.CONTROL_REFUSED):
        process, lines = await _others(short_tmp, uid, limits.CONTROL_REFUSED_ONE + 2, member=False)
        held.append(process)
        heard.append(sum(bool(line) for line in lines))
    assert heard[0] == max(heard) == limits.CONTROL_REFUSED_ONE
    assert server.clients <= limits.CONTROL_REFUSED
    with PacketClient(seq(short_tmp)) as owner:
        assert "result" in await owner.ask("daemon.status")
    await until(lambda: server.clients == 0)  # though nobody has closed any of them
    for process in held:
        await deferToThread(process.communicate, "")
    await server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a socket to a group")
@bounded(20)
async def test_the_sockets_of_a_group(reactor: Any, short_tmp: Path) -> None:
    server = serve(reactor, short_tmp, group=4242)
    for path in (seq(short_tmp), seq(short_tmp).with_suffix(".sock")):
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, 4242)
    folder = (short_tmp / "run").stat()
    assert (stat.S_IMODE(folder.st_mode), folder.st_gid) == (0o750, 4242)
    await server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a member of a group")
@bounded(30)
async def test_J151_others_and_members(reactor: Any, short_tmp: Path) -> None:
    """A stranger is turned away though the modes were loosened by hand; a member is answered as far as it goes."""
    daemon = SmallDaemon(reactor, {job_id(1): job(1)})
    server = serve(reactor, short_tmp, daemon, group=4242)
    for folder in (short_tmp, *short_tmp.parents[:-1]):
        if stat.S_IMODE(folder.stat().st_mode) & 0o5 != 0o5:
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o5)
    (short_tmp / "run").chmod(0o755)
    seq(short_tmp).chmod(0o666)
    script = (
        "import os,socket,sys\n"
        "os.setgroups([int(g) for g in sys.argv[2].split(',') if g]); os.setgid(65534); os.setuid(65534)\n"
        "s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET); s.connect(sys.argv[1])\n"
        "for line in sys.argv[3:]:\n"
        "    s.send(line.encode()); print(s.recv(70000).decode())\n"
    )
    cancel = json.dumps({"id": 2, "method": "jobs.cancel", "params": {"job": job_id(1)}})

    def run(groups: str, *lines: str) -> list[Any]:
        command = [sys.executable, "-c", script, str(seq(short_tmp)), groups, *lines]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        return [json.loads(line) for line in done.stdout.splitlines()]

    [refused, *_] = await deferToThread(run, "", "status")
    assert refused["error"]["data"]["name"] == "not-authorised"
    status, reload, cancelled = await deferToThread(run, "4242", "status", "daemon.reload", cancel)
    assert status["result"]["name"] == "desk"
    assert reload["error"]["data"]["name"] == "not-authorised"
    assert cancelled["result"]["state"] == "failed"
    assert daemon.orders == []
    await server.stop()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_dead_socket_is_cleared_and_a_live_one_is_not(short_tmp: Path, kind: int) -> None:
    path = str(short_tmp / "run" / "door")
    first = PrivateListener.make(path, os.geteuid(), kind)
    with pytest.raises(FtxError) as caught:
        PrivateListener.make(path, os.geteuid(), kind)
    assert caught.value.name == "already-running"
    first.listening.close()  # as a kill does
    second = PrivateListener.make(path, os.geteuid(), kind)
    second.close()
    first.close()
    assert not Path(path).exists()
