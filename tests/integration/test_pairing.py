"""Pairing by code between real processes; and everything that can be tried in front of a window.

Where the client's program has nothing to show, a client made of the specification asks in its place (`tried`): it says
the same in a hundredth of the time. One daemon serves most of the tests, each of which leaves it without peers.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bounded import bounded
from support.hostile import Hostile, raw_frame
from support.hostile_server import HostileServer, Left
from support.lab import NOBODY, Client, Daemon, Lab, until
from twisted.internet.threads import deferToThread

from ftx.client.api import Settings
from ftx.client.cli import main as ftx_client
from ftx.client.pairing import Met, pair
from ftx.client.target import parse_target
from ftx.core.identity import format_id
from ftx.core.pairing import PairingClient
from ftx.core.peers import TrustStore
from ftx.core.wordlist import WORDS
from ftx.disk.keys import Identity
from ftx.disk.peers import load, update
from ftx.errors import FtxError, kind
from ftx.wire.messages import ErrorMessage, Hello, PairConfirm, PairDone, PairReply, PairStart, encode

CLOSED, WRONG = kind("pairing-closed").number, kind("wrong-code").number
#: A point of the group, under the letter of the client: an element like any other.
ELEMENT = b"A" + bytes.fromhex("5866666666666666666666666666666666666666666666666666666666666666")
#: How often clients race for a window.
RACES = int(os.environ.get("PAIRING_RACES", "2"))


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Lab, Daemon]]:
    """A laboratory with the daemon `attic` of the home `receiver`."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ftx-", dir="/tmp")))
        lab = stack.enter_context(Lab(folder))
        daemon = lab.daemon("receiver", "--name", "attic")
        yield lab, daemon
        daemon.clean_log()


@pytest.fixture
def daemon(shared: tuple[Lab, Daemon]) -> Iterator[Daemon]:
    """The daemon, which knows nobody and has no window open."""
    lab, daemon = shared
    yield daemon
    until(lambda: daemon.call("pairing.close") == {"ok": False}, "there is no window", said=daemon)
    for home in ("receiver", "sender"):
        update(lab.places(home).peers, lambda _: TrustStore())


@pytest.fixture
def lab(shared: tuple[Lab, Daemon]) -> Lab:
    """Where the daemon lives."""
    return shared[0]


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


def tried(daemon: Daemon, code: str, identity: Identity | None = None, port: int = 4711) -> int | None:
    """Pair with this code, with nothing but the specification at hand; the number of the error, None when paired."""
    identity = identity or Identity.generate()
    with Hostile(daemon.port, identity) as client:
        client.send(Hello("ftx", 1, 1, ["pairing"], "desk", "x", False))
        machine = PairingClient(code, client.binding(identity.id))
        answer: Any = client.receive()
        if isinstance(answer, Hello):
            client.send(machine.start())
            answer = client.receive()
        if isinstance(answer, PairReply):
            client.send(machine.confirm(answer, port))
            answer = client.receive()
        if isinstance(answer, ErrorMessage):
            return answer.number
        machine.finish(answer)
        return None


async def _asked(reactor: Any, lab: Lab, url: str, code: str, name: str = "", home: str = "sender") -> FtxError | None:
    """Pair from this process with the engine of the command line; the error, None when paired."""

    async def typed(_: Met) -> str:
        return code

    try:
        await pair(reactor, Settings(lab.places(home)), parse_target(url), typed, name=name)
    except FtxError as error:
        return error
    return None


def known(lab: Lab, home: str) -> dict[str, tuple[str, list[str]]]:
    """The peers of a home by name: identity and addresses."""
    return {one.name: (format_id(one.id), list(one.addresses)) for one in load(lab.places(home).peers).peers}


def greet(hostile: Hostile) -> None:
    """Stand in front of the window."""
    answer = hostile.greet(features=["pairing"])
    assert (answer.features, answer.signed_in) == (["pairing"], False)


# -- as it should go ---------------------------------------------------------------------------------------


