"""`twistd ftx`: the options of the daemon, and the service they lead to.

Everything that can be checked is checked in `makeService`: it runs before a daemonising twistd forks,
where a failure is one sentence on the terminal and exit code 1. For what fails later, when the service
starts, the exception hook does the same: twistd ends with the exception, in the foreground and daemonised
alike.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from twisted.python import usage

from ftx import __version__
from ftx.disk.settings import ROWS, Row
from ftx.errors import FtxError
from ftx.text import show

if TYPE_CHECKING:
    from twisted.application.service import MultiService

    from ftx.daemon.config import Request

__all__ = ["Options", "makeService", "sentence", "speak_plainly"]

#: What the daemon calls itself when something else runs it: `twistd ftx`, `twist ftx`.
_PLUGIN: Final = "ftx"


def sentence(error: FtxError, program: str = _PLUGIN) -> str:
    """`error` for a terminal: `PROGRAM: what and why`, and a line with a hint unless the message has it already."""
    text = f"{program}: {error.message}"
    return text if not error.hint or error.hint in error.message else f"{text}\nhint: {error.hint}"


def speak_plainly(program: str = _PLUGIN) -> None:
    """From now on an FtxError that ends the process shows as its sentence, every other exception as before."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, FtxError):
            # twistd has made sys.stderr a log by now; this is for the terminal
            print(sentence(error, program), file=sys.__stderr__ or sys.stderr)
        else:
            before(kind, error, trace)

    before = sys.excepthook
    if getattr(before, "__module__", None) != __name__:
        sys.excepthook = hook


def _repeated(row: Row) -> Callable[[Options, str], None]:
    """The method by which `usage.Options` collects an option that may be repeated."""

    def collect(self: Options, value: str) -> None:
        self.repeated.setdefault(row.key, []).append(value)

    collect.__doc__ = row.help
    return collect


class Options(usage.Options):
    """The options of the daemon: those of `ftx.disk.settings.ROWS`, `--home`, `--config`, help and version."""

    synopsis = "[options]"
    longdesc = (
        "Receive files that are sent with ftx-client, and answer discovery on the local network. Every option is "
        "also a key of config.toml and an environment variable: --drain-timeout is drain_timeout and "
        "FTX_DRAIN_TIMEOUT."
    )
    optParameters = [
        ["home", None, None, "folder for everything: configuration, identity, state, inbox (default: the user's own)"],
        ["config", None, None, "configuration file, read before the usual ones"],
        *(
            [row.flag, None, None, row.help]
            for row in ROWS.values()
            if row.option and row.kind not in ("switch", "texts")
        ),
    ]
    optFlags = [[row.flag, None, row.help] for row in ROWS.values() if row.option and row.kind == "switch"]

    def __init__(self, program: str = _PLUGIN) -> None:
        #: What messages begin with.
        self.program = program
        self.repeated: dict[str, list[str]] = {}
        super().__init__()

    opt_listen = _repeated(ROWS["listen"])
    opt_share = _repeated(ROWS["share"])
    opt_discovery_interface = _repeated(ROWS["discovery_interface"])
    opt_sandbox_also = _repeated(ROWS["sandbox_also"])
    opt_discovery_exclude = _repeated(ROWS["discovery_exclude"])
    opt_discovery_from = _repeated(ROWS["discovery_from"])

    def opt_version(self) -> None:
        """print the version and exit"""
        print(f"ftx {__version__}")
        sys.exit(0)

    opt_V = opt_version

    def opt_help(self) -> None:
        """show this help and exit"""
        print(self)
        sys.exit(0)

    opt_h = opt_help

    def parseArgs(self, *extra: str) -> None:
        """Options are all there is. Raises UsageError that names what was given besides."""
        if extra:
            raise usage.UsageError(f"unexpected argument: {show(extra[0])}")

    def request(self) -> Request:
        """What was asked for, with this process's environment."""
        from ftx.daemon.config import Request

        given: dict[str, Any] = dict(self.repeated)
        for row in ROWS.values():
            value = self.get(row.flag)
            if value is not None and value != 0:
                given[row.key] = True if row.kind == "switch" else value
        runner = getattr(self, "parent", None) or {}
        if runner.get("uid") is not None and "uid" not in given:  # twistd --uid: the same, done by twistd
            given |= {key: str(runner[key]) for key in ("uid", "gid") if runner.get(key) is not None}
        return Request.of_process(given, self["home"], self["config"], _written(runner))


def _written(runner: Mapping[str, Any]) -> tuple[str, ...]:
    """The folders that twistd writes into until it ends: of its pid file and its log, from its options."""
    folder = os.path.abspath(runner.get("rundir") or ".")
    background = "nodaemon" in runner and not runner["nodaemon"]
    log = runner.get("logfile") or ("twistd.log" if background else "")
    named = [runner.get("pidfile") or "", "" if log == "-" else log]
    return tuple(os.path.dirname(os.path.join(folder, one)) for one in named if one)


def makeService(options: Options) -> MultiService:
    """The service for `options`; ends the process with a sentence and exit code 1 when it cannot be made."""
    from twisted.internet import reactor

    from ftx.daemon.config import load
    from ftx.net.steady import steady

    steady(reactor)
    speak_plainly(options.program)
    try:
        config = load(options.request())
        from ftx.daemon.service import make_service  # much is imported for it: a mistake is told before

        service: MultiService = make_service(config, reactor)
    except FtxError as error:
        raise SystemExit(sentence(error, options.program)) from None
    return service
