"""Inboxes for tests: offers made of bytes, sent through the storage seam the way a session does it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ftx.core.blocks import block_count, block_digest, block_length, file_digest
from ftx.disk.inbox import Inbox
from ftx.disk.store import (
    Answer,
    Failed,
    FileEntry,
    FolderEntry,
    Have,
    JobStore,
    Made,
    Refuse,
    Skip,
    Stored,
    Want,
    Whole,
)
from ftx.limits import BLOCK

__all__ = ["JOB", "MTIME", "PEER", "Sending", "content", "snapshot"]

PEER = b"p" * 32
JOB = b"j" * 16
MTIME = 1_700_000_000_123_456_789


def content(size: int, salt: int = 0) -> bytes:
    """`size` bytes, the same every time, different for every salt and block."""
    out = bytearray()
    for index in range(block_count(size)):
        length = block_length(size, index)
        pattern = b"%d-%d " % (salt, index)
        out += (pattern * (length // len(pattern) + 1))[:length]
    return bytes(out)


def blocks_of(data: bytes) -> list[bytes]:
    """The blocks of a file."""
    return [data[index * BLOCK : (index + 1) * BLOCK] for index in range(block_count(len(data)))]


def digest_of_content(data: bytes) -> bytes:
    """The file digest."""
    return file_digest(len(data), (block_digest([block]) for block in blocks_of(data)))


def snapshot(root: str | Path) -> dict[str, bytes | None]:
    """What a user sees in the inbox: every path except `.ftx`, with its content (None for a folder)."""
    found: dict[str, bytes | None] = {}
    for folder, folders, files in os.walk(root):
        if ".ftx" in folders and Path(folder) == Path(root):
            folders.remove(".ftx")
        for name in folders:
            found[os.path.relpath(os.path.join(folder, name), root)] = None
        for name in files:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, root)] = Path(path).read_bytes()
    return found


class Sending:
    """A job that offers a tree (`a/b` -> content, None for a folder) and sends what is wanted."""

    def __init__(
        self,
        inbox: Inbox,
        tree: Mapping[str, bytes | None],
        *,
        peer: bytes = PEER,
        job: bytes = JOB,
        into: tuple[bytes, ...] = (),
        conflict: str = "rename",
        mode: int = 0o644,
        mtime_ns: int = MTIME,
        checksum: bool = False,
        reads: bool = False,
    ) -> None:
        self.store: JobStore = inbox.begin(peer, job, into, conflict, reads=reads)
        self.checksum = checksum
        self.tree = {tuple(os.fsencode(path).split(b"/")): data for path, data in tree.items()}
        self.numbers = {path: number for number, path in enumerate(sorted(self.tree))}
        self.mode = mode
        self.mtime_ns = mtime_ns
        self.answers: dict[str, Answer] = {}
        self.outcomes: dict[str, Stored | Failed] = {}
        self.sent_blocks = 0

    def entries(self) -> list[FileEntry | FolderEntry]:
        """The manifest."""
        out: list[FileEntry | FolderEntry] = []
        for path, number in self.numbers.items():
            data = self.tree[path]
            if data is None:
                out.append(FolderEntry(number, path))
            else:
                digest = digest_of_content(data) if self.checksum else None
                out.append(FileEntry(number, path, len(data), self.mtime_ns, self.mode, digest))
        return out

    def offer(self) -> dict[str, Answer]:
        """Look everything up."""
        answers = self.store.look_up(self.entries())
        self.answers = {os.fsdecode(b"/".join(path)): answers[number] for path, number in self.numbers.items()}
        return self.answers

    def wanted(self, large: bool) -> list[tuple[tuple[bytes, ...], Want]]:
        """The files that were asked for, of one block or of several."""
        out = []
        for path in self.numbers:
            answer = self.answers[os.fsdecode(b"/".join(path))]
            if isinstance(answer, Want) and (block_count(len(self.tree[path] or b"")) > 1) is large:
                out.append((path, answer))
        return out

    def send_small(self) -> None:
        """Store the files of one block, in one batch."""
        files = self.wanted(large=False)
        wholes = [
            Whole(want.number, [self.tree[path] or b""], block_digest([self.tree[path] or b""])) for path, want in files
        ]
        for (path, _), outcome in zip(files, self.store.store_whole(wholes), strict=True):
            self.outcomes[os.fsdecode(b"/".join(path))] = outcome

    def send_blocks(self, path: tuple[bytes, ...], want: Want, stop: int | None = None, sync_every: int = 2) -> None:
        """Write the missing blocks of one file, syncing every so many; `stop` ends after as many."""
        data = self.tree[path] or b""
        for index, block in enumerate(blocks_of(data)):
            if want.held is not None and index in want.held:
                continue
            if stop is not None and self.sent_blocks >= stop:
                return
            chunks = None if not any(block) else [block[:1000], block[1000:]]
            assert self.store.write_block(want.number, index, chunks, block_digest([block]))
            self.sent_blocks += 1
            if self.sent_blocks % sync_every == 0:
                self.store.sync(want.number)

    def send_large(self) -> None:
        """Send and publish the files of several blocks."""
        for path, want in self.wanted(large=True):
            self.send_blocks(path, want)
            self.outcomes[os.fsdecode(b"/".join(path))] = self.store.publish(
                want.number, digest_of_content(self.tree[path] or b"")
            )

    def finish_folders(self, mode: int = 0o755) -> None:
        """End the folders, deepest first."""
        for path, data in sorted(self.tree.items(), key=lambda item: -len(item[0])):
            name = os.fsdecode(b"/".join(path))
            if data is None and isinstance(self.answers[name], Made):
                self.outcomes[name] = self.store.finish_folder(self.numbers[path], mode, self.mtime_ns)

    def run(self) -> dict[str, str]:
        """The whole job; what became of each entry: `stored as PATH`, `have PATH`, `skip`, or an error."""
        try:
            self.offer()
            return self.complete()
        finally:
            self.store.close()

    def complete(self) -> dict[str, str]:
        """What follows on the offer."""
        self.send_small()
        self.send_large()
        self.finish_folders()
        self.store.close()
        return {name: self.result(name) for name in self.answers}

    def result(self, name: str) -> str:
        """What became of one entry."""
        outcome = self.outcomes.get(name, self.answers[name])
        match outcome:
            case Stored(stored_as=path):
                return f"stored {os.fsdecode(b'/'.join(path))}"
            case Have(stored_as=path):
                return f"have {os.fsdecode(b'/'.join(path))}"
            case Skip():
                return "skip"
            case Failed(error=error) | Refuse(error=error):
                return error
        return "open"
