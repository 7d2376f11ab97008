"""Only who you chose: two homes, two keys, and what each says when it is not the chosen one."""

from __future__ import annotations

import os
import shlex
import shutil
from time import monotonic

import pytest
from support.gate import Gate
from support.lab import Lab, until
from support.ports import free_port
from support.processor import held_up
from support.trees import MiB, make_tree, snapshot, visible


def pair_both(lab: Lab, receiver: str, sender: str, address: str = "") -> None:
    """Each trusts the other."""
    lab.pair(receiver, sender, "desk")
    lab.pair(sender, receiver, "attic", *([address] if address else []))


@pytest.mark.case("B36", "B38")
def test_strangers_are_refused_with_the_sentence_that_helps(lab: Lab) -> None:
    """Unpaired: exit 5, the same words whoever of both lacks the other, and nothing is made."""
    (lab.root / "a").write_bytes(b"1")
    daemon = lab.daemon("receiver")
    unknown = lab.send(daemon, "a", home="sender", code=5)
    assert unknown.failure()["name"] == "unknown-peer"
    assert unknown.text().index("ftx-client pair --open") < unknown.text().index("ftx-client peers add")
    assert lab.identity("receiver") in unknown.text() or "peers add NAME ID" in unknown.text()
    # the sender knows the receiver, not the other way round
    lab.pair("sender", "receiver", "attic")
    untrusted = lab.send(daemon, "a", home="sender", code=5)
    assert untrusted.failure()["name"] == "untrusted"
    assert untrusted.text().index("ftx-client pair --open") < untrusted.text().index("peers add NAME ID")
    assert untrusted.one("summary")["exit"] == 5
    assert visible(daemon.inbox) == {}
    assert daemon.call("jobs.list")["jobs"] == []
    daemon.clean_log()
    # the log says it from this side, whole, to be copied
    refusals = [line.partition(" ended: ")[2] for line in daemon.text().splitlines() if "connection from" in line]
    assert len(refusals) == 2
    there, here = refusals
    assert there.startswith("it does not know this machine's key; there: ")
    assert there.endswith(f"ftx-client peers add NAME {lab.identity('receiver')}")
    assert here.startswith("its key is not paired here (it calls itself ")
    assert here.endswith(f"ftx-client peers add NAME {lab.identity('sender')}")
    assert len(daemon.text().splitlines()) < 8


def test_paired_peers(lab: Lab) -> None:
    """Added on both sides, while the daemon runs: it works at once, by name too, and the address is remembered."""
    make_tree(lab.root / "source", {"a": 10, "b/c": 2 * MiB + 1})
    daemon = lab.daemon("receiver")
    pair_both(lab, "receiver", "sender")
    client = lab.send(daemon, "source", home="sender")
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    assert client.one("done")["peer"]["name"] == "attic"
    job = daemon.call("jobs.list")["jobs"][0]
    assert job["peer"]["name"] == "desk"
    until(lambda: daemon.call("daemon.status")["peers_paired"] == 1, "the daemon looks at its peers again")
    known = lab.client("peers", "list", home="sender").ends().events
    assert known[0]["addresses"] == [f"127.0.0.1:{daemon.port}"]
    assert known[0]["seen"]
    by_name = lab.client("send", "source", "attic:", home="sender").ends()
    assert by_name.one("done")["files_identical"] == 2
    assert by_name.of("connecting")[0]["peer"]["id"] == lab.identity("receiver")
    # a port that is named counts, also for a name whose address is remembered
    for target in (f"ftx://attic:{free_port()}", f"ftx://attic@127.0.0.1:{free_port()}"):
        elsewhere = lab.client("send", "source", target, home="sender").ends(4)
        assert elsewhere.failure()["name"] == "connection-refused"
    lab.client("send", "source", "attic@localhost:", "-p", str(daemon.port), home="sender").ends()


