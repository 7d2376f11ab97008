"""Where points happen: the bench of a run, and for each point a stage of its own."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from faults.forks import ForkLab, ForkServer
from faults.model import Scenario
from faults.page import Call, Fault, Page
from support.lab import Client, Daemon, until
from support.trees import make_tree, snapshot

from ftx.limits import RACY_SECONDS, STATE_THREADS, WORKER_THREADS

__all__ = ["Bench", "Stage"]

#: The reactor's, and those that the daemon's pools begin when they need them, and keep: for inbox, shares and state.
_THREADS = 1 + 2 * WORKER_THREADS + STATE_THREADS


def _stamps(top: Path) -> dict[str, tuple[int, ...]]:
    found = {}
    for folder, folders, files in os.walk(top):
        for name in (".", *folders, *files):
            stat = os.lstat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return found


class Bench:
    """What the points of one run share: the fork server, and the sources, which nobody changes. A context manager.

    `within`: the folder to work in. By default one in memory, where there is one: a kill takes a process, and what the
    kernel has stays; so nobody has to wait for a disk.
    """

    def __init__(self, within: Path | None = None) -> None:
        if within is None and os.access("/dev/shm", os.W_OK):
            within = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="ftx-faults-", dir=within))
        self.folder.chmod(0o755)
        self.sources = self.folder / "sources"
        self.sources.mkdir()
        self._count = 0
        self._made = 0.0
        self._snapshots: dict[Path, dict[bytes, tuple[object, ...]]] = {}
        self._stamps: dict[Path, dict[str, tuple[int, ...]]] = {}
        self._usual: dict[str, tuple[int, int]] = {}
        self.server = ForkServer(self.folder)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)

    def source(self, name: str, sizes: Mapping[str | bytes, int], seed: int = 1) -> Path:
        """A source tree (`support.trees.make_tree`), made once and old enough for the sender's memory."""
        path = self.sources / name
        if not path.exists():
            make_tree(path, sizes, seed)
            self._made = time.time()
            self.tree(path)
        return path

    def renewed(self, path: Path) -> None:
        """A source was changed by whoever makes it."""
        self._snapshots.pop(path, None)
        self._made = time.time()
        self.tree(path)

    def settled(self) -> None:
        """Wait until every source is old enough to be remembered."""
        ready = self._made + RACY_SECONDS + 0.1
        until(lambda: time.time() > ready, "the sources are old enough", interval=0.05)

    def tree(self, path: Path) -> dict[bytes, tuple[object, ...]]:
        """`support.trees.snapshot` of a source, taken once."""
        if path not in self._snapshots:
            self._snapshots[path] = snapshot(path)
            self._stamps[path] = _stamps(path)
        return self._snapshots[path]

    def touched(self) -> list[str]:
        """The sources that were changed since they were made; by their times, which no change leaves as they were."""
        return [path.name for path, stamps in self._stamps.items() if _stamps(path) != stamps]

    def usual(self, scenario: Scenario) -> tuple[int, int]:
        """How many descriptors the daemon has after the scenario's command was run twice, unhurt; most threads."""
        if scenario.name not in self._usual:
            with self.stage() as stage:
                scenario.before(stage)
                for _ in range(2):
                    scenario.act(stage)
                if stage.running is None:
                    raise RuntimeError(f"{scenario.name} has no daemon")
                stage.running.idle()
                self._usual[scenario.name] = stage.descriptors()[0], _THREADS
        return self._usual[scenario.name]

    def stage(self, root: Path | None = None) -> Stage:
        """A fresh stage, in a folder of its own or in `root`, which is empty then; a context manager."""
        self._count += 1
        if root is None:
            root = self.folder / f"p{self._count}"
            root.mkdir()
        return Stage(self, root, self._count)


