"""The public holes of other file transfer software, one test each: the same attempt, and what ftx does with it.

Each test is named after its CVE number, and its sentence says whose it was. They are short, and say which hole must
never come back; the deeper tests of the same families are in `tests/catalogue.toml`. What has no equivalent here is in
NONE, with the reason.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.memory_disk import MemoryDisk, items
from support.pair import Pair, hello, offer

import ftx
from ftx import limits
from ftx.core.identity import format_id
from ftx.core.peers import TrustStore
from ftx.core.receipt import line
from ftx.core.session import Role, Session, Stage
from ftx.core.trust import judge
from ftx.disk.keys import Identity
from ftx.disk.names import NameRules, check_path
from ftx.disk.places import places
from ftx.disk.root import Means, Root
from ftx.disk.settings import gather
from ftx.errors import FtxError, ProtocolError
from ftx.net import tls
from ftx.text import show
from ftx.wire import announce, messages
from ftx.wire.frames import AFTER_SIGN_IN, BEFORE_SIGN_IN, Frame, FrameDecoder, FrameType, data_frames, frame
from ftx.wire.jsonlines import LineSplitter, decode_request
from ftx.wire.messages import decode, encode

PACKAGE = Path(ftx.__file__).parent
KEY = Identity.generate()

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


def modules() -> Iterator[tuple[str, str]]:
    """Every module of the product and its text."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), path.read_text("utf-8")


def imported() -> set[str]:
    """Every module that the product imports anywhere."""
    found = set()
    for _, text in modules():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def refused(*path: bytes) -> bool:
    """Whether this path is refused by the rules for names, at their most permissive."""
    try:
        check_path(path, NameRules(control=True, dot_at_top=True))
    except FtxError as error:
        return error.name == "bad-name"
    return False


def job(*frames: bytes) -> Any:
    """A server's end in a job, after these frames of its sender, with its disk's work done."""
    server = Pair([], MemoryDisk()).server
    for wire in (encode(hello("desk")) + encode(offer()), *frames):
        server.arrive(wire)
        while server.lanes:
            server.work(next(iter(server.lanes)))
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
    client = Pair(items(tree), MemoryDisk()).client
    accept = encode(messages.Accept(bytes(range(16)), 2048, 4096, 2, 0))
    for wire in (encode(hello("attic", signed_in=True)), accept, *frames):
        client.arrive(wire)
        for _ in range(100):
            if not client.lanes:
                break
            client.work(next(iter(client.lanes)))
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


# -- croc --------------------------------------------------------------------------------------------------


def test_CVE_2023_43616_archives_are_not_unpacked() -> None:
    """croc unpacked a zip over files of the receiver: nothing here reads archives of any kind."""
    assert not {name.split(".")[0] for name in imported()} & {"zipfile", "tarfile", "patoolib", "py7zr"}
    assert not [name for name, text in modules() if "unpack_archive" in text]


def test_CVE_2023_43618_nothing_is_said_before_encryption() -> None:
    """croc sent its addresses in the clear: a client says its hello in the TLS session, and knows no other message."""
    session = Session(Role.CLIENT, hello("desk"), 0.0)
    with pytest.raises(FtxError):
        session.send(offer(), 0.0)
    assert b"desk" in session.send(session.hello, 0.0)
    assert "handshakeCompleted" in (PACKAGE / "net" / "transfer.py").read_text("utf-8")


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


def test_CVE_2023_43621_no_secret_is_an_argument() -> None:
    """croc took its secret on the command line: no option and no argument here takes a code or a key."""
    named = re.compile(r'"--(code|secret|password|passphrase|pin|key)"')  # a file with one is not on the command line
    assert [name for name, text in modules() if named.search(text)] == []


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


def test_CVE_2026_43619_every_call_is_relative_to_a_folder() -> None:
    """rsync's fix covered one call of many: every file operation of the root takes a held descriptor."""
    text = (PACKAGE / "disk" / "root.py").read_text("utf-8")
    for call in re.findall(r"os\.(?:open|mkdir|link|rename|unlink|symlink|readlink|utime|chmod)\([^\n]*", text):
        inbox = "(path, " in call or "abspath(path)), " in call  # the inbox itself, by the name its operator gave
        assert inbox or re.search(r"dir_fd|_fd\b|fd,|/proc/self/fd", call), call


