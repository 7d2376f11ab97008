"""The session: greeting, versions, deadlines, pings, and what may not be said when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pair import JOB, hello, offer
from vectors.make import session as recorded_session

from ftx import limits
from ftx.core.session import Session, agree, error_frame, error_of
from ftx.core.stages import (
    APPROVAL,
    FROM_CLIENT,
    FROM_SERVER,
    PAIRING,
    JoinedDown,
    JoinedUp,
    LastListing,
    ProbeDown,
    ProbeUp,
    Role,
    Stage,
)
from ftx.errors import KINDS, FtxError, LocalProtocolError, ProtocolError
from ftx.wire import messages
from ftx.wire.frames import FrameType, Piece, data_frames, frame
from ftx.wire.messages import ErrorMessage, Goodbye, Hello, Message, Offer, Ping, Pong, encode

DIGEST = bytes(32)


def client() -> Session:
    """A client that has just connected."""
    return Session(Role.CLIENT, hello("desk"), 0.0)


def server() -> Session:
    """A server that has just accepted."""
    return Session(Role.SERVER, hello("attic"), 0.0)


def events(session: Session, data: bytes = b"", now: float = 0.0) -> list[Any]:
    """Everything that `data` leads to."""
    session.receive(data, now)
    found = []
    while (event := session.next_event(now)) is not None:
        found.append(event)
    return found


def greeted(features: Sequence[str] = ()) -> tuple[Session, Session]:
    """A client and a server that are signed in."""
    here = Session(Role.CLIENT, hello("desk", features=features), 0.0)
    there = Session(Role.SERVER, hello("attic", features=features), 0.0)
    assert events(there, here.send(here.hello, 0.0)) == [here.hello]
    answer = hello("attic", signed_in=True, features=features)
    assert events(here, there.send(answer, 0.0)) == [answer]
    assert here.stage is there.stage is Stage.READY
    assert here.features == there.features == set(features)
    return here, there


def in_job(features: Sequence[str] = ()) -> tuple[Session, Session]:
    """The same, with a job offered."""
    here, there = greeted(features)
    assert events(there, here.send(offer(), 0.0)) == [offer()]
    assert here.stage is there.stage is Stage.JOB
    return here, there


def with_shares(stage: Stage) -> tuple[Session, Session]:
    """The same, where shares are known, in one of the stages that they have."""
    here, there = greeted(["pull", "steer", APPROVAL])
    first = messages.List(JOB, [], False) if stage is Stage.LISTING else messages.Request(JOB, [[b"a"]], [], 0)
    assert events(there, here.send(first, 0.0)) == [first]
    if stage is Stage.PULL:
        assert events(here, there.send(offer(kind=1), 0.0)) == [offer(kind=1)]
    assert here.stage is there.stage is stage
    return here, there


def refused(session: Session, data: bytes, error: str, now: float = 0.0) -> None:
    """`data` is a violation, and afterwards nothing is heard any more."""
    with pytest.raises(ProtocolError) as caught:
        events(session, data, now)
    assert caught.value.name == error
    assert session.stage is Stage.FAILED
    assert session.over
    assert session.buffered == 0
    assert events(session, encode(Ping(0)), now) == []
    assert session.next_deadline() is None
    assert session.tick(now + 100) == b""


@given(st.sampled_from("CS"), st.lists(st.integers(0, 2000), max_size=12))
def test_A6_any_cuts_give_the_same_events(origin: str, cuts: list[int]) -> None:
    """The recorded session, in whatever segments it comes."""

    def heard(chunks: list[bytes]) -> list[Any]:
        listener = server() if origin == "C" else client()
        if origin == "S":
            listener.send(listener.hello, 0.0)
        found = []
        for chunk in chunks:
            listener.receive(chunk, 0.0)
            while (event := listener.next_event(0.0)) is not None:
                piece = isinstance(event, Piece)
                found.append((event.entry, b"".join(event.chunks), event.digest) if piece else event)
                if isinstance(event, Hello) and origin == "C":
                    listener.send(hello("attic", signed_in=True), 0.0)
                elif isinstance(event, Hello):
                    listener.send(offer(), 0.0)
                elif isinstance(event, messages.End):
                    listener.step(messages.Receipt, 0.0)
        return [*found, listener.stage, listener.buffered]

    wire = b"".join(one for who, _, one in recorded_session() if who == origin)
    ends = sorted({cut for cut in cuts if cut < len(wire)})
    chunks = [wire[start:end] for start, end in zip([0, *ends], [*ends, len(wire)], strict=True)]
    assert heard(chunks) == heard([wire])
    assert len(heard([wire])) > 5


# -- greeting ----------------------------------------------------------------------------------------------


def test_greeting() -> None:
    """Both know who the other is, and the client which version is spoken."""
    here, there = greeted()
    assert here.version == 1
    assert here.peer == hello("attic", signed_in=True)
    assert there.peer == hello("desk")


@pytest.mark.parametrize(
    ("ours", "theirs", "version"),
    [((1, 1), (1, 1), 1), ((1, 3), (2, 5), 3), ((2, 5), (1, 3), 3), ((1, 255), (255, 255), 255), ((3, 3), (1, 9), 3)],
)
def test_versions(ours: tuple[int, int], theirs: tuple[int, int], version: int) -> None:
    """The highest that both ranges hold."""
    assert agree(_hello(*ours), _hello(*theirs)) == version


@pytest.mark.case("A10")
@pytest.mark.parametrize(("ours", "theirs"), [((1, 1), (2, 3)), ((2, 3), (1, 1)), ((1, 4), (5, 5)), ((1, 4), (5, 2))])
def test_no_common_version(ours: tuple[int, int], theirs: tuple[int, int]) -> None:
    """The sentence names both ranges; a range that is upside down holds nothing."""
    with pytest.raises(ProtocolError) as caught:
        agree(_hello(*ours), _hello(*theirs))
    assert caught.value.name == "no-common-version"
    for number in (*ours, *theirs):
        assert str(number) in caught.value.message


def _hello(lowest: int, highest: int, magic: str = "ftx") -> Hello:
    return Hello(magic, lowest, highest, [], "x", "x", True)


def test_the_client_judges_the_answer() -> None:
    """A server that speaks no version of ours, is no ftx, or does not sign us in ends the session."""
    for answer, error in [
        (_hello(2, 2), "no-common-version"),
        (_hello(1, 1, "ssh"), "not-ftx"),
        (hello("attic", signed_in=False), "untrusted"),
    ]:
        here = client()
        here.send(here.hello, 0.0)
        refused(here, encode(answer), error)
    here = client()
    here.send(here.hello, 0.0)
    [event] = events(here, encode(ErrorMessage(501)))
    assert error_of(event).name == "untrusted"
    assert here.stage is Stage.FAILED


def test_the_server_takes_any_version_to_name_both_ranges() -> None:
    """It judges after its own hello; but what is no ftx is shown the door."""
    there = server()
    assert events(there, encode(_hello(7, 9))) == [_hello(7, 9)]
    assert there.stage is Stage.GREETED
    refused(server(), encode(_hello(1, 1, "http")), "not-ftx")


def test_a_server_that_did_not_sign_the_client_in_hears_nothing_more() -> None:
    """A hello without `signed_in` opens nothing: the bounds stay those before sign-in."""
    there = server()
    events(there, encode(hello("desk")))
    there.send(hello("attic", signed_in=False), 0.0)
    refused(there, encode(offer()), "wrong-state")


def test_a_feature_counts_only_where_both_list_it() -> None:
    """What one side alone can do is neither understood nor sent."""
    for ours, theirs in (([], ["steer", "x" * 32]), (["steer"], ["x"])):
        here = Session(Role.CLIENT, msgspec.structs.replace(hello("desk"), features=ours), 0.0)
        here.send(here.hello, 0.0)
        answer = msgspec.structs.replace(hello("attic", signed_in=True), features=theirs, highest=9)
        assert events(here, encode(answer)) == [answer]
        assert (here.version, here.features) == (1, frozenset())
        here.send(offer(), 0.0)
        with pytest.raises(LocalProtocolError):
            here.send(messages.Pause(JOB), 0.0)
        refused(here, frame(FrameType.PAUSE, b"\x90"), "wrong-state")


# -- who may say what, when --------------------------------------------------------------------------------

#: One message of each class.
EXAMPLES: list[Message] = [
    hello("x"),
    ErrorMessage(408),
    Goodbye(),
    Ping(3),
    Pong(3),
    offer(),
    messages.Accept(JOB, 512, 512, 0, 0),
    messages.Refuse(JOB, 605),
    messages.Totals(0, 0, 0),
    messages.Manifest([], True),
    messages.Needs([messages.WantAll(0)]),
    messages.EntryFailed(0, 303),
    messages.EntryEnd(0, 0, DIGEST),
    messages.Results([messages.Skipped(0)]),
    messages.ProgressMessage(0, 0, 0),
    messages.End(0, 0, 0, DIGEST),
    messages.Receipt(b"", bytes(64)),
    messages.Waiting(JOB, 60, DIGEST),
    messages.Reveal(JOB, DIGEST),
    messages.PairStart(bytes(33)),
    messages.PairReply(bytes(33)),
    messages.PairConfirm(bytes(32), 7389),
    messages.PairDone(bytes(32)),
    messages.List(JOB, [], True),
    messages.Listing(JOB, [], False),
    messages.Listing(JOB, [], True),
    messages.Request(JOB, [[b"a"]], [], 0),
    messages.Omitted([messages.Omission([b"a"], 302)]),
    messages.Pause(JOB),
    messages.Resume(JOB),
    messages.Cancel(JOB, 0, 0),
    *(messages.Probe(JOB, kind, 1) for kind in messages.ProbeKind),
    messages.Join(JOB, 1, DIGEST),
    messages.Joined(JOB, True),
    messages.Joined(JOB, False),
    messages.ProbeReady(JOB),
    messages.ProbeEnd(JOB, 0),
    messages.ProbeDone(JOB, 0, 0, 0, 0, 0, 0, 0, 0, 0),
]
DATA = b"".join(data_frames(0, 0, b"", DIGEST))


def pairing() -> tuple[Session, Session]:
    """A client that has come to pair, and a server that has a window open."""
    wish = msgspec.structs.replace(hello("desk"), features=[PAIRING])
    answer = msgspec.structs.replace(hello("attic"), features=[PAIRING])
    here, there = Session(Role.CLIENT, wish, 0.0), server()
    assert events(there, here.send(wish, 0.0)) == [wish]
    assert events(here, there.send(answer, 0.0)) == [answer]
    assert here.stage is there.stage is Stage.PAIRING
    return here, there


def asking() -> tuple[Session, Session]:
    """A client that is not known, and a server that lets it make an offer."""
    wish = hello("desk", features=[APPROVAL, "repair"])
    answer = hello("attic", features=[APPROVAL])
    here, there = Session(Role.CLIENT, wish, 0.0), server()
    assert events(there, here.send(wish, 0.0)) == [wish]
    assert events(here, there.send(answer, 0.0)) == [answer]
    assert here.stage is there.stage is Stage.ASKING
    assert here.features == there.features == {APPROVAL}
    return here, there


def probing(stage: Stage) -> tuple[Session, Session]:
    """A client and a server that are signed in and measure."""
    here, there = greeted(["lanes", "probe", "pull", "steer", APPROVAL])
    up = messages.ProbeKind.DOWN if stage is Stage.PROBE_DOWN else messages.ProbeKind.UP
    events(there, here.send(messages.Probe(JOB, up, 1), 0.0))
    if stage in (Stage.PROBE_UP, Stage.PROBE_SENT):
        events(here, there.send(messages.ProbeReady(JOB), 0.0))
    if stage is Stage.PROBE_SENT:
        events(there, here.send(messages.ProbeEnd(JOB, 0), 0.0))
    assert here.stage is there.stage is stage
    return here, there


def laned(stage: Stage) -> tuple[Session, Session]:
    """A client and a server whose connection is to be a lane, or is one."""
    here, there = greeted(["lanes", "probe", "pull", "steer", APPROVAL])
    events(there, here.send(messages.Join(JOB, 1, DIGEST), 0.0))
    if stage is not Stage.JOINING:
        events(here, there.send(messages.Joined(JOB, stage is Stage.LANE_UP), 0.0))
    assert here.stage is there.stage is stage
    return here, there


def at(role: Role, stage: Stage) -> Session:
    """A session of that role in that stage."""
    index = 0 if role is Role.CLIENT else 1
    if stage in (Stage.PAIRING, Stage.ASKING):
        return (pairing() if stage is Stage.PAIRING else asking())[index]
    if stage is Stage.GREETING:
        return (client(), server())[index]
    if stage is Stage.GREETED:
        here, there = client(), server()
        events(there, here.send(here.hello, 0.0))
        return (here, there)[index]
    if stage in (Stage.LISTING, Stage.ASKED, Stage.PULL):
        return with_shares(stage)[index]
    if stage in (Stage.PROBE_ASKED, Stage.PROBE_UP, Stage.PROBE_SENT, Stage.PROBE_DOWN):
        return probing(stage)[index]
    if stage in (Stage.JOINING, Stage.LANE_UP, Stage.LANE_DOWN):
        return laned(stage)[index]
    features = ["lanes", "probe", "pull", "steer", APPROVAL]
    return (greeted(features) if stage is Stage.READY else in_job(features))[index]


def _known(event: Any) -> Any:
    """A message as the tables have it."""
    if isinstance(event, messages.Probe):
        return ProbeUp if event.kind == messages.ProbeKind.UP else ProbeDown
    if isinstance(event, messages.Joined):
        return JoinedUp if event.up else JoinedDown
    return LastListing if isinstance(event, messages.Listing) and event.last else type(event)


@pytest.mark.case("A9")
@pytest.mark.parametrize("stage", [stage for stage in Stage if stage not in (Stage.CLOSED, Stage.FAILED)])
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("message", [*EXAMPLES, None], ids=lambda m: type(m).__name__ if m else "Piece")
def test_every_message_in_every_stage(role: Role, stage: Stage, message: Message | None) -> None:
    """Sent and received: the tables decide, at both ends alike."""
    event = Piece if message is None else _known(message)
    if isinstance(message, Offer):  # its kind is that of the side which makes it
        message = offer(kind=int(stage is Stage.ASKED))
    wire = DATA if message is None else encode(message)
    receiving = at(role, stage)
    theirs = (FROM_SERVER if role is Role.CLIENT else FROM_CLIENT)[stage]
    if event in theirs and not (event is Hello and role is Role.CLIENT):
        assert len(events(receiving, wire)) == (0 if event is Pong else 1)
        assert receiving.stage is theirs[event]
    elif event not in theirs:
        refused(receiving, wire, "wrong-state")
    sending = at(role, stage)
    ours = (FROM_CLIENT if role is Role.CLIENT else FROM_SERVER)[stage]
    if event in ours:
        if message is None:
            sending.step(Piece, 0.0)
        else:
            assert sending.send(message, 0.0) == wire
        assert sending.stage is ours[event]
    else:
        with pytest.raises(LocalProtocolError):
            sending.step(Piece, 0.0) if message is None else sending.send(message, 0.0)
        assert sending.stage is stage, "our own mistake does not change where we stand"


def test_frames_before_sign_in_are_small() -> None:
    """4,096 bytes, and only a hello or an error."""
    for kind in (FrameType.HELLO, FrameType.ERROR):
        for session in (at(Role.CLIENT, Stage.GREETED), server()):
            refused(session, (4097).to_bytes(4, "big") + bytes([kind]), "frame-too-large")
            session = server()
            session.receive((4096).to_bytes(4, "big") + bytes([kind]) + bytes(4095), 0.0)
            assert session.next_event(0.0) is None
            assert session.buffered == 4095
    here, _ = greeted()
    refused(here, (16_385).to_bytes(4, "big") + bytes([FrameType.RECEIPT]), "frame-too-large")


def test_only_who_asks_for_it_is_let_in_to_pair() -> None:
    """A server's hello that signs nobody in means pairing where both list it, and is a refusal everywhere else."""
    wish = msgspec.structs.replace(hello("desk"), features=[PAIRING])
    answer = msgspec.structs.replace(hello("attic"), features=[PAIRING])
    for ours, theirs in [(hello("desk"), answer), (wish, hello("attic"))]:
        here = Session(Role.CLIENT, ours, 0.0)
        here.send(ours, 0.0)
        refused(here, encode(theirs), "untrusted")
    here = Session(Role.CLIENT, wish, 0.0)
    here.send(wish, 0.0)
    events(here, encode(msgspec.structs.replace(answer, signed_in=True)))
    assert here.stage is Stage.READY, "it is known there, and the server is not asked to pair"


