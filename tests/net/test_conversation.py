"""A conversation behind a door that keeps packets: the dispatcher does not notice."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from support.control_daemon import SmallDaemon, job, job_id
from twisted.internet.task import Clock

from ftx import limits
from ftx.daemon.commands import Commands
from ftx.net.conversation import Conversation
from ftx.net.local import Caller


@attrs.define(eq=False)
class PacketDoor:
    """A door in memory: each message is a packet of its own."""

    daemon: SmallDaemon
    #: How many packets the transport takes before it says that it has enough.
    room: int = 1000
    packets: list[Any] = attrs.field(factory=list)
    reading: bool = True
    closed: bool = False
    aborted: bool = False
    ended: list[Conversation] = attrs.field(factory=list)
    conversation: Conversation = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.conversation = Conversation(
            self, Caller(0, 1), Commands(self.daemon), self.daemon.reactor, self.ended.append
        )

    def write(self, message: bytes) -> None:
        self.packets.append(json.loads(message))
        self.room -= 1
        if self.room == 0:
            self.conversation.pause_output()

    def pause_input(self) -> None:
        self.reading = False

    def resume_input(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True
        self.conversation.lost()


@pytest.fixture
def door() -> PacketDoor:
    return PacketDoor(SmallDaemon(Clock(), all_jobs={job_id(1): job(1)}))


def test_a_packet_is_a_request(door: PacketDoor) -> None:
    door.conversation.receive(b'{"id":1,"method":"daemon.status"}')
    door.conversation.receive(b"watch")
    assert [packet.get("id", packet.get("event")) for packet in door.packets] == [1, None, "snapshot"]
    door.conversation.lost()
    assert door.ended == [door.conversation]
    assert door.daemon.stream.subscribers == 0


def test_a_newline_within_a_packet_is_not_the_end_of_a_request(door: PacketDoor) -> None:
    door.conversation.receive(b'{"id":1,\n"method":"daemon.status"}')
    door.conversation.receive(b"status\nstatus")
    assert ["result" in packet for packet in door.packets] == [True, False]


def test_a_packet_too_long(door: PacketDoor) -> None:
    door.conversation.receive(b" " * limits.CONTROL_LINE + b"status")
    assert door.packets[0]["error"]["data"]["name"] == "bad-request"


def test_reading_stops_while_too_much_waits_and_goes_on_by_itself(door: PacketDoor) -> None:
    door.room = 1
    door.conversation.receive(b"methods")  # the transport is full from here on
    sent = 1
    while door.reading and sent < 1000:
        door.conversation.receive(b"methods")
        sent += 1
    assert not door.reading
    assert sent < 200
    door.room = 1000
    door.conversation.resume_output()
    for _ in range(10):
        door.daemon.reactor.advance(0)
    assert door.reading
    assert len(door.packets) == sent


def test_who_does_not_take_an_answer_in_time_is_dropped(door: PacketDoor) -> None:
    door.room = 1
    door.conversation.receive(b"status")
    door.daemon.reactor.advance(limits.CONTROL_STALL - 0.1)
    assert not door.aborted
    door.daemon.reactor.advance(0.2)
    assert door.aborted
    assert door.ended == [door.conversation]


def test_a_transport_that_does_not_get_rid_of_the_last_answer_is_dropped(door: PacketDoor) -> None:
    door.conversation.receive(b"status")
    door.conversation.finish()
    assert door.closed
    door.daemon.reactor.advance(limits.CONTROL_STALL + 0.1)
    assert door.aborted


def test_an_ended_conversation_leaves_no_timer(door: PacketDoor) -> None:
    door.conversation.receive(b"status")
    door.conversation.finish()
    door.conversation.lost()
    assert door.daemon.reactor.getDelayedCalls() == []
    assert door.ended == [door.conversation]