def test_two_machines_pair_by_code(lab: Lab, daemon: Daemon) -> None:
    """Code shown, code typed: both know the other's key, name and address, and files go both ways."""
    (lab.root / "a").write_bytes(b"1")
    attic = daemon
    desk = lab.daemon("sender", "--name", "desk")
    showing, code = shown(lab)
    assert re.fullmatch(r"[1-9]-[a-z]+-[a-z]+", code)
    assert set(code.split("-")[1:]) <= set(WORDS)
    typed = typing(lab, attic, code.upper().replace("-", " ")).ends()
    showing.ends()
    assert known(lab, "sender") == {"attic": (lab.identity("receiver"), [f"127.0.0.1:{attic.port}"])}
    assert [(one["name"], one["id"]) for one in typed.events] == [("attic", lab.identity("receiver"))]
    [(name, there)] = known(lab, "receiver").items()
    assert there == (lab.identity("sender"), [f"127.0.0.1:{desk.port}"]), "the port of the client's own daemon"
    assert (showing.events[-1]["name"], showing.events[-1]["id"]) == (name, lab.identity("sender"))
    lab.client("send", "a", "attic:", home="sender").ends()
    lab.client("send", "a", f"{name}:", home="receiver").ends()
    assert (attic.inbox / "a").read_bytes() == (desk.inbox / "a").read_bytes() == b"1"
    for one in (attic, desk):
        assert code not in one.text()
    desk.clean_log()
    desk.kill()


@bounded(60)
async def test_names_that_are_given(reactor: Any, lab: Lab, daemon: Daemon) -> None:
    """Both persons may say what to call the other; three words, a file for the code, and pairing again keep it so."""
    showing, code = shown(lab, "receiver", "--name", "desk", "--words", "3")
    assert len(code.split("-")) == 4
    (lab.root / "code").write_text(f"{code}\n", "ascii")
    lab.client("pair", daemon.url, "--name", "loft", "--code-file", "code", home="sender").ends()
    assert showing.ends().events[-1]["name"] == "desk"
    assert await _asked(reactor, lab, daemon.url, daemon.call("pairing.open")["code"]) is None
    assert (list(known(lab, "sender")), list(known(lab, "receiver"))) == (["loft"], ["desk"])


def test_a_guest_is_trusted_until_the_daemon_ends(lab: Lab) -> None:
    """`keep` false: nothing is written on the receiving side."""
    host = lab.daemon("host")
    guest = Identity.generate()
    assert tried(host, host.call("pairing.open", keep=False)["code"], guest) is None
    assert known(lab, "host") == {}
    with Hostile(host.port, guest) as there:
        assert there.greet().signed_in
    until(lambda: host.call("daemon.status")["peers_paired"] == 1, "the daemon has looked", said=host)
    assert len(host.call("peers.list")["peers"]) == 1
    until(lambda: "; as a guest" in host.text(), "the log says so", said=host)
    host.signal(15)
    host.wait()
    host = lab.again(host)
    with Hostile(host.port, guest) as there:
        there.send(Hello("ftx", 1, 1, [], "x", "x", False))
        assert there.end() == kind("untrusted").number
    host.kill()


GROUP = 4242


def test_a_user_and_a_daemon_with_another_key(lab: Lab) -> None:
    """Whoever may use the control socket need not type a code: `pair --open` pairs them as well.

    Where there can be two users, the daemon is one and the person another, who is in the group of the socket.
    """
    as_daemon, as_person = (NOBODY, NOBODY - 1) if os.geteuid() == 0 else (None, None)
    options = [] if as_daemon is None else ["--control-group", str(GROUP), "--control-group-pairs"]
    for user, name in ((as_daemon, "system"), (as_person, "user")):
        if user is not None:
            lab.folder_of(user, name).chmod(0o711)
    groups = {"AS_USER_GROUPS": str(GROUP)}
    system = lab.daemon("system/home", "--name", "attic", *options, user=as_daemon, environ=groups)
    system.home.chmod(0o711)
    environ = {**groups, "FTX_CONTROL": str(system.control)}
    showing, code = shown(lab, "user/home", environ=environ, user=as_person)
    assert str(system.control) in showing.text(), "it says which daemon that is"
    assert "it has a key of its own" in showing.text()
    (lab.root / "a").write_bytes(b"1")
    lab.client("send", "a", "attic:", home="user/home", user=as_person).ends()
    assert (system.inbox / "a").read_bytes() == b"1"
    assert tried(system, code) is None
    showing.ends()
    peers = {one["name"]: one["id"] for one in system.call("peers.list")["peers"]}
    assert len(peers) == 2
    person = next(name for name in peers if name != "desk")
    by = os.geteuid() if as_person is None else as_person
    assert f"audit: peer {person} ({peers[person]}) added by user {by}" in system.text()
    system.clean_log()
    system.kill()


