"""What became of the entries, for the receiver: kept until each has its result, and then told and forgotten.

Theory. The receiver is one machine in layers, each a class of its own that knows those below it: this one has the
entries and their results; `ftx.core.enrolling` puts them in, as the manifest says and the disk answers;
`ftx.core.arriving` takes their content; `ftx.core.receiver` has the table and decides whose turn it is.

What is remembered is bounded by the windows, never by the size of the job. A folder has its result after its
folder-end and after the results of everything in it, so a folder's time stamp is set when nothing in it changes any
more. Links are made when nothing else is left to do.

Wants and results are gathered in `ftx.core.answers`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from itertools import groupby

from ftx import limits
from ftx.core.answers import Answers
from ftx.core.blocks import content_digest
from ftx.core.events import Discard, Effect, FinishFolder, MakeLinks, Publish, Sync
from ftx.core.incoming import File, Folder, Life
from ftx.core.lanes import Withdrawn
from ftx.core.receipt import Transcript
from ftx.errors import KINDS, ProtocolError
from ftx.wire.messages import DRY_RUN, Offer, SymlinkEntry, WantAgain

__all__ = ["Resolving"]


class Resolving:
    """The lowest layer of a receiver: entries without a result, what of them is verified and durable, results."""

    def __init__(
        self,
        offer: Offer,
        *,
        features: Set[str] = frozenset(),
        tops: Collection[bytes] | None = None,
    ) -> None:
        #: Content bytes verified, and on disk; files that were there already count.
        self.verified = 0
        self.durable = 0
        #: Those among the verified that were there before the job.
        self.present = 0
        self._offer = offer
        self._dry = offer.kind == DRY_RUN
        self._features = features
        self._tops = tops
        self._files: dict[int, File] = {}
        self._folders: dict[int, Folder] = {}
        #: Symlinks without their results, and those of them that wait until everything else has its own.
        self._links: dict[int, tuple[File, bytes]] = {}
        self._waiting_links: list[SymlinkEntry] = []
        self._draining = 0
        #: Files without which the job goes on, while blocks of them may be under way on lanes.
        self._withdrawn = Withdrawn()
        self._answers = Answers(tuple(offer.into))

    @property
    def transcript(self) -> Transcript:
        """Every result so far, hashed and counted."""
        return self._answers.transcript

    # -- what the disk answers ---------------------------------------------------------------------------------

    def made(self, number: int) -> list[Effect]:
        """The folder is there."""
        folder = self._folders[number]
        folder.made = True
        return self._finish(folder)

    def stored(self, found: Sequence[tuple[int, tuple[bytes, ...], bytes]]) -> list[Effect]:
        """These files are durable under their final names: number, path below the inbox and digest of each."""
        return self._resolve_there(found, identical=False)

    def finished(self, number: int, stored_as: tuple[bytes, ...]) -> list[Effect]:
        """The folder, and all that is in it, is durable under its final name."""
        return self._resolve_folder(self._folders[number], 0, stored_as)

    def link_made(self, number: int, stored_as: tuple[bytes, ...], *, identical: bool) -> list[Effect]:
        """The link is durable under its final name, or (`identical`) was there already."""
        link, target = self._links[number]
        self.verified += link.size
        self.durable += link.size
        self.present += link.size if identical else 0
        status = "identical" if identical else "stored"
        return self._resolve_link(number, status, digest=content_digest(target), stored_as=stored_as)

    def link_wanted(self, number: int) -> list[Effect]:
        """The link would be made, were it not a dry run."""
        return self._resolve_link(number, "wanted")

    def failed(self, number: int, error: str) -> list[Effect]:
        """The disk could not do it; `error` is the name of a kind."""
        if number in self._links:
            return self._resolve_link(number, "failed", error=KINDS[error].number)
        folder = self._folders.get(number)
        if folder is not None:
            return self._resolve_folder(folder, KINDS[error].number)
        file = self._files.get(number)
        if file is None or file.life is Life.DRAINING:
            return []
        if error == "digest-mismatch" and file.missing is None and not file.pipe:
            return self._mismatch(file, 0)
        return [Discard(number, error != "digest-mismatch"), *self._fail(file, KINDS[error].number)]

    # -- lives -------------------------------------------------------------------------------------------------

    def _links_if_ready(self) -> list[Effect]:
        """Links are made when nothing else is left to do: nothing is ever written through one."""
        if not self._waiting_links or self._folders or len(self._files) > self._draining:
            return []
        entries, self._waiting_links = self._waiting_links, []
        return [MakeLinks(entries)]

    def _sync_if_due(self, file: File, now: float) -> list[Effect]:
        waiting = file.verified - file.durable
        late = now - file.synced_at >= limits.SYNC_INTERVAL
        if file.pipe or file.syncing or not waiting or (waiting < limits.SYNC_BYTES and not late):
            return []
        file.syncing = True
        return [Sync(file.number)]

    def _publish_if_complete(self, file: File) -> list[Effect]:
        if file.life is not Life.CLOSING or file.digest is None or file.writing or file.syncing or file.publishing:
            return []
        file.publishing = True
        return [Publish(file.number, file.digest)]

    def _mismatch(self, file: File, block: int) -> list[Effect]:
        """A block did not verify: ask for it once more, unless that was the last try of the file."""
        file.mismatches += 1
        if "repair" not in self._features or file.mismatches >= limits.BLOCK_TRIES or file.pipe:
            keep = file.missing is not None
            return [Discard(file.number, keep), *self._fail(file, KINDS["digest-mismatch"].number)]
        if file.missing is not None:
            file.missing.add(block)
            file.again |= {block}
        file.life, file.digest, file.early = Life.WANTED, None, None
        self._answers.want(WantAgain(file.number, block))
        return []

    def _fail(self, file: File, number: int) -> list[Effect]:
        """The file failed: it has its result now, but the sender may not have closed it."""
        self.verified -= file.verified
        self.durable -= file.durable
        self.present -= file.present
        file.verified = file.durable = 0
        drain = file.life is Life.WANTED and file.early is None
        if file.early is not None:  # the sender has closed it, but not all of it has come
            self._withdrawn.add(file.number)
        effects = self._resolve_file(file, "failed", error=number)
        if drain:
            file.life = Life.DRAINING
            self._files[file.number] = file
            self._draining += 1
            if self._draining > limits.WINDOW_UNACKNOWLEDGED:
                raise ProtocolError("protocol-error", "the sender does not close files that failed")
        return effects

    def _drained(self, file: File) -> None:
        del self._files[file.number]
        self._draining -= 1

    def _resolve_there(self, found: Sequence[tuple[int, tuple[bytes, ...], bytes]], *, identical: bool) -> list[Effect]:
        """Files that are there now have their results: number, place and digest of each."""
        if not found:
            return []
        numbers, places, digests = zip(*found, strict=True)
        files = list(map(self._files.pop, numbers))
        size = sum([file.size for file in files])
        self.verified += size - sum([file.verified for file in files])
        self.durable += size - sum([file.durable for file in files])
        self.present += size if identical else 0
        effects: list[Effect] = [self._answers.there(files, places, digests, identical=identical)]
        for folder, run in groupby([file.parent for file in files]):
            if folder is not None:
                folder.open_entries -= len(list(run))
                if not folder.open_entries:
                    effects += self._finish(folder)
        if self._waiting_links:
            effects += self._links_if_ready()
        return effects

    def _resolve_file(self, file: File, status: str, error: int = 0) -> list[Effect]:
        """A file has another result: `wanted`, `skipped` or `failed`."""
        del self._files[file.number]
        if file.pipe:
            file.size = 0  # how much had come is known on one side only
        effects: list[Effect] = [self._answers.file(file, status, None, None, error)]
        if file.parent is not None:
            effects += self._child_done(file.parent)
        if self._waiting_links:
            effects += self._links_if_ready()
        return effects

    def _resolve_link(
        self,
        number: int,
        status: str,
        *,
        digest: bytes | None = None,
        stored_as: tuple[bytes, ...] | None = None,
        error: int = 0,
    ) -> list[Effect]:
        link, _ = self._links.pop(number)
        return [self._answers.file(link, status, digest, stored_as, error)]

    def _resolve_folder(self, folder: Folder, error: int, stored_as: tuple[bytes, ...] | None = None) -> list[Effect]:
        # A folder that could not be made fails at once; the disk refuses its entries one by one, with the same reason.
        del self._folders[folder.number]
        resolved = self._answers.folder(folder, stored_as, error)
        return [resolved, *self._child_done(folder.parent), *self._links_if_ready()]

    def _child_done(self, folder: Folder | None) -> list[Effect]:
        if folder is None:
            return []
        folder.open_entries -= 1
        return [] if folder.open_entries else self._finish(folder)

    def _finish(self, folder: Folder) -> list[Effect]:
        if folder.end is None or folder.open_entries or not folder.made or folder.number not in self._folders:
            return []
        if self._dry:
            del self._folders[folder.number]
            wanted = self._answers.wanted_folder(folder)
            return [wanted, *self._child_done(folder.parent), *self._links_if_ready()]
        return [FinishFolder(folder.number, folder.end.mode, folder.end.mtime)]