@pytest.mark.parametrize("index", [0, 1])
def test_while_pairing(index: int) -> None:
    """Frames are tiny, nobody is pinged, and how long a person may type is bounded."""
    session = pairing()[index]
    refused(session, (257).to_bytes(4, "big") + bytes([FrameType.ERROR]), "frame-too-large")
    session = pairing()[index]
    assert session.next_deadline() == limits.PAIRING_WINDOW_MOST
    assert session.tick(limits.PAIRING_WINDOW_MOST - 0.1) == b""
    with pytest.raises(FtxError) as caught:
        session.tick(limits.PAIRING_WINDOW_MOST)
    assert caught.value.name == "pairing-closed"
    assert session.over


def test_who_asks_says_little_until_it_is_accepted() -> None:
    """One offer, its totals, its nonce: in small frames. Content and names only after the accept."""
    here, there = asking()
    refused(there, (4097).to_bytes(4, "big") + bytes([FrameType.OFFER]), "frame-too-large")
    for message in (messages.Manifest([], True), messages.End(0, 0, 0, DIGEST), messages.EntryFailed(0, 303)):
        here, there = asking()
        events(there, here.send(offer(), 0.0))
        refused(there, encode(message), "wrong-state")
    here, there = asking()
    said: list[Message] = [offer(), messages.Totals(1, 0, 5), messages.Reveal(JOB, DIGEST), Ping(1)]
    assert [events(there, here.send(message, 0.0)) for message in said] == [[message] for message in said]
    for answer in (messages.Waiting(JOB, 60, DIGEST), messages.Accept(JOB, 512, 512, 0, 0)):
        assert events(here, there.send(answer, 0.0)) == [answer]
    assert events(there, here.send(messages.Manifest([], True), 0.0)) == [messages.Manifest([], True)]