def test_CVE_2026_53784_to_53803_no_path_is_used_twice(root: Root, tmp_path: Path) -> None:
    """rsync's twenty races of a check and a use: every operation names one component of a held folder."""
    for name in (b"a/b", b"../outside/secret", b"..", b""):
        for operation in (root.make_folder, root.open_file, root.status):
            with pytest.raises((FtxError, TypeError)):
                operation(root.fd, name, *([0o700] if operation == root.make_folder else []))  # type: ignore[operator]


def test_CVE_2026_43617_a_rule_that_cannot_be_read_is_a_refusal(tmp_path: Path) -> None:
    """rsync's deny rule failed open: a damaged list of peers lets nobody in."""
    from ftx.disk import peers

    path = tmp_path / "peers.toml"
    path.write_bytes(b"version = 1\ncount = 1\n")
    path.chmod(0o600)
    with pytest.raises(FtxError) as caught:
        peers.load(str(path))
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
    """rsync took a PROXY header from anybody: there is no such frame, and no message has an address."""
    assert header(b"PROXY"[4], int.from_bytes(b"PROX", "big"), BEFORE_SIGN_IN) == "unknown-frame"
    fields = {field for kind in vars(messages).values() if isinstance(kind, type) and hasattr(kind, "__struct_fields__")
              for field in kind.__struct_fields__}  # fmt: skip
    assert not fields & {"address", "host", "source", "forwarded", "id", "identity"}


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
    """rsync read an empty answer as uid 0: the kernel says who connects, in a structure of a fixed size."""
    text = (PACKAGE / "net" / "local.py").read_text("utf-8")
    assert "SO_PEERCRED, _UCRED.size" in text
    assert "pwd" not in {name.split(".")[0] for name in imported()}


def test_CVE_2026_70453_matching_is_linear() -> None:
    """rsync's search was quadratic: what a receiver keeps of n blocks is n bits, and each is looked up."""
    from ftx.core.blocks import BlockSet

    for blocks in (1000, 100_000):
        known = BlockSet(blocks)
        for block in range(0, blocks, 97):
            known.add(block)
        assert sum(1 for _ in known) == len(range(0, blocks, 97))


def test_CVE_2026_70455_a_peer_chooses_no_threads() -> None:
    """rsync's peer chose 256 threads of compression: no message has a level, a timeout or a count of threads."""
    fields = {field for kind in vars(messages).values() if isinstance(kind, type) and hasattr(kind, "__struct_fields__")
              for field in kind.__struct_fields__}  # fmt: skip
    assert not fields & {"threads", "level", "memory", "timeout", "interval", "workers"}


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
    assert messages.ErrorMessage.__struct_fields__ == ("number",)
    assert error_of(msgspec.msgpack.encode(["\x1b[2J"]), FrameType.ERROR) == "bad-message"


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


def test_CVE_2025_54792_discovery_is_no_proof() -> None:
    """LocalSend believed answers of discovery: an identity is computed from a key, which only TLS proves."""
    body = announce.ReplyBody(announce.Way.UNICAST, bytes(16), bytes(32), bytes(8), 7389, 1, 1, "laptop")
    signed = announce.decode(announce.encode_reply(body) + bytes(64))
    assert not hasattr(signed, "id")
    assert "peer_of" in (PACKAGE / "net" / "transfer.py").read_text("utf-8")


def test_CVE_2025_32900_broadcasts_change_no_paired_peer() -> None:
    """KDE Connect's user saw what a broadcast said: a paired peer keeps the name it has here."""
    text = (PACKAGE / "core" / "discovery.py").read_text("utf-8") + (PACKAGE / "net" / "finder.py").read_text("utf-8")
    assert "TrustStore" not in text
    assert "update(" not in text


