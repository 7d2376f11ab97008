"""What the methods of the control socket take and give: one Struct each, with its bounds.

`rpc.discover` publishes them as JSON schemas, and `docs/control.md` is made of them. What the daemon shows of itself is
in `ftx.daemon.view`; here is what is asked, and the pages that lists come in.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Annotated, Any, Literal

import msgspec

from ftx import limits
from ftx.daemon.view import JobInfo, JobState, OfferInfo, PeerRecord, QueueEntry, ScopedLimits
from ftx.errors import FtxError
from ftx.text import show

__all__ = [
    "ApproveParams",
    "CursorParams",
    "DenyParams",
    "DiscoverResult",
    "JobParams",
    "JobsParams",
    "JobsResult",
    "LevelParams",
    "LevelResult",
    "LimitParams",
    "LimitsResult",
    "MethodInfo",
    "MetricsResult",
    "NoParams",
    "OffersResult",
    "Ok",
    "PairingParams",
    "Params",
    "PeerNameParams",
    "PeerParams",
    "PeersResult",
    "QueueParams",
    "QueueResult",
    "SubscribeParams",
    "options_of",
    "sources_of",
]

Conflict = Literal["fail", "skip", "rename", "backup", "overwrite"]
JobId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$", description="32 hex digits")]
Cursor = Annotated[str | None, msgspec.Meta(description="from the page before; null for the first")]


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of a method. A misspelt one is an error."""


class NoParams(Params, frozen=True):
    """No parameters."""


class JobParams(Params, frozen=True):
    """Which job."""

    job: JobId


class JobsParams(Params, frozen=True):
    """Which jobs, and where to go on."""

    state: JobState | None = None
    cursor: Cursor = None


class ApproveParams(Params, frozen=True):
    """Which offer, whether its sender is paired from now on, and under which name (null: what it calls itself)."""

    job: JobId
    always: bool = False
    name: str | None = None


class DenyParams(Params, frozen=True):
    """Which offer, and why, for the log."""

    job: JobId
    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""


class QueueParams(Params, frozen=True):
    """What to send, to whom, and how; as `ftx-client send` takes it.

    Paths are absolute, as text; `sources_b64` has more of them, as base64 of their bytes, for names that are no text.
    """

    target: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    sources: Annotated[list[str], msgspec.Meta(max_length=limits.QUEUE_SOURCES)] = []
    sources_b64: Annotated[list[str], msgspec.Meta(max_length=limits.QUEUE_SOURCES)] = []
    into: str = ""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    conflict: Conflict | None = None
    exclude: Annotated[list[str], msgspec.Meta(max_length=64)] = []
    links: Literal["skip", "follow", "keep"] | None = None
    limit: Annotated[int, msgspec.Meta(ge=0, le=2**62, description="bytes per second")] | None = None
    compress: Literal["auto", "off"] | None = None
    checksum: bool = False
    lanes: Annotated[int, msgspec.Meta(ge=1, le=limits.LANES + 1)] | None = None


class LevelParams(Params, frozen=True):
    """How much the log is to say; null: as it is."""

    level: Literal["debug", "info", "warn", "error"] | None = None


class LevelResult(msgspec.Struct, frozen=True):
    """How much the log says."""

    level: str


class QueueResult(msgspec.Struct, frozen=True):
    """A page of what waits to be sent, oldest first."""

    entries: list[QueueEntry]
    cursor: str | None = None


class CursorParams(Params, frozen=True):
    """Where to go on."""

    cursor: Cursor = None


class PeerNameParams(Params, frozen=True):
    """Which peer."""

    name: str


class PeerParams(Params, frozen=True):
    """A peer to be trusted."""

    name: str
    id: str
    addresses: list[str] = []


class PairingParams(Params, frozen=True):
    """A pairing window: for how long, how many words in the code, what to call the peer, and whether to keep it."""

    seconds: Annotated[
        float, msgspec.Meta(ge=limits.PAIRING_WINDOW_LEAST, le=limits.PAIRING_WINDOW_MOST)
    ] = limits.PAIRING_WINDOW
    words: Annotated[
        int, msgspec.Meta(ge=limits.PAIRING_WORDS, le=limits.PAIRING_WORDS_MOST)
    ] = limits.PAIRING_WORDS
    name: Annotated[str, msgspec.Meta(description="empty for what the peer suggests")] = ""
    keep: Annotated[bool, msgspec.Meta(description="false: trust the peer until the daemon ends")] = True


