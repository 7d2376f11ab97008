"""Programs beside the client: their lines, their ends, and what they have read."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.bounded import bounded

from ftx.client.child import Child
from ftx.net.worker import Worker


@asynccontextmanager
async def working(reactor: Any) -> AsyncIterator[Worker]:
    """A worker that is stopped at the end."""
    worker = Worker(reactor, 2)
    worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    """The file `log`, open."""
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def python(
    reactor: Any, worker: Worker, log: int, code: str, on_line: Callable[[bytes], object] | None = None
) -> Child:
    """An interpreter that runs `code`."""
    return Child(
        reactor, worker, [sys.executable, "-Sc", code], environ={"WORD": "yes"}, cwd="/", log=log, on_line=on_line
    )


@bounded(20)
async def test_lines_and_end(reactor: Any, tmp_path: Path, log: int) -> None:
    """All lines are there when the end is, the last one even without its newline; stderr is in the log."""
    lines: list[bytes] = []
    async with working(reactor) as worker:
        code = "import os, sys; print(os.environ['WORD'], os.getcwd()); print(end='x'); os.write(2, b'e'); sys.exit(3)"
        child = python(reactor, worker, log, code, lines.append)
        assert (await child.wait()).code == 3
        assert (await child.wait()).code == 3, "anybody may ask, at any time"
    assert lines == [b"yes /", b"x"]
    assert (tmp_path / "log").read_bytes() == b"e"
    child.signal(signal.SIGKILL)  # the number may belong to somebody else by now: nothing is sent


@bounded(20)
async def test_a_signal_ends_it(reactor: Any, tmp_path: Path, log: int) -> None:
    """The code is minus the number; without `on_line` stdout is in the log too."""
    async with working(reactor) as worker:
        child = python(reactor, worker, log, "print('here', flush=True); import signal; signal.pause()")
        child.signal(signal.SIGKILL)
        assert (await child.wait()).code == -signal.SIGKILL


@bounded(20)
async def test_what_it_has_read(reactor: Any, tmp_path: Path, log: int) -> None:
    """The system's count, taken when the process has ended: it has read all it ever will."""
    (tmp_path / "large").write_bytes(bytes(20_000_000))
    async with working(reactor) as worker:
        idle = await python(reactor, worker, log, "").wait()
        busy = await python(reactor, worker, log, f"open({str(tmp_path / 'large')!r}, 'rb').read()").wait()
    assert idle.bytes_read is not None
    assert busy.bytes_read is not None
    assert 20_000_000 <= busy.bytes_read - idle.bytes_read < 21_000_000


@bounded(20)
async def test_a_program_that_is_not_there(reactor: Any, log: int) -> None:
    """An OSError, and nothing is left to wait for."""
    async with working(reactor) as worker:
        with pytest.raises(FileNotFoundError):
            Child(reactor, worker, ["/nowhere"], environ={}, cwd="/", log=log)
