"""What every test can use, and what every test is held to.

Fixtures:

`reactor`
    The one reactor of the run. Never import it at module level: that would install one before `--reactor` is
    honoured. No test may stop it.
`no_leaks` (autouse)
    Fails a test that leaves something behind: a failure in the log, a Deferred nobody handled, a delayed
    call, a socket in the reactor, a thread. What is on its way out has `GRACE` seconds to go.
`logged_errors`
    The failures logged so far, as log events. A test that expects some looks at them and calls `.clear()`.
`short_tmp`
    A folder with a short name, for Unix sockets, whose paths end at 107 bytes.

Helpers that are no fixtures live in `tests/support/` and are imported as `from support.NAME import …`: this
folder is on the path (`pythonpath` in pyproject.toml), so `support` is a namespace package. Async tests carry
`@pytest_twisted.ensureDeferred`, or `@bounded(seconds)` from `support.bounded` when they could hang.

Environment: every `FTX_…` and `XDG_…` variable is removed, `FTX_DISCOVERY_INTERFACE` is `lo` and HOME is a
temporary folder, for this process and all it starts: a test that forgets to name a home finds nobody's files.
Bytecode is kept even where PYTHONDONTWRITEBYTECODE is set, as images of containers do: the tests start a thousand
processes, each of which would compile all of ftx again, and each worker would rewrite every test.

Properties: hypothesis gives no example a deadline and does not mind that examples are slow to draw. How long that
takes says how busy the machine is, with four workers on it, not whether a property holds.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import HealthCheck, settings
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher

#: Seconds that closing sockets, threads and cancelled calls have to be gone after a test. Who leaves nothing behind
#: does not wait for them; who does is given as much as a machine needs that has much else to do.
GRACE = 10.0

_sandbox: str | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Make the environment of the tests, before anything of ftx is imported."""
    global _sandbox
    for key in [key for key in os.environ if key.startswith(("FTX_", "XDG_"))]:
        del os.environ[key]
    os.environ["FTX_DISCOVERY_INTERFACE"] = "lo"
    os.environ["FTX_MDNS"] = "no"  # a thread and an import for every daemon; whoever is about it says yes
    os.environ.pop("NO_COLOR", None)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    settings.register_profile("ftx", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("ftx")
    _sandbox = tempfile.mkdtemp(prefix="ftx-tests-")
    os.environ["HOME"] = _sandbox


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the sandbox."""
    if _sandbox is not None:
        shutil.rmtree(_sandbox, ignore_errors=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take what is imported by now out of the garbage collector's sight: every test ends with a collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def reactor() -> Any:
    """The reactor that pytest-twisted runs."""
    from twisted.internet import reactor

    return reactor


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A fresh folder `/tmp/ftx-XXXXXXXX`, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ftx-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def logged_errors() -> Iterator[list[LogEvent]]:
    """Every log event with a failure since the test began; those that are left fail the test."""
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            events.append(event)
        elif "failure" in event:  # by twisted.python.log.err, which the reactor itself uses
            events.append({**event, "log_failure": event["failure"]})

    globalLogPublisher.addObserver(observe)
    yield events
    gc.collect()  # an unhandled failure of a Deferred is logged when the Deferred is collected
    gc.freeze()  # who has survived this long need not be looked at after every test to come
    globalLogPublisher.removeObserver(observe)
    if events:
        texts = [event["log_failure"].getTraceback() for event in events]
        pytest.fail("failures were logged:\n" + "\n".join(texts), pytrace=False)


def _selectables(reactor: Any) -> set[Any]:
    own = set(reactor._internalReaders)
    return {item for item in [*reactor.getReaders(), *reactor.getWriters()] if item not in own}


def _threads(reactor: Any) -> set[threading.Thread]:
    pool = reactor.threadpool  # the resolver's; the reactor stops it when it stops
    own = set(pool.threads) if pool is not None else set()
    return {thread for thread in threading.enumerate() if thread not in own}


def _wait_until(done: Callable[[], bool], reactor: Any) -> None:
    """Run the reactor until `done()` or until the grace is over."""
    deadline = reactor.seconds() + GRACE
    while not done() and reactor.seconds() < deadline:
        pytest_twisted.blockon(deferLater(reactor, 0.01))


@pytest.fixture(autouse=True)
def no_leaks(logged_errors: list[LogEvent]) -> Iterator[None]:
    """Fail a test that leaves delayed calls, sockets or threads behind."""
    from twisted.internet import reactor as any_reactor

    reactor: Any = any_reactor
    calls = set(reactor.getDelayedCalls())
    sockets = _selectables(reactor)
    threads = _threads(reactor)
    yield

    def left() -> list[Any]:
        return [
            *(call for call in reactor.getDelayedCalls() if call not in calls),
            *(_selectables(reactor) - sockets),
            *(_threads(reactor) - threads),
        ]

    _wait_until(lambda: not left(), reactor)
    leaked = left()
    if not leaked:
        return
    names = [str(item) for item in leaked]
    for call in reactor.getDelayedCalls():  # the next test is not to suffer from this one
        if call not in calls:
            call.cancel()
    for item in _selectables(reactor) - sockets:
        reactor.removeReader(item)
        reactor.removeWriter(item)
    pytest.fail("left behind:\n  " + "\n  ".join(names), pytrace=False)
