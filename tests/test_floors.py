"""The floors of the house: an import only goes down, and the lower floors load no Twisted."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ftx

ROOT = Path(ftx.__file__).parent

#: Sub-package (or module of the ground floor) -> floor.
FLOORS = {
    "errors": 0,
    "limits": 0,
    "text": 0,
    "wire": 1,
    "core": 2,
    "disk": 3,
    "net": 4,
    "daemon": 5,
    "client": 6,
    "__main__": 6,
}
#: Floor -> top-level modules that may not be imported there, not even inside a function.
FORBIDDEN = {
    0: {"twisted", "OpenSSL", "os", "socket", "threading", "logging", "time"},
    1: {"twisted", "OpenSSL", "os", "socket", "threading", "logging", "time"},
    2: {"twisted", "OpenSSL", "os", "socket", "threading", "logging", "time"},
    3: {"twisted", "OpenSSL"},
}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part(name: str) -> str:
    """The sub-package or ground-floor module that the dotted `name` belongs to; empty for `ftx` itself."""
    pieces = name.split(".")
    return pieces[1] if len(pieces) > 1 else ""


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that `path` imports, at any depth, relative imports resolved."""
    package = ".".join(["ftx", *path.relative_to(ROOT).parent.parts])
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            if base == "ftx":
                for alias in node.names:
                    yield node.lineno, f"ftx.{alias.name}"
            else:
                yield node.lineno, base


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    """A module imports only from its own floor and from those below, and nothing its floor forbids."""
    own = part("ftx." + ".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert own in FLOORS, f"{own} has no floor"
    floor = FLOORS[own]
    wrong = []
    for line, name in imported(path):
        top = name.split(".")[0]
        if top == "ftx":
            other = part(name)
            # floor 0 is the vocabulary: its modules may use each other; above, a floor is one sub-package
            if other and other not in {"__version__"} and FLOORS[other] > floor:
                wrong.append(f"line {line}: {own} (floor {floor}) imports {name} (floor {FLOORS[other]})")
        elif top in FORBIDDEN.get(floor, set()):
            wrong.append(f"line {line}: floor {floor} imports {name}")
    assert wrong == []


def test_client_does_not_import_the_daemon() -> None:
    """The client starts daemons as processes; it never imports one."""
    for path in sorted((ROOT / "client").rglob("*.py")):
        assert [name for _, name in imported(path) if part(name) == "daemon"] == [], path


def loaded(code: str) -> set[str]:
    """The top-level names of the modules loaded by a fresh interpreter that ran `code`."""
    program = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("package", ["wire", "core", "disk"])
def test_lower_floors_load_no_twisted(package: str) -> None:
    """Importing every module of a lower floor loads neither Twisted nor OpenSSL."""
    names = [
        "ftx." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in MODULES
        if path.relative_to(ROOT).parts[0] == package and path.name != "__init__.py"
    ]
    modules = loaded("\n".join(f"import {name}" for name in names))
    assert not modules & {"twisted", "OpenSSL"}


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_help_and_version_are_quick(argument: str) -> None:
    """`ftx-client --help` and `--version` load neither Twisted nor OpenSSL."""
    code = (
        "from ftx.client.cli import main\n"
        f"sys.argv = ['ftx-client', {argument!r}]\n"
        "try:\n    code = main()\nexcept SystemExit as stop:\n    code = stop.code\n"
        "assert not code, code"
    )
    assert not loaded(code) & {"twisted", "OpenSSL"}
