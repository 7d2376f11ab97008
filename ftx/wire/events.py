"""The events of a job, as `ftx-client --json` prints them and `events.subscribe` streams them.

One Struct per event; `encode()` gives the JSON line. The names and fields are the contract with scripts
(`docs/cli.md`): fields may be added, never changed. Times are ISO 8601 in UTC, sizes are bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec

from ftx.errors import Error
from ftx.text import path_text

__all__ = [
    "Accepted",
    "Connected",
    "Connecting",
    "Discovered",
    "Done",
    "ErrorInfo",
    "Event",
    "Failed",
    "FileEvent",
    "Offered",
    "Pairing",
    "PeerInfo",
    "Progress",
    "Refused",
    "Retry",
    "Snapshot",
    "Summary",
    "TargetResult",
    "Waiting",
    "encode",
    "error_info",
    "file_event",
    "iso_time",
]


def iso_time(seconds: float | None = None) -> str:
    """`seconds` since the epoch (default: now) as ISO 8601 in UTC with microseconds."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


class ErrorInfo(msgspec.Struct, frozen=True):
    """An error as every door prints it."""

    code: int
    name: str
    message: str
    hint: str = ""


def error_info(error: Error | None) -> ErrorInfo | None:
    """`error` in the form that events carry."""
    return None if error is None else ErrorInfo(error.number, error.name, error.message, error.hint)


class PeerInfo(msgspec.Struct, frozen=True):
    """Who is at the other end. `id` is the whole identity as text, empty while unknown."""

    name: str = ""
    id: str = ""
    address: str = ""
    port: int = 0


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """What every event has. `job` is 32 hex digits, or None where there is no job."""

    #: Progress may be dropped for a slow reader; everything else may not.
    droppable: ClassVar[bool] = False

    v: int = 1
    time: str = msgspec.field(default_factory=iso_time)
    job: str | None = None
    peer: PeerInfo | None = None


class Connecting(Event, tag="connecting", frozen=True, kw_only=True):
    """A connection attempt begins."""


class Connected(Event, tag="connected", frozen=True, kw_only=True):
    """The peer proved its key and both sides have agreed on a version."""


class Offered(Event, tag="offered", frozen=True, kw_only=True):
    """The job was offered; `files` and `bytes` are null while they are being counted."""

    files: int | None = None
    bytes: int | None = None
    #: Of a daemon's job: `in` or `out`.
    direction: str | msgspec.UnsetType = msgspec.UNSET


class Waiting(Event, tag="waiting", frozen=True, kw_only=True):
    """Somebody at the other end is being asked."""

    files: int | None = None
    bytes: int | None = None
    deadline_s: float | None = None
    #: The words that are on both screens, once they are known.
    phrase: str | None = None


class Accepted(Event, tag="accepted", frozen=True, kw_only=True):
    """The receiver takes the job."""

    files: int | None = None
    bytes: int | None = None


class Refused(Event, tag="refused", frozen=True, kw_only=True):
    """The receiver does not take the job."""

    error: ErrorInfo


class Progress(Event, tag="progress", frozen=True, kw_only=True):
    """Where the job stands. `bytes_confirmed` was verified by the receiver, `bytes_durable` is on its disk."""

    droppable: ClassVar[bool] = True

    stage: str
    bytes_confirmed: int = 0
    bytes_durable: int = 0
    bytes_sent: int = 0
    bytes_total: int | None = None
    files_done: int = 0
    files_total: int | None = None
    rate: float | None = None
    eta_s: float | None = None


class FileEvent(Event, tag="file", frozen=True, kw_only=True, omit_defaults=False):
    """The fate of one file: `stored`, `identical`, `skipped`, `failed`; or `wanted`, in a dry run."""

    path: str
    path_b64: str | msgspec.UnsetType = msgspec.UNSET
    stored_as: str | None = None
    stored_as_b64: str | msgspec.UnsetType = msgspec.UNSET
    size: int | None = None
    digest: str | None = None
    status: str = "stored"
    error: ErrorInfo | None = None
    #: Of a daemon's job: `in` or `out`.
    direction: str | msgspec.UnsetType = msgspec.UNSET