def test_asking_needs_the_feature_at_both_ends() -> None:
    """A hello that signs nobody in is a refusal for whoever cannot wait; nobody waits who does not know how."""
    answer = hello("attic", features=[APPROVAL])
    here = Session(Role.CLIENT, hello("desk"), 0.0)
    here.send(here.hello, 0.0)
    refused(here, encode(answer), "untrusted")
    _, there = in_job()
    with pytest.raises(LocalProtocolError):
        there.send(messages.Waiting(JOB, 60, DIGEST), 0.0)


def test_a_second_hello() -> None:
    """Once is enough, in the same bytes too."""
    there = server()
    with pytest.raises(ProtocolError):
        events(there, encode(hello("desk")) * 2)
    here, _ = greeted()
    refused(here, encode(hello("attic", signed_in=True)), "wrong-state")


def test_what_comes_behind_a_violation_is_not_heard() -> None:
    """Events before it are given, nothing after."""
    _, there = greeted()
    there.receive(encode(Ping(1)) + b"\0\0\0\0\x7f" + encode(Ping(2)), 0.0)
    assert there.next_event(0.0) == Ping(1)
    with pytest.raises(ProtocolError):
        there.next_event(0.0)
    assert there.next_event(0.0) is None


def test_goodbye() -> None:
    """Ends both cleanly; what was still on its way is dropped."""
    here, there = greeted()
    assert events(there, here.send(Goodbye(), 0.0) + encode(Ping(0))) == [Goodbye()]
    assert here.stage is there.stage is Stage.CLOSED
    assert events(here, encode(Ping(0))) == []
    assert here.next_deadline() is None
    with pytest.raises(LocalProtocolError):
        here.send(Ping(0), 0.0)


