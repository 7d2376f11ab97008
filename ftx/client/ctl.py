"""The verb `ctl`: asking and telling the running daemon, for people and scripts.

`run_ctl()` is all that the command line needs. With `json`, each verb prints the result of its method and `watch`
one event per line; otherwise text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs
import msgspec

from ftx import limits
from ftx.client import control
from ftx.client.ctl_text import (
    event_line,
    job_lines,
    jobs_table,
    limit_lines,
    method_lines,
    offer_line,
    offers_table,
    queue_line,
    queue_table,
    reload_lines,
    status_lines,
)
from ftx.client.reach import commands
from ftx.client.render import json_line
from ftx.errors import FtxError
from ftx.text import duration, show

__all__ = ["VERBS", "Verb", "run_ctl"]

_T = TypeVar("_T")
_JOB_DIGITS: Final = 32
_PARAMS: Final = "for example: ftx-client ctl call jobs.show '{\"job\": \"…\"}'"


@attrs.frozen
class _Session:
    """One run of `ctl`."""

    reactor: Any
    path: str
    json: bool
    out: Callable[[str], None]
    #: Follows the daemon on the whole screen of a terminal, where there is one.
    screen: Callable[[], Awaitable[None]] | None = None

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        return await control.call(self.reactor, self.path, method, params)

    async def all_pages(self, method: str, items: str) -> dict[str, Any]:
        """See `control.all_pages`."""
        return await control.all_pages(self.reactor, self.path, method, items)

    def show(self, result: Any, lines: Sequence[str]) -> None:
        """Print `result` for a program or `lines` for a person."""
        for line in [json_line(result)] if self.json else lines:
            self.out(line)


@attrs.frozen
class Verb:
    """One verb of `ctl`: what may follow it, and what it does."""

    name: str
    usage: str
    help: str
    least: int
    most: int | None
    run: Callable[[_Session, Sequence[str]], Awaitable[None]]


async def run_ctl(
    reactor: Any,
    path: str,
    verb: str,
    args: Sequence[str],
    *,
    json: bool,
    out: Callable[[str], None],
    screen: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """Carry out `ctl VERB ARGS…` with the daemon whose control socket is at `path`; returns the exit code.

    `out` gets each line of the result, clean and without its newline. With a `screen`, `watch` uses that, unless it is
    asked for certain events. Raises `usage` for an unknown verb or the wrong number of arguments, and whatever
    `ftx.client.control.call` raises: printing errors is the caller's.
    """
    found = VERBS.get(verb)
    if found is None:
        raise FtxError("usage", f"ctl has no verb {show(verb)}", f"there are {', '.join(VERBS)}")
    if len(args) < found.least or (found.most is not None and len(args) > found.most):
        raise FtxError("usage", f"ctl {verb} takes other arguments", f"ftx-client ctl {found.usage}")
    await found.run(_Session(reactor, path, json, out, screen), args)
    return 0


def _mapping(result: Any) -> Mapping[str, Any]:
    if not isinstance(result, dict):
        raise FtxError("protocol-error", "the daemon answered with something else than was asked for")
    return result


async def _status(session: _Session, args: Sequence[str]) -> None:
    status = _mapping(await session.call("daemon.status"))
    session.show(status, [*status_lines(status), f"{'control':<10} {show(session.path, limits.PATH)}"])


async def _jobs(session: _Session, args: Sequence[str]) -> None:
    result = await session.all_pages("jobs.list", "jobs")
    session.show(result, jobs_table(result["jobs"]))


async def _watch(session: _Session, args: Sequence[str]) -> None:
    if session.screen is not None and not args and not session.json:
        await session.screen()
        return

    def on_event(event: dict[str, Any]) -> None:
        if event.get("event") == "snapshot":
            offers = event.get("offers") or []
            session.show(event, [*jobs_table(event.get("jobs") or []), *(offers_table(offers) if offers else [])])
        else:
            session.show(event, [event_line(event)])

    await control.subscribe(session.reactor, session.path, args or None, limits.CONTROL_INTERVAL, on_event)


async def _limit(session: _Session, args: Sequence[str]) -> None:
    if not args:
        found = await session.all_pages("limits.get", "limits")
        session.show(found, limit_lines(found["limits"]))
        return
    scope, rates = args[0], [int(rate) if rate else None for rate in args[1:]]
    if scope.startswith("job:"):
        scope = f"job:{await _job_id(session, scope.removeprefix('job:'))}"
    given = {name: rate for name, rate in zip(("rate_in", "rate_out"), rates, strict=False) if rate is not None}
    result = _mapping(await session.call("limits.set", {"scope": scope, **given}))
    session.show(result, limit_lines([result]))


def _job_order(method: str) -> Callable[[_Session, Sequence[str]], Awaitable[None]]:
    """A verb that does something to one job and shows it as it is then."""

    async def run(session: _Session, args: Sequence[str]) -> None:
        job = _mapping(await session.call(method, {"job": await _job_id(session, args[0])}))
        session.show(job, job_lines(job))

    return run


async def _pairing(session: _Session, args: Sequence[str]) -> None:
    if args and args[0] != "close":
        raise FtxError("usage", f"ctl pairing does not know {show(args[0])}", "ftx-client ctl pairing [close]")
    if args:
        closed = _mapping(await session.call("pairing.close"))
        session.show(closed, ["the window is closed" if closed.get("ok") else "there was no window"])
        return
    result = _mapping(await session.call("pairing.open"))
    status = _mapping(await session.call("daemon.status"))
    how = commands(status, "ftx-client pair", "on the other machine")
    good = f"good for {duration(float(result.get('expires_s') or 0))} and one attempt"
    session.show(result, [f"code: {show(str(result.get('code')))}", *how, good])


async def _offers(session: _Session, args: Sequence[str]) -> None:
    result = await session.all_pages("offers.list", "offers")
    session.show(result, offers_table(result["offers"]))


async def _approve(session: _Session, args: Sequence[str]) -> None:
    always = "--always" in args
    rest = [one for one in args if one != "--always"]
    if not rest or len(rest) > 2 or (len(rest) == 2 and not always):
        raise FtxError("usage", "ctl approve takes a job, and with --always a name", "ctl offers shows what waits")
    params: dict[str, Any] = {"job": await _job_id(session, rest[0]), "always": always}
    if len(rest) == 2:
        params["name"] = rest[1]
    offer = _mapping(await session.call("offers.approve", params))
    session.show(offer, [f"approved: {offer_line(offer)}" + ("; its sender is paired now" if always else "")])


async def _deny(session: _Session, args: Sequence[str]) -> None:
    params = {"job": await _job_id(session, args[0]), "reason": " ".join(args[1:])}
    offer = _mapping(await session.call("offers.deny", params))
    session.show(offer, [f"denied: {offer_line(offer)}"])


async def _queue(session: _Session, args: Sequence[str]) -> None:
    if args and (args[0] != "remove" or len(args) != 2):
        raise FtxError("usage", "ctl queue takes nothing, or remove and a job", "ftx-client ctl queue remove JOB")
    if not args:
        result = await session.all_pages("queue.list", "entries")
        session.show(result, queue_table(result["entries"]))
        return
    entry = _mapping(await session.call("queue.remove", {"job": await _job_id(session, args[1])}))
    session.show(entry, [f"taken out: {queue_line(entry)}"])


async def _log_level(session: _Session, args: Sequence[str]) -> None:
    result = _mapping(await session.call("daemon.log_level", {"level": args[0]} if args else {}))
    session.show(result, [f"the log says {show(str(result.get('level')))} and above"])


async def _job_id(session: _Session, written: str) -> str:
    """The whole id of the job that `written` begins."""
    wanted = written.lower()
    if not wanted or len(wanted) > _JOB_DIGITS or not set(wanted) <= set("0123456789abcdef"):
        raise FtxError("usage", f"not the id of a job: {show(written)}", "ftx-client ctl jobs lists them")
    if len(wanted) == _JOB_DIGITS:
        return wanted
    jobs = (await session.all_pages("jobs.list", "jobs"))["jobs"]
    matching = sorted({str(job.get("job")) for job in map(_mapping, jobs) if str(job.get("job")).startswith(wanted)})
    if not matching:
        raise FtxError("no-such-job", f"no job begins with {wanted}")
    if len(matching) > 1:
        raise FtxError("usage", f"{len(matching)} jobs begin with {wanted}", "give more of its digits")
    return matching[0]


async def _call(session: _Session, args: Sequence[str]) -> None:
    if not args:
        known = await session.all_pages("rpc.discover", "methods")
        session.show(known, method_lines(known["methods"]))
        return
    params: Any = None
    if len(args) > 1:
        try:
            params = msgspec.json.decode(args[1])
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise FtxError("usage", f"the parameters are not JSON: {show(str(error))}", _PARAMS) from None
        if not isinstance(params, dict):
            raise FtxError("usage", "the parameters must be a JSON object", _PARAMS)
    result = await session.call(args[0], params)
    session.show(result, msgspec.json.format(json_line(result), indent=2).splitlines())


def _order(method: str, said: str) -> Callable[[_Session, Sequence[str]], Awaitable[None]]:
    """A verb that tells the daemon something and says that it was told."""

    async def run(session: _Session, args: Sequence[str]) -> None:
        session.show(await session.call(method), [said])

    return run


async def _reload(session: _Session, args: Sequence[str]) -> None:
    result = _mapping(await session.call("daemon.reload"))
    session.show(result, reload_lines(result))


#: Every verb there is, by name, in the order of help texts.
VERBS: Final[Mapping[str, Verb]] = {
    verb.name: verb
    for verb in (
        Verb("status", "status", "the daemon at a glance", 0, 0, _status),
        Verb("jobs", "jobs", "running, waiting and lately finished jobs", 0, 0, _jobs),
        Verb("watch", "watch [EVENT…]", "the jobs, live; or what happens, line by line", 0, None, _watch),
        Verb("limit", "limit [SCOPE] [--in RATE] [--out RATE]", "show and set rate limits", 0, 3, _limit),
        Verb("offers", "offers", "what waits for approval", 0, 0, _offers),
        Verb(
            "approve",
            "approve JOB [--always [NAME]]",
            "let an offer in; with --always its sender is paired, as NAME",
            1,
            3,
            _approve,
        ),
        Verb("queue", "queue [remove JOB]", "what waits to be sent; or take one thing out", 0, 2, _queue),
        Verb("log-level", "log-level [LEVEL]", "how much the log says; or change it", 0, 1, _log_level),
        Verb("deny", "deny JOB [REASON…]", "refuse an offer; the reason is for the log", 1, None, _deny),
        Verb("pause", "pause JOB", "let no content of a job travel for now", 1, 1, _job_order("jobs.pause")),
        Verb("resume", "resume JOB", "let a paused job go on", 1, 1, _job_order("jobs.resume")),
        Verb(
            "cancel",
            "cancel JOB",
            "end a job; the first digits of its id will do",
            1,
            1,
            _job_order("jobs.cancel"),
        ),
        Verb("pairing", "pairing [close]", "open a window and show a code; or close it", 0, 1, _pairing),
        Verb(
            "reload",
            "reload",
            "read configuration and peers again",
            0,
            0,
            _reload,
        ),
        Verb(
            "drain",
            "drain",
            "take no new jobs, stop when the running ones have ended or the drain timeout is over",
            0,
            0,
            _order(
                "daemon.drain",
                "the daemon takes no new jobs and stops when the running ones have ended, "
                "at the latest after its drain timeout; what is cut then can be resumed",
            ),
        ),
        Verb(
            "shutdown",
            "shutdown",
            "stop now; what was running can be resumed",
            0,
            0,
            _order("daemon.shutdown", "the daemon is stopping"),
        ),
        Verb("call", "call [METHOD [JSON]]", "call a method by its name; without one, list them", 0, 2, _call),
    )
}
