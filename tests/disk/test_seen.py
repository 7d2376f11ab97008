"""The names that completion offers: kept for a day, bounded, and nothing that anybody depends on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftx import limits
from ftx.disk.seen import SeenName, names, remember


def kept(state: Path, now: float = 1000.0) -> list[str]:
    return [one.name for one in names(str(state), now)]


def test_the_latest_come_first_and_a_name_is_kept_once(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    remember(state, [SeenName("attic", "10.0.0.7", 1000.0), SeenName("nas", "10.0.0.8", 999.0)], 1000.0)
    remember(state, [SeenName("nas", "10.0.0.9", 1001.0)], 1001.0)
    assert [(one.name, one.address) for one in names(state, 1001.0)] == [
        ("nas", "10.0.0.9"),
        ("attic", "10.0.0.7"),
    ]
    assert (tmp_path / "state" / "seen.json").stat().st_mode & 0o777 == 0o600


def test_names_grow_old(tmp_path: Path) -> None:
    remember(str(tmp_path), [SeenName("attic", "", 1000.0)], 1000.0)
    assert kept(tmp_path, 1000.0 + limits.SEEN_AGE - 1) == ["attic"]
    assert kept(tmp_path, 1000.0 + limits.SEEN_AGE) == []
    assert kept(tmp_path, 999.0) == [], "a clock that went back"


def test_names_are_bounded(tmp_path: Path) -> None:
    many = [SeenName(f"peer {number}", "10.0.0.7", 500.0 + number / 1000) for number in range(2 * limits.DISCOVERED)]
    remember(str(tmp_path), many, 1000.0)
    assert len(kept(tmp_path)) == limits.DISCOVERED
    assert kept(tmp_path)[0] == many[-1].name


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[" * 100_000,
        b'{"version":2,"names":[]}',
        b'{"version":1,"names":[{"name":1}]}',
        json.dumps({"version": 1, "names": [], "more": 1}).encode(),
        b'{"version":1,"names":[]}' + b" " * limits.SEEN_FILE,
    ],
)
def test_what_is_no_list_of_names_has_none(tmp_path: Path, content: bytes) -> None:
    """And is replaced the next time."""
    file = tmp_path / "seen.json"
    file.write_bytes(content)
    file.chmod(0o600)
    assert kept(tmp_path) == []
    remember(str(tmp_path), [SeenName("attic", "", 1000.0)], 1000.0)
    assert kept(tmp_path) == ["attic"]


def test_what_cannot_be_written_is_not(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"a file")
    remember(str(tmp_path / "state"), [SeenName("attic", "", 1000.0)], 1000.0)
    assert names(str(tmp_path / "state"), 1000.0) == []
