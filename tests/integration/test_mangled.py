"""Somebody in the middle who does not leave bytes as they are: TLS ends, nothing wrong is stored, and it is resumed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.bounded import bounded
from support.mangle import MANNERS, Mangler
from support.receiving_end import ReceivingEnd
from support.trees import MiB, make_tree, snapshot

from ftx.client.api import send
from ftx.wire.events import Done, Failed


@pytest_twisted.async_yield_fixture
async def end(reactor: Any, short_tmp: Path) -> AsyncIterator[ReceivingEnd]:
    """A receiving end."""
    made = ReceivingEnd(reactor, short_tmp)
    yield made
    await made.stop()


@pytest.mark.case("F110", "M189")
@pytest.mark.parametrize(
    ("manner", "to_daemon"), [*((manner, True) for manner in MANNERS), ("flip", False), ("drop", False)]
)
@bounded(60)
async def test_bytes_that_are_not_left_as_they_are(
    manner: str, to_daemon: bool, end: ReceivingEnd, reactor: Any
) -> None:
    """Somewhere in the middle: whatever is there is whole, and without him all arrives."""
    source = end.folder / "source"
    make_tree(source, {"large": 3 * MiB + 17, "small": 200, "d/e": 5000})
    seed = MANNERS.index(manner)
    draw = random.Random(seed)
    after = draw.randrange(3000, 3 * MiB) if to_daemon else draw.randrange(1100, 1400)
    there = end.inbox_path / "source"
    with Mangler(end.port, manner, after, seed, to_daemon=to_daemon) as mangler:
        settings = end.settings(retries=0)
        try:
            result: Any = await send(reactor, settings, [str(source)], mangler.url, on_event=lambda _: None)
        except Exception as error:  # before there was a job
            result = error
        assert mangler.done
    assert not isinstance(result, Done)
    if isinstance(result, Failed):
        assert result.error.code // 100 in (4, 5, 8)
    for path in there.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (source / path.relative_to(there)).read_bytes()
    assert isinstance(await end.send(source), Done)
    assert snapshot(there) == snapshot(source)