def test_job_after_job() -> None:
    """A receipt or a refusal makes the connection ready again."""
    here, there = in_job()
    events(here, there.send(messages.Refuse(JOB, 605), 0.0))
    assert here.stage is there.stage is Stage.READY
    events(there, here.send(offer(), 0.0))
    events(here, there.send(messages.Receipt(b"", bytes(64)), 0.0))
    assert here.stage is there.stage is Stage.READY


def test_without_the_feature_there_are_no_shares() -> None:
    """One hello that does not list it is enough: nothing of it is sent or let in."""
    for ours, theirs in (((), ("pull",)), (("pull",), ()), ((), ())):
        here = Session(Role.CLIENT, hello("desk", features=ours), 0.0)
        there = Session(Role.SERVER, hello("attic", features=theirs), 0.0)
        events(there, here.send(here.hello, 0.0))
        events(here, there.send(hello("attic", signed_in=True, features=theirs), 0.0))
        with pytest.raises(LocalProtocolError):
            here.send(messages.List(JOB, [], False), 0.0)
        assert here.stage is Stage.READY
        refused(there, encode(messages.Request(JOB, [[b"a"]], [], 0)), "wrong-state")


@pytest.mark.parametrize("stage", [Stage.READY, Stage.ASKED])
def test_an_offer_of_the_wrong_kind(stage: Stage) -> None:
    """A client pushes, a server answers a request; neither does what is the other's."""
    if stage is Stage.READY:
        refused(greeted(["pull"])[1], encode(offer(kind=1)), "bad-message")
    else:
        refused(with_shares(stage)[0], encode(offer()), "bad-message")


