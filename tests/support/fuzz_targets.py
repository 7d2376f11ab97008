"""Every parser of ftx as a function that takes any bytes: for hypothesis (`tests/fuzz`), and for atheris (`make fuzz`).

A target raises nothing, whatever it is given: it takes the errors that its parser documents for wrong input, and holds
what was parsed to what must be true of it. Anything else that comes out of it is a defect.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

import attrs
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto
from support.memory_disk import MemoryDisk, Refuse, items
from support.pair import Pair, hello, offer

from ftx import limits
from ftx.client.target import parse_folder, parse_target
from ftx.core.bucket import parse_rate, parse_timetable
from ftx.core.codes import parse_code
from ftx.core.identity import format_id, parse_id
from ftx.core.receipt import decode_receipt, encode_receipt, parse_line
from ftx.core.receipt import line as receipt_line
from ftx.core.rights import parse_hours
from ftx.core.session import Session
from ftx.core.stages import Role
from ftx.daemon.listen import parse_endpoint
from ftx.disk import keys, peers
from ftx.disk.journal import Journal
from ftx.disk.names import NameRules, check_path
from ftx.disk.packing import Packer, unpack
from ftx.disk.places import places
from ftx.disk.settings import gather
from ftx.errors import KINDS, FtxError, ProtocolError
from ftx.net import tls
from ftx.text import parse_size, show
from ftx.wire import announce, icmp, jsonlines, messages
from ftx.wire.frames import AFTER_SIGN_IN, BEFORE_SIGN_IN, Frame, FrameDecoder, FrameType, Piece

__all__ = ["TARGETS", "Target"]

T = TypeVar("T")

_TYPES = [kind for kind in FrameType if kind is not FrameType.DATA]
_MIB = limits.BLOCK


@attrs.frozen
class Target:
    """One parser: `run` takes any bytes, `seeds` are inputs that it understands."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def _attempt(call: Callable[[], T], *names: str) -> T | None:
    """What `call` gives; None when it refuses, with an error of one of these names (any, if there are none)."""
    try:
        return call()
    except FtxError as error:
        refusal = error
    assert refusal.name in (names or KINDS)
    assert show(refusal.message, 1000) == refusal.message, "not clean for display"
    return None


def _frames_of_session() -> list[tuple[str, bytes]]:
    from vectors.make import session

    return [(origin, wire) for origin, _, wire in session()]


def _wire(origin: str) -> bytes:
    return b"".join(wire for who, wire in _frames_of_session() if who == origin)


def _vectors() -> list[bytes]:
    from vectors.make import VALID

    return [messages.encode(message) for _, _, message in VALID]


def _cuts(data: bytes) -> list[bytes]:
    """`data` behind its first byte, in pieces whose size that byte gives; 0 for all at once."""
    size, rest = (data[0], data[1:]) if data else (0, b"")
    return [rest] if not size else [rest[start : start + size] for start in range(0, len(rest), size)]


# -- what a peer sends -------------------------------------------------------------------------------------


def _frames(data: bytes) -> None:
    """The first byte says how small the pieces are, its lowest bit which bounds count. Cuts change nothing."""

    def decoded(chunks: list[bytes]) -> tuple[list[Any], str]:
        bounds: Mapping[int, int] = AFTER_SIGN_IN if data[:1] and data[0] % 2 else BEFORE_SIGN_IN
        decoder = FrameDecoder(bounds)
        items: list[Any] = []
        try:
            for chunk in chunks:
                decoder.feed(chunk)
                while (item := decoder.next_item()) is not None:
                    if isinstance(item, Piece):
                        items.append((item.entry, item.block, item.encoding, b"".join(item.chunks), item.digest))
                        assert item.length <= limits.PIECE
                    else:
                        items.append(item)
                        assert len(item.body) <= bounds[item.type]
        except ProtocolError as error:
            return items, error.name
        return items, ""

    assert decoded(_cuts(data)) == decoded([data[1:]])


def _message(data: bytes) -> None:
    """The first byte chooses the type, the rest is the body. What decodes is encoded to what decodes to the same."""
    if not data:
        return
    kind = _TYPES[data[0] % len(_TYPES)]
    message = _attempt(lambda: messages.decode(Frame(kind, data[1:])), "bad-message", "bad-name")
    if message is not None:
        assert messages.decode(Frame(kind, messages.encode(message)[5:])) == message


