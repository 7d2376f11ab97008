"""Messages about a job as a whole: its offer, its steering, its lanes, its end (sections 4, 8, 17, 18 and 20)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ftx import limits
from ftx.wire.fields import (
    DRY_RUN,
    PUSH,
    Conflict,
    Count,
    Digest,
    ErrorNumber,
    Folder,
    Job,
    Message,
    Time,
    Window,
)

__all__ = [
    "Accept",
    "Cancel",
    "End",
    "Join",
    "Joined",
    "Offer",
    "Pause",
    "ProgressMessage",
    "Receipt",
    "ReceiptBody",
    "Refuse",
    "Resume",
    "Reveal",
    "Totals",
    "Waiting",
]


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


class Join(Message, frozen=True):
    """This connection is to be a lane of the job; the proof is that of its own connection for this number."""

    job: Job
    number: Annotated[int, Meta(ge=1, le=limits.LANES)]
    proof: Digest


class Joined(Message, frozen=True):
    """It is one; `up`: the client sends."""

    job: Job
    up: bool


class Totals(Message, frozen=True):
    """What the sender counted: a ceiling from now on."""

    files: Count
    folders: Count
    bytes: Count


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
