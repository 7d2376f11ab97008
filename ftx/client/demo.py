"""`demo`: what ftx promises, shown on this machine with the real programs, and checked while it is shown.

A daemon and a client run as processes of their own in a temporary home. The daemon is killed in the middle of a
large file, started again, and sent the same folder again; then both folders are compared. Each claim that is printed
is a check on figures the programs gave or on the files themselves; the exit code is 0 only if all of them held.
"""

from __future__ import annotations

import os
import shutil
import signal
import textwrap
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from ftx import limits
from ftx.client.api import discover
from ftx.client.child import Ended
from ftx.client.ctl_text import jobs_table, status_lines
from ftx.client.render import done_line
from ftx.client.sample import Comparison, Sample, compare, make_sample, present
from ftx.client.stage import ADDRESS, INTERFACE, NAME, Client, Stage
from ftx.errors import KINDS, FtxError
from ftx.net.worker import Worker
from ftx.text import duration, plural, show, size
from ftx.wire.events import Discovered, Event, Progress, iso_time

if TYPE_CHECKING:
    from ftx.client.options import Options
    from ftx.client.run import Stop

__all__ = ["Demo"]

_INDENT: Final = "   "
#: Columns of text: lines that go across a wide screen are hard to read.
_COLUMNS: Final = 96
#: What the status of the daemon is shortened to.
_STATUS: Final = ("version", "up", "listening", "discovery", "jobs", "received")

_Figures = dict[str, Any]


