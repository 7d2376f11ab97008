"""What is shown of an entry of the queue: in `queue.list`, among the jobs, and in events."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from ftx import limits
from ftx.core.queueing import Queued
from ftx.daemon.attempt import Attempt
from ftx.daemon.view import JobInfo, JobState, QueueEntry
from ftx.errors import kind
from ftx.text import path_text, plural, show
from ftx.wire import events

__all__ = ["error_info", "job_info", "peer_info", "queue_entry"]


def peer_info(entry: Queued, attempt: Attempt | None) -> events.PeerInfo:
    """The peer that an attempt has met; before that, what it is called in the queue."""
    if attempt is not None and attempt.peer is not None:
        return attempt.peer
    return events.PeerInfo(name=show(entry.target, limits.NAME))


def error_info(entry: Queued) -> events.ErrorInfo | None:
    """How the last attempt ended; None when there was none, or nothing was wrong with it."""
    if not entry.error:
        return None
    return events.ErrorInfo(kind(entry.error).number, entry.error, entry.why, kind(entry.error).hint)


def _paths(entry: Queued) -> Sequence[str]:
    return [path_text((base64.b64decode(path),)) for path in entry.sources]


def queue_entry(entry: Queued, state: JobState, now: float) -> QueueEntry:
    """An entry as `queue.list` has it; `now` in seconds since the epoch."""
    left = max(entry.not_before - now, 0.0)
    return QueueEntry(
        job=entry.job,
        target=show(entry.target),
        sources=[*_paths(entry)[: limits.QUEUE_SOURCES_SHOWN]],
        sources_total=len(entry.sources),
        state=state,
        paused=entry.paused,
        attempts=entry.attempts,
        next_s=round(left, 3) if state == "waiting" and not entry.paused else None,
        error=error_info(entry),
        added=events.iso_time(entry.added),
    )


def job_info(entry: Queued, state: JobState, attempt: Attempt | None) -> JobInfo:
    """An entry as `jobs.list` has it, with the figures of an attempt where there is one."""
    progress = None if attempt is None else attempt.progress
    paths = _paths(entry)
    what = paths[0] if len(paths) == 1 else f"{paths[0]} and {plural(len(paths) - 1, 'other')}"
    return JobInfo(
        job=entry.job,
        state=state,
        peer=peer_info(entry, attempt),
        direction="out",
        files=None if progress is None else progress.files_total,
        bytes_total=None if progress is None else progress.bytes_total,
        bytes_confirmed=0 if progress is None else progress.bytes_confirmed,
        bytes_durable=0 if progress is None else progress.bytes_durable,
        rate=None if progress is None else progress.rate,
        path=show(what, limits.PATH),
        error=None if attempt is not None else error_info(entry),
        files_done=0 if progress is None else progress.files_done,
        files_stored=0 if attempt is None else attempt.stored[0],
        paused="here" if entry.paused else "",
        started=events.iso_time(entry.added),
    )
