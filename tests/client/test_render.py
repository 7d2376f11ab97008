"""Sentences, tables and JSON lines: what they say, and that no name from elsewhere gets through raw."""

from __future__ import annotations

import io
import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftx.client import render
from ftx.client.livetable import LiveLines
from ftx.client.sightings import Sightings, discovered_table, plain_line
from ftx.core.peers import Peer, TrustStore
from ftx.text import show
from ftx.wire.events import (
    Connected,
    Connecting,
    Discovered,
    Done,
    ErrorInfo,
    FileEvent,
    PeerInfo,
    Retry,
    Waiting,
    file_event,
)

GiB = 1 << 30
EVIL = "\x1b[2J\x1b]0;owned\x07\u202ecod.exe\x9b\u2066\udcff\r\n"


def done(**more: object) -> Done:
    fields: dict[str, object] = {
        "peer": PeerInfo("pi", "", "192.168.1.7", 7389),
        "result": "ok",
        "files": 214,
        "directories": 0,
        "bytes": 32 * GiB // 10,
        "bytes_wire": 32 * GiB // 10,
        "files_identical": 0,
        "files_skipped": 0,
        "files_failed": 0,
        "seconds": 29.4,
        "receipt": None,
        "exit": 0,
    }
    return Done(**(fields | more))  # type: ignore[arg-type]


def clean(text: str) -> bool:
    return show(text, len(text) + 1) == text


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (done(), "sent 214 files, 3.2 GiB to pi in 29 s (111 MiB/s), verified"),
        (
            done(files_identical=12, directories=3),
            "sent 214 files in 3 folders, 3.2 GiB to pi in 29 s (111 MiB/s), 12 identical (by size and time), "
            "the rest verified",
        ),
        (
            done(files=211, files_failed=3, result="partial", exit=9),
            "sent 211 of 214 files, 3.2 GiB to pi in 29 s (111 MiB/s), 3 failed, verified",
        ),
        (
            done(bytes_wire=GiB, seconds=10.0),
            "sent 214 files, 3.2 GiB to pi in 10 s (1.0 GiB travelled, 102 MiB/s), verified",
        ),
        (
            done(bytes_wire=0, files_identical=214, seconds=0.2),
            "sent 214 files, 3.2 GiB to pi in 0.2 s, 214 identical (by size and time)",
        ),
        (done(files=1, bytes=0, bytes_wire=0, seconds=0.0), "sent 1 file, 0 B to pi in 0.0 s, verified"),
        (done(files=1, bytes=6, bytes_wire=6, seconds=0.1), "sent 1 file, 6 B to pi in 0.1 s, verified"),
        (
            done(files=0, files_failed=2, bytes=0, bytes_wire=0, seconds=1.0, exit=6),
            "sent 0 of 2 files, 0 B to pi in 1.0 s, 2 failed",
        ),
        (
            done(peer=None, files_skipped=2, bytes_wire=0, seconds=1.0),
            "sent 214 files, 3.2 GiB to x in 1.0 s, 2 skipped, verified",
        ),
    ],
)
def test_the_last_line(event, line):
    assert render.done_line(event, "x") == line


def test_what_was_compared_by_size_and_time_is_not_called_verified():
    same = done(bytes_wire=0, files_identical=214)
    assert "verified" not in render.done_line(same)
    assert render.done_line(same, by_digest=True).endswith(", 214 identical (by digest), verified")
    assert render.done_line(done(dry_run=True, files_identical=2)).endswith(", 2 identical (by size and time)")


