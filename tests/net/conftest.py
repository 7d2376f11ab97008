"""For the tests of the network floor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.tls_peers import Pair


@pytest.fixture(autouse=True)
def close_pairs() -> Iterator[None]:
    """No test has to end the connections of its pairs itself."""
    yield
    Pair.close_all()
