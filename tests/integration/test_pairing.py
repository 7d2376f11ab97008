"""Pairing by code between real processes; and everything that can be tried in front of a window."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hostile import Hostile, raw_frame
from support.hostile_server import HostileServer, Left
from support.lab import Client, Daemon, Lab, until

from ftx.core.pairing import PairingClient
from ftx.core.wordlist import WORDS
from ftx.disk.keys import Identity
from ftx.errors import kind
from ftx.net.tls import ALPN
from ftx.wire.messages import ErrorMessage, Hello, PairConfirm, PairDone, PairReply, PairStart, encode

CLOSED, WRONG = kind("pairing-closed").number, kind("wrong-code").number
#: A point of the group, under the letter of the client: an element like any other.
ELEMENT = b"A" + bytes.fromhex("5866666666666666666666666666666666666666666666666666666666666666")


@pytest.fixture
def lab(short_tmp: Path) -> Iterator[Lab]:
    """A laboratory."""
    with Lab(short_tmp) as made:
        yield made


def shown(lab: Lab, home: str = "receiver", *words: str, **how: Any) -> tuple[Client, str]:
    """`pair --open` in this home, when it shows its code; and the code."""
    client = lab.client("pair", "--open", *words, home=home, **how)
    until(lambda: any("code" in one for one in client.events) or not client.alive, "a code", said=client)
    codes = [one["code"] for one in client.events if "code" in one]
    assert codes, client.text()
    return client, str(codes[0])


def typing(lab: Lab, daemon: Daemon, code: str, *words: str, home: str = "sender", **environ: str) -> Client:
    """`pair` with the daemon and this code."""
    return lab.client("pair", daemon.url, *words, home=home, environ={"FTX_CODE": code, **environ})


def known(lab: Lab, home: str) -> dict[str, dict[str, Any]]:
    """The peers of a home by name."""
    return {one["name"]: one for one in lab.client("peers", home=home).ends().events}


def greet(hostile: Hostile) -> None:
    """Stand in front of the window."""
    answer = hostile.greet(features=["pairing"])
    assert (answer.features, answer.signed_in) == (["pairing"], False)


# -- as it should go ---------------------------------------------------------------------------------------


def test_two_machines_pair_by_code(lab: Lab) -> None:
    """Code shown, code typed: both know the other's key, name and address, and files go both ways."""
    (lab.root / "a").write_bytes(b"1")
    attic = lab.daemon("receiver", "--name", "attic")
    desk = lab.daemon("sender", "--name", "desk")
    showing, code = shown(lab)
    assert re.fullmatch(r"[1-9]-[a-z]+-[a-z]+", code)
    assert set(code.split("-")[1:]) <= set(WORDS)
    typed = typing(lab, attic, code.upper().replace("-", " ")).ends()
    showing.ends()
    assert typed.events == list(known(lab, "sender").values())
    assert showing.events[-1]["name"] == "vm" or showing.events[-1]["id"] == lab.identity("sender")
    mine, theirs = known(lab, "sender"), known(lab, "receiver")
    assert mine["attic"]["id"] == lab.identity("receiver")
    assert mine["attic"]["addresses"] == [f"127.0.0.1:{attic.port}"]
    [there] = theirs.values()
    assert there["id"] == lab.identity("sender")
    assert there["addresses"] == [f"127.0.0.1:{desk.port}"], "the port of the client's own daemon"
    lab.client("send", "a", "attic:", home="sender").ends()
    lab.client("send", "a", f"{there['name']}:", home="receiver").ends()
    assert (attic.inbox / "a").read_bytes() == (desk.inbox / "a").read_bytes() == b"1"
    for daemon in (attic, desk):
        assert code not in daemon.text()
        daemon.clean_log()


