"""Requests, replies and errors of the control socket: JSON-RPC 2.0, one object per line.

Nothing here knows a socket. `LineSplitter` turns bytes into bounded lines, `decode_request()` a line into a
`Request`, and the `encode_…` functions make the answers. The format is specified in `docs/control.md`.

A door that keeps message boundaries by itself uses the same functions without the splitter.
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Final, Literal

import attrs
import msgspec

from ftx import limits
from ftx.errors import Error, FtxError, kind_by_number
from ftx.text import show

__all__ = [
    "LineSplitter",
    "Request",
    "RequestId",
    "decode_reply",
    "decode_request",
    "encode_error",
    "encode_request",
    "encode_result",
]

#: What a request may be numbered with. Null is an id too, though a poor one: it is answered.
RequestId = int | str | None

_WORD: Final = re.compile(rb"[a-z][a-z0-9_.]{0,%d}" % (limits.CONTROL_WORD - 1))
_SIGNED_64: Final = 2**63 - 1
#: Digits and sign of the longest whole number a method may take: 64 bits. Longer ones are a mistake or mischief.
_INTEGER_DIGITS: Final = 20


class LineSplitter:
    """Bytes in, lines out; holds at most one line and one read.

    After each `feed()` take lines with `next_line()` until it returns None, or stop feeding: this is what
    bounds the memory.
    """

    def __init__(self, limit: int = limits.CONTROL_LINE) -> None:
        """`limit` is the number of bytes that a line may hold, its end not counted."""
        self._limit = limit
        self._buffer = bytearray()
        self._start = 0  # of the line that is being collected
        self._scanned = 0  # up to here there is no newline

    def feed(self, data: bytes) -> None:
        """Take what was received."""
        if self._start:
            del self._buffer[: self._start]
            self._scanned -= self._start
            self._start = 0
        self._buffer += data

    def next_line(self) -> bytes | None:
        r"""The next whole line without its `\n` or `\r\n`, or None when more bytes are needed.

        Raises `bad-request` when the line is longer than the limit; the splitter is of no use afterwards.
        """
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            # one byte more may be the \r of a line that is exactly as long as allowed
            if len(self._buffer) - self._start > self._limit + 1:
                raise self._too_long()
            return None
        line = self._cut(end)
        self._start = self._scanned = end + 1
        return line

    def last_line(self) -> bytes | None:
        """At the end of the input: the line that lacks its newline, or None if there is none."""
        if not self.partial:
            return None
        line = self._cut(len(self._buffer))
        self._start = self._scanned = len(self._buffer)
        return line

    @property
    def partial(self) -> bool:
        """Whether a line has begun and not ended; true as well while whole lines wait to be taken."""
        return len(self._buffer) > self._start

    def _cut(self, end: int) -> bytes:
        line = bytes(self._buffer[self._start : end]).removesuffix(b"\r")
        if len(line) > self._limit:
            raise self._too_long()
        return line

    def _too_long(self) -> FtxError:
        return FtxError("bad-request", f"the line is longer than {self._limit:,} bytes")


@attrs.frozen
class Request:
    """One thing asked for.

    `params` is a JSON object, still encoded: only the method knows what it may hold. Without `wants_reply` it
    is a notification, which is carried out and never answered.
    """

    method: str
    params: bytes = b"{}"
    id: RequestId = None
    wants_reply: bool = True


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    method: str
    jsonrpc: Literal["2.0"] = "2.0"
    params: msgspec.Raw = msgspec.Raw(b"{}")
    id: (
        Annotated[int, msgspec.Meta(ge=-_SIGNED_64, le=_SIGNED_64)]
        | Annotated[str, msgspec.Meta(max_length=limits.CONTROL_ID)]
        | msgspec.UnsetType
        | None
    ) = msgspec.UNSET


_envelope_decoder = msgspec.json.Decoder(_Envelope)


class _DuplicateKeyError(ValueError):
    """An object holds a key twice."""


class _NumberRangeError(ValueError):
    """A number that a double cannot hold."""


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _NumberRangeError
    return number


def _whole(digits: str) -> int:
    if len(digits) > _INTEGER_DIGITS:
        raise _NumberRangeError
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKeyError(key)
            seen.add(key)
    return found


_vetting_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_int=_whole)


def decode_request(line: bytes) -> Request | None:
    """The request in `line` (one line without its end, at most `CONTROL_LINE` bytes); None for an empty one.

    A bare word is a request with a null id. Raises `bad-request`, with a message clean for display, for
    everything else that is not one JSON-RPC 2.0 request object; see "Requests" in `docs/control.md`.
    """
    if len(line) > limits.CONTROL_LINE:
        raise FtxError("bad-request", f"the request is longer than {limits.CONTROL_LINE:,} bytes")
    line = line.strip(b" \t\r\n")
    if not line:
        return None
    if _WORD.fullmatch(line):
        return Request(line.decode("ascii"))
    if line.startswith(b"["):
        raise FtxError("bad-request", "batches are not supported: send one object per line")
    if not line.startswith(b"{"):
        raise FtxError("bad-request", "neither a JSON object nor the name of a method")
    envelope = _decode_envelope(line)
    params = bytes(envelope.params)
    if params == b"null":
        params = b"{}"
    if not params.startswith(b"{"):
        raise FtxError("bad-request", "params must be an object: parameters go by name")
    if envelope.id is msgspec.UNSET:
        return Request(envelope.method, params, None, wants_reply=False)
    return Request(envelope.method, params, envelope.id)


def _decode_envelope(line: bytes) -> _Envelope:
    """`line` as an envelope, or `bad-request`: the one place that knows what a decoder can throw."""
    try:
        # msgspec looks at strings only where it needs them, and takes the last of two equal keys in silence:
        # the text as a whole is checked first, then keys by a decoder that can tell.
        text = line.decode("utf-8")
        envelope = _envelope_decoder.decode(line)
        _vetting_decoder.decode(text)
    except UnicodeDecodeError:
        raise FtxError("bad-request", "the line is not UTF-8") from None
    except RecursionError:
        raise FtxError("bad-request", "the JSON is nested too deeply") from None
    except _DuplicateKeyError as error:
        raise FtxError("bad-request", f"the key {show(str(error), 64)} is there twice") from None
    except _NumberRangeError:
        raise FtxError("bad-request", "a number is out of range") from None
    except msgspec.ValidationError as error:
        raise FtxError("bad-request", f"not a request: {show(str(error))}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise FtxError("bad-request", f"not JSON: {show(str(error))}") from None
    return envelope


class _Data(msgspec.Struct, frozen=True):
    name: str = "internal"
    hint: str = ""


class _Problem(msgspec.Struct, frozen=True):
    code: int
    message: str = ""
    data: _Data = _Data()


class _Reply(msgspec.Struct, frozen=True):
    jsonrpc: Literal["2.0"]
    id: RequestId = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _Problem | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder()
_reply_decoder = msgspec.json.Decoder(_Reply)


def encode_request(method: str, params: Any = None, request_id: RequestId = 1) -> bytes:
    """A request for `method` as one line without its end. `params` is a mapping, a Struct, or None for `{}`.

    Raises `bad-parameters` for what cannot be said in JSON, and for what does not fit in a line.
    """
    envelope: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id, "method": method}
    if params is not None:
        envelope["params"] = params
    try:
        line = _encoder.encode(envelope)
    except (TypeError, ValueError, RecursionError) as error:
        raise FtxError("bad-parameters", f"not JSON: {show(str(error))}") from None
    if len(line) > limits.CONTROL_LINE:
        raise FtxError("bad-parameters", f"the request is longer than {limits.CONTROL_LINE:,} bytes")
    return line


def encode_result(request_id: RequestId, result: bytes) -> bytes:
    """The reply to request `request_id`, as one line without its end. `result` is JSON already."""
    return _encoder.encode(_Reply("2.0", request_id, result=msgspec.Raw(result)))


def encode_error(request_id: RequestId, error: Error) -> bytes:
    """The reply that says what went wrong. `request_id` is None where the request was not understood."""
    problem = _Problem(error.number, error.message, _Data(error.name, error.hint))
    return _encoder.encode(_Reply("2.0", request_id, error=problem))


def decode_reply(line: bytes) -> bytes:
    """The result in a reply, still encoded.

    Raises the `FtxError` that an error reply stands for, its texts cleaned, and `protocol-error` for what is
    not a reply. A number that this version does not know keeps its family, so that the exit code is right.
    """
    try:
        reply = _reply_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FtxError("protocol-error", f"not a reply: {show(str(error))}") from None
    if isinstance(reply.error, _Problem):
        row = kind_by_number(reply.error.code)
        raise FtxError(row.name, show(reply.error.message, 500), show(reply.error.data.hint, 500))
    if isinstance(reply.result, msgspec.Raw):
        return bytes(reply.result)
    raise FtxError("protocol-error", "a reply with neither a result nor an error")
