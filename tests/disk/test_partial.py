"""Partials: what survives, what is believed, and what runs beside what."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.inboxes import PEER, blocks_of, content, digest_of_content

from ftx.core.blocks import block_digest, zero_digest
from ftx.disk.partial import Partial, write_all
from ftx.disk.root import Means, Root
from ftx.disk.staging import Staging, partial_key
from ftx.limits import BLOCK, PARTIAL_DAYS

DATA = content(5 * BLOCK + 17)
BLOCKS = blocks_of(DATA)
KEY = partial_key(PEER, b"a/b", len(DATA), 1)


@pytest.fixture(params=[True, False], ids=["fallocate", "no-fallocate"])
def staging(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Staging]:
    """A staging folder, with and without reservations."""
    root = Root(str(tmp_path), Means())
    held = Staging(root, fallocate=request.param)
    yield held
    held.close()
    root.close()


def open_partial(staging: Staging, key: bytes = KEY, size: int = len(DATA)) -> Partial:
    """The partial, opened."""
    return Partial(staging, key, size, lambda taken: None, 0)


def write(partial: Partial, *blocks: int) -> None:
    """Write blocks of DATA."""
    for index in blocks:
        assert partial.write(index, [BLOCKS[index]], block_digest([BLOCKS[index]]))


def held(staging: Staging, size: int = len(DATA)) -> list[int]:
    """The blocks a new look finds durable."""
    found = staging.held(KEY, size)
    return [] if found is None else sorted(found)


def part(tmp_path: Path) -> Path:
    """The staged file."""
    return tmp_path / ".ftx" / "partial" / KEY.hex()


@pytest.mark.case("C69")
def test_key_depends_on_everything() -> None:
    """Another peer, path, size or time is another partial."""
    keys = {
        partial_key(peer, path, size, mtime)
        for peer in (b"p" * 32, b"q" * 32)
        for path in (b"a", b"a/b")
        for size in (1, 2)
        for mtime in (-1, 2**62)
    }
    assert len(keys) == 16


@pytest.mark.case("C70")
def test_durable_after_sync_only(staging: Staging, tmp_path: Path) -> None:
    """A kill loses what was not synced, and nothing else."""
    partial = open_partial(staging)
    write(partial, 0, 3)
    assert partial.sync() == 2 * BLOCK
    write(partial, 5, 1)
    assert held(staging) == [0, 3]
    assert partial.sync() == 3 * BLOCK + 17
    assert held(staging) == [0, 1, 3, 5]
    assert partial.sync() == 3 * BLOCK + 17
    partial.release()
    assert part(tmp_path).stat().st_mode & 0o7777 == 0o600


def test_mismatch_writes_nothing(staging: Staging, tmp_path: Path) -> None:
    """A block whose bytes, length or zeros do not fit its digest is refused."""
    partial = open_partial(staging)
    wrong = block_digest([b"something else"])
    assert not partial.write(0, [BLOCKS[0]], wrong)
    assert not partial.write(0, [BLOCKS[0][:-1]], block_digest([BLOCKS[0][:-1]]))
    assert not partial.write(1, None, wrong)
    assert not any(part(tmp_path).read_bytes())
    assert partial.sync() == 0
    write(partial, 0)
    assert partial.write(0, [BLOCKS[0]], block_digest([BLOCKS[0]]))
    other = bytes(BLOCK)
    assert not partial.write(0, [other], block_digest([other]))
    assert part(tmp_path).read_bytes()[:BLOCK] == BLOCKS[0]
    partial.release()


def test_zero_blocks_overwrite_what_a_kill_left(staging: Staging, tmp_path: Path) -> None:
    """Bytes that the journal does not speak of do not survive in a hole."""
    partial = open_partial(staging)
    write(partial, 0)
    partial.sync()
    write(partial, 1, 5)
    partial.release()  # as by a kill: written, never in the journal
    partial = open_partial(staging)
    assert partial.write(1, None, zero_digest(BLOCK))
    assert partial.write(5, None, zero_digest(17))
    partial.sync()
    partial.release()
    expected = BLOCKS[0] + bytes(len(DATA) - BLOCK)
    assert part(tmp_path).read_bytes() == expected
    assert held(staging) == [0, 1, 5]


@pytest.mark.parametrize("synced", [True, False])
def test_resume_completes(staging: Staging, synced: bool) -> None:
    """The file digest is the same with a journal, without one, and over a resume."""
    partial = open_partial(staging)
    if synced:
        write(partial, 4, 2)
        partial.sync()
        partial.release()
        partial = open_partial(staging)
    assert partial.file_digest() is None
    write(partial, 0, 1, 2, 3, 4, 5)
    assert partial.file_digest() == digest_of_content(DATA)
    status = partial.finalise(0o640, 12345)
    assert (status.st_mode & 0o7777, status.st_mtime_ns, status.st_size) == (0o640, 12345, len(DATA))
    partial.release()


def test_close_makes_durable_and_gives_space_back(staging: Staging, tmp_path: Path) -> None:
    """An interrupted partial takes the space of its blocks, not of the whole file."""
    size = 64 * BLOCK
    partial = open_partial(staging, size=size)
    block = os.urandom(BLOCK)
    assert partial.write(9, [block], block_digest([block]))
    partial.close()
    assert held(staging, size) == [9]
    assert part(tmp_path).stat().st_blocks * 512 <= 2 * BLOCK
    assert part(tmp_path).stat().st_size == size


def test_nothing_is_kept_that_holds_nothing(staging: Staging, tmp_path: Path) -> None:
    """A peer whose blocks never verify, or that sends none at all, leaves no files behind; one good block stays."""
    for attempt in ((), (0,)):
        partial = open_partial(staging)
        for index in attempt:
            assert not partial.write(index, [BLOCKS[index]], bytes(32))
        partial.close()
        assert os.listdir(part(tmp_path).parent) == []
    partial = open_partial(staging)
    write(partial, 1)
    partial.close()
    assert held(staging) == [1]


@pytest.mark.case("D78")
@pytest.mark.parametrize("harm", ["hard link", "symlink", "size", "journal", "no journal", "owner", "folder", "fifo"])
def test_partial_that_was_tampered_with_is_not_believed(staging: Staging, tmp_path: Path, harm: str) -> None:
    """It counts as nothing, and the next block begins a new one without touching what the old name led to."""
    if harm == "owner" and os.geteuid() != 0:
        pytest.skip("needs root")
    partial = open_partial(staging)
    write(partial, 0)
    partial.sync()
    partial.release()
    path, journal = part(tmp_path), part(tmp_path).with_name(KEY.hex() + ".journal")
    other = tmp_path / "other"
    if harm == "hard link":
        os.link(path, other)
    elif harm == "symlink":
        path.rename(other)
        path.symlink_to(other)
    elif harm == "size":
        os.truncate(path, len(DATA) - 1)
    elif harm == "journal":
        journal.write_bytes(b"x" * 5000)
    elif harm == "no journal":
        journal.unlink()
    elif harm == "owner":
        os.chown(path, 12345, 12345)
    elif harm == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.unlink()
        os.mkfifo(path)
    before = other.read_bytes() if other.exists() else b""
    assert held(staging) == []
    if harm == "folder":
        path.rmdir()
    partial = open_partial(staging)
    write(partial, 1)
    assert partial.sync() == BLOCK
    partial.release()
    assert held(staging) == [1]
    assert not other.exists() or other.read_bytes() == before


def test_old_journal_does_not_speak_for_new_content(staging: Staging, tmp_path: Path) -> None:
    """A kill after publishing leaves a full journal; a new partial of the same key begins empty all the same."""
    partial = open_partial(staging)
    write(partial, *range(6))
    partial.sync()
    partial.release()
    part(tmp_path).unlink()
    assert held(staging) == []
    partial = open_partial(staging)
    assert partial.file_digest() is None
    write(partial, 2)
    partial.sync()
    partial.release()
    assert held(staging) == [2]


def test_sync_beside_writes(staging: Staging) -> None:
    """Blocks written while a sync runs are in a later one; none is lost, none is claimed too early."""
    size = 200 * BLOCK
    partial = open_partial(staging, size=size)
    block = content(BLOCK, 3)
    digest = block_digest([block])
    order = list(range(200))
    random.Random(1).shuffle(order)
    written = threading.Event()
    durable: list[int] = []

    def keep_syncing() -> None:
        while not written.is_set():
            durable.append(partial.sync())

    thread = threading.Thread(target=keep_syncing)
    thread.start()
    for index in order:
        assert partial.write(index, [block], digest)
    written.set()
    thread.join()
    assert durable == sorted(durable)
    assert partial.sync() == size
    assert partial.file_digest() is not None
    partial.release()
    found = staging.held(KEY, size)
    assert found is not None
    assert found.complete


@pytest.mark.case("E87")
def test_short_writes_are_finished(tmp_path: Path) -> None:
    """Thousands of pieces, more than one call takes, arrive whole and in order."""
    chunks = [bytes([n % 251]) * (n % 7) for n in range(5000)]
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    write_all(fd, chunks, 3)
    os.close(fd)
    assert (tmp_path / "f").read_bytes() == bytes(3) + b"".join(chunks)


@pytest.mark.case("H133")
def test_clean_removes_by_age_and_never_what_is_in_use(staging: Staging, tmp_path: Path) -> None:
    """Abandoned partials, orphaned journals and other processes' staged files go; what a job uses stays."""
    partial = open_partial(staging)
    write(partial, 0)
    partial.sync()
    partial.release()
    folder = part(tmp_path).parent
    orphan = folder / ("ab" * 32 + ".journal")
    orphan.write_bytes(b"")
    begun = bytes.fromhex("cd" * 32)
    (folder / (begun.hex() + ".journal")).write_bytes(b"")
    staging.use(begun)
    own, foreign = folder / staging.fresh_name().decode(), folder / "whole-0123456789abcdef-0"
    own.write_bytes(b"")
    foreign.write_bytes(b"")
    (folder / "somebody's notes").write_bytes(b"")
    now = part(tmp_path).stat().st_ctime
    assert staging.clean(now + 60) == 0
    assert not foreign.exists()
    assert not orphan.exists(), "a journal that could not be removed with its partial"
    assert (folder / (begun.hex() + ".journal")).exists(), "a job has just begun with it"
    staging.leave(begun)
    late = now + PARTIAL_DAYS * 86400 + 60
    staging.use(KEY)
    assert staging.clean(late) == 0
    assert held(staging) == [0]
    staging.leave(KEY)
    assert staging.clean(late) == 1
    assert {path.name for path in folder.iterdir()} == {own.name, "somebody's notes"}
