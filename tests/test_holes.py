"""The public holes of other file transfer software, one test each: the same attempt, and what ftx does with it.

Each test is named after its CVE number, and its sentence says whose it was. They are short, and say which hole must
never come back; the deeper tests of the same families are in `tests/catalogue.toml`. What has no equivalent here is in
NONE, with the reason.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from OpenSSL import SSL
from support import pair as machines
from support.bounded import bounded, until
from support.inboxes import MTIME, Sending, snapshot
from support.inboxes import content as bytes_of
from support.memory_disk import MemoryDisk, items
from support.pair import hello, offer
from support.races import state_of
from support.tls_peers import Pair, Plain, PumpReactor, odd_context, odd_factory
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from ftx import limits
from ftx.client.api import Settings, discover
from ftx.client.cli import main
from ftx.core.codes import new_code
from ftx.core.discovery import Counters, FoundPeers, Reply
from ftx.core.identity import SIGN_DISCOVERY, format_id
from ftx.core.peers import Peer, TrustStore
from ftx.core.receipt import line
from ftx.core.session import Session
from ftx.core.session import error_of as session_error
from ftx.core.stages import Role, Stage
from ftx.core.trust import judge
from ftx.daemon.complaints import Said
from ftx.disk import peers
from ftx.disk.inbox import Inbox
from ftx.disk.keys import Identity
from ftx.disk.names import NameRules, check_path
from ftx.disk.places import places, prepare_home
from ftx.disk.root import Means, Root
from ftx.disk.settings import gather
from ftx.errors import KINDS, FtxError, ProtocolError
from ftx.net import tls
from ftx.net.datagrams import Datagram, DatagramSocket, ephemeral_sockets
from ftx.net.discovery import Finder
from ftx.net.local import caller_of
from ftx.net.tls import Credentials
from ftx.net.transfer import Connection
from ftx.text import show
from ftx.wire import announce, messages
from ftx.wire.events import Discovered
from ftx.wire.frames import AFTER_SIGN_IN, BEFORE_SIGN_IN, Frame, FrameDecoder, FrameType, data_frames, frame
from ftx.wire.jsonlines import LineSplitter, decode_request
from ftx.wire.messages import decode, encode

KEY = Identity.generate()
MINE, YOURS = Credentials(KEY), Credentials(Identity.generate())

#: Holes without an equivalent: what they were in does not exist here.
NONE = {
    "CVE-2023-43617": "croc's relay rooms: there is no relay, and no secret travels before TLS",
    "CVE-2024-12085": "an uninitialised buffer in C: nothing here has memory of its own to leak",
    "CVE-2026-27459": "OpenSSL's DTLS cookies: no datagram is encrypted here",
    "CVE-2026-40475": "names set in certificates: the subject is a constant, and nobody looks at it",
    "CVE-2026-70454": "a shell wrapper that did not verify: TLS is part of the program, see CVE-2019-12855",
    "CVE-2025-8194": "a loop in tarfile: no archive is read, see CVE-2023-43616",
}


# -- small tools -------------------------------------------------------------------------------------------


@functools.cache
def loaded() -> frozenset[str]:
    """The modules of a process that has imported all of the product, but for what an operator must ask for by name."""
    everything = (
        "import importlib, pkgutil, sys, ftx\n"
        "for module in pkgutil.walk_packages(ftx.__path__, 'ftx.'):\n"
        "    if not module.name.endswith('__main__') and module.name != 'ftx.daemon.scrape':\n"
        "        importlib.import_module(module.name)\n"
        "print(*sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", everything], capture_output=True, text=True, check=True)
    return frozenset(ran.stdout.split())


@contextlib.contextmanager
def impostor() -> Iterator[tuple[socket.socket, int]]:
    """A UDP socket on 127.0.0.1 that somebody asks, and its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.setblocking(False)
        yield made, made.getsockname()[1]


def answered(there: socket.socket, *replies: tuple[Identity, Identity, str]) -> bool:
    """Answer one query, if one has come, with replies under the first key, signed with the second, of this name."""
    try:
        data, where = there.recvfrom(2048)
    except BlockingIOError:
        return False
    query = announce.decode(data)
    assert isinstance(query, announce.Query)
    for shown, signing, name in replies:
        body = announce.ReplyBody(query.way, query.nonce, shown.public_raw, bytes(8), 7389, 1, 1, name)
        plain = announce.encode_reply(body)
        there.sendto(plain + signing.sign(SIGN_DISCOVERY, plain), where)
    return True


def refused(*path: bytes) -> bool:
    """Whether this path is refused by the rules for names, at their most permissive."""
    try:
        check_path(path, NameRules(control=True, dot_at_top=True))
    except FtxError as error:
        return error.name == "bad-name"
    return False


def job(*frames: bytes) -> Any:
    """A server's end in a job, after these frames of its sender, with its disk's work done."""
    server = machines.Pair([], MemoryDisk()).server
    for wire in (encode(hello("desk")) + encode(offer()), *frames):
        server.arrive(wire)
        while server.strands:
            server.work(next(iter(server.strands)))
    return server


