"""A `JobStore` that lets pass only what the rules allow: each file is judged before anything is looked up for it.

It stands between the job and the inbox, so neither has to know of rules. Files that are refused are answered like those
that the inbox refuses; folders pass. A quota is charged for what is wanted, and what did not come is given back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import attrs

from ftx.core.blocks import block_length
from ftx.core.rights import Rights
from ftx.disk.ledger import Ledger
from ftx.disk.store import (
    Answer,
    Failed,
    FileEntry,
    FolderEnd,
    FolderEntry,
    Have,
    JobStore,
    LinkEntry,
    PipeEntry,
    Refuse,
    Skip,
    Stored,
    Want,
    Whole,
)
from ftx.errors import FtxError
from ftx.limits import FILE_SIZE

__all__ = ["Account", "Guarded"]

#: Why a file is not taken: the name of an error and who says so; empty names when it is.
Judge = Callable[[FileEntry], tuple[str, str]]


def _never() -> bool:
    """What is true of rules that nobody has looked at."""
    return False


@attrs.frozen
class Account:
    """Whose quota is charged, on which day, and by which rights: asked anew for each batch, since both may change."""

    ledger: Ledger
    peer: bytes
    today: Callable[[], str]
    rights: Callable[[], Rights]


@attrs.define(eq=False)
class _Charge:
    """What was charged for one file, and how much of it has come."""

    day: str
    size: int
    file_size: int
    came: int = 0


class Guarded:
    """See `ftx.disk.store.JobStore`; `judge` is asked about each file, `account` (or None) about those wanted.

    `passes_all` says for a whole batch that the judge would refuse no file of it.
    """

    def __init__(
        self, store: JobStore, judge: Judge, account: Account | None, passes_all: Callable[[], bool] = _never
    ) -> None:
        self._store = store
        self._judge = judge
        self._passes_all = passes_all
        self._account = account
        self._charges: dict[int, _Charge] = {}
        #: How many files were refused, by who refused them.
        self.refused: Counter[str] = Counter()

    def look_up(self, entries: Sequence[FileEntry | PipeEntry | FolderEntry]) -> list[Answer]:
        """See `JobStore`."""
        if not self._limited and self._passes_all():
            return self._store.look_up(entries)
        answers: dict[int, Answer] = {}
        passed: list[FileEntry | PipeEntry | FolderEntry] = []
        for entry in entries:
            error, who = ("", "") if isinstance(entry, FolderEntry) else self._judged(entry)
            if error:
                self.refused[who] += 1
                answers[entry.number] = Refuse(entry.number, error)
            else:
                passed.append(entry)
        found = self._store.look_up(passed) if passed else []
        if self._account is None and not answers:
            return found
        sizes = {entry.number: getattr(entry, "size", 0) for entry in passed}
        for answer in found:
            answers[answer.number] = self._charged(answer, sizes)
        return [answers[entry.number] for entry in entries]

    @property
    def _limited(self) -> bool:
        """Whether there is a quota now."""
        rights = None if self._account is None else self._account.rights()
        return rights is not None and (rights.bytes_per_day is not None or rights.files_per_day is not None)

    def _judged(self, entry: FileEntry | PipeEntry) -> tuple[str, str]:
        """What the judge says. A file of unknown size may become as large as any, and is judged so."""
        if isinstance(entry, FileEntry):
            return self._judge(entry)
        if self._account is not None and self._account.rights().bytes_per_day is not None:
            return "quota", "a quota of bytes, and a file of unknown size"
        return self._judge(FileEntry(entry.number, entry.path, FILE_SIZE, entry.mtime_ns, entry.mode))

    def _charged(self, answer: Answer, sizes: dict[int, int]) -> Answer:
        """`answer`, or a refusal where the quota has no room for what it wants."""
        account = self._account
        if account is None or not isinstance(answer, Want):
            return answer
        rights = account.rights()
        if rights.bytes_per_day is None and rights.files_per_day is None:
            return answer
        size = sizes[answer.number]
        missing = size - (0 if answer.held is None else answer.held.bytes_in(size))
        day = account.today()
        why = "the quota of today"
        try:
            if account.ledger.charge(account.peer, day, rights, missing):
                self._charges[answer.number] = _Charge(day, missing, size)
                return answer
        except FtxError as error:
            why = error.message  # what was used is not known, so nothing is left
        self._store.discard(answer.number, True)
        self.refused[why] += 1
        return Refuse(answer.number, "quota")

    def _settle(self, number: int, *, stored: bool) -> None:
        """The entry is over: what was charged and did not come is given back."""
        charge = self._charges.pop(number, None)
        if charge is not None and self._account is not None and not stored:
            left = max(charge.size - charge.came, 0)
            self._account.ledger.give_back(self._account.peer, charge.day, left, file=True)

    def _settled(self, outcomes: list[Stored | Failed]) -> list[Stored | Failed]:
        if self._charges:
            for outcome in outcomes:
                if isinstance(outcome, Stored):
                    self._settle(outcome.number, stored=True)
        return outcomes

    def store_whole(self, files: Sequence[Whole]) -> list[Stored | Failed]:
        """See `JobStore`."""
        return self._settled(self._store.store_whole(files))

    def write_block(self, number: int, index: int, chunks: Sequence[bytes | memoryview] | None, digest: bytes) -> bool:
        """See `JobStore`."""
        written = self._store.write_block(number, index, chunks, digest)
        charge = self._charges.get(number)
        if charge is not None and written:
            charge.came += block_length(charge.file_size, index) if charge.file_size else 0
        return written

    def basis(self, number: int) -> bytes:
        """See `JobStore`."""
        return self._store.basis(number)

    def copy_block(self, number: int, index: int, offset: int, digest: bytes) -> bool:
        """See `JobStore`. What is taken over takes as much of the inbox as what is sent."""
        written = self._store.copy_block(number, index, offset, digest)
        charge = self._charges.get(number)
        if charge is not None and written:
            charge.came += block_length(charge.file_size, index)
        return written

    def sync(self, number: int) -> int:
        """See `JobStore`."""
        return self._store.sync(number)

    def publish(self, number: int, digest: bytes) -> Stored | Failed:
        """See `JobStore`."""
        return self._settled([self._store.publish(number, digest)])[0]

    def finish_folder(self, number: int, mode: int, mtime_ns: int) -> Stored | Failed:
        """See `JobStore`."""
        return self._store.finish_folder(number, mode, mtime_ns)

    def finish_folders(self, folders: Sequence[FolderEnd]) -> list[Stored | Failed]:
        """See `JobStore`."""
        return self._store.finish_folders(folders)

    def make_links(self, links: Sequence[LinkEntry]) -> list[Stored | Have | Skip | Failed | Want]:
        """See `JobStore`. A link is judged and charged as a file whose content is its target."""
        outcomes: dict[int, Stored | Have | Skip | Failed | Want] = {}
        passed = []
        for link in links:
            error, who = self._judge(FileEntry(link.number, link.path, len(link.target), link.mtime_ns, 0o777))
            if error:
                self.refused[who] += 1
                outcomes[link.number] = Failed(link.number, error)
            else:
                passed.append(link)
        # Whether a link is there already, and free, shows when it is made: with a quota one after the other.
        step = 1 if self._limited else max(len(passed), 1)
        for start in range(0, len(passed), step):
            outcomes.update((one.number, one) for one in self._make_charged(passed[start : start + step]))
        return [outcomes[link.number] for link in links]

    def _make_charged(self, links: Sequence[LinkEntry]) -> list[Stored | Have | Skip | Failed | Want]:
        for link in links:
            charged = self._charged(Want(link.number, None), {link.number: len(link.target)})
            if isinstance(charged, Refuse):
                return [Failed(link.number, charged.error)]
        made = self._store.make_links(links)
        for outcome in made:
            self._settle(outcome.number, stored=isinstance(outcome, Stored))
        return made

    def discard(self, number: int, keep: bool) -> None:
        """See `JobStore`."""
        self._settle(number, stored=False)
        self._store.discard(number, keep)

    def stop_looking(self) -> None:
        """See `JobStore`."""
        self._store.stop_looking()

    def revoke(self) -> None:
        """See `JobStore`."""
        self._store.revoke()

    def close(self) -> None:
        """See `JobStore`; the account is settled and written down."""
        try:
            if self._account is not None:
                for number in list(self._charges):
                    self._settle(number, stored=False)
                self._account.ledger.save()
        finally:
            self._store.close()

    def save_receipt(self, receipt: bytes) -> None:
        """See `JobStore`."""
        self._store.save_receipt(receipt)