def test_after_a_list_and_a_pull_the_connection_is_ready_again() -> None:
    """The last listing, a refusal or a receipt ends each of them."""
    here, there = with_shares(Stage.LISTING)
    events(here, there.send(messages.Listing(JOB, [], False), 0.0))
    assert here.stage is there.stage is Stage.LISTING
    events(here, there.send(messages.Listing(JOB, [], True), 0.0))
    assert here.stage is there.stage is Stage.READY
    for stage, end in ((Stage.LISTING, 1), (Stage.ASKED, 1), (Stage.PULL, 0)):
        both = with_shares(stage)
        events(both[1 - end], both[end].send(messages.Refuse(JOB, 615), 0.0))
        assert both[0].stage is both[1].stage is Stage.READY
    here, there = with_shares(Stage.PULL)
    events(there, here.send(messages.Receipt(b"", bytes(64)), 0.0))
    assert here.stage is there.stage is Stage.READY


# -- time --------------------------------------------------------------------------------------------------


@pytest.mark.case("B24", "B25")
@pytest.mark.parametrize("stage", [Stage.GREETING, Stage.GREETED])
@pytest.mark.parametrize("role", Role)
def test_the_time_to_sign_in_is_absolute(role: Role, stage: Stage) -> None:
    """Ten seconds from the start, whatever came meanwhile."""
    session = at(role, stage)
    session.receive(b"\0", 9.0)
    assert session.next_deadline() == limits.HELLO_DEADLINE
    assert session.tick(9.999) == b""
    with pytest.raises(FtxError) as caught:
        session.tick(10.0)
    assert caught.value.name == "hello-timeout"
    assert session.over


