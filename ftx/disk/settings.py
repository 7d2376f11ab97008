"""Settings: what can be set, and the layers of places where it is set.

One table, `ROWS`, says what each setting is called and what it may be. From it come the keys of
`config.toml`, the `FTX_…` variables, the options of the daemon with their help, and every complaint.
A file has tables besides, read by `ftx.disk.rules`.
`gather()` reads the layers, strongest first: options, environment, the file named by `--config`, the
user's file, the system's file. What nobody set is not in the answer: defaults belong to whoever uses a
setting.

It is longer than other modules because it is one table, and the few readers of it.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

from ftx import limits
from ftx.core.bucket import parse_timetable
from ftx.core.peers import peer_name
from ftx.disk.configfile import invalid, read_text
from ftx.disk.places import Places, absolute
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["ROWS", "Origin", "Row", "Setting", "Value", "default_name", "gather"]

#: Of a setting; what a table of `ftx.disk.rules.TABLES` became is of a type of its own.
Value = str | int | float | bool | tuple[str, ...] | Any
#: The keys of `ftx.disk.rules.TABLES`; a test compares them. What reads those, and shares, is imported when a file has
#: one: most have none.
_TABLES: Final = ("peer", "rule", "hook")


@attrs.frozen
class Row:
    """One setting.

    `kind` is `text`, `path`, `texts` (repeatable), `whole`, `seconds` or `switch`. `choices` or `least` and
    `most` bound the value, `check` may refine it (it raises FtxError). `option` False: only in files.
    """

    key: str
    kind: str
    help: str
    placeholder: str = ""
    choices: tuple[str, ...] = ()
    least: float = 0
    most: float = 0
    check: Callable[[str], str] | None = None
    option: bool = True

    @property
    def flag(self) -> str:
        """The option on the command line, without the two dashes."""
        return self.key.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "FTX_" + self.key.upper()


def _interface(name: str) -> str:
    """A network interface name as Linux allows it: 1 to 15 bytes, no slash, no space (dev_valid_name)."""
    if not 0 < len(name.encode()) < 16 or "/" in name or any(char.isspace() for char in name):
        raise FtxError("usage", f"{show(name)} is not the name of a network interface", "ip link shows the names")
    return name


def _network(text: str) -> str:
    """A network in CIDR notation, the bits behind its prefix zero."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise FtxError("usage", f"{show(text)} is no network", "for example 10.1.0.0/16 or fd00:1::/48") from error


def _rooted(path: str) -> str:
    """An absolute path, `~` in front expanded."""
    whole = os.path.expanduser(path)
    if not whole.startswith("/"):
        raise FtxError("usage", f'"{show(path)}" is no absolute path', "for example /srv/archive")
    return os.path.normpath(whole)


def _rates(text: str) -> str:
    """A rate, or a timetable of rates."""
    try:
        parse_timetable(text)
    except ValueError as error:
        raise FtxError("usage", str(error), "for example 20M, or 0 for no limit") from None
    return text


def _share(text: str) -> str:
    from ftx.disk.shares import check_share

    return check_share(text)