# -- windows -----------------------------------------------------------------------------------------------


def test_B39_a_wrong_code(lab: Lab, daemon: Daemon) -> None:
    """Both screens say so, the code is void, and the right one comes too late; a new window works."""
    showing, code = shown(lab)
    wrong = next(f"{code[0]}-{word}-{word}" for word in WORDS if f"{code[0]}-{word}-{word}" != code)
    assert "code was wrong" in typing(lab, daemon, wrong).ends(5).text()
    assert "127.0.0.1 tried, and failed: the pairing code was wrong" in showing.ends(5).text()
    assert tried(daemon, code) == CLOSED
    assert known(lab, "receiver") == known(lab, "sender") == {}
    assert tried(daemon, daemon.call("pairing.open")["code"]) is None


def test_ctrl_c_closes_the_window(lab: Lab, daemon: Daemon) -> None:
    """Whoever no longer looks at the code does not leave it open."""
    showing, code = shown(lab)
    showing.signal(2)
    showing.ends(130)
    assert tried(daemon, code) == CLOSED


def test_another_window_makes_the_first_code_void(lab: Lab, daemon: Daemon) -> None:
    """One window at a time; its owner is told."""
    showing, code = shown(lab)
    second = daemon.call("pairing.open")["code"]
    assert "another window was opened" in showing.ends(5).text()
    assert daemon.call("pairing.close") == {"ok": True}
    assert daemon.call("pairing.close") == {"ok": False}
    for void in (code, second):
        assert tried(daemon, void) == CLOSED


@pytest.mark.case("K167")
@bounded(60)
async def test_what_is_wrong_before_the_attempt_costs_nothing(
    reactor: Any, lab: Lab, daemon: Daemon, capfd: pytest.CaptureFixture[str]
) -> None:
    """A name that is taken, a word that is none, nobody to ask, a code as an argument: the window stays open."""
    lab.pair("sender", "other", "attic")
    code = daemon.call("pairing.open")["code"]
    misspelt = typing(lab, daemon, "7-acron-willow")
    silent = lab.client("pair", daemon.url, home="sender")
    assert ftx_client(["--home", str(lab.root / "sender"), "pair", code]) == 2
    assert "never an argument" in capfd.readouterr().err
    taken = await _asked(reactor, lab, daemon.url, code, "attic")
    assert taken is not None
    assert (taken.name, taken.message) == ("name-taken", f"another peer is called attic: {lab.identity('other')}")
    own = await _asked(reactor, lab, daemon.url, code, home="receiver")
    assert own is not None
    assert (own.name, own.message) == ("usage", "that is this machine itself, which needs no pairing")
    assert "no word 'acron'" in misspelt.ends(2).text()
    assert "nobody to ask" in silent.ends(2).text()
    assert await deferToThread(tried, daemon, code) is None


@bounded(60)
async def test_who_was_installed_anew_pairs_anew(reactor: Any, lab: Lab, daemon: Daemon) -> None:
    """Another key behind a paired name: exit 5, both ids, and the two commands that it takes, which work."""
    lab.pair("sender", "gone", "attic", f"127.0.0.1:{daemon.port}")
    target = f"ftx://attic:{daemon.port}"
    code = daemon.call("pairing.open")["code"]
    changed = lab.client("pair", target, home="sender", environ={"FTX_CODE": code}).ends(5).text()
    assert lab.identity("gone") in changed
    assert lab.identity("receiver") in changed
    assert "peers remove attic, then ftx-client pair attic" in changed
    lab.client("peers", "remove", "-y", "attic", home="sender").ends()
    assert await _asked(reactor, lab, daemon.url, code, "attic") is None
    assert known(lab, "sender")["attic"][0] == lab.identity("receiver")


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