def test_the_lines_on_the_way():
    peer = PeerInfo("pi", "abcdefg-hijk", "192.168.1.7", 7389)
    error = ErrorInfo(404, "connection-lost", "the connection was lost", "")
    assert render.connecting_line(Connecting(peer=peer), "x") == "connecting to pi (192.168.1.7 port 7389)"
    assert render.connecting_line(Connecting(), "x") == "connecting to x"
    alone = PeerInfo("10.0.0.7", "", "10.0.0.7", 7389)
    assert render.connecting_line(Connecting(peer=alone), "x") == "connecting to 10.0.0.7 port 7389"
    assert render.connected_line(Connected(peer=peer), "x") == "connected to pi (192.168.1.7 port 7389), id abcdefg-…"
    retry = Retry(attempt=2, delay_s=1.0, error=error)
    assert render.retry_line(retry) == "the connection was lost; attempt 2 in 1.0 s"
    waiting = Waiting(peer=peer, files=3, bytes=2_200_000, deadline_s=120)
    assert render.waiting_line(waiting, "x") == "waiting for somebody at pi to approve 3 files, 2.1 MiB (2 min left)"
    stored = file_event([b"a", b"1.jpg"], job=None, peer=None, status="stored", stored_as=[b"a", b"1 (1).jpg"])
    assert render.file_line(stored) == "stored     a/1.jpg as a/1 (1).jpg"


def failed(name: str, why: str = "the name is taken", hint: str = "rename it") -> FileEvent:
    return FileEvent(path=name, status="failed", error=ErrorInfo(607, "exists", why, hint))


def test_at_most_so_many_failures_are_named_and_a_common_hint_is_given_once():
    lines = render.failure_lines([failed("a"), failed("b")], 5)
    assert lines == ["  a: the name is taken", "  b: the name is taken", "  and 3 more", "hint: rename it"]
    assert "hint" not in " ".join(render.failure_lines([failed("a"), failed("b", hint="wait")], 2))


@pytest.mark.case("K162")
@given(st.text(max_size=50), st.text(max_size=50))
def test_nothing_from_a_peer_is_shown_raw(name, other):
    peer = PeerInfo(name + EVIL, other + EVIL, EVIL, 1)
    error = ErrorInfo(101, "internal", EVIL + name, EVIL + other)
    lines = [
        render.connecting_line(Connecting(peer=peer), name),
        render.connected_line(Connected(peer=peer), name),
        render.waiting_line(Waiting(peer=peer), name),
        render.retry_line(Retry(attempt=1, delay_s=1, error=error)),
        render.done_line(done(peer=peer)),
        render.file_line(FileEvent(path=name + EVIL, stored_as=EVIL, status=other + EVIL, error=error)),
        *render.failure_lines([failed(name + EVIL, EVIL, EVIL)], 1),
        *discovered_table([discovered(name + EVIL, EVIL + other, EVIL)]),
    ]
    assert all(clean(line) for line in lines)


def discovered(name: str, identity: str, address: str, **more: object) -> Discovered:
    fields: dict[str, object] = {
        "port": 7389,
        "verified": True,
        "paired": True,
        "via": "multicast4",
        "interface": "eth0",
        "versions": [1],
    }
    return Discovered(name=name, id=identity, address=address, **(fields | more))  # type: ignore[arg-type]


def test_peers_that_answered_are_merged_by_identity_and_sorted_by_name():
    lines = discovered_table(
        [
            discovered("pi", "a" * 63, "192.168.1.7", after_s=0.0124),
            discovered("nas", "b" * 63, "fd00::5", paired=False, verified=False, via="broadcast", versions=[1, 2]),
            discovered("pi", "a" * 63, "192.168.1.7", via="broadcast"),
            discovered("pi", "a" * 63, "fe80::1%eth0", via="multicast6"),
            discovered("vm", "d" * 63, "127.0.0.1", paired=False, port=7390),
        ]
    )
    assert [re.split(r"  +", line) for line in lines] == [
        ["NAME", "ADDRESS", "HOW", "TRUST", "VERSIONS", "SEEN"],
        ["pi", "192.168.1.7:7389", "multicast4 eth0, broadcast eth0", "paired", "1", "after 12 ms"],
        ["", "[fe80::1%eth0]:7389", "multicast6 eth0"],
        ["vm", "127.0.0.1:7390", "multicast4 eth0", "mine", "1", "-"],
        ["nas", "[fd00::5]:7389", "broadcast eth0", "not paired", "1-2", "-"],
    ]


def test_peers_of_one_name_are_told_apart():
    """The paired one is that; the others are in conflict with it, and the identities are shown."""
    lines = discovered_table(
        [
            discovered("pi", "a" * 63, "192.168.1.7"),
            discovered("pi", "c" * 63, "192.168.1.9", verified=False, paired=False),
            discovered("pi", "d" * 63, "192.168.1.8", verified=False, via="dns-sd"),
        ]
    )
    rows = [re.split(r"  +", line) for line in lines]
    assert [(row[3], row[-1]) for row in rows] == [
        ("TRUST", "ID"),
        ("paired", "a" * 15 + "…"),
        ("conflict", "c" * 15 + "…"),
        ("unproven", "d" * 15 + "…"),
    ]


