"""A pairing window: one taker, in time."""

from __future__ import annotations

import pytest

from ftx.core.window import Window
from ftx.errors import FtxError


def test_one_takes_the_code() -> None:
    """The first one, and nobody after that, not even the same."""
    window, first = Window("7-acorn-willow", 120.0), object()
    assert window.is_open(0.0)
    assert window.take(first, 119.9) == "7-acorn-willow"
    assert window.taker is first
    for who in (first, object()):
        with pytest.raises(FtxError) as caught:
            window.take(who, 1.0)
        assert caught.value.name == "pairing-closed"
    window.spoil(object())
    assert window.taker is first


@pytest.mark.parametrize("end", ["expired", "closed", "spoilt"])
def test_no_longer_open(end: str) -> None:
    """Too late by a moment, closed by its owner, or spoilt by somebody who broke the protocol."""
    window = Window("7-acorn-willow", 120.0)
    if end == "closed":
        window.close()
    elif end == "spoilt":
        window.spoil(object())
    now = 120.0 if end == "expired" else 0.0
    assert not window.is_open(now)
    with pytest.raises(FtxError):
        window.take(object(), now)


def test_the_code_is_not_shown() -> None:
    """A representation may reach a log."""
    assert "acorn" not in repr(Window("7-acorn-willow", 120.0))
