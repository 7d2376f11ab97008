"""The catalogue of hostile and faulty cases is complete, and what it names exists.

`tests/catalogue.toml` has one table per case. A case is shown by tests that carry its number, or has a reason why it
cannot arise. The numbers are fixed: a case is never dropped from the list, only answered.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
CATALOGUE: dict[str, dict[str, Any]] = tomllib.loads((HERE / "catalogue.toml").read_text("utf-8"))

#: The groups of the catalogue, and the number that each begins with.
STARTS = [1, 24, 49, 73, 86, 99, 112, 128, 136, 151, 162, 173, 181]
GROUPS = dict(zip("ABCDEFGHIJKLM", STARTS, strict=True))
LAST = 190
#: Cases that nothing answers yet, by group: a group leaves this table when it is complete. Rows of other groups must
#: have tests or a reason.
UNFINISHED: set[str] = set()
_IN_NAME = re.compile(r"(?<=_)[A-M][0-9]{1,3}(?=_)")


def numbers() -> list[str]:
    """Every case, in order, as `C49`."""
    starts = {start: letter for letter, start in GROUPS.items()}
    found, letter = [], ""
    for number in range(1, LAST + 1):
        letter = starts.get(number, letter)
        found.append(f"{letter}{number}")
    return found


def _marked(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """The cases in the marks of a test: `@pytest.mark.case("C49", "C50")`."""
    cases: set[str] = set()
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.case":
            cases |= {argument.value for argument in decorator.args if isinstance(argument, ast.Constant)}
    return cases


def _tests(path: Path) -> Iterator[tuple[str, set[str]]]:
    """The node ids of a module, and the cases that each carries in its name or its marks."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            cases = set(_IN_NAME.findall(node.name)) | _marked(node)
            yield f"{path.relative_to(HERE.parent).as_posix()}::{node.name}", cases


TESTS = dict(item for path in sorted(HERE.rglob("test_*.py")) for item in _tests(path))


def test_every_number_is_there_once_and_in_order() -> None:
    """No case is left out, invented or moved."""
    assert list(CATALOGUE) == numbers()


@pytest.mark.parametrize("case", numbers())
def test_a_case_is_answered(case: str) -> None:
    """By tests that exist and carry its number, or by a reason; nothing else is said of it."""
    row = CATALOGUE[case]
    assert row.keys() <= {"title", "tests", "reason"}
    assert row["title"]
    assert row.get("reason", "-").strip()
    named = row.get("tests", [])
    assert len(set(named)) == len(named)
    for test in named:
        assert case in TESTS.get(test, set()), f"{test} does not exist, or does not carry {case}"
    assert named or "reason" in row or case[0] in UNFINISHED


def test_what_carries_a_number_is_in_the_catalogue() -> None:
    """A test that names a case is listed with it, so that the list tells the whole of it."""
    unlisted = [
        f"{case}: {test}"
        for test, cases in TESTS.items()
        for case in sorted(cases)
        if test not in CATALOGUE.get(case, {}).get("tests", [])
    ]
    assert unlisted == []


def test_unfinished_groups_are_unfinished() -> None:
    """A group whose cases are all answered is no longer called unfinished."""
    open_groups = {case[0] for case, row in CATALOGUE.items() if not row.get("tests") and "reason" not in row}
    assert open_groups == UNFINISHED
