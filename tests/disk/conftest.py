"""What tests of inboxes share; and of the races only a part where that is wanted, and their sum (`make races`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the inbox."""
    return tmp_path / "inbox"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """A folder, open."""
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`RACE_PART` 2/4: of the races every fourth, beginning with the second. The same on every worker."""
    part, parts = map(int, os.environ.get("RACE_PART", "1/1").split("/"))
    races = [item for item in items if item.path.name == "test_races.py"]
    left_out = [race for number, race in enumerate(races) if number % parts != part - 1]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line for each race, when they run for longer than in the ordinary run, and the sums."""
    if "RACE_SECONDS" not in os.environ:
        return
    sums = [0, 0, 0]
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, counts in getattr(report, "user_properties", ()):
                if name == "races" and getattr(report, "when", "") == "teardown":
                    sums = [one + other for one, other in zip(sums, counts, strict=True)]
                    terminalreporter.line(f"{_said(counts)}: {report.nodeid.rpartition('::')[2]}")
    terminalreporter.line(f"{_said(sums)}: in all")


def _said(counts: Any) -> str:
    flips, let_in, kept_out = counts
    return f"{flips:>13,} exchanges, {let_in:>9,} times let in, {kept_out:>9,} times kept out"
