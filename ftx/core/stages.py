"""The stages of a connection, and what each side may say in which of them: the tables of `docs/protocol.md`, section 3.

Two parties, client and server, move through the stages together. What each may send is one table per origin, and *both*
tables drive the same stage; `ftx.core.session` is the machine that applies them.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from ftx.core.table import Table
from ftx.wire.frames import Piece
from ftx.wire.messages import (
    Accept,
    Basis,
    Cancel,
    End,
    EntryEnd,
    EntryFailed,
    ErrorMessage,
    Goodbye,
    Hello,
    Join,
    List,
    Listing,
    Manifest,
    Needs,
    Offer,
    Omitted,
    PairConfirm,
    PairDone,
    PairReply,
    PairStart,
    Pause,
    Ping,
    Pong,
    ProbeDone,
    ProbeEnd,
    ProbeReady,
    ProgressMessage,
    Receipt,
    Refuse,
    Request,
    Results,
    Resume,
    Reveal,
    Totals,
    Waiting,
)

__all__ = [
    "APPROVAL",
    "FROM_CLIENT",
    "FROM_SERVER",
    "LET_IN",
    "PAIRING",
    "UNSIGNED",
    "HelloToAsk",
    "HelloToPair",
    "JoinedDown",
    "JoinedUp",
    "LastListing",
    "ProbeDown",
    "ProbeUp",
    "Role",
    "Stage",
]

#: The feature that a client lists when it has come to pair, and for nothing else (section 15).
PAIRING: Final = "pairing"


#: The feature of those who can wait for a person's consent (section 18).
APPROVAL: Final = "approval"


class HelloToPair:
    """The event of a server's hello that signs the client in for pairing only."""


class HelloToAsk:
    """The event of a server's hello that does not sign the client in, but takes one offer, for a person to see."""


class Role(Enum):
    """Which end we are."""

    #: Opened the connection.
    CLIENT = "client"
    #: Accepted it.
    SERVER = "server"


class Stage(Enum):
    """Where a connection stands."""

    #: Connected; the client's hello is awaited.
    GREETING = 1
    #: The client's hello was sent; the server's is awaited.
    GREETED = 2
    #: Signed in; no job.
    READY = 3
    #: A job of the client's is offered or runs: the client sends.
    JOB = 4
    #: Ended by a goodbye.
    CLOSED = 5
    #: Ended by an error.
    FAILED = 6
    #: Not signed in, but let in to pair.
    PAIRING = 7
    #: The client has asked for a list.
    LISTING = 8
    #: The client has asked for content.
    ASKED = 9
    #: The server has offered what was asked for: it sends.
    PULL = 10
    #: Not signed in, but let in to make one offer, which waits for a person's consent.
    ASKING = 11
    #: The client has asked to send content that is measured and not kept.
    PROBE_ASKED = 12
    #: It sends it.
    PROBE_UP = 13
    #: It has sent it; the server's account is awaited.
    PROBE_SENT = 14
    #: The client has asked for such content, or for a measurement at the server alone.
    PROBE_DOWN = 15
    #: The client has asked that this connection be a lane of a job.
    JOINING = 16
    #: It is one, on which the client sends.
    LANE_UP = 17
    #: It is one, on which the server sends.
    LANE_DOWN = 18


#: The stages of a client that is not signed in, but is let in for something.
LET_IN: Final = (Stage.PAIRING, Stage.ASKING)
#: Those that last no longer than `limits.HELLO_DEADLINE` after the connection was opened.
UNSIGNED: Final = (Stage.GREETING, Stage.GREETED, Stage.ASKING)


class LastListing:
    """The event that a listing with `last` set is, in the tables."""


class JoinedUp:
    """The event of a server's word that this is a lane now, on which the client sends."""


class JoinedDown:
    """The event of a server's word that this is a lane now, on which it sends itself."""


class ProbeUp:
    """The event of a probe for which the client sends."""


class ProbeDown:
    """The event of any other probe."""


_ALWAYS: dict[type, Stage] = {ErrorMessage: Stage.FAILED}
_STEERING = (Pause, Resume, Cancel)
#: What the two sides of a job say, whoever is the client. Its end is said by the receiver, with a refusal or a receipt.
#: Both may steer it; what one says of a job may cross the other's end of it: then it is void.
_SENDER = (Totals, Reveal, Manifest, Piece, EntryFailed, EntryEnd, End, *_STEERING)
_RECEIVER = (Waiting, Accept, Basis, Needs, Results, ProgressMessage, *_STEERING)


