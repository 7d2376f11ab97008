"""Programs that are started here: timed from outside, and ended whatever happens, with all that they have started.

Each leads a process group of its own, so that a Ctrl-C at the terminal reaches the runner alone, which then ends them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.measure import BenchmarkError, Run

__all__ = [
    "Service", "end", "end_all", "finish", "free_port", "interrupted_once", "peak_memory", "run", "spent", "start",
    "tell",
]  # fmt: skip

#: Seconds after which a run is given up.
LONGEST = 900.0
#: Seconds that a service has to begin to listen, and any program to end when it is asked to.
_STARTING = _ENDING = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")

_running: set[subprocess.Popen[Any]] = set()
#: While a program is being started: signals that ask us to end, since an exception there would lose its process.
_asked: list[int] | None = None


def start(
    command: Sequence[str | Path],
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: Any = subprocess.DEVNULL,
    stderr: Any = subprocess.DEVNULL,
) -> subprocess.Popen[Any]:
    """Start a program that is to be ended by `finish` or `end`, or else is by `end_all`; `environ` is added to ours."""
    with _undisturbed():
        process = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, **(environ or {})},
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            process_group=0,
        )
        _running.add(process)
    return process


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Who asks us to end meanwhile is heard afterwards. Programs are started by the main thread alone."""
    global _asked
    asked: list[int] = []
    _asked = asked
    try:
        yield
    finally:
        _asked = None
    if asked:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _limited(process: subprocess.Popen[Any], seconds: float) -> Iterator[None]:
    """Meanwhile the process and its group are ended by force after so many seconds."""
    timer = threading.Timer(seconds, lambda: os.killpg(process.pid, signal.SIGKILL))
    timer.daemon = True  # so that an end that is asked for just here does not wait for it
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def finish(process: subprocess.Popen[Any], longest: float = LONGEST) -> tuple[int, float, int]:
    """Wait for the end: exit code, seconds of processor time with all that it waited for, peak memory in bytes."""
    with _limited(process, longest):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    _forget(process)
    return process.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def tell(process: subprocess.Popen[Any], number: signal.Signals) -> None:
    """Send it a signal; unlike Popen's own way this does not reap it if it has ended, so that `finish` still can."""
    if process.returncode is None:
        os.kill(process.pid, number)


def end(process: subprocess.Popen[Any], grace: float = _ENDING) -> None:
    """End it, by force after `grace` seconds, and then whatever is left of its group."""
    if process.returncode is None:
        if grace > 0:
            tell(process, signal.SIGTERM)
        deadline = time.monotonic() + grace
        # not reaped before the whole group is ended: until then the number of the group is nobody else's
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if time.monotonic() >= deadline:
                break
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    _forget(process)


def end_all() -> None:
    """End whatever still runs."""
    for process in list(_running):
        end(process)


def _forget(process: subprocess.Popen[Any]) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    _running.discard(process)


def interrupted_once() -> None:
    """From now on the first signal that asks us to end is a KeyboardInterrupt, and no other disturbs what then ends."""
    asking = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def heard(number: int, frame: FrameType | None) -> None:
        for one in asking:
            signal.signal(one, signal.SIG_IGN)
        if _asked is None:
            raise KeyboardInterrupt
        _asked.append(number)

    for one in asking:
        signal.signal(one, heard)


def run(
    command: Sequence[str | Path],
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    codes: Sequence[int] = (0,),
) -> Run:
    """Run `command` to its end; BenchmarkError, with the end of what it said, unless it ends with one of `codes`."""
    begun = time.monotonic()
    process = start(command, environ=environ, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        with _limited(process, LONGEST):
            said: bytes = process.stdout.read() if process.stdout else b""
        code, processor, memory = finish(process)
        seconds = time.monotonic() - begun
    finally:
        end(process, 0)
    if code not in codes:
        tail = said.decode(errors="replace")[-1000:]
        raise BenchmarkError(f"{command[0]} ended with {code}:\n{tail}")
    return Run(seconds, processor, memory)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def spent(pid: int) -> float:
    """Seconds of processor time of the process, and of all that it started, those that ended included (proc(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS + sum(map(spent, _children(pid)))


def peak_memory(pid: int) -> int:
    """The most resident memory that the process ever had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise BenchmarkError(f"the kernel says nothing about the memory of process {pid}")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A TCP port (or a UDP port, for `SOCK_DGRAM`) on loopback that nobody uses at the moment."""
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Service:
    """A program that runs beside and listens, until it is stopped."""

    def __init__(self, command: Sequence[str | Path], port: int, log: Path, environ: Mapping[str, str]) -> None:
        with log.open("wb") as out:
            self.process = start(command, stdout=out, stderr=subprocess.STDOUT, environ=environ)
        self._log = log
        self._program = str(command[0])
        try:
            self._wait(port)
        except BaseException:
            self.stop()
            raise

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + _STARTING
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    said = self._log.read_text(errors="replace")[-500:]
                    raise BenchmarkError(f"{self._program} did not start: {said}") from error
                time.sleep(0.02)

    def stop(self) -> None:
        """End it, by force if it does not end when asked."""
        end(self.process)