def test_names_that_are_given(lab: Lab) -> None:
    """Both persons may say what to call the other; three words, a file for the code, and pairing again keep it so."""
    daemon = lab.daemon("receiver")
    showing, code = shown(lab, "receiver", "--name", "desk", "--words", "3")
    assert len(code.split("-")) == 4
    (lab.root / "code").write_text(f"{code}\n", "ascii")
    lab.client("pair", daemon.url, "--name", "attic", "--code-file", "code", home="sender").ends()
    assert showing.ends().events[-1]["name"] == "desk"
    showing, code = shown(lab)
    typing(lab, daemon, code).ends()
    showing.ends()
    assert (list(known(lab, "sender")), list(known(lab, "receiver"))) == (["attic"], ["desk"])


def test_a_guest_is_trusted_until_the_daemon_ends(lab: Lab) -> None:
    """`keep` false: nothing is written on the receiving side."""
    (lab.root / "a").write_bytes(b"1")
    daemon = lab.daemon("receiver")
    typing(lab, daemon, daemon.call("pairing.open", keep=False)["code"]).ends()
    assert known(lab, "receiver") == {}
    lab.send(daemon, "a", home="sender")
    assert daemon.call("daemon.status")["peers_paired"] == 1
    assert len(daemon.call("peers.list")["peers"]) == 1
    daemon.signal(15)
    daemon.wait()
    lab.send(lab.again(daemon), "a", home="sender", code=5)


def test_a_user_and_a_daemon_with_another_key(lab: Lab) -> None:
    """Whoever may use the control socket need not type a code: `pair --open` pairs them as well."""
    (lab.root / "a").write_bytes(b"1")
    daemon = lab.daemon("system", "--name", "attic")
    environ = {"FTX_CONTROL": str(daemon.control)}
    showing, code = shown(lab, "user", environ=environ)
    assert str(daemon.control) in showing.text(), "it says which daemon that is"
    assert "it has a key of its own" in showing.text()
    lab.client("send", "a", "attic:", home="user").ends()
    typing(lab, daemon, code).ends()
    showing.ends()
    assert {one["id"] for one in known(lab, "system").values()} == {lab.identity("user"), lab.identity("sender")}
    again, _ = shown(lab, "user", environ=environ)
    assert "key of its own" not in again.text()


# -- windows -----------------------------------------------------------------------------------------------


def test_B39_a_wrong_code(lab: Lab) -> None:
    """Both screens say so, the code is void, and the right one comes too late; a new window works."""
    daemon = lab.daemon("receiver")
    showing, code = shown(lab)
    wrong = next(f"{code[0]}-{word}-{word}" for word in WORDS if f"{code[0]}-{word}-{word}" != code)
    assert "code was wrong" in typing(lab, daemon, wrong).ends(5).text()
    assert "127.0.0.1 tried, and failed: the pairing code was wrong" in showing.ends(5).text()
    assert "no pairing window is open" in typing(lab, daemon, code).ends(5).text()
    assert known(lab, "receiver") == known(lab, "sender") == {}
    typing(lab, daemon, daemon.call("pairing.open")["code"]).ends()
    daemon.clean_log()


def test_ctrl_c_closes_the_window(lab: Lab) -> None:
    """Whoever no longer looks at the code does not leave it open."""
    daemon = lab.daemon("receiver")
    showing, code = shown(lab)
    showing.signal(2)
    showing.ends(130)
    typing(lab, daemon, code).ends(5)


def test_another_window_makes_the_first_code_void(lab: Lab) -> None:
    """One window at a time; its owner is told."""
    daemon = lab.daemon("receiver")
    showing, code = shown(lab)
    second = daemon.call("pairing.open")["code"]
    assert "another window was opened" in showing.ends(5).text()
    assert daemon.call("pairing.close") == {"ok": True}
    assert daemon.call("pairing.close") == {"ok": False}
    for void in (code, second):
        typing(lab, daemon, void).ends(5)


