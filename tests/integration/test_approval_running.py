"""First contact without pairing: somebody is asked, compares the words, and says yes, no, or nothing."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.gate import Gate
from support.hostile import Hostile
from support.lab import Client, Daemon, Lab, until
from support.trees import MiB, make_tree, snapshot, visible

from ftx import limits
from ftx.core.peers import TrustStore
from ftx.core.stages import APPROVAL
from ftx.disk.keys import Identity
from ftx.disk.peers import update
from ftx.wire import messages
from ftx.wire.messages import ErrorMessage, Hello, Offer, Reveal, Totals, Waiting


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Lab, Daemon]]:
    """A laboratory with a daemon that asks, of the home `receiver`: one for all of these tests."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ftx-", dir="/tmp")))
        lab = stack.enter_context(Lab(folder))
        daemon = lab.daemon("receiver", "--accept", "ask")
        yield lab, daemon
        daemon.clean_log()


@pytest.fixture
def lab(shared: tuple[Lab, Daemon]) -> Lab:
    """Where the daemon lives."""
    return shared[0]


@pytest.fixture
def daemon(shared: tuple[Lab, Daemon]) -> Iterator[Daemon]:
    """The daemon, which knows nobody; the sender knows it."""
    lab, daemon = shared
    lab.pair("sender", "receiver", "attic")
    yield daemon
    for home in ("receiver", "sender"):
        update(lab.places(home).peers, lambda _: TrustStore())
    (daemon.home / "config.toml").unlink(missing_ok=True)
    daemon.call("daemon.reload")


def _offer(daemon: Daemon) -> dict[str, Any]:
    found: list[dict[str, Any]] = until(lambda: daemon.call("offers.list")["offers"], "an offer waits", said=daemon)
    assert len(found) == 1
    return found[0]


def _waiting(client: Client) -> dict[str, Any]:
    return client.reaches("waiting")


@pytest.mark.case("C68")
def test_an_unknown_sender_is_let_in_once(lab: Lab, daemon: Daemon) -> None:
    """Both screens show the same words; nothing arrives before the yes; the next offer is asked about again."""
    make_tree(lab.root / "source", {"a": 10, "b/c": 3_000_000})
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
    shown = daemon.call("jobs.show", job=offer["job"])
    assert (shown["files"], shown["bytes_total"]) == (2, 3_000_010)
    log = daemon.text()
    assert f"words {offer['phrase']}" in log
    assert "approved by user 0" in log
    assert daemon.call("peers.list")["peers"] == []
    second = lab.sending(daemon.url, "source", home="sender")
    job = _offer(daemon)["job"]
    daemon.call("offers.deny", job=job, reason="not today")
    assert second.ends(6).failure()["name"] == "denied"
    assert f"denied by user {os.geteuid()}: not today" in daemon.text()


def test_always_pairs_the_sender(lab: Lab, daemon: Daemon) -> None:
    """Under a name of one's own; the next offer is not asked about."""
    (lab.root / "always").write_bytes(b"1")
    client = lab.sending(daemon.url, "always", home="sender")
    offer = _offer(daemon)
    lab.client("ctl", "approve", "--always", offer["job"], "desk", home="receiver").ends()
    client.ends()
    assert [peer["name"] for peer in daemon.call("peers.list")["peers"]] == ["desk"]
    assert f"audit: peer desk ({lab.identity('sender')}) added by user {os.geteuid()}" in daemon.text()
    assert lab.send(daemon, "always", home="sender").one("done")["files_identical"] == 1


