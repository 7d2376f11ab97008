"""A receiver in the foreground: a daemon of our own for as long as this runs, with a pairing window in front of it.

The daemon is a child process with the user's own key and peers, so whoever is paired can send at once. Whoever pairs
with the code that is shown is a guest: trusted until this ends, and for good only if the person says so.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from ftx import limits
from ftx.client import control
from ftx.client.child import Child
from ftx.client.ctl_text import event_line
from ftx.client.output import Output
from ftx.client.reach import commands
from ftx.errors import FtxError
from ftx.net.worker import Worker
from ftx.text import duration, show

__all__ = ["Receiver"]

#: Events that a person is told of, and those that end a job.
_TOLD: Final = ("file", "refused", "done", "failed")
_OVER: Final = ("done", "failed")


class Receiver:
    """One run of `receive`. `path` is the control socket that the daemon is to have."""

    def __init__(self, reactor: Any, output: Output, path: str, arguments: Sequence[str], *, once: bool) -> None:
        self._reactor = reactor
        self._output = output
        self._path = path
        self._arguments = list(arguments)
        self._once = once
        self._ended: Deferred[dict[str, Any]] = Deferred()
        #: The guests of this run, as the events name them: name -> (id, address).
        self.guests: dict[str, tuple[str, str]] = {}
        #: The exit code of the last job; 0 before there was one.
        self.code = 0

    async def run(self) -> None:
        """Receive until a job has ended (`once`), or until cancelled; the daemon ends with this."""
        await self._alone()
        worker = Worker(self._reactor, 1)
        worker.start()
        log, name = tempfile.mkstemp(prefix="ftx-receive-")
        os.unlink(name)
        child: Child | None = None
        try:
            child = self._start(worker, log)
            status = await self._ready(child, log)
            self._output.note(f"receiving into {show(str(status.get('inbox')), limits.PATH)}")
            listening = Deferred.fromCoroutine(
                control.subscribe(self._reactor, self._path, None, limits.CONTROL_INTERVAL, self._on_event)
            )
            listening.addErrback(self._lost)
            await self._open(status)
            await self._ended
            listening.cancel()
        finally:
            if child is not None:
                child.signal(signal.SIGTERM)
                await child.wait()
            await worker.stop()
            os.close(log)

    async def _alone(self) -> None:
        """FtxError `already-running` where a daemon receives already: it is the one to pair with."""
        try:
            status = await control.call(self._reactor, self._path, "daemon.status")
        except FtxError:
            return
        inbox = show(str(status.get("inbox")), limits.PATH)
        hint = "a code for it: ftx-client pair --open"
        raise FtxError("already-running", f"your daemon runs already, and receives into {inbox}", hint)

    def _start(self, worker: Worker, log: int) -> Child:
        # -P: whatever is called ftx in the current folder is not us
        command = [sys.executable, "-P", "-m", "ftx.daemon.main", *self._arguments]
        try:
            return Child(self._reactor, worker, command, environ=dict(os.environ), cwd=os.getcwd(), log=log)
        except OSError as error:
            raise FtxError("internal", f"no process can be started: {(error.strerror or 'error').lower()}") from error

    async def _ready(self, child: Child, log: int) -> dict[str, Any]:
        """The daemon's status once it answers; FtxError with its last words when it ends instead."""
        deadline = self._reactor.seconds() + limits.DEMO_DAEMON
        while child.ended is None and self._reactor.seconds() < deadline:
            with suppress(FtxError):
                status = await control.call(self._reactor, self._path, "daemon.status")
                if isinstance(status, dict) and status.get("pid") == child.pid:
                    return status
            await deferLater(self._reactor, limits.DEMO_LOOK)
        sentence, hint = _last_words(os.pread(log, limits.PATH, 0).decode("utf-8", "replace"))
        hint = hint or "the daemon by itself may say more: ftx-server"
        raise FtxError("listen-failed", sentence or "the receiver did not start", hint)

    async def _open(self, status: dict[str, Any]) -> None:
        """Show a code. A guest stays a guest: nothing is written down."""
        self._status = status
        params = {"seconds": limits.PAIRING_WINDOW_MOST, "keep": False}
        result = await control.call(self._reactor, self._path, "pairing.open", params)
        self._output.record(result)
        self._output.result(f"code: {show(str(result.get('code')))}", "title")
        for line in commands(status, "ftx-client pair", "on the other machine"):
            self._output.note(line)
        self._output.note("and then: ftx-client send FILE… to the same name")
        good = duration(limits.PAIRING_WINDOW_MOST)
        self._output.note(f"the code is good for {good} and one attempt; Ctrl-C ends this")

    def _on_event(self, event: dict[str, Any]) -> None:
        name = event.get("event")
        if name == "snapshot":
            return
        self._output.record(event)
        if name in _TOLD or (name == "pairing" and event.get("state") in ("paired", "failed")):
            self._output.result(event_line(event))
        if name == "pairing":
            self._pairing(event)
        elif name in _OVER and self._once and not self._ended.called:
            self.code = int(event.get("exit") or 0)
            self._ended.callback(event)

    def _pairing(self, event: dict[str, Any]) -> None:
        """A guest has come; or the code is used up, and another one is due."""
        if event.get("state") == "paired":
            peer = event.get("peer") or {}
            port = int(peer.get("port") or 0)
            address = str(peer.get("address") or "")
            where = f"[{address}]" if ":" in address else address
            self.guests[str(peer.get("name"))] = (str(peer.get("id")), f"{where}:{port}" if port else where)
        elif event.get("state") in ("failed", "closed"):
            opening = Deferred.fromCoroutine(self._open(self._status))
            opening.addErrback(self._lost)

    def _lost(self, failure: Any) -> None:
        if not self._ended.called:
            self._ended.errback(failure)


def _last_words(said: str) -> tuple[str, str]:
    """The sentence with which a daemon ended and its hint, for people; empty where there is none."""
    program = "ftx-server: "
    lines = iter(said.split("\n"))
    sentence = next((line.removeprefix(program) for line in lines if line.startswith(program)), "")
    hint = next(lines, "")
    return show(sentence, 500), show(hint.removeprefix("hint: "), 500) if hint.startswith("hint: ") else ""