def manifest(*names: bytes, size: int = 1) -> bytes:
    """A manifest of files."""
    entries = [messages.FileEntry(number, [name], size, 1, 0o644) for number, name in enumerate(names)]
    return encode(messages.Manifest(entries, True))


def content(number: int, data: bytes = b"x") -> bytes:
    """A small file, sent."""
    from ftx.core.blocks import block_digest

    return b"".join(data_frames(number, 0, data, block_digest([data])))


def sending(tree: dict[bytes, Any], *frames: bytes) -> Any:
    """A client's end that sends `tree`, after these frames of its receiver, with its disk's work done."""
    client = machines.Pair(items(tree), MemoryDisk()).client
    accept = encode(messages.Accept(bytes(range(16)), 2048, 4096, 2, 0))
    for wire in (encode(hello("attic", signed_in=True)), accept, *frames):
        client.arrive(wire)
        for _ in range(100):
            if not client.strands:
                break
            client.work(next(iter(client.strands)))
    return client


def error_of(body: bytes, kind: FrameType) -> str:
    """The error that decoding this body ends with, empty for none."""
    try:
        decode(Frame(kind, body))
    except ProtocolError as error:
        return error.name
    return ""


def header(kind: int, length: int, bounds: Any = AFTER_SIGN_IN) -> str:
    """The error that a frame header alone leads to, empty for none; nothing but it is buffered."""
    decoder = FrameDecoder(bounds)
    decoder.feed(length.to_bytes(4, "big") + bytes([kind]))
    try:
        decoder.next_item()
    except ProtocolError as error:
        return error.name
    assert decoder.buffered == 0
    return ""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """An inbox beside a folder that is none of it."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    held = Root(str(tmp_path / "inbox"), Means())
    yield held
    assert os.listdir(tmp_path / "outside") == ["secret"]
    assert (tmp_path / "outside" / "secret").read_bytes() == b"secret"
    held.close()


def leads_out(root: Root, *path: bytes) -> bool:
    """Whether a folder at this path can be opened."""
    try:
        os.close(root.open_folder(path))
    except (FtxError, OSError):
        return False
    return True


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """What a test leaves open of its connections is closed."""
    yield
    Pair.close_all()


# -- croc --------------------------------------------------------------------------------------------------


def test_CVE_2023_43616_archives_are_not_unpacked(tmp_path: Path) -> None:
    """croc unpacked a zip over files of the receiver: an archive is a file like any other, and stays one."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("../evil", b"x")
        archive.writestr("inner", b"y")
    inbox = Inbox.open(str(tmp_path / "inbox"))
    for name in ("a.zip", "a"):
        assert Sending(inbox, {name: made.getvalue()}).run() == {name: f"stored {name}"}
    inbox.close()
    assert snapshot(tmp_path / "inbox") == {"a.zip": made.getvalue(), "a": made.getvalue()}
    assert os.listdir(tmp_path) == ["inbox"]


def test_CVE_2023_43618_nothing_is_said_before_encryption() -> None:
    """croc sent its addresses in the clear: a client says its hello in the TLS session, and knows no other message."""
    session = Session(Role.CLIENT, hello("desk"), 0.0)
    with pytest.raises(FtxError):
        session.send(offer(), 0.0)
    assert b"desk" in session.send(session.hello, 0.0)
    owner: Any = SimpleNamespace(ended=lambda *_: None)
    connection: Any = Connection(Clock(), Role.CLIENT, "desk", owner, "")  # type: ignore[arg-type]
    pair = Pair(MINE.client, lambda plain: plain, client_protocol=connection)
    pair.flush()
    assert pair.server.received.startswith(b"\x16\x03"), "a ClientHello, read by who has no TLS"
    assert b"desk" not in pair.server.received
    connection.abort(FtxError("cancelled"))


def test_CVE_2023_43619_files_that_were_not_announced() -> None:
    """croc's sender could add files after the receiver had agreed: content of no announced entry ends the session."""
    server = job(manifest(b"a", b"b"), content(0), content(2))
    assert server.error.name == "protocol-error"
    assert len(server.disk.files) == 1


def test_CVE_2023_43620_escape_sequences_in_names() -> None:
    """croc printed names as they came: they are refused, and cleaned wherever one is shown."""
    with pytest.raises(FtxError):
        check_path((b"a\x1b[1A\x1b[2Kb",), NameRules())
    assert "\x1b" not in show(b"a\x1b[1A\x1b[2Kb")


