"""ftx as a contestant: a daemon and a client as processes of their own, in one home, discovery off the network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.measure import BenchmarkError, Run, peak_memory, run, spent
from benchmarks.peers import Service, free_port

__all__ = ["Ftx", "fresh"]

_Found = TypeVar("_Found")


def fresh(folder: Path, work: Callable[[Path], _Found]) -> _Found:
    """`work` with an empty folder below `folder` to bring things into, which is removed again."""
    into = folder / "into"
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
        self._environ = {"FTX_HOME": str(folder / "home"), "FTX_DISCOVERY_INTERFACE": "lo"}
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

    def push(self, source: Path, into: Path) -> Run:
        """See Contestant; the processor time is that of client and daemon together."""
        before = spent(self.pid)
        one = run(self.command(source, into, "-q"), environ=self._environ)
        return Run(one.seconds, one.processor + spent(self.pid) - before, one.memory)

    def memory(self) -> int:
        """The daemon's peak memory so far, in bytes."""
        return peak_memory(self.pid)

    def events(self, source: Path, into: Path, stop_at: float | None = None) -> list[dict[str, Any]]:
        """The events of a run; one that is stopped by Ctrl-C as soon as `stop_at` of the bytes are durable."""
        heard: list[dict[str, Any]] = []
        with subprocess.Popen(
            self.command(source, into, "--json"),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            for line in process.stdout or ():
                event = json.loads(line)
                heard.append(event)
                if stop_at is not None and event["event"] == "progress":
                    total = event["bytes_total"]
                    if total and event["bytes_durable"] >= stop_at * total:
                        process.send_signal(signal.SIGINT)
                        stop_at = None
        if process.returncode not in (0, 130):
            raise BenchmarkError(f"ftx-client ended with {process.returncode}: {heard[-1:]}")
        return heard
