"""`ftx-client`: the command line. What it may say is fixed in `docs/cli.md`.

This module knows the verbs and turns every way a run can end into an exit code. `--help`, `--version` and completion
import neither Twisted nor OpenSSL, so they answer at once: whatever a verb needs is imported when it runs.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from ftx import limits
from ftx.client.late import LateVerbs
from ftx.client.options import Options, Verbs
from ftx.disk.heap import settle
from ftx.errors import KINDS, FtxError

__all__ = ["cli", "main"]


#: Where each verb is written; their order is no matter.
_VERBS: Final = {
    "send": "ftx.client.verbs.send:send",
    "get": "ftx.client.verbs.shares:get",
    "ls": "ftx.client.verbs.shares:ls",
    "receive": "ftx.client.verbs.receive:receive",
    "discover": "ftx.client.verbs.discover:discover",
    "doctor": "ftx.client.verbs.doctor:doctor",
    "pair": "ftx.client.verbs.pair:pair",
    "peers": "ftx.client.verbs.peers:peers",
    "policy": "ftx.client.verbs.policy:policy",
    "id": "ftx.client.verbs.local:identity",
    "hash": "ftx.client.verbs.local:hash_files",
    "verify": "ftx.client.verbs.verify:verify",
    "ctl": "ftx.client.verbs.daemon:ctl",
    "config": "ftx.client.verbs.config:config",
    "demo": "ftx.client.verbs.daemon:demo",
    "completion": "ftx.client.verbs.local:completion",
}


@click.group(
    cls=Verbs,
    commands=LateVerbs(_VERBS),
    aliases={"put": "send", "push": "send", "pull": "get"},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 2 usage, 3 local file, 4 unreachable, 5 untrusted, 6 refused, 7 not verified, "
    "8 protocol, 9 partial, 10 timeout, 11 nobody found, 12 no daemon, 1 anything else.",
)
def cli() -> None:
    """Move files between machines that can reach each other: verified, resumable, encrypted."""


#: What other programs call things that ftx does otherwise, with the way it does them.
_ELSEWHERE: Final = {
    **dict.fromkeys(("fetch", "download"), "it is called get: ftx-client get NAME:SHARE/FILE"),
    **dict.fromkeys(("cp", "copy", "scp", "rsync", "upload"), "it is called send: ftx-client send FILE NAME:"),
    **dict.fromkeys(("recv", "serve", "listen"), "ftx-client receive, or the daemon: ftx-server"),
    **{verb: f"it is a verb of ctl: ftx-client ctl {verb}" for verb in ("status", "jobs", "watch", "offers", "drain")},
    "version": "ftx-client --version",
    "help": "ftx-client --help, or ftx-client VERB --help",
    **dict.fromkeys(("trust", "add"), "ftx-client pair NAME, with the code that ftx-client pair --open shows there"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code; nothing is raised."""
    settle(limits.GARBAGE_CLIENT, shared=True)
    args = list(sys.argv[1:] if argv is None else argv)
    options = Options(argv=tuple(args))
    _prepare_streams()
    try:
        code = _run(args, options)
    finally:
        _finish_stdout()
    if code == 0 and options.output.problem is not None:
        options.output.error(options.output.problem)
        return options.output.problem.exit_code
    return code


def _run(args: list[str], options: Options) -> int:
    try:
        result = cli.main(args, prog_name="ftx-client", standalone_mode=False, obj=options)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        options.output.stderr(error.format_message())
        return error.exit_code
    except click.UsageError as error:
        options.output.error(_usage(error))
        return KINDS["usage"].exit_code
    except click.ClickException as error:
        options.output.error(FtxError("local-io", error.format_message()))
        return KINDS["local-io"].exit_code
    except (click.Abort, KeyboardInterrupt):
        options.output.error(_interrupted())
        return KINDS["interrupted"].exit_code
    except FtxError as error:
        if options.debug:
            _report(options, error)
        options.output.error(error)
        return error.exit_code
    except BrokenPipeError:  # whoever read our output has seen enough
        return 0
    except Exception as error:  # the last resort of a program: one sentence instead of a traceback
        _report(options, error)
        return KINDS["internal"].exit_code


def _report(options: Options, error: Exception) -> None:
    import traceback

    from ftx.client.run import report_unexpected, write_lines

    if isinstance(error, FtxError):
        write_lines(options, "".join(traceback.format_exception(error)))
    else:
        report_unexpected(options, error, "")


def _interrupted() -> FtxError:
    error = FtxError("interrupted")
    error.hint = ""
    return error


def _usage(error: click.UsageError) -> FtxError:
    """click's complaint in our words: lower case, no full stop, and the suggestion as the hint."""
    message = error.message.rstrip(".")
    command = error.ctx.command_path if error.ctx is not None else "ftx-client"
    hint = f"see {command} --help"
    unknown = error.command_name if isinstance(error, click.exceptions.NoSuchCommand) else ""
    if command == "ftx-client" and unknown in _ELSEWHERE:
        hint = _ELSEWHERE[unknown]
    elif isinstance(error, click.NoSuchOption) and (verbs := _verbs_with(error.option_name)):
        hint = f"it is an option of {' and '.join(verbs) if len(verbs) < 3 else ', '.join(verbs)}"
        if command == "ftx-client":
            hint += ", and stands behind the verb"
    elif isinstance(error, click.exceptions.NoSuchCommand | click.NoSuchOption) and error.possibilities:
        hint = f"did you mean {error.possibilities[0]}?"  # the closest one
    elif isinstance(error, click.BadParameter):
        message = " ".join(error.format_message().split()).rstrip(".")
    return FtxError("usage", message[:1].lower() + message[1:], hint)


def _verbs_with(option: str) -> list[str]:
    """The verbs that have this option, which another verb was given, or which stood in front of its own."""
    return [name for name in sorted(_VERBS) if any(option in param.opts for param in cli.commands[name].params)]


def _prepare_streams() -> None:
    """Make every character writable: what the locale has no code for is escaped instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _finish_stdout() -> None:
    """Flush what click wrote; a reader that has gone must not make the interpreter complain at its end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EIO):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
