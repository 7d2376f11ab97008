#!/usr/bin/env python3
"""The generated parts of these pages: `make docs` renews them, a test says when they are out of date.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`, and everything between the two is replaced by what
the function of that name in `PARTS` gives. What is listed there is the code's own: its tables, options and Structs. A
page that repeated them by hand would be wrong sooner or later.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import click
import msgspec.inspect

from ftx.client.cli import cli
from ftx.client.options import GLOBAL
from ftx.core.receiver import RECEIVER_TABLE
from ftx.core.sender import SENDER_TABLE
from ftx.core.stages import FROM_CLIENT, FROM_SERVER
from ftx.core.table import Table, diagram
from ftx.daemon.commands import METHODS
from ftx.daemon.params import NoParams
from ftx.daemon.view import JobInfo, PeerRecord
from ftx.disk.settings import ROWS
from ftx.errors import KINDS
from ftx.wire.events import Event

__all__ = ["PARTS", "filled", "pages"]

HERE: Final = Path(__file__).resolve().parent
PACKAGE: Final = HERE.parent / "ftx"
LAB: Final = HERE.parent / "tests" / "faults"

#: Sub-packages by floor, with what each knows.
_FLOORS: Final = (
    ("wire", "Floor 1, `ftx/wire`: bytes to typed messages and back"),
    ("core", "Floor 2, `ftx/core`: rules and machines, with time as a number"),
    ("disk", "Floor 3, `ftx/disk`: files, blocking on purpose"),
    ("net", "Floor 4, `ftx/net`: where bytes, rules, files and the reactor meet"),
    ("daemon", "Floor 5, `ftx/daemon`: what exists, and for how long"),
    ("client", "Floor 6, `ftx/client`: for people and scripts"),
)
#: Exit codes with their names and what they mean. Frozen: a script may depend on each.
EXIT_CODES: Final = {
    0: ("ok", "everything done: durable, under its final name; what travelled is verified"),
    1: ("internal", "anything not below; for the daemon: it could not start"),
    2: ("usage", "the command line, a target, or the configuration as the client reads it"),
    3: ("local-io", "a local path is missing, unreadable, or changed while it was read; the local disk is full"),
    4: ("unreachable", "no such peer, refused, timed out, or lost for too long: what arrived is kept, run it again"),
    5: ("untrusted", "not paired, another key than the paired one, not permitted"),
    6: ("refused", "the receiver's rules, its disk, or a name it does not accept"),
    7: ("digest-mismatch", "content did not verify"),
    8: ("protocol", "the other side does not speak ftx, or not as agreed"),
    9: ("partial", "something was stored or identical, and something failed; run it again"),
    10: ("timeout", "`--timeout` ran out"),
    11: ("none-found", "`discover` found nobody"),
    12: ("no-daemon", "no daemon behind the control socket"),
    130: ("interrupted", "SIGINT, as shells expect"),
    143: ("terminated", "SIGTERM, as shells expect"),
}


def _cell(text: str) -> str:
    """`text` as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


# -- architecture.md ---------------------------------------------------------------------------------------


def _first_sentence(path: Path) -> str:
    text = " ".join((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.])\s", text, maxsplit=1)[0]


def modules() -> str:
    """Every module with the first sentence of its docstring, floor by floor."""
    lines = ["**Floor 0: vocabulary**", ""]
    lines += [f"- `ftx/{name}.py`: {_first_sentence(PACKAGE / f'{name}.py')}" for name in ("errors", "limits", "text")]
    for folder, title in _FLOORS:
        lines += ["", f"**{title}**", ""]
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            if path.name != "__init__.py":
                lines.append(f"- `{path.relative_to(PACKAGE)}`: {_first_sentence(path)}")
    return "\n".join(lines)


def _mermaid(table: Table[Any]) -> str:
    return f"```mermaid\n{diagram(table)}\n```"


# -- cli.md ------------------------------------------------------------------------------------------------


def _options(params: Sequence[click.Parameter], context: click.Context) -> str:
    records = [param.get_help_record(context) for param in params if isinstance(param, click.Option)]
    return _table(["option", ""], [[f"`{_cell(names)}`", _cell(text)] for names, text in filter(None, records)])


