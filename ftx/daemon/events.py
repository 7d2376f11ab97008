"""Events of the daemon, handed to every subscriber of the control socket.

    publish(event) --> for each subscription: filtered, progress held back and merged --> callback(event)

A subscription begins with a snapshot, made in the same turn of the reactor, so nothing is lost or doubled between
the two. Progress of one job comes at most once per interval, the latest; everything else comes at once. A held
progress goes out before the next other event of its job: the order per job is always the order of events.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import attrs
import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ftx import limits
from ftx.daemon.view import JobInfo, OfferInfo
from ftx.wire.events import (
    Accepted,
    Connected,
    Connecting,
    Done,
    Event,
    Failed,
    FileEvent,
    Offered,
    Pairing,
    Progress,
    Refused,
    Retry,
    Snapshot,
    Waiting,
)

__all__ = ["EVENT_NAMES", "EventStream", "event_name", "snapshot_of"]

_STREAMED: Final[tuple[type[Event], ...]] = (
    Connecting,
    Connected,
    Offered,
    Waiting,
    Accepted,
    Refused,
    Progress,
    FileEvent,
    Retry,
    Done,
    Failed,
    Pairing,
)


def event_name(event: Event | type[Event]) -> str:
    """The name of an event, as in its field `event`."""
    return str(event.__struct_config__.tag)


#: Names that a subscriber may ask for.
EVENT_NAMES: Final = tuple(event_name(kind) for kind in _STREAMED)


def snapshot_of(jobs: Sequence[JobInfo], offers: Sequence[OfferInfo] = ()) -> Snapshot:
    """A snapshot of `jobs` (oldest first) and of the `offers` that wait, which fits in one line.

    Where not all fit, offers come first, the oldest of them, then jobs that are not over, then the latest that ended;
    the order stays.
    """
    room = limits.CONTROL_LINE - limits.CONTROL_ENVELOPE
    waiting: list[dict[str, Any]] = []
    for offer in offers:
        room -= len(msgspec.json.encode(offer)) + 1
        if room < 0:
            return Snapshot(jobs=[], offers=waiting)
        waiting.append(msgspec.to_builtins(offer))
    over = {"done", "failed"}
    by_weight = sorted(range(len(jobs)), key=lambda index: (jobs[index].state in over, -index))
    chosen: list[int] = []
    for index in by_weight:
        room -= len(msgspec.json.encode(jobs[index])) + 1
        if room < 0:
            break
        chosen.append(index)
    return Snapshot(jobs=[msgspec.to_builtins(jobs[index]) for index in sorted(chosen)], offers=waiting)


@attrs.define(eq=False)
class _Subscription:
    """One subscriber: its filter, and the progress that is held back for it."""

    clock: IReactorTime
    callback: Callable[[Event], None]
    types: frozenset[str] | None
    interval: float
    #: Per job: when its last progress went out.
    sent: dict[str | None, float] = attrs.field(factory=dict)
    #: Per job: the latest progress that did not go out yet.
    held: dict[str | None, Event] = attrs.field(factory=dict)
    timer: IDelayedCall | None = None
    over: bool = False

    def publish(self, event: Event) -> None:
        if self.over:
            return
        if isinstance(event, Progress):
            if self._wants(event):
                self._progress(event)
            return
        held = self.held.pop(event.job, None)
        if held is not None:
            self._deliver(held)
        if isinstance(event, Done | Failed | Refused):
            self.sent.pop(event.job, None)
        if self._wants(event):
            self.callback(event)

    def end(self) -> None:
        self.over = True
        self.held.clear()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _wants(self, event: Event) -> bool:
        return self.types is None or event_name(event) in self.types

    def _progress(self, event: Event) -> None:
        last = self.sent.get(event.job)
        if last is None or self.clock.seconds() >= last + self.interval:
            self.held.pop(event.job, None)
            self._deliver(event)
        else:
            self.held[event.job] = event
            self._arm()

    def _deliver(self, event: Event) -> None:
        self.sent[event.job] = self.clock.seconds()
        self.callback(event)

    def _arm(self) -> None:
        """One timer, for the job that is due first."""
        if self.timer is None and self.held and not self.over:
            due = min(self.sent[job] for job in self.held) + self.interval
            self.timer = self.clock.callLater(max(due - self.clock.seconds(), 0), self._due)

    def _due(self) -> None:
        self.timer = None
        now = self.clock.seconds()
        # a timer may fire a hair early: half an interval of slack would show, a millisecond does not
        for job in [job for job in self.held if self.sent[job] + self.interval <= now + 0.001]:
            event = self.held.pop(job, None)
            if event is not None:
                self._deliver(event)
        self._arm()


class EventStream:
    """Where the daemon publishes its events. Costs nothing while nobody listens."""

    def __init__(self, clock: IReactorTime, snapshot: Callable[[], Snapshot]) -> None:
        """`snapshot` makes what a new subscriber gets first, see `snapshot_of`."""
        self._clock = clock
        self._snapshot = snapshot
        self._subscriptions: list[_Subscription] = []

    def publish(self, event: Event) -> None:
        """Hand `event` to everybody who wants it, now or, for progress, soon."""
        for subscription in list(self._subscriptions):
            subscription.publish(event)

    def subscribe(
        self,
        callback: Callable[[Event], None],
        types: Collection[str] | None = None,
        interval: float = limits.CONTROL_INTERVAL,
    ) -> Callable[[], None]:
        """Call `callback` with a snapshot, before this returns, and then with every event.

        `types` are names from `EVENT_NAMES`, None for all; `interval` is the least number of seconds between two
        progress events of one job. The callback must not raise. Returns what ends the subscription, which may be
        called more than once.
        """
        subscription = _Subscription(
            self._clock, callback, None if types is None else frozenset(types), interval
        )
        self._subscriptions.append(subscription)

        def unsubscribe() -> None:
            subscription.end()
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

        callback(self._snapshot())
        return unsubscribe

    def close(self) -> None:
        """End every subscription."""
        for subscription in self._subscriptions:
            subscription.end()
        self._subscriptions.clear()

    @property
    def subscribers(self) -> int:
        """How many listen."""
        return len(self._subscriptions)