def test_what_is_wrong_before_the_attempt_costs_nothing(lab: Lab) -> None:
    """A name that is taken, a word that is none, nobody to ask, a code as an argument: the window stays open."""
    daemon = lab.daemon("receiver")
    lab.pair("sender", "other", "attic")
    code = daemon.call("pairing.open")["code"]
    taken = typing(lab, daemon, code, "--name", "attic").ends(2)
    assert f"another peer is called attic: {lab.identity('other')}" in taken.text()
    assert "no word 'acron'" in typing(lab, daemon, "7-acron-willow").ends(2).text()
    assert "nobody to ask" in lab.client("pair", daemon.url, home="sender").ends(2).text()
    assert "never an argument" in lab.client("pair", code, home="sender").ends(2).text()
    assert "needs no pairing" in typing(lab, daemon, code, home="receiver").ends(2).text()
    typing(lab, daemon, code).ends()


def test_who_was_installed_anew_pairs_anew(lab: Lab) -> None:
    """Another key behind a paired name: exit 5, both ids, and the two commands that it takes, which work."""
    first = lab.daemon("receiver", "--name", "attic")
    typing(lab, first, first.call("pairing.open")["code"], "--name", "attic").ends()
    first.kill()
    anew = lab.daemon("anew", "--name", "attic", port=first.port)
    target = f"ftx://attic:{anew.port}"
    code = anew.call("pairing.open")["code"]
    changed = lab.client("pair", target, home="sender", environ={"FTX_CODE": code}).ends(5).text()
    assert lab.identity("anew") in changed
    assert lab.identity("receiver") in changed
    assert "peers remove attic, then ftx-client pair attic" in changed
    lab.client("peers", "remove", "-y", "attic", home="sender").ends()
    typing(lab, anew, code, "--name", "attic").ends()
    assert known(lab, "sender")["attic"]["id"] == lab.identity("anew")


# -- at a terminal -----------------------------------------------------------------------------------------


class Terminal:
    """`ftx-client pair` on a terminal: what it shows, and what is typed."""

    def __init__(self, lab: Lab, daemon: Daemon) -> None:
        self._terminal, slave = pty.openpty()
        environ = {**os.environ, "FTX_HOME": str(lab.root / "sender"), "TERM": "dumb"}
        command = [sys.executable, "-m", "ftx", "pair", daemon.url]
        self._child = subprocess.Popen(
            command, env=environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd=lab.root
        )
        os.close(slave)
        self.text = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._terminal)

    def reads(self, words: str, times: int = 1) -> None:
        """Wait until these words have been on the screen so often."""
        while self.text.count(words) < times:
            assert select.select([self._terminal], [], [], 20)[0], self.text
            self.text += os.read(self._terminal, 4096).decode()

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._terminal, line.encode() + b"\n")

    def ends(self) -> int:
        """The exit code, when everything was read."""
        with contextlib.suppress(OSError):
            while select.select([self._terminal], [], [], 20)[0]:
                self.text += os.read(self._terminal, 4096).decode()
        return self._child.wait(20)


def test_typing_it(lab: Lab) -> None:
    """It is asked for; a slip of the finger is told and asked for again; three letters of each word will do."""
    daemon = lab.daemon("receiver")
    code = daemon.call("pairing.open")["code"]
    with Terminal(lab, daemon) as terminal:
        terminal.reads("code: ")
        terminal.type("7-acorm-willow")
        terminal.reads("did you mean acorn?")
        terminal.reads("code: ", 2)
        terminal.type(" ".join([code[0], *(word[:3] for word in code.split("-")[1:])]))
        assert terminal.ends() == 0, terminal.text
    assert list(known(lab, "receiver"))


def test_while_somebody_types(lab: Lab) -> None:
    """The window closes: whoever is still looking for the words hears of it at once."""
    daemon = lab.daemon("receiver")
    daemon.call("pairing.open")
    with Terminal(lab, daemon) as terminal:
        terminal.reads("code: ")
        daemon.call("pairing.close")
        assert terminal.ends() == 5
        assert "no pairing window is open there" in terminal.text


# -- hostile peers -----------------------------------------------------------------------------------------

