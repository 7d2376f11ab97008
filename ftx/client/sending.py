"""A run of `send`: each target in turn, its events turned into lines and JSON, one exit code at the end."""

from __future__ import annotations

import abc
import contextlib
import os
import shutil
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs
import msgspec

from ftx.client import render
from ftx.client.outcome import combined
from ftx.client.run import write_lines
from ftx.errors import KINDS, FtxError
from ftx.limits import FAILURES_SHOWN
from ftx.text import kept, show, size
from ftx.wire.events import (
    Accepted,
    Connected,
    Connecting,
    Done,
    ErrorInfo,
    Event,
    Failed,
    FileEvent,
    PeerInfo,
    Progress,
    Retry,
    Summary,
    TargetResult,
    Waiting,
)

if TYPE_CHECKING:
    from ftx.client.options import Options
    from ftx.client.output import Output
    from ftx.client.run import Stop
    from ftx.client.target import Target

__all__ = ["Report", "Sending", "Transfers"]

#: Errors that say that this side ended the job.
_CUT_SHORT: Final = frozenset({"interrupted", "terminated", "timeout"})

#: Errors that may come from the wrong port.
_NOBODY_THERE: Final = frozenset({"connection-refused", "connect-timeout", "tls-failed", "not-ftx"})


@attrs.define(eq=False)
class Report:
    """What one target's events say: to people as they come, and in the end as a result."""

    output: Output
    #: What the person called the target.
    called: str
    #: Whether every event must name the peer, since there are several targets.
    named: bool = False
    #: The folder inside the inbox that was asked for.
    into: str = ""
    #: That folder, where it looks like a port that was meant.
    lone_port: int | None = None
    #: Whether files come here instead of going there.
    pulls: bool = False
    #: Whether what is there already is recognised by its content, and not only by size and time.
    by_digest: bool = False
    #: Whether it comes from or goes to a pipe, where nothing can be taken up again.
    streamed: bool = False
    peer: PeerInfo | None = attrs.field(default=None, init=False)
    failures: list[FileEvent] = attrs.field(factory=list, init=False)
    failed_files: int = attrs.field(default=0, init=False)
    renamed: list[FileEvent] = attrs.field(factory=list, init=False)
    renamed_files: int = attrs.field(default=0, init=False)
    last: Done | Failed | None = attrs.field(default=None, init=False)
    #: Bytes that are on the receiver's disk, as far as it was told.
    durable: int = attrs.field(default=0, init=False)

    def on_event(self, event: Event) -> None:
        """Take one event of the job: print it with `--json`, show it otherwise."""
        if event.peer is not None:
            self.peer = event.peer
        elif self.named:
            event = msgspec.structs.replace(event, peer=self.peer or PeerInfo(name=self.called))
        self.output.record(event)
        match event:
            case Connecting():
                self.output.open_view().announce(render.connecting_line(event, self.called))
            case Accepted():  # after a lost connection every file is told of anew
                self.failures, self.failed_files = [], 0
                self.renamed, self.renamed_files = [], 0
            case Connected() if self.output.verbose:
                self.output.note(render.connected_line(event, self.called))
            case Waiting():
                self.output.note(render.waiting_line(event, self.called))
            case Retry():
                self.output.note(render.retry_line(event), "warn")
            case Progress():
                self.durable = event.bytes_durable
                self.output.progress_event(event)
            case FileEvent():
                self._file(event)
            case Done() | Failed():
                self.last = event
            case _:
                pass

    def finish(self) -> TargetResult:
        """Say how it ended; to be called once, after the last event."""
        self.output.close_view()
        peer = self.peer or PeerInfo(name=self.called)
        self._say_failures()
        match self.last:
            case Done() as done:
                style = "ok" if done.exit == 0 and not self.renamed_files else "warn"
                if not self.output.quiet:
                    line = render.done_line(
                        done, self.called, self.renamed_files, pulled=self.pulls, by_digest=self.by_digest
                    )
                    self.output.result(line, style)
                    self._say_renamed()
                if self.lone_port is not None:
                    port = self.lone_port
                    self.output.note(f"{port} is a folder there; another port is named with -p {port}")
                return TargetResult(peer, done.result, done.exit)
            case Failed() as failed:
                if failed.files_stored is not None and failed.error.name in _CUT_SHORT:
                    staged = self.durable and not failed.files_stored and not self.streamed
                    said = f"no file is complete; what arrived ({size(self.durable)}) is kept for the next run"
                    self.output.note(said if staged else kept(failed.files_stored, failed.bytes_stored or 0))
                return TargetResult(peer, "failed", failed.exit)
            case _:
                return TargetResult(peer, "failed", 1)

    def _file(self, event: FileEvent) -> None:
        if event.status == "failed":
            self.failed_files += 1
            if len(self.failures) < FAILURES_SHOWN:
                self.failures.append(event)
        elif event.status == "wanted":
            self.output.result(show(event.path))
        elif render.other_name(event, self.into):
            self.renamed_files += 1
            if len(self.renamed) < FAILURES_SHOWN:
                self.renamed.append(event)
        if self.output.verbose:
            self.output.note(render.file_line(event))

    def _say_renamed(self) -> None:
        """Where to look for what is there under another name; `-v` and `--json` have said it of each file already."""
        if self.output.verbose or self.output.json:
            return
        for event in self.renamed:
            self.output.note(render.renamed_line(event, "here" if self.pulls else "there"))
        if self.renamed_files > len(self.renamed):
            self.output.note(f"  and {self.renamed_files - len(self.renamed):,} more; -v names them all")

    def _say_failures(self) -> None:
        alone = self.failures[0].error if self.failed_files == 1 else None
        if alone is not None and isinstance(self.last, Failed) and alone == self.last.error:
            return  # it is said once: as what went wrong
        if self.failed_files:
            noun = "1 file was" if self.failed_files == 1 else f"{self.failed_files:,} files were"
            what = "not received from" if self.pulls else "not sent to"
            self.output.stderr(f"ftx-client: {noun} {what} {render.peer_label(self.peer, self.called)}:", "error")
            for line in render.failure_lines(self.failures, self.failed_files):
                self.output.stderr(line, "hint" if line.startswith("hint:") else "")


