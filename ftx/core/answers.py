"""What the receiver tells the sender of its entries: wants and results, gathered into frames.

Every result goes through here: it extends the transcript, waits for the next frame, and becomes an event for the
owner. So the order of results on the wire and in the transcript cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Final, TypeVar

from ftx import limits
from ftx.core.events import Resolved, There
from ftx.core.incoming import File, Folder
from ftx.core.receipt import Transcript
from ftx.wire.messages import (
    Basis,
    Failed,
    Identical,
    Message,
    Needs,
    Results,
    Skipped,
    Stored,
    WantAgain,
    WantAll,
    Wanted,
    WantGroup,
)

__all__ = ["Answers"]

T = TypeVar("T")
Path = tuple[bytes, ...]


class Answers:
    """The answers of one job. `into` is where its entries are asked to go, below the inbox."""

    def __init__(self, into: Path) -> None:
        self.transcript = Transcript()
        self._into = into
        self._bases: list[Message] = []
        self._wants: list[WantAll | WantGroup | WantAgain] = []
        self._results: list[Stored | Identical | Skipped | Failed | Wanted] = []
        #: Whether one of them is larger than most, which are of one size.
        self._large_want = self._large_result = False

    @property
    def waiting(self) -> bool:
        """Whether a result has not been taken yet."""
        return bool(self._results)

    def want(self, want: WantAll | WantGroup | WantAgain) -> None:
        """Ask for content."""
        self._wants.append(want)
        self._large_want = self._large_want or isinstance(want, WantGroup)

    def want_all(self, numbers: Iterable[int]) -> None:
        """Ask for all of these files."""
        self._wants += map(WantAll, numbers)

    def basis(self, number: int, digests: bytes) -> None:
        """Offer the blocks of an older copy; the want of the file follows."""
        step = limits.BASIS_DIGESTS * limits.DIGEST
        for start in range(0, len(digests), step):
            self._bases.append(Basis(number, start // limits.DIGEST, digests[start : start + step]))

    def there(
        self, files: Sequence[File], places: Sequence[Path], digests: Sequence[bytes], *, identical: bool
    ) -> There:
        """The results of files that are there now, at least one, with the place and the digest of each."""
        numbers = [file.number for file in files]
        paths = [file.path for file in files]
        told = list(zip([file.size for file in files], digests, paths, places, strict=True))
        into, result = self._into, Identical if identical else Stored
        moved: Iterable[list[bytes] | None] = repeat(None)
        if list(places) != ([into + path for path in paths] if into else paths):
            moved = map(self._moved, paths, places)
        self._results += map(result, numbers, digests, moved)
        return There(told, identical, self.transcript.stored_all(told, identical=identical))

    def file(
        self, file: File, status: str, digest: bytes | None, stored_as: Path | None, error: int
    ) -> Resolved | There:
        """The result of a file: `stored` and `identical` with digest and place, `skipped`, or `failed` with `error`."""
        if digest is not None and stored_as is not None:
            return self.there([file], [stored_as], [digest], identical=status == "identical")
        if status == "wanted":
            line = self.transcript.wanted(file.size, file.path, folder=False)
            self._results.append(Wanted(file.number))
        elif status == "skipped":
            line = self.transcript.skipped(file.size, file.path)
            self._results.append(Skipped(file.number))
        else:
            line = self.transcript.failed(file.size, error, file.path)
            self._results.append(Failed(file.number, error))
        return Resolved(file.path, file.size, status, digest, stored_as, error, False, line)

    def folder(self, folder: Folder, stored_as: Path | None, error: int) -> Resolved:
        """The result of a folder: where it is, or why not."""
        if error or stored_as is None:
            line = self.transcript.failed(0, error, folder.path)
            self._results.append(Failed(folder.number, error))
        else:
            line = self.transcript.folder(folder.path, stored_as)
            self._results.append(Stored(folder.number, b"", self._moved(folder.path, stored_as)))
        return Resolved(folder.path, 0, "failed" if error else "stored", None, stored_as, error, True, line)

    def wanted_folder(self, folder: Folder) -> Resolved:
        """The result of a folder in a dry run."""
        line = self.transcript.wanted(0, folder.path, folder=True)
        self._results.append(Wanted(folder.number))
        return Resolved(folder.path, 0, "wanted", None, None, 0, True, line)

    def take(self) -> list[Message]:
        """Everything gathered, as messages that fit their frames: a want may need a basis, a result may end a want."""
        wants: list[Message] = [
            Needs(batch) for batch in (_batches(self._wants, _want_size) if self._large_want else _alike(self._wants))
        ]
        results: list[Message] = [
            Results(batch)
            for batch in (_batches(self._results, _result_size) if self._large_result else _alike(self._results))
        ]
        bases = self._bases
        self._bases, self._wants, self._results = [], [], []
        self._large_want = self._large_result = False
        return bases + wants + results

    def _moved(self, path: Path, stored_as: Path) -> list[bytes] | None:
        if stored_as == self._into + path:
            return None
        self._large_result = True
        return list(stored_as)


#: What most wants and results take of a frame, at most.
_SMALL: Final = 64


def _want_size(want: WantAll | WantGroup | WantAgain) -> int:
    return _SMALL + (len(want.bitmap) if isinstance(want, WantGroup) else 0)


def _result_size(result: Stored | Identical | Skipped | Failed | Wanted) -> int:
    if isinstance(result, Skipped | Failed | Wanted) or result.stored_as is None:
        return _SMALL
    return _SMALL + sum(map(len, result.stored_as)) + 3 * len(result.stored_as)


def _alike(items: list[T]) -> Iterator[list[T]]:
    """`items`, none of which is larger than most, in lists that fit a frame."""
    most = min(limits.BATCH, limits.FRAME_BATCH // 2 // _SMALL)
    return (items[start : start + most] for start in range(0, len(items), most))


def _batches(items: list[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """`items` in lists that fit a frame; half of the bound is left for the largest item and the estimate's error."""
    batch: list[T] = []
    size = 0
    for item in items:
        if batch and (len(batch) >= limits.BATCH or size >= limits.FRAME_BATCH // 2):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += size_of(item)
    if batch:
        yield batch