def test_pairing_by_id_both_ways(lab: Lab) -> None:
    """`peers add` on one machine, and the command that it prints on the other: both can send. Again, it prints none."""
    (lab.root / "a").write_bytes(b"1")
    daemon = lab.daemon("receiver")
    added = lab.client("peers", "add", "attic", lab.identity("receiver"), home="sender", environ={"FTX_NAME": "desk"})
    [line] = [line for line in added.ends().text().splitlines() if "ftx-client peers add " in line]
    words = shlex.split(line[line.index("ftx-client") :])
    assert words[1:] == ["peers", "add", "desk", lab.identity("sender")]
    # until the other side has done it, its part is what is missing
    assert lab.send(daemon, "a", home="sender", code=5).failure()["name"] == "untrusted"
    lab.client(*words[1:], home="receiver").ends()
    lab.send(daemon, "a", home="sender")
    again = lab.client("peers", "add", "loft", lab.identity("receiver"), home="sender").ends()
    assert "ftx-client peers add" not in again.text()


@pytest.mark.case("C69", "H128")
def test_what_one_key_stored_says_nothing_to_another(lab: Lab) -> None:
    """The same file from another key is a file of its own: `have it` is no way to ask what others sent."""
    (lab.root / "a").write_bytes(b"secret")
    daemon = lab.daemon("receiver")
    for sender in ("one", "two"):
        lab.pair("receiver", sender, sender)
        lab.pair(sender, "receiver", "attic")
    lab.send(daemon, "a", home="one")
    second = lab.send(daemon, "a", home="two")
    assert second.of("file")[0]["status"] == "stored"
    assert second.one("done")["bytes_wire"] == 6


def test_accept_own_refuses_paired_peers(lab: Lab) -> None:
    """`--accept own`: a paired key may not push, and is told so."""
    (lab.root / "a").write_bytes(b"1")
    daemon = lab.daemon("receiver", "--accept", "own")
    pair_both(lab, "receiver", "sender")
    client = lab.send(daemon, "a", home="sender", code=5)
    assert client.failure()["name"] == "not-authorised"
    lab.send(daemon, "a", home="receiver")


@pytest.mark.case("B45")
@pytest.mark.parametrize("how", ["command", "control"])
def test_a_removal_counts_within_a_second(how: str, lab: Lab) -> None:
    """In the middle of a transfer, by `peers remove` or on the control socket: it ends, and cannot begin again."""
    make_tree(lab.root / "source", {"large": 20 * MiB})
    daemon = lab.daemon("receiver")
    pair_both(lab, "receiver", "sender")
    with Gate(daemon.port, hold=8 * MiB) as gate:
        client = lab.sending(gate.url, "source", home="sender")
        gate.wait()
        assert daemon.call("daemon.status")["jobs"]["active"] == 1
        until(lambda: daemon.call("daemon.status")["peers_paired"] == 1, "the daemon looks at its peers again")
        if how == "command":
            lab.client("peers", "remove", "-y", "desk", home="receiver").ends()
        else:
            daemon.call("peers.remove", name="desk")
        removed, waited = monotonic(), -held_up(daemon.pid, os.getpid())
        said = f"audit: desk is not paired any more, id {lab.identity('sender')}; the file was written by user"
        until(lambda: f"{said} {os.geteuid()}" in daemon.text(), "the log says so", said=daemon)
        passed = monotonic() - removed
        waited += held_up(daemon.pid, os.getpid())
        assert passed - waited < 1.5, f"{passed} s, of which {waited} s without a processor"
        until(lambda: daemon.call("daemon.status")["jobs"]["active"] == 0, "the job ends, and what came is durable")
        assert ("removed by user 0" in daemon.text()) is (how != "command")
        client.ends(5)
        assert client.failure()["name"] == "untrusted"
    assert visible(daemon.inbox) == {}
    lab.send(daemon, "source", home="sender", code=5)
    # paired again, it goes on where it was
    lab.pair("receiver", "sender", "desk")
    done = lab.send(daemon, "source", home="sender").one("done")
    assert done["bytes_wire"] <= 14 * MiB
    daemon.clean_log()


@pytest.mark.case("B35")
def test_another_key_at_the_place_of_a_paired_peer(lab: Lab) -> None:
    """key-changed, exit 5, both ids in the words, nothing sent; also with the name and address pinned."""
    (lab.root / "a").write_bytes(b"1")
    port = free_port()
    first = lab.daemon("receiver", port=port)
    pair_both(lab, "receiver", "sender", f"127.0.0.1:{port}")
    lab.client("send", "a", "attic:", home="sender").ends()
    first.kill()
    impostor = lab.daemon("impostor", port=port)
    lab.pair("impostor", "sender", "desk")
    for target in ("attic:", f"ftx://attic@127.0.0.1:{port}"):
        client = lab.client("send", "a", "--to", target, home="sender").ends(5)
        error = client.failure()
        assert (error["name"], error["code"]) == ("key-changed", 503)
        assert lab.identity("impostor") in error["message"]
        assert lab.identity("receiver") in error["message"]
        assert "peers remove" in error["hint"]
    assert visible(impostor.inbox) == {}
    impostor.clean_log()


