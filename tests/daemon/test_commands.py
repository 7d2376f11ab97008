"""The methods: the table, what each takes and gives, pages that fit in a line, and the schemas."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
import msgspec
import pytest
from support.control_daemon import SmallDaemon, job, job_id
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from ftx import limits
from ftx.core.identity import format_id
from ftx.daemon.commands import ALIASES, METHODS, Commands
from ftx.daemon.view import PeerRecord
from ftx.errors import FtxError
from ftx.net.local import Caller
from ftx.wire.jsonlines import Request, encode_result

ID = format_id(bytes(range(32)))


@attrs.define(eq=False)
class Asker:
    """A client without a connection."""

    caller: Caller = attrs.field(factory=lambda: Caller(0, 1))
    events: list[Any] = attrs.field(factory=list)
    end: Callable[[], None] | None = None

    def stream(self, start: Callable[[Callable[[bytes, bool], None]], Callable[[], None]]) -> None:
        self.end = start(lambda message, droppable: self.events.append((json.loads(message), droppable)))


def now(coroutine: Coroutine[Any, Any, bytes]) -> Any:
    """What `coroutine`, which waits for nothing, returns or raises."""
    outcome: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
    (result,) = outcome
    if not isinstance(result, bytes):
        result.raiseException()
    return json.loads(result)


def ask(daemon: SmallDaemon, method: str, client: Asker | None = None, **params: Any) -> Any:
    request = Request(method, msgspec.json.encode(params), 1)
    return now(Commands(daemon).answer(request, client or Asker()))


def refusal(daemon: SmallDaemon, method: str, **params: Any) -> FtxError:
    with pytest.raises(FtxError) as caught:
        ask(daemon, method, **params)
    return caught.value


@pytest.fixture
def daemon() -> SmallDaemon:
    return SmallDaemon(Clock())


def test_status_has_exactly_the_fields_that_are_promised(daemon: SmallDaemon) -> None:
    promised = (
        "version name id pid uptime_s listening discovery inbox shares jobs bytes_in bytes_out limits peers_paired "
        "draining sandbox metrics"
    )
    assert list(ask(daemon, "daemon.status")) == promised.split()


def test_jobs(daemon: SmallDaemon) -> None:
    daemon.all_jobs = {job_id(1): job(1), job_id(2): job(2, "done")}
    assert [one["job"] for one in ask(daemon, "jobs.list")["jobs"]] == [job_id(1), job_id(2)]
    assert [one["job"] for one in ask(daemon, "jobs.list", state="done")["jobs"]] == [job_id(2)]
    assert ask(daemon, "jobs.show", job=job_id(2))["state"] == "done"
    assert refusal(daemon, "jobs.show", job=job_id(3)).name == "no-such-job"
    assert ask(daemon, "jobs.cancel", job=job_id(1))["error"]["name"] == "cancelled"


@pytest.mark.parametrize("path", ["p", "x" * 4000, "\x01" * 4096])
def test_pages_hold_everything_once_and_fit_in_a_line(daemon: SmallDaemon, path: str) -> None:
    daemon.all_jobs = {job_id(number): job(number, path=path) for number in range(300)}
    found: list[str] = []
    cursor = None
    while True:
        result = ask(daemon, "jobs.list", cursor=cursor)
        assert len(encode_result("\x01" * limits.CONTROL_ID, msgspec.json.encode(result))) <= limits.CONTROL_LINE
        found += [one["job"] for one in result["jobs"]]
        cursor = result["cursor"]
        if cursor is None:
            break
    assert found == list(daemon.all_jobs)


def test_pages_end_also_where_one_id_is_there_several_times(daemon: SmallDaemon) -> None:
    """A job that was tried again keeps its id, and a peer chooses the ids of its jobs."""
    daemon.all_jobs = {str(number): job(number // 40, path=f"{number:05}" + "x" * 4000) for number in range(100)}
    found: list[str] = []
    result: dict[str, Any] = {"cursor": None}
    for _ in range(100):
        result = ask(daemon, "jobs.list", cursor=result["cursor"])
        found += [one["path"][:5] for one in result["jobs"]]
        if result["cursor"] is None:
            break
    assert found == [f"{number:05}" for number in range(100)]


def test_a_cursor_of_what_is_gone(daemon: SmallDaemon) -> None:
    assert refusal(daemon, "jobs.list", cursor=job_id(9)).name == "bad-parameters"


def test_peers(daemon: SmallDaemon) -> None:
    added = ask(daemon, "peers.add", name="pi", id=ID.upper(), addresses=["192.0.2.7"])
    assert (added["name"], added["id"], added["addresses"]) == ("pi", ID, ["192.0.2.7"])
    assert ask(daemon, "peers.list") == {"peers": [added], "cursor": None}
    assert refusal(daemon, "peers.add", name="pi", id=ID).name == "name-taken"
    assert refusal(daemon, "peers.add", name="desk", id="nonsense").name == "bad-identity"
    assert ask(daemon, "peers.remove", name="pi") == added
    assert refusal(daemon, "peers.remove", name="pi").name == "no-such-peer"


def test_many_peers_come_in_pages(daemon: SmallDaemon) -> None:
    for number in range(400):
        name = f"peer {number:03}"
        daemon.known[name] = PeerRecord(name=name, id=ID, addresses=["2001:db8::1"] * 4, added="2026-01-01T00:00:00Z")
    first = ask(daemon, "peers.list")
    second = ask(daemon, "peers.list", cursor=first["cursor"])
    assert [peer["name"] for peer in first["peers"] + second["peers"]] == sorted(daemon.known)


@pytest.mark.parametrize("order", ["reload", "drain", "shutdown"])
def test_orders(daemon: SmallDaemon, order: str) -> None:
    more = {"changed": ["name"], "needs_restart": [], "warnings": []} if order == "reload" else {}
    assert ask(daemon, f"daemon.{order}") == {"ok": True, **more}
    assert daemon.orders == [order]


def test_metrics_are_prometheus_text(daemon: SmallDaemon) -> None:
    result = ask(daemon, "metrics.get")
    assert result["content_type"].startswith("text/plain; version=0.0.4")
    assert result["text"] == (
        "# HELP ftx_received_bytes_total Content bytes received.\n"
        "# TYPE ftx_received_bytes_total counter\n"
        "ftx_received_bytes_total 2048\n"
        "# HELP ftx_jobs Jobs by state.\n"
        "# TYPE ftx_jobs gauge\n"
        'ftx_jobs{state="active"} 0\n'
        'ftx_jobs{state="done"} 0\n'
    )


def test_subscribe(daemon: SmallDaemon) -> None:
    client = Asker()
    assert ask(daemon, "events.subscribe", client, types=["done"], interval=2.5) == {"ok": True}
    assert [(event["event"], droppable) for event, droppable in client.events] == [("snapshot", False)]
    assert client.end is not None
    client.end()
    assert daemon.stream.subscribers == 0


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("jobs.show", {}),
        ("jobs.show", {"job": "12"}),
        ("jobs.show", {"job": job_id(1).replace("0", "A")}),
        ("jobs.show", {"job": job_id(1), "jbo": 1}),
        ("jobs.list", {"state": "running"}),
        ("daemon.status", {"verbose": True}),
        ("peers.add", {"name": "pi", "id": ID, "addresses": "192.0.2.7"}),
        ("events.subscribe", {"interval": "1"}),
    ],
)
def test_wrong_parameters_are_named(daemon: SmallDaemon, method: str, params: dict[str, Any]) -> None:
    error = refusal(daemon, method, **params)
    assert error.name == "bad-parameters"
    assert error.message.startswith(f"{method}: ")


def test_an_unknown_method_is_cleaned_for_display(daemon: SmallDaemon) -> None:
    error = refusal(daemon, "\x1b[2J" + "x" * 1000)
    assert error.name == "unknown-method"
    assert error.message.isprintable()
    assert len(error.message) < 120


def test_every_alias_is_a_method() -> None:
    assert set(ALIASES.values()) <= set(METHODS)
    assert not set(ALIASES) & set(METHODS)


def test_the_methods_describe_themselves(daemon: SmallDaemon) -> None:
    described: list[Any] = []
    cursor = None
    while True:
        result = ask(daemon, "methods", cursor=cursor)
        assert len(encode_result("\x01" * limits.CONTROL_ID, msgspec.json.encode(result))) <= limits.CONTROL_LINE
        described += result["methods"]
        cursor = result["cursor"]
        if cursor is None:
            break
    assert [one["name"] for one in described] == sorted(METHODS)
    for one in described:
        assert one["description"].endswith(".")
        assert one["params"]["$defs"]
        assert one["result"]["$defs"]
    mutating = {one["name"] for one in described if one["mutating"]}
    assert mutating == {
        "daemon.reload",
        "daemon.drain",
        "daemon.log_level",
        "daemon.shutdown",
        "offers.approve",
        "offers.deny",
        "jobs.cancel",
        "jobs.pause",
        "jobs.resume",
        "limits.set",
        "pairing.close",
        "pairing.open",
        "peers.add",
        "peers.remove",
        "queue.add",
        "queue.remove",
    }


def test_limits(daemon: SmallDaemon) -> None:
    assert ask(daemon, "limits.set", rate_in=5000) == {"scope": "daemon", "rate_in": 5000, "rate_out": 0}
    assert ask(daemon, "limits.set", scope="peer:pi", rate_out=1000)["rate_out"] == 1000
    assert ask(daemon, "limits.get")["limits"][0] == {"scope": "daemon", "rate_in": 5000, "rate_out": 1000}
    for wrong in ({"scope": "x"}, {"scope": "job:1"}, {"rate_in": -1}, {"rate_in": 999}, {"rate_in": 1.5}):
        assert refusal(daemon, "limits.set", **wrong).name == "bad-parameters"


def test_a_window_is_neither_short_nor_long(daemon: SmallDaemon) -> None:
    """Nobody gets to the other machine in a second, and nobody means a window for ever."""
    for seconds in (limits.PAIRING_WINDOW_LEAST - 0.1, limits.PAIRING_WINDOW_MOST + 0.1, 0, -1):
        assert refusal(daemon, "pairing.open", seconds=seconds).name == "bad-parameters"


def test_the_queue(daemon: SmallDaemon) -> None:
    """What is wished becomes words that cannot be taken for other options."""
    wishes = {"into": "-x", "port": 7000, "conflict": "skip", "exclude": ["*.o"], "links": "keep", "checksum": True}
    added = ask(daemon, "queue.add", target="pi:", sources=["/a"], sources_b64=["L2L/"], limit=5000, **wishes)
    assert (added["target"], added["sources_total"]) == ("pi:", 2)
    words = "--into=-x --port=7000 --conflict=skip --links=keep --limit=5000 --exclude=*.o --checksum"
    assert daemon.orders == [words]
    assert [entry["job"] for entry in ask(daemon, "queue.list")["entries"]] == [added["job"]]
    assert ask(daemon, "queue.remove", job=added["job"]) == added
    assert refusal(daemon, "queue.remove", job=added["job"]).name == "no-such-job"


@pytest.mark.parametrize(
    "params",
    [
        {"sources": ["/a"]},
        {"target": "", "sources": ["/a"]},
        {"target": "pi:", "sources": []},
        {"target": "pi:", "sources": ["a"]},
        {"target": "pi:", "sources": [""]},
        {"target": "pi:", "sources": ["/a\0b"]},
        {"target": "pi\0:", "sources": ["/a"]},
        {"target": "pi:", "sources": ["/" + "a" * limits.PATH]},
        {"target": "pi:", "sources_b64": ["?"]},
        {"target": "pi:", "sources": ["/a"] * (limits.QUEUE_SOURCES + 1)},
        {"target": "pi:", "sources": ["/a"] * limits.QUEUE_SOURCES, "sources_b64": ["L2L/"]},
        {"target": "pi:", "sources": ["/a"], "into": "a\0b"},
        {"target": "pi:", "sources": ["/a"], "conflict": "whatever"},
        {"target": "pi:", "sources": ["/a"], "port": 0},
    ],
)
def test_what_cannot_be_queued(daemon: SmallDaemon, params: dict[str, Any]) -> None:
    assert refusal(daemon, "queue.add", **params).name == "bad-parameters"
    assert daemon.queued == {}


def test_how_much_the_log_says(daemon: SmallDaemon) -> None:
    assert ask(daemon, "daemon.log_level") == {"level": "info"}
    assert ask(daemon, "daemon.log_level", level="debug") == {"level": "debug"}
    assert refusal(daemon, "daemon.log_level", level="loud").name == "bad-parameters"