@attrs.define(eq=False)
class Demo:
    """The whole of it; `main` is what `ftx.client.run.run` wants."""

    options: Options
    _reactor: Any = attrs.field(default=None, init=False)
    _worker: Any = attrs.field(default=None, init=False)
    _stage: Any = attrs.field(default=None, init=False)
    _sample: Any = attrs.field(default=None, init=False)
    #: Bytes of content that the receiver had called durable when it was killed.
    _durable: int = attrs.field(default=0, init=False)
    #: Bytes of content that had left the sender by then.
    _sent: int = attrs.field(default=0, init=False)
    _checks: int = attrs.field(default=0, init=False)
    _problems: list[str] = attrs.field(factory=list, init=False)

    async def main(self, reactor: Any, stop: Stop) -> int:
        """Show everything; returns the exit code. FtxError when it cannot even begin."""
        began = reactor.seconds()
        self._reactor = reactor
        self._worker = worker = Worker(reactor, limits.WORKER_THREADS)
        worker.start()
        try:
            self._stage = await Stage.open(reactor, worker)
            code, keep = KINDS["internal"].exit_code, True
            try:
                code = await self._steps()
                keep = code != 0
            except CancelledError:
                keep = False  # interrupted: nobody will look at what is left
                code = code if stop.error is None else stop.error.exit_code
                raise
            finally:
                await self._stage.close(keep=keep)
                self._conclude(code, reactor.seconds() - began, keep)
        finally:
            await worker.stop()
        return code

    async def _steps(self) -> int:
        steps: tuple[tuple[str, str, Callable[[], Awaitable[_Figures]]], ...] = (
            ("make", "Something to send", self._make),
            ("daemon", "A daemon that receives", self._daemon),
            ("discover", "Discovery", self._discover),
            ("cut", "Send it, and kill the daemon in the middle", self._cut),
            ("resume", "Start the daemon, and the same command, again", self._resume),
            ("compare", "Compare the two folders", self._compare),
            ("again", "The same command once more", self._again),
            ("control", "Ask the daemon what happened", self._control),
            ("stop", "Stop the daemon", self._stop),
        )
        self._say(f"Real programs, on this machine alone, in {show(self._stage.base)}.", indent="")
        for number, (name, title, step) in enumerate(steps, 1):
            self.output.result("")
            self.output.result(f"{number}. {title}", "title")
            began, before, figures = self._reactor.seconds(), len(self._problems), {}
            code = 0
            try:
                figures = await step()
            except FtxError as error:  # the next step would stand on nothing
                self._check(False, error.message)
                code = error.exit_code
            self.output.close_view()
            problems = self._problems[before:]
            self.output.record(
                {"v": 1, "event": "step", "time": iso_time(), "step": name, "ok": not problems, "problems": problems}
                | {"seconds": round(self._reactor.seconds() - began, 3)}
                | figures
            )
            if code:
                return code
        return KINDS["internal"].exit_code if self._problems else 0

    # -- the steps -----------------------------------------------------------------------------------------

    async def _make(self) -> _Figures:
        self._sample = sample = await self._worker.run(make_sample, os.fsencode(self._stage.base))
        small = size(sample.bytes - sample.video_size)
        self._say(
            f"holiday/ has {plural(sample.files, 'file')} in {plural(sample.folders, 'folder')}: a video of "
            f"{size(sample.video_size)}, and {small} of small ones, among them an empty file, an empty folder, "
            f"and {sample.odd} names that break programs, such as -rf, one of {limits.NAME} bytes, and one that is not "
            f"UTF-8."
        )
        return {"files": sample.files, "folders": sample.folders, "bytes": sample.bytes}

    async def _daemon(self) -> _Figures:
        self._command(f"ftx-server --listen tcp:0:interface={ADDRESS} --name {NAME}")
        began = self._reactor.seconds()
        status = await self._stage.start_daemon()
        port = status["listening"][0]["port"]
        took = duration(self._reactor.seconds() - began)
        self._say(f"Ready after {took}: process {status['pid']}, TCP port {port}. It made itself a key, and an inbox.")
        return {"pid": status["pid"], "port": port, "id": status["id"]}

    async def _discover(self) -> _Figures:
        self._command("ftx-client discover")
        status = await self._stage.ask("daemon.status")
        answers: list[tuple[float, Discovered]] = []
        began = self._reactor.seconds()

        def heard(event: Event) -> None:
            if isinstance(event, Discovered):
                answers.append((self._reactor.seconds() - began, event))

        await discover(self._reactor, self._stage.settings, on_event=heard)
        mine = [(after, event) for after, event in answers if event.id == status["id"]]
        self._check(bool(mine), f"nobody answered the question on {INTERFACE}, UDP port {self._stage.port}")
        if not mine:
            raise FtxError("none-found")
        after, event = mine[0]
        self._check(event.verified, "the answer's signature is not by the key that was expected")
        self._check(event.port == status["listening"][0]["port"], "the answer names another TCP port")
        self._say(
            f"Asked on {INTERFACE}, UDP port {self._stage.port}; {show(event.name)} answered in {after * 1000:.0f} ms "
            f"by {event.via}: {show(event.address)}, TCP port {event.port}. The answer is signed with the key "
            f"{event.id[:15]}…, which the client of the same user shares, so the two need no pairing."
        )
        return {"via": event.via, "address": event.address, "port": event.port, "verified": event.verified}

    async def _cut(self) -> _Figures:
        sample, stage = self._sample, self._stage
        await self._settled(sample)
        client = self._start_client("--retries", "0")
        goal = sample.bytes // 4
        while client.process.ended is None:
            jobs = (await stage.ask("jobs.list"))["jobs"]
            self._durable = max([self._durable, *(job["bytes_durable"] for job in jobs)])
            if self._durable >= goal:
                break
            await deferLater(self._reactor, limits.DEMO_LOOK)
        stage.daemon.signal(signal.SIGKILL)
        daemon = await stage.ended(stage.daemon, "the killed daemon")
        ended = await stage.ended(client.process, "the client")
        self.output.close_view()
        self._durable = max(self._durable, client.progress.bytes_durable)
        self._sent = client.progress.bytes_sent
        self._check(daemon.code == -signal.SIGKILL, f"the daemon ended with {daemon.code} before it could be killed")
        self._check(client.done is None, "the transfer was over before the daemon was killed")
        self._say(
            f"Killed with SIGKILL when {size(self._sent)} of {size(sample.bytes)} had been sent, and the daemon had "
            f"said that {size(self._durable)} were safe on its disk. The client says (exit code {ended.code}):"
        )
        failed = client.failed
        if failed is not None:
            self._say(f"ftx-client: cannot send to {NAME}: {show(failed.error.message)}", style="error")
            self._say(f"hint: {show(failed.error.hint)}", style="hint")
        self._check(ended.code == 4, f"the client ended with {ended.code} instead of 4")
        self._check(failed is not None and failed.resumable, "the client did not say that the job can be resumed")
        found = await self._compared(whole=False)
        names = await self._worker.run(present, os.fsencode(stage.places.inbox))
        self._check(b"holiday/video.mov" not in names, "half a video has a name in the inbox")
        self._say(
            f"The inbox shows {plural(found.files, 'file')}, every one complete, and no half of a video: a name "
            f"appears when its content is whole, verified and safe on the disk."
        )
        return {
            "bytes_sent": self._sent,
            "bytes_durable": self._durable,
            "exit": ended.code,
            "visible": found.files,
        }

    async def _resume(self) -> _Figures:
        sample, stage = self._sample, self._stage
        status = await stage.start_daemon()
        self._say(f"The daemon is back: process {status['pid']}, another port, found by its name again.")
        client, ended = await self._send()
        done = client.done
        self._check(ended.code == 0 and done is not None, f"the second run ended with {ended.code}")
        if done is None:
            raise FtxError("connection-lost", "the second run did not finish")
        again = max(0, self._durable + done.bytes_wire - sample.bytes)
        twice = max(0, self._sent + done.bytes_wire - sample.bytes)
        self._say(done_line(done), style="ok")
        self._check(again <= limits.BLOCK, f"{size(again)} that were safe were sent again")
        self._say(
            f"Of the {size(self._durable)} that were safe on the disk, {size(again)} travelled again. What had to were "
            f"{size(twice - again)} that were under way, not yet safe, when the daemon was killed."
        )
        figures = {"bytes_wire": done.bytes_wire, "bytes_again": again, "bytes_twice": twice, "exit": ended.code}
        if ended.bytes_read is not None:
            figures["bytes_read"] = ended.bytes_read
            excess = ended.bytes_read - done.bytes_wire
            self._check(excess < self._durable // 2, "what was safe was read again before it was skipped")
            self._say(
                f"Nor was it read again: to send {size(done.bytes_wire)} the client read {size(ended.bytes_read)}, its "
                f"own program included."
            )
        return figures

    async def _compare(self) -> _Figures:
        sample = self._sample
        found = await self._compared(whole=True)
        self._check(found.bytes == sample.bytes and found.files == sample.files, "files are missing")
        if not found.differences:
            self._say(
                f"{plural(found.files, 'file')}, {plural(found.folders, 'folder')}, {size(found.bytes)}: every byte, "
                f"every name, permission and time (to the nanosecond) is the same."
            )
        return {"files": found.files, "folders": found.folders, "bytes": found.bytes}

    async def _again(self) -> _Figures:
        sample, inbox = self._sample, os.fsencode(self._stage.places.inbox)
        before = await self._worker.run(present, inbox)
        client, ended = await self._send()
        after = await self._worker.run(present, inbox)
        done = client.done
        self._check(ended.code == 0 and done is not None, f"the third run ended with {ended.code}")
        if done is None:
            return {"exit": ended.code}
        self._say(done_line(done), style="ok")
        self._check(done.files_identical == sample.files, f"only {done.files_identical} files were called identical")
        self._check(done.bytes_wire == 0, f"{size(done.bytes_wire)} of content travelled")
        self._check(before == after, "the inbox has changed")
        self._say("Nothing travelled, and nothing in the inbox changed.")
        return {"files_identical": done.files_identical, "bytes_wire": done.bytes_wire, "exit": ended.code}

    async def _control(self) -> _Figures:
        status = await self._stage.ask("daemon.status")
        jobs = (await self._stage.ask("jobs.list"))["jobs"]
        self._command("ftx-client ctl status")
        for line in status_lines(status):
            if line.split()[0] in _STATUS:
                self.output.result(_INDENT + line)
        self._command("ftx-client ctl jobs")
        for line in jobs_table(jobs):
            self.output.result(_INDENT + line)
        self._check(status["jobs"]["done"] == 2, f"the daemon counts {status['jobs']['done']} finished jobs, not 2")
        self._check(status["jobs"]["failed"] == 0, "the daemon counts a failed job")
        self._check(status["pid"] == self._stage.daemon.pid, "another process answered")
        return {"status": status, "jobs": jobs}

    async def _stop(self) -> _Figures:
        daemon = self._stage.daemon
        self._command(f"kill -TERM {daemon.pid}")
        began = self._reactor.seconds()
        daemon.signal(signal.SIGTERM)
        ended = await self._stage.ended(daemon, "the daemon")
        self._check(ended.code == 0, f"the daemon ended with {ended.code} instead of 0")
        self._check(not os.path.lexists(self._stage.places.control), "the control socket was left behind")
        self._say(f"It ended with exit code {ended.code} after {duration(self._reactor.seconds() - began)}.")
        return {"exit": ended.code}

    # -- what they have in common --------------------------------------------------------------------------

    @property
    def output(self) -> Any:
        """Where everything is printed."""
        return self.options.output

    def _start_client(self, *more: str) -> Client:
        self._command(" ".join(["ftx-client send holiday", f"{NAME}:", *more]))
        client: Client = self._stage.send(["holiday", f"{NAME}:", *more], self._progressed)
        return client

    async def _send(self) -> tuple[Client, Ended]:
        """Run a client to its end."""
        client = self._start_client()
        ended = await self._stage.ended(client.process, "the client")
        self.output.close_view()
        self._check(not client.strange, f"the client printed a line that is no event: {client.strange}")
        confirmed = client.progress.bytes_confirmed
        self._check(confirmed == self._sample.bytes, f"the bar ended at {size(confirmed)}")
        return client, ended

    def _progressed(self, progress: Progress) -> None:
        self.output.progress_event(progress)

    async def _settled(self, sample: Sample) -> None:
        """Wait until the large file is old enough for the sender to remember what it read of it."""
        changed = (await self._worker.run(os.stat, sample.video)).st_ctime
        while (left := changed + limits.RACY_SECONDS - time.time()) > 0:
            await deferLater(self._reactor, left + limits.DEMO_LOOK)

    async def _compared(self, *, whole: bool) -> Comparison:
        """Compare the folder with its copy in the inbox; every difference is a failed check."""
        copy = os.path.join(os.fsencode(self._stage.places.inbox), os.path.basename(self._sample.folder))
        found: Comparison = await self._worker.run(lambda: compare(self._sample.folder, copy, whole=whole))
        self._check(not found.differences, "; ".join(found.differences))
        return found

    def _check(self, held: bool, problem: str) -> None:
        """One check; `problem` is the sentence for one that failed."""
        self._checks += 1
        if not held:
            self._problems.append(problem)
            self.output.close_view()
            self.output.stderr(f"ftx-client: demo: {show(problem, limits.PATH)}", "error")

    def _say(self, text: str, *, indent: str = _INDENT, style: str = "") -> None:
        columns = min(shutil.get_terminal_size().columns - 1, _COLUMNS)
        lines = textwrap.wrap(
            text,
            max(columns, 20),
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines:
            self.output.result(line, style)

    def _command(self, line: str) -> None:
        self.output.result(f"{_INDENT}$ {line}", "command")

    def _conclude(self, code: int, seconds: float, keep: bool) -> None:
        where = self._stage.base
        self.output.close_view()
        self.output.record(
            {"v": 1, "event": "summary", "time": iso_time(), "exit": code, "checks": self._checks}
            | {"problems": self._problems, "seconds": round(seconds, 3), "kept": where if keep else None}
        )
        if keep:
            failed = "it broke"
            if self._problems:
                failed = f"{len(self._problems)} of {plural(self._checks, 'check')} failed"
            self.output.stderr(f"ftx-client: demo: {failed}; everything is kept for a look in {show(where)}", "error")
        elif code == 0:
            self.output.result("")
            self._say(f"All {self._checks} checks held, in {duration(seconds)}. {show(where)} is removed.", style="ok")
            self._say(
                "For real: ftx-server and ftx-client pair --open on the other machine, then on this one "
                "ftx-client pair NAME and ftx-client send FILE NAME:"
            )