def _paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a help text; those that click would not wrap as code."""
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield "```sh\n" + paragraph[2:] + "\n```"
        else:
            yield " ".join(paragraph.split())


def _walk(command: click.Command, name: str, parent: click.Context | None) -> Iterator[tuple[str, click.Context]]:
    context = click.Context(command, info_name=name, parent=parent)
    yield context.command_path, context
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            found = command.get_command(context, verb)
            if found is not None:
                yield from _walk(found, verb, context)


def verbs() -> str:
    """Every verb with its usage, its help and its own options."""
    parts: list[str] = []
    for path, context in _walk(cli, "ftx-client", None):
        if context.parent is None:
            continue
        command = context.command
        level = "#" * (path.count(" ") + 2)
        usage = " ".join([path, *command.collect_usage_pieces(context)])
        parts += [f"{level} {path.partition(' ')[2]}", f"```\n{usage}\n```"]
        parts += _paragraphs(inspect.cleandoc(command.help or ""))
        own = [param for param in command.params if param.name not in GLOBAL]
        if any(isinstance(param, click.Option) for param in own):
            parts.append(_options(own, context))
        if command.epilog:
            parts.append(command.epilog)
    return "\n\n".join(parts)


def global_options() -> str:
    """The options that every verb takes."""
    return _options(cli.params, click.Context(cli, info_name="ftx-client"))


def exit_codes() -> str:
    """Exit codes, and the kinds of error that lead to each."""
    rows = []
    for code, (name, meaning) in EXIT_CODES.items():
        kinds = [f"`{kind.name}`" for kind in KINDS.values() if kind.exit_code == code]
        rows.append([str(code), name, meaning, ", ".join(kinds)])
    return _table(["code", "name", "meaning", "errors"], rows)


def _type(shape: msgspec.inspect.Type) -> str:
    match shape:
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(map(_type, types))
        case msgspec.inspect.NoneType():
            return "null"
        case msgspec.inspect.StrType():
            return "text"
        case msgspec.inspect.IntType():
            return "whole number"
        case msgspec.inspect.FloatType():
            return "number"
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.ListType(item_type=item):
            return f"list of {_type(item)}"
        case msgspec.inspect.StructType(fields=fields):
            return "{" + ", ".join(f"`{field.encode_name}`" for field in fields) + "}"
        case _:
            return "object"


def events() -> str:
    """Every event with its own fields."""
    shared = {field.encode_name for field in _fields(Event)}
    rows = []
    for event in Event.__subclasses__():
        fields = [field for field in _fields(event) if field.encode_name not in shared]
        shown = ", ".join(f"`{field.encode_name}` ({_type(field.type)})" for field in fields)
        rows.append([f"`{event.__struct_config__.tag}`", _cell(event.__doc__ or ""), shown or "-"])
    return _table(["event", "when", "fields"], rows)


def _fields(event: type[Event]) -> tuple[msgspec.inspect.Field, ...]:
    shape = msgspec.inspect.type_info(event)
    if not isinstance(shape, msgspec.inspect.StructType):
        raise TypeError(f"{event} is no Struct")
    return shape.fields


# -- control.md --------------------------------------------------------------------------------------------

#: Structs that several methods return, or that are long: in a table of their own, by what the text calls them.
_SHAPES: Final[dict[type[msgspec.Struct], str]] = {JobInfo: "job", PeerRecord: "peer"}


def _shape(field: msgspec.inspect.Type) -> str:
    match field:
        case msgspec.inspect.StructType(cls=cls) if cls in _SHAPES:
            return f"a {_SHAPES[cls]}"
        case msgspec.inspect.ListType(item_type=msgspec.inspect.StructType(cls=cls)) if cls in _SHAPES:
            return f"list of {_SHAPES[cls]}s"
        case msgspec.inspect.Metadata(type=inner):
            return _shape(inner)
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(map(_shape, types))
        case msgspec.inspect.LiteralType(values=values):
            return " or ".join(f'`"{value}"`' for value in values)
        case msgspec.inspect.DictType():
            return "object"
        case _:
            return _type(field)


def _listed(struct: type[msgspec.Struct]) -> str:
    shape = msgspec.inspect.type_info(struct)
    if not isinstance(shape, msgspec.inspect.StructType):
        raise TypeError(f"{struct} is no Struct")
    optional = {field.encode_name for field in shape.fields if not field.required}
    given = issubclass(struct, NoParams.__base__ or NoParams)
    return ", ".join(
        f"`{field.encode_name}`{'?' if given and field.encode_name in optional else ''} ({_shape(field.type)})"
        for field in shape.fields
    )


def methods() -> str:
    """Every method of the control socket with what it takes and gives."""
    rows = []
    for name in sorted(METHODS):
        method = METHODS[name]
        result = f"a {_SHAPES[method.result]}" if method.result in _SHAPES else _listed(method.result)
        star = "*" if method.mutating else ""
        rows.append([f"`{name}`{star}", _cell(method.description), _cell(_listed(method.params)), _cell(result)])
    return _table(["method", "what it does", "parameters", "result"], rows)


def shapes() -> str:
    """The Structs that several methods return."""
    return "\n\n".join(f"A **{name}**: {_listed(struct)}." for struct, name in _SHAPES.items())


# -- configuration.md --------------------------------------------------------------------------------------

_KINDS: Final = {
    "text": "text",
    "path": "path",
    "texts": "list of text",
    "whole": "whole number",
    "seconds": "number of seconds",
    "switch": "true or false",
}


def settings() -> str:
    """Every setting with its three names."""
    rows = []
    for row in ROWS.values():
        kind = " \\| ".join(f'`"{choice}"`' for choice in row.choices) or _KINDS[row.kind]
        if row.most:
            kind += f", {row.least:g} to {row.most:g}"
        option = f"`--{row.flag}`" if row.option else "-"
        variable = f"`{row.variable}`" if row.option else "-"
        rows.append([f"`{row.key}`", option, variable, kind, _cell(row.help)])
    return _table(["key", "option", "variable", "value", "meaning"], rows)


# -- faults.md ---------------------------------------------------------------------------------------------


def _evidence() -> dict[str, Any]:
    """The summary of the fault lab's evidence."""
    return cast("dict[str, Any]", json.loads((LAB / "evidence.json").read_text("utf-8")))


