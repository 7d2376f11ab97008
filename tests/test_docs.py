"""The documents say what is: links lead somewhere, commands exist, lists are the code's."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from ftx.client.cli import cli
from ftx.daemon.commands import ALIASES, METHODS
from ftx.disk.settings import ROWS
from ftx.errors import KINDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
README = ROOT / "README.md"

page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- what is written ---------------------------------------------------------------------------------------


def test_generated_parts_are_up_to_date(generate: ModuleType) -> None:
    """`make docs` would change nothing, and everything that can be generated is on a page."""
    used = set()
    for path in generate.pages():
        text = path.read_text("utf-8")
        used |= set(re.findall(r"<!-- generated: ([\w-]+) -->", text))
        assert generate.filled(text) == text, f"{path.name} is out of date: make docs"
    assert used == set(generate.PARTS)


def test_every_error_has_an_exit_code_that_is_explained(generate: ModuleType) -> None:
    """The table of exit codes has all that errors lead to."""
    assert {kind.exit_code for kind in KINDS.values()} | {0} == set(generate.EXIT_CODES)


def test_every_error_is_in_troubleshooting() -> None:
    """Each kind has a section with its sentence, its name and number, and something to read; and no others have."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    sections = dict(re.findall(r"^### (.*)\n(.+)$", text, re.M))
    assert set(sections) == {kind.sentence for kind in KINDS.values()}
    for kind in KINDS.values():
        said = sections[kind.sentence]
        assert said.startswith(f"`{kind.name}` {kind.number}"), kind.name
        assert len(said) > len(kind.name) + 20, kind.name


def test_every_control_method_is_described() -> None:
    """The tables of docs/control.md have the methods and the short words that there are."""
    text = (ROOT / "docs" / "control.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([a-z._]+)`(\*?) \|", text, re.M))
    methods = {name: mark for name, mark in rows.items() if "." in name}
    assert methods == {name: "*" if method.mutating else "" for name, method in METHODS.items()}
    assert dict(re.findall(r"^\| `([a-z]+)` \| `([a-z]+\.[a-z]+)` \|", text, re.M)) == ALIASES


def _slug(heading: str) -> str:
    """The anchor of a heading, as the places that show Markdown make it."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


@page
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link is a file here, and every anchor a heading in it."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_file(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.M)
            assert anchor in map(_slug, headings), link


@page
def test_every_page_is_found(path: Path) -> None:
    """Whoever reads the README gets to every page."""
    if path != README:
        assert f"({path.relative_to(ROOT)})" in README.read_text("utf-8")


def test_the_readme_is_short() -> None:
    """It is the face, not the book."""
    assert len(README.read_text("utf-8").splitlines()) <= 200


# -- commands ----------------------------------------------------------------------------------------------


def _commands(path: Path, program: str) -> Iterator[list[str]]:
    """The words behind `program` wherever it is used as a command: in code, up to what ends a command."""
    text = path.read_text("utf-8")
    code = re.findall(r"^```[^\n]*\n(.*?)^```$", text, re.M | re.S)
    code += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    for line in "\n".join(code).splitlines():
        for found in re.findall(rf"(?<![\w.-]){program} ([^|│;&)#>\"]*)", line):
            yield shlex.split(found)


def _check(words: list[str]) -> None:
    """The verb of an ftx-client command, and its options, exist."""
    command: click.Command = cli
    context = click.Context(cli, info_name="ftx-client")
    for word in words:
        if word.startswith("-") and word not in ("-", "--"):
            names = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
            assert word.partition("=")[0] in names | {"-h", "--help"}, (words, word)
        elif isinstance(command, click.Group) and re.fullmatch("[a-z]+", word):
            found = command.get_command(context, word)
            assert found is not None, (words, word)
            command = found


@page
def test_commands_exist(path: Path) -> None:
    """Every ftx-client command on the pages has a verb that exists and options that this verb takes."""
    for words in _commands(path, "ftx-client"):
        _check(words)


@page
def test_daemon_options_exist(path: Path) -> None:
    """The same for the daemon, by either of its names."""
    known = {f"--{row.flag}" for row in ROWS.values() if row.option} | {"--home", "--config", "--help", "--version"}
    for program in ("ftx-server", "twistd -n --pidfile= ftx"):
        for words in _commands(path, program):
            used = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert used <= known, words


def test_the_readme_was_looked_at() -> None:
    """The tests above have something to look at."""
    verbs = {words[0] for words in _commands(README, "ftx-client") if words}
    assert {"demo", "id", "peers", "discover", "send", "ctl", "hash", "completion"} <= verbs
    assert any("--inbox" in words for words in _commands(README, "ftx-server"))
