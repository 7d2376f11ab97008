"""Discovery datagrams: the codec of `docs/discovery.md`.

One datagram is one message and the layout is fixed, so there is nothing to skip, to nest or to negotiate: a
header of eight bytes, then the fields of the kind at the offsets the specification names. Decoding is strict.
Whatever a datagram contains, `decode()` returns a message or raises ProtocolError, nothing else.

Signatures are made and checked elsewhere (keys are not the business of this floor): a reply is encoded
without its signature, and decoded into the bytes that were signed and the signature over them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import attrs

from ftx import limits
from ftx.errors import ProtocolError

__all__ = [
    "INSTANCE_BYTES",
    "MAGIC",
    "NONCE_BYTES",
    "SALT_BYTES",
    "TAGS_BYTES",
    "TAG_BYTES",
    "VERSION",
    "Announcement",
    "BlindQuery",
    "BlindReply",
    "Kind",
    "Query",
    "ReplyBody",
    "SignedReply",
    "Way",
    "decode",
    "encode_announcement",
    "encode_blind_query",
    "encode_blind_reply",
    "encode_query",
    "encode_reply",
    "fit_name",
    "pad_reply",
    "unpad_reply",
]

#: The first four bytes of every datagram; no text in any encoding in use begins like this.
MAGIC: Final = b"\xe6txD"
#: The version of the format.
VERSION: Final = 1
#: Bytes of a query's nonce.
NONCE_BYTES: Final = 16
#: Bytes of a daemon's instance id.
INSTANCE_BYTES: Final = 8
#: Bytes of a blinded reply's salt, and of the tags by which blinded queries and replies are recognised.
SALT_BYTES: Final = 16
TAG_BYTES: Final = 8
#: Bytes of all tags of a blinded query: what a query has behind its nonce.
TAGS_BYTES: Final = limits.BLIND_TAGS * TAG_BYTES

_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_HEADER: Final = 8
_PREFIX: Final = MAGIC + bytes([VERSION])
_QUERY_FIELDS: Final = _HEADER + NONCE_BYTES
_PADDING: Final = bytes(limits.DISCOVERY_QUERY - _QUERY_FIELDS)
_REPLY_FIXED: Final = _HEADER + NONCE_BYTES + _KEY_BYTES + INSTANCE_BYTES + 5
_LONGEST_REPLY: Final = _REPLY_FIXED + limits.DISCOVERY_NAME + _SIGNATURE_BYTES
_SEALED: Final = _LONGEST_REPLY + 16
_BLIND_REPLY: Final = _HEADER + NONCE_BYTES + SALT_BYTES + TAG_BYTES + _SEALED
_ANNOUNCEMENT: Final = _HEADER + _KEY_BYTES + INSTANCE_BYTES


class Kind(IntEnum):
    """What a datagram is (section 2)."""

    QUERY = 1
    REPLY = 2
    STARTED = 3
    STOPPING = 4
    BLIND_QUERY = 5
    BLIND_REPLY = 6


class Way(IntEnum):
    """How a query travelled (section 1). A reply echoes it, signed, as nothing else tells the client."""

    BROADCAST = 1
    MULTICAST4 = 2
    MULTICAST6 = 3
    UNICAST = 4

    @property
    def label(self) -> str:
        """The name as events carry it: `broadcast`, `multicast4`, `multicast6`, `unicast`."""
        return self.name.lower()


_KINDS: Final = {int(kind): kind for kind in Kind}
_WAYS: Final = {int(way): way for way in Way}


@attrs.frozen
class Query:
    """Who is here? (section 3)"""

    way: Way
    #: NONCE_BYTES random bytes, one value per search.
    nonce: bytes


@attrs.frozen
class ReplyBody:
    """The signed fields of a reply (section 4)."""

    way: Way
    nonce: bytes
    #: The daemon's raw Ed25519 public key, 32 bytes.
    public_raw: bytes
    #: INSTANCE_BYTES random bytes, one value per start of the daemon.
    instance: bytes
    #: Its TCP port, 1 to 65535.
    port: int
    #: The lowest and highest version of the transfer protocol it speaks, 1 to 255.
    lowest: int
    highest: int
    #: Its display name as it chose it: 1 to 64 characters of anything, to be cleaned before it is shown.
    name: str


@attrs.frozen
class SignedReply:
    """A reply as it arrived: nothing in `body` may be believed before the signature was checked."""

    body: ReplyBody
    #: The bytes that the signature covers (behind the signing context).
    signed: bytes
    #: 64 bytes.
    signature: bytes


@attrs.frozen
class BlindQuery:
    """Is one of those here whom I know? (section 7) Only they can tell that they are meant."""

    way: Way
    nonce: bytes
    #: TAGS_BYTES: tags of TAG_BYTES each, and random bytes where there are fewer peers than room.
    tags: bytes


@attrs.frozen
class BlindReply:
    """A reply that only the asker can recognise and open (section 7)."""

    way: Way
    nonce: bytes
    #: SALT_BYTES random bytes, new for every reply.
    salt: bytes
    tag: bytes
    #: What was sealed: a padded reply and 16 bytes that show whether it was changed.
    sealed: bytes


@attrs.frozen
class Announcement:
    """A daemon says that it started or is stopping (section 5); unsigned, so only a reason to ask."""

    kind: Kind
    way: Way
    public_raw: bytes
    instance: bytes


def fit_name(name: str) -> str:
    """`name` as it may be in a reply: without what UTF-8 cannot say, cut to 64 characters and 255 bytes.

    A name of which nothing is left becomes `unnamed`.
    """
    data = name.strip().encode("utf-8", "replace").decode("utf-8")[: limits.DISPLAY_NAME].encode("utf-8")
    return data[: limits.DISCOVERY_NAME].decode("utf-8", "ignore") or "unnamed"


def encode_query(query: Query) -> bytes:
    """`query` as a datagram of `limits.DISCOVERY_QUERY` bytes; ValueError unless the nonce has its length."""
    return _header(Kind.QUERY, query.way) + _sized("nonce", query.nonce, NONCE_BYTES) + _PADDING


def encode_reply(body: ReplyBody) -> bytes:
    """`body` as the bytes to be signed; the datagram is these and the 64 bytes of the signature.

    ValueError for a field outside its range; names are made fit by `fit_name`.
    """
    name = body.name.encode("utf-8")
    if not 0 < len(name) <= limits.DISCOVERY_NAME or len(body.name) > limits.DISPLAY_NAME:
        raise ValueError("the name does not fit")
    if not 0 < body.port <= 0xFFFF:
        raise ValueError("a port is 1 to 65535")
    if not 0 < body.lowest <= body.highest <= 0xFF:
        raise ValueError("the range of versions is empty or beyond 1 to 255")
    return b"".join(
        (
            _header(Kind.REPLY, body.way),
            _sized("nonce", body.nonce, NONCE_BYTES),
            _sized("key", body.public_raw, _KEY_BYTES),
            _sized("instance", body.instance, INSTANCE_BYTES),
            body.port.to_bytes(2, "big"),
            bytes((body.lowest, body.highest, len(name))),
            name,
        )
    )


def pad_reply(data: bytes) -> bytes:
    """A signed reply with zeros to the length of the longest one, so that its length says nothing."""
    return data.ljust(_LONGEST_REPLY, b"\0")


def unpad_reply(data: bytes) -> bytes:
    """The signed reply in `data`; ProtocolError `bad-message` where its length does not fit or something follows it."""
    if len(data) != _LONGEST_REPLY:
        raise _bad("a padded reply has another length")
    end = _REPLY_FIXED + data[_REPLY_FIXED - 1] + _SIGNATURE_BYTES
    if data[end:].strip(b"\0"):
        raise _bad("the padding of a reply is not zeros")
    return data[:end]


def encode_blind_query(query: BlindQuery) -> bytes:
    """`query` as a datagram of `limits.DISCOVERY_QUERY` bytes; ValueError unless nonce and tags have their lengths."""
    nonce = _sized("nonce", query.nonce, NONCE_BYTES)
    return _header(Kind.BLIND_QUERY, query.way) + nonce + _sized("tags", query.tags, TAGS_BYTES)


def encode_blind_reply(reply: BlindReply) -> bytes:
    """`reply` as a datagram; ValueError for a field that does not have its length."""
    return b"".join(
        (
            _header(Kind.BLIND_REPLY, reply.way),
            _sized("nonce", reply.nonce, NONCE_BYTES),
            _sized("salt", reply.salt, SALT_BYTES),
            _sized("tag", reply.tag, TAG_BYTES),
            _sized("sealed", reply.sealed, _SEALED),
        )
    )


def encode_announcement(announcement: Announcement) -> bytes:
    """`announcement` as a datagram; ValueError for another kind or a field that does not have its length."""
    if announcement.kind not in (Kind.STARTED, Kind.STOPPING):
        raise ValueError("not a kind of announcement")
    return b"".join(
        (
            _header(announcement.kind, announcement.way),
            _sized("key", announcement.public_raw, _KEY_BYTES),
            _sized("instance", announcement.instance, INSTANCE_BYTES),
        )
    )


def decode(data: bytes) -> Query | SignedReply | Announcement | BlindQuery | BlindReply:
    """The message in one datagram. ProtocolError `bad-message` for everything that is not exactly one."""
    if len(data) < _HEADER or not data.startswith(_PREFIX):
        raise _bad("not a discovery datagram of this version")
    kind, way = _KINDS.get(data[5]), _WAYS.get(data[6])
    if kind is None or way is None or data[7]:
        raise _bad("no such kind or way, or reserved bits are set")
    if kind is Kind.QUERY:
        if len(data) != limits.DISCOVERY_QUERY or not data.endswith(_PADDING):
            raise _bad("a query has its full length, in zeros")
        return Query(way, data[_HEADER:_QUERY_FIELDS])
    if kind is Kind.REPLY:
        return _decode_reply(data, way)
    if kind is Kind.BLIND_QUERY:
        if len(data) != limits.DISCOVERY_QUERY:
            raise _bad("a blinded query has another length")
        return BlindQuery(way, data[_HEADER:_QUERY_FIELDS], data[_QUERY_FIELDS:])
    if kind is Kind.BLIND_REPLY:
        if len(data) != _BLIND_REPLY:
            raise _bad("a blinded reply has another length")
        return BlindReply(way, data[8:24], data[24:40], data[40:48], data[48:])
    if len(data) != _ANNOUNCEMENT:
        raise _bad("an announcement has another length")
    return Announcement(kind, way, data[8:40], data[40:48])


def _decode_reply(data: bytes, way: Way) -> SignedReply:
    if len(data) < _REPLY_FIXED:
        raise _bad("a reply was cut")
    port = int.from_bytes(data[64:66], "big")
    lowest, highest, length = data[66], data[67], data[68]
    end = _REPLY_FIXED + length
    if len(data) != end + _SIGNATURE_BYTES:
        raise _bad("a reply has another length than it says")
    if not port or not 0 < lowest <= highest or not length:
        raise _bad("a field of a reply is out of range")
    try:
        name = data[_REPLY_FIXED:end].decode("utf-8")
    except UnicodeDecodeError:
        raise _bad("a name is not UTF-8") from None
    if len(name) > limits.DISPLAY_NAME:
        raise _bad("a name is too long")
    body = ReplyBody(
        way=way,
        nonce=data[8:24],
        public_raw=data[24:56],
        instance=data[56:64],
        port=port,
        lowest=lowest,
        highest=highest,
        name=name,
    )
    return SignedReply(body, data[:end], data[end:])


def _header(kind: Kind, way: Way) -> bytes:
    return _PREFIX + bytes((kind, way, 0))


def _sized(what: str, value: bytes, length: int) -> bytes:
    """`value`, which must have `length` bytes."""
    if len(value) != length:
        raise ValueError(f"{what}: {length} bytes are wanted")
    return value


def _bad(why: str) -> ProtocolError:
    return ProtocolError("bad-message", why)