@attrs.define(eq=False)
class Transfers(abc.ABC):
    """A run with a job for each of several targets, one after the other. `main` is what `ftx.client.run.run` wants."""

    options: Options
    targets: Sequence[Target]
    conflict: str | None = attrs.field(kw_only=True)
    #: Whether files that are there already are recognised by their content.
    checksum: bool = attrs.field(default=False, kw_only=True)
    #: Over how many connections content may go, None to choose.
    lanes: int | None = attrs.field(default=None, kw_only=True)

    #: Whether files come here instead of going there.
    pulls: ClassVar[bool] = False

    @property
    def streamed(self) -> bool:
        """Whether it comes from or goes to a pipe."""
        return False

    @abc.abstractmethod
    async def transfer(self, reactor: Any, target: Target, on_event: Callable[[Event], None]) -> None:
        """Run the job of one target; raises FtxError for what went wrong before there was one."""

    async def finish(self, reactor: Any, done: Done) -> None:
        """Do what remains when the job of a target has ended well: nothing, unless a verb knows of something."""
        return None

    async def main(self, reactor: Any, stop: Stop) -> int:
        """One target after the other; fires with the exit code, and never fails with an FtxError."""
        output = self.options.output
        output.open_view()
        results: list[TargetResult] = []
        code = KINDS["internal"].exit_code
        try:
            for target in self.targets:
                if stop.error is not None:  # those that were not begun share the fate of the one that was cut short
                    results.append(TargetResult(PeerInfo(name=target.label), "failed", stop.error.exit_code))
                else:
                    results.append(await self._one(reactor, stop, target))
            code = combined(result.exit for result in results)
        finally:  # the summary is the last line whatever happened
            if stop.error is not None and code != 0:
                code = stop.error.exit_code
            output.record(Summary(exit=code, targets=results))
        return code

    async def _one(self, reactor: Any, stop: Stop, target: Target) -> TargetResult:
        from twisted.internet.defer import CancelledError

        output = self.options.output
        into, port = ("", None) if self.pulls else (target.into, target.lone_port)
        several = len(self.targets) > 1
        report = Report(output, target.label, several, into, port, self.pulls, self.checksum, self.streamed)
        trouble: FtxError | None = None

        def on_event(event: Event) -> None:
            if isinstance(event, Failed) and stop.error is not None:  # why it was cut short is known here alone
                error = stop.error
                info = ErrorInfo(error.number, error.name, error.message, error.hint)
                event = msgspec.structs.replace(event, error=info, exit=error.exit_code, resumable=True)
            elif isinstance(event, Failed) and event.error.name == "not-shared":
                event = msgspec.structs.replace(event, error=msgspec.structs.replace(event.error, hint=listing(target)))
            report.on_event(event)

        try:
            await self.transfer(reactor, target, on_event)
            if isinstance(report.last, Done):
                await self.finish(reactor, report.last)
        except FtxError as error:
            trouble = error
            if self.options.debug:
                write_lines(self.options, "".join(traceback.format_exception(error)))
        except CancelledError:
            trouble = FtxError("interrupted")
        if stop.error is not None and not isinstance(report.last, Done):
            trouble = stop.error
        return self._conclude(report, stop, target, trouble)

    def _conclude(self, report: Report, stop: Stop, target: Target, trouble: FtxError | None) -> TargetResult:
        """Say what went wrong, as an event too where the job has not said so itself, and how it ended."""
        if trouble is not None:
            trouble.hint = ("" if self.pulls else port_hint(trouble.name, target)) or trouble.hint
        if trouble is not None and report.last is None:
            info = ErrorInfo(trouble.number, trouble.name, trouble.message, trouble.hint)
            report.on_event(Failed(error=info, exit=trouble.exit_code, resumable=stop.error is not None))
        result = report.finish()
        if isinstance(report.last, Failed) and stop.error is None:
            said = _as_error(report.last.error)
            self.options.output.error(said, f"cannot {'get from' if self.pulls else 'send to'} {target.label}")
        elif trouble is not None and isinstance(report.last, Done):  # sent, but the receipt could not be copied
            self.options.output.error(trouble, "the files were sent")
            result = msgspec.structs.replace(result, exit=combined({result.exit, trouble.exit_code} - {0}))
        return result


