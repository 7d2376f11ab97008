"""`config`: what is set, where it was set, and a file to begin with."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs
import click

from ftx.client.options import Verbs, current
from ftx.errors import FtxError
from ftx.text import show as shown

if TYPE_CHECKING:
    from ftx.disk.settings import Origin, Row

__all__ = ["config"]

_HEAD = """\
# The configuration of ftx-server, and of ftx-client where it concerns both. Every setting can be left out, and is then
# what its line says: the default here. `ftx-client config show --origin` says what is in force and where it was set; a
# running daemon reads this file again on SIGHUP and `ftx-client ctl reload`.
"""


@click.group(cls=Verbs, short_help="Show the configuration, or begin one.")
def config() -> None:
    """Show what is configured and where it was set, or write a configuration file to begin with."""


@config.command("show", short_help="Show the settings in force.")
@click.option("--origin", is_flag=True, help="Also show where each was set.")
def show_config(origin: bool) -> int:
    """Show every setting as the daemon of this user would read it now, as lines of config.toml.

    What nobody has set is a comment, with the default.
    """
    import socket

    from ftx.disk.defaults import defaults
    from ftx.disk.settings import ROWS

    options = current()
    found, usual = options.settings(), defaults(options.places(), socket.gethostname())
    for row in ROWS.values():
        setting = found.get(row.key)
        value = _plain(usual[row.key] if setting is None else setting.value)
        where = "default" if setting is None else _where(row, setting.origin)
        options.output.record({"key": row.key, "value": value, "origin": where})
        for line in _lines(row.key, value):
            shown_line = line if setting is not None else f"#{line}"
            options.output.result(f"{shown_line}  # {where}" if origin or setting is None else shown_line)
    for key, setting in found.items():
        if key not in ROWS:  # tables of peers and rules have a form of their own
            options.output.record({"key": key, "value": None, "origin": _where(None, setting.origin)})
            options.output.result(f"# [{key}] is set" + (f"  # {_where(None, setting.origin)}" if origin else ""))
    return 0


@config.command("init", short_help="Write a configuration file to begin with.")
def init() -> int:
    """Write a config.toml with every setting in it as a comment, where this user's daemon looks first.

    One that exists is left alone.
    """
    import socket

    from ftx.disk import private
    from ftx.disk.defaults import defaults
    from ftx.disk.places import prepare_home
    from ftx.disk.settings import ROWS

    options = current()
    where = options.places()
    path = where.config_files[0]
    usual = defaults(where, socket.gethostname())
    text = _HEAD + "".join(line + "\n" for row in ROWS.values() for line in _begun(row, usual[row.key]))
    try:
        if where.home is not None:
            prepare_home(where)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise FtxError("local-io", f"{shown(path)} cannot be written: {reason}") from error
    if not private.create(path, text.encode(), "local-io"):
        raise FtxError("usage", f"{shown(path)} exists already", "ftx-client config show tells what is in it")
    options.output.record({"path": path})
    options.output.result(shown(path, 4096))
    return 0


def _where(row: Row | None, origin: Origin) -> str:
    """`--name`, `FTX_NAME`, or the file."""
    if origin.kind == "file":
        return shown(origin.path, 4096)
    if row is None:
        return origin.kind
    return {"option": f"--{row.flag}", "environment": row.variable}.get(origin.kind, origin.kind)


def _plain(value: Any) -> Any:
    """A value as JSON has it; what tables have set (`[share.NAME]`) becomes objects."""
    if not isinstance(value, tuple):
        return value
    return [attrs.asdict(one) if attrs.has(type(one)) else one for one in value]


def _lines(key: str, value: Any) -> list[str]:
    """A setting as lines of TOML: one, or one for each table."""
    tables = [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
    if not tables:
        return [f"{key} = {_toml(value)}"]
    lines = []
    for table in tables:
        said = ", ".join(f"{name} = {_toml(one)}" for name, one in table.items() if name != "name" and one is not False)
        lines.append(f"{key}.{_toml(table['name'])} = {{{said}}}")
    return lines


def _toml(value: Any) -> str:
    """A value as TOML writes it: its basic strings, numbers and arrays are those of JSON."""
    return json.dumps(value)


def _begun(row: Row, usual: Any) -> Iterator[str]:
    """The lines of one setting: what it is, and the key with its default, all as comments."""
    yield ""
    for line in textwrap.wrap(row.help, 100):
        yield f"# {line}"
    others = ", ".join(one for one in row.choices if one != usual)
    yield f"#{row.key} = {_toml(_plain(usual))}" + (f"  # or {others}" if others else "")
