"""First contact without pairing: somebody is asked, compares the words, and says yes, no, or nothing."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from support.hostile import Hostile
from support.lab import Client, Daemon, Lab, until
from support.trees import make_tree, snapshot, visible

from ftx import limits
from ftx.core.session import APPROVAL
from ftx.disk.keys import Identity, load
from ftx.wire import messages
from ftx.wire.messages import Hello, Offer, Reveal, Totals, Waiting


def _asking(lab: Lab, *options: str) -> Daemon:
    """A daemon that asks, and a sender that knows it."""
    daemon = lab.daemon("receiver", "--accept", "ask", *options)
    lab.pair("sender", "receiver", "attic")
    return daemon


def _offer(daemon: Daemon) -> dict[str, Any]:
    found: list[dict[str, Any]] = until(lambda: daemon.call("offers.list")["offers"], "an offer waits", said=daemon)
    assert len(found) == 1
    return found[0]


def _waiting(client: Client) -> dict[str, Any]:
    return client.reaches("waiting")


@pytest.mark.case("C68")
def test_an_unknown_sender_is_let_in_once(lab: Lab) -> None:
    """Both screens show the same words; nothing arrives before the yes; the next offer is asked about again."""
    make_tree(lab.root / "source", {"a": 10, "b/c": 3_000_000})
    daemon = _asking(lab)
    client = lab.sending(daemon.url, "source", home="sender")
    offer = _offer(daemon)
    assert (offer["who"], offer["files"], offer["bytes"]) == ("unknown", 2, 3_000_010)
    assert offer["peer"]["id"] == lab.identity("sender")
    assert _waiting(client)["phrase"] == offer["phrase"]
    assert visible(daemon.inbox) == {}
    assert daemon.call("daemon.status")["jobs"]["waiting"] == 1
    listed = lab.client("ctl", "offers", home="receiver").ends()
    assert listed.events[0]["offers"][0]["phrase"] == offer["phrase"]
    lab.client("ctl", "approve", offer["job"][:8], home="receiver").ends()
    client.ends()
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    log = daemon.text()
    assert f"words {offer['phrase']}" in log
    assert "approved by user 0" in log
    assert daemon.call("peers.list")["peers"] == []
    second = lab.sending(daemon.url, "source", home="sender")
    job = _offer(daemon)["job"]
    lab.client("ctl", "deny", job, "not", "today", home="receiver").ends()
    assert second.ends(6).failure()["name"] == "denied"
    assert "denied by user 0: not today" in daemon.text()
    daemon.clean_log()


def test_always_pairs_the_sender(lab: Lab) -> None:
    """Under a name of one's own; the next offer is not asked about."""
    (lab.root / "a").write_bytes(b"1")
    daemon = _asking(lab)
    client = lab.sending(daemon.url, "a", home="sender")
    offer = _offer(daemon)
    lab.client("ctl", "approve", "--always", offer["job"], "desk", home="receiver").ends()
    client.ends()
    assert [peer["name"] for peer in daemon.call("peers.list")["peers"]] == ["desk"]
    assert "added by user 0" in daemon.text()
    assert lab.send(daemon, "a", home="sender").one("done")["files_identical"] == 1


@pytest.mark.case("C68")
def test_nobody_answers(lab: Lab) -> None:
    """After its time an offer is refused, and both sides say so."""
    (lab.root / "a").write_bytes(b"1")
    daemon = _asking(lab, "--approval-timeout", "1")
    refused = lab.send(daemon, "a", home="sender", code=6)
    assert refused.failure()["name"] == "approval-timeout"
    assert _waiting(refused)["deadline_s"] == 1.0
    assert daemon.call("offers.list")["offers"] == []
    assert visible(daemon.inbox) == {}


def test_a_paired_sender_is_asked_about_where_a_rule_says_so(lab: Lab) -> None:
    """The same words, the same answers."""
    (lab.root / "a").write_bytes(b"1")
    daemon = lab.daemon("receiver")
    lab.pair("receiver", "sender", "desk")
    lab.pair("sender", "receiver", "attic")
    (daemon.home / "config.toml").write_text("[[rule]]\ntitle = 'ask me'\naction = 'ask'\npeer = 'desk'\n")
    until(lambda: "rights and rules were read again" in daemon.text(), "the rules are read", said=daemon)
    client = lab.sending(daemon.url, "a", home="sender")
    offer = _offer(daemon)
    assert (offer["who"], offer["peer"]["name"], offer["why"]) == ("paired", "desk", "ask me")
    daemon.call("offers.approve", job=offer["job"])
    client.ends()