def test_the_plain_form_has_one_answer_in_a_line():
    line = plain_line(discovered("pi\t\n", "a" * 63, "fe80::1%eth0", conflict=True, verified=False, paired=False))
    assert line.split("\t") == [
        "here", "pi\\x09\\x0a", "[fe80::1%eth0]:7389", "multicast4", "eth0", "conflict", "1", "a" * 63,
    ]  # fmt: skip


def test_who_was_seen_when():
    """What is new is told from what is not; who is missed is gone, and an old address with nothing said of it."""
    sightings = Sightings()
    first, moved = discovered("pi", "a" * 63, "10.0.0.7"), discovered("pi", "a" * 63, "10.0.0.8")
    assert sightings.take(first, 0.0)
    assert not sightings.take(first, 5.0)
    assert sightings.take(msgspec.structs.replace(first, announced="other"), 5.0)
    assert sightings.take(moved, 10.0)
    assert sightings.ages(11.0) == {"a" * 63: 1.0}
    assert sightings.gone(10.0) == []
    assert [one.address for one in sightings.events()] == ["10.0.0.8"]
    assert [(one.id, one.state) for one in sightings.gone(10.5)] == [("a" * 63, "gone")]
    assert sightings.events() == []
    sightings.take(first, 20.0)
    sightings.drop("a" * 63)
    assert sightings.events() == []
    assert discovered_table([first], {"a" * 63: 7.2})[1].endswith("7 s ago")


def test_lines_are_drawn_over_and_fit_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "10")
    monkeypatch.setenv("LINES", "5")
    stream = io.StringIO()
    live = LiveLines(stream)
    live.draw(["short", "much too long a line"])
    live.draw(["日本日本日本", "b", "c", "d", "e"])
    live.clear()
    live.clear()
    assert stream.getvalue() == (
        "short\x1b[K\nmuch too …\x1b[K\n\x1b[J"
        "\x1b[2F日本日本…\x1b[K\nb\x1b[K\nand 3 more\x1b[K\n\x1b[J"
        "\x1b[3F\x1b[J"
    )


def test_a_paired_peer_is_listed_by_the_name_it_is_paired_by():
    lines = discovered_table([discovered("loft", "a" * 63, "10.0.0.7", announced="attic")])
    assert lines[1].startswith("loft (calls itself attic)  10.0.0.7:7389")


def test_wide_and_combining_characters_keep_the_columns_straight():
    lines = render.table(("A", "B"), [("日本", "x"), ("cafe\u0301", "y"), ("plain", "z")])
    assert lines == ["A      B", "日本   x", "cafe\u0301   y", "plain  z"]


def test_the_table_of_peers():
    store = TrustStore((Peer("pi", bytes(32), ("10.0.0.7",), "2026-11-22T09:30:00Z", "2026-11-22T10:00:00Z"),))
    assert re.split(r"  +", render.peers_table(store)[1])[-2:] == ["10.0.0.7", "2026-11-22 10:00"]


@pytest.mark.case("K172")
@given(st.text())
def test_a_json_line_is_plain_ascii_and_means_what_it_meant(text):
    line = render.json_line({"path": text})
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {"path": text}


def test_an_event_becomes_one_line_with_its_name_first():
    line = render.json_line(done(peer=PeerInfo("日本😀")))
    assert json.loads(line)["peer"]["name"] == "日本😀"
    assert json.loads(line)["event"] == "done"
    assert "\n" not in line


def test_a_command_is_only_advised_when_it_can_be_copied():
    assert render.command_line(["ftx-client", "send", "a b", "pi:"]) == "ftx-client send 'a b' pi:"
    assert render.command_line(["ftx-client", "send", "\x1b[2J", "pi:"]) == ""
    assert render.command_line(["ftx-client", "send", *["photo.jpg"] * 1000, "pi:"]) == ""