HOSTILE = {
    **{f"{length} bytes": encode(PairStart(b"A" * length)) for length in (0, 1, 32, 34, 10_000)},
    "the neutral element": encode(PairStart(b"A" + (1).to_bytes(32, "little"))),
    "off the curve": encode(PairStart(b"A" + (2).to_bytes(32, "little"))),
    "of small order": encode(PairStart(b"A" + bytes(32))),
    "of the wrong side": encode(PairStart(b"B" + ELEMENT[1:])),
    "a proof before any element": encode(PairConfirm(bytes(32), 0)),
    "two elements": encode(PairStart(ELEMENT)) * 3,
    "a reply": encode(PairReply(ELEMENT)),
    "no MessagePack": raw_frame(0x40, b"\xc1" * 40),
    "a claimed length of 4 GiB": raw_frame(0x40, b"", 2**32 - 1),
}


def test_B40_hostile_elements(lab: Lab) -> None:
    """Each is refused with an error of the protocol, uses the code up, and leaves no trace but a line in the log."""
    daemon = lab.daemon("receiver")
    identity = Identity.generate()
    for name, wire in HOSTILE.items():
        code = daemon.call("pairing.open")["code"]
        with Hostile(daemon.port, identity) as hostile:
            greet(hostile)
            hostile.send(wire)
            number = hostile.end()
        assert number is not None, name
        assert number // 100 == 8, (name, number)
        until(lambda: daemon.call("pairing.close") == {"ok": False}, f"{name}: the window closes")
        with Hostile(daemon.port, identity) as late:
            late.send(Hello("ftx", 1, 1, ["pairing"], code, "x", False))
            assert late.end() == CLOSED
    assert known(lab, "receiver") == {}
    daemon.clean_log()
    typing(lab, daemon, daemon.call("pairing.open")["code"]).ends()


def test_B40_a_hostile_end_that_shows_the_code(lab: Lab) -> None:
    """What a server may answer instead of its element, our own sent back included: exit 5 or 8, nobody is paired."""
    answers = {
        "the neutral element": lambda start: encode(PairReply(b"B" + (1).to_bytes(32, "little"))),
        "reflected": lambda start: encode(PairReply(b"B" + start.element[1:])),
        "reflected with its letter": lambda start: encode(PairReply(start.element)),
        "34 bytes": lambda start: encode(PairReply(bytes(34))),
        "an element, and a proof that is none": lambda start: encode(PairReply(b"B" + ELEMENT[1:])),
        "a proof at once": lambda start: encode(PairDone(bytes(32))),
    }
    for name, answer in answers.items():
        with HostileServer(Identity.generate()) as server:
            client = lab.client("pair", server.url, home="sender", environ={"FTX_CODE": "7-acorn-willow"})
            server.accept()
            server.until(Hello)
            server.send(Hello("ftx", 1, 1, ["pairing"], "x", "x", False))
            server.send(answer(server.until(PairStart)))
            with contextlib.suppress(Left):
                server.until(PairConfirm)
                server.send(PairDone(bytes(32)))
            server.end()
            client.wait()
        assert client.popen.wait() in (5, 8), name
        assert "Traceback" not in client.text()
    assert known(lab, "sender") == {}


def test_B41_a_relay_with_two_sessions(lab: Lab) -> None:
    """Every message is handed on as it is, the code is right, and still neither end believes the other."""
    daemon = lab.daemon("receiver")
    showing, code = shown(lab)
    identity = Identity.generate()
    with HostileServer(identity) as server, Hostile(daemon.port, identity) as to_daemon:
        client = lab.client("pair", server.url, home="sender", environ={"FTX_CODE": code})
        server.accept()
        to_daemon.send(server.until(Hello))
        server.send(to_daemon.until(Hello))
        to_daemon.send(server.until(PairStart))
        server.send(to_daemon.until(PairReply))
        confirm = server.until(PairConfirm)
        to_daemon.send(confirm)
        assert to_daemon.end() == WRONG
        server.send(PairDone(confirm.proof))
        server.end()
        assert "somebody stands between" in client.ends(5).text()
    assert "failed: the pairing code was wrong" in showing.ends(5).text()
    assert known(lab, "receiver") == known(lab, "sender") == {}


