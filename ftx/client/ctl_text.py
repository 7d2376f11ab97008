"""What the daemon answers, as text for people.

Everything here takes decoded JSON and is lenient: the daemon may be newer than this client, so what is missing or
unknown is left out, never an error. Every string goes through `ftx.text.show()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ftx.client.render import table
from ftx.text import duration, plural, show, size

__all__ = [
    "event_line",
    "job_lines",
    "job_name",
    "jobs_table",
    "limit_lines",
    "method_lines",
    "offer_line",
    "offers_table",
    "queue_line",
    "queue_table",
    "reload_lines",
    "status_lines",
]

#: Hex digits by which jobs are called on the screen.
SHORT_JOB: Final = 8
_STATES: Final = ("active", "waiting", "done", "failed")

_Map = Mapping[str, Any]


def _map(value: Any) -> _Map:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _text(value: Any, limit: int = 200) -> str:
    return show(value if isinstance(value, str) else str(value), limit)


def _count(value: Any) -> int | float:
    return value if isinstance(value, int | float) else 0


def _rate(value: Any) -> str:
    return f"{size(value)}/s" if isinstance(value, int | float) else "-"


def _of(done: Any, total: Any) -> str:
    """`1.2 GiB of 2.0 GiB`, or what is known of it."""
    if not isinstance(total, int | float):
        return size(_count(done))
    return f"{size(_count(done))} of {size(total)}"


def job_name(job: Any) -> str:
    """The short form of a job id."""
    return _text(job)[:SHORT_JOB] if isinstance(job, str) and job else "-"


def _peer(value: Any) -> str:
    peer = _map(value)
    return _text(peer.get("name") or peer.get("address") or (str(peer.get("id") or "")[:7]) or "-")


def _jobs(counts: _Map) -> str:
    """`1 active, 0 waiting, 12 done (2 partial), 0 failed`."""
    partial = int(_count(counts.get("partial")))
    some = f" ({partial:,} partial)" if partial else ""
    return ", ".join(f"{_count(counts.get(state)):,} {state}{some if state == 'done' else ''}" for state in _STATES)


def _address(value: Any) -> str:
    address, port = _text(_map(value).get("address", "")), _text(_map(value).get("port", ""))
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def status_lines(status: _Map) -> list[str]:
    """The daemon at a glance, a line for each thing."""
    jobs, rates, discovery = _map(status.get("jobs")), _map(status.get("limits")), status.get("discovery")
    found = _map(discovery)
    interfaces = ", ".join(_text(name) for name in _list(found.get("interfaces"))) or "no interface"
    whom = ", for paired peers only" if found.get("answers") == "paired" else ""
    whom += ", and by DNS-SD" if found.get("published") is True else ""
    rows = [
        ("name", _text(status.get("name", "-"))),
        ("id", _text(status.get("id", "-"))),
        ("version", f"{_text(status.get('version', '-'))}, process {_text(status.get('pid', '-'))}"),
        ("up", duration(_count(status.get("uptime_s")))),
        ("listening", ", ".join(map(_address, _list(status.get("listening")))) or "nowhere"),
        ("discovery", f"UDP port {_text(found.get('port', '-'))} on {interfaces}{whom}" if discovery else "off"),
        ("inbox", _text(status.get("inbox", "-"), 4096)),
        ("jobs", _jobs(jobs)),
        ("received", size(_count(status.get("bytes_in")))),
        ("sent", size(_count(status.get("bytes_out")))),
        ("peers", f"{_count(status.get('peers_paired')):,} paired"),
    ]
    if status.get("draining"):
        rows.append(("draining", "no new jobs; the daemon stops when the running ones have ended"))
    if status.get("sandbox"):
        rows.append(("sandbox", _text(status.get("sandbox"))))
    metrics = ", ".join(f"http://{_address(one)}/metrics" for one in _list(status.get("metrics")))
    if metrics:
        rows.append(("metrics", metrics))
    shares = _list(status.get("shares"))
    if shares:
        rows.append(("shares", ", ".join(_text(name) for name in shares)))
    for key, label in (("rate_in", "limit in"), ("rate_out", "limit out")):
        if _count(rates.get(key)):
            rows.append((label, _rate(rates.get(key))))
    return [f"{label:<10} {value}".rstrip() for label, value in rows]


def reload_lines(result: _Map) -> list[str]:
    """What was read again, what has changed by it, and what needs a restart."""
    lines = ["configuration and peers were read again"]
    for key, label in (("changed", "changed"), ("needs_restart", "needs a restart"), ("warnings", "warning")):
        found = ", ".join(_text(one) for one in _list(result.get(key)))
        if found:
            lines.append(f"{label}: {found}")
    return lines


#: Which jobs stand first in a table.
_FIRST: Final = {"active": 0, "waiting": 1}


def jobs_table(jobs: Sequence[Any]) -> list[str]:
    """Jobs, a line for each: JOB STATE PEER FILES DONE, and of WAY RATE ENDED PATH WHY those that one of them has.

    First those that run, then those that wait; of each the newest first.
    """
    if not jobs:
        return ["no jobs"]
    maps = sorted((_map(job) for job in jobs), key=lambda job: str(job.get("started") or ""), reverse=True)
    maps.sort(key=lambda job: _FIRST.get(str(job.get("state")), len(_FIRST)))
    columns: list[tuple[str, list[str]]] = [
        ("JOB", [job_name(job.get("job")) for job in maps]),
        ("STATE", [_state(job) for job in maps]),
        ("PEER", [_peer(job.get("peer")) for job in maps]),
        ("FILES", [_files(job) for job in maps]),
        ("DONE", [_come(job) for job in maps]),
    ]
    ways = [_text(job.get("direction") or "-") for job in maps]
    some = [
        # Where all receive, as they do in a daemon that sends nothing, the way says nothing.
        ("WAY", ways if "out" in ways else ["-"] * len(maps)),
        ("RATE", [_rate(job.get("rate")) if job.get("state") == "active" else "-" for job in maps]),
        ("ENDED", [_clock(job.get("ended")) or "-" for job in maps]),
        ("PATH", [_text(job.get("path") or "-") for job in maps]),
        ("WHY", [_error(job) or "-" for job in maps]),
    ]
    columns += [column for column in some if set(column[1]) != {"-"}]
    rows = list(zip(*(cells for _, cells in columns), strict=True))
    return table([head for head, _ in columns], rows)


def offers_table(offers: Sequence[Any]) -> list[str]:
    """Offers that wait, a line for each: JOB FROM ADDRESS FILES SIZE WORDS LEFT."""
    if not offers:
        return ["no offers"]
    rows = []
    for offer in map(_map, offers):
        peer = _map(offer.get("peer"))
        rows.append(
            (
                job_name(offer.get("job")),
                _peer(peer) + (" (not paired)" if offer.get("who") == "unknown" else ""),
                _text(peer.get("address", "-")),
                f"{_count(offer.get('files')):,}",
                size(_count(offer.get("bytes"))),
                _text(offer.get("phrase", "-")),
                duration(_count(offer.get("left_s"))),
            )
        )
    return table(("JOB", "FROM", "ADDRESS", "FILES", "SIZE", "WORDS", "LEFT"), rows)


def offer_line(offer: _Map) -> str:
    """`5d0c12ab of desk, 3 files, 2.1 MiB`."""
    files = plural(int(_count(offer.get("files"))), "file")
    return f"{job_name(offer.get('job'))} of {_peer(offer.get('peer'))}, {files}, {size(_count(offer.get('bytes')))}"


def queue_line(entry: _Map) -> str:
    """`5d0c12ab, /home/me/photos and 2 others, for attic:`."""
    return f"{job_name(entry.get('job'))}, {_sources(entry)}, for {_text(entry.get('target', '-'))}"


def _sources(entry: _Map) -> str:
    sources = [_text(source, 1000) for source in _list(entry.get("sources"))]
    more = int(_count(entry.get("sources_total"))) - 1
    return (sources[0] if sources else "-") + (f" and {plural(more, 'other')}" if more > 0 else "")


def queue_table(entries: Sequence[Any]) -> list[str]:
    """What waits to be sent, a line each: JOB STATE TARGET TRIES NEXT SOURCES, and WHY where an attempt has failed."""
    if not entries:
        return ["nothing waits"]
    maps = [_map(entry) for entry in entries]
    columns = [
        ("JOB", [job_name(entry.get("job")) for entry in maps]),
        ("STATE", ["paused" if entry.get("paused") else _text(entry.get("state", "-")) for entry in maps]),
        ("TARGET", [_text(entry.get("target", "-")) for entry in maps]),
        ("TRIES", [f"{_count(entry.get('attempts')):,}" for entry in maps]),
        ("NEXT", [_soon(entry.get("next_s")) for entry in maps]),
        ("SOURCES", [_sources(entry) for entry in maps]),
        ("WHY", [_error(entry) or "-" for entry in maps]),
    ]
    if set(columns[-1][1]) == {"-"}:
        columns.pop()
    return table([head for head, _ in columns], list(zip(*(cells for _, cells in columns), strict=True)))


def _soon(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return "-"
    return f"in {duration(seconds)}" if seconds > 0 else "now"


def _come(job: _Map) -> str:
    """How far it is: `1.2 GiB of 2.0 GiB`, and what will not come."""
    if job.get("dry_run"):
        return "-"
    skipped = int(_count(job.get("files_skipped")))
    total = None if skipped and job.get("state") == "done" else job.get("bytes_total")
    return _of(job.get("bytes_confirmed"), total) + (f", {skipped:,} skipped" if skipped else "")


def _state(job: _Map) -> str:
    """`done`, or `partial` where files failed: what is done may lack some; `paused` where nothing is to travel."""
    state = _text(job.get("state", "-"))
    if job.get("dry_run"):
        return "dry run" if state in ("done", "active") else state
    if job.get("paused"):
        return "paused"
    return "partial" if state == "done" and _count(job.get("files_failed")) else state


def _clock(time: Any) -> str:
    """The time of day (UTC) in a time of ISO 8601."""
    return _text(time)[11:19] if isinstance(time, str) else ""


def _files(job: _Map) -> str:
    files = job.get("files")
    return f"{files:,}" if isinstance(files, int) else "-"


def limit_lines(limits: Sequence[Any]) -> list[str]:
    """Rate limits: a line for each scope."""
    rows = []
    for one in map(_map, limits):
        rates = [_rate(one.get(key)) if _count(one.get(key)) else "no limit" for key in ("rate_in", "rate_out")]
        rows.append((_text(one.get("scope", "-")), *rates))
    return table(("SCOPE", "IN", "OUT"), rows)


def method_lines(methods: Sequence[Any]) -> list[str]:
    """The methods of the control socket: a line for each, with what it is for."""
    rows = [(_text(method.get("name", "-")), _text(method.get("description") or "-")) for method in map(_map, methods)]
    return table(("METHOD", "WHAT IT DOES"), rows)


def job_lines(job: _Map) -> list[str]:
    """One job, a line for each thing."""
    rows = [
        ("job", _text(job.get("job", "-"))),
        ("state", _state(job)),
        ("peer", _peer(job.get("peer"))),
        ("way", _text(job.get("direction", "-"))),
        ("files", _files(job)),
        ("verified", _come(job)),
        ("durable", size(_count(job.get("bytes_durable")))),
        ("path", _text(job.get("path") or "-", 4096)),
    ]
    if job.get("paused"):
        who = {"here": "here", "peer": "by the peer", "both": "here and by the peer"}
        rows.append(("paused", who.get(str(job["paused"]), _text(job["paused"]))))
    if job.get("state") == "failed":
        stored = int(_count(job.get("files_stored")))
        rows.append(("published", plural(stored, "file") if stored else "nothing"))
    failed = int(_count(job.get("files_failed")))
    rows += [(key, _text(job[key])) for key in ("started", "ended") if job.get(key)]
    rows += [("failed", plural(failed, "file"))] if failed else []
    error = _error(job)
    if error:
        rows.append(("error", error))
    return [f"{label:<10} {value}" for label, value in rows]


def _error(holder: _Map) -> str:
    error = _map(holder.get("error"))
    return _text(error.get("message") or error.get("name") or "", 500)


def event_line(event: _Map) -> str:
    """One event as a line: time (UTC), job, peer, what happened."""
    name = event.get("event")
    clock = _clock(event.get("time"))
    say = _SENTENCES.get(name) if isinstance(name, str) else None
    said = say(event) if say is not None else ""
    words = [clock, job_name(event.get("job")), _peer(event.get("peer")), _text(name), said]
    return "  ".join(word for word in words if word)


def _offer(event: _Map) -> str:
    files, count = event.get("files"), event.get("bytes")
    known = [plural(files, "file")] if isinstance(files, int) else []
    if isinstance(count, int):
        known.append(size(count))
    return ", ".join(known)


def _waits(event: _Map) -> str:
    """`3 files, 2.1 MiB, 120 s left, words acorn maple zinc: ftx-client ctl approve 5d0c12ab`."""
    left = f", {duration(_count(event.get('deadline_s')))} left" if event.get("deadline_s") is not None else ""
    words = f", words {_text(event['phrase'])}" if event.get("phrase") else ""
    return f"{_offer(event)}{left}{words}: ftx-client ctl approve {job_name(event.get('job'))}"


def _progress(event: _Map) -> str:
    parts = [_text(event.get("stage", "")), _of(event.get("bytes_confirmed"), event.get("bytes_total"))]
    if event.get("rate") is not None:
        parts.append(_rate(event.get("rate")))
    if isinstance(event.get("eta_s"), int | float):
        parts.append(f"{duration(event['eta_s'])} left")
    return ", ".join(part for part in parts if part)


def _file(event: _Map) -> str:
    path, stored = event.get("path", ""), event.get("stored_as")
    said = f"{_text(event.get('status', ''))} {_text(path, 1000)}"
    if stored and stored != path:
        said += f" as {_text(stored, 1000)}"
    error = _error(event)
    return f"{said}: {error}" if error else said


def _done(event: _Map) -> str:
    parts = [
        plural(int(_count(event.get("files"))), "file"),
        size(_count(event.get("bytes"))),
        duration(_count(event.get("seconds"))),
    ]
    failed = int(_count(event.get("files_failed")))
    return ", ".join([*parts, f"{failed:,} failed"] if failed else parts)


def _retry(event: _Map) -> str:
    return f"attempt {_text(event.get('attempt', ''))} in {duration(_count(event.get('delay_s')))}: {_error(event)}"


def _snapshot(event: _Map) -> str:
    return plural(len(_list(event.get("jobs"))), "job")


def _pairing(event: _Map) -> str:
    state, error = _text(event.get("state", "")), _error(event)
    if state == "opened" and isinstance(event.get("expires_s"), int | float):
        return f"opened for {duration(event['expires_s'])}"
    return f"{state}: {error}" if error else state


_SENTENCES: Final[Mapping[str, Callable[[_Map], str]]] = {
    "offered": _offer,
    "waiting": _waits,
    "accepted": _offer,
    "refused": _error,
    "progress": _progress,
    "file": _file,
    "retry": _retry,
    "done": _done,
    "failed": _error,
    "snapshot": _snapshot,
    "pairing": _pairing,
}