def test_typing_it(lab: Lab, daemon: Daemon) -> None:
    """It is asked for; a slip of the finger is told and asked for again; three letters of each word will do."""
    code = daemon.call("pairing.open")["code"]
    with Terminal(lab, daemon) as terminal:
        terminal.reads("code: ")
        terminal.type("7-acorm-willow")
        terminal.reads("did you mean acorn?")
        terminal.reads("code: ", 2)
        terminal.type(" ".join([code[0], *(word[:3] for word in code.split("-")[1:])]))
        assert terminal.ends() == 0, terminal.text
    assert list(known(lab, "receiver"))


def test_while_somebody_types(lab: Lab, daemon: Daemon) -> None:
    """The window closes: whoever is still looking for the words hears of it at once."""
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


def test_B40_hostile_elements(lab: Lab, daemon: Daemon) -> None:
    """Each is refused with an error of the protocol, uses the code up, and leaves no trace but a line in the log."""
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
    assert tried(daemon, daemon.call("pairing.open")["code"]) is None


@bounded(60)
async def test_B40_a_hostile_end_that_shows_the_code(reactor: Any, lab: Lab, daemon: Daemon) -> None:
    """What a server may answer instead of its element, our own sent back included: exit 5 or 8, nobody is paired."""
    answers = {
        "the neutral element": lambda start: encode(PairReply(b"B" + (1).to_bytes(32, "little"))),
        "reflected": lambda start: encode(PairReply(b"B" + start.element[1:])),
        "reflected with its letter": lambda start: encode(PairReply(start.element)),
        "34 bytes": lambda start: encode(PairReply(bytes(34))),
        "an element, and a proof that is none": lambda start: encode(PairReply(b"B" + ELEMENT[1:])),
        "a proof at once": lambda start: encode(PairDone(bytes(32))),
    }

    def serve(server: HostileServer, answer: Any) -> None:
        server.accept()
        server.until(Hello)
        server.send(Hello("ftx", 1, 1, ["pairing"], "x", "x", False))
        server.send(answer(server.until(PairStart)))
        with contextlib.suppress(Left):
            server.until(PairConfirm)
            server.send(PairDone(bytes(32)))
        server.end()

    for name, answer in answers.items():
        with HostileServer(Identity.generate()) as server:
            serving = deferToThread(serve, server, answer)
            failed = await _asked(reactor, lab, server.url, "7-acorn-willow")
            await serving
        assert failed is not None, name
        assert failed.number // 100 in (5, 8), (name, failed)
    assert known(lab, "sender") == {}


def test_B41_a_relay_with_two_sessions(lab: Lab, daemon: Daemon) -> None:
    """Every message is handed on as it is, the code is right, and still neither end believes the other."""
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


def test_B42_outside_of_the_window(daemon: Daemon) -> None:
    """Before it opens, after it has closed, and from a second connection during the attempt: refused."""
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
    assert tried(daemon, code) == CLOSED


def test_who_goes_without_a_word_costs_nothing(daemon: Daemon) -> None:
    """In front of the window anybody may stand and leave again: only an attempt uses the code up."""
    code = daemon.call("pairing.open")["code"]
    for farewell in (b"", encode(ErrorMessage(614)), raw_frame(3, b"\x90")):
        with Hostile(daemon.port, Identity.generate()) as hostile:
            greet(hostile)
            hostile.send(farewell)
    assert tried(daemon, code) is None


def test_B43_races_for_one_window(daemon: Daemon) -> None:
    """Many attempts at once, the right code among them: exactly one is answered."""
    for _ in range(RACES):
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


def test_the_exporter_is_the_same_at_both_ends(lab: Lab, daemon: Daemon) -> None:
    """A client written with nothing but the specification at hand pairs: pyOpenSSL's exporter, SPAKE2, two proofs."""
    identity = Identity.generate()
    assert tried(daemon, daemon.call("pairing.open")["code"], identity) is None
    assert known(lab, "receiver") == {"desk": (format_id(identity.id), ["127.0.0.1:4711"])}
