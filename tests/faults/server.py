"""The fork server: a process that has imported both programs, and forks one whenever it is asked to.

So a daemon is ready, and a client done, in hundredths of a second, in a process of its own. It runs with the shim
loaded (`LD_PRELOAD`) and is driven through a socket, which is its standard input: a JSON object with the descriptors of
the three standard streams for each process to start, one for each that is to be reaped. It ends when the socket closes,
and all its children with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["serve"]

_PR_SET_PDEATHSIG = 1


def _client() -> int:
    from ftx.client.start import main

    return main()


def _daemon() -> int:
    from ftx.daemon.main import main

    return main()


_PROGRAMS: Mapping[str, Callable[[], int]] = {"ftx": _client, "ftx.daemon.main": _daemon}


def _import_all() -> None:
    import ftx

    for module in pkgutil.walk_packages(ftx.__path__, "ftx."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("twisted.internet.epollreactor", "twisted.internet.unix", "twisted.internet.process", "tqdm", "zstd"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if "twisted.internet.reactor" in sys.modules:
        raise RuntimeError("a reactor was made before the fork: its epoll would be shared")


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """The child: the program `request` names, as if it had been started so."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(request["environ"])
    page = os.environ.pop("FTX_FAULT_PAGE", None)
    os.chdir(request["cwd"])
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    os.closerange(3, 256)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), "utf-8")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)), "utf-8", "backslashreplace", line_buffering=True
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.argv = [request["module"], *(os.fsdecode(bytes.fromhex(word)) for word in request["words"])]
    run = _PROGRAMS.get(request["module"]) or importlib.import_module(request["module"]).main
    if page is not None and libc.ftx_fault_map(page.encode()) != 0:
        raise RuntimeError(f"no fault page at {page}")
    code = run()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _start(control: socket.socket, request: dict[str, Any], streams: list[int]) -> int:
    child = os.fork()
    if child == 0:
        code = 70
        try:
            control.detach()
            _become(request, streams)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    return child


def serve(control: socket.socket) -> None:
    """Answer requests until the socket closes."""
    _import_all()
    gc.collect()
    gc.freeze()
    control.sendall(b"ready\n")
    while True:
        data, streams, _, _ = socket.recv_fds(control, 1 << 20, 3)
        if not data:
            return
        request = json.loads(data)
        if "reap" in request:
            done, status = os.waitpid(request["reap"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if done else None
        else:
            answer = _start(control, request, list(streams))
            for fd in streams:
                os.close(fd)
        control.sendall(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.pop("LD_PRELOAD", None)
    with socket.socket(fileno=os.dup(0)) as end:
        serve(end)
