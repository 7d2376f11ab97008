"""Descriptors are closed in one way."""

from __future__ import annotations

import ast
from pathlib import Path

import ftx.disk


def test_nothing_but_fds_calls_close() -> None:
    """What close(2) says decides nothing, anywhere in `ftx/disk`: `fds.close` alone may ask for it."""
    found = []
    for path in sorted(Path(ftx.disk.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if named and (node.value.id, node.attr) == ("os", "close") and path.name != "fds.py":
                found.append(f"{path.name}:{node.lineno}")
    assert found == []
