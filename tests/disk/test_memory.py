"""The sender's memory of digests: what it recalls, when it must not, and how it ends."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from msgspec import structs

from ftx import limits
from ftx.core.blocks import block_count, block_digest, file_digest
from ftx.disk.memory import DigestMemory
from ftx.disk.source import OpenSource, SourceFile
from ftx.limits import BLOCK

NOW = 1_800_000_000.0
FILE = SourceFile(
    path=(b"movie",),
    local=b"/home/me/movie",
    size=3 * BLOCK + 5,
    mtime_ns=-1,
    ctime_ns=int((NOW - 60) * 10**9),
    inode=2**64 - 1,
    mode=0o644,
)
DIGESTS = [bytes([number]) * 32 for number in range(4)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "digests"


@pytest.fixture
def memory(folder: Path) -> DigestMemory:
    return DigestMemory(str(folder))


def remember(memory: DigestMemory, file: SourceFile = FILE, blocks: int = 4, now: float = NOW) -> None:
    journal = memory.start(file, now)
    for number in range(blocks):
        journal.set(number, DIGESTS[number % 4])
    journal.commit(sync=False)
    journal.close()


def recalled(memory: DigestMemory, file: SourceFile = FILE) -> list[int] | None:
    journal = memory.recall(file)
    if journal is None:
        return None
    blocks = list(journal.blocks)
    assert [journal.digest(block) for block in blocks] == [DIGESTS[block % 4] for block in blocks]
    journal.close()
    return blocks


def test_nothing_is_remembered_at_first(memory: DigestMemory, folder: Path) -> None:
    assert recalled(memory) is None
    memory.forget(FILE)
    assert memory.clean(NOW) == 0
    assert not folder.exists()


def test_what_was_read_is_recalled_and_continued(memory: DigestMemory, folder: Path) -> None:
    remember(memory, blocks=2)
    assert recalled(DigestMemory(str(folder))) == [0, 1]
    journal = memory.recall(FILE)
    assert journal is not None
    journal.set(2, DIGESTS[2])
    journal.set(3, DIGESTS[3])
    journal.commit(sync=False)
    assert journal.file_digest() == file_digest(FILE.size, DIGESTS)
    journal.close()
    assert recalled(memory) == [0, 1, 2, 3]


@pytest.mark.case("C71")
@pytest.mark.parametrize(
    "change",
    [
        {"size": 3 * BLOCK + 6},
        {"inode": 1},
        {"mtime_ns": 0},
        {"ctime_ns": FILE.ctime_ns + 1},
        {"local": b"/home/me/other"},
    ],
)
def test_a_file_in_another_state_is_not_the_one_remembered(
    memory: DigestMemory, change: dict[str, object]
) -> None:
    remember(memory)
    other = structs.replace(FILE, **change)
    assert recalled(memory, other) is None
    assert recalled(memory) == [0, 1, 2, 3]


def test_a_new_state_takes_the_place_of_the_old(memory: DigestMemory, folder: Path) -> None:
    remember(memory)
    changed = structs.replace(FILE, ctime_ns=FILE.ctime_ns + 1)
    remember(memory, changed, blocks=1)
    assert recalled(memory, changed) == [0]
    assert recalled(memory) is None
    assert len(os.listdir(folder)) == 1


def test_a_file_changed_just_now_is_not_remembered(memory: DigestMemory) -> None:
    remember(memory)
    for age in (1.9, 0.0, -5.0):
        young = structs.replace(FILE, ctime_ns=int((NOW - age) * 10**9))
        remember(memory, young)
        assert recalled(memory, young) is None
    assert recalled(memory) is None  # what was known of the path is out of date as well
    old = structs.replace(FILE, ctime_ns=int((NOW - 2.1) * 10**9))
    remember(memory, old)
    assert recalled(memory, old) == [0, 1, 2, 3]


def test_what_is_in_use_is_nobody_elses(memory: DigestMemory, folder: Path) -> None:
    remember(memory, blocks=3)
    journal = memory.recall(FILE)
    assert journal is not None
    assert memory.recall(FILE) is None
    remember(memory, blocks=1)  # in a journal of its own, which is forgotten
    assert journal.digest(2) == DIGESTS[2]
    journal.close()
    assert recalled(memory) == [0, 1, 2]


def test_forgetting(memory: DigestMemory, folder: Path) -> None:
    remember(memory)
    memory.forget(FILE)
    assert recalled(memory) is None
    assert os.listdir(folder) == []


def test_it_is_private(memory: DigestMemory, folder: Path) -> None:
    remember(memory)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]
    assert all("movie" not in name for name in os.listdir(folder))


def test_damage_is_forgetfulness(memory: DigestMemory, folder: Path) -> None:
    remember(memory)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], bytes(len(whole)), b"x" + whole[1:]):
        path.write_bytes(damaged)
        assert not recalled(memory)
    path.unlink()
    path.symlink_to("/dev/null")
    assert recalled(memory) is None
    path.unlink()
    os.mkfifo(path)
    assert recalled(memory) is None
    remember(memory)


@pytest.mark.parametrize("obstacle", ["file", "missing parent", "open to others"])
def test_without_a_usable_folder_sending_still_works(folder: Path, obstacle: str) -> None:
    if obstacle == "file":
        folder.write_bytes(b"")
    elif obstacle == "open to others":
        folder.mkdir()
        folder.chmod(0o777)
    else:
        folder /= "below"
    memory = DigestMemory(str(folder))
    journal = memory.start(FILE, NOW)
    for number, digest in enumerate(DIGESTS):
        journal.set(number, digest)
    journal.commit(sync=False)
    assert journal.file_digest() == file_digest(FILE.size, DIGESTS)
    journal.close()
    assert recalled(memory) is None


def test_the_oldest_and_the_too_many_are_forgotten(memory: DigestMemory, folder: Path) -> None:
    names = [f"/f{number}".encode() for number in range(limits.DIGEST_FILES + 3)]
    files = [structs.replace(FILE, local=name, size=BLOCK + 1) for name in names]
    for file in files:
        memory.start(file, NOW).close()
    day = 86400
    for age, path in enumerate(sorted(folder.iterdir())):
        os.utime(path, (NOW - age, NOW - age))
    assert memory.clean(NOW) == 3
    assert len(os.listdir(folder)) == limits.DIGEST_FILES
    for path in sorted(folder.iterdir())[10:]:
        os.utime(path, (NOW - 91 * day, NOW - 91 * day))
    assert memory.clean(NOW) == limits.DIGEST_FILES - 10
    assert memory.clean(NOW) == 0


def test_recalling_keeps_it_young(memory: DigestMemory, folder: Path) -> None:
    remember(memory)
    (path,) = folder.iterdir()
    os.utime(path, (1, 1))
    assert recalled(memory) is not None
    assert path.stat().st_mtime > 1


def test_with_a_real_file(memory: DigestMemory, tmp_path: Path) -> None:
    """Walk, read, remember; walk again and recall: the digest needs no second reading."""
    from ftx.disk.source import Walk, roots

    path = tmp_path / "movie"
    path.write_bytes(os.urandom(2 * BLOCK + 100))

    def walked() -> SourceFile:
        (item,) = Walk(roots([str(path)], "/")).batch(1)
        assert isinstance(item, SourceFile)
        return item

    file = walked()
    now = file.ctime_ns / 1e9 + 10
    journal = memory.start(file, now)
    source = OpenSource.open(file)
    digests = [block_digest([source.read(index)]) for index in range(block_count(file.size))]
    source.unchanged()
    source.close()
    for index, digest in enumerate(digests):
        journal.set(index, digest)
    journal.commit(sync=False)
    journal.close()
    again = memory.recall(walked())
    assert again is not None
    assert again.file_digest() == file_digest(file.size, digests)
    again.close()
    os.truncate(path, BLOCK + 1)
    assert memory.recall(walked()) is None
