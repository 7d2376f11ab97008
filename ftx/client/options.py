"""The global options: accepted before and after every verb, listed once, kept in one object.

`Verb` and `Verbs` are click's command and group with these options added; what was given lands in the `Options`
of the run, the later place winning over the earlier one. Nothing here imports Twisted: `--help`, `--version` and
completion answer at once.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
import click

from ftx import limits
from ftx.errors import KINDS, FtxError

if TYPE_CHECKING:
    from ftx.client.output import Output
    from ftx.disk.places import Places
    from ftx.disk.settings import Setting

__all__ = ["COMPRESS", "EXCLUDE", "GLOBAL", "LANES", "PORT", "RATE", "SECONDS", "Options", "Verb", "Verbs", "current"]

#: The names of the parameters that every verb has.
GLOBAL: Final = (
    "home",
    "verbose",
    "quiet",
    "json",
    "progress",
    "color",
    "no_input",
    "yes",
    "timeout",
    "retries",
    "debug",
    "discovery_port",
    "discovery_interface",
    "discovery_exclude",
    "version",
)


@attrs.define(eq=False)
class Options:
    """What was asked for beside the verb; see `--help` for each."""

    home: str | None = None
    verbose: int = 0
    quiet: bool = False
    json: bool = False
    progress: Literal["auto", "bar", "plain", "none"] = "auto"
    color: Literal["auto", "always", "never"] = "auto"
    no_input: bool = False
    yes: bool = False
    #: Seconds for the whole run, above 0; None for no limit.
    timeout: float | None = None
    #: Connection attempts after the first that was lost; None for the default, which counts time instead.
    retries: int | None = None
    debug: bool = False
    discovery_port: int | None = None
    discovery_interface: tuple[str, ...] = ()
    discovery_exclude: tuple[str, ...] = ()
    #: The words after the program's name, as they were typed.
    argv: tuple[str, ...] = ()
    _output: Output | None = attrs.field(default=None, init=False)
    _settings: dict[str, Setting] | None = attrs.field(default=None, init=False)

    @property
    def output(self) -> Output:
        """Where this run writes; made at the first use, when all options are known."""
        if self._output is None:
            from ftx.client.output import Output

            self._output = Output(self.json, self.quiet, self.verbose, self.color, self.progress)
        return self._output

    def places(self) -> Places:
        """Where this user's files are; nothing is created."""
        from ftx.disk.places import places

        return places(self.home, os.environ, os.geteuid(), os.getcwd())

    def settings(self) -> dict[str, Setting]:
        """What options, environment and configuration files set, as the daemon reads them; read once.

        FtxError `config-invalid` names what is wrong, and where.
        """
        from ftx.disk.settings import gather

        if self._settings is not None:
            return self._settings
        given: dict[str, str | bool | Sequence[str]] = {}
        if self.discovery_port is not None:
            given["discovery_port"] = str(self.discovery_port)
        if self.discovery_interface:
            given["discovery_interface"] = self.discovery_interface
        if self.discovery_exclude:
            given["discovery_exclude"] = self.discovery_exclude
        self._settings = gather(given, os.environ, self.places(), os.getcwd())
        return self._settings

    def confirm(self, question: str, *, final: bool = False) -> bool:
        """Whether to go on: asked on a terminal, and taken for granted with `--yes` or where nobody can answer.

        The verbs that ask do what their words say; a script has said it already. What is `final` and cannot be mended
        wants `--yes` there: FtxError `usage`.
        """
        terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
        if self.yes:
            return True
        if self.no_input or not terminal:
            if final:
                raise FtxError("usage", "this cannot be undone, and there is nobody to ask", "say it with --yes")
            return True
        return click.confirm(question, default=False, err=True)

    def confirm_here(self, question: str) -> bool:
        """Whether a person says yes; where nobody can be asked, the answer is no, `--yes` or not."""
        terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
        return terminal and not self.no_input and click.confirm(question, default=False, err=True)


def current() -> Options:
    """The options of the verb that is running."""
    return click.get_current_context().find_root().ensure_object(Options)


class _Seconds(click.ParamType[float]):
    """A number of seconds: finite and above 0."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`value` as a float; a usage error for anything else."""
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if not math.isfinite(seconds) or seconds <= 0:
            self.fail(f"{value} is not above 0", param, ctx)
        return seconds


class _Whole(click.ParamType[int]):
    """A whole number within bounds; click's own range would put them into every help text."""

    def __init__(self, name: str, least: int, most: int) -> None:
        self.name = name
        self.least = least
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """`value` as an int; a usage error for anything else."""
        text = str(value)
        if not (text.isascii() and text.isdigit() and len(text) < 20 and self.least <= int(text) <= self.most):
            self.fail(f"{text!r} is not a number from {self.least} to {self.most}", param, ctx)
        return int(text)


