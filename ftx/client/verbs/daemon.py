"""`ctl` and `demo`: the verbs that deal with a daemon on this machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from ftx.client.options import RATE, Options, Verb, Verbs, current
from ftx.errors import FtxError
from ftx.text import show

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["ctl", "demo"]


@click.group(cls=Verbs, short_help="Look into the running daemon, and steer it.")
def ctl() -> None:
    """Look into the running daemon of this user, and steer it, over its control socket.

    Exit code 12 when there is none.
    """


def _run(verb: str, *args: str) -> int:
    from ftx.client.run import run

    options = current()

    async def main(reactor: Any, stop: Any) -> int:
        from ftx.client.configured import control_path
        from ftx.client.ctl import run_ctl

        def out(line: str) -> None:
            options.output.line(line)
            if options.output.closed:  # `ctl watch | head -1` would otherwise go on for ever
                stop.enough()

        path = control_path(options)

        async def screen() -> None:
            from ftx.client.screen import watch

            await watch(reactor, path, sys.stdout, sys.stdin.fileno(), stop.enough)
            options.output.note("the daemon has stopped")

        live = screen if verb == "watch" and options.output.full_screen() else None
        return await run_ctl(reactor, path, verb, args, json=options.json, out=out, screen=live)

    return run(main, options, what=f"ctl {verb}", endless=verb == "watch")


@ctl.command(short_help="Show what the daemon is doing.")
def status() -> int:
    """Show the daemon's name, id, addresses, inbox and counts."""
    return _run("status")


@ctl.command(short_help="List the jobs.")
def jobs() -> int:
    """List the running jobs, and those that ended lately."""
    return _run("jobs")


@ctl.command(short_help="Follow the events.")
@click.argument("events", metavar="[EVENT]...", nargs=-1)
def watch(events: tuple[str, ...]) -> int:
    """Show the jobs on a live screen, with bars, rates and offers; `q` quits.

    Without a terminal, with --json or --progress plain, or with EVENTs by name: the daemon's events, line by line,
    until it stops or you interrupt. Ctrl-C is an end like any other: exit code 0.
    """
    return _run("watch", *events)


@ctl.command(short_help="Call any control method.")
@click.argument("method", required=False)
@click.argument("params", metavar="[JSON]", required=False)
def call(method: str | None, params: str | None) -> int:
    """Call METHOD with the parameters JSON (an object), and print its result. Without METHOD, list the methods.

    What they take and return, as JSON schemas: ftx-client ctl call rpc.discover
    """
    return _run("call", *(one for one in (method, params) if one is not None))


def _jobs_named(ctx: click.Context, incomplete: str, **query: str) -> list[CompletionItem]:
    """Ids of jobs that begin so, as the daemon has them now, each with its peer; none when there is no daemon."""
    from click.shell_completion import CompletionItem

    from ftx.client.configured import control_path
    from ftx.client.quick import ask

    try:
        path = control_path(ctx.find_root().ensure_object(Options))
    except (FtxError, OSError):
        return []
    items = []
    for job in ask(path, "jobs.list", query).get("jobs") or []:
        name, peer = str(job.get("job", "")), job.get("peer") or {}
        if name.startswith(incomplete.lower()):
            items.append(CompletionItem(name, help=show(str(peer.get("name", "")))))
    return items


