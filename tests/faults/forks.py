"""A laboratory whose processes are forked, not started: `support.lab.Lab` on top of the fork server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.lab import Lab, inherited, until

__all__ = ["ForkLab", "ForkServer", "missing_means"]

_HERE = Path(__file__).resolve().parent


def missing_means() -> str | None:
    """What this machine lacks to put faults into system calls; None when it has all."""
    return None if shutil.which("gcc") else "no gcc"


def _shim(folder: Path) -> Path:
    built = folder / "shim.so"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", built, _HERE / "shim.c", "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return built


class Forked:
    """A forked process, with what of `subprocess.Popen` the laboratory uses."""

    def __init__(self, server: ForkServer, pid: int, words: Sequence[str]) -> None:
        self._server = server
        self._code: int | None = None
        self.pid = pid
        self.args = list(words)

    def poll(self) -> int | None:
        """Its exit code (negative: the signal), or None while it runs."""
        if self._code is None:
            self._code = self._server.ask({"reap": self.pid})
        return self._code

    def wait(self, timeout: float = 30.0) -> int:
        """Its exit code once it has ended."""
        if self._code is None:
            until(lambda: self.poll() is not None, f"the end of {self.args}", timeout)
        return self._code or 0


class ForkServer:
    """The fork server as a process of ours; a context manager. `folder` takes the shim."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = socket.socketpair()
        environ = dict(inherited(), LD_PRELOAD=str(_shim(folder)), PYTHONPATH=f"{_HERE.parent}:{_HERE.parent.parent}")
        with theirs:
            self._process = subprocess.Popen([sys.executable, "-m", "faults.server"], stdin=theirs, env=environ)
        ours.settimeout(60)
        self._socket = ours
        self._answers = ours.makefile("rb")
        if self._answers.readline() != b"ready\n":
            raise RuntimeError("the fork server did not start")

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._socket.close()
        self._process.wait(20)

    def ask(self, request: Mapping[str, Any], streams: Sequence[int] = ()) -> Any:
        """The answer to one request."""
        socket.send_fds(self._socket, [json.dumps(request).encode()], streams)
        return json.loads(self._answers.readline())


class ForkLab(Lab):
    """The laboratory: `Lab`, with processes from `server`."""

    def __init__(self, root: Path, server: ForkServer) -> None:
        self._server = server
        super().__init__(root)

    def _popen(
        self,
        command: Sequence[str | bytes],
        stdout: Any,
        stderr: Any,
        environ: Mapping[str, str] | None,
        cwd: Path | None = None,
        host: int | None = None,
        stdin: Any = subprocess.DEVNULL,
    ) -> Any:
        words = [os.fsencode(word) for word in command]
        if words[1] != b"-m" or host is not None:
            raise ValueError(f"cannot be forked: {command}")
        request = {
            "module": words[2].decode(),
            "words": [word.hex() for word in words[3:]],
            "environ": self._environment(environ),
            "cwd": str(cwd or self.root),
        }
        source = os.open(os.devnull, os.O_RDONLY) if stdin == subprocess.DEVNULL else os.dup(stdin.fileno())
        try:
            pid = self._server.ask(request, [source, stdout.fileno(), stderr.fileno()])
        finally:
            os.close(source)
        return Forked(self._server, pid, [word.decode("utf-8", "replace") for word in words])