def _session(data: bytes) -> None:
    """A server before sign-in: it hears at most one hello."""
    session = Session(Role.SERVER, hello("attic"), 0.0)
    heard = []
    with contextlib.suppress(ProtocolError):
        for chunk in _cuts(data):
            session.receive(chunk, 1.0)
            while (event := session.next_event(1.0)) is not None:
                heard.append(event)
            assert session.buffered <= limits.FRAME_BEFORE_SIGN_IN + len(chunk)
    assert {type(one) for one in heard} <= {messages.Hello, messages.ErrorMessage}
    assert len(heard) <= 2


def _work(end: Any) -> None:
    """Let everything come back that is under way, a bounded number of times."""
    for _ in range(1000):
        if not end.strands:
            return
        end.work(next(iter(end.strands)))


def _check(end: Any) -> None:
    assert end.error is None or end.error.name in KINDS


class _SmallDisk(MemoryDisk):
    """Refuses what is larger than it is, as every disk does: what is held of a file grows with its blocks."""

    def look_up(self, entry: Any) -> Any:
        return Refuse("no-space") if getattr(entry, "size", 0) > 1 << 40 else super().look_up(entry)


def _receiver(data: bytes) -> None:
    """A signed-in sender that says anything after its offer."""
    server = Pair([], _SmallDisk()).server
    server.arrive(messages.encode(hello("desk")) + messages.encode(offer()))
    for chunk in _cuts(data):
        server.arrive(chunk)
        _work(server)
    _check(server)


_TREE = list(items({b"a": b"x", b"b": {b"c": bytes(_MIB) + b"y" * 7}, b"d": b""}))


def _sender(data: bytes) -> None:
    """A signed-in receiver that says anything after its hello."""
    client = Pair(list(_TREE), MemoryDisk()).client
    client.arrive(messages.encode(hello("attic", signed_in=True)))
    _work(client)
    for chunk in _cuts(data):
        client.arrive(chunk)
        _work(client)
    _check(client)
    assert client.receipt is None  # nobody but the receiver can sign one, and its key is not in the corpus