def _stay(stage: Stage, *events: type) -> dict[type, Stage]:
    """These events, and what is said at any time, change nothing."""
    return dict.fromkeys((*events, Ping, Pong), stage) | _ALWAYS


FROM_CLIENT: Table[Stage] = {
    Stage.GREETING: {Hello: Stage.GREETED} | _ALWAYS,
    Stage.GREETED: _ALWAYS,
    Stage.READY: _stay(Stage.READY, *_STEERING)
    | {Offer: Stage.JOB, List: Stage.LISTING, Request: Stage.ASKED, Goodbye: Stage.CLOSED}
    | {ProbeUp: Stage.PROBE_ASKED, ProbeDown: Stage.PROBE_DOWN, Join: Stage.JOINING},
    Stage.PAIRING: {PairStart: Stage.PAIRING, PairConfirm: Stage.PAIRING, Goodbye: Stage.CLOSED} | _ALWAYS,
    Stage.ASKING: _stay(Stage.ASKING) | {Offer: Stage.JOB, Goodbye: Stage.CLOSED},
    Stage.JOB: _stay(Stage.JOB, *_SENDER),
    Stage.LISTING: _stay(Stage.LISTING),
    Stage.ASKED: _stay(Stage.ASKED),
    Stage.PULL: _stay(Stage.PULL, *_RECEIVER) | {Refuse: Stage.READY, Receipt: Stage.READY},
    Stage.PROBE_ASKED: _stay(Stage.PROBE_ASKED),
    Stage.PROBE_UP: _stay(Stage.PROBE_UP, Piece) | {ProbeEnd: Stage.PROBE_SENT},
    Stage.PROBE_SENT: _stay(Stage.PROBE_SENT),
    Stage.PROBE_DOWN: _stay(Stage.PROBE_DOWN),
    Stage.JOINING: _stay(Stage.JOINING),
    Stage.LANE_UP: _stay(Stage.LANE_UP, Piece) | {Goodbye: Stage.CLOSED},
    Stage.LANE_DOWN: _stay(Stage.LANE_DOWN) | {Goodbye: Stage.CLOSED},
}
FROM_SERVER: Table[Stage] = {
    Stage.GREETING: _ALWAYS,
    Stage.GREETED: {Hello: Stage.READY, HelloToPair: Stage.PAIRING, HelloToAsk: Stage.ASKING} | _ALWAYS,
    Stage.READY: _stay(Stage.READY, *_STEERING) | {Goodbye: Stage.CLOSED},
    Stage.PAIRING: {PairReply: Stage.PAIRING, PairDone: Stage.PAIRING} | _ALWAYS,
    Stage.ASKING: _stay(Stage.ASKING) | {Goodbye: Stage.CLOSED},
    Stage.JOB: _stay(Stage.JOB, *_RECEIVER) | {Refuse: Stage.READY, Receipt: Stage.READY, Goodbye: Stage.CLOSED},
    Stage.LISTING: _stay(Stage.LISTING, Listing)
    | {LastListing: Stage.READY, Refuse: Stage.READY, Goodbye: Stage.CLOSED},
    Stage.ASKED: _stay(Stage.ASKED) | {Offer: Stage.PULL, Refuse: Stage.READY, Goodbye: Stage.CLOSED},
    Stage.PULL: _stay(Stage.PULL, *_SENDER, Omitted),
    Stage.PROBE_ASKED: _stay(Stage.PROBE_ASKED)
    | {ProbeReady: Stage.PROBE_UP, Refuse: Stage.READY, Goodbye: Stage.CLOSED},
    Stage.PROBE_UP: _stay(Stage.PROBE_UP),
    Stage.PROBE_SENT: _stay(Stage.PROBE_SENT) | {ProbeDone: Stage.READY},
    Stage.PROBE_DOWN: _stay(Stage.PROBE_DOWN, Piece)
    | {ProbeDone: Stage.READY, Refuse: Stage.READY, Goodbye: Stage.CLOSED},
    Stage.JOINING: _stay(Stage.JOINING)
    | {JoinedUp: Stage.LANE_UP, JoinedDown: Stage.LANE_DOWN, Refuse: Stage.READY, Goodbye: Stage.CLOSED},
    Stage.LANE_UP: _stay(Stage.LANE_UP) | {Goodbye: Stage.CLOSED},
    Stage.LANE_DOWN: _stay(Stage.LANE_DOWN, Piece) | {Goodbye: Stage.CLOSED},
}
