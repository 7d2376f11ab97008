"""The control messages of the transfer protocol: typed, bounded, positional (`docs/protocol.md`, section 4).

Each message is a msgspec Struct written as a MessagePack array; `encode()` gives its frame, `decode()` the message of
a frame. All bounds on lists, strings and integers are in the types, so what `decode()` returns is in range; what it
cannot accept, for whatever reason, becomes one kind of ProtocolError.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from ftx import limits
from ftx.errors import ProtocolError
from ftx.wire.frames import Frame, FrameType, feature_of, frame

__all__ = [
    "CONFLICTS",
    "DRY_RUN",
    "FEATURES",
    "PULL",
    "PUSH",
    "Accept",
    "Basis",
    "Cancel",
    "DigestedEntry",
    "End",
    "EntryEnd",
    "EntryFailed",
    "ErrorMessage",
    "Failed",
    "FileEntry",
    "FolderEnd",
    "FolderEntry",
    "Goodbye",
    "Hello",
    "Identical",
    "Item",
    "ItemKind",
    "List",
    "Listing",
    "Manifest",
    "Message",
    "Needs",
    "Offer",
    "Omission",
    "Omitted",
    "PairConfirm",
    "PairDone",
    "PairReply",
    "PairStart",
    "Pause",
    "Ping",
    "PipeEntry",
    "Pong",
    "ProgressMessage",
    "Receipt",
    "ReceiptBody",
    "Refuse",
    "Request",
    "Results",
    "Resume",
    "Reveal",
    "Skipped",
    "Stored",
    "SymlinkEntry",
    "Totals",
    "Waiting",
    "WantAgain",
    "WantAll",
    "WantGroup",
    "Wanted",
    "decode",
    "decode_receipt_body",
    "encode",
    "encode_receipt_body",
    "needed_feature",
]

#: Conflict policies by their number on the wire, from the strictest to the loosest.
CONFLICTS: Final = ("fail", "skip", "rename", "backup", "overwrite")
#: The features that this implementation knows (section 12); a hello lists those that it wants on its connection.
FEATURES: Final = ("approval", "checksum", "delta", "dry-run", "pipes", "pull", "repair", "steer", "symlinks", "zstd")
#: Kinds of an offer: the client's own, and a server's answer to a request.
PUSH: Final = 0
PULL: Final = 1
#: What a push would do: nothing is changed.
DRY_RUN: Final = 2

Version = Annotated[int, Meta(ge=1, le=255)]
Feature = Annotated[str, Meta(min_length=1, max_length=32)]
Display = Annotated[str, Meta(max_length=limits.DISPLAY_NAME)]
Job = Annotated[bytes, Meta(min_length=16, max_length=16)]
Digest = Annotated[bytes, Meta(min_length=limits.DIGEST, max_length=limits.DIGEST)]
ErrorNumber = Annotated[int, Meta(ge=100, le=20_000)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Token = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Number = Annotated[int, Meta(ge=0, le=limits.ENTRIES)]
Component = Annotated[bytes, Meta(min_length=1, max_length=limits.NAME)]
WirePath = Annotated[list[Component], Meta(min_length=1, max_length=limits.DEPTH)]
Folder = Annotated[list[Component], Meta(max_length=limits.DEPTH)]
Mode = Annotated[int, Meta(ge=0, le=0o777)]
Time = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Window = Annotated[int, Meta(ge=limits.BATCH, le=65_535)]
Conflict = Annotated[int, Meta(ge=0, le=len(CONFLICTS) - 1)]
Element = Annotated[bytes, Meta(min_length=limits.PAIRING_ELEMENT, max_length=limits.PAIRING_ELEMENT)]
Proof = Annotated[bytes, Meta(min_length=limits.PAIRING_PROOF, max_length=limits.PAIRING_PROOF)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Bitmap = Annotated[bytes, Meta(min_length=1, max_length=limits.GROUP // 8)]


class Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What all messages share: positional, nothing unknown."""


class Hello(Message, frozen=True):
    """The first message of each side."""

    magic: Annotated[str, Meta(max_length=8)]
    lowest: Version
    highest: Version
    features: Annotated[list[Feature], Meta(max_length=32)]
    name: Display
    software: Display
    signed_in: bool


class ErrorMessage(Message, frozen=True):
    """The reason for which the session ends now."""

    number: ErrorNumber


