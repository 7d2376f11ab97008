"""Hooks of a daemon: which events they are run on, in which order, and what is said when one fails.

    event --> what the hook gets, as JSON --> the hook's queue --> a process, one at a time for each hook

A hook sees the events of the control socket, in their order. Whatever a peer does, there are never more than a few
processes, and never more than so many runs that wait: what is beyond is lost, and said once.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs
import msgspec
from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from ftx import limits
from ftx.daemon.events import EventStream, event_name
from ftx.disk.hooks import HookSetting, start
from ftx.errors import FtxError
from ftx.net.process import Ended, Followed
from ftx.net.worker import Worker
from ftx.text import duration, plural, show
from ftx.wire import events

__all__ = ["Hooks", "folder_of"]

_log = Logger()
_OCCASIONS: Final[Mapping[type[events.Event], str]] = {
    events.Offered: "offered",
    events.Waiting: "waiting",
    events.Done: "received",
    events.Failed: "failed",
}


@attrs.define(eq=False)
class _Hook:
    """One hook: what waits for it, what runs of it, and whether its last run failed."""

    setting: HookSetting
    waiting: deque[tuple[str, bytes]] = attrs.field(factory=deque)
    #: It is being started, or runs.
    busy: bool = False
    running: Followed | None = None
    failing: bool = False


@attrs.define(eq=False)
class _Stored:
    """The files that one job has stored so far, as far as they are listed."""

    listed: list[msgspec.Raw] = attrs.field(factory=list)
    room: int = limits.HOOK_FILES_BYTES
    more: int = 0


class Hooks:
    """The hooks of one daemon, which may be others at any time: what waits for one that is gone is forgotten."""

    def __init__(self, reactor: Any, folder: str, inbox: str, control: str) -> None:
        """`folder` is where working folders are made; hooks are told of `inbox` and `control`, the socket."""
        #: Runs that ended well, those that did not or never began, and events that were lost, since the start.
        self.succeeded = 0
        self.failed = 0
        self.dropped = 0
        self._reactor = reactor
        self._folder = folder
        self._inbox = inbox
        self._control = control
        self._hooks: dict[str, _Hook] = {}
        self._stored: dict[tuple[str, str | None], _Stored] = {}
        self._worker: Worker | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._ending = False
        self._idle: Deferred[None] | None = None

    # -- which there are -----------------------------------------------------------------------------------

    @property
    def settings(self) -> tuple[HookSetting, ...]:
        """Those in force."""
        return tuple(hook.setting for hook in self._hooks.values() if hook.setting.on)

    @property
    def remembered(self) -> int:
        """The jobs of which files are remembered: those that go on."""
        return len(self._stored)

    def follow(self, settings: Iterable[HookSetting], stream: EventStream) -> None:
        """Have these from now on, told of by `stream`."""
        before = self._hooks
        self._hooks = {}
        for one in settings:
            hook = before.pop(one.name) if one.name in before else _Hook(one)
            hook.setting = one
            self._hooks[one.name] = hook
        for name, gone in before.items():
            gone.waiting.clear()
            if gone.busy:  # its last run is still one of ours
                gone.setting = attrs.evolve(gone.setting, on=())
                self._hooks[name] = gone
        if self._hooks and self._unsubscribe is None:
            self._unsubscribe = stream.subscribe(self._hear)
        elif not self._hooks and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
            self._stored.clear()

    # -- what they are run on ------------------------------------------------------------------------------

    def _hear(self, event: events.Event) -> None:
        key = (event.peer.id if event.peer else "", event.job)
        if isinstance(event, events.FileEvent):
            if event.direction == "in" and event.status == "stored" and event.stored_as is not None:
                self._list(key, event)
            return
        occasion = _OCCASIONS.get(type(event))
        stored = self._stored.pop(key, None) if occasion in ("received", "failed") else None
        if occasion is None or not _concerns(event):
            return
        wanted = [hook for hook in self._hooks.values() if occasion in hook.setting.on]
        if wanted:
            said = self._said(event, stored)
            for hook in wanted:
                self._queue(hook, occasion, said)

    def _list(self, key: tuple[str, str | None], event: events.FileEvent) -> None:
        """Remember a file that was stored, as long as there is room for it."""
        if not any({"received", "failed"}.intersection(hook.setting.on) for hook in self._hooks.values()):
            return
        stored = self._stored.setdefault(key, _Stored())
        if len(stored.listed) < limits.HOOK_FILES and stored.room > 0:
            item = {"stored_as": event.stored_as, "size": event.size, "digest": event.digest}
            if isinstance(event.stored_as_b64, str):
                item["stored_as_b64"] = event.stored_as_b64
            line = msgspec.json.encode(item)
            stored.room -= len(line)
            if stored.room >= 0:
                stored.listed.append(msgspec.Raw(line))
                return
        stored.more += 1

    def _said(self, event: events.Event, stored: _Stored | None) -> bytes:
        """What a hook reads: the event as on the control socket, the inbox, and which files were stored."""
        whole = {**msgspec.to_builtins(event), "inbox": show(self._inbox, limits.PATH)}
        if isinstance(event, events.Done | events.Failed):
            stored = stored or _Stored()
            whole |= {"stored": stored.listed, "stored_more": stored.more}
        whole["event"] = event_name(event)
        return msgspec.json.encode(whole) + b"\n"

    # -- running them --------------------------------------------------------------------------------------

    def _queue(self, hook: _Hook, occasion: str, said: bytes) -> None:
        if len(hook.waiting) >= limits.HOOK_QUEUE:
            self.dropped += 1
            self._complain(hook, f"{plural(limits.HOOK_QUEUE, 'event')} wait for it already: newer ones are lost")
            return
        hook.waiting.append((occasion, said))
        self._go_on()

    def _go_on(self) -> None:
        """Start what can be started: one run of each hook, and a few hooks, at once."""
        busy = sum(hook.busy for hook in self._hooks.values())
        for hook in self._hooks.values():
            if hook.waiting and not hook.busy and busy < limits.HOOKS_AT_ONCE:
                busy += 1
                hook.busy = True
                occasion, said = hook.waiting.popleft()
                running = Deferred.fromCoroutine(self._run(hook, occasion, said))
                running.addErrback(lambda failure: _log.failure("running a hook failed", failure=failure))
        if not busy and self._idle is not None:
            idle, self._idle = self._idle, None
            idle.callback(None)

    async def _run(self, hook: _Hook, occasion: str, said: bytes) -> None:
        setting = hook.setting
        if self._worker is None:
            self._worker = Worker(self._reactor, limits.HOOKS_AT_ONCE)
            self._worker.start()
        try:
            started = await self._worker.run(start, setting, occasion, said, self._folder, self._control)
            hook.running = Followed(self._reactor, started, setting.timeout)
            if self._ending:
                hook.running.stop()
            self._judge(hook, await hook.running.ended)
        except FtxError as error:
            self.failed += 1
            self._complain(hook, error.message)
        finally:
            hook.running = None
            hook.busy = False
            self._go_on()

    def _judge(self, hook: _Hook, ended: Ended) -> None:
        if ended.code == 0 and not ended.late:
            self.succeeded += 1
            if hook.failing:
                _log.info("hook {hook} works again", hook=hook.setting.name)
            hook.failing = False
            return
        self.failed += 1
        if ended.late:
            why = f"it was ended, since it ran longer than {duration(hook.setting.timeout)}"
        elif ended.code < 0:
            why = f"it was ended by {_signal_name(-ended.code)}"
        else:
            why = f"it ended with exit code {ended.code}"
        last = ended.complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
        self._complain(hook, f"{why}: {show(last)}" if last else why)

    def _complain(self, hook: _Hook, why: str) -> None:
        """Once, until it has worked again: what a peer sends may make it fail as often as the peer likes."""
        if not hook.failing:
            _log.warn("hook {hook} failed: {why}", hook=hook.setting.name, why=why)
        hook.failing = True

    # -- the end -------------------------------------------------------------------------------------------

    async def stop(self, seconds: float = limits.HOOK_STOP) -> None:
        """Let what runs and waits go on for a while, then end it; fires when nothing of it is left."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._worker is None:
            return
        try:
            await self._wait(seconds)
        finally:  # whether that was enough, or whoever waits for us does not want to any longer
            self._ending = True
            for hook in self._hooks.values():
                hook.waiting.clear()
                if hook.running is not None:
                    hook.running.stop()
        await self._wait(limits.HOOK_GRACE)
        await self._worker.stop()

    async def _wait(self, seconds: float) -> None:
        """Wait until none runs and none waits, but no longer than that."""
        if any(hook.busy or hook.waiting for hook in self._hooks.values()):
            self._idle = Deferred()
            try:
                await self._idle.addTimeout(seconds, self._reactor)
            except TimeoutError:  # of Twisted, not Python's own
                self._idle = None


def _concerns(event: events.Event) -> bool:
    """Whether an event is one that hooks are run on: what is pulled from here was not received, nor was a dry run."""
    if isinstance(event, events.Done):
        return event.direction == "in" and not event.dry_run
    return not isinstance(event, events.Offered) or event.direction == "in"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def folder_of(state: str) -> str:
    """The folder below which hooks have their working folders, in the state folder of a daemon."""
    return os.path.join(state, "hooks")
