"""State tables: every pair of state and event, in every table there is."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from ftx.core.pairing import CLIENT_TABLE, SERVER_TABLE, PairingState
from ftx.core.receiver import RECEIVER_TABLE, LastManifest, ReceiverState
from ftx.core.sender import SENDER_TABLE, SenderState
from ftx.core.stages import (
    FROM_CLIENT,
    FROM_SERVER,
    HelloToAsk,
    HelloToPair,
    JoinedDown,
    JoinedUp,
    LastListing,
    ProbeDown,
    ProbeUp,
    Stage,
)
from ftx.core.table import advance, diagram
from ftx.errors import ProtocolError
from ftx.wire import messages
from ftx.wire.frames import Piece

TABLES: dict[str, tuple[Any, type[Enum]]] = {
    "client": (FROM_CLIENT, Stage),
    "server": (FROM_SERVER, Stage),
    "sender": (SENDER_TABLE, SenderState),
    "receiver": (RECEIVER_TABLE, ReceiverState),
    "pairing client": (CLIENT_TABLE, PairingState),
    "pairing server": (SERVER_TABLE, PairingState),
}
MESSAGES = [
    value
    for value in vars(messages).values()
    if isinstance(value, type) and issubclass(value, messages.Message) and value is not messages.Message
]
EVENTS = [kind for kind in MESSAGES if kind is not messages.ReceiptBody]
EVENTS += [Piece, LastManifest, LastListing, HelloToAsk, HelloToPair, ProbeUp, ProbeDown, JoinedUp, JoinedDown]


@pytest.mark.parametrize("name", TABLES)
def test_every_pair(name: str) -> None:
    """A pair in the table leads where it says and is traced; any other is one error that names both."""
    table, states = TABLES[name]
    for state in states:
        for event in EVENTS:
            traced: list[Any] = []

            def trace(*step: Any, traced: list[Any] = traced) -> None:
                traced.append(step)

            expected = table.get(state, {}).get(event)
            if expected is not None:
                assert advance(table, state, event, trace) is expected
                assert traced == [(state, event, expected)]
            else:
                with pytest.raises(ProtocolError) as caught:
                    advance(table, state, event, trace)
                assert caught.value.name == "wrong-state"
                assert event.__name__ in caught.value.message
                assert state.name.lower() in caught.value.message
                assert traced == []


@pytest.mark.parametrize("name", TABLES)
def test_tables_speak_of_what_there_is(name: str) -> None:
    """Only known events and states; every state but the first is reached, and those without a row are ends."""
    table, states = TABLES[name]
    reached = {following for row in table.values() for following in row.values()}
    assert {event for row in table.values() for event in row} <= set(EVENTS)
    assert set(table) <= set(states)
    if name not in ("client", "server"):
        assert reached | {next(iter(states))} == set(states)


def test_every_message_has_a_sender() -> None:
    """Each message may be sent by one side or both in some stage."""
    allowed = {event for table in (FROM_CLIENT, FROM_SERVER) for row in table.values() for event in row}
    assert allowed == set(EVENTS) - {LastManifest, messages.Probe, messages.Joined}


def test_error_ends_every_stage() -> None:
    """`error` may come in any stage."""
    for table in (FROM_CLIENT, FROM_SERVER):
        for row in table.values():
            assert row[messages.ErrorMessage] is Stage.FAILED
    assert not {Stage.CLOSED, Stage.FAILED} & (set(FROM_CLIENT) | set(FROM_SERVER))


def test_what_each_side_may_say_in_a_job() -> None:
    """The column `by` of section 4."""
    steering = {messages.Pause, messages.Resume, messages.Cancel}
    both = {messages.Ping, messages.Pong, messages.ErrorMessage} | steering
    from_sender = {messages.Totals, messages.Manifest, Piece, messages.EntryFailed, messages.EntryEnd, messages.End}
    from_sender |= {messages.Reveal}
    from_receiver = {
        messages.Waiting,
        messages.Accept,
        messages.Basis,
        messages.Refuse,
        messages.Needs,
        messages.Results,
        messages.ProgressMessage,
        messages.Receipt,
    }
    assert set(FROM_CLIENT[Stage.JOB]) == both | from_sender
    assert set(FROM_SERVER[Stage.JOB]) >= both | from_receiver
    assert set(FROM_SERVER[Stage.JOB]) <= both | from_receiver | {messages.Goodbye}


@pytest.mark.parametrize("name", TABLES)
def test_diagram(name: str) -> None:
    """Every pair of states that the table joins is an arrow with its events."""
    table, _ = TABLES[name]
    text = diagram(table)
    assert text.startswith("stateDiagram-v2\n")
    for state, row in table.items():
        for event, following in row.items():
            arrow = f"    {state.name.lower()} --> {following.name.lower()}: "
            lines = [line for line in text.splitlines() if line.startswith(arrow)]
            assert len(lines) == 1
            assert event.__name__ in lines[0].removeprefix(arrow).split(", ")
