"""A receiver inside another application: it receives, and leaves the application what is the application's."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any

import pytest
from support.bounded import bounded, until
from twisted.application.service import MultiService
from twisted.logger import LogEvent

from ftx.client.api import Settings, send
from ftx.client.control import call
from ftx.daemon.embed import Receiver, receiver
from ftx.disk.places import places
from ftx.errors import FtxError, StartupError
from ftx.wire.events import Done, Event, FileEvent, Snapshot

LOCAL = ["tcp:0:interface=127.0.0.1"]


async def send_note(reactor: Any, folder: Path, url: str) -> Done:
    """Send the file `note`, with the identity of the receiver; the job must end well."""
    (folder / "note").write_bytes(b"hello")
    settings = Settings(places(str(folder / "home"), {}, 0, "/"))
    last = await send(reactor, settings, [str(folder / "note")], url, on_event=lambda _: None)
    assert isinstance(last, Done)
    assert last.exit == 0
    return last


async def started(application: MultiService, made: Receiver) -> str:
    """Start it as part of the application; its URL."""
    made.setServiceParent(application)
    application.startService()
    host, port = made.addresses[0]
    return f"ftx://{host}:{port}"


@bounded(30)
async def test_it_receives_and_says_so(reactor: Any, short_tmp: Path) -> None:
    """Files sent with the public interface arrive in the chosen inbox, with events on the way."""
    heard: list[Event] = []
    application = MultiService()
    (short_tmp / "in").mkdir(mode=0o700)
    made = receiver(
        reactor,
        str(short_tmp / "home"),
        inbox=str(short_tmp / "in"),
        listen=LOCAL,
        discovery=False,
        control=False,
        on_event=heard.append,
    )
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    url = await started(application, made)
    try:
        assert (made.control, made.inbox) == (None, str(short_tmp / "in"))
        last = await send_note(reactor, short_tmp, url)
        assert last.peer is not None
        assert last.peer.id == made.id
        assert (short_tmp / "in" / "note").read_bytes() == b"hello"
        assert isinstance(heard[0], Snapshot)
        await until(lambda: isinstance(heard[-1], Done))
        assert [event.status for event in heard if isinstance(event, FileEvent)] == ["stored"]
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == handlers
    finally:
        await application.stopService()


@bounded(30)
async def test_shutdown_stops_the_receiver_alone(reactor: Any, short_tmp: Path) -> None:
    """What the control socket can stop is the receiver: the application and its reactor go on."""
    application = MultiService()
    made = receiver(reactor, str(short_tmp / "home"), listen=LOCAL, discovery=False)
    await started(application, made)
    path = made.control
    assert path is not None
    await call(reactor, path, "daemon.shutdown")
    await until(lambda: not list(made))
    await until(lambda: not Path(path).exists())
    assert reactor.running
    assert application.running
    again: list[Receiver] = []

    def free() -> bool:
        """The lock of the home goes last, after the control socket has said goodbye to its clients."""
        with contextlib.suppress(StartupError):
            again.append(receiver(reactor, str(short_tmp / "home"), listen=LOCAL, discovery=False))
        return bool(again)

    await until(free)
    [second] = again
    second.setServiceParent(application)
    assert (await call(reactor, path, "daemon.status"))["id"] == second.id == made.id
    await application.stopService()


@pytest.mark.case("G120")
@bounded(30)
async def test_a_callback_that_raises(reactor: Any, short_tmp: Path, logged_errors: list[LogEvent]) -> None:
    """The application's mistake is logged, and the file arrives all the same."""

    def fail(event: Event) -> None:
        raise ZeroDivisionError

    application = MultiService()
    made = receiver(reactor, str(short_tmp / "home"), listen=LOCAL, discovery=False, control=False, on_event=fail)
    url = await started(application, made)
    try:
        await send_note(reactor, short_tmp, url)
    finally:
        await application.stopService()  # the job's own end is told of after its sender has the receipt
    assert {event["log_failure"].type for event in logged_errors} == {ZeroDivisionError}
    logged_errors.clear()


@bounded(30)
async def test_what_cannot_be_had(reactor: Any, short_tmp: Path) -> None:
    """A second receiver in one home, a wrong setting, a subscription before the start: sentences."""
    home = str(short_tmp / "home")
    made = receiver(reactor, home, listen=LOCAL, discovery=False, control=False)
    with pytest.raises(FtxError, match="has not been started"):
        made.subscribe(lambda event: None)
    with pytest.raises(FtxError) as raised:
        receiver(reactor, home, listen=LOCAL)
    assert raised.value.name == "already-running"
    with pytest.raises(FtxError) as raised:
        receiver(reactor, home, listen=["udp:1"])
    assert raised.value.name == "config-invalid"
    application = MultiService()
    await started(application, made)
    await application.stopService()


@bounded(30)
async def test_files_that_nobody_asks_about_have_no_event(reactor: Any, short_tmp: Path) -> None:
    """Without `every_file` only what is remarkable is told: here, that a name was taken by other content."""
    application = MultiService()
    (short_tmp / "in").mkdir(mode=0o700)
    (short_tmp / "tree").mkdir()
    for name in ("a", "b"):
        (short_tmp / "tree" / name).write_bytes(name.encode())
    made = receiver(
        reactor, str(short_tmp / "home"), inbox=str(short_tmp / "in"), listen=LOCAL, discovery=False, conflict="rename"
    )
    url = await started(application, made)
    settings = Settings(places(str(short_tmp / "home"), {}, 0, "/"))

    async def told(*, every_file: bool, into: str = "") -> list[tuple[str, str, str | None]]:
        heard: list[Event] = []
        tree = str(short_tmp / "tree")
        await send(reactor, settings, [tree], url, into=into, every_file=every_file, on_event=heard.append)
        return [(one.status, one.path, one.stored_as) for one in heard if isinstance(one, FileEvent)]

    try:
        everything = [("stored", "tree/a", "tree/a"), ("stored", "tree/b", "tree/b")]
        assert sorted(await told(every_file=True)) == everything
        assert await told(every_file=False) == []
        assert await told(every_file=False, into="below") == []
        (short_tmp / "tree" / "b").write_bytes(b"another")
        assert await told(every_file=False) == [("stored", "tree/b", "tree/b (1)")]
        assert await told(every_file=False, into="below") == [("stored", "tree/b", "below/tree/b (1)")]
    finally:
        await application.stopService()