def test_CVE_2023_43621_no_secret_is_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    """croc took its secret on the command line: one that is written there is refused, and not repeated."""
    code = new_code(lambda below: below // 2)
    for words in ([code], ["attic", code], ["attic", "--code", code], [f"--code={code}"]):
        assert main(["pair", *words]) == KINDS["usage"].exit_code
    said = capsys.readouterr()
    assert "a code is never an argument" in said.err


# -- rsync -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 31, 33, 4096])
def test_CVE_2024_12084_the_length_of_a_digest(length: int) -> None:
    """rsync believed a checksum's length: a digest has 32 bytes, or the message is none."""
    assert error_of(msgspec.msgpack.encode([0, 1, bytes(length)]), FrameType.ENTRY_END) == "bad-message"


def test_CVE_2024_12086_a_receiver_asks_for_other_files() -> None:
    """rsync's server read files of the client: only what was announced can be asked for."""
    client = sending({b"a": b"x"}, encode(messages.Needs([messages.WantAll(7)])))
    assert client.error.name == "protocol-error"
    assert client.reads == []


@pytest.mark.parametrize("target", ["../outside", "/etc", "."])
def test_CVE_2024_12087_links_out_of_the_destination(target: str, root: Root, tmp_path: Path) -> None:
    """rsync followed links that the sender had made: no component of a path may be a link, wherever it leads."""
    os.symlink(target, tmp_path / "inbox" / "link")
    assert not leads_out(root, b"link")
    assert not leads_out(root, b"link", b"deep")


def test_CVE_2024_12088_safe_links(root: Root, tmp_path: Path) -> None:
    """rsync's check of a link's target was fooled by another link in it: no link is a way, whatever its target."""
    os.symlink("a/../../outside", tmp_path / "inbox" / "safe")
    os.symlink(".", tmp_path / "inbox" / "a")
    assert not leads_out(root, b"safe")
    assert not leads_out(root, b"a", b"safe")


def test_CVE_2024_12747_a_link_at_the_last_moment(root: Root, tmp_path: Path) -> None:
    """rsync looked, and then opened: a file that became a link is refused by the open itself."""
    os.symlink("../outside/secret", tmp_path / "inbox" / "file")
    opened = None
    with contextlib.suppress(FtxError, OSError):
        opened = root.open_file(root.fd, b"file")
    assert opened is None


def test_CVE_2026_29518_a_parent_that_becomes_a_link(root: Root, tmp_path: Path) -> None:
    """rsync's daemon walked to a parent by its path: a held folder stays the one it was."""
    (tmp_path / "inbox" / "d").mkdir()
    held = root.open_folder((b"d",))
    try:
        os.rename(tmp_path / "inbox" / "d", tmp_path / "inbox" / "moved")
        os.symlink("../outside", tmp_path / "inbox" / "d")
        root.make_folder(held, b"new", 0o700)
        assert (tmp_path / "inbox" / "moved" / "new").is_dir()
        assert not leads_out(root, b"d")
    finally:
        os.close(held)


@pytest.mark.parametrize("conflict", ["fail", "rename", "backup", "overwrite"])
def test_CVE_2026_43619_every_call_is_relative_to_a_folder(conflict: str, tmp_path: Path) -> None:
    """rsync's fix covered one call of many: whatever a job does, the path of the inbox may lead elsewhere meanwhile."""
    outside, path = tmp_path / "outside", tmp_path / "inbox"
    data = bytes_of(limits.BLOCK + 1)
    old: dict[str, bytes | None] = {"small": b"old", "large": data, "d": None, "d/e": b"old"}
    (outside / "d").mkdir(parents=True)
    for name, there in old.items():
        if there is not None:
            (outside / name).write_bytes(there)
    before = snapshot(outside), state_of(outside)
    inbox = Inbox.open(str(path))
    Sending(inbox, old).run()
    path.rename(tmp_path / "moved")
    path.symlink_to(outside)
    new = {name: None if there is None else there + b"new" for name, there in old.items()} | {"f": None, "f/g": data}
    results = Sending(inbox, new, conflict=conflict, mtime_ns=MTIME + 1).run()
    assert results["f/g"] == "stored f/g"
    inbox.clean(0.0)
    inbox.close()
    assert (snapshot(outside), state_of(outside)) == before
    assert snapshot(tmp_path / "moved")["f/g"] == data


def test_CVE_2026_53784_to_53803_no_path_is_used_twice(root: Root, tmp_path: Path) -> None:
    """rsync's twenty races of a check and a use: every operation names one component of a held folder."""
    for name in (b"a/b", b"../outside/secret", b"..", b""):
        for operation in (root.make_folder, root.open_file, root.status):
            with pytest.raises((FtxError, TypeError)):
                operation(root.fd, name, *([0o700] if operation == root.make_folder else []))  # type: ignore[operator]


def test_CVE_2026_43617_a_rule_that_cannot_be_read_is_a_refusal(tmp_path: Path) -> None:
    """rsync's deny rule failed open: a damaged list of peers lets nobody in, not even who was in it before."""
    path = tmp_path / "peers.toml"
    tmp_path.chmod(0o700)
    peers.update(str(path), lambda store: store.add(Peer("pi", bytes(32), (), "2026-11-22", None)))
    watched = peers.Watched(str(path))
    assert watched.current().by_id(bytes(32)) is not None
    path.write_bytes(b"version = 1\ncount = 1\n")
    for _ in range(2):
        with pytest.raises(FtxError) as caught:
            watched.current()
        assert caught.value.name == "state-unusable"


def test_CVE_2026_70452_a_name_that_does_not_resolve() -> None:
    """rsync admitted a host that its rule could not resolve: addresses decide nothing, an unknown key is out."""
    for address in ("", "localhost", "no address", "127.0.0.1"):
        with pytest.raises(FtxError) as caught:
            judge(
                bytes(32), address, own_id=KEY.id, own_name="me", own_addresses=(), own_key_anywhere=False,
                peers=TrustStore(), unknown="untrusted",
            )  # fmt: skip
        assert caught.value.name == "untrusted"


def test_CVE_2026_43618_sizes_of_compressed_content() -> None:
    """rsync's decoder overflowed on lengths: a frame that says another size than its block is none."""
    from ftx.disk.packing import unpack

    for frame_header in (b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8, b"\x28\xb5\x2f\xfd\xa0" + b"\xff" * 4):
        assert unpack([frame_header + bytes(20)], 1000) is None


def test_CVE_2026_43620_a_receiver_that_answers_twice() -> None:
    """rsync's client crashed on an index that it had checked in one place of two: any number is looked up, not used."""
    for number in (0, 5, 2**31 - 1):
        client = sending({b"a": b"x"}, encode(messages.Results([messages.Skipped(number)])) * 2)
        assert client.error is not None
        assert client.error.name in ("protocol-error", "wrong-state")


def test_CVE_2026_45232_a_line_without_its_end() -> None:
    """rsync read one byte beyond a line without a newline: the end of the input is the end of the line."""
    splitter = LineSplitter()
    splitter.feed(b"x" * limits.CONTROL_LINE)
    assert splitter.next_line() is None
    assert splitter.last_line() == b"x" * limits.CONTROL_LINE


def test_CVE_2026_53788_a_line_feed_in_a_name() -> None:
    """rsync put names into a protocol of lines: in a transcript what could end a line is written otherwise."""
    text = line("stored", 1, bytes(32), [b"a\nstored 1 - b -", b"c\r"], None)
    assert text.count(b"\n") == 1
    assert b"a%0Astored%201" in text


def test_CVE_2026_53789_what_was_not_asked_for() -> None:
    """rsync's server chose what to send: blocks that were not wanted end the session."""
    server = job(manifest(b"a"), content(0), content(0))
    assert server.error.name == "protocol-error"


def test_CVE_2026_53791_who_says_where_he_comes_from() -> None:
    """rsync took a PROXY header from anybody: in front of TLS it ends the connection, and within there is none."""
    pair = Pair(lambda plain: plain, MINE.server)
    pair.flush()
    pair.client.transport.write(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")  # type: ignore[union-attr]
    pair.flush()
    assert pair.server.lost is not None
    assert (pair.server.peer, pair.server.received) == (None, b"")
    assert header(b"PROXY"[4], int.from_bytes(b"PROX", "big"), BEFORE_SIGN_IN) == "unknown-frame"


@pytest.mark.parametrize("kind", FrameType)
def test_CVE_2026_53792_a_length_from_the_wire(kind: FrameType) -> None:
    """rsync computed with lengths before it bounded them: the longest is refused with nothing behind its header."""
    assert header(kind, 2**32 - 1) in ("frame-too-large", "wrong-state", "unknown-frame")


@pytest.mark.parametrize("text", ["drain_timeout = -1", "drain_timeout = nan", "discovery_port = -1"])
def test_CVE_2026_53794_nothing_means_without_limit(text: str, tmp_path: Path) -> None:
    """rsync's max-alloc=0 meant no limit: a number out of its range stops the start."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(FtxError) as caught:
        gather({}, {}, places(str(tmp_path), {}, os.geteuid(), "/"), "/", str(path))
    assert caught.value.name == "config-invalid"


def test_CVE_2026_53798_an_empty_answer_is_not_root() -> None:
    """rsync read an empty answer as uid 0: the kernel says who connects, and where it says nothing it is nobody."""
    one, other = socket.socketpair()
    with one, other, socket.socket(socket.AF_UNIX) as alone:
        assert (caller_of(one).uid, caller_of(one).pid) == (os.geteuid(), os.getpid())
        nobody = caller_of(alone)
    assert nobody.uid not in (0, os.geteuid())


def test_CVE_2026_70453_matching_is_linear() -> None:
    """rsync's search was quadratic: what a receiver keeps of n blocks is n bits, and each is looked up."""
    from ftx.core.blocks import BlockSet

    for blocks in (1000, 100_000):
        known = BlockSet(blocks)
        for block in range(0, blocks, 97):
            known.add(block)
        assert sum(1 for _ in known) == len(range(0, blocks, 97))


@pytest.mark.parametrize(
    "message",
    [offer(), messages.Accept(bytes(16), 2048, 4096, 2, 0), messages.Goodbye(), messages.Ping(1)],
    ids=lambda message: type(message).__name__,
)
def test_CVE_2026_70455_a_peer_chooses_no_threads(message: messages.Message) -> None:
    """rsync's peer chose 256 threads of compression: a field for it is in no message, and cannot be added to one."""
    wire = encode(message)
    body = [*msgspec.structs.astuple(message), 256]
    assert error_of(wire[5:], FrameType(wire[4])) == ""
    assert error_of(msgspec.msgpack.encode(body), FrameType(wire[4])) == "bad-message"


def test_CVE_2026_70462_a_peer_switches_no_timeout_off() -> None:
    """rsync's peer could switch the client's timeout off: whatever is said, a silent peer is dead after 30 seconds."""
    session = Session(Role.CLIENT, hello("desk"), 0.0)
    session.send(session.hello, 0.0)
    session.receive(encode(hello("attic", signed_in=True)), 1.0)
    assert session.next_event(1.0) is not None
    session.receive(encode(messages.Pong(2**63 - 1)), 2.0)
    assert session.next_event(2.0) is None
    with pytest.raises(FtxError) as caught:
        session.tick(2.0 + limits.SILENCE)
    assert caught.value.name == "peer-silent"


def test_CVE_2026_70464_the_deadline_of_a_handshake() -> None:
    """rsync armed its timeout after the reads that needed it: ours runs from the connect, whatever comes."""
    session = Session(Role.SERVER, hello("attic"), 0.0)
    for second in range(10):
        session.receive(b"\x00", float(second))
        session.next_event(float(second)) if second < 3 else None
    with pytest.raises(FtxError) as caught:
        session.tick(limits.HELLO_DEADLINE)
    assert caught.value.name == "hello-timeout"


# -- scp and its descendants -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"", b".", b"./", b".."])
def test_CVE_2018_20685_the_target_folder_itself(name: bytes) -> None:
    """scp's server changed the target folder by an empty name: such a name is none."""
    assert refused(name)
    assert refused(b"a", name)


def test_CVE_2019_6111_objects_that_were_not_asked_for() -> None:
    """scp's server sent what it liked: see rsync's CVE-2026-53789; and a second manifest after the last is refused."""
    server = job(manifest(b"a"), manifest(b".bashrc"))
    assert server.error.name == "wrong-state"


def test_CVE_2019_6109_names_that_rewrite_the_screen() -> None:
    """scp showed names as they came: C0, DEL, C1, bidi overrides and isolates are written as escapes."""
    odd = "".join(map(chr, [*range(32), *range(0x7F, 0xA0), 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
    assert all(char.isprintable() for char in show(odd, 10_000))


def test_CVE_2019_6110_errors_that_rewrite_the_screen() -> None:
    """scp passed the server's stderr on: an error of a peer is a number, and its sentence is made here."""
    assert error_of(msgspec.msgpack.encode([501]), FrameType.ERROR) == ""
    for said in (["\x1b[2J"], [501, "\x1b[2J"], [b"\x1b[2J"]):
        assert error_of(msgspec.msgpack.encode(said), FrameType.ERROR) == "bad-message"
    for number in (1, 501, 899, 999):
        assert session_error(messages.ErrorMessage(number)).message.isprintable()


def test_CVE_2026_0964_the_same_in_a_library() -> None:
    """libssh had scp's hole again: content before any manifest, and for a folder, is refused."""
    assert job(content(0)).error.name == "protocol-error"
    entries = [messages.FolderEntry(0, [b"d"]), messages.FolderEnd(0, 0o755, 1)]
    assert job(encode(messages.Manifest(entries, True)), content(0)).error.name == "protocol-error"


# -- the local network -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [(b"..", b"..", b"evil"), (b"/etc/cron.d/x",), (b"a/../../b",), (b"a\0",)])
def test_CVE_2025_27142_a_name_joined_to_a_folder(path: tuple[bytes, ...]) -> None:
    """LocalSend joined the name to the download folder: a path is a list of components, and none of them leads up."""
    assert refused(*path)


def test_CVE_2024_49421_a_name_joined_to_a_folder_again() -> None:
    """Samsung's Quick Share had the same: a backslash is a character like any other, and a slash is in no component."""
    assert refused(b"..\\..\\evil/x")
    assert not refused(b"..\\..\\evil")


@bounded(20)
async def test_CVE_2025_54792_discovery_is_no_proof(reactor: Any) -> None:
    """LocalSend believed answers of discovery: one under another's key must be signed by it, and is a hint then."""
    victim, forger = Identity.generate(), Identity.generate()
    with impostor() as (there, port):
        finder = Finder(reactor, port=port, include=("none",), hosts=("127.0.0.1",), ways={announce.Way.UNICAST})
        finder.start()
        try:
            await until(lambda: answered(there, (victim, forger, "forged"), (victim, victim, "honest")))
            await until(lambda: finder.counters.answered == 1)
        finally:
            finder.stop()
    assert [(reply.name, reply.id) for reply in finder.replies()] == [("honest", victim.id)]
    pair = Pair(MINE.client, YOURS.server)  # whoever is found there proves a key of its own, whatever was announced
    pair.flush()
    assert pair.client.peer is not None
    assert pair.client.peer.id not in (victim.id, forger.id)


@bounded(20)
async def test_CVE_2025_32900_broadcasts_change_no_paired_peer(reactor: Any, short_tmp: Path) -> None:
    """KDE Connect's user saw what a broadcast said: a paired peer keeps the name that it has here."""
    where = places(str(short_tmp / "home"), {}, os.geteuid(), "/")
    prepare_home(where)
    pi = Identity.generate()
    peers.update(where.peers, lambda store: store.add(Peer("pi", pi.id, ("127.0.0.1:7389",), "2026-11-22", None)))
    before = Path(where.peers).read_bytes()
    with impostor() as (there, port):
        settings = Settings(where, discovery_port=port, discovery_interfaces=("lo",))
        # it waits by a clock of ours: on a busy machine half a second is over before the answers are read
        clock, heard = Clock(), []  # type: ignore[var-annotated]
        timed = SimpleNamespace(**{name: getattr(reactor, name) for name in dir(reactor) if name[0] != "_"})
        timed.callLater, timed.seconds = clock.callLater, clock.seconds

        async def look() -> list[Discovered]:
            return await discover(timed, settings, wait=0.5, on_event=heard.append)

        found = Deferred.fromCoroutine(look())
        await until(lambda: answered(there, (pi, pi, "Your bank"), (KEY, KEY, "pi")))
        await until(lambda: len(heard) == 2)
        clock.advance(0.5)
        names = {(one.name, one.announced, one.paired) for one in await found}
    assert names == {("pi", "Your bank", True), ("pi", "pi", False)}
    assert Path(where.peers).read_bytes() == before


def test_CVE_2025_66270_no_identity_is_claimed() -> None:
    """KDE Connect's id was in two packets that were not compared: there is only the key, whatever a hello says."""
    known = TrustStore().add(Peer("pi", bytes(32), (), "2026-11-22", None))
    for name in ("pi", format_id(bytes(32))):
        server = Session(Role.SERVER, hello("attic"), 0.0)
        server.receive(encode(hello(name)), 0.0)
        assert server.next_event(0.0).name == name  # type: ignore[union-attr]
        with pytest.raises(FtxError) as caught:
            judge(
                KEY.id, "192.0.2.7", own_id=bytes(31) + b"x", own_name=name, own_addresses=(), own_key_anywhere=False,
                peers=known, unknown="untrusted",
            )  # fmt: skip
        assert caught.value.name == "untrusted"


def test_CVE_2020_26164_what_strangers_cost() -> None:
    """KDE Connect had six unbounded things before pairing: each has an end here."""
    assert header(FrameType.HELLO, limits.FRAME_BEFORE_SIGN_IN + 1, BEFORE_SIGN_IN) == "frame-too-large"
    assert header(FrameType.OFFER, 1, BEFORE_SIGN_IN) == "wrong-state"
    flood = Pair(lambda plain: plain, MINE.server)  # one long message of a handshake that never ends
    record = b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xfc\x03\x03"
    flood.flush()
    for _ in range(2 * limits.HANDSHAKE // 0x4000 + 1):
        flood.client.transport.write(record + bytes(0x4000 - 6))  # type: ignore[union-attr]
        record = b"\x16\x03\x01\x40\x00" + bytes(6)
        flood.flush()
    assert flood.server.lost is not None
    silent = Session(Role.SERVER, hello("attic"), 0.0)
    with pytest.raises(FtxError):
        silent.tick(limits.HELLO_DEADLINE)
    said, found = Said(Clock()), FoundPeers(lambda identity: False)
    for number in range(2 * limits.COMPLAINT_SOURCES):
        said.is_news(number)
        key = number.to_bytes(32, "big")
        found.add(
            Reply(
                name="x", id=key, public_raw=key, address="192.0.2.7", port=1, versions=(1,), via="unicast",
                interface="lo", instance=bytes(8), addresses=("192.0.2.7",),
            )
        )  # fmt: skip
    assert said.is_news(0), "the oldest was forgotten"
    assert len(found.replies()) == limits.DISCOVERED


def test_CVE_2022_42725_folders_that_are_links(root: Root, tmp_path: Path) -> None:
    """Warpinator wrote into linked folders: a folder of the inbox that is a link is not entered."""
    os.symlink("../outside", tmp_path / "inbox" / "shared")
    assert not leads_out(root, b"shared")


@pytest.mark.parametrize("conflict", ["fail", "skip", "rename", "backup", "overwrite"])
def test_CVE_2023_29380_receiving_removes_nothing(conflict: str, tmp_path: Path) -> None:
    """Warpinator cleaned the destination first: whatever is there stays, but for the file that one may overwrite."""
    there: dict[str, bytes | None] = {"mine": b"1", "taken": b"2", "d": None, "d/mine": b"3", "d/taken": b"4"}
    (tmp_path / "inbox" / "d").mkdir(parents=True)
    for name, data in there.items():
        if data is not None:
            (tmp_path / "inbox" / name).write_bytes(data)
    inbox = Inbox.open(str(tmp_path / "inbox"))
    Sending(inbox, {"taken": b"new", "d": None, "d/taken": b"new"}, conflict=conflict).run()
    inbox.clean(0.0)
    inbox.close()
    found = snapshot(tmp_path / "inbox")
    assert found.items() >= {name: data for name, data in there.items() if "taken" not in name}.items()
    if conflict != "overwrite":
        assert {b"2", b"4"} <= set(found.values())


# -- sync, backup, upload ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"/"])
def test_CVE_2026_42448_the_last_component(name: bytes) -> None:
    """magic-wormhole forgot its basename() in one branch of two: there is one check, at the sink, for every name."""
    assert refused(name)
    assert refused(b"folder", name)


@pytest.mark.parametrize("size", [-1, -(2**31), -(2**63), 2**63, 2**64 - 1])
def test_CVE_2021_21404_a_negative_length(size: int) -> None:
    """Syncthing's relay crashed on a negative length: a size is 0 to 2^63 - 1, or the message is none."""
    body = msgspec.msgpack.encode([[[0, 0, [b"a"], size, 0, 0o644]], True])
    assert error_of(body, FrameType.MANIFEST) == "bad-message"


def test_CVE_2026_62268_an_item_below_a_link(root: Root, tmp_path: Path) -> None:
    """borg extracted a link and then an item below it: nothing is made below a link, whoever made it."""
    os.symlink("../outside", tmp_path / "inbox" / "d")
    assert not leads_out(root, b"d")
    entries = [messages.FileEntry(0, [b"d"], 1, 1, 0o644), messages.FileEntry(1, [b"d", b"x"], 1, 1, 0o644)]
    assert job(encode(messages.Manifest(entries, True))).error.name in ("bad-message", "bad-name")


@pytest.mark.parametrize("component", [b"..", b".", b"", b"a/b", b"a\0b"])
def test_CVE_2025_58753_one_file_gives_no_siblings(component: bytes) -> None:
    """copyparty's share of one file gave its folder: what is asked for is a list of components below a share."""
    honest = [bytes(16), [[b"share", b"file"]], [], 0]
    assert error_of(msgspec.msgpack.encode(honest), FrameType.REQUEST) == ""
    honest[1] = [[b"share", component, b"file"]]
    assert error_of(msgspec.msgpack.encode(honest), FrameType.REQUEST) in ("bad-message", "bad-name")


@pytest.mark.parametrize("member", ["../x", "/etc/x", "a/../../x", "link/../../x"])
def test_CVE_2024_12718_2025_4138_4330_4435_4517_members_of_archives(member: str) -> None:
    """Python's tarfile filter was passed by five ways: a folder is a manifest, whose names are no paths."""
    assert refused(*member.encode().split(b"/"))
    assert refused(member.encode())


# -- decoders, libraries, Twisted --------------------------------------------------------------------------


def test_CVE_2026_26209_nested_arrays() -> None:
    """cbor2 fell to 100 kB of nested arrays: one error, in every type of message."""
    for kind in FrameType:
        if kind is not FrameType.DATA:
            assert error_of(b"\x91" * 60_000, kind) == "bad-message"


@pytest.mark.parametrize("body", [kind + b"\xff" * 4 for kind in (b"\xdd", b"\xc6", b"\xdb")], ids=repr)
def test_CVE_2026_21452_a_length_that_is_not_there(body: bytes) -> None:
    """msgpack for Java allocated what a header declared: nothing is made of what has not come."""
    assert error_of(body, FrameType.MANIFEST) == "bad-message"


def test_CVE_2026_32284_a_body_that_ends_too_soon() -> None:
    """msgpack for Go read out of bounds: every body cut anywhere is one error."""
    body = encode(messages.Manifest([messages.FileEntry(0, [b"name"], 5, 1, 0o644)], True))[5:]
    assert {error_of(body[:end], FrameType.MANIFEST) for end in range(len(body))} == {"bad-message"}


@pytest.mark.parametrize("kind", [kind for kind in FrameType if kind not in BEFORE_SIGN_IN])
def test_CVE_2018_7749_requests_before_authentication(kind: FrameType) -> None:
    """asyncssh served requests of strangers: before sign-in a frame of any other type is not even read."""
    assert header(kind, 0, BEFORE_SIGN_IN) == "wrong-state"


def test_CVE_2023_46445_messages_in_the_handshake() -> None:
    """asyncssh took messages put into the handshake: what comes before the server's hello ends the session."""
    client = Session(Role.CLIENT, hello("desk"), 0.0)
    client.send(client.hello, 0.0)
    client.receive(encode(messages.Accept(bytes(16), 2048, 4096, 2, 0)), 0.0)
    with pytest.raises(ProtocolError):
        client.next_event(0.0)
    assert client.stage is Stage.FAILED


def test_CVE_2023_46446_a_session_of_somebody_else() -> None:
    """asyncssh's victim was in an attacker's session: there is one hello, and a second one ends the session."""
    server = Session(Role.SERVER, hello("attic"), 0.0)
    server.receive(encode(hello("desk")) * 2, 0.0)
    assert server.next_event(0.0) is not None
    with pytest.raises(ProtocolError):
        server.next_event(0.0)


def test_CVE_2023_48795_messages_removed_from_the_beginning() -> None:
    """Terrapin removed messages unnoticed: without the first record of a session the second one is none."""
    pair = Pair(MINE.client, YOURS.server)
    pair.flush()
    sealing = pair.client.transport.connection  # type: ignore[union-attr]
    sealed = []
    for said in (b"first", b"second"):
        sealing.send(said)
        sealed.append(sealing.bio_read(1000))
    pair.client_io.getHandle().send(sealed[1])
    pair.flush()
    assert pair.server.received == b""
    assert isinstance(pair.server.lost.value, SSL.Error)  # type: ignore[union-attr]
    assert sealing.get_protocol_version_name() == "TLSv1.3"
    one, other = (line("stored", 1, bytes(32), [name], [name]) for name in (b"a", b"b"))
    assert one != other


def test_CVE_2026_27448_an_exception_in_a_callback() -> None:
    """pyOpenSSL went on when a callback raised: ours says no to whatever it cannot judge."""
    for wrong in (None, object(), b""):
        assert tls._acceptable(None, wrong, 0, 0, 1) is False  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "part", ["web", "names", "words", "conch", "mail", "spread"], ids=lambda part: f"twisted.{part}"
)
def test_CVE_2019_12387_2020_10108_2022_24801_2023_46137_2024_41671_2026_42304_parts(part: str) -> None:
    """Holes of twisted.web, names and words: with everything of ftx imported, none of them is in the process.

    Only the endpoint for metrics, which is off unless it is configured, has an HTTP server; it takes no bodies.
    """
    assert "ftx.daemon.service" in loaded()
    assert not [name for name in loaded() if f"{name}.".startswith(f"twisted.{part}.")]


def test_CVE_2019_12855_tls_that_is_not_verified() -> None:
    """twisted.words did not verify: who shows no certificate is out, and an unknown finding is a no."""
    odd = Plain()

    def make(factory: Any) -> Any:
        return odd_factory(odd_context(server=False), odd, server=False, clock=factory.clock)

    pair = Pair(make, MINE.server, client_protocol=odd)
    pair.flush()
    assert pair.server.lost is not None
    assert (pair.server.shaken, pair.server.peer, pair.server.received) == (False, None, b"")
    for finding in (2, 7, 20, 21, 24, 26, 62):  # X509_V_ERR_...: no issuer, bad signature, purpose, host name
        assert tls._acceptable(None, None, finding, 0, 1) is False  # type: ignore[arg-type]
        assert tls._acceptable(None, None, 0, 1, 1) is False  # type: ignore[arg-type]


def test_CVE_2022_21716_a_first_line_without_end() -> None:
    """conch buffered a version string without end: a stranger's hello has 4 KiB at most."""
    assert header(FrameType.HELLO, limits.FRAME_BEFORE_SIGN_IN, BEFORE_SIGN_IN) == ""
    assert header(FrameType.HELLO, limits.FRAME_BEFORE_SIGN_IN + 1, BEFORE_SIGN_IN) == "frame-too-large"


def test_CVE_2019_9512_9514_9515_floods_of_control_frames() -> None:
    """HTTP/2's floods of pings and settings: what asks for nothing is counted, and too much of it ends the session."""
    server = job(*[encode(messages.Ping(1))] * (limits.IDLE_FRAMES_PER_SECOND * 10 + 1))
    assert server.error.name == "protocol-error"


def test_CVE_2024_2169_answers_to_answers() -> None:
    """Servers answered errors with errors without end: only a query is answered, and no reply is one."""
    body = announce.ReplyBody(announce.Way.UNICAST, bytes(16), bytes(32), bytes(8), 7389, 1, 1, "x" * 64)
    reply = announce.encode_reply(body) + bytes(64)
    assert not isinstance(announce.decode(reply), announce.Query)
    assert len(reply) < limits.DISCOVERY_QUERY


def test_CVE_2026_11352_empty_datagrams() -> None:
    """curl, and Twisted's own port, read empty datagrams without end: a turn is so many datagrams."""
    came: list[Datagram] = []
    pump = PumpReactor()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        bound, *others = sorted(ephemeral_sockets(), key=lambda one: one.family != socket.AF_INET)
        for other in others:
            other.close()
        reading = DatagramSocket(pump, bound, lambda _, datagram: came.append(datagram), Counters())
        try:
            for _ in range(3 * limits.DATAGRAMS_PER_TURN):
                sender.sendto(b"", ("127.0.0.1", bound.getsockname()[1]))
            for turn in range(1, 4):
                reading.doRead()
                assert len(came) == turn * limits.DATAGRAMS_PER_TURN
        finally:
            reading.close()


# -- the list itself ---------------------------------------------------------------------------------------


def test_every_hole_has_one_test_or_a_reason() -> None:
    """The names above are numbers of the public record, each once, and none of them is called inapplicable as well."""
    text = Path(__file__).read_text("utf-8")
    named = re.findall(r"^def test_CVE_([0-9_]+)_", text, re.MULTILINE)
    assert len(named) == len(set(named)) >= 55
    assert not {f"CVE-{name.replace('_', '-')}" for name in named} & set(NONE)
    assert decode_request(b"status") is not None
    assert frame(FrameType.PING, b"")
