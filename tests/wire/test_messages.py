"""Control messages: every field at and beyond its range, by bodies written by hand; and any body at all."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.decoding import check, outcome

from ftx import limits
from ftx.errors import ProtocolError
from ftx.wire import messages
from ftx.wire.frames import AFTER_SIGN_IN, BEFORE_SIGN_IN, WHILE_PAIRING, Frame, FrameType, after_sign_in, frame
from ftx.wire.messages import FEATURES, decode, decode_receipt_body, encode, encode_receipt_body

JOB = bytes(range(16))
DIGEST = bytes(range(32))
U31, U63 = 2**31 - 1, 2**63 - 1

FILE = [0, 0, [b"a.txt"], 5, 1_700_000_000_000_000_000, 0o644]
FOLDER = [1, 1, [b"sub"]]
FOLDER_END = [2, 1, 0o755, -1]
ITEM = [0, [b"a.txt"], 5, -1, 0o644, 0]
OMISSION = [[b"pipe"], 305]
GROUP = [1, 3, 0, b"\x05", True]

#: One valid body of every type, as plain lists in the order of the specification's tables, and its message.
BODIES: dict[FrameType, tuple[list[Any], messages.Message]] = {
    FrameType.HELLO: (
        ["ftx", 1, 1, [], "desk", "ftx 0.1.0", False],
        messages.Hello("ftx", 1, 1, [], "desk", "ftx 0.1.0", False),
    ),
    FrameType.ERROR: ([501], messages.ErrorMessage(501)),
    FrameType.GOODBYE: ([], messages.Goodbye()),
    FrameType.PING: ([7], messages.Ping(7)),
    FrameType.PONG: ([7], messages.Pong(7)),
    FrameType.OFFER: (
        [JOB, 0, [b"in"], None, None, 2, 3],
        messages.Offer(JOB, 0, [b"in"], None, None, 2, 3),
    ),
    FrameType.ACCEPT: ([JOB, 2048, 4096, 2, 0], messages.Accept(JOB, 2048, 4096, 2, 0)),
    FrameType.REFUSE: ([JOB, 605], messages.Refuse(JOB, 605)),
    FrameType.TOTALS: ([1, 2, 3], messages.Totals(1, 2, 3)),
    FrameType.MANIFEST: (
        [[FILE, FOLDER, FOLDER_END], True],
        messages.Manifest(
            [
                messages.FileEntry(0, [b"a.txt"], 5, 1_700_000_000_000_000_000, 0o644),
                messages.FolderEntry(1, [b"sub"]),
                messages.FolderEnd(1, 0o755, -1),
            ],
            True,
        ),
    ),
    FrameType.NEEDS: (
        [[[0, 0], GROUP]],
        messages.Needs([messages.WantAll(0), messages.WantGroup(3, 0, b"\x05", True)]),
    ),
    FrameType.ENTRY_FAILED: ([0, 303], messages.EntryFailed(0, 303)),
    FrameType.ENTRY_END: ([0, 5, DIGEST], messages.EntryEnd(0, 5, DIGEST)),
    FrameType.RESULTS: (
        [[[0, 0, DIGEST, None], [0, 1, b"", [b"x"]], [1, 2, DIGEST, [b"a", b"b"]], [2, 3], [3, 4, 606]]],
        messages.Results(
            [
                messages.Stored(0, DIGEST, None),
                messages.Stored(1, b"", [b"x"]),
                messages.Identical(2, DIGEST, [b"a", b"b"]),
                messages.Skipped(3),
                messages.Failed(4, 606),
            ]
        ),
    ),
    FrameType.PROGRESS: ([5, 4, 1], messages.ProgressMessage(5, 4, 1)),
    FrameType.END: ([1, 2, 3, DIGEST], messages.End(1, 2, 3, DIGEST)),
    FrameType.RECEIPT: ([b"body", bytes(64)], messages.Receipt(b"body", bytes(64))),
    FrameType.PAUSE: ([JOB], messages.Pause(JOB)),
    FrameType.RESUME: ([JOB], messages.Resume(JOB)),
    FrameType.CANCEL: ([JOB, 1, 5], messages.Cancel(JOB, 1, 5)),
    FrameType.WAITING: ([JOB, 60, DIGEST], messages.Waiting(JOB, 60, DIGEST)),
    FrameType.REVEAL: ([JOB, DIGEST], messages.Reveal(JOB, DIGEST)),
    FrameType.BASIS: ([1, 2, DIGEST * 2], messages.Basis(1, 2, DIGEST * 2)),
    FrameType.PAIR_START: ([bytes(33)], messages.PairStart(bytes(33))),
    FrameType.PAIR_REPLY: ([bytes(33)], messages.PairReply(bytes(33))),
    FrameType.PAIR_CONFIRM: ([DIGEST, 7389], messages.PairConfirm(DIGEST, 7389)),
    FrameType.PAIR_DONE: ([DIGEST], messages.PairDone(DIGEST)),
    FrameType.LIST: ([JOB, [b"s", b"a"], True], messages.List(JOB, [b"s", b"a"], True)),
    FrameType.LISTING: (
        [JOB, [[0, [], 5, -1, 0o644, 0], [1, [b"a", b"b"], 0, 1, 0, 302]], False],
        messages.Listing(
            JOB,
            [
                messages.Item(messages.ItemKind.FILE, [], 5, -1, 0o644, 0),
                messages.Item(messages.ItemKind.FOLDER, [b"a", b"b"], 0, 1, 0, 302),
            ],
            False,
        ),
    ),
    FrameType.REQUEST: (
        [JOB, [[b"s"], [b"s", b"a"]], ["*.tmp"], 0],
        messages.Request(JOB, [[b"s"], [b"s", b"a"]], ["*.tmp"], 0),
    ),
    FrameType.OMITTED: (
        [[[[b"a"], 302], [[b"b"], 305]]],
        messages.Omitted([messages.Omission([b"a"], 302), messages.Omission([b"b"], 305)]),
    ),
    FrameType.JOIN: ([JOB, 7, DIGEST], messages.Join(JOB, 7, DIGEST)),
    FrameType.JOINED: ([JOB, True], messages.Joined(JOB, True)),
    FrameType.PROBE: ([JOB, 1, 5], messages.Probe(JOB, messages.ProbeKind.DOWN, 5)),
    FrameType.PROBE_READY: ([JOB], messages.ProbeReady(JOB)),
    FrameType.PROBE_END: ([JOB, 5], messages.ProbeEnd(JOB, 5)),
    FrameType.PROBE_DONE: ([JOB, 5, 1, 2, 3, 4, 5, 6, 7, -8], messages.ProbeDone(JOB, 5, 1, 2, 3, 4, 5, 6, 7, -8)),
}
CONTROL = [kind for kind in FrameType if kind is not FrameType.DATA]

COUNT = ([0, U63], [-1, U63 + 1, 2**64 - 1, None, 1.0, True, "1", b"1", []])
NUMBER = ([0, U31], [-1, U31 + 1, None, 1.0, False, "1"])
ERROR = ([100, 20_000, 999], [99, 20_001, 0, -501, None])
JOBS = ([bytes(16)], [b"", bytes(15), bytes(17), None, "x" * 16, 7])
DIGESTS = ([bytes(32)], [b"", bytes(31), bytes(33), None, "x" * 32])
ELEMENTS = ([bytes(range(33))], [b"", b"x", bytes(32), bytes(34), bytes(200), None, "x" * 33])
PATHS = (
    [[b"x"], [b"x" * 255], [b"x"] * 64, [b"x" * 63] * 63 + [b"x" * 64], [b"..."], [b" "], [b"\xff\x01"]],
    [[], [b""], [b"x" * 256], [b"x"] * 65, [b"x", b""], None, b"x", ["x"], [["x"]], {}],
)
#: Paths that are well formed and still never are paths.
BAD_NAMES = [
    [b"."],
    [b".."],
    [b"a", b".."],
    [b"..", b"a"],
    [b"a/b"],
    [b"/"],
    [b"a\0"],
    [b"x" * 63] * 63 + [b"x" * 65],
    [b"x" * 255] * 17,
]
#: Type, where in the body, values that are in range, values that are not.
RANGES: list[tuple[FrameType, tuple[int, ...], list[Any], list[Any]]] = [
    (FrameType.HELLO, (0,), ["ftx", "", "8" * 8], ["9" * 9, None, 1, b"ftx"]),
    (FrameType.HELLO, (1,), [1, 255], [0, 256, -1, None]),
    (FrameType.HELLO, (2,), [1, 255], [0, 256, -1, None]),
    (FrameType.HELLO, (3,), [["x"], ["x" * 32] * 32], [["x"] * 33, [""], ["x" * 33], [1], None, "x"]),
    (FrameType.HELLO, (4,), ["", "x" * 64, "é" * 64], ["x" * 65, None, b"x", 1]),
    (FrameType.HELLO, (5,), ["", "x" * 64], ["x" * 65, None, b"x", 1]),
    (FrameType.HELLO, (6,), [True], [0, 1, None, "true"]),
    (FrameType.ERROR, (0,), *ERROR),
    (FrameType.PING, (0,), *COUNT),
    (FrameType.PONG, (0,), *COUNT),
    (FrameType.OFFER, (0,), *JOBS),
    (FrameType.OFFER, (1,), [0, 1, 2], [3, -1, None]),
    (FrameType.BASIS, (0,), *NUMBER),
    (FrameType.BASIS, (1,), [0, 131_071], [131_072, -1, None]),
    (FrameType.BASIS, (2,), [bytes(32), bytes(32_768)], [b"", bytes(31), bytes(32_769), None]),
    (FrameType.OFFER, (2,), [*PATHS[0], []], PATHS[1][1:]),
    (FrameType.OFFER, (3,), [None, 0, 4], [5, -1, "fail"]),
    *((FrameType.OFFER, (place,), [*COUNT[0], None], [-1, U63 + 1, 1.0, True]) for place in (4, 5, 6)),
    (FrameType.ACCEPT, (0,), *JOBS),
    (FrameType.ACCEPT, (1,), [512, 65_535], [0, 511, 65_536, None]),
    (FrameType.ACCEPT, (2,), [512, 65_535], [0, 511, 65_536, None]),
    (FrameType.ACCEPT, (3,), [0, 4], [5, -1, None]),
    (FrameType.ACCEPT, (4,), [0, 1], [2, -1, None, True]),
    (FrameType.REFUSE, (0,), *JOBS),
    (FrameType.REFUSE, (1,), *ERROR),
    *((FrameType.TOTALS, (place,), *COUNT) for place in range(3)),
    (FrameType.LIST, (0,), *JOBS),
    (FrameType.LIST, (1,), [*PATHS[0], []], PATHS[1][1:]),
    (FrameType.LIST, (2,), [True, False], [0, None]),
    (FrameType.LISTING, (0,), *JOBS),
    (FrameType.LISTING, (1,), [[], [ITEM] * 512], [[ITEM] * 513, None, [[]], [None], 5]),
    (FrameType.LISTING, (2,), [True], [0, None]),
    (FrameType.LISTING, (1, 0, 0), [0, 1, 2, 3, 4], [5, -1, None, "0"]),
    (FrameType.LISTING, (1, 0, 2), *COUNT),
    (FrameType.LISTING, (1, 0, 3), [-(2**63), U63], [-(2**63) - 1, U63 + 1, None, 1.0]),
    (FrameType.LISTING, (1, 0, 4), [0, 0o777], [0o1000, -1, None]),
    (FrameType.LISTING, (1, 0, 5), [0, 20_000], [20_001, -1, None]),
    (FrameType.REQUEST, (0,), *JOBS),
    (FrameType.REQUEST, (1,), [[[b"x"]] * limits.REQUEST_PATHS], [[[b"x"]] * (limits.REQUEST_PATHS + 1), [], [[]]]),
    (FrameType.REQUEST, (2,), [[], ["x" * limits.PATTERN]], [[""], ["x" * (limits.PATTERN + 1)], [b"x"], None]),
    (FrameType.REQUEST, (2,), [["x"] * limits.REQUEST_PATTERNS], [["x"] * (limits.REQUEST_PATTERNS + 1)]),
    (FrameType.REQUEST, (3,), [0, 1, 2], [3, -1, None]),
    (FrameType.OMITTED, (0,), [[OMISSION] * 512], [[], [OMISSION] * 513, None, [[]]]),
    *(
        (kind, (0,), *JOBS)
        for kind in (FrameType.PROBE, FrameType.PROBE_READY, FrameType.PROBE_END, FrameType.PROBE_DONE)
    ),
    *((kind, (0,), *JOBS) for kind in (FrameType.JOIN, FrameType.JOINED)),
    (FrameType.JOIN, (1,), [1, 7], [-1, 0, 8, None, "1", True]),
    (FrameType.JOIN, (2,), [bytes(32)], [b"", bytes(31), bytes(33), None, "x" * 32]),
    (FrameType.JOINED, (1,), [False, True], [0, 1, None]),
    (FrameType.PROBE, (1,), [0, 1, 2], [-1, 3, None, "0"]),
    (FrameType.PROBE, (2,), [1, 2**24], [-1, 0, 2**24 + 1, None]),
    *((kind, (1,), [0, 2**24], [-1, 2**24 + 1, None]) for kind in (FrameType.PROBE_END, FrameType.PROBE_DONE)),
    *((FrameType.PROBE_DONE, (place,), *COUNT) for place in range(2, 9)),
    (FrameType.OMITTED, (0, 0, 0), *PATHS),
    (FrameType.OMITTED, (0, 0, 1), *ERROR),
    (FrameType.MANIFEST, (0,), [[], [FOLDER_END] * 512], [[FOLDER_END] * 513, None, [[]], [None], [5], {}]),
    (FrameType.MANIFEST, (1,), [False], [0, None]),
    (FrameType.MANIFEST, (0, 0, 0), [], [3, 4, 255, -1, None, "0", 0.0]),
    (FrameType.MANIFEST, (0, 0, 1), *NUMBER),
    (FrameType.MANIFEST, (0, 0, 2), *PATHS),
    (FrameType.MANIFEST, (0, 0, 3), *COUNT),
    (FrameType.MANIFEST, (0, 0, 4), [-(2**63), U63], [-(2**63) - 1, U63 + 1, None, 1.0]),
    (FrameType.MANIFEST, (0, 0, 5), [0, 0o777], [0o1000, 0o4755, -1, None]),
    (FrameType.MANIFEST, (0, 1, 1), *NUMBER),
    (FrameType.MANIFEST, (0, 1, 2), *PATHS),
    (FrameType.MANIFEST, (0, 2, 1), *NUMBER),
    (FrameType.MANIFEST, (0, 2, 2), [0, 0o777], [0o1000, -1, None]),
    (FrameType.MANIFEST, (0, 2, 3), [-(2**63), U63], [U63 + 1, None]),
    (FrameType.NEEDS, (0,), [[[0, 0]], [[0, 0]] * 512], [[], [[0, 0]] * 513, None]),
    (FrameType.NEEDS, (0, 0, 0), [], [2, -1, None]),
    (FrameType.NEEDS, (0, 0, 1), *NUMBER),
    (FrameType.NEEDS, (0, 1, 1), *NUMBER),
    (FrameType.NEEDS, (0, 1, 2), [0, 2**40], [-1, 2**40 + 1, None]),
    (FrameType.NEEDS, (0, 1, 3), [b"\0", bytes(1024)], [b"", bytes(1025), None, "x"]),
    (FrameType.NEEDS, (0, 1, 4), [False], [0, None]),
    (FrameType.ENTRY_FAILED, (0,), *NUMBER),
    (FrameType.ENTRY_FAILED, (1,), *ERROR),
    (FrameType.ENTRY_END, (0,), *NUMBER),
    (FrameType.ENTRY_END, (1,), *COUNT),
    (FrameType.ENTRY_END, (2,), *DIGESTS),
    (FrameType.RESULTS, (0,), [[[2, 3]], [[2, 3]] * 512], [[], [[2, 3]] * 513, None]),
    (FrameType.RESULTS, (0, 0, 0), [], [4, 255, -1, None]),
    (FrameType.RESULTS, (0, 0, 1), *NUMBER),
    (FrameType.RESULTS, (0, 0, 2), [b"", bytes(32)], [bytes(33), None, "x"]),
    (FrameType.RESULTS, (0, 0, 3), [*PATHS[0], None], [value for value in PATHS[1] if value is not None]),
    (FrameType.RESULTS, (0, 2, 2), *DIGESTS),
    (FrameType.RESULTS, (0, 2, 3), [*PATHS[0], None], [value for value in PATHS[1] if value is not None]),
    (FrameType.RESULTS, (0, 3, 1), *NUMBER),
    (FrameType.RESULTS, (0, 4, 2), *ERROR),
    (FrameType.PROGRESS, (0,), *COUNT),
    (FrameType.PROGRESS, (1,), *COUNT),
    (FrameType.PROGRESS, (2,), [0, 1], [2, -1, None]),
    *((FrameType.END, (place,), *COUNT) for place in range(3)),
    (FrameType.END, (3,), *DIGESTS),
    (FrameType.RECEIPT, (0,), [b"", bytes(1024)], [bytes(1025), None, "x"]),
    (FrameType.RECEIPT, (1,), [bytes(range(64))], [b"", bytes(63), bytes(65), None]),
    *((kind, (0,), *JOBS) for kind in (FrameType.PAUSE, FrameType.RESUME, FrameType.CANCEL)),
    *((FrameType.CANCEL, (place,), *COUNT) for place in (1, 2)),
    *((kind, (0,), *JOBS) for kind in (FrameType.WAITING, FrameType.REVEAL)),
    (FrameType.WAITING, (1,), [0, 3600], [-1, 3601, None, 1.0, "1"]),
    (FrameType.WAITING, (2,), *DIGESTS),
    (FrameType.REVEAL, (1,), *DIGESTS),
    *((kind, (0,), *ELEMENTS) for kind in (FrameType.PAIR_START, FrameType.PAIR_REPLY)),
    *((kind, (0,), *DIGESTS) for kind in (FrameType.PAIR_CONFIRM, FrameType.PAIR_DONE)),
    (FrameType.PAIR_CONFIRM, (1,), [0, 65_535], [-1, 65_536, None, 1.0, "1"]),
    *((kind, (0,), *JOBS) for kind in (FrameType.LIST, FrameType.LISTING, FrameType.REQUEST)),
    (FrameType.LISTING, (1, 0, 0), [0, 1, 2, 3, 4], [-1, 5, None, "0"]),
    (FrameType.LISTING, (1, 0, 2), *COUNT),
    (FrameType.LISTING, (1, 0, 4), [0, 0o777], [-1, 0o1000, None]),
    (FrameType.LISTING, (1, 0, 5), [0, 302, 20_000], [-1, 20_001, None]),
    (FrameType.REQUEST, (1,), [[[b"x"]], [[b"x"]] * 64], [[], [[]], [[b""]], [[b"x"]] * 65, None]),
    (FrameType.REQUEST, (2,), [[], ["x" * 255], ["x"] * 64], [[""], ["x" * 256], ["x"] * 65, [b"x"], None]),
    (FrameType.REQUEST, (3,), [0, 2], [-1, 3, None]),
    (FrameType.OMITTED, (0, 0, 0), *PATHS),
    (FrameType.OMITTED, (0, 0, 1), *ERROR),
]


def bounds_of(kind: FrameType) -> Mapping[int, int]:
    """Bounds under which frames of this type may come."""
    agreed = after_sign_in({*FEATURES, "pull"})
    return agreed if kind in agreed else WHILE_PAIRING


def wire(kind: FrameType, body: Any) -> bytes:
    """A frame whose body is `body`, by the book."""
    return frame(kind, msgspec.msgpack.encode(body))


def changed(kind: FrameType, place: tuple[int, ...], value: Any) -> list[Any]:
    """The valid body of `kind` with another value at `place`."""
    body = copy.deepcopy(BODIES[kind][0])
    inner: Any = body
    for index in place[:-1]:
        inner = inner[index]
    inner[place[-1]] = value
    return body


def test_every_type_has_a_case() -> None:
    """Nothing is forgotten here when a type is added."""
    assert set(BODIES) == set(CONTROL)


@pytest.mark.parametrize("kind", CONTROL)
def test_each_message_both_ways(kind: FrameType) -> None:
    """A body written by hand is the message, however it is cut; and the message is written as that body."""
    body, message = BODIES[kind]
    check(wire(kind, body), [message], bounds=bounds_of(kind))
    assert encode(message) == wire(kind, body)


@pytest.mark.parametrize("kind", [FrameType.HELLO, FrameType.ERROR])
def test_before_sign_in(kind: FrameType) -> None:
    """The two types that may come before."""
    check(wire(kind, BODIES[kind][0]), [BODIES[kind][1]], bounds=BEFORE_SIGN_IN)


@pytest.mark.case("A11")
@pytest.mark.parametrize("kind", CONTROL)
def test_fields_too_few_too_many_and_bytes_behind(kind: FrameType) -> None:
    """A body has exactly the fields agreed on, and nothing behind them."""
    body = BODIES[kind][0]
    if body:
        check(wire(kind, body[:-1]), [], "bad-message", bounds_of(kind))
    for more in (None, 0, "x", []):
        check(wire(kind, [*body, more]), [], "bad-message", bounds_of(kind))
    encoded = msgspec.msgpack.encode(body)
    check(frame(kind, encoded + b"\0"), [], "bad-message", bounds_of(kind))
    check(frame(kind, encoded + encoded), [], "bad-message", bounds_of(kind))
    check(frame(kind, b""), [], "bad-message", bounds_of(kind))
    check(frame(kind, encoded[:-1]), [], "bad-message", bounds_of(kind))
    for other in (None, 5, "x", b"x", {}, {"a": 1}, True, 1.5):
        check(wire(kind, other), [], "bad-message", bounds_of(kind))


def _inner() -> list[tuple[FrameType, int]]:
    return [
        (kind, place)
        for kind in (FrameType.MANIFEST, FrameType.NEEDS, FrameType.RESULTS)
        for place in range(len(BODIES[kind][0][0]))
    ]


@pytest.mark.case("C60")
@pytest.mark.parametrize(("kind", "place"), _inner())
def test_entries_too_short_and_too_long(kind: FrameType, place: int) -> None:
    """The same for every element of a union."""
    entry = BODIES[kind][0][0][place]
    for other in (entry[:-1], [*entry, 0], [], [entry[0]], None, {}):
        check(wire(kind, changed(kind, (0, place), other)), [], "bad-message", bounds_of(kind))


@pytest.mark.case("A13", "C53", "C59")
@pytest.mark.parametrize(("kind", "place", "good", "bad"), RANGES, ids=[f"{k.name} {p}" for k, p, _, _ in RANGES])
def test_every_range(kind: FrameType, place: tuple[int, ...], good: list[Any], bad: list[Any]) -> None:
    """The first and the last value of every field are taken; the next one, and other types, are not."""
    for value in good:
        sent = wire(kind, changed(kind, place, value))
        assert outcome([sent], bounds_of(kind))[1] is None, value
        message = outcome([sent], bounds_of(kind))[0][0]
        assert isinstance(message, messages.Message)
        assert encode(message) == sent, "nothing is lost or made up"
    for value in bad:
        try:
            sent = wire(kind, changed(kind, place, value))
        except OverflowError:
            continue  # cannot even be written
        assert outcome([sent], bounds_of(kind)) == ([], "bad-message"), value


@pytest.mark.case("C49")
@pytest.mark.parametrize("path", BAD_NAMES, ids=lambda path: repr(path[:2])[:30])
@pytest.mark.parametrize(
    ("kind", "place"),
    [
        (FrameType.OFFER, (2,)),
        (FrameType.MANIFEST, (0, 0, 2)),
        (FrameType.MANIFEST, (0, 1, 2)),
        (FrameType.RESULTS, (0, 0, 3)),
        (FrameType.RESULTS, (0, 2, 3)),
        (FrameType.LIST, (1,)),
        (FrameType.LISTING, (1, 1, 1)),
        (FrameType.REQUEST, (1, 1)),
        (FrameType.OMITTED, (0, 0, 0)),
    ],
)
def test_what_is_never_a_path(kind: FrameType, place: tuple[int, ...], path: list[bytes]) -> None:
    """Wherever a path may stand, in either direction."""
    assert outcome([wire(kind, changed(kind, place, path))], bounds_of(kind)) == ([], "bad-name")


def test_integers_need_not_be_short() -> None:
    """`Decoders MAY accept integers that are not in their shortest form`: ours does, tags included."""
    long = b"\xcf" + (5).to_bytes(8, "big")
    assert decode(Frame(FrameType.PING, b"\x91" + long)) == messages.Ping(5)
    assert decode(Frame(FrameType.PING, b"\xdd\x00\x00\x00\x01" + long)) == messages.Ping(5)
    assert decode(Frame(FrameType.NEEDS, b"\x91\x91\x92\xcd\x00\x00" + long)) == messages.Needs([messages.WantAll(5)])


@pytest.mark.case("A12", "A14", "A15")
@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        b"\x91" * 60_000,
        b"\x92" + b"\x91" * 60_000,
        b"\x81" * 60_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x92\xdd\xff\xff\xff\xff\x00\xc3",
        b"\x91\xd6\xff\x00\x00\x00\x01",
        b"\x91\xd4\x05\x00",
        b"\x91\xa3\xff\xff\xff",
        b"\x91\xa3\xed\xa0\x80",
    ],
    ids=lambda body: body[:6].hex(),
)
def test_what_messagepack_can_do_to_a_decoder(body: bytes) -> None:
    """Deep nesting, enormous lengths, extensions, text that is none: one kind of error, for every type."""
    for kind in CONTROL:
        with pytest.raises(ProtocolError) as caught:
            decode(Frame(kind, body))
        assert caught.value.name == "bad-message"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.integers(0, 9), inner, max_size=2),
    max_leaves=30,
)


def _decodes(kind: FrameType, body: bytes) -> None:
    try:
        message = decode(Frame(kind, body))
    except ProtocolError as error:
        name = error.name
    else:
        name = ""
        assert decode(Frame(kind, encode(message)[5:])) == message
    assert name in ("", "bad-message", "bad-name")


@settings(max_examples=40)
@given(st.binary(max_size=300))
def test_random_bytes(body: bytes) -> None:
    """Any bytes as the body of any type: a message in range, or one of two errors."""
    for kind in CONTROL:
        _decodes(kind, body)


@settings(max_examples=40)
@given(st.lists(VALUES, max_size=8))
def test_random_values(body: list[Any]) -> None:
    """Well-formed MessagePack that means nothing."""
    encoded = msgspec.msgpack.encode(body)
    for kind in CONTROL:
        _decodes(kind, encoded)


@settings(max_examples=60)
@given(kind=st.sampled_from(CONTROL), position=st.integers(0, 10_000), patch=st.binary(min_size=0, max_size=3))
def test_damaged_messages(kind: FrameType, position: int, patch: bytes) -> None:
    """A valid body with a few bytes cut out or replaced."""
    body = msgspec.msgpack.encode(BODIES[kind][0])
    position %= len(body)
    _decodes(kind, body[:position] + patch + body[position + 1 :])


# -- what a body can make of itself ------------------------------------------------------------------------

#: Bytes of heap that a body of 64 KiB may lead to: measured 0.73 MB; the most is in path components of two bytes.
HEAP = 1024 * 1024


def _fill(entry: list[Any], most: int = limits.BATCH) -> list[Any]:
    """As many of `entry` as fit a batch frame."""
    size = len(msgspec.msgpack.encode(entry))
    return [entry] * min(most, (limits.FRAME_BATCH - 10) // size)


WORST = [
    (FrameType.MANIFEST, [_fill([0, U31, [b"ab"] * 31, U63, U63, 0o777]), True]),
    (FrameType.MANIFEST, [_fill([1, U31, [b"ab"] * 31]), True]),
    (FrameType.MANIFEST, [_fill([1, U31, [b"ab"] * 64]), True]),
    (FrameType.MANIFEST, [_fill([2, U31, 0, U63]), True]),
    (FrameType.NEEDS, [_fill([1, U31, 2**40, bytes(100), True])]),
    (FrameType.NEEDS, [_fill([0, U31])]),
    (FrameType.RESULTS, [_fill([0, U31, bytes(32), [b"ab"] * 21])]),
    (FrameType.RESULTS, [_fill([1, U31, bytes(32), [b"abc"] * 18])]),
]


@pytest.mark.parametrize(("kind", "body"), WORST)
def test_the_heap_of_the_worst_body(kind: FrameType, body: Any) -> None:
    """64 KiB on the wire never become more than a stated multiple in memory, not even for a moment."""
    encoded = msgspec.msgpack.encode(body)
    assert len(encoded) <= AFTER_SIGN_IN[kind]
    item = Frame(kind, encoded)
    tracemalloc.start()
    try:
        message = decode(item)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert encode(message)[5:] == encoded
    assert peak < HEAP, peak


# -- the receipt's body ------------------------------------------------------------------------------------

RECEIPT = [JOB, DIGEST, DIGEST, 1, 2, 3, 4, 5, 6, 7, 8, 0, DIGEST]


def test_the_receipt_body() -> None:
    """Thirteen fields, in order, each in range; anything else is one error."""
    body = messages.ReceiptBody(*RECEIPT)  # type: ignore[arg-type]
    encoded = msgspec.msgpack.encode(RECEIPT)
    assert encode_receipt_body(body) == encoded
    assert decode_receipt_body(encoded) == body
    assert len(encode_receipt_body(messages.ReceiptBody(JOB, DIGEST, DIGEST, *[U63] * 8, 1, DIGEST))) < 1024
    bad: list[Any] = [RECEIPT[:-1], [*RECEIPT, 0], None, [], {}]
    for place, value in [(0, bytes(15)), (1, bytes(31)), (2, b""), (3, U63 + 1), (5, -1), (11, 2), (12, bytes(33))]:
        bad.append([*RECEIPT[:place], value, *RECEIPT[place + 1 :]])
    for other in bad:
        with pytest.raises(ProtocolError) as caught:
            decode_receipt_body(msgspec.msgpack.encode(other))
        assert caught.value.name == "bad-message"
    with pytest.raises(ProtocolError):
        decode_receipt_body(encoded + b"\0")
