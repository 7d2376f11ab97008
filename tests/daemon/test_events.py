"""The fan-out of events: snapshot first, progress merged, everything else at once and in order."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import pytest
from support.control_daemon import job, job_id
from twisted.internet.task import Clock

from ftx import limits
from ftx.daemon.events import EVENT_NAMES, EventStream, event_name, snapshot_of
from ftx.daemon.view import OfferInfo
from ftx.errors import FtxError
from ftx.wire import events
from ftx.wire.events import Connected, Event, Failed, FileEvent, Progress, error_info


def progress(done: int, number: int = 1) -> Progress:
    return Progress(job=job_id(number), stage="transferring", bytes_confirmed=done)


def failed(number: int = 1) -> Failed:
    error = error_info(FtxError("cancelled").as_value())
    assert error is not None
    return Failed(job=job_id(number), error=error, exit=6, resumable=True)


class Listener:
    """A stream on a clock that is moved by hand, and one subscriber that notes what it gets."""

    def __init__(self, types: Collection[str] | None = None, interval: float = 1.0) -> None:
        self.clock = Clock()
        self.stream = EventStream(self.clock, lambda: snapshot_of([job(1)]))
        self.got: list[str] = []
        self.end = self.stream.subscribe(self.note, types, interval)

    def note(self, event: Event) -> None:
        self.got.append(f"{event.bytes_confirmed}" if isinstance(event, Progress) else event_name(event))

    def new(self) -> list[str]:
        got, self.got = self.got, []
        return got


@pytest.fixture
def listener() -> Listener:
    found = Listener()
    assert found.new() == ["snapshot"]
    return found


def test_a_snapshot_with_the_longest_offers_fits_in_a_line() -> None:
    """Strangers choose the folder that they ask for: the oldest offers come, the list has the rest."""
    peer = events.PeerInfo("n" * 64, "i" * 63, "192.0.2.7", 7389)
    offers = [
        OfferInfo(
            job=job_id(number),
            peer=peer,
            who="unknown",
            files=1,
            folders=0,
            bytes=1,
            path="\x01" * 3900,
            phrase="a b c",
            left_s=1.0,
            since="2026-01-01T00:00:00Z",
            why="no rule",
        )
        for number in range(limits.OFFERS_TOTAL)
    ]
    snapshot = snapshot_of([job(1)], offers)
    assert len(events.encode(snapshot)) <= limits.CONTROL_LINE
    assert [offer["job"] for offer in snapshot.offers] == [job_id(0), job_id(1)]


def test_progress_is_merged_to_the_latest(listener: Listener) -> None:
    for done in range(5):
        listener.stream.publish(progress(done))
    assert listener.new() == ["0"]
    listener.clock.advance(0.9)
    assert listener.new() == []
    listener.clock.advance(0.1)
    assert listener.new() == ["4"]
    listener.clock.advance(5)
    assert listener.new() == []
    listener.stream.publish(progress(9))
    assert listener.new() == ["9"]


def test_the_interval_is_kept_by_what_was_held_too(listener: Listener) -> None:
    for step in range(50):
        listener.stream.publish(progress(step))
        listener.clock.advance(0.1)
    assert 5 <= len(listener.new()) <= 6


def test_each_job_has_its_own_interval(listener: Listener) -> None:
    for number in (1, 2, 3):
        listener.stream.publish(progress(10 * number, number))
        listener.stream.publish(progress(10 * number + 1, number))
        listener.clock.advance(0.2)
    assert listener.new() == ["10", "20", "30"]
    listener.clock.advance(0.4)
    assert listener.new() == ["11"]
    listener.clock.advance(0.4)
    assert listener.new() == ["21", "31"]


def test_what_is_held_goes_out_before_the_next_event_of_its_job(listener: Listener) -> None:
    for event in (progress(1), progress(2), progress(7, 2), progress(8, 2), Connected(), failed()):
        listener.stream.publish(event)
    assert listener.new() == ["1", "7", "connected", "2", "failed"]
    listener.clock.advance(1)
    assert listener.new() == ["8"]


def test_nothing_but_progress_is_ever_merged(listener: Listener) -> None:
    for number in range(1000):
        listener.stream.publish(FileEvent(job=job_id(1), path=str(number)))
    assert listener.new() == ["file"] * 1000


def test_types() -> None:
    listener = Listener(types=["failed"])
    for event in (progress(1), progress(2), FileEvent(job=job_id(1), path="x"), failed()):
        listener.stream.publish(event)
    listener.clock.advance(5)
    assert listener.new() == ["snapshot", "failed"]
    listener = Listener(types=["progress"])
    for event in (progress(1), progress(2), failed()):
        listener.stream.publish(event)
    assert listener.new() == ["snapshot", "1", "2"]


def test_an_ended_subscription_gets_nothing_and_leaves_no_timer(listener: Listener) -> None:
    listener.stream.publish(progress(1))
    listener.stream.publish(progress(2))
    listener.end()
    listener.end()
    listener.stream.publish(failed())
    listener.clock.advance(5)
    assert listener.new() == ["1"]
    assert listener.clock.getDelayedCalls() == []
    assert listener.stream.subscribers == 0


def test_a_subscriber_that_ends_itself_while_it_is_called() -> None:
    clock = Clock()
    stream = EventStream(clock, lambda: snapshot_of([]))
    got: list[Event] = []
    ends = [stream.subscribe(got.append, None, 1.0)]
    ends.append(stream.subscribe(lambda event: ends[1]() if len(ends) > 1 else None, None, 1.0))
    stream.publish(progress(1))
    stream.publish(failed())
    assert [event_name(event) for event in got] == ["snapshot", "progress", "failed"]
    assert stream.subscribers == 1


def test_close_ends_all(listener: Listener) -> None:
    listener.stream.publish(progress(1))
    listener.stream.publish(progress(2))
    listener.stream.close()
    listener.clock.advance(5)
    assert listener.new() == ["1"]
    assert listener.stream.subscribers == 0


def test_every_event_of_a_job_can_be_asked_for() -> None:
    """A new event that nobody adds to the list could not be subscribed to."""
    streamed = {event_name(kind) for kind in Event.__subclasses__() if kind.__module__ == events.__name__}
    assert streamed - set(EVENT_NAMES) == {"snapshot", "summary", "peer"}


@pytest.mark.parametrize("path", ["p", "\x01" * 4096])
def test_a_snapshot_fits_in_a_line_and_prefers_what_is_not_over(path: str) -> None:
    jobs = [job(number, "done", path) for number in range(300)]
    jobs[3] = job(3, "active", path)
    jobs[5] = job(5, "waiting", path)
    snapshot = snapshot_of(jobs)
    assert len(events.encode(snapshot)) <= limits.CONTROL_LINE
    numbers = [int(one["job"], 16) for one in snapshot.jobs]
    assert numbers == sorted(numbers)
    assert numbers[0] == 3 or path == "p"
    assert {3, 5} <= set(numbers) or len(numbers) < 2
    assert len(numbers) < 300
    assert set(numbers) - {3, 5} <= set(range(300 - len(numbers), 300))


def test_an_event_with_the_longest_names_fits_in_a_line() -> None:
    path = [b"\x01" * 255] * 16
    event = events.file_event(
        [*path[:-1], b"\xff" * 255], job=job_id(1), peer=None, status="stored", size=1, digest=bytes(32), stored_as=path
    )
    assert msgspec.json.decode(events.encode(event))["path_b64"]
    assert len(events.encode(event)) <= limits.CONTROL_LINE
