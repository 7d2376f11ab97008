"""A program that `ftx-client` runs beside itself: its lines as they come, and how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from ftx.net.worker import Worker

__all__ = ["Child", "Ended"]


@attrs.frozen
class Ended:
    """How a process ended: `code` is its exit code, or minus the number of the signal that killed it.

    `bytes_read` is what it read with read(2) and its like, sockets not counted (`rchar` of proc(5)); None where the
    system does not say.
    """

    code: int
    bytes_read: int | None


class Child:
    """One process, started at construction; it stays in our process group, so Ctrl-C on a terminal reaches it too.

    `on_line` gets every line of its stdout, in the reactor's thread, all of them before `wait()` returns; without it
    stdout goes where stderr goes, to the open file `log`. Its stdin is empty. A thread of `worker` follows it to its
    end: whoever stops the worker ends the child first.

    Twisted's own process support reaps a process before anybody can ask the system what it has read.
    """

    def __init__(
        self,
        reactor: Any,
        worker: Worker,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        cwd: str,
        log: int,
        on_line: Callable[[bytes], object] | None = None,
    ) -> None:
        """Start `command`; OSError when that cannot be done."""
        self._reactor = reactor
        self._on_line = on_line
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=log if on_line is None else subprocess.PIPE,
            stderr=log,
            env=dict(environ),
            cwd=cwd,
        )
        #: How it ended; None while it runs.
        self.ended: Ended | None = None
        self._waiters: list[Deferred[None]] = []
        worker.run(self._follow).addCallback(self._has_ended)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended gets none."""
        if self.ended is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self) -> Ended:
        """How it ended, when it has ended."""
        while self.ended is None:
            waiter: Deferred[None] = Deferred()
            self._waiters.append(waiter)
            await waiter
        return self.ended

    def _has_ended(self, ended: Ended) -> None:
        self.ended = ended
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def _follow(self) -> Ended:
        """In a thread: hand on the lines, then look at the process once more before it is reaped."""
        stdout = self._process.stdout
        if stdout is not None and self._on_line is not None:
            with stdout:
                for line in stdout:
                    self._reactor.callFromThread(self._on_line, line.rstrip(b"\n"))
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        read = _bytes_read(self.pid)
        return Ended(self._process.wait(), read)


def _bytes_read(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/io", "rb") as file:
            for line in file:
                name, _, value = line.partition(b":")
                if name == b"rchar":
                    return int(value)
    except (OSError, ValueError):
        return None
    return None