def _jobs_there_are(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Those that run, and those that wait."""
    running = _jobs_named(ctx, incomplete, state="active")
    return running + _jobs_waiting(ctx, param, incomplete)


def _jobs_waiting(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Those that wait for approval, or to be sent."""
    return _jobs_named(ctx, incomplete, state="waiting")


def _scopes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What a limit can be for: the daemon, paired peers, running jobs."""
    from click.shell_completion import CompletionItem

    from ftx.client.verbs.send import complete_names

    known = ["daemon", *(f"peer:{name}" for name, _ in complete_names(ctx, "", seen=False))]
    items = [CompletionItem(word) for word in known if word.startswith(incomplete)]
    if incomplete.startswith("job:"):
        found = _jobs_there_are(ctx, param, incomplete.removeprefix("job:"))
        items += [CompletionItem(f"job:{item.value}", help=item.help) for item in found]
    return items


_JOB = click.argument("job", shell_complete=_jobs_there_are)


@ctl.command(short_help="List what waits for approval.")
def offers() -> int:
    """List the offers that wait for approval, with the words that the sender's screen shows as well."""
    return _run("offers")


@ctl.command(short_help="Let an offer in.")
@click.option("--always", is_flag=True, help="Pair its sender too, as NAME or as it calls itself.")
@_JOB
@click.argument("name", required=False)
def approve(always: bool, job: str, name: str | None) -> int:
    """Let the offer JOB in; the first digits of its id will do. Compare the words with the sender's screen first."""
    return _run("approve", job, *(["--always"] if always else []), *([name] if name else []))


@ctl.command(short_help="Refuse an offer.")
@_JOB
@click.argument("reason", nargs=-1)
def deny(job: str, reason: tuple[str, ...]) -> int:
    """Refuse the offer JOB. The REASON goes into the log of the daemon; the sender learns only that it was denied."""
    return _run("deny", job, *reason)


_LEVEL = click.Choice(["debug", "info", "warn", "error"])


@ctl.command(short_help="Show what waits to be sent.")
@click.argument("order", required=False, metavar="[remove]", type=click.Choice(["remove"]))
@click.argument("job", required=False, shell_complete=_jobs_waiting)
def queue(order: str | None, job: str | None) -> int:
    """Show what `send --later` has left with the daemon, with its next attempt and what the last one came to.

    With `remove JOB` take one thing out of the queue; the first digits of its id will do.
    """
    return _run("queue", *(word for word in (order, job) if word is not None))


@ctl.command("log-level", short_help="Show or set how much the log says.")
@click.argument("level", required=False, type=_LEVEL)
def log_level(level: str | None) -> int:
    """Show how much the log of `ftx-server` says, or set it until the daemon stops."""
    return _run("log-level", *([level] if level is not None else []))


@ctl.command(short_help="Pause a job.")
@_JOB
def pause(job: str) -> int:
    """Let no content of JOB travel until `ctl resume`; both ends show it. The first digits of its id will do."""
    return _run("pause", job)


@ctl.command(short_help="Let a paused job go on.")
@_JOB
def resume(job: str) -> int:
    """Let the paused JOB go on where it was."""
    return _run("resume", job)


@ctl.command(short_help="Show and set rate limits.")
@click.argument("scope", required=False, shell_complete=_scopes)
@click.option("--in", "rate_in", type=RATE, metavar="RATE", help="Limit of what comes in; 0 for none.")
@click.option("--out", "rate_out", type=RATE, metavar="RATE", help="Limit of what goes out; 0 for none.")
def limit(scope: str | None, rate_in: int | None, rate_out: int | None) -> int:
    """Show the rate limits, or set those of SCOPE: daemon, peer:NAME, or job:ID, whose first digits will do.

    RATE is in bytes per second, such as 20M or 512Ki. It counts at once, for running jobs too.
    """
    if (rate_in, rate_out) == (None, None):
        if scope is not None:
            raise FtxError("usage", "there is no rate to set", "ctl limit SCOPE --in RATE --out RATE")
        return _run("limit")
    said = [scope or "daemon", *("" if rate is None else str(rate) for rate in (rate_in, rate_out))]
    return _run("limit", *said)


@ctl.command(short_help="Cancel a job.")
@_JOB
def cancel(job: str) -> int:
    """Cancel JOB, the first digits of its id will do; what has arrived is kept for a later run."""
    return _run("cancel", job)


@ctl.command(short_help="Open a pairing window.")
@click.argument("close", required=False, metavar="[close]")
def pairing(close: str | None) -> int:
    """Open a pairing window on the daemon and show its code, good for two minutes and one attempt; or close it again.

    This returns at once. To see how the attempt ends: ftx-client pair --open, which opens one too.
    """
    return _run("pairing", *([close] if close is not None else []))


@ctl.command("reload", short_help="Read the configuration again.")
def reload_configuration() -> int:
    """Make the daemon read its configuration and peers again; jobs go on."""
    return _run("reload")


@ctl.command(short_help="Stop the daemon when its jobs have ended.")
def drain() -> int:
    """Make the daemon take no new jobs, and stop when the running ones have ended.

    At the latest it stops when its drain timeout is over (30 seconds, unless set otherwise); what is cut then can be
    resumed.
    """
    return _run("drain")


@ctl.command(short_help="Stop the daemon now.")
def shutdown() -> int:
    """Make the daemon stop now; what was running can be resumed."""
    return _run("shutdown")


@click.command(cls=Verb, short_help="See it work, on this machine alone.")
def demo() -> int:
    """Run a daemon, find it, send to it, cut the transfer and resume it, verify, and look inside: all of it real.

    Everything happens on the loopback interface and below a temporary home that is removed afterwards.
    """
    from ftx.client.demo import Demo
    from ftx.client.run import run

    options = current()
    for name in ("home", "discovery_port", "discovery_interface", "retries"):
        if getattr(options, name) not in (None, ()):
            raise FtxError("usage", f"demo takes no --{name.replace('_', '-')}", "it makes a home of its own")
    return run(Demo(options).main, options, what="demo")