class Goodbye(Message, frozen=True):
    """A clean end."""


class Ping(Message, frozen=True):
    """Are you there?"""

    token: Token


class Pong(Message, frozen=True):
    """Yes: the answer to the ping with this token."""

    token: Token


class Offer(Message, frozen=True):
    """A job: what the sender would like to send."""

    job: Job
    kind: Annotated[int, Meta(ge=PUSH, le=DRY_RUN)]
    into: Folder
    conflict: Conflict | None
    files: Count | None
    folders: Count | None
    bytes: Count | None


class Accept(Message, frozen=True):
    """The receiver takes the job, on these terms."""

    job: Job
    unanswered: Window
    unacknowledged: Window
    conflict: Conflict
    durability: Annotated[int, Meta(ge=0, le=1)]


class Refuse(Message, frozen=True):
    """The receiver does not take the job."""

    job: Job
    number: ErrorNumber


class Totals(Message, frozen=True):
    """What the sender counted: a ceiling from now on."""

    files: Count
    folders: Count
    bytes: Count


class Entry(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What all entries, wants and results share."""


class FileEntry(Entry, tag=0, frozen=True):
    """A file in the manifest."""

    number: Number
    path: WirePath
    size: Count
    mtime: Time
    mode: Mode


class DigestedEntry(FileEntry, tag=4, frozen=True):
    """A file in the manifest, with the digest of its content (feature `checksum`)."""

    digest: Digest


class PipeEntry(Entry, tag=5, frozen=True):
    """A file whose size nobody knows yet (feature `pipes`)."""

    number: Number
    path: WirePath
    mtime: Time
    mode: Mode


class SymlinkEntry(Entry, tag=3, frozen=True):
    """A symbolic link (feature `symlinks`); after all files and folders."""

    number: Number
    path: Annotated[list[Component], Meta(min_length=2, max_length=limits.DEPTH)]
    target: Annotated[bytes, Meta(min_length=1, max_length=limits.LINK)]
    mtime: Time


class FolderEntry(Entry, tag=1, frozen=True):
    """A folder in the manifest; its entries follow."""

    number: Number
    path: WirePath


class FolderEnd(Entry, tag=2, frozen=True):
    """The folder `number` is complete."""

    number: Number
    mode: Mode
    mtime: Time


class Manifest(Message, frozen=True):
    """The next entries."""

    entries: Annotated[
        list[FileEntry | DigestedEntry | PipeEntry | FolderEntry | FolderEnd | SymlinkEntry],
        Meta(max_length=limits.BATCH),
    ]
    last: bool


class WantAll(Entry, tag=0, frozen=True):
    """Send every block of this file."""

    number: Number


class WantGroup(Entry, tag=1, frozen=True):
    """Send these blocks of this group of 8,192 blocks."""

    number: Number
    group: Annotated[int, Meta(ge=0, le=2**40)]
    bitmap: Bitmap
    last: bool


class WantAgain(Entry, tag=2, frozen=True):
    """Send this block once more: it did not verify (feature `repair`)."""

    number: Number
    block: Count


class Basis(Message, frozen=True):
    """Digests of the blocks of an older copy of file `number`, from block `first` on (feature `delta`)."""

    number: Number
    first: Annotated[int, Meta(ge=0, lt=limits.BASIS_BLOCKS)]
    digests: Annotated[bytes, Meta(min_length=limits.DIGEST, max_length=limits.BASIS_DIGESTS * limits.DIGEST)]


class Needs(Message, frozen=True):
    """What the receiver wants of the files announced."""

    wants: Annotated[list[WantAll | WantGroup | WantAgain], Meta(min_length=1, max_length=limits.BATCH)]


class EntryFailed(Message, frozen=True):
    """The sender cannot send this file after all."""

    number: Number
    error: ErrorNumber


class EntryEnd(Message, frozen=True):
    """All blocks of this file that were asked for are sent; this is its digest."""

    number: Number
    size: Count
    digest: Digest


class Stored(Entry, tag=0, frozen=True):
    """Verified, durable, and under its final name."""

    number: Number
    digest: Annotated[bytes, Meta(max_length=limits.DIGEST)]
    stored_as: WirePath | None


class Identical(Entry, tag=1, frozen=True):
    """The same content was there already."""

    number: Number
    digest: Digest
    stored_as: WirePath | None


class Skipped(Entry, tag=2, frozen=True):
    """Left out, as the conflict policy wishes."""

    number: Number


class Failed(Entry, tag=3, frozen=True):
    """Not stored."""

    number: Number
    error: ErrorNumber


class Wanted(Entry, tag=4, frozen=True):
    """Would be asked for (feature `dry-run`)."""

    number: Number


class Results(Message, frozen=True):
    """What became of these entries."""

    results: Annotated[
        list[Stored | Identical | Skipped | Failed | Wanted], Meta(min_length=1, max_length=limits.BATCH)
    ]


class ProgressMessage(Message, frozen=True):
    """Content bytes the receiver has verified, and has on disk."""

    verified: Count
    durable: Count
    stage: Annotated[int, Meta(ge=0, le=1)]


class End(Message, frozen=True):
    """The sender's sum of the job."""

    files: Count
    folders: Count
    bytes: Count
    transcript: Digest


class Receipt(Message, frozen=True):
    """The receiver's signed sum of the job."""

    body: Annotated[bytes, Meta(max_length=1024)]
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


class ReceiptBody(Message, frozen=True):
    """What the receiver signs (section 8). Times are nanoseconds since 1970."""

    job: Job
    sender: Digest
    receiver: Digest
    started: Time
    ended: Time
    files: Count
    identical: Count
    skipped: Count
    folders: Count
    failed: Count
    bytes: Count
    durability: Annotated[int, Meta(ge=0, le=1)]
    transcript: Digest


class Waiting(Message, frozen=True):
    """Somebody is being asked about the offer (section 18): first with a commitment as `value`, then with its nonce."""

    job: Job
    seconds: Annotated[int, Meta(ge=0, le=limits.APPROVAL_MOST)]
    value: Digest


class Reveal(Message, frozen=True):
    """The sender's part of the comparison phrase (section 18)."""

    job: Job
    nonce: Digest


class PairStart(Message, frozen=True):
    """The client's side of SPAKE2: with it the one attempt of a pairing window begins (section 15)."""

    element: Element


class PairReply(Message, frozen=True):
    """The server's side of SPAKE2."""

    element: Element


class PairConfirm(Message, frozen=True):
    """The client proves that it has the code, in this TLS session; `port` is its own daemon's, 0 for none."""

    proof: Proof
    port: Port


class PairDone(Message, frozen=True):
    """The server has stored the client's key, and proves that it has the code, too."""

    proof: Proof
class Pause(Message, frozen=True):
    """From a receiver: send no content until `Resume`. From a sender: none will come (section 17)."""

    job: Job


class Resume(Message, frozen=True):
    """The end of this side's pause."""

    job: Job


class Cancel(Message, frozen=True):
    """From a sender: end the job. From a receiver: it is over, and this much of it stays in the inbox."""

    job: Job
    files: Count
    bytes: Count


class List(Message, frozen=True):
    """What is there? An empty path asks for the shares."""

    job: Job
    path: Folder
    deep: bool


class ItemKind(IntEnum):
    """What an item of a listing is."""

    FILE = 0
    FOLDER = 1
    LINK = 2
    OTHER = 3
    SHARE = 4


class Item(Entry, frozen=True):
    """One thing in a listing; its path is counted from what was asked for, empty for that. `error` is 0, or why more is
    not known.
    """

    kind: ItemKind
    path: Folder
    size: Count
    mtime: Time
    mode: Mode
    error: Annotated[int, Meta(ge=0, le=20_000)]


class Listing(Message, frozen=True):
    """The next items of a listing."""

    job: Job
    items: Annotated[list[Item], Meta(max_length=limits.BATCH)]
    last: bool


class Request(Message, frozen=True):
    """A job with the roles swapped: what the client would like to have, and what below it it would not."""

    job: Job
    paths: Annotated[list[WirePath], Meta(min_length=1, max_length=limits.REQUEST_PATHS)]
    exclude: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=limits.PATTERN)]], Meta(max_length=limits.REQUEST_PATTERNS)
    ]
    links: Annotated[int, Meta(ge=0, le=0)]


