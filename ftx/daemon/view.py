"""What the control socket sees of the daemon: a small interface, and the shapes of what it shows.

`DaemonView` is implemented by the running service; the methods in `ftx.daemon.commands` are written against it
and nothing else. The Structs are the results of those methods as clients get them (`docs/control.md`): fields
may be added, never changed. All text is valid Unicode: undecodable bytes of a path are replaced, see
`ftx.text.path_text`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal, Protocol

import msgspec

from ftx.wire.events import ErrorInfo, Event, PeerInfo

__all__ = [
    "Address",
    "DaemonView",
    "DiscoveryInfo",
    "JobCounts",
    "JobInfo",
    "JobState",
    "Limits",
    "Metric",
    "OfferInfo",
    "PairingResult",
    "PeerRecord",
    "QueueEntry",
    "ReloadResult",
    "ScopedLimits",
    "StatusResult",
]

#: `active`: bytes may flow. `waiting`: for an approval, a slot or a peer. The other two are over.
JobState = Literal["active", "waiting", "done", "failed"]


class Address(msgspec.Struct, frozen=True):
    """Where the daemon listens."""

    address: str
    port: int


class DiscoveryInfo(msgspec.Struct, frozen=True):
    """Where the daemon answers discovery queries, and whom: `everyone` or `paired`; and whether DNS-SD has it, too."""

    port: int
    interfaces: list[str]
    answers: str = "everyone"
    published: bool = False


class JobCounts(msgspec.Struct, frozen=True):
    """Jobs by state; `done` and `failed` since the daemon started. `partial` of those done lack files that failed."""

    active: int = 0
    waiting: int = 0
    done: int = 0
    failed: int = 0
    partial: int = 0


class Limits(msgspec.Struct, frozen=True):
    """Rates in bytes per second; 0 means none."""

    rate_in: int = 0
    rate_out: int = 0


class ScopedLimits(msgspec.Struct, frozen=True):
    """The limits of one scope: `daemon`, `peer:NAME` or `job:ID`. Bytes per second; 0 means none."""

    scope: str
    rate_in: int
    rate_out: int


class StatusResult(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon at a glance."""

    version: str
    name: str
    id: str
    pid: int
    uptime_s: float
    listening: list[Address]
    #: None when discovery is off.
    discovery: DiscoveryInfo | None
    inbox: str
    #: Names of the folders that may be pulled from.
    shares: list[str]
    jobs: JobCounts
    #: Content bytes received and sent since the daemon started.
    bytes_in: int
    bytes_out: int
    limits: Limits
    peers_paired: int
    #: No new jobs are taken: the daemon stops when the running ones have ended.
    draining: bool = False
    #: What keeps the daemon to its own files: `landlock 7`, `landlock 7, strict`, `off`, or `none: why`.
    sandbox: str = "off"
    #: Where a Prometheus finds `/metrics`; empty without.
    metrics: list[Address] = []


class ReloadResult(msgspec.Struct, frozen=True):
    """What a reload has changed, what it could not change in a running daemon, and what was wrong besides."""

    ok: bool = True
    #: Names of settings and tables that are others now.
    changed: list[str] = []
    #: Settings, and shares and hooks by name, that are as they were until a restart.
    needs_restart: list[str] = []
    warnings: list[str] = []


class JobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One job. `job` is 32 hex digits; `files` and `bytes_total` are null while they are being counted."""

    job: str
    state: JobState
    peer: PeerInfo
    #: Seen from the daemon: `in` receives, `out` sends.
    direction: Literal["in", "out"]
    files: int | None = None
    bytes_total: int | None = None
    bytes_confirmed: int = 0
    bytes_durable: int = 0
    #: Bytes per second, lately; null when nothing can be said.
    rate: float | None = None
    #: Where it goes, below the inbox, or what is sent.
    path: str = ""
    #: Why it failed.
    error: ErrorInfo | None = None
    #: Files that have their result, and those among them that failed: a job that is done may lack some.
    files_done: int = 0
    files_failed: int = 0
    #: Files that were left out because their names are taken, as the conflict rule wishes.
    files_skipped: int = 0
    #: Nothing travels: somebody wants to know what would.
    dry_run: bool = False
    #: Files that are at the receiver, whole, whatever became of the job.
    files_stored: int = 0
    #: Who wants no content to travel for now: `here`, `peer`, `both`, or empty.
    paused: str = ""
    #: When it was accepted and when it was over, ISO 8601 in UTC; `ended` is null while it runs.
    started: str = ""
    ended: str | None = None


class OfferInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One offer that waits for a person. `phrase` is what the sender's screen shows as well."""

    job: str
    peer: PeerInfo
    #: `unknown` or `paired`.
    who: str
    files: int
    folders: int
    bytes: int
    #: Where it wants to go, below the inbox.
    path: str
    phrase: str
    #: Seconds left.
    left_s: float
    #: When it was made, ISO 8601 in UTC.
    since: str
    #: The rule that asks, or that there is none.
    why: str


class QueueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that waits to be sent. `job` is 32 hex digits, and stands for it in `jobs.list` as well."""

    job: str
    #: Whom it is for, as a person wrote it.
    target: str
    #: The first `limits.QUEUE_SOURCES_SHOWN` of what is to be sent, of `sources_total`.
    sources: list[str]
    sources_total: int
    #: `waiting` for its next attempt or its turn, `active` in one, or `failed` for good.
    state: JobState
    #: Held back until somebody lets it go on.
    paused: bool
    #: Attempts that came to nothing, the reason of the last of them, and seconds to the next.
    attempts: int
    next_s: float | None = None
    error: ErrorInfo | None = None
    #: When it was put there, ISO 8601 in UTC.
    added: str


class PeerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One known peer, as `ftx-client peers --json` prints it. Times are ISO 8601, `seen` null if never."""

    name: str
    id: str
    addresses: list[str]
    added: str
    seen: str | None = None


class PairingResult(msgspec.Struct, frozen=True, kw_only=True):
    """A pairing window that is open: what to type on the other machine, and for how many seconds."""

    code: str
    expires_s: float


class Metric(msgspec.Struct, frozen=True):
    """One measured value. Counters only rise; their names end in `_total`."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    value: float
    labels: dict[str, str] = {}


class DaemonView(Protocol):
    """The running daemon. What is not async answers from memory, at once."""

    def status(self) -> StatusResult:
        """See `daemon.status`."""

    def jobs(self, state: JobState | None) -> Sequence[JobInfo]:
        """Every job there is and the last `limits.JOBS_REMEMBERED` finished ones, oldest first; or those in `state`.

        The order of two jobs never changes: pages depend on it.
        """

    def job(self, job: str) -> JobInfo:
        """The job with this id; raises `no-such-job`."""

    async def cancel(self, job: str) -> JobInfo:
        """End the job, which the peer is told; returns it as it is then. Raises `no-such-job` or `job-over`."""

    async def pause(self, job: str, paused: bool) -> JobInfo:
        """Pause the job, or let it go on; returns it as it is then. Raises `no-such-job` or `job-over`."""

    def limits(self) -> Sequence[ScopedLimits]:
        """The daemon's own limits, and those of peers and jobs that are set."""

    async def limit(self, scope: str, rate_in: int | None, rate_out: int | None) -> ScopedLimits:
        """Change the limits of a scope, None for no change. Raises `no-such-job`, `no-such-peer`."""

    def offers(self) -> Sequence[OfferInfo]:
        """The offers that wait for a person, oldest first."""

    async def approve(self, job: str, always: bool, name: str | None, by: int) -> OfferInfo:
        """Consent to an offer, for the user `by` (a uid); `always`: pair its sender too, as `name` or its own.

        Raises `no-such-job`, and `name-taken` when another peer has that name; the offer waits on then.
        """

    def deny(self, job: str, reason: str, by: int) -> OfferInfo:
        """Refuse an offer, for the user `by`; `reason` is for the log. Raises `no-such-job`."""

    async def peers(self) -> Sequence[PeerRecord]:
        """The known peers, by name."""

    async def add_peer(
        self, name: str, peer_id: str, addresses: Sequence[str], *, only_new: bool = False
    ) -> PeerRecord:
        """Trust an identity from now on; raises `name-taken`, `bad-identity` or `usage`.

        With `only_new`, `not-authorised` for one that is trusted already.
        """

    async def remove_peer(self, name: str) -> PeerRecord:
        """Trust it no more, running jobs of its included; returns what was removed. Raises `no-such-peer`."""

    async def open_pairing(self, seconds: float, words: int, name: str, keep: bool) -> PairingResult:
        """Open a pairing window; raises `busy`, `usage` or `name-taken`."""

    async def close_pairing(self) -> bool:
        """Close it again; whether one was open."""

    def queue(self) -> Sequence[QueueEntry]:
        """What waits to be sent, oldest first."""

    async def queue_add(self, target: str, sources: Sequence[bytes], options: Sequence[str]) -> QueueEntry:
        """Take absolute paths into the queue, with words for `ftx-client send`; returns it when it is on disk.

        Raises `source-missing`, `busy` when the queue is full, or `state-unusable`.
        """

    async def queue_remove(self, job: str) -> QueueEntry:
        """Take it out; what is under way ends. Raises `no-such-job`."""

    def log_level(self, level: str | None) -> str:
        """How much the log says; changed first, unless that is None. Raises `not-supported` where it is not ours."""

    def subscribe(
        self, callback: Callable[[Event], None], types: Collection[str] | None, interval: float
    ) -> Callable[[], None]:
        """See `ftx.daemon.events.EventStream.subscribe`, which does this."""

    async def reload(self) -> ReloadResult:
        """Read configuration and peers again; raises `config-invalid` and keeps the old ones."""

    async def drain(self) -> None:
        """Begin to stop: no new jobs, the end when the running ones have ended. Returns at once."""

    async def shutdown(self) -> None:
        """Begin to stop now. Returns before anything of it has happened: the answer has yet to be sent."""

    async def metrics(self) -> Sequence[Metric]:
        """Counters and gauges; those of one name stand together."""