def test_always_is_over_with_a_removal(lab: Lab, daemon: Daemon) -> None:
    """Who was paired by an approval and is removed at once, by hand, loses the job that was approved."""
    make_tree(lab.root, {"large": 12 * MiB})
    with Gate(daemon.port, hold=4 * MiB) as gate:
        client = lab.sending(gate.url, "large", home="sender")
        daemon.call("offers.approve", job=_offer(daemon)["job"], always=True, name="loft")
        update(lab.places("receiver").peers, lambda store: store.remove("loft"))
        until(lambda: daemon.call("daemon.status")["jobs"]["active"] == 0, "the job ends", said=daemon)
        # it is a stranger again: told so, or, if the connection was gone before the word, back to ask once more
        until(lambda: not client.alive or daemon.call("offers.list")["offers"], "it hears of it", said=client)
        for offer in daemon.call("offers.list")["offers"]:
            assert offer["who"] == "unknown"
            daemon.call("offers.deny", job=offer["job"])
        assert client.ends(None).failure()["name"] in ("untrusted", "denied")
    gone = f"audit: loft is not paired any more, id {lab.identity('sender')}; the file was written by user"
    assert f"{gone} {os.geteuid()}" in daemon.text()
    assert b"large" not in visible(daemon.inbox)


@pytest.mark.case("C68")
def test_nobody_answers(lab: Lab, daemon: Daemon) -> None:
    """After its time an offer is refused, and both sides say so."""
    (lab.root / "late").write_bytes(b"1")
    (daemon.home / "config.toml").write_text("approval_timeout = 1\n")
    daemon.call("daemon.reload")
    refused = lab.send(daemon, "late", home="sender", code=6)
    assert refused.failure()["name"] == "approval-timeout"
    assert _waiting(refused)["deadline_s"] == 1.0
    assert daemon.call("offers.list")["offers"] == []
    assert b"late" not in visible(daemon.inbox)


def test_a_paired_sender_is_asked_about_where_a_rule_says_so(lab: Lab, daemon: Daemon) -> None:
    """The same words, the same answers."""
    (lab.root / "rule").write_bytes(b"1")
    lab.pair("receiver", "sender", "desk")
    (daemon.home / "config.toml").write_text("[[rule]]\ntitle = 'ask me'\naction = 'ask'\npeer = 'desk'\n")
    until(lambda: "rights and rules were read again" in daemon.text(), "the rules are read", said=daemon)
    client = lab.sending(daemon.url, "rule", home="sender")
    offer = _offer(daemon)
    assert (offer["who"], offer["peer"]["name"], offer["why"]) == ("paired", "desk", "ask me")
    daemon.call("offers.approve", job=offer["job"])
    client.ends()


def test_an_unknown_receiver_needs_a_person_at_both_ends(lab: Lab, daemon: Daemon) -> None:
    """Without `--ask` nothing is offered to it; with it and nobody to compare the words, nothing is sent."""
    (lab.root / "asked").write_bytes(b"1")
    assert lab.send(daemon, "asked", home="third", code=5).failure()["name"] == "unknown-peer"
    client = lab.sending(daemon.url, "--ask", "asked", home="third")
    error = client.ends(5).failure()
    assert error["name"] == "unknown-peer"
    assert error["message"] == "nobody can compare the words, since this is no terminal; so nothing was sent"
    silent = lab.sending(daemon.url, "--ask", "--no-input", "asked", home="third")
    error = silent.ends(5).failure()
    assert error["message"] == "nobody can compare the words, since --no-input was given; so nothing was sent"
    assert error["hint"].startswith("run it again where somebody can answer; or pair the two first")
    assert b"asked" not in visible(daemon.inbox)
    trusting = lab.sending(daemon.url, "--ask", "--yes", "asked", home="third")
    offer = _offer(daemon)
    daemon.call("offers.approve", job=offer["job"])
    trusting.ends()
    assert (daemon.inbox / "asked").read_bytes() == b"1"


def _ask(lab: Lab, daemon: Daemon, source: str = "127.0.0.1") -> Hostile:
    """Somebody whom nobody knows, let in to ask."""
    there = Hostile(daemon.port, lab.key("stranger"), source=source)
    answer = there.greet(features=[APPROVAL, "pull", "steer"], name="\x1b[2Jstranger")
    assert not answer.signed_in
    assert "pull" not in answer.features
    return there