class Omission(Entry, frozen=True):
    """Something that cannot be sent, and why."""

    path: WirePath
    error: ErrorNumber


class Omitted(Message, frozen=True):
    """What there is besides the entries of the manifest, and cannot be sent."""

    items: Annotated[list[Omission], Meta(min_length=1, max_length=limits.BATCH)]


_TYPES: Final[dict[FrameType, type[Message]]] = {
    FrameType.HELLO: Hello,
    FrameType.ERROR: ErrorMessage,
    FrameType.GOODBYE: Goodbye,
    FrameType.PING: Ping,
    FrameType.PONG: Pong,
    FrameType.OFFER: Offer,
    FrameType.ACCEPT: Accept,
    FrameType.REFUSE: Refuse,
    FrameType.TOTALS: Totals,
    FrameType.MANIFEST: Manifest,
    FrameType.NEEDS: Needs,
    FrameType.ENTRY_FAILED: EntryFailed,
    FrameType.ENTRY_END: EntryEnd,
    FrameType.RESULTS: Results,
    FrameType.PROGRESS: ProgressMessage,
    FrameType.END: End,
    FrameType.RECEIPT: Receipt,
    FrameType.WAITING: Waiting,
    FrameType.REVEAL: Reveal,
    FrameType.BASIS: Basis,
    FrameType.PAIR_START: PairStart,
    FrameType.PAIR_REPLY: PairReply,
    FrameType.PAIR_CONFIRM: PairConfirm,
    FrameType.PAIR_DONE: PairDone,
    FrameType.LIST: List,
    FrameType.LISTING: Listing,
    FrameType.REQUEST: Request,
    FrameType.OMITTED: Omitted,
    FrameType.PAUSE: Pause,
    FrameType.RESUME: Resume,
    FrameType.CANCEL: Cancel,
}
_NUMBERS: Final = {kind: number for number, kind in _TYPES.items()}
_DECODERS: Final[dict[FrameType, msgspec.msgpack.Decoder[Any]]] = {
    number: msgspec.msgpack.Decoder(kind) for number, kind in _TYPES.items()
}
_encoder: Final = msgspec.msgpack.Encoder()
_receipts: Final = msgspec.msgpack.Decoder(ReceiptBody)
#: Everything that a body can make the decoder raise.
_BODY_ERRORS: Final = (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError)