class SubscribeParams(Params, frozen=True):
    """What to be told, and how often."""

    types: list[str] | None = None
    interval: Annotated[
        float, msgspec.Meta(ge=limits.PROGRESS_FASTEST, le=limits.CONTROL_INTERVAL_SLOWEST)
    ] = limits.CONTROL_INTERVAL


Rate = (
    Annotated[int, msgspec.Meta(ge=0, le=2**62, description="bytes per second, 0 for none; null: as it is")] | None
)


class LimitParams(Params, frozen=True):
    """Which limits, and what they are to be."""

    scope: Annotated[str, msgspec.Meta(pattern="^(daemon|peer:.{1,64}|job:[0-9a-f]{32})$")] = "daemon"
    rate_in: Rate = None
    rate_out: Rate = None


class LimitsResult(msgspec.Struct, frozen=True):
    """All limits that are set, the daemon's own first."""

    limits: list[ScopedLimits]
    cursor: str | None = None


class Ok(msgspec.Struct, frozen=True):
    """It was done, or it has begun."""

    ok: bool = True


class JobsResult(msgspec.Struct, frozen=True):
    """A page of jobs, oldest first."""

    jobs: list[JobInfo]
    cursor: str | None = None


class OffersResult(msgspec.Struct, frozen=True):
    """A page of offers that wait, oldest first."""

    offers: list[OfferInfo]
    cursor: str | None = None


class PeersResult(msgspec.Struct, frozen=True):
    """A page of peers, by name."""

    peers: list[PeerRecord]
    cursor: str | None = None


class MetricsResult(msgspec.Struct, frozen=True):
    """All counters and gauges."""

    content_type: str
    text: str


class MethodInfo(msgspec.Struct, frozen=True):
    """A method, with JSON schemas of what it takes and gives."""

    name: str
    description: str
    mutating: bool
    params: dict[str, Any]
    result: dict[str, Any]


class DiscoverResult(msgspec.Struct, frozen=True):
    """A page of methods, by name."""

    methods: list[MethodInfo]
    cursor: str | None = None


def sources_of(params: QueueParams) -> list[bytes]:
    """The paths that are to be sent; FtxError `bad-parameters` unless there are some, and all of them absolute."""
    try:
        encoded = [base64.b64decode(path, validate=True) for path in params.sources_b64]
        paths = [path.encode() for path in params.sources] + encoded
    except (binascii.Error, ValueError) as error:
        raise FtxError("bad-parameters", f"queue.add: sources_b64 is not base64: {show(str(error))}") from None
    if not 0 < len(paths) <= limits.QUEUE_SOURCES:
        raise FtxError("bad-parameters", f"queue.add: there must be 1 to {limits.QUEUE_SOURCES} sources")
    for path in paths:
        if not path.startswith(b"/") or b"\0" in path or len(path) > limits.PATH:
            raise FtxError("bad-parameters", f"queue.add: not an absolute path: {show(os.fsdecode(path))}")
    return paths


def options_of(params: QueueParams) -> list[str]:
    """The same wishes as words for `ftx-client send`: each one word, so that none can be taken for another option.

    FtxError `bad-parameters` for a NUL, which no word can have.
    """
    given = {
        "into": params.into or None,
        "port": params.port,
        "conflict": params.conflict,
        "links": params.links,
        "limit": params.limit or None,
        "compress": params.compress,
        "lanes": params.lanes,
    }
    words = [f"--{name}={value}" for name, value in given.items() if value is not None]
    words += [f"--exclude={pattern}" for pattern in params.exclude]
    words += ["--checksum"] if params.checksum else []
    if any("\0" in word for word in (*words, params.target)):
        raise FtxError("bad-parameters", "queue.add: a NUL character")
    return words
