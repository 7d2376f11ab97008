"""Where `ftx-client` begins: before this line nothing of ours has run, and an interrupted import has no traceback.

`ftx-client --version` ends here, too: it needs no parser of options, and whoever asks for it (a script, a package's
test) waits for the interpreter and for next to nothing else. So what this module imports at its top is there already.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # that of typing, which is an import in itself
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

__all__ = ["main"]


def _leave(signum: int, frame: FrameType | None) -> None:
    """As a shell reports it (`interrupted` and `terminated` of ftx.errors, which is not imported yet)."""
    os._exit(128 + signum)


def main(argv: Sequence[str] | None = None) -> int:
    """Import the program and run it with `argv`; returns the exit code.

    Without `argv` the command line is that of the process, and so is the end: it does not return.

    Nothing has begun while it is imported, so Ctrl-C just ends it, and so does SIGTERM until a verb that runs a
    reactor takes it over. No core is ever written: the key would be in it.
    """
    if argv is None and sys.argv[1:] in (["--version"], ["-V"]) and _say_version():
        os._exit(0)
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if usual:
        signal.signal(signal.SIGINT, _leave)
    ends = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ends:
        signal.signal(signal.SIGTERM, _leave)
    from ftx.client.cli import main as run

    if usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run(argv)
    if ends:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if argv is None:
        _end(code)
    return code


def _say_version() -> bool:
    """Whether the version was written; where it cannot be, the program proper finds out again, and says what is wrong.
    """
    if "_FTX_CLIENT_COMPLETE" in os.environ:
        return False
    from ftx import __version__

    try:
        sys.stdout.write(f"ftx-client {__version__}\n")
        sys.stdout.flush()
    except (AttributeError, OSError, ValueError):  # there is no stdout, or nobody reads it, or it is full
        return False
    return True


def _end(code: int) -> None:
    """End the process, which is done: threads have ended, files are closed. Taking a hundred thousand objects apart, as
    the interpreter would do now, takes a tenth of a second that somebody waits for.
    """
    import contextlib

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, closed, or read by nobody: that was said
            stream.flush()
    os._exit(code)