def _receipt_body(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        body = messages.decode_receipt_body(data)
        assert messages.decode_receipt_body(messages.encode_receipt_body(body)) == body


def _kept_receipt(data: bytes) -> None:
    assert encode_receipt(decode_receipt(data)) == data


def _receipt_line(data: bytes) -> None:
    found = _attempt(lambda: parse_line(data), "receipt-invalid")
    assert found is None or found.size >= 0


def _names(data: bytes) -> None:
    """Components separated by slashes, as the rules for names see them."""
    path = tuple(data.split(b"/"))
    for rules in (NameRules(), NameRules(control=True, dot_at_top=True)):
        if _attempt(lambda rules=rules: check_path(path, rules) or True, "bad-name"):  # type: ignore[misc]
            assert not {b"", b".", b".."} & set(path)
            assert b"\0" not in data


def _certificate(data: bytes) -> None:
    """A certificate of a stranger, if OpenSSL takes it for one: a bool, and no exception that a callback would lose."""
    try:
        certificate = crypto.load_certificate(crypto.FILETYPE_ASN1, data)
    except crypto.Error:
        return
    verdict = tls._acceptable(None, certificate, 0, 0, 1)  # type: ignore[arg-type]
    assert verdict in (True, False)


# -- what arrives as a datagram, or on the control socket --------------------------------------------------


def _datagram(data: bytes) -> None:
    message = _attempt(lambda: announce.decode(data), "bad-message")
    if message is None:
        return
    if isinstance(message, announce.Query):
        assert announce.encode_query(message) == data
    elif isinstance(message, announce.SignedReply):
        assert announce.encode_reply(message.body) + message.signature == data
    else:
        assert announce.encode_announcement(message) == data


def _icmp(data: bytes) -> None:
    """Answers to echoes, of both versions, with the header before them and without."""
    for version, header in ((4, True), (4, False), (6, False)):
        answer = icmp.decode_icmp(version, data, ip_header=header)
        assert answer is None or (0 <= answer.identifier < 1 << 16 and 0 <= answer.sequence < 1 << 16)


def _icmp_seeds() -> list[bytes]:
    request = icmp.encode_echo(4, 1, 2, b"data")
    quoted = b"\x45" + bytes(8) + b"\x01" + bytes(10) + request
    return [b"\0\0\xff\xff" + request[4:], b"\x03\x04" + bytes(4) + b"\x05\xa0" + quoted]


def _control(data: bytes) -> None:
    """Lines of a client of the control socket."""
    splitter = jsonlines.LineSplitter()

    def lines() -> None:
        for chunk in _cuts(data):
            splitter.feed(chunk)
            while (line := splitter.next_line()) is not None:
                request = jsonlines.decode_request(line)
                assert request is None or request.params.startswith(b"{")
        last = splitter.last_line()
        if last is not None:
            jsonlines.decode_request(last)

    _attempt(lines, "bad-request")


def _reply(data: bytes) -> None:
    """A line of a daemon, as the client hears it."""
    _attempt(lambda: jsonlines.decode_reply(data))


# -- what a person types -----------------------------------------------------------------------------------


def _identity(data: bytes) -> None:
    identity = _attempt(lambda: parse_id(data.decode("utf-8", "surrogateescape")), "bad-identity")
    if identity is not None:
        assert parse_id(format_id(identity)) == identity


def _target(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for parse in (parse_target, lambda text: parse_target(text, option=True), parse_folder):
        _attempt(lambda parse=parse: parse(text), "bad-target", "bad-identity")  # type: ignore[misc]


def _endpoint(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        endpoint = parse_endpoint(text)
    except ValueError:
        return
    assert parse_endpoint(str(endpoint)).port == endpoint.port


def _rest(data: bytes) -> None:
    """Smaller things that people write: a size, the hours of a rule, a pairing code."""
    text = data.decode("utf-8", "surrogateescape")
    for parse in (parse_size, parse_hours, parse_rate, parse_timetable):
        with contextlib.suppress(ValueError):
            parse(text)
    _attempt(lambda: parse_code(text), "bad-code", "usage")


def _packed(data: bytes) -> None:
    """A compressed block of a peer: its content, or nothing."""
    for length in (1, 1000, _MIB):
        content = unpack([data], length)
        assert content is None or len(content) == length


def _shown(data: bytes) -> None:
    for value in (data, data.decode("utf-8", "surrogateescape"), data.decode("latin-1")):
        shown = show(value)
        assert len(shown) <= 200
        assert show(shown) == shown
        assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in shown)
        shown.encode("utf-8")


# -- what lies on the disk ---------------------------------------------------------------------------------


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="ftx-fuzz-")


def _written(name: str, data: bytes) -> str:
    path = os.path.join(_scratch().name, name)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
    return path


_JOURNAL_KEY, _JOURNAL_SIZE = bytes(range(32)), 20 * _MIB + 3


def _new_journal() -> bytes:
    fd = os.memfd_create("ftx-fuzz")
    copy = os.dup(fd)
    journal = Journal.create(fd, _JOURNAL_KEY, _JOURNAL_SIZE)
    for block in (0, 3, 20):
        journal.set(block, bytes([block]) * 32)
    journal.commit(False)
    journal.close()
    with open(copy, "rb") as file:
        file.seek(0)
        return file.read(8192)


def _journal(data: bytes) -> None:
    """A journal that says anything: what it knows is whole, and it can be gone on with."""
    fd = os.memfd_create("ftx-fuzz")
    os.write(fd, data[: 1 << 20])
    journal = Journal.load(fd, _JOURNAL_KEY, _JOURNAL_SIZE)
    if journal is None:
        return
    assert all(len(journal.digest(block) or b"") == 32 for block in journal.blocks)
    assert all(block < 21 for block in journal.blocks)
    journal.set(1, bytes(32))
    journal.commit(False)
    journal.close()


def _peers(data: bytes) -> None:
    store = _attempt(lambda: peers.load(_written("peers.toml", data)), "state-unusable")
    if store is not None:
        assert len({peer.id for peer in store.peers}) == len(store.peers)


def _configuration(data: bytes) -> None:
    path = _written("config.toml", data)
    home = places(_scratch().name, {}, os.geteuid(), "/")
    _attempt(lambda: gather({}, {}, home, "/", path), "config-invalid")


def _key(data: bytes) -> None:
    _attempt(lambda: keys.load(_written("identity.key", data)), "key-unusable")


def _pem() -> bytes:
    path = os.path.join(_scratch().name, "seed.key")
    keys.load_or_create(path)
    with open(path, "rb") as file:
        return file.read()


def _certificates() -> list[bytes]:
    identity = keys.Identity.of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    return [tls._certificate(identity).public_bytes(Encoding.DER)]


_PEERS = b"""version = 1
count = 1

[[peer]]
name = "laptop"
id = "%s"
addresses = ["192.0.2.1:7389"]
added = "2026-11-22"
""" % format_id(bytes(32)).encode()

_CONFIG = b"""name = "attic"
listen = ["tcp:7389"]
conflict = "rename"
accept = "paired"
drain_timeout = 30
no_discovery = true
"""


def _sent_by(origin: str, skip: int) -> list[bytes]:
    """What this end says in a small job, without its first frames, whole and cut."""
    wire = b"".join(wire for who, wire in _frames_of_session() if who == origin)
    for _ in range(skip):
        wire = wire[5 + int.from_bytes(wire[:4], "big") :]
    return [bytes([cut]) + wire for cut in (0, 1, 40)]


def _bodies() -> list[bytes]:
    return [bytes([_TYPES.index(FrameType(one[4]))]) + one[5:] for one in _vectors()]


def _datagrams() -> list[bytes]:
    way, nonce, raw = announce.Way.UNICAST, bytes(16), bytes(range(32))
    body = announce.ReplyBody(way, nonce, raw, bytes(8), 7389, 1, 1, "attic")
    announcement = announce.Announcement(announce.Kind.STARTED, way, raw, bytes(8))
    return [
        announce.encode_query(announce.Query(way, nonce)),
        announce.encode_reply(body) + bytes(64),
        announce.encode_announcement(announcement),
    ]


def _receipt_bodies() -> list[bytes]:
    digest = bytes(range(32))
    return [messages.encode_receipt_body(messages.ReceiptBody(bytes(16), digest, digest, *range(1, 9), 0, digest))]


_TARGETS_TYPED = [b"laptop:", b"laptop:in/here", b"[fe80::1%eth0]:", b"ftx://192.0.2.1:7389/dir", b"user@host", b"./a"]
_ENDPOINTS = [b"tcp:7389", b"tcp6:7389:interface=\\:\\:1", b"tcp:port=0:interface=127.0.0.1:backlog=5", b"7389"]
_REQUESTS = [b'\x00{"jsonrpc":"2.0","id":1,"method":"jobs.list","params":{}}\n', b"\x01status\n"]
_REPLIES = [
    b'{"jsonrpc":"2.0","id":1,"result":{"a":1}}',
    b'{"jsonrpc":"2.0","id":1,"error":{"code":601,"message":"no","data":{"name":"refused","hint":"x"}}}',
]

#: By name; a name is a folder of the corpus, too.
TARGETS: dict[str, Target] = {
    "frames": Target(_frames, lambda: [b"\x00" + _wire("C"), b"\x07" + _wire("C"), b"\x03" + _wire("S")]),
    "message": Target(_message, _bodies),
    "session": Target(_session, lambda: [b"\x00" + _wire("C"), b"\x01" + _wire("C")]),
    "receiver": Target(_receiver, lambda: _sent_by("C", 2)),
    "sender": Target(_sender, lambda: _sent_by("S", 1)),
    "receipt-body": Target(_receipt_body, _receipt_bodies),
    "kept-receipt": Target(_kept_receipt, lambda: [bytes(64) + one for one in _receipt_bodies()]),
    "receipt-line": Target(
        _receipt_line,
        lambda: [
            receipt_line("stored", 1, bytes(32), [b"a"], [b"b"]),
            receipt_line("failed-606", 0, None, [b"-"], None),
        ],
    ),
    "names": Target(_names, lambda: [b"a/b/c", b"..", b".ftx/x", b"a\x1b"]),
    "certificate": Target(_certificate, _certificates),
    "datagram": Target(_datagram, _datagrams),
    "icmp": Target(_icmp, _icmp_seeds),
    "control": Target(_control, lambda: _REQUESTS),
    "reply": Target(_reply, lambda: _REPLIES),
    "identity": Target(_identity, lambda: [format_id(bytes(range(32))).encode()]),
    "target": Target(_target, lambda: [*_TARGETS_TYPED, format_id(bytes(32)).encode() + b":"]),
    "endpoint": Target(_endpoint, lambda: _ENDPOINTS),
    "rest": Target(_rest, lambda: [b"10M", b"1.5Gi", b"22:00-06:00", b"08:00 2M, 19:00 0", b"7-word-other"]),
    "packed": Target(_packed, lambda: [Packer().pack(b"text " * 200) or b""]),
    "shown": Target(_shown, lambda: ["a\x1b[31m\u202eb\ud800".encode("utf-8", "surrogatepass"), b"plain"]),
    "journal": Target(_journal, lambda: [_new_journal()]),
    "peers": Target(_peers, lambda: [_PEERS]),
    "configuration": Target(_configuration, lambda: [_CONFIG, b"drain_timeout = " + b"9" * 5000]),
    "key": Target(_key, lambda: [_pem()]),
}