ROWS: Final[dict[str, Row]] = {
    row.key: row
    for row in (
        Row("name", "text", "name shown in discovery (default: the short host name)", "NAME", check=peer_name),
        Row(
            "listen",
            "texts",
            "where to listen, e.g. tcp:7389 or tcp6:7389:interface=\\:\\:1; may be repeated (default: port "
            "7389 on every IPv4 and every IPv6 address)",
            "ENDPOINT",
        ),
        Row("inbox", "path", "folder where received files go", "DIR"),
        Row(
            "share",
            "texts",
            "folder that this identity, and peers granted it, may list and pull from, read-only; may be repeated",
            "NAME=DIR",
            check=_share,
        ),
        Row(
            "accept",
            "text",
            "who may send to this daemon: own (this identity only), paired (known peers too; default) or ask (anybody, "
            "after a person's approval)",
            "WHO",
            choices=("own", "paired", "ask"),
        ),
        Row(
            "approval_timeout",
            "seconds",
            "seconds that an offer waits for approval (default: 120)",
            "SECONDS",
            least=1,
            most=limits.APPROVAL_MOST,
        ),
        Row(
            "conflict",
            "text",
            "when a name exists with other content: fail, skip, rename (default), backup or overwrite. Also the "
            "most that a sender may wish, in this order",
            "WHAT",
            choices=("fail", "skip", "rename", "backup", "overwrite"),
        ),
        Row(
            "links",
            "text",
            "symbolic links that a sender keeps: skip (default) or keep; only such as stay inside what is sent",
            "WHAT",
            choices=("skip", "keep"),
        ),
        Row(
            "names",
            "text",
            "names that may come in: usual (default), or any: with control characters too, and with a dot at the "
            "beginning at the top of the inbox",
            "WHICH",
            choices=("usual", "any"),
        ),
        Row("discovery_port", "whole", "UDP port of discovery (default: 7389)", "PORT", least=0, most=65535),
        Row(
            "discovery",
            "text",
            "who is answered when asking who is here: everyone (default), paired (in a form that strangers cannot "
            "recognise) or off",
            "WHO",
            choices=("everyone", "paired", "off"),
        ),
        Row("no_discovery", "switch", "do not answer discovery: as discovery = off"),
        Row(
            "discovery_interface",
            "texts",
            "network interface for discovery; may be repeated (default: all on which the daemon listens)",
            "NAME",
            check=_interface,
        ),
        Row(
            "discovery_exclude",
            "texts",
            "network interface on which discovery is neither asked nor answered; may be repeated (default: none)",
            "NAME",
            check=_interface,
        ),
        Row(
            "discovery_from",
            "texts",
            "network beyond the link whose hosts are answered too, e.g. 10.1.0.0/16; may be repeated (default: none)",
            "NETWORK",
            check=_network,
        ),
        Row("no_probe", "switch", "let nobody measure how fast this machine receives and sends (ftx-client doctor)"),
        Row(
            "mdns",
            "switch",
            "publish this daemon by DNS-SD, and look for others by it (default: where the extra mdns is installed)",
        ),
        Row("control", "path", "path of the control socket", "PATH"),
        Row(
            "control_packet",
            "path",
            "path of the control socket for packets (default: beside the other, ending in .seq)",
            "PATH",
        ),
        Row("no_control", "switch", "make no control sockets"),
        Row(
            "control_group",
            "text",
            "group whose members may look into the daemon and cancel jobs, by name or number (default: none)",
            "GROUP",
        ),
        Row(
            "control_group_pairs",
            "switch",
            "let members of that group pair, too: themselves through the socket, and others by a code",
        ),
        Row(
            "limit_in",
            "text",
            "bytes per second that may come in, e.g. 20M, 0 for no limit (default), or by the time of day: "
            '"08:00 2M, 19:00 0"',
            "RATE",
            check=_rates,
        ),
        Row("limit_out", "text", "the same for what goes out", "RATE", check=_rates),
        Row(
            "drain_timeout",
            "seconds",
            "seconds that a stop waits for running jobs (default: 30)",
            "SECONDS",
            least=0,
            most=86400,
        ),
        Row(
            "uid",
            "text",
            "user to become once the ports are bound, by name or number; only for root (default: none)",
            "USER",
        ),
        Row("gid", "text", "its group (default: that user's own)", "GROUP"),
        Row(
            "sandbox",
            "text",
            "after the start, nothing but its own may be written or run (Landlock): on (default), strict (nor read, "
            "which is what can be queued then), require (strict, and no start without it) or off",
            "HOW",
            choices=("on", "strict", "require", "off"),
        ),
        Row(
            "sandbox_also",
            "texts",
            "file or folder that may be used nevertheless, by hooks for example; may be repeated",
            "PATH",
            check=_rooted,
        ),
        Row(
            "log_format",
            "text",
            "log of ftx-server: text (default) or json, one object a line",
            "FORMAT",
            choices=("text", "json"),
        ),
        Row(
            "metrics",
            "text",
            "where to answer GET /metrics over HTTP, for Prometheus, e.g. tcp:9389; on the loopback interface unless "
            "it names one (default: nowhere)",
            "ENDPOINT",
        ),
        Row(
            "own_key",
            "text",
            "where this identity's own key is trusted: own-address (this machine's addresses) or anywhere",
            choices=("own-address", "anywhere"),
            option=False,
        ),
    )
}

