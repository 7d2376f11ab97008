"""Every limit has a test that goes beyond it, or a reason why nothing can."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ftx import limits

HERE = Path(__file__).parent
ROWS: dict[str, Any] = tomllib.loads((HERE / "limits.toml").read_text("utf-8"))


def _defined(path: Path, name: str) -> bool:
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        for node in ast.parse(path.read_text("utf-8")).body
    )


def names() -> list[str]:
    """The limits, in the order of their module."""
    tree = ast.parse(Path(limits.__file__).read_text("utf-8"))
    targets = [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_every_limit_has_a_row() -> None:
    """A limit without one needs a test that goes beyond it, in limits.toml; a row without a limit goes."""
    assert sorted(set(names()) - set(ROWS)) == []
    assert sorted(set(ROWS) - set(names())) == []


@pytest.mark.parametrize("name", ROWS)
def test_what_a_row_names_exists(name: str) -> None:
    """A test by its node id, or a reason in words."""
    row = ROWS[name]
    if isinstance(row, dict):
        assert list(row) == ["reason"]
        assert len(row["reason"].split()) > 1
        return
    path, _, test = row.partition("::")
    assert _defined(HERE.parent / path, test), f"{row} does not exist"


def test_limits_are_used() -> None:
    """A limit that is not enforced does not exist: each is named by some other module."""
    used: set[str] = set()
    for path in Path(limits.__file__).parent.rglob("*.py"):
        if path.name != "limits.py":
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Attribute):
                    used.add(node.attr)
                elif isinstance(node, ast.ImportFrom):
                    used |= {alias.name for alias in node.names}
    assert set(names()) - used == set()
