"""Fixtures of the tests with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import Lab


@pytest.fixture
def lab(short_tmp: Path) -> Iterator[Lab]:
    """A laboratory in a fresh folder; its processes end with the test."""
    with Lab(short_tmp) as made:
        yield made