_TYPES: Final[dict[str, Any]] = {
    "text": str,
    "path": str,
    "texts": list[str],
    "whole": int,
    "seconds": float,
    "switch": bool,
}
_File = msgspec.defstruct(
    "Configuration",
    [(row.key, _TYPES[row.kind] | msgspec.UnsetType, msgspec.UNSET) for row in ROWS.values()],
    forbid_unknown_fields=True,
    frozen=True,
    module=__name__,
)


@attrs.frozen
class Origin:
    """Where a value was set: `kind` is `option`, `environment`, `file` (`path` names it) or `default`."""

    kind: str
    path: str = ""

    def of(self, key: str) -> str:
        """The setting `key` as somebody wrote it there: `--name`, `FTX_NAME`, `name in FILE`."""
        if self.kind == "option":
            return f"--{ROWS[key].flag}"
        if self.kind == "environment":
            return ROWS[key].variable
        return f"{key} in {show(self.path)}" if self.path else key

    def wrong(self, key: str, problem: str, hint: str = "") -> FtxError:
        """FtxError `config-invalid` for the setting `key`; the hint, unless given, fits the place where it was set."""
        usual = {"option": "see --help", "environment": f"correct {self.of(key)}, or unset it"}
        return invalid(self.of(key), problem, hint or usual.get(self.kind, ""))


@attrs.frozen
class Setting:
    """A value and where it came from. `texts` are tuples, paths absolute."""

    key: str
    value: Value
    origin: Origin


def default_name(host: str) -> str:
    """The name of this machine for others: `host` up to its first dot, or `ftx` where that is no name."""
    try:
        return peer_name(host.partition(".")[0])
    except FtxError:
        return "ftx"


def _like(word: str, known: Sequence[str], otherwise: str) -> str:
    """A hint: the known word that `word` resembles, else `otherwise`."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else otherwise


def _bounded(row: Row, value: float, origin: Origin) -> None:
    if not math.isfinite(value) or not row.least <= value <= row.most:
        raise origin.wrong(row.key, f"{value} is not between {row.least:g} and {row.most:g}")


def _checked_text(row: Row, value: str, origin: Origin, cwd: str) -> str:
    if not value.strip() or "\0" in value:
        raise origin.wrong(row.key, "the value is empty" if not value.strip() else "the value has a NUL character")
    if row.choices and value not in row.choices:
        # All of them, and no guess: what looks like one choice may mean the opposite of it.
        listed = f"choose {', '.join(row.choices[:-1])} or {row.choices[-1]}"
        raise origin.wrong(row.key, f'"{show(value)}" is not one of the choices', listed)
    if row.kind == "path":
        return absolute(value, cwd)
    if row.check is not None:
        try:
            return row.check(value)
        except FtxError as error:
            raise origin.wrong(row.key, error.message, error.hint) from error
    return value


def _checked(row: Row, value: Any, origin: Origin, cwd: str) -> Setting:
    """`value`, of the row's type already, within its bounds; raises FtxError `config-invalid`."""
    if row.kind == "texts":
        value = tuple(_checked_text(row, item, origin, cwd) for item in value)
        if len(value) > limits.CONFIG_ITEMS:
            raise origin.wrong(row.key, f"more than {limits.CONFIG_ITEMS} values")
    elif row.kind in ("text", "path"):
        value = _checked_text(row, value, origin, cwd)
    elif row.kind in ("whole", "seconds"):
        _bounded(row, value, origin)
    return Setting(row.key, value, origin)


_SWITCH: Final = {
    **dict.fromkeys(("1", "yes", "true", "on"), True),
    **dict.fromkeys(("0", "no", "false", "off"), False),
}