def test_B42_outside_of_the_window(lab: Lab) -> None:
    """Before it opens, after it has closed, and from a second connection during the attempt: refused."""
    daemon = lab.daemon("receiver")
    identity = Identity.generate()

    def knock() -> int | None:
        with Hostile(daemon.port, identity) as hostile:
            hostile.send(Hello("ftx", 1, 1, ["pairing"], "x", "x", False), PairStart(ELEMENT))
            return hostile.end()

    def stranger() -> int | None:
        with Hostile(daemon.port, identity) as hostile:
            hostile.send(Hello("ftx", 1, 1, [], "x", "x", False), PairStart(ELEMENT))
            return hostile.end()

    assert knock() == CLOSED
    code = daemon.call("pairing.open")["code"]
    assert stranger() == kind("wrong-state").number, "who does not ask to pair is a stranger like any other"
    with Hostile(daemon.port, identity) as waiting, Hostile(daemon.port, Identity.generate()) as first:
        greet(waiting)
        greet(first)
        first.send(PairStart(ELEMENT))
        first.until(PairReply)
        assert waiting.end() == CLOSED, "it hears at once that it came too late"
        assert knock() == CLOSED
        first.send(PairConfirm(bytes(32), 0))
        assert first.end() == WRONG
    assert knock() == CLOSED
    typing(lab, daemon, code).ends(5)


def test_who_goes_without_a_word_costs_nothing(lab: Lab) -> None:
    """In front of the window anybody may stand and leave again: only an attempt uses the code up."""
    daemon = lab.daemon("receiver")
    code = daemon.call("pairing.open")["code"]
    for farewell in (b"", encode(ErrorMessage(614)), raw_frame(3, b"\x90")):
        with Hostile(daemon.port, Identity.generate()) as hostile:
            greet(hostile)
            hostile.send(farewell)
    typing(lab, daemon, code).ends()
    daemon.clean_log()


def test_B43_races_for_one_window(lab: Lab) -> None:
    """Many attempts at once, the right code among them: exactly one is answered."""
    daemon = lab.daemon("receiver")
    for _ in range(5):
        daemon.call("pairing.open")
        answered: list[bool] = []
        with contextlib.ExitStack() as stack:
            crowd = [stack.enter_context(Hostile(daemon.port, Identity.generate())) for _ in range(6)]
            for one in crowd:
                greet(one)

            def attempt(one: Hostile, answered: list[bool] = answered) -> None:
                one.send(PairStart(ELEMENT))
                message = one.receive()
                answered.append(isinstance(message, PairReply))
                if not answered[-1]:
                    assert message in (ErrorMessage(CLOSED), None)

            threads = [threading.Thread(target=attempt, args=(one,)) for one in crowd]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
        assert sorted(answered) == [False] * 5 + [True]
        until(lambda: daemon.call("pairing.close") == {"ok": False}, "the attempt ends")


def test_the_exporter_is_the_same_at_both_ends(lab: Lab) -> None:
    """A client written with nothing but the specification at hand pairs: pyOpenSSL's exporter, SPAKE2, two proofs."""
    daemon = lab.daemon("receiver")
    code = daemon.call("pairing.open")["code"]
    identity = Identity.generate()
    with Hostile(daemon.port, identity) as client:
        greet(client)
        machine = PairingClient(code, client.binding(identity.id))
        client.send(machine.start())
        client.send(machine.confirm(client.until(PairReply), 4711))
        machine.finish(client.until(PairDone))
    [peer] = known(lab, "receiver").values()
    assert peer["addresses"] == ["127.0.0.1:4711"]
    assert ALPN == b"ftx/1"