def test_a_ping_after_ten_quiet_seconds() -> None:
    """Of our own quiet: what the peer sends does not count."""
    here, _ = greeted()
    assert here.next_deadline() == limits.PING_INTERVAL
    events(here, encode(Pong(0)), 9.0)
    assert here.tick(9.99) == b""
    assert here.tick(10.0) == encode(Ping(0))
    assert here.next_deadline() == 20.0
    here.send(offer(), 15.0)
    assert here.tick(24.9) == b""
    assert here.tick(25.0) == encode(Ping(0))
    here.step(Piece, 30.0)
    assert here.tick(35.0) == b""


@pytest.mark.case("F101", "F102", "G117")
def test_silence() -> None:
    """Thirty seconds without a byte; a single byte is life."""
    here, _ = greeted()
    events(here, b"\0", 5.0)
    assert here.tick(34.9) != b""
    assert here.next_deadline() == 35.0
    with pytest.raises(FtxError) as caught:
        here.tick(35.0)
    assert caught.value.name == "peer-silent"
    assert here.over


def test_F105_crumbs_of_a_frame() -> None:
    """Bytes are life, but not for ever: the rest of a frame, or 1,024 bytes of it, within a minute."""
    _, there = in_job()
    frame_ = frame(FrameType.DATA, bytes(limits.CRAWL_LEAST + 200))
    for second in range(59):
        there.receive(frame_[second : second + 1], float(second))
        assert there.next_event(float(second)) is None
        there.tick(float(second))
    assert there.next_deadline() == limits.CRAWL_SECONDS
    assert there.tick(59.9) is not None
    with pytest.raises(FtxError, match="next to nothing") as caught:
        there.tick(60.0)
    assert caught.value.name == "peer-silent"
    assert there.over


