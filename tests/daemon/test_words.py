"""What the log says: counts that are none are left out, and who is refused is named with what to do about it."""

from __future__ import annotations

import pytest

from ftx.core.identity import format_id
from ftx.core.receipt import Counts
from ftx.daemon.words import job_result, why_ended
from ftx.errors import FtxError

OWN, OTHER = b"o" * 32, b"p" * 32


@pytest.mark.parametrize(
    ("counts", "renamed", "seconds", "says"),
    [
        (Counts(files=1, bytes=6), 0, 0.04, "1 file, 6 B in 0.0 s"),
        (Counts(), 0, 0.1, "0 files, 0 B in 0.1 s"),
        (
            Counts(files=1200, folders=1, bytes=316_572_800, identical=3, skipped=2, failed=1),
            4,
            61.2,
            "1,200 files in 1 folder, 302 MiB in 1 min 1 s, 3 identical, 4 under another name, 2 skipped, 1 failed",
        ),
    ],
)
def test_job_result(counts: Counts, renamed: int, seconds: float, says: str) -> None:
    assert job_result(counts, renamed, seconds) == says


@pytest.mark.parametrize(
    ("error", "theirs", "key", "name", "says"),
    [
        (
            "untrusted",
            False,
            OTHER,
            "desk\x1b[31m",
            "its key is not paired here (it calls itself desk\\x1b[31m); if you know it: "
            f"ftx-client peers add NAME {format_id(OTHER)}",
        ),
        (
            "untrusted",
            False,
            OTHER,
            "",
            f"its key is not paired here; if you know it: ftx-client peers add NAME {format_id(OTHER)}",
        ),
        (
            "untrusted",
            True,
            OTHER,
            "",
            f"it does not know this machine's key; there: ftx-client peers add NAME {format_id(OWN)}",
        ),
        ("hello-timeout", False, None, "", "the peer did not introduce itself in time (hello-timeout)"),
        ("busy", True, OTHER, "", "the peer is busy with the same files (busy)"),
    ],
)
def test_why_ended(error: str, theirs: bool, key: bytes | None, name: str, says: str) -> None:
    assert why_ended(FtxError(error), theirs=theirs, own=OWN, key=key, name=name) == says


def test_a_copied_key_comes_with_the_way_out() -> None:
    said = why_ended(FtxError("identity-copied"), theirs=False, own=OWN, key=OWN, name="")
    assert said.endswith('make it a new key there with ftx-client id --renew, or allow it with own_key = "anywhere"')