def test_a_stranger_says_nothing_but_its_offer(lab: Lab, daemon: Daemon) -> None:
    """Neither names nor content before the yes, no second offer, no list, and no nonce twice."""
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


def test_a_yes_means_what_was_shown(lab: Lab, daemon: Daemon) -> None:
    """A small offer is shown, leaves, and another one comes that begins with the same digits: it is not shown."""

    def ask(there: Hostile, job: bytes, totals: Totals) -> None:
        there.send(Offer(job, 0, [], None, None, None, None))
        there.until(Waiting)
        there.send(Reveal(job, bytes(32)), totals)

    with _ask(lab, daemon, "127.0.3.1") as there:
        ask(there, bytes(16), Totals(1, 0, 5))
        shown = _offer(daemon)
    until(lambda: not daemon.call("offers.list")["offers"], "the first has gone", said=daemon)
    for other in (Totals(1, 0, 6), Totals(2, 0, 5), Totals(1, 1, 5)):
        with _ask(lab, daemon, "127.0.3.1") as there:
            ask(there, bytes(16), other)
            assert there.end() == 501
    with _ask(lab, daemon, "127.0.3.1") as there:
        ask(there, bytes(15) + b"x", Totals(1, 0, 5))
        assert there.end() == 501
    with _ask(lab, daemon, "127.0.3.1") as there:
        ask(there, bytes(16), Totals(1, 0, 5))
        assert _offer(daemon)["job"] == shown["job"], "the same offer may come back"


def _refused(daemon: Daemon, key: Identity, source: str, *features: str) -> list[Any]:
    """All that is said to this key."""
    with Hostile(daemon.port, key, source=source) as there:
        there.send(Hello("ftx", 1, 1, list(features), "x", "x", False))
        return list(iter(there.receive, None))


def test_strangers_are_few(lab: Lab, daemon: Daemon) -> None:
    """Of one source, and of all, only so many may ask at once. The next one hears what everybody hears who is nobody:
    a key never seen, one that was removed, and one that cannot wait.
    """
    until(lambda: daemon.call("offers.list")["offers"] == [], "nobody asks", said=daemon)
    removed, never = lab.key("sender"), lab.key("stranger")
    lab.pair("receiver", "sender", "desk")
    with Hostile(daemon.port, removed) as there:
        assert there.greet().signed_in
    update(lab.places("receiver").peers, lambda store: store.remove("desk"))
    said = {}
    with contextlib.ExitStack() as crowd:
        for number in range(limits.OFFERS_TOTAL):
            source, more = divmod(number, limits.OFFERS_PER_SOURCE)
            one = crowd.enter_context(_ask(lab, daemon, f"127.0.1.{source + 1}"))
            job = bytes([number + 1, *bytes(15)])
            one.send(Offer(job, 0, [], None, None, None, None))
            one.until(Waiting)
            one.send(Reveal(job, bytes(32)), Totals(1, 0, 1))
            if (source, more) == (0, limits.OFFERS_PER_SOURCE - 1):
                said["the fifth of one source"] = _refused(daemon, never, "127.0.1.1", APPROVAL)
        until(lambda: daemon.call("daemon.status")["jobs"]["waiting"] == limits.OFFERS_TOTAL, "all wait", said=daemon)
        said["one more than all"] = _refused(daemon, never, "127.0.2.1", APPROVAL)
        said["a key that was removed"] = _refused(daemon, removed, "127.0.2.2", APPROVAL)
        said["who cannot wait"] = _refused(daemon, never, "127.0.2.3")
    until(lambda: daemon.call("daemon.status")["jobs"]["waiting"] == 0, "nobody waits", said=daemon)
    with _ask(lab, daemon, "127.0.2.4") as there:
        there.send(Offer(bytes(16), 0, [], None, None, None, None))
        assert isinstance(there.receive(), Waiting), "there is room again"
    for who, words in said.items():
        assert words == [ErrorMessage(501)], who
