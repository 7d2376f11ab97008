"""What the log says of a job that ended and of a connection that was not let in: sentences, made of values."""

from __future__ import annotations

from ftx.core.identity import format_id
from ftx.core.receipt import Counts
from ftx.errors import FtxError
from ftx.text import duration, plural, show, size

__all__ = ["job_result", "why_ended"]


def job_result(counts: Counts, renamed: int, seconds: float) -> str:
    """What a job has brought: `3 files in 1 folder, 302 MiB in 1.2 s, 1 identical, 1 failed`.

    `renamed` of the files are here under another name than the sender's; `seconds` is how long the job took.
    """
    what = plural(counts.files, "file")
    if counts.folders:
        what += f" in {plural(counts.folders, 'folder')}"
    parts = [what, f"{size(counts.bytes)} in {duration(seconds)}"]
    for number, word in (
        (counts.identical, "identical"),
        (renamed, "under another name"),
        (counts.skipped, "skipped"),
        (counts.failed, "failed"),
    ):
        if number:
            parts.append(f"{number:,} {word}")
    return ", ".join(parts)


def why_ended(error: FtxError, *, theirs: bool, own: bytes, key: bytes | None, name: str) -> str:
    """Why a connection of somebody who is not signed in ended, and what to do about it where that is known.

    `theirs`: it is the peer that gave the reason. `own` and `key` are our identity and the peer's (None if it has
    proved none), `name` is what the peer calls itself, or empty.
    """
    if error.name == "untrusted" and theirs:
        return f"it does not know this machine's key; there: ftx-client peers add NAME {format_id(own)}"
    if error.name == "untrusted" and key is not None:
        called = f" (it calls itself {show(name)})" if name else ""
        return f"its key is not paired here{called}; if you know it: ftx-client peers add NAME {format_id(key)}"
    if error.name == "identity-copied" and not theirs:
        return f"{error.message}; {error.hint}"
    return f"{error.message} ({error.name})"