class Stage(ForkLab):
    """One point's homes, folders, processes and pages. Leaving it ends the processes and removes the folder."""

    def __init__(self, bench: Bench, root: Path, number: int) -> None:
        super().__init__(root, bench.server)
        self.bench = bench
        #: A page for each role; they lie outside of `root`, which may be on a disk that is to be hurt.
        self.pages = {
            role: Page(bench.folder / f"page-{number}-{role}", bench.folder) for role in ("daemon", "client")
        }
        self.running: Daemon | None = None
        #: Every client that the scenario ran, oldest first.
        self.clients: list[Client] = []
        #: What else takes the place of the daemon's own address, such as a proxy.
        self.through: str | None = None
        self.outside = root / "outside"
        self.outside.mkdir()
        (self.outside / "nobody touches this").write_bytes(b"as it was")

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        super().__exit__(kind, error, trace)
        for page in self.pages.values():
            page.close()
        shutil.rmtree(self.root, ignore_errors=True)

    # -- faults --------------------------------------------------------------------------------------------

    def arm(self, role: str, fault: Fault) -> None:
        """What `role` calls from now on counts and may fail, in the process that runs and in those to come."""
        self.pages[role].arm(fault)

    def disarm(self) -> None:
        """From now on everything works."""
        for page in self.pages.values():
            page.disarm()

    def hit(self, role: str) -> Call | None:
        """The call that was struck first, in `role`; None when nothing was."""
        page = self.pages[role]
        if not page.struck:
            return None
        trace = page.trace()
        nth = page.nth
        return trace[nth - 1] if 0 < nth <= len(trace) else Call("?", "")

    # -- processes -----------------------------------------------------------------------------------------

    @property
    def home(self) -> Path:
        """The home of the daemon, and of the client unless it has another."""
        return self.root / "home"

    @property
    def inbox(self) -> Path:
        """The daemon's inbox."""
        return self.running.inbox if self.running is not None else self.home / "inbox"

    def up(self, *options: str, **how: Any) -> Daemon:
        """The daemon, started if it does not run: the same as before, where there was one (options are as then).

        AssertionError when it does not become ready.
        """
        if self.running is None:
            environ = {"FTX_FAULT_PAGE": str(self.pages["daemon"].path), **how.pop("environ", {})}
            self.running = self.daemon("home", *options, environ=environ, **how)
        elif not self.running.alive:
            self.running.wait()
            self.running = self.again(self.running)
        return self.running

    @property
    def url(self) -> str:
        """What clients dial."""
        if self.through is not None:
            return self.through
        if self.running is None:
            raise RuntimeError("no daemon was started")
        return self.running.url

    def run(self, *words: str | bytes | Path, **how: Any) -> Client:
        """Run `ftx-client WORDS` to its end, as the client that may be hurt."""
        return self.begin(*words, **how).ends(None)

    def begin(self, *words: str | bytes | Path, **how: Any) -> Client:
        """Start `ftx-client WORDS`, as the client that may be hurt."""
        environ = {"FTX_FAULT_PAGE": str(self.pages["client"].path), **how.pop("environ", {})}
        client = self.client(*[os.fspath(word) for word in words], environ=environ, **how)
        self.clients.append(client)
        return client

    def program(self, module: str, *words: str | bytes | Path) -> Client:
        """Run another program that prints events, in the place of the client, to its end."""
        self._count += 1
        out, err = self.root / f"client-{self._count}.out", self.root / f"client-{self._count}.err"
        command = [sys.executable, "-m", module, *[os.fspath(word) for word in words]]
        with out.open("wb") as stdout, err.open("wb") as stderr:
            started = self._popen(command, stdout, stderr, {"FTX_FAULT_PAGE": str(self.pages["client"].path)})
        client = Client(started, out, err)
        self._started.append(client)
        self.clients.append(client)
        return client.ends(None)

    def send(self, *words: str | bytes | Path, **how: Any) -> Client:  # type: ignore[override]
        """Send `words` to the daemon, once: a connection that is lost is not tried again."""
        return self.run("send", "--to", self.url, "--retries", "0", *words, **how)

    def end_all(self) -> None:
        """End every process with SIGKILL."""
        for running in reversed(self._started):
            running.kill()

    def descriptors(self) -> tuple[int, int]:
        """How many descriptors and threads the daemon has."""
        if self.running is None:
            raise RuntimeError("no daemon was started")
        base = f"/proc/{self.running.pid}"
        return len(os.listdir(f"{base}/fd")), len(os.listdir(f"{base}/task"))

    def said(self) -> Sequence[tuple[str, str]]:
        """Everything that any process has written to its terminal or log: the name of the file, and its text."""
        logs = [*self.root.glob("daemon-*.log"), *self.root.glob("client-*.err")]
        return [(log.name, log.read_text("utf-8", "replace")) for log in sorted(logs)]
