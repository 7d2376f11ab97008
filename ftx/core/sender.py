"""The sender of a job, as a machine: entries in, manifest and content out, results checked.

Theory. The job has five states (`SENDER_TABLE`). The machine is built in layers, from the lowest: its account and
its end (`ftx.core.concluding`), what it announces (`ftx.core.announcing`), what it supplies (`ftx.core.supplying`),
and here what the receiver says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import cast

from ftx import limits
from ftx.core.concluding import SENDER_TABLE, Concluded, SenderState
from ftx.core.departing import Departing
from ftx.core.events import Effect, Resolved, Send, There, Waited
from ftx.core.supplying import Supplying
from ftx.core.table import advance
from ftx.errors import KINDS, FtxError, ProtocolError, kind_from_peer
from ftx.wire.messages import (
    DRY_RUN,
    Accept,
    Basis,
    Cancel,
    Failed,
    Identical,
    Message,
    Needs,
    Pause,
    ProgressMessage,
    Receipt,
    Refuse,
    Results,
    Resume,
    Skipped,
    Stored,
    Waiting,
    Wanted,
)

__all__ = ["SENDER_TABLE", "Concluded", "Sender", "SenderState"]

#: Results of what is there now, and of what was left out.
_THERE = (Stored, Identical)
_LEFT_OUT = (Identical, Skipped)

_Result = Stored | Identical | Skipped | Failed | Wanted
#: Size, digest, path, and where it is.
_There = tuple[int, bytes, tuple[bytes, ...], tuple[bytes, ...]]


class Sender(Supplying):
    """The sending half of one job.

    Methods that take a message or an outcome return effects. The owner calls `room()` and the `add_*` methods to
    announce entries, and `next_work()` whenever it can take another piece of disk work.
    """

    def receive(self, message: Message) -> list[Effect]:
        """A message of the job from the receiver.

        A `refuse` raises FtxError with the receiver's reason, a `cancel` FtxError `cancelled`; `kept` says what stays.
        """
        self.state = advance(SENDER_TABLE, self.state, type(message), self._trace)
        match message:
            case Waiting():
                if message.job != self.offer.job:
                    raise ProtocolError("protocol-error", "another job is waiting than was offered")
                return [Waited(message), *self._say_totals()]
            case Accept():
                if message.job != self.offer.job:
                    raise ProtocolError("protocol-error", "another job was accepted than was offered")
                self.accepted = message
                return self._say_totals()
            case Refuse():
                if message.job != self.offer.job:
                    raise ProtocolError("protocol-error", "another job was refused than was offered")
                raise FtxError(kind_from_peer(message.number, (4, 5, 6, 7, 8), "refused").name)
            case Basis():
                self._basis(message)
            case Needs():
                self._wants(message.wants)
            case Results():
                return self._results(message.results) + self._end_if_complete()
            case ProgressMessage():
                # A receiver that exaggerates must not make our bar do so.
                verified = message.verified if self.totals is None else min(message.verified, self.totals.bytes)
                self.progress = ProgressMessage(verified, min(message.durable, verified), message.stage)
            case Pause() | Resume():
                self._check_job(message.job)
                self.paused_there = isinstance(message, Pause)
            case Cancel():
                self._check_job(message.job)
                self.kept = message
                raise FtxError("cancelled")
            case Receipt():
                return self._receipt(message)
        return []

    def steer(self, paused: bool) -> list[Effect]:
        """Pause or go on, from this side; nothing when it is so already, or before the receiver has accepted."""
        if self.state not in (SenderState.STREAMING, SenderState.ENDING) or paused is self.paused_here:
            return []
        self.paused_here = paused
        return [Send(Pause(self.offer.job) if paused else Resume(self.offer.job))]

    def cancel(self) -> list[Effect]:
        """Give the job up; the receiver answers with a cancel of its own, or with the receipt if it was done."""
        running = self.state in (SenderState.STREAMING, SenderState.ENDING)
        return [Send(Cancel(self.offer.job, 0, 0))] if running else []

    # -- results -----------------------------------------------------------------------------------------------

    def _results(self, results: Sequence[_Result]) -> list[Effect]:
        """What became of entries, in order; nearly all are files that are there now, of which many are told at once."""
        effects: list[Effect] = []
        for kind, run in groupby(results, type):
            if kind in _THERE:
                self._there(cast("Iterator[Stored | Identical]", run), effects, identical=kind is Identical)
            else:
                for result in run:
                    self._other(self._entry(result), result, effects)
        return effects

    def _entry(self, result: _Result) -> Departing:
        """The entry that has this result, which it may have."""
        entry = self._entries.get(result.number)
        if entry is None or entry.failed:
            raise ProtocolError("protocol-error", "a result came for an entry that has none coming")
        if not entry.answered and not entry.folder:
            self._unanswered -= 1
            entry.answered = True
        if isinstance(result, _LEFT_OUT) and (entry.asked or entry.folder):
            raise ProtocolError("protocol-error", "a file was both asked for and left out")
        return entry

    def _there(self, results: Iterable[Stored | Identical], effects: list[Effect], *, identical: bool) -> None:
        """The receiver has these files: with exactly the content that was sent, or that they were announced with.

        A folder among them is complete. Added to `effects`.
        """
        entries, elsewhere = self._entries, bool(self.offer.into)
        files: list[_There] = []
        for result in results:
            entry = entries.get(result.number)
            if entry is None or entry.failed or entry.folder or entry.answered is identical:
                entry = self._entry(result)
            elif identical:  # as nearly all are that were not asked for; those that were are stored
                self._unanswered -= 1
                entry.answered = True
            if entry.folder:
                self._tell(files, effects, identical=identical)
                files = []
                self._folder(entry, result, effects)
                continue
            path, digest = entry.path, result.digest
            if not identical and not entry.closed:
                raise ProtocolError("protocol-error", "a file was stored before all of it was sent")
            if (not identical and entry.digest != digest) or len(digest) != limits.DIGEST:
                raise ProtocolError("digest-mismatch", "the receiver stored something else than was sent")
            if identical and entry.claimed not in (None, digest):
                raise ProtocolError("digest-mismatch", "the receiver took another content for the same")
            del entries[entry.number]
            there = path if result.stored_as is None and not elsewhere else self._where(path, result)
            files.append((entry.size, digest, path, there))
        self._tell(files, effects, identical=identical)

    def _tell(self, files: Sequence[_There], effects: list[Effect], *, identical: bool) -> None:
        """Tell of files that are there."""
        if not files:
            return
        if identical:
            self.present += sum([size for size, _, _, _ in files])
        effects.append(There(files, identical, self.transcript.stored_all(files, identical=identical)))

    def _folder(self, entry: Departing, result: Stored | Identical, effects: list[Effect]) -> None:
        """The folder is complete."""
        if result.digest:
            raise ProtocolError("protocol-error", "a folder cannot have a digest")
        stored_as = self._where(entry.path, result)
        line = self.transcript.folder(entry.path, stored_as)
        del self._entries[entry.number]
        effects.append(Resolved(entry.path, 0, "stored", b"", stored_as, 0, True, line))

    def _where(self, path: tuple[bytes, ...], result: Stored | Identical) -> tuple[bytes, ...]:
        """Where it is below the inbox: as it was asked for, unless the receiver says otherwise."""
        if result.stored_as is not None:
            return tuple(result.stored_as)
        return (*self.offer.into, *path) if self.offer.into else path

    def _other(self, entry: Departing, result: _Result, effects: list[Effect]) -> None:
        """Any other result, added to `effects`."""
        if isinstance(result, Wanted):
            effects.append(self._wanted_dry(entry))
        elif isinstance(result, Failed):
            if entry.pipe:
                entry.size = 0
            self.present -= entry.present
            number = kind_from_peer(result.error, (3, 4, 5, 6, 7, 8), "refused").number
            line = self.transcript.failed(entry.size, result.error, entry.path)
            effects.append(Resolved(entry.path, entry.size, "failed", None, None, number, entry.folder, line))
            effects += self._abandon(entry)
        else:
            if entry.pipe:
                entry.size = 0
            line = self.transcript.skipped(entry.size, entry.path)
            del self._entries[entry.number]
            effects.append(Resolved(entry.path, entry.size, "skipped", None, None, 0, False, line))

    def _wanted_dry(self, entry: Departing) -> Resolved:
        """The receiver would ask for this."""
        if self.offer.kind != DRY_RUN:
            raise ProtocolError("protocol-error", "a result came that only a dry run has")
        del self._entries[entry.number]
        line = self.transcript.wanted(entry.size, entry.path, folder=entry.folder)
        return Resolved(entry.path, entry.size, "wanted", None, None, 0, entry.folder, line)

    def _abandon(self, entry: Departing) -> list[Effect]:
        """The receiver gave an entry up. A file that it asked for must still be closed, if it is not."""
        if not entry.asked or entry.closed:
            return self._forget(entry)
        entry.failed = True
        if entry.active:
            return []  # work is under way, and closes the file when it comes back
        self._ready.remove(entry)
        return self._close_failed(entry, KINDS["cancelled"].number)