@attrs.define(eq=False)
class Sending(Transfers):
    """A run of `send`; the names are `ftx.client.api.send`'s."""

    sources: Sequence[str] = attrs.field(kw_only=True)
    #: Whether the receiver may be one that is not paired here.
    ask: bool = attrs.field(default=False, kw_only=True)
    dry_run: bool = attrs.field(default=False, kw_only=True)
    exclude: Sequence[str] = attrs.field(kw_only=True, default=())
    links: str = attrs.field(kw_only=True, default="skip")
    #: What standard input is called, when that is what is sent.
    name: str = attrs.field(kw_only=True, default="")
    #: Whether content that gains by it is compressed on the way.
    compress: bool = attrs.field(default=True, kw_only=True)
    #: Bytes per second, 0 for no limit.
    limit: int = attrs.field(default=0, kw_only=True)
    #: Where to copy the receipt of the only target, or None.
    receipt: str | None = attrs.field(kw_only=True)

    @property
    def streamed(self) -> bool:
        """Whether standard input is what is sent."""
        return "-" in self.sources

    async def transfer(self, reactor: Any, target: Target, on_event: Callable[[Event], None]) -> None:
        """See `Transfers`."""
        from ftx.client.api import send
        from ftx.client.comparing import compare
        from ftx.client.configured import api_settings

        def compared(name: str, phrase: str) -> Awaitable[bool]:
            return compare(reactor, self.options, name, phrase)

        await send(
            reactor,
            api_settings(self.options),
            self.sources,
            target.machine(),
            into=target.into,
            conflict=self.conflict,
            checksum=self.checksum,
            dry_run=self.dry_run,
            exclude=self.exclude,
            links=self.links,
            name=self.name,
            compress=self.compress,
            limit=self.limit,
            lanes=self.lanes,
            compare=compared if self.ask else None,
            every_file=self.options.json or self.options.verbose > 0,
            on_event=on_event,
            warn=lambda text: self.options.output.note(text, "warn"),
        )

    async def finish(self, reactor: Any, done: Done) -> None:
        """Copy the receipt where it was wanted."""
        from twisted.internet.threads import deferToThread

        if self.receipt is None:
            return
        if done.receipt is None:
            raise FtxError("local-io", "there is no receipt to copy")
        await deferToThread(copy_receipt, done.receipt, self.receipt)


def listing(target: Target) -> str:
    """Where to look for what `target` shares, and how to get what a link there leads to."""
    return f"what there is: ftx-client ls {show(target.machine())}; of a symbolic link: get it with --links follow"


def port_hint(name: str, target: Target) -> str:
    """What to say when error `name` came of `HOST:PORT`, which names a folder; empty when it did not."""
    port = target.lone_port
    if port is None or name not in _NOBODY_THERE:
        return ""
    return f"{port} was taken for a folder there; for that port write: {show(target.machine())} -p {port}"


def _as_error(info: ErrorInfo) -> FtxError:
    """The exception for what an event says; a name this version does not know keeps its sentence."""
    error = FtxError(info.name if info.name in KINDS else "internal", info.message)
    error.hint = info.hint
    return error


def copy_receipt(source: str, to: str) -> None:
    """Copy the receipt at `source` to the file `to`, whole or not at all. Blocking; FtxError `local-io`."""
    beside = f"{to}.{os.getpid()}.part"
    try:
        shutil.copyfile(source, beside)
        os.replace(beside, to)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        why = (error.strerror or "input/output error").lower()
        raise FtxError("local-io", f"the receipt cannot be written to {show(to)}: {why}") from error
