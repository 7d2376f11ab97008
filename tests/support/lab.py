"""A laboratory of real processes: daemons and clients over loopback.

`Lab` starts processes, each with a home, a port and log files of its own below one folder, and ends every one of them
by its pid. Nothing here sleeps: what has to happen first is waited for with `until()`, within a bound. Processes write
to files, so nobody has to read a pipe for them to go on, and a test that fails shows what they said.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import attrs
from support.ports import free_port
from support.processor import held_up

from ftx.core.identity import format_id, parse_id
from ftx.core.peers import Peer
from ftx.disk.keys import Identity, load_or_create
from ftx.disk.peers import update
from ftx.disk.places import Places, places, prepare_home
from ftx.wire.events import iso_time

__all__ = ["NOBODY", "RUNNERS", "Client", "Daemon", "Lab", "inherited", "rests", "until"]

#: The user without rights whom tests run processes as, where they may.
NOBODY = 65534

_AS_USER = [str(Path(__file__).with_name("as_user.py"))]
_TWISTD = ["-c", "from twisted.scripts.twistd import run; run()"]
#: The ways to run a daemon: what follows the interpreter.
RUNNERS: Mapping[str, Sequence[str]] = {
    "ftx-server": ["-m", "ftx.daemon.main"],
    "twistd -n": [*_TWISTD, "-n", "--pidfile=", "ftx"],
    "twistd": [*_TWISTD, "--pidfile=PID", "--logfile=LOG", "ftx"],
    "twist": ["-u", "-m", "twisted", "--log-format=text", "ftx"],
}


def until(
    condition: Callable[[], Any], what: str, seconds: float = 20.0, interval: float = 0.01, said: Running | None = None
) -> Any:
    """What `condition()` returns once that is true; AssertionError with `what` when it is not within `seconds`.

    `said`: the process whose words explain why not. Seconds in which it or we wait for a processor do not count, up to
    a minute of them.
    """
    pause = threading.Event()
    both = [os.getpid(), *([] if said is None else [said.pid])]
    begun, waited = monotonic(), held_up(*both)
    while True:
        answer = condition()
        if answer:
            return answer
        passed = monotonic() - begun
        if passed > seconds and passed > seconds + min(held_up(*both) - waited, 60.0):
            words = "" if said is None else f"\n{said.text()}"
            raise AssertionError(f"not within {seconds:g} s: {what}{words}")
        pause.wait(interval)


def rests(figure: Callable[[], Any], what: str) -> Any:
    """What `figure()` gives, once it has given the same ten times in a row; AssertionError as `until()`."""
    seen: list[Any] = []

    def same() -> bool:
        seen.append(figure())
        return len(seen) > 10 and all(one == seen[-1] for one in seen[-10:])

    until(same, what, interval=0.05)
    return seen[-1]


@attrs.define(eq=False)
class Running:
    """A process of the lab. `out` and `err` are the files it writes to, one file for daemons."""

    popen: subprocess.Popen[bytes]
    out: Path
    err: Path
    #: The process that counts: another one than was started where that has gone to the background.
    pid: int = 0

    def __attrs_post_init__(self) -> None:
        self.pid = self.pid or self.popen.pid

    def text(self) -> str:
        """What it has said on stderr so far."""
        return self.err.read_text("utf-8", "replace")

    def io(self) -> dict[str, int]:
        """`/proc/PID/io`: bytes it has read and written by system calls that go to files (proc(5))."""
        lines = Path(f"/proc/{self.pid}/io").read_text("ascii").splitlines()
        return {key: int(value) for key, _, value in (line.partition(":") for line in lines)}

    def memory(self) -> int:
        """The most bytes of memory it ever had (VmHWM of proc(5))."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text("ascii"))
        if found is None:
            raise AssertionError("the process has no memory")
        return int(found[1]) * 1024

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    @property
    def alive(self) -> bool:
        """Whether it still runs (a zombie does not)."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state not in "ZX"

    def wait(self, seconds: float = 30.0) -> int:
        """Its exit code, negative for a signal, once it has ended."""
        until(lambda: not self.alive, f"the end of {self.popen.args}", seconds, said=self)
        return self.popen.wait(5)

    def kill(self) -> None:
        """End it with SIGKILL, if it still runs, and see that it is gone."""
        if self.alive:
            self.signal(signal.SIGKILL)
            until(lambda: not self.alive, "the end of a killed process", 10)
        self.popen.wait(10)


@attrs.define(eq=False)
class Daemon(Running):
    """A daemon that is ready."""

    home: Path = attrs.field(kw_only=True)
    port: int = attrs.field(kw_only=True)
    inbox: Path = attrs.field(kw_only=True)
    #: What started it, for `Lab.again`.
    how: dict[str, Any] = attrs.field(kw_only=True, factory=dict)

    @property
    def url(self) -> str:
        """Itself as a target."""
        return f"ftx://127.0.0.1:{self.port}"

    @property
    def control(self) -> Path:
        """Its control socket."""
        return self.home / "run" / "control.sock"

    def ask(self, line: str) -> dict[str, Any]:
        """The answer to one line on the control socket, by a client that half-closes as `socat` does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(10)
            client.connect(str(self.control))
            client.sendall(line.encode() + b"\n")
            client.shutdown(socket.SHUT_WR)
            answer: dict[str, Any] = json.loads(b"".join(iter(lambda: client.recv(65536), b"")))
        return answer

    def call(self, method: str, **params: Any) -> Any:
        """The result of a control method."""
        answer = self.ask(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["result"]

    def idle(self) -> None:
        """Wait until no job runs."""
        until(lambda: self.call("daemon.status")["jobs"]["active"] == 0, "no job runs", said=self)

    def partials(self) -> list[str]:
        """What lies among the partials."""
        return sorted(os.listdir(self.inbox / ".ftx" / "partial"))

    def clean_log(self) -> None:
        """Fail when the log has a traceback or anything worse than information."""
        text = self.text()
        bad = [word for word in ("Traceback", "Unhandled", "#error", "#critical", "Exception") if word in text]
        if bad:
            raise AssertionError(f"{bad} in the daemon's log:\n{text}")


@attrs.define(eq=False)
class Client(Running):
    """A client that runs or has run, with --json."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every whole line that it has printed so far."""
        lines = self.out.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines]

    def of(self, name: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [event for event in self.events if event.get("event") == name]

    def one(self, name: str) -> dict[str, Any]:
        """The only event of one kind."""
        found = self.of(name)
        if len(found) != 1:
            raise AssertionError(f"{len(found)} events {name!r}:\n{self.events}\n{self.text()}")
        return found[0]

    def reaches(self, name: str, **fields: Any) -> dict[str, Any]:
        """Wait for an event of this kind with at least these numbers in its fields."""

        def found() -> dict[str, Any] | None:
            for event in self.of(name):
                if all((event[key] or 0) >= least for key, least in fields.items()):
                    return event
            return None

        def found_or_over() -> dict[str, Any] | bool | None:
            return found() or (not self.alive and (found() or True))

        event = until(found_or_over, f"{name} {fields}", said=self)
        if not isinstance(event, dict):
            raise AssertionError(f"no {name} {fields}:\n{self.text()}\n{self.events[-3:]}")
        return event

    def ends(self, code: int | None = 0, seconds: float = 60.0) -> Client:
        """Wait for the end and hold it to an exit code, unless that is None."""
        ended = self.wait(seconds)
        if code is not None and ended != code:
            raise AssertionError(f"exit code {ended}, not {code}:\n{self.text()}\n{self.events[-3:]}")
        return self

    def cost(self) -> dict[str, int]:
        """`io()` at its very end: of the zombie, before anybody takes its exit code."""
        until(lambda: not self.alive, "the end of the client", 60, said=self)
        return self.io()

    def failure(self) -> dict[str, Any]:
        """The error of the `failed` event."""
        error: dict[str, Any] = self.one("failed")["error"]
        return error


def inherited() -> dict[str, str]:
    """The environment of the tests without what ftx reads: processes get no such variable unless it is given them."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("FTX_", "XDG_"))}


class Lab:
    """Processes and homes below `root`; use as a context manager, which ends them all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.chmod(0o755)  # another user's processes pass through
        #: Nobody else's discovery answers here.
        self.discovery_port = free_port(socket.SOCK_DGRAM)
        self._started: list[Running] = []
        self._count = 0

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        for running in reversed(self._started):
            running.kill()

    # -- processes -----------------------------------------------------------------------------------------

    def daemon(
        self,
        home: str = "home",
        *options: str,
        runner: str | Sequence[str] = "ftx-server",
        port: int = 0,
        inbox: Path | None = None,
        user: int | None = None,
        environ: Mapping[str, str] | None = None,
        discovery: bool = False,
        address: str = "127.0.0.1",
        host: int | None = None,
    ) -> Daemon:
        """Start a daemon on one address (of the network that the process `host` is in) and wait until it is ready.

        `runner`: a name in `RUNNERS`, or the words that follow the interpreter.
        """
        how: dict[str, Any] = {
            "runner": runner,
            "inbox": inbox,
            "user": user,
            "environ": environ,
            "discovery": discovery,
            "address": address,
            "host": host,
        }
        started = self._begin_daemon(home, *options, port=port, **how)
        log = started.out

        def ready() -> re.Match[str] | bool | None:
            if runner != "twistd" and not started.alive:
                return True
            return re.search(r"ready: .* listening on (?:\S+, )*\S+:(\d+), inbox", log.read_text("utf-8", "replace"))

        found = until(ready, "the daemon is ready", said=started)
        if not isinstance(found, re.Match):
            raise AssertionError(f"the daemon ended:\n{started.text()}")
        pid = 0
        if runner == "twistd":
            started.popen.wait(10)
            pid = int(until(log.with_suffix(".pid").read_text, "the pid file"))
        place = inbox or self.root / home / "inbox"
        how["options"] = options
        made = Daemon(
            started.popen, log, log, pid, home=self.root / home, port=int(found[1]), inbox=place, how=how
        )
        self._started.append(made)
        return made

    def refused(self, home: str = "home", *options: str, **how: Any) -> tuple[int, str]:
        """Exit code and words of a daemon that must not start."""
        started = self._begin_daemon(home, *options, **how)
        return started.wait(20), started.text()

    def _begin_daemon(
        self,
        home: str,
        *options: str,
        runner: str | Sequence[str] = "ftx-server",
        port: int = 0,
        inbox: Path | None = None,
        user: int | None = None,
        environ: Mapping[str, str] | None = None,
        discovery: bool = False,
        address: str = "127.0.0.1",
        host: int | None = None,
    ) -> Running:
        self._count += 1
        log = self.root / f"daemon-{self._count}.log"
        log.touch()
        given = RUNNERS[runner] if isinstance(runner, str) else runner
        words = [word.replace("LOG", str(log)).replace("PID", str(log.with_suffix(".pid"))) for word in given]
        if user is not None:
            words = [*_AS_USER, str(user), "daemon"]
        command = [sys.executable, *words, "--home", str(self.root / home)]
        # one of the lab: `again()` finds it as it was left
        command += ["--listen", f"tcp:{port or free_port()}:interface={address}"]
        command += ["--discovery-port", str(self.discovery_port)] if discovery else ["--no-discovery"]
        if inbox is not None:
            command += ["--inbox", str(inbox)]
        with log.open("ab") as file:
            started = Running(self._popen([*command, *options], file, file, environ, host=host), log, log)
        self._started.append(started)
        return started

    def again(self, daemon: Daemon) -> Daemon:
        """Start a daemon that has ended once more: same home, same port, same options."""
        how = dict(daemon.how)
        options = how.pop("options")
        return self.daemon(daemon.home.name, *options, port=daemon.port, **how)

    def client(
        self,
        *words: str | bytes,
        home: str = "home",
        user: int | None = None,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        json: bool = True,
        host: int | None = None,
        stdin: Any = subprocess.DEVNULL,
    ) -> Client:
        """Start `ftx-client WORDS` and return at once."""
        self._count += 1
        out, err = self.root / f"client-{self._count}.out", self.root / f"client-{self._count}.err"
        globals_ = ["--home", str(self.root / home), *(["--json"] if json else [])]
        program = ["-m", "ftx"] if user is None else [*_AS_USER, str(user), "client"]
        command: list[str | bytes] = [sys.executable, *program, *globals_, *words]
        with out.open("wb") as stdout, err.open("wb") as stderr:
            started = self._popen(command, stdout, stderr, environ, cwd, host, stdin)
        client = Client(started, out, err)
        self._started.append(client)
        return client

    def send(self, daemon: Daemon, *words: str | bytes | Path, code: int | None = 0, **how: Any) -> Client:
        """Send to `daemon` and wait for the end, which must have this exit code unless it is None."""
        return self.sending(daemon.url, *words, **how).ends(code)

    def sending(self, target: str, *words: str | bytes | Path, lanes: int | None = 1, **how: Any) -> Client:
        """Begin to send to `target`, over so many connections unless `words` say how many.

        With None the program chooses, by a round trip: a long one where the machine is busy, whatever the way is.
        """
        plain = [os.fspath(word) for word in words]
        few = [] if lanes is None or "--lanes" in plain else ["--lanes", str(lanes)]
        return self.client("send", *few, "--to", target, *plain, **how)

    def _popen(
        self,
        command: Sequence[str | bytes],
        stdout: Any,
        stderr: Any,
        environ: Mapping[str, str] | None,
        cwd: Path | None = None,
        host: int | None = None,
        stdin: Any = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        inside = [] if host is None else ["nsenter", "-t", str(host), "-n", "--"]
        return subprocess.Popen(
            [*inside, *_dies_with_us(), *command],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd or self.root,
            env=self._environment(environ),
        )

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        """What a program of this lab has in its environment."""
        given = inherited() | {"FTX_DISCOVERY_INTERFACE": "lo", "FTX_MDNS": "no"}
        given |= {"FTX_DISCOVERY_PORT": str(self.discovery_port), "HOME": str(self.root)}
        return given | dict(more or {})

    def two_hosts(self, six: bool = False) -> tuple[int, int] | None:
        """Two networks of their own, 192.0.2.1 and 192.0.2.2, joined by a link: a process in each.

        `six`: they have fe80::1 and fe80::2, too. None where this user may not make networks.
        """
        hosts = []
        for _ in range(2):
            self._count += 1
            log = self.root / f"host-{self._count}.log"
            with log.open("wb") as file:
                words = ["unshare", "-n", "--", "sh", "-c", "ip link set lo up && echo here && exec sleep 600"]
                host = Running(self._popen(words, file, file, None), log, log)
            self._started.append(host)
            until(lambda log=log, host=host: log.read_text() or not host.alive, "a network")  # type: ignore[misc]
            if log.read_text() != "here\n":
                return None
            hosts.append(host.pid)
        first, second = hosts

        def ip(host: int, *words: str) -> None:
            subprocess.run(["nsenter", "-t", str(host), "-n", "ip", *words], check=True)

        ip(first, "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(second))
        for number, (host, name) in enumerate(((first, "near"), (second, "far")), 1):
            ip(host, "link", "set", name, "addrgenmode", "none")
            ip(host, "addr", "add", f"192.0.2.{number}/24", "broadcast", "+", "dev", name)
            if six:  # without the seconds of looking for duplicates, in which nothing can be sent (RFC 4862)
                ip(host, "addr", "add", f"fe80::{number}/64", "dev", name, "nodad")
            ip(host, "link", "set", name, "up")
        return first, second

    # -- homes ---------------------------------------------------------------------------------------------

    def folder_of(self, user: int, name: str) -> Path:
        """A folder below the lab's that belongs to `user`."""
        made = self.root / name
        made.mkdir(mode=0o700)
        os.chown(made, user, user)
        return made

    def places(self, home: str) -> Places:
        """Where things of this home are; made when they are not there."""
        found = places(str(self.root / home), {}, os.geteuid(), "/")
        prepare_home(found)
        return found

    def key(self, home: str) -> Identity:
        """The key of a home of our own, made when there is none."""
        return load_or_create(self.places(home).key)

    def identity(self, home: str, user: int | None = None) -> str:
        """The id of a home, made when there is none; as another user by a process of that user."""
        if user is None:
            return format_id(self.key(home).id)
        return str(self.client("id", home=home, user=user).ends().events[0]["id"])

    def pair(self, home: str, other: str, name: str, *addresses: str, user: int | None = None) -> None:
        """Make `home` trust the identity of the home `other` under `name`, as `ftx-client peers add` does."""
        identity = self.identity(other)
        if user is not None:
            self.client("peers", "add", name, identity, *addresses, home=home, user=user).ends()
            return
        peer = Peer(name, parse_id(identity), addresses, iso_time())
        update(self.places(home).peers, lambda store: store.add(peer))


@functools.cache
def _dies_with_us() -> tuple[str, ...]:
    """The beginning of a command that the kernel ends with us, even if we are killed; nothing without setpriv(1)."""
    setpriv = shutil.which("setpriv")
    return () if setpriv is None else (setpriv, "--pdeathsig", "KILL", "--")
