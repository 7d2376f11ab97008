"""The control messages of the transfer protocol: typed, bounded, positional (`docs/protocol.md`, section 4).

Each message is a msgspec Struct written as a MessagePack array; `encode()` gives its frame, `decode()` the message of
a frame. All bounds on lists, strings and integers are in the types, so what `decode()` returns is in range; what it
cannot accept, for whatever reason, becomes one kind of ProtocolError.

The Structs are in modules by subject: `ftx.wire.connection`, `ftx.wire.job`, `ftx.wire.entries`, `ftx.wire.shares` and
`ftx.wire.probe`, made of `ftx.wire.fields`. Here is the registry of all of them; the rest of ftx imports them
from here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from ftx import limits
from ftx.errors import ProtocolError
from ftx.wire.connection import (
    ErrorMessage,
    Goodbye,
    Hello,
    PairConfirm,
    PairDone,
    PairReply,
    PairStart,
    Ping,
    Pong,
)
from ftx.wire.entries import (
    Basis,
    DigestedEntry,
    EntryEnd,
    EntryFailed,
    Failed,
    FileEntry,
    FolderEnd,
    FolderEntry,
    Identical,
    Manifest,
    Needs,
    PipeEntry,
    Results,
    Skipped,
    Stored,
    SymlinkEntry,
    WantAgain,
    WantAll,
    Wanted,
    WantGroup,
)
from ftx.wire.fields import CONFLICTS, DRY_RUN, FEATURES, LINKS, PULL, PUSH, Message
from ftx.wire.frames import Frame, FrameType, feature_of, frame
from ftx.wire.job import (
    Accept,
    Cancel,
    End,
    Join,
    Joined,
    Offer,
    Pause,
    ProgressMessage,
    Receipt,
    ReceiptBody,
    Refuse,
    Resume,
    Reveal,
    Totals,
    Waiting,
)
from ftx.wire.probe import Probe, ProbeDone, ProbeEnd, ProbeKind, ProbeReady
from ftx.wire.shares import Item, ItemKind, List, Listing, Omission, Omitted, Request

__all__ = [
    "CONFLICTS",
    "DRY_RUN",
    "FEATURES",
    "LINKS",
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
    "Join",
    "Joined",
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
    "Probe",
    "ProbeDone",
    "ProbeEnd",
    "ProbeKind",
    "ProbeReady",
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
    FrameType.JOIN: Join,
    FrameType.JOINED: Joined,
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
    FrameType.PROBE: Probe,
    FrameType.PROBE_READY: ProbeReady,
    FrameType.PROBE_END: ProbeEnd,
    FrameType.PROBE_DONE: ProbeDone,
}
_NUMBERS: Final = {kind: number for number, kind in _TYPES.items()}


class _Decoders(dict[FrameType, msgspec.msgpack.Decoder[Any]]):
    """One decoder for each message, made for the first of its kind: a session has a third of them."""

    def __missing__(self, number: FrameType) -> msgspec.msgpack.Decoder[Any]:
        made = self[number] = msgspec.msgpack.Decoder(_TYPES[number])
        return made


_DECODERS: Final = _Decoders()
#: Says of a component whether it can never be a name.
_NO_NAME: Final = re.compile(rb"\.\.?\Z|[^/\0]*[/\0]").match
_DOTS: Final = frozenset({b".", b".."})
_encoder: Final = msgspec.msgpack.Encoder()
_receipts: Final = msgspec.msgpack.Decoder(ReceiptBody)
#: Results of what is there now.
_THERE: Final = (Stored, Identical)
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
        _check_paths([entry.path for entry in message.entries if not isinstance(entry, FolderEnd)])
    elif isinstance(message, Offer):
        check_path(message.into)
    elif isinstance(message, Results):
        for result in message.results:
            if isinstance(result, _THERE) and result.stored_as is not None:
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


def _check_paths(paths: Sequence[list[bytes]]) -> None:
    """As `check_path()` for each: the names of all together, unless one path has so many that it may be too long."""
    if max(map(len, paths), default=0) * (limits.NAME + 1) > limits.PATH:
        for path in paths:
            check_path(path)
        return
    names = list(chain.from_iterable(paths))
    text = b"/".join(names)
    if text.count(b"/") != max(len(names) - 1, 0) or b"\0" in text or not _DOTS.isdisjoint(names):
        raise ProtocolError("bad-name", "a path on the wire had a component that is not a name")


def check_path(path: list[bytes]) -> None:
    """Refuse what can never be a path on the wire (section 4): ProtocolError `bad-name`.

    Lengths of components and their number are bounded by the types. Whether a name that is possible is also welcome
    is the receiver's rule, not the protocol's.
    """
    total = len(path) - 1
    for component in path:
        total += len(component)
        if _NO_NAME(component):
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