def test_an_unknown_receiver_needs_a_person_at_both_ends(lab: Lab) -> None:
    """Without `--ask` nothing is offered to it; with it and nobody to compare the words, nothing is sent."""
    (lab.root / "a").write_bytes(b"1")
    daemon = lab.daemon("receiver", "--accept", "ask")
    assert lab.send(daemon, "a", home="sender", code=5).failure()["name"] == "unknown-peer"
    client = lab.sending(daemon.url, "--ask", "a", home="sender")
    assert client.ends(5).failure()["name"] == "unknown-peer"
    assert visible(daemon.inbox) == {}
    trusting = lab.sending(daemon.url, "--ask", "--yes", "a", home="sender")
    offer = _offer(daemon)
    daemon.call("offers.approve", job=offer["job"])
    trusting.ends()
    assert (daemon.inbox / "a").read_bytes() == b"1"


def _ask(lab: Lab, daemon: Daemon) -> Hostile:
    """Somebody whom nobody knows, let in to ask."""
    lab.identity("stranger")
    there = Hostile(daemon.port, load(str(lab.root / "stranger" / "identity.key")))
    answer = there.greet(features=[APPROVAL, "pull", "steer"], name="\x1b[2Jstranger")
    assert not answer.signed_in
    assert "pull" not in answer.features
    return there


def test_a_stranger_says_nothing_but_its_offer(lab: Lab) -> None:
    """Neither names nor content before the yes, no second offer, no list, and no nonce twice."""
    daemon = lab.daemon("receiver", "--accept", "ask")
    job = bytes(16)
    offer = Offer(job, 0, [], None, None, None, None)
    for what in ([messages.List(job, [], True)], [messages.Manifest([], True)], [Totals(1, 0, 1)]):
        with _ask(lab, daemon) as there:
            there.send(*what)
            assert there.end() in (805, 807)
    for more in (
        [messages.Manifest([], True)],
        [Reveal(job, bytes(32)), Reveal(job, bytes(32))],
        [Reveal(bytes(15) + b"x", bytes(32))],
        [Totals(1, 0, 1), Totals(1, 0, 1)],
        [offer],
    ):
        with _ask(lab, daemon) as there:
            there.send(offer)
            assert isinstance(there.receive(), Waiting)
            there.send(*more)
            assert there.end() in (801, 805)
    with _ask(lab, daemon) as there:
        there.send(offer)
        there.until(Waiting)
        there.send(Reveal(job, bytes(32)), Totals(1, 0, 5))
        shown = _offer(daemon)
        assert shown["peer"]["name"] == "\\x1b[2Jstranger"
        daemon.call("offers.approve", job=shown["job"])
        there.until(messages.Accept)
        there.send(messages.Manifest([messages.FileEntry(0, [b"a"], 6, 1, 0o644)], True))
        assert there.end() == 609, "its totals are a ceiling"
    daemon.clean_log()


def test_a_yes_means_what_was_shown(lab: Lab) -> None:
    """A small offer is shown, leaves, and another one comes that begins with the same digits: it is not shown."""
    daemon = lab.daemon("receiver", "--accept", "ask")

    def ask(there: Hostile, job: bytes, totals: Totals) -> None:
        there.send(Offer(job, 0, [], None, None, None, None))
        there.until(Waiting)
        there.send(Reveal(job, bytes(32)), totals)

    with _ask(lab, daemon) as there:
        ask(there, bytes(16), Totals(1, 0, 5))
        shown = _offer(daemon)
    until(lambda: not daemon.call("offers.list")["offers"], "the first has gone", said=daemon)
    for other in (Totals(1, 0, 6), Totals(2, 0, 5), Totals(1, 1, 5)):
        with _ask(lab, daemon) as there:
            ask(there, bytes(16), other)
            assert there.end() == 501
    with _ask(lab, daemon) as there:
        ask(there, bytes(15) + b"x", Totals(1, 0, 5))
        assert there.end() == 501
    with _ask(lab, daemon) as there:
        ask(there, bytes(16), Totals(1, 0, 5))
        assert _offer(daemon)["job"] == shown["job"], "the same offer may come back"
    daemon.clean_log()


def test_strangers_are_few(lab: Lab) -> None:
    """Of one source, and in all, only so many may ask at once; the next one hears what all hear whom nobody knows."""
    daemon = lab.daemon("receiver", "--accept", "ask")
    key = Identity.generate()

    def knocks(source: str, features: list[str]) -> int | None:
        with Hostile(daemon.port, key, source=source) as there:
            there.send(Hello("ftx", 1, 1, features, "x", "x", False))
            return there.end()

    with contextlib.ExitStack() as crowd:
        for number in range(limits.OFFERS_TOTAL):
            source = f"127.0.1.{1 + number // limits.OFFERS_PER_SOURCE}"
            there = crowd.enter_context(Hostile(daemon.port, key, source=source))
            assert not there.greet(features=[APPROVAL]).signed_in
            if number == limits.OFFERS_PER_SOURCE - 1:
                assert knocks(source, [APPROVAL]) == 501, "one of a source too many"
        assert knocks("127.0.2.1", [APPROVAL]) == 501, "one too many in all"
    assert knocks("127.0.2.2", []) == 501, "who cannot wait is not let in"