def fault_invariants() -> str:
    """What must hold, as `INVARIANTS` of the lab has it; read, not imported: the lab needs more than these pages."""
    tree = ast.parse((LAB / "invariants.py").read_text("utf-8"))
    given = [one for one in tree.body if isinstance(one, ast.AnnAssign)]
    [found] = [one.value for one in given if ast.unparse(one.target) == "INVARIANTS"]
    return _table(["", ""], [list(row) for row in ast.literal_eval(cast("ast.expr", found)).items()])


def fault_kinds() -> str:
    """Every kind of fault, with how many points were tried and what became of them."""
    rows = []
    for name, kind in _evidence()["kinds"].items():
        held, broken, missed = (sum(counts) for counts in zip(*kind["points"].values(), strict=True))
        days = sorted({kind["from"][:10], kind["to"][:10]})
        commits = ", ".join(f"`{commit}`" for commit in kind["commits"] if commit)
        figures = [f"{number:,}" for number in (held + broken, broken, missed)]
        rows.append([f"`{name}`", _cell(kind["about"]), *figures, " to ".join(days), commits])
    return _table(["kind", "", "points tried", "broken", "missed", "when", "commits"], rows)


def fault_calls() -> str:
    """What was hit: the calls, and for errors which."""
    kinds = _evidence()["kinds"]
    lines = []
    for name in ("kill", "errno"):
        counts: dict[str, dict[str, int]] = {}
        for what, count in kinds.get(name, {"hit": {}})["hit"].items():
            call, _, error = what.partition("-")
            error = error.removesuffix("+")
            counts.setdefault(call, {})[error] = counts.get(call, {}).get(error, 0) + count
        errors = sorted({error for found in counts.values() for error in found})
        rows = [[f"`{call}`", *(f"{found.get(error, 0) or '-'}" for error in errors)] for call, found in counts.items()]
        lines.append(_table([f"`{name}`", *(error or "points" for error in errors)], rows))
    return "\n\n".join(lines)


def fault_links() -> str:
    """What was done to links and disks as a whole, and how often."""
    kinds = _evidence()["kinds"]
    rows = [
        [f"`{name}`", f"`{what}`", f"{count:,}"]
        for name in ("link", "power-cut")
        for what, count in kinds.get(name, {"hit": {}})["hit"].items()
    ]
    return _table(["kind", "manner", "points"], rows)


def fault_scenarios() -> str:
    """Every scenario, with how many points were tried of each kind."""
    found = _evidence()
    tried: dict[str, dict[str, int]] = {}
    for name, kind in found["kinds"].items():
        for place, (held, broken, _) in kind["points"].items():
            counts = tried.setdefault(place, {})
            counts[name] = counts.get(name, 0) + held + broken
    rows = []
    for place in sorted(tried):
        scenario, _, victim = place.partition("/")
        counts = tried[place]
        about = _cell(found["scenarios"].get(scenario, ""))
        rows.append([f"`{scenario}`", about, victim, *(str(counts.get(name, "-")) for name in found["kinds"])])
    return _table(["scenario", "", "hurt", *(f"`{name}`" for name in found["kinds"])], rows)


def fault_findings() -> str:
    """What was found, what was done, and the tests that would find it again."""
    parts = []
    for one in tomllib.loads((LAB / "findings.toml").read_text("utf-8"))["found"]:
        tests = ", ".join(f"`{test}`" for test in one["tests"])
        parts.append(f"- {one['was']} *Mended:* {one['mended']} (Points: {one['by']}. Tests: {tests}.)")
    return "\n".join(parts)


#: What can be generated, by the name in the marker.
PARTS: Final[dict[str, Callable[[], str]]] = {
    "modules": modules,
    "sender": lambda: _mermaid(SENDER_TABLE),
    "receiver": lambda: _mermaid(RECEIVER_TABLE),
    "from-client": lambda: _mermaid(FROM_CLIENT),
    "from-server": lambda: _mermaid(FROM_SERVER),
    "verbs": verbs,
    "global-options": global_options,
    "exit-codes": exit_codes,
    "events": events,
    "settings": settings,
    "methods": methods,
    "shapes": shapes,
    "fault-invariants": fault_invariants,
    "fault-kinds": fault_kinds,
    "fault-calls": fault_calls,
    "fault-links": fault_links,
    "fault-scenarios": fault_scenarios,
    "fault-findings": fault_findings,
}
_PART: Final = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """`text` with every generated part as it should be now; KeyError for an unknown one."""
    return _PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[3]}", text)


def pages() -> list[Path]:
    """The pages that may have generated parts."""
    return sorted(HERE.glob("*.md"))


def main() -> None:
    """Renew every page that is out of date, and name it."""
    for page in pages():
        before = page.read_text("utf-8")
        after = filled(before)
        if after != before:
            page.write_text(after, "utf-8")
            print(f"renewed {page.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