@pytest.mark.case("E96")
def test_a_damaged_trust_store(lab: Lab) -> None:
    """A damaged trust store is never an empty one: the client says so, the daemon lets nobody in and lives."""
    (lab.root / "a").write_bytes(b"1")
    daemon = lab.daemon("receiver")
    pair_both(lab, "receiver", "sender")
    lab.send(daemon, "a", home="sender")
    peers = lab.root / "receiver" / "peers.toml"
    whole = peers.read_bytes()
    peers.write_bytes(whole[: len(whole) // 2])
    until(lambda: "peers: " in daemon.text(), "the daemon says so", said=daemon)
    client = lab.send(daemon, "a", home="sender", code=None)
    assert client.popen.returncode != 0
    # it looks twice a second, and this took a client's start: the words come once
    assert daemon.text().count("peers: ") == 1
    assert daemon.alive
    peers.write_bytes(whole)
    os.chmod(peers, 0o600)
    until(lambda: "can be read again" in daemon.text(), "the daemon says so", said=daemon)
    lab.send(daemon, "a", home="sender")
    broken = lab.root / "sender" / "peers.toml"
    broken.write_bytes(b"[[peer")
    assert lab.send(daemon, "a", home="sender", code=3).failure()["name"] == "state-unusable"
    assert "Traceback" not in daemon.text()


@pytest.mark.case("B46")
def test_my_own_key_from_another_machine(lab: Lab) -> None:
    """A copied home: exit 5, `identity-copied`, on both sides; `own_key = "anywhere"` on both allows it."""
    hosts = lab.two_hosts()
    if hosts is None:
        pytest.skip("networks cannot be made here")
    here, there = hosts
    (lab.root / "a").write_bytes(b"1")
    lab.identity("original")
    shutil.copytree(lab.root / "original", lab.root / "copy")
    daemon = lab.daemon("copy", address="192.0.2.2", host=there)
    target = f"ftx://192.0.2.2:{daemon.port}"
    client = lab.sending(target, "a", home="original", host=here).ends(5)
    assert client.failure()["name"] == "identity-copied"
    assert "ftx-client id --renew" in client.text()
    (lab.root / "original" / "config.toml").write_text('own_key = "anywhere"\n', "utf-8")
    client = lab.sending(target, "a", home="original", host=here).ends(5)
    assert client.failure()["name"] == "identity-copied"
    assert visible(daemon.inbox) == {}
    daemon.kill()
    shutil.copy(lab.root / "original" / "config.toml", lab.root / "copy" / "config.toml")
    again = lab.again(daemon)
    lab.sending(f"ftx://192.0.2.2:{again.port}", "a", home="original", host=here).ends()
    assert (daemon.inbox / "a").read_bytes() == b"1"
    again.clean_log()


def test_two_machines(lab: Lab) -> None:
    """Two keys on two hosts: found by discovery under its name, paired, and sent to."""
    hosts = lab.two_hosts()
    if hosts is None:
        pytest.skip("networks cannot be made here")
    here, there = hosts
    make_tree(lab.root / "source", {"a": 10, "b": 2 * MiB})
    environ = {"FTX_DISCOVERY_INTERFACE": ""}
    pair_both(lab, "receiver", "sender")
    daemon = lab.daemon(
        "receiver", "--name", "attic", address="0.0.0.0", host=there, discovery=True, environ=environ
    )
    seen = lab.client("discover", home="sender", host=here, environ=environ).ends().of("peer")
    assert {(one["name"], one["address"], one["port"], one["paired"]) for one in seen} == {
        ("attic", "192.0.2.2", daemon.port, True)
    }
    client = lab.client("send", "source", "attic:", home="sender", host=here, environ=environ).ends()
    assert client.one("done")["peer"]["address"] == "192.0.2.2"
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    daemon.clean_log()
