"""A temporary home with a daemon in it: started, killed and asked by `demo`, on the loopback interface alone.

Everything is below one folder that is removed at the end. The daemon and the clients are processes of their own, as
they are in real use; what they print on stderr is kept in the file `log` there.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater

from ftx import limits
from ftx.client import control
from ftx.client.api import Settings
from ftx.client.child import Child, Ended
from ftx.disk.places import places
from ftx.errors import FtxError
from ftx.net.worker import Worker
from ftx.text import show, size
from ftx.wire.events import Done, Failed, Progress

__all__ = ["ADDRESS", "INTERFACE", "NAME", "Client", "Stage"]

INTERFACE: Final = "lo"
ADDRESS: Final = "127.0.0.1"
#: What the daemon calls itself.
NAME: Final = "demo"


class Client:
    """One run of `ftx-client` with `--json`: the last of what its events said, and the process itself."""

    process: Child

    def __init__(self, on_progress: Callable[[Progress], object]) -> None:
        self._on_progress = on_progress
        self.progress = Progress(stage="")
        self.done: Done | None = None
        self.failed: Failed | None = None
        #: A line that is no event, cleaned; empty when there was none.
        self.strange = ""

    def take(self, line: bytes) -> None:
        """Take one line of its stdout."""
        try:
            event = msgspec.json.decode(line, type=dict[str, Any]).get("event")
            match event:
                case "progress":
                    self.progress = msgspec.json.decode(line, type=Progress)
                    self._on_progress(self.progress)
                case "done":
                    self.done = msgspec.json.decode(line, type=Done)
                case "failed":
                    self.failed = msgspec.json.decode(line, type=Failed)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.strange = show(line)


class Stage:
    """The temporary home `base`, and the processes that live in it. `open()` makes one, `close()` ends it."""

    def __init__(self, reactor: Any, worker: Worker, base: str, port: int, log: int) -> None:
        self._reactor = reactor
        self._worker = worker
        self._log = log
        self._children: list[Child] = []
        home = os.path.join(base, "home")
        self.base = base
        self.port = port
        self.places = places(home, {}, os.geteuid(), base)
        self.daemon: Child | None = None
        kept = {key: value for key, value in os.environ.items() if not key.startswith("FTX_")}
        self._environ: Mapping[str, str] = {
            **kept,
            "FTX_HOME": home,
            "FTX_DISCOVERY_INTERFACE": INTERFACE,
            "FTX_DISCOVERY_PORT": str(port),
            "FTX_MDNS": "no",
        }

    @classmethod
    async def open(cls, reactor: Any, worker: Worker) -> Stage:
        """Make the folder, and choose a UDP port for discovery. FtxError when there is no room for a demo."""
        base, port, log = await worker.run(_prepare)
        return cls(reactor, worker, base, port, log)

    @property
    def settings(self) -> Settings:
        """The settings of a client in this home."""
        return Settings(self.places, self.port, (INTERFACE,), name=NAME, mdns=False)

    async def start_daemon(self) -> dict[str, Any]:
        """Start the daemon and wait until it answers on its control socket; returns its status.

        FtxError when it ends instead, or takes longer than `limits.DEMO_DAEMON`.
        """
        listen = f"tcp:0:interface={ADDRESS}"
        self.daemon = daemon = self._child(["-P", "-m", "ftx.daemon.main", "--listen", listen, "--name", NAME], None)
        deadline = self._reactor.seconds() + limits.DEMO_DAEMON
        while daemon.ended is None and self._reactor.seconds() < deadline:
            with suppress(FtxError):
                status = await self.ask("daemon.status")
                if status.get("pid") == daemon.pid:
                    return status
            await deferLater(self._reactor, limits.DEMO_LOOK)
        if daemon.ended is None:
            raise FtxError("timeout", f"the daemon was not ready after {limits.DEMO_DAEMON:g} s")
        raise FtxError("internal", f"the daemon did not start: {await self._last_words()}", "see the file log there")

    def send(self, arguments: Sequence[str], on_progress: Callable[[Progress], object]) -> Client:
        """Start `ftx-client --json send` with `arguments`, in the folder `base`."""
        client = Client(on_progress)
        client.process = self._child(["-P", "-m", "ftx", "--json", "send", *arguments], client.take)
        return client

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """What the daemon's control socket answers; FtxError as `ftx.client.control.call` raises it."""
        answer = await control.call(self._reactor, self.places.control, method, params)
        if not isinstance(answer, dict):
            raise FtxError("protocol-error", f"the daemon answered {method} with something else than an object")
        return answer

    async def ended(self, child: Child, what: str) -> Ended:
        """How `child` ended; FtxError `timeout`, which names it as `what`, when that takes too long."""
        try:
            return await Deferred.fromCoroutine(child.wait()).addTimeout(limits.DEMO_PROCESS, self._reactor)
        except TimeoutError:
            raise FtxError("timeout", f"{what} did not end within {limits.DEMO_PROCESS:g} s") from None

    async def close(self, *, keep: bool) -> None:
        """Kill what still runs, and remove everything unless `keep` says otherwise."""
        for child in self._children:
            child.signal(signal.SIGKILL)
        for child in self._children:
            await child.wait()
        await self._worker.run(os.close, self._log)
        if not keep:
            await self._worker.run(shutil.rmtree, self.base)

    def _child(self, arguments: Sequence[str], on_line: Callable[[bytes], object] | None) -> Child:
        try:
            child = Child(
                self._reactor,
                self._worker,
                [sys.executable, *arguments],
                environ=self._environ,
                cwd=self.base,
                log=self._log,
                on_line=on_line,
            )
        except OSError as error:
            reason = (error.strerror or "error").lower()
            raise FtxError("internal", f"no process can be started: {reason}") from error
        self._children.append(child)
        return child

    async def _last_words(self) -> str:
        """The last line of the log, cleaned."""

        def read() -> bytes:
            size = os.fstat(self._log).st_size
            return os.pread(self._log, limits.PATH, max(0, size - limits.PATH))

        lines = (await self._worker.run(read)).split(b"\n")
        return next((show(line) for line in reversed(lines) if line), "it said nothing")


def _prepare() -> tuple[str, int, int]:
    """A folder, a UDP port that is free, and the log, open."""
    parent = tempfile.gettempdir()
    try:
        disk = os.statvfs(parent)
        floor = min(int(disk.f_blocks * disk.f_frsize * limits.SPACE_FLOOR_SHARE), limits.SPACE_FLOOR_BYTES)
        wanted = 2 * limits.DEMO_BYTES + limits.DEMO_SPARE + floor
        if disk.f_bavail * disk.f_frsize < wanted:
            raise FtxError(
                "local-no-space",
                f"the demo wants {size(wanted)} of free space in {show(parent)}",
                "name a folder with more room in the variable TMPDIR",
            )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.bind((ADDRESS, 0))
            port: int = one.getsockname()[1]
        base = tempfile.mkdtemp(prefix="ftx-demo-")
        log = os.open(os.path.join(base, "log"), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise FtxError("local-io", f"the demo cannot make a folder in {show(parent)}: {reason}") from error
    return base, port, log
