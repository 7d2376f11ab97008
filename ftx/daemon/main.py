"""`ftx-server`: the daemon in the foreground, without a `twistd` on the PATH.

It takes the options of `twistd ftx`, looks for no plugins, writes no pid file and logs to stderr. It ends
with 0 after a clean stop, whatever signal asked for it (twistd would raise the signal again), with 1 when
it cannot start, with 2 when the command line cannot be understood.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger
from twisted.python.usage import UsageError

from ftx.daemon.tap import Options, makeService, sentence
from ftx.disk.settings import ROWS
from ftx.errors import KINDS, FtxError
from ftx.text import show

if TYPE_CHECKING:
    from twisted.application.service import MultiService

__all__ = ["main"]

_PROGRAM: Final = "ftx-server"
#: Variables that are no settings: where everything is, what the client reads, what a hook is told.
_OTHER_VARIABLES: Final = frozenset({"FTX_HOME", "FTX_CONFIG", "FTX_CODE", "FTX_CONTROL", "FTX_EVENT", "FTX_HOOK"})
#: Whether there shall be a native library (`hatch_build.py`).
_OF_THE_BUILD: Final = "FTX_NATIVE"


def _log_to_stderr(form: str) -> None:
    """Begin logging, one line per event, on stderr as `text` or `json`; stdout and warnings stay what they are."""
    from twisted.logger import globalLogBeginner

    from ftx.daemon.logs import json_lines, text_lines

    if form == "json":
        globalLogBeginner.beginLoggingTo([json_lines()], redirectStandardIO=False)
        return
    globalLogBeginner.beginLoggingTo([text_lines(sys.stderr)], redirectStandardIO=False)


def _unknown(names: Iterable[str]) -> Iterator[str]:
    """A sentence for each `FTX_` variable that no setting has, with the one that may be meant."""
    known = {row.variable for row in ROWS.values()} | _OTHER_VARIABLES
    for name in sorted(names):
        if name == _OF_THE_BUILD:
            yield f"the variable {name} sets nothing here: it counts when ftx is built"
        elif name.startswith("FTX_") and name not in known:
            close = difflib.get_close_matches(name, known, 1)
            yield f"the variable {show(name)} sets nothing" + (f"; did you mean {close[0]}?" if close else "")


def _run(service: MultiService) -> int:
    """Start `service`, run the reactor until something stops it, and say how the process ends."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    _log_to_stderr(getattr(getattr(service, "config", None), "log_format", "text"))
    for line in _unknown(os.environ):
        Logger(namespace=__name__).warn("{line}", line=line)
    service.privilegedStartService()
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
    return int(getattr(service, "exit_status", 0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ftx-server` with `arguments` (default: those of the process); returns its exit code."""
    options = Options(_PROGRAM)
    options.synopsis = f"Usage: {_PROGRAM} [options]"
    try:
        options.parseOptions(list(sys.argv[1:] if arguments is None else arguments))
    except UsageError as error:
        print(f"{_PROGRAM}: {error}\nhint: see {_PROGRAM} --help", file=sys.stderr)
        return KINDS["usage"].exit_code
    try:
        return _run(makeService(options))
    except FtxError as error:
        print(sentence(error, _PROGRAM), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