class _Rate(click.ParamType[int]):
    """Bytes per second, as a person writes them."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """`value` as a number of bytes per second; a usage error for anything else."""
        from ftx.core.bucket import parse_rate

        try:
            return value if isinstance(value, int) else parse_rate(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


SECONDS: Final = _Seconds()
RATE: Final = _Rate()
PORT: Final = _Whole("port", 1, 65535)
_COUNT: Final = _Whole("count", 0, 1_000_000)

#: Options of every verb that brings content from one machine to another; decorators, as those of click.
EXCLUDE: Final = click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave out what matches, below each source; as in .gitignore, the last that matches counts. May be repeated.",
)
COMPRESS: Final = click.option(
    "--compress",
    type=click.Choice(["auto", "off"]),
    default="auto",
    help="Compress on the way: auto (default) does so for files that get smaller, while the network is slow.",
)
LANES: Final = click.option(
    "--lanes",
    type=_Whole("lanes", 1, limits.LANES + 1),
    metavar="N",
    help=f"Connections that the content may take, 1 to {limits.LANES + 1}"
    " (default: one, and several to a machine that is far away).",
)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep what was given here; what was not leaves an earlier place's value alone."""
    if param.name is None or ctx.get_parameter_source(param.name) is click.core.ParameterSource.DEFAULT:
        return
    options = ctx.find_root().ensure_object(Options)
    if param.name in ("verbose", "discovery_interface", "discovery_exclude"):
        value = getattr(options, param.name) + value
    setattr(options, param.name, value)


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from ftx import __version__

        click.echo(f"ftx-client {__version__}")
        ctx.exit()


def _option(*names: str, **more: Any) -> click.Option:
    """An option that is kept in `Options`, wherever it is given."""
    return click.Option(names, expose_value=False, callback=_remember, **more)


def _flag(*names: str, help: str) -> click.Option:
    """Such an option without a value."""
    return _option(*names, is_flag=True, default=False, help=help)


def _global_options() -> list[click.Option]:
    return [
        _option(
            "--home",
            metavar="DIR",
            type=click.Path(file_okay=False),
            help="Keep everything below this folder (else FTX_HOME, else the platform's own folders).",
        ),
        _option("-v", "--verbose", count=True, help="Say more; may be repeated."),
        _flag("-q", "--quiet", help="Print errors and what was asked for only: no progress, no summary."),
        _flag("--json", help="Print one JSON object per line on standard output."),
        _option(
            "--progress",
            type=click.Choice(["auto", "bar", "plain", "none"]),
            default="auto",
            help="How to show progress: auto is a bar on a terminal, else a line every 10 seconds.",
        ),
        _option(
            "--color",
            type=click.Choice(["auto", "always", "never"]),
            default="auto",
            help="When to use colour; auto respects NO_COLOR.",
        ),
        _flag("--no-input", help="Never ask."),
        _flag("-y", "--yes", help="Answer every question with yes."),
        _option("--timeout", metavar="SECONDS", type=SECONDS, help="Give up after this long (exit code 10)."),
        _option(
            "--retries",
            metavar="N",
            type=_COUNT,
            help="Retry a lost connection N times, however long that takes (default: for 30 seconds without a byte).",
        ),
        _option(
            "--discovery-port",
            metavar="PORT",
            type=PORT,
            help="UDP port of discovery (else FTX_DISCOVERY_PORT, else 7389).",
        ),
        _option(
            "--discovery-interface",
            metavar="NAME",
            multiple=True,
            help="Network interface for discovery; may be repeated (else FTX_DISCOVERY_INTERFACE, else all).",
        ),
        _option(
            "--discovery-exclude",
            metavar="NAME",
            multiple=True,
            help="Network interface to leave out; may be repeated (else FTX_DISCOVERY_EXCLUDE, else none).",
        ),
        _flag("--debug", help="Show tracebacks and everything that is logged."),
        click.Option(
            ["-V", "--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Show the version and exit.",
        ),
    ]


class Verb(click.Command):
    """A verb: click's command with the global options, listed in a section of their own."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.params.extend(_global_options())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verb's own options, and where the others are."""
        _format_options(self, ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Understand `args`; a complaint of click's parser that does not say of which verb it is gets this one."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; a usage error that has no advice of its own refers to the help of this verb."""
        try:
            return super().invoke(ctx)
        except FtxError as error:
            if error.name == "usage" and error.hint == KINDS["usage"].hint:
                error.hint = f"see {ctx.command_path} --help"
            raise


class Verbs(click.Group):
    """A group of verbs: click's group with the global options, aliases, and a suggestion for what is mistyped."""

    command_class = Verb
    group_class = type

    def __init__(self, *args: Any, aliases: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        #: Other names of verbs, which the list of verbs does not repeat.
        self.aliases = aliases or {}
        self.params.extend(_global_options())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb called `cmd_name`, or with that alias."""
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs, then the options."""
        self.format_commands(ctx, formatter)
        _format_options(self, ctx, formatter)


def _format_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    own: list[tuple[str, str]] = []
    shared: list[tuple[str, str]] = []
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None and isinstance(param, click.Option):  # arguments are explained in the text above
            (shared if param.name in GLOBAL or "--help" in param.opts else own).append(record)
    whole = ctx.parent is None
    for title, records in (("Options", own), ("Global options, before or after the verb", shared if whole else [])):
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
    if not whole:
        formatter.write_paragraph()
        formatter.write_text(f"Global options, such as --json and --home: {ctx.find_root().command_path} --help")