class Retry(Event, tag="retry", frozen=True, kw_only=True):
    """The connection was lost; another attempt follows after `delay_s`."""

    attempt: int
    delay_s: float
    error: ErrorInfo


class Done(Event, tag="done", frozen=True, kw_only=True):
    """The job ended and the receiver signed for it."""

    result: str
    files: int
    directories: int
    bytes: int
    bytes_wire: int
    files_identical: int
    files_skipped: int
    files_failed: int
    seconds: float
    receipt: str | None
    exit: int
    #: A dry run: nothing was sent, and this is what would be asked for.
    dry_run: bool = False
    files_wanted: int = 0
    bytes_wanted: int = 0
    #: Of a daemon's job: `in` or `out`.
    direction: str | msgspec.UnsetType = msgspec.UNSET


class Failed(Event, tag="failed", frozen=True, kw_only=True):
    """The job ended without a receipt."""

    error: ErrorInfo
    exit: int
    resumable: bool
    #: Files that the receiver keeps all the same, whole and verified, and their content; null where nothing is known.
    files_stored: int | None = None
    bytes_stored: int | None = None
    #: Of a daemon's job: `in` or `out`.
    direction: str | msgspec.UnsetType = msgspec.UNSET


class TargetResult(msgspec.Struct, frozen=True):
    """One line of the summary."""

    peer: PeerInfo
    result: str
    exit: int


class Summary(Event, tag="summary", frozen=True, kw_only=True):
    """Always the last line of a run."""

    exit: int
    targets: list[TargetResult]


class Snapshot(Event, tag="snapshot", frozen=True, kw_only=True):
    """The first event of a subscription: every job there is, as `jobs.list` shows them, and every open offer."""

    jobs: list[dict[str, Any]]
    offers: list[dict[str, Any]]


class Discovered(Event, tag="peer", frozen=True, kw_only=True):
    """Somebody answered a discovery query: `name` is what to write as a target, `announced` what it calls itself.

    `state` is `here`, or, for whoever watches, `gone` or (in Python only) `still`; `conflict`: another key has the
    name, too; `after_s`: seconds from the query to the answer.
    """

    name: str
    id: str
    address: str
    port: int
    verified: bool
    paired: bool
    via: str
    interface: str
    versions: list[int]
    announced: str = ""
    state: str = "here"
    conflict: bool = False
    after_s: float | None = None


class Pairing(Event, tag="pairing", frozen=True, kw_only=True):
    """A pairing window: `opened`, `attempt` (its code is used up), then `paired` or `failed`; or `closed` unused."""

    state: str
    error: ErrorInfo | None = None
    expires_s: float | None = None


_encoder = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    """`event` as one JSON object, without a newline. Fields that say nothing (`job`, `peer` null) stay, as null."""
    return _encoder.encode(event)


def file_event(
    path: Iterable[bytes],
    *,
    job: str | None,
    peer: PeerInfo | None,
    status: str,
    size: int | None = None,
    digest: bytes | None = None,
    stored_as: Iterable[bytes] | None = None,
    error: Error | None = None,
    direction: str | msgspec.UnsetType = msgspec.UNSET,
) -> FileEvent:
    """A `file` event for paths as they are on the wire; the `_b64` of one is there only when its text is not exact."""
    text, exact = _path(path)
    stored, stored_exact = (None, msgspec.UNSET) if stored_as is None else _path(stored_as)
    return FileEvent(
        job=job,
        peer=peer,
        path=text,
        path_b64=exact,
        status=status,
        size=size,
        digest=None if digest is None else digest.hex(),
        stored_as=stored,
        stored_as_b64=stored_exact,
        error=error_info(error),
        direction=direction,
    )


def _path(path: Iterable[bytes]) -> tuple[str, str | msgspec.UnsetType]:
    """A path as text, and as base64 where the text is not exact."""
    raw = b"/".join(path)
    text = path_text([raw])
    exact = text.encode("utf-8", "surrogatepass") == raw
    return text, msgspec.UNSET if exact else base64.b64encode(raw).decode("ascii")
