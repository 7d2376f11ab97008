"""ftx as a contestant: a daemon and a client as processes of their own, in one home, discovery off the network."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs

from benchmarks.measure import BenchmarkError, Run
from benchmarks.processes import Service, end, finish, free_port, peak_memory, run, spent, start, tell

__all__ = ["Ftx", "fresh", "serving"]

#: Seconds from one progress event to the next, and a little more.
_EVERY = 0.3
_Found = TypeVar("_Found")
_numbers = itertools.count(1)


def fresh(folder: Path, work: Callable[[Path], _Found]) -> _Found:
    """`work` with a new folder below `folder` to bring things into, which is removed again.

    Its name was never used before: ftx remembers what it has stored where, and would look for it.
    """
    into = folder / f"into-{next(_numbers)}"
    into.mkdir()
    try:
        return work(into)
    finally:
        shutil.rmtree(into)


class Ftx:
    """`ftx-server` in the background, `ftx-client send` in front. Default settings: encrypted, verified, durable."""

    name = "ftx"
    does = "encrypted, verified, durable"

    def __init__(self, *options: str) -> None:
        self._options = options
        self.port = free_port()
        self._inbox = Path()
        self._environ: dict[str, str] = {}
        self._service: Service | None = None

    def missing(self) -> str | None:
        """See Contestant: it is always there."""
        return None

    def start(self, folder: Path, program: Sequence[str] = ("-m", "ftx.daemon.main"), *options: str) -> None:
        """See Contestant. What arrives is below `folder`'s parent, as it is for all others.

        `program` is what follows the interpreter; without `options` there is no discovery.
        """
        self._inbox = folder.parent
        self._environ = {"FTX_HOME": str(folder / "home"), "FTX_DISCOVERY_INTERFACE": "lo", "FTX_MDNS": "no"}
        command = [sys.executable, *program, "--listen", f"tcp:{self.port}:interface=127.0.0.1"]
        command += ["--inbox", str(self._inbox), *(options or ("--no-discovery",))]
        self._service = Service(command, self.port, folder / "out", self._environ)

    def stop(self) -> None:
        """See Contestant."""
        if self._service is not None:
            self._service.stop()
            self._service = None

    @property
    def pid(self) -> int:
        """The daemon's process."""
        if self._service is None:
            raise BenchmarkError("the daemon does not run")
        return self._service.process.pid

    @property
    def inbox(self) -> Path:
        """Where it puts what arrives."""
        return self._inbox

    @property
    def environ(self) -> dict[str, str]:
        """What a program needs in its environment to find the home."""
        return self._environ

    def environment(self) -> dict[str, str]:
        """The whole environment of such a program."""
        return {**os.environ, **self._environ}

    def command(
        self, source: Path, into: Path, *options: str, port: int | None = None, program: Sequence[str] = ("-m", "ftx")
    ) -> list[str]:
        """The client's command line that brings `source` below `into`; `program` follows the interpreter."""
        url = f"ftx://127.0.0.1:{port or self.port}"
        below = str(into.relative_to(self._inbox))
        words = [sys.executable, *program, *options, "send", str(source), "--to", url, "--into", below]
        return [*words, *self._options]

    def push(self, source: Path, into: Path, *, port: int | None = None, lanes: int | None = None) -> Run:
        """See Contestant; through whatever listens at `port`, with so many lanes."""
        before = spent(self.pid)
        options = () if lanes is None else ("--lanes", str(lanes))
        one = run([*self.command(source, into, "-q", port=port), *options], environ=self._environ)
        return attrs.evolve(one, service=spent(self.pid) - before)

    def memory(self) -> int:
        """The daemon's peak memory so far, in bytes."""
        return peak_memory(self.pid)

    def events(
        self, source: Path, into: Path, *, stop_at: float | None = None, port: int | None = None
    ) -> tuple[Run, list[dict[str, Any]]]:
        """A run and its events; one that is stopped by Ctrl-C when `stop_at` of the bytes are durable.

        When that is, is reckoned from the rate: the events that tell are a quarter of a second apart.
        """
        heard: list[dict[str, Any]] = []
        stopping: threading.Timer | None = None
        before, begun = spent(self.pid), time.monotonic()
        process = start(self.command(source, into, "--json", port=port), environ=self._environ, stdout=subprocess.PIPE)
        try:
            for line in process.stdout or ():
                event = json.loads(line)
                heard.append(event)
                if stop_at is not None and event["event"] == "progress" and stopping is None:
                    left = stop_at * event["bytes_total"] - event["bytes_durable"]
                    wait = left / event["rate"] if event["rate"] else 0.0 if left <= 0 else _EVERY
                    if wait < _EVERY:
                        stopping = threading.Timer(max(0.0, wait), tell, (process, signal.SIGINT))
                        stopping.start()
            code, processor, memory = finish(process)
            seconds = time.monotonic() - begun
        finally:
            if stopping is not None:
                stopping.cancel()
                stopping.join()
            end(process)
        if code not in (0, 130):
            raise BenchmarkError(f"ftx-client ended with {code}: {heard[-1:]}")
        return Run(seconds, processor, memory, spent(self.pid) - before), heard


@contextmanager
def serving(folder: Path) -> Iterator[Ftx]:
    """A daemon for as long as this lasts, with an empty home in a new folder below `folder`."""
    ours = Ftx()
    service = Path(tempfile.mkdtemp(prefix="service-", dir=folder))
    try:
        ours.start(service)
        yield ours
    finally:
        ours.stop()
        shutil.rmtree(service)
