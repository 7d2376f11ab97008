"""Descriptors are closed in one way."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import ftx.disk
from ftx.disk.fds import close_all


def test_nothing_but_fds_calls_close() -> None:
    """What close(2) says decides nothing, anywhere in `ftx/disk`: `fds.close` alone may ask for it."""
    found = []
    for path in sorted(Path(ftx.disk.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if named and (node.value.id, node.attr) == ("os", "close") and path.name != "fds.py":
                found.append(f"{path.name}:{node.lineno}")
    assert found == []


def test_close_all_closes_these_and_no_others() -> None:
    """Neighbours go together; what lies between them and is not ours stays."""
    opened = [os.open("/", os.O_RDONLY) for _ in range(6)]
    kept = opened.pop(3)
    close_all(opened[::-1])
    assert not any(os.path.lexists(f"/proc/self/fd/{fd}") for fd in opened)
    os.fstat(kept)
    close_all([kept])
    close_all([])
    assert not os.path.lexists(f"/proc/self/fd/{kept}")