def test_CVE_2025_66270_no_identity_is_claimed() -> None:
    """KDE Connect's id was in two packets that were not compared: no message has one, there is only the key."""
    assert messages.Hello.__struct_fields__ == (
        "magic", "lowest", "highest", "features", "name", "software", "signed_in",
    )  # fmt: skip
    assert format_id(KEY.id) not in repr(hello("desk"))


def test_CVE_2020_26164_what_strangers_cost() -> None:
    """KDE Connect had six unbounded things before pairing: each has its number here."""
    assert 8 * limits.KiB >= limits.FRAME_BEFORE_SIGN_IN
    assert limits.UNSIGNED_TOTAL <= 256
    assert limits.HELLO_DEADLINE <= 10
    assert limits.COMPLAINT_SOURCES <= 1024
    assert header(FrameType.HELLO, limits.FRAME_BEFORE_SIGN_IN + 1, BEFORE_SIGN_IN) == "frame-too-large"


def test_CVE_2022_42725_folders_that_are_links(root: Root, tmp_path: Path) -> None:
    """Warpinator wrote into linked folders: a folder of the inbox that is a link is not entered."""
    os.symlink("../outside", tmp_path / "inbox" / "shared")
    assert not leads_out(root, b"shared")


def test_CVE_2023_29380_receiving_removes_nothing() -> None:
    """Warpinator cleaned the destination first: the root removes nothing but what it staged itself."""
    text = (PACKAGE / "disk" / "root.py").read_text("utf-8")
    removing = set(re.findall(r"def (\w*unlink\w*|\w*rmtree\w*|\w*remove\w*)", text))
    assert removing <= {"unlink_staged", "remove_private"}  # the second: .ftx itself, when there is nothing in it
    assert "rmtree" not in "".join(text for name, text in modules() if not name.startswith("client/"))


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


def test_CVE_2025_58753_one_file_gives_no_siblings() -> None:
    """copyparty's share of one file gave its folder: what is asked for is a list of components below a share."""
    if hasattr(messages, "Request"):
        for component in (b"..", b".", b"", b"a/b"):
            body = msgspec.msgpack.encode([bytes(16), "share", [[component]], None, None, None])
            assert error_of(body, FrameType.REQUEST)


@pytest.mark.parametrize("member", ["../x", "/etc/x", "a/../../x", "link/../../x"])
def test_CVE_2024_12718_2025_4138_4330_4435_4517_members_of_archives(member: str) -> None:
    """Python's tarfile filter was passed by five ways: a folder is a manifest, whose names are no paths."""
    assert "tarfile" not in imported()
    assert refused(*member.encode().split(b"/"))


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
    """Terrapin removed messages unnoticed: records are TLS 1.3's, and a receipt is over every line of both."""
    text = (PACKAGE / "net" / "tls.py").read_text("utf-8")
    assert "set_min_proto_version(SSL.TLS1_3_VERSION)" in text
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
    """Holes of twisted.web, names and words: none of them is loaded by anything here."""
    assert not [name for name in imported() if name.startswith(f"twisted.{part}")]


def test_CVE_2019_12855_tls_that_is_not_verified() -> None:
    """twisted.words did not verify: both roles ask for a certificate, and an unknown finding is a no."""
    text = (PACKAGE / "net" / "tls.py").read_text("utf-8")
    assert "SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT" in text
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
    assert limits.DATAGRAMS_PER_TURN <= 32
    assert "DATAGRAMS_PER_TURN" in (PACKAGE / "net" / "datagrams.py").read_text("utf-8")
    assert "listenUDP" not in "".join(text for _, text in modules())


# -- the list itself ---------------------------------------------------------------------------------------


def test_every_hole_has_one_test_or_a_reason() -> None:
    """The names above are numbers of the public record, each once, and none of them is called inapplicable as well."""
    text = Path(__file__).read_text("utf-8")
    named = re.findall(r"^def test_CVE_([0-9_]+)_", text, re.MULTILINE)
    assert len(named) == len(set(named)) >= 55
    assert not {f"CVE-{name.replace('_', '-')}" for name in named} & set(NONE)
    assert decode_request(b"status") is not None
    assert frame(FrameType.PING, b"")