def needed_feature(message: type[Message]) -> str:
    """The feature that both hellos must list before a message of this class may be sent; empty for none."""
    return feature_of(_NUMBERS[message])


def encode(message: Message) -> bytes:
    """`message` as a frame, ready for the transport."""
    return frame(_NUMBERS[type(message)], _encoder.encode(message))


def decode(item: Frame) -> Message:
    """The message of a control frame. Whatever is wrong with it: ProtocolError `bad-message`, or `bad-name`."""
    try:
        message: Message = _DECODERS[item.type].decode(item.body)
    except _BODY_ERRORS as error:
        raise ProtocolError("bad-message", f"a {item.type.name.lower()} message could not be understood") from error
    if isinstance(message, Manifest):
        for entry in message.entries:
            if not isinstance(entry, FolderEnd):
                check_path(entry.path)
    elif isinstance(message, Offer):
        check_path(message.into)
    elif isinstance(message, Results):
        for result in message.results:
            if isinstance(result, Stored | Identical) and result.stored_as is not None:
                check_path(result.stored_as)
    elif isinstance(message, List):
        check_path(message.path)
    elif isinstance(message, Request):
        for path in message.paths:
            check_path(path)
    elif isinstance(message, Listing | Omitted):
        for below in message.items:
            check_path(below.path)
    return message


def check_path(path: list[bytes]) -> None:
    """Refuse what can never be a path on the wire (section 4): ProtocolError `bad-name`.

    Lengths of components and their number are bounded by the types. Whether a name that is possible is also welcome
    is the receiver's rule, not the protocol's.
    """
    total = len(path) - 1
    for component in path:
        total += len(component)
        if component in (b".", b"..") or b"/" in component or b"\0" in component:
            raise ProtocolError("bad-name", "a path on the wire had a component that is not a name")
    if total > limits.PATH:
        raise ProtocolError("bad-name", "a path on the wire was too long")


def encode_receipt_body(body: ReceiptBody) -> bytes:
    """The bytes that are signed."""
    return _encoder.encode(body)


def decode_receipt_body(data: bytes) -> ReceiptBody:
    """The receipt body in `data`; ProtocolError `bad-message` when it is none."""
    try:
        return _receipts.decode(data)
    except _BODY_ERRORS as error:
        raise ProtocolError("bad-message", "a receipt could not be understood") from error