def _from_text(row: Row, text: str, origin: Origin) -> Any:
    """What a command line or the environment says, as the row's type."""
    if row.kind == "texts":
        return text.split()
    if row.kind == "switch":
        if text.lower() not in _SWITCH:
            raise origin.wrong(row.key, f'"{show(text)}" is neither yes nor no', "use yes or no")
        return _SWITCH[text.lower()]
    if row.kind in ("whole", "seconds"):
        try:
            return int(text) if row.kind == "whole" else float(text)
        except ValueError:
            raise origin.wrong(row.key, f'"{show(text)}" is not a number') from None
    return text


def _from_options(options: Mapping[str, str | bool | Sequence[str]], cwd: str) -> dict[str, Setting]:
    origin = Origin("option")
    found = {}
    for key, given in options.items():
        row = ROWS[key]
        if isinstance(given, str):
            value = [given] if row.kind == "texts" else _from_text(row, given, origin)
        else:
            value = given
        found[key] = _checked(row, value, origin, cwd)
    return found


def _from_environment(environ: Mapping[str, str], cwd: str) -> dict[str, Setting]:
    """The `FTX_…` variables. Unknown ones are somebody else's, empty ones are not set."""
    origin = Origin("environment")
    found = {}
    for row in ROWS.values():
        text = environ.get(row.variable, "")
        if row.option and text.strip():
            found[row.key] = _checked(row, _from_text(row, text, origin), origin, cwd)
    return found


_AT_KEY: Final = re.compile(r" - at `\$\.(\w+).*`$")


def _from_file(path: str, required: bool, cwd: str) -> dict[str, Setting]:
    text = read_text(path, required)
    if text is None:
        return {}
    import tomllib

    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError, no more
        raise invalid(show(path), f"not TOML: {show(str(error))}") from error
    origin = Origin("file", path)
    found: dict[str, Setting] = {}
    if not table.keys().isdisjoint(_TABLES):
        from ftx.disk.rules import TABLES

        found = {key: Setting(key, read(table.pop(key), path), origin) for key, read in TABLES.items() if key in table}
    if isinstance(table.get("share"), dict):  # besides a list of NAME=DIR: a table for each, which can say more
        from ftx.disk.shares import share_tables

        found["share"] = Setting("share", share_tables(table.pop("share"), path, cwd), origin)
    for key in table:
        if key not in ROWS:
            known = [*ROWS, *_TABLES]
            close = _like(key.replace("-", "_"), known, f"the keys are {', '.join(known)}")
            raise FtxError("config-invalid", f"unknown key {show(key)} in {show(path)}", close)
    try:
        decoded = msgspec.convert(table, _File)
    except msgspec.ValidationError as error:
        where = _AT_KEY.search(str(error))
        subject = origin.of(where[1]) if where else show(path)
        problem = _AT_KEY.sub("", str(error)).replace("`", "")
        raise invalid(subject, show(problem[:1].lower() + problem[1:])) from error
    values = msgspec.structs.asdict(decoded)
    return found | {
        key: _checked(ROWS[key], value, origin, cwd) for key, value in values.items() if value is not msgspec.UNSET
    }


def gather(
    options: Mapping[str, str | bool | Sequence[str]],
    environ: Mapping[str, str],
    where: Places,
    cwd: str,
    config: str | None = None,
) -> dict[str, Setting]:
    """Everything that was set anywhere, each from its strongest layer. Blocking.

    `options` has the keys of `ROWS` with text as given on the command line, True for switches, sequences
    for repeated ones; `config` is the value of `--config` (else FTX_CONFIG counts), and that file must
    exist. Relative paths, those in files too, refer to `cwd`. Every layer is checked, also where a
    stronger one wins. Raises FtxError `config-invalid`; its message names the setting and where it was
    set.
    """
    named = config or environ.get("FTX_CONFIG") or None
    layers = [_from_options(options, cwd), _from_environment(environ, cwd)]
    if named is not None:
        layers.append(_from_file(absolute(named, cwd), True, cwd))
    layers += [_from_file(path, False, cwd) for path in where.config_files]
    merged: dict[str, Setting] = {}
    for layer in reversed(layers):
        merged.update(layer)
    return merged