def test_a_frame_that_gets_on_may_take_its_time() -> None:
    """As on the slowest line; and while we do not read, and between frames, nobody counts."""
    _, there = in_job()
    frame_ = frame(FrameType.DATA, bytes(4 * limits.CRAWL_LEAST))
    for step in range(4):
        there.receive(frame_[step * limits.CRAWL_LEAST : (step + 1) * limits.CRAWL_LEAST], step * 55.0)
        assert there.next_event(step * 55.0) is None
        there.last_received = step * 55.0 + 54.0
        there.tick(step * 55.0 + 54.0)
    there.reading_paused(True, 200.0)
    there.tick(400.0)
    there.reading_paused(False, 400.0)
    there.last_received = 459.0
    there.tick(459.0)
    with pytest.raises(FtxError, match="next to nothing"):
        there.tick(460.0)
    _, there = in_job()
    there.receive(encode(Ping(1)), 1.0)
    assert there.next_event(1.0) == Ping(1)
    assert there.next_event(1.0) is None
    there.last_received = 100.0
    there.tick(100.0)


@pytest.mark.case("F106", "G117")
def test_silence_while_we_do_not_read() -> None:
    """A peer that we do not read from is not silent; when we read again it has its thirty seconds anew."""
    _, there = in_job()
    there.reading_paused(True, 1.0)
    assert there.next_deadline() == limits.PING_INTERVAL
    assert there.tick(1000.0) == encode(Ping(0))
    there.reading_paused(True, 1001.0)
    there.reading_paused(False, 1002.0)
    assert there.last_received == 1002.0
    assert there.tick(1031.9)
    with pytest.raises(FtxError, match="stopped answering"):
        there.tick(1032.0)
    there = in_job()[1]
    there.reading_paused(False, 20.0)
    assert there.last_received == 0.0, "reading that was not paused proves nothing"


@pytest.mark.case("A20")
@pytest.mark.parametrize("message", [Ping(0), Pong(0)])
def test_ping_flood(message: Message) -> None:
    """A hundred in ten seconds are borne, one more is not; spread out, any number is."""
    _, there = greeted()
    now = 0.0
    for _ in range(1000):
        now += 0.1001
        events(there, encode(message), now)
    _, there = greeted()
    events(there, encode(message) * 100, 1.0)
    refused(there, encode(message), "protocol-error", 1.0)


def test_answers_are_no_flood() -> None:
    """Who asks often is answered often; pongs beyond what was asked for are counted like any other."""
    here, _ = greeted()
    asked = b"".join(here.send(Ping(0), 1.0) for _ in range(500))
    assert asked == encode(Ping(0)) * 500
    assert events(here, encode(Pong(0)) * 600, 1.0) == []
    refused(here, encode(Pong(0)), "protocol-error", 1.0)


# -- errors ------------------------------------------------------------------------------------------------


def test_errors_that_travel() -> None:
    """Those of families 4 to 8 as they are; of what is only our business just that it is, by which end we are."""
    for role, ours in ((Role.SERVER, "storage-failed"), (Role.CLIENT, "cancelled")):
        for name, row in KINDS.items():
            here, _ = greeted()
            [event] = events(here, error_frame(FtxError(name), role))
            seen = {"unknown-peer": "untrusted", "key-changed": "untrusted"}.get(name, name)
            assert error_of(event).name == (seen if row.exit_code in (4, 5, 6, 7, 8) else ours)
            assert here.stage is Stage.FAILED


def test_no_text_of_a_peer_in_an_error() -> None:
    """The number is all that crosses."""
    assert error_frame(FtxError("busy", "a secret"), Role.SERVER) == encode(ErrorMessage(605))


def test_tracing() -> None:
    """Every step is told, ours and theirs."""
    steps: list[Any] = []
    here = Session(Role.CLIENT, hello("desk"), 0.0, lambda *step: steps.append(step))
    here.send(here.hello, 0.0)
    events(here, encode(hello("attic", signed_in=True)))
    assert steps == [(Stage.GREETING, Hello, Stage.GREETED), (Stage.GREETED, Hello, Stage.READY)]
