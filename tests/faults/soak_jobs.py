"""The workers of a soak: one job after the other, with a fault in its middle or without, until it has succeeded."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.gate import Gate
from support.hostile import Hostile
from support.lab import Client, Daemon
from support.trees import MiB, make_tree, snapshot

from ftx.disk.keys import Identity

if TYPE_CHECKING:
    from faults.soak import Soak

__all__ = ["Worker"]

#: Kinds of jobs, and how often each is drawn.
KINDS = {"tree": 30, "large": 16, "pipe": 6, "get": 14, "same": 6, "look": 8, "strangers": 6, "pairing": 4, "reload": 2}
#: Faults, and how often; those of `mortal` are drawn only for jobs with it.
FAULTS = {"none": 8, "kill client": 5, "cut": 7, "stall": 2, "trickle": 2, "cancel": 2, "pause": 2, "full disk": 2,
          "interrupt": 2, "freeze": 1}  # fmt: skip
OF_MORTAL = {"kill daemon": 5, "stop daemon": 1, "errno": 3}
#: How a client may end when something fails: unreachable, refused, partial; killed and interrupted where that was done.
CODES = (0, 4, 6, 9, 143, -9)
RUNS = 12
VERSIONS = 3
CALLS = ("fsync", "fdatasync", "syncfs", "linkat", "renameat2", "openat2", "pwrite64", "mkdirat", "fallocate")
ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EMFILE")


class Worker(threading.Thread):
    """Runs jobs until the soak is over; `waits` while it does nothing."""

    def __init__(self, soak: Soak, number: int, seed: int) -> None:
        super().__init__(name=f"worker {number}")
        self.soak = soak
        self.number = number
        self.random = random.Random(seed)
        self.waits = True
        self.sources = soak.lab.root / f"sources-{number}"
        self.trees = {name: self._versions(name, tree) for name, tree in _trees().items()}
        self.large = self._versions("large", {"large": 0})
        base = bytearray(random.Random(number).randbytes(14 * MiB))
        for version, folder in enumerate(self.large):
            base[version * MiB : version * MiB + 100] = os.urandom(100)
            (folder / "large").chmod(0o644)
            (folder / "large").write_bytes(bytes(base) + bytes(version))
            os.utime(folder / "large", (1, 1_700_000_000 + version))

    def _versions(self, name: str, sizes: dict[str | bytes, int]) -> list[Path]:
        """So many versions of a tree: other sizes, other content."""
        made = []
        for version in range(VERSIONS):
            folder = self.sources / f"v{version}" / name
            grown = {path: size + version if size > 0 else size for path, size in sizes.items()}
            make_tree(folder, grown, seed=version)
            made.append(folder)
        return made

    # -- one after the other -------------------------------------------------------------------------------

    def run(self) -> None:
        """Until the soak is over."""
        while not self.soak.over.is_set():
            self.waits = True
            self.soak.going.wait()
            self.waits = False
            if self.soak.over.is_set():
                break
            kind = self.random.choices([*KINDS], [*KINDS.values()])[0]
            before = time.monotonic()
            try:
                getattr(self, f"do_{kind}")()
                self.soak.account.job(kind)
            except Exception as error:
                after = time.monotonic() - before
                self.soak.account.violation(f"{kind}, after {after:.0f} s", f"{type(error).__name__}: {error}"[:6000])
        self.waits = True

    def _daemon(self) -> str:
        return self.random.choice(["steady", "mortal"])

    def _the(self, name: str) -> Daemon:
        daemon: Daemon = getattr(self.soak, name)
        return daemon

    def do_tree(self) -> None:
        """A tree, in some version, over what is there of another."""
        self._send(self._daemon(), self.random.choice(self.random.choice([*self.trees.values()])))

    def do_large(self) -> None:
        """One file of some blocks, few of which are new."""
        self._send(self._daemon(), self.random.choice(self.large))

    def do_same(self) -> None:
        """What is there already."""
        name = self._daemon()
        source = self.random.choice([*self.trees.values()])[0]
        for _ in range(2):
            self._send(name, source)

    def _send(self, name: str, source: Path) -> None:
        conflict = self.random.choice(["overwrite", "backup"])
        words = ["--into", f"w{self.number}", "--conflict", conflict, str(source)]
        if self.random.random() < 0.3:
            words += ["--limit", "8M"]
        self._until_done(name, lambda url: ["send", "--to", url, *words], "writer")
        there = self._the(name).inbox / f"w{self.number}" / source.name
        found = {path: what for path, what in snapshot(there).items() if b".~" not in path}
        if found != snapshot(source):
            raise AssertionError(f"{there} is not {source}: {_difference(found, snapshot(source))}")

    def do_get(self) -> None:
        """The shared library."""
        name = self._daemon()
        folder = self.soak.lab.root / f"got-{self.number}"
        self._until_done(name, lambda url: ["get", "--conflict", "overwrite", f"{url}/library", str(folder)], name)
        if snapshot(folder / "library") != snapshot(self.soak.library):
            raise AssertionError("what was got is not what is shared")
        shutil.rmtree(folder)

    def do_pipe(self) -> None:
        """Standard input, which cannot be resumed: begun anew after a fault."""
        name, source = self._daemon(), self.large[0] / "large"
        words = ["--into", f"w{self.number}", "--conflict", "overwrite", "-", "--name", "piped"]
        self._until_done(name, lambda url: ["send", "--to", url, *words], "writer", stdin=source)
        if (self._the(name).inbox / f"w{self.number}" / "piped").read_bytes() != source.read_bytes():
            raise AssertionError("what was piped is not what arrived")

    def do_look(self) -> None:
        """Ask both, by every way there is."""
        daemon = self.soak.steady
        for method in ("daemon.status", "jobs.list", "peers.list", "metrics.get", "rpc.discover"):
            daemon.call(method)
        for words in (["ls", f"{daemon.url}/library"], ["discover", "--timeout", "3"], ["ctl", "status"]):
            client = self._client(words, "steady")
            self._over(client, (0, 10, 11) if words[0] == "discover" else (0, 4))

    def do_strangers(self) -> None:
        """Whoever comes with another key, with noise, or with half of something."""
        source = f"127.0.{1 + self.number}.{self.random.randint(1, 250)}"
        for _ in range(10):
            with contextlib.suppress(Exception), Hostile(
                self.soak.steady.port, Identity.generate(), source=source, seconds=2
            ) as stranger:
                stranger.send(self.random.randbytes(self.random.randint(1, 3000)))

    def do_pairing(self) -> None:
        """A window, the right code or a wrong one; and forget each other again."""
        steady = self.soak.steady
        home = f"guest-{self.number}"
        try:
            code = steady.call("pairing.open", seconds=30)["code"]
        except AssertionError:
            return  # the other worker has a window open
        right = self.random.random() < 0.7
        given = code if right else f"{code.partition('-')[0]}-acorn-acorn"
        client = self._client(["--timeout", "40", "pair", "--name", "attic", steady.url], home, FTX_CODE=given)
        ended = self._over(client, (0, 4, 5, 6, 10))
        with contextlib.suppress(AssertionError):
            steady.call("pairing.close")
        if ended == 0:
            for peer in steady.call("peers.list")["peers"]:
                if peer["name"] not in ("writer",):
                    steady.call("peers.remove", name=peer["name"])
        shutil.rmtree(self.soak.lab.root / home, ignore_errors=True)

    def do_reload(self) -> None:
        """Configuration and peers are read again."""
        self.soak.steady.call("daemon.reload")

    # -- a command, with a fault in its middle, until it has succeeded -------------------------------------

    def _client(self, words: list[str], home: str, stdin: Any = subprocess.DEVNULL, **environ: str) -> Client:
        with self.soak.starting:
            return self.soak.lab.client(*words, home=home, environ=environ, stdin=stdin)

    def _over(self, client: Client, codes: tuple[int, ...] = CODES) -> int:
        """How the client ended; what must not have been is written down."""
        code = client.wait(240)
        self.soak.account.ended(code)
        said = client.text()
        if "Traceback" in said or "Unhandled" in said or code not in codes:
            self.soak.account.violation(f"exit code {code} of {client.popen.args}"[:1500], said[-4000:])
        for path in (client.out, client.err):
            path.unlink(missing_ok=True)
        return code

    def _until_done(self, name: str, words: Callable[[str], list[str]], home: str, stdin: Path | None = None) -> None:
        faults = FAULTS | (OF_MORTAL if name == "mortal" else {})
        fault = self.random.choices([*faults], [*faults.values()])[0]
        for run in range(RUNS):
            with contextlib.ExitStack() as stack:
                file = stack.enter_context(stdin.open("rb")) if stdin else subprocess.DEVNULL
                if fault == "none" or run:
                    code = self._over(self._client(words(self._the(name).url), home, file))
                else:
                    self.soak.account.fault(fault)
                    code = self._faulty(fault, name, words, home, file, stack)
            if code == 0:
                return
            time.sleep(min(2.0, 0.2 * run))
        raise AssertionError(f"{words('URL')} with {name} did not succeed in {RUNS} runs; {fault}")

    def _faulty(self, fault: str, name: str, words: Any, home: str, stdin: Any, stack: contextlib.ExitStack) -> int:
        port = self._the(name).port
        if fault in ("cut", "stall", "trickle"):
            hold = self.random.choice([3_000, 20_000, 1_000_000, 3_000_000]) if fault == "stall" else None
            gate = stack.enter_context(Gate(port, hold, 1500 if fault == "trickle" else 1 << 30))
            client = self._client(words(gate.url), home, stdin)
            self._moment(client)
            if fault == "cut":
                for _ in range(self.random.randint(1, 3)):
                    gate.cut()
                    time.sleep(self.random.random() * 0.5)
            elif fault == "stall":
                gate.held.wait(3)
                time.sleep(2)
            else:
                time.sleep(3)
                gate.cut()
            gate.open()
            if fault == "trickle":
                client.kill()
            return self._over(client)
        client = self._client(words(self._the(name).url), home, stdin)
        self._moment(client)
        getattr(self, f"_{fault.replace(' ', '_')}")(client, name)
        return self._over(client)

    def _moment(self, client: Client) -> None:
        """Wait until the client has met its peer, and then some time, mostly short."""
        deadline = time.monotonic() + 20
        while client.alive and time.monotonic() < deadline:
            with contextlib.suppress(ValueError):
                if any(event.get("event") in ("accepted", "file", "progress") for event in client.events):
                    break
            time.sleep(0.01)
        time.sleep(self.random.random() ** 2 * 0.8)

    def _kill_client(self, client: Client, name: str) -> None:
        client.kill()

    def _interrupt(self, client: Client, name: str) -> None:
        if client.alive:
            client.signal(signal.SIGTERM)

    def _freeze(self, client: Client, name: str) -> None:
        if client.alive:
            client.signal(signal.SIGSTOP)
            time.sleep(3)
            client.signal(signal.SIGCONT)

    def _kill_daemon(self, client: Client, name: str) -> None:
        self.soak.mortal_again("KILL")

    def _stop_daemon(self, client: Client, name: str) -> None:
        self.soak.mortal_again("TERM")

    def _steered(self, name: str, *methods: str) -> None:
        """Call control methods for every job that runs there."""
        with contextlib.suppress(OSError, AssertionError, ValueError):
            daemon = self._the(name)
            for method in methods:
                for job in daemon.call("jobs.list", state="active")["jobs"]:
                    with contextlib.suppress(AssertionError):  # it has ended meanwhile
                        daemon.call(method, job=job["job"])
                time.sleep(0.5)

    def _cancel(self, client: Client, name: str) -> None:
        self._steered(name, "jobs.cancel")

    def _pause(self, client: Client, name: str) -> None:
        self._steered(name, "jobs.pause", "jobs.resume")

    def _full_disk(self, client: Client, name: str) -> None:
        ballast = self.soak.disk / f"ballast-{self.number}"
        found = os.statvfs(self.soak.disk)
        room = found.f_bavail * found.f_frsize - self.random.randrange(2 * MiB)
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, room))
        time.sleep(self.random.random() * 3)
        ballast.unlink()

    def _errno(self, client: Client, name: str) -> None:
        """System calls of the daemon fail for a while; then somebody looks at the disk, and starts it again."""
        if shutil.which("strace") is None:
            return
        call, error = self.random.choice(CALLS), self.random.choice(ERRORS)
        inject = f"inject={call}:error={error}:when={self.random.randint(1, 20)}+{self.random.randint(1, 6)}"
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(self.soak.mortal.pid), "-e", f"trace={call}"]
        with _tracing([*command, "-e", inject]):
            time.sleep(1 + self.random.random() * 2)
        self.soak.mortal_again("TERM")


@contextlib.contextmanager
def _tracing(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tracer:
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)  # it lets go of what it traces
            tracer.wait(20)


def _trees() -> dict[str, dict[str | bytes, int]]:
    return {
        "small": {f"{n % 7}/{n}": 30 + 37 * n for n in range(60)},
        "mixed": {"big": 3 * MiB + 5, "zeros": -2 * MiB, "a/b/c": 900_000, **{f"d/{n}": 2_000 for n in range(15)}},
        "deep": {"/".join("abcdefgh"[: n + 1]) + f"/{n}.txt": 5_000 * n + 1 for n in range(8)},
    }


def _difference(found: dict[bytes, Any], wanted: dict[bytes, Any]) -> list[Any]:
    both = {path: (found.get(path), wanted.get(path)) for path in found.keys() | wanted}
    return [(path, *sides) for path, sides in both.items() if sides[0] != sides[1]]
