"""Files that are walked and read many with one call: the same is found and said as when it is done one by one."""

from __future__ import annotations

import os
import random
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from support.descriptors import descriptors
from support.inboxes import content
from support.other_user import as_nobody

from ftx.disk import many
from ftx.disk.outgoing import read_batch
from ftx.disk.selection import Selection
from ftx.disk.source import SourceFile, SourceItem, Walk, read_all, roots
from ftx.disk.walk import wire_time
from ftx.limits import BLOCK

pytestmark = pytest.mark.skipif(not many.available(), reason="many.c was not built: no C compiler")

#: Of files to be read; those of a batch are small.
SIZES = (0, 1, 4095, 4096, 4097, 60_000)
#: Seconds since 1970 that a file can be from.
FAR = (0, 1, -1, -2, 2**31, 2**33, -(2**40), 2**40, 2**62)


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From then on all is done as where there is no library."""
    return lambda: monkeypatch.setattr(many, "available", lambda: False)


def special(path: Path) -> None:
    """A socket."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def put(path: Path, seed: int) -> None:
    """One of all the things that can be in a folder: nearly always a file, of any size."""
    kinds: list[Callable[[], object]] = [
        lambda: path.mkdir(),
        lambda: path.symlink_to("elsewhere"),
        lambda: path.symlink_to("000"),
        lambda: os.mkfifo(path),
        lambda: special(path),
    ]
    if seed % 23 < len(kinds):
        kinds[seed % 23]()
    else:
        path.write_bytes(content(SIZES[seed % len(SIZES)], seed))
        path.chmod((0o644, 0o4755, 0o400, 0o000)[seed % 4])


def odd_tree(tree: Path, seed: int) -> Path:
    """Folders of many files with other things between them."""
    dice = random.Random(seed)
    for folder in ("", "a", "a/b", "c" * 40, "d"):
        (tree / folder).mkdir()
        for number in range(dice.choice((0, 3, 63, 64, 65, 200))):
            put(tree / folder / f"{number:03}", dice.randrange(1000))
    return tree


def walked(tree: Path, size: int, selection: Selection | None = None) -> list[SourceItem]:
    """All that there is, in batches of `size`."""
    walk = Walk(roots([str(tree)], "/"), selection)
    items: list[SourceItem] = []
    while batch := walk.batch(size):
        assert len(batch) <= size
        items += batch
    assert walk.batch(1) == []
    return items


def files_in(tree: Path) -> list[SourceFile]:
    """The files there."""
    return [item for item in walked(tree, 512) if isinstance(item, SourceFile)]


# -- walking ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("links", ["skip", "keep", "follow"])
@pytest.mark.parametrize("seed", range(5))
def test_a_walk_finds_the_same(short_tmp: Path, one_by_one: Callable[[], None], seed: int, links: str) -> None:
    tree = odd_tree(short_tmp / "tree", seed)
    selection = Selection(links=links)
    found = walked(tree, 512, selection)
    assert found == walked(tree, 7, selection)
    one_by_one()
    assert found == walked(tree, 100, selection)


def test_a_walk_that_ends_early_lets_go(tmp_path: Path) -> None:
    """Nothing of what was looked at is told after that."""
    for number in range(100):
        (tmp_path / f"{number}").touch()
    before = descriptors()
    walk = Walk(roots([str(tmp_path)], "/"))
    assert len(walk.batch(3)) == 3
    walk.close()
    assert walk.batch(3) == []
    assert descriptors() == before


def test_a_look_ends_at_what_is_no_file(tmp_path: Path, folder: int) -> None:
    """A link, whatever it leads to, anything else, and what is gone."""
    for name in ("a", "b", "d", "e"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "below").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for end in (b"link", b"below", b"pipe", b"none", b"n" * 256, b"", b"a/b", b"below/.."):
        assert len(many.look(folder, [b"a", b"b", end, b"d"])) == 2
        assert many.look(folder, [end]) == []
    assert many.look(folder, []) == []
    assert many.look(-1, [b"a"]) == []


def test_a_look_sees_what_stat_sees(tmp_path: Path, folder: int) -> None:
    """Times far away, too, as far as the wire can carry them."""
    names = [b"%d" % number for number in range(len(FAR))]
    for name, seconds in zip(names, FAR, strict=True):
        path = tmp_path / os.fsdecode(name)
        path.write_bytes(name * 3)
        os.utime(path, (0, seconds))
        path.chmod(0o4751)
    expected = []
    for name in names:
        status = os.stat(name, dir_fd=folder)
        times = wire_time(status.st_mtime_ns), wire_time(status.st_ctime_ns)
        expected.append((status.st_size, *times, status.st_ino, status.st_mode))
    assert many.look(folder, names) == expected
    assert stat.S_IMODE(expected[0][-1]) == 0o4751


# -- reading ---------------------------------------------------------------------------------------------------


def append(path: Path) -> None:
    """One byte more."""
    with path.open("ab") as file:
        file.write(b"!")


def overwrite(path: Path) -> None:
    """Another content, and the times from before: but for that of the change."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def again(path: Path, make: Callable[[Path], object]) -> None:
    """Something else in its place."""
    path.unlink()
    make(path)


CHANGES: list[Callable[[Path], object]] = [
    append,
    overwrite,
    lambda path: os.truncate(path, 0),
    lambda path: os.truncate(path, 100_000),
    lambda path: path.chmod(0o600),
    lambda path: path.unlink(),
    lambda path: path.rename(path.with_name("moved")),
    lambda path: again(path, os.mkfifo),
    lambda path: again(path, special),
    lambda path: again(path, lambda path: path.symlink_to("/dev/zero")),
    lambda path: again(path, lambda path: path.mkdir()),
    lambda path: again(path, lambda path: path.write_bytes(content(4096, 7))),
]


def outcomes(files: list[SourceFile]) -> list[bytes | str]:
    """What reading gives, which leaves nothing open."""
    before = descriptors()
    read = read_all(files)
    assert descriptors() == before
    return [one if isinstance(one, str) else bytes(one) for one in read]


@pytest.mark.parametrize("seed", range(len(CHANGES)))
def test_what_changed_since_the_walk(short_tmp: Path, one_by_one: Callable[[], None], seed: int) -> None:
    """One file of many, and then more of them; what is in the others is read."""
    dice = random.Random(seed)
    paths = [short_tmp / f"{number:02}" for number in range(60)]
    for number, path in enumerate(paths):
        path.write_bytes(content(SIZES[number % len(SIZES)], number))
        os.utime(path, (1, number))
    files = files_in(short_tmp)
    expected = [path.read_bytes() for path in paths]
    assert outcomes(files) == expected
    for changed in range(1, len(CHANGES)):
        CHANGES[(seed + changed) % len(CHANGES)](paths.pop(dice.randrange(len(paths))))
        names = {os.fsencode(path): path.read_bytes() for path in paths}
        read = outcomes(files)
        for file, one in zip(files, read, strict=True):
            if file.local in names:
                assert one == names[file.local]
            else:
                assert one in ("source-changed", "source-vanished")
    one_by_one()
    assert outcomes(files) == read
    assert sum(isinstance(one, str) for one in read) == len(CHANGES) - 1


def test_each_change_is_told_as_before(short_tmp: Path, one_by_one: Callable[[], None]) -> None:
    """All of them beside each other, a file that is as it was between each two: as frames, and what has failed."""
    for number in range(2 * len(CHANGES)):
        (short_tmp / f"{number:02}").write_bytes(content(4096, number))
    files = files_in(short_tmp)
    for number, change in enumerate(CHANGES):
        change(short_tmp / f"{2 * number:02}")
    numbered = list(enumerate(files))
    together = read_batch(numbered)
    assert len(together.read) == len(together.failed) == len(CHANGES)
    assert {name for _, name in together.failed} == {"source-changed", "source-vanished"}
    one_by_one()
    assert read_batch(numbered) == together


def test_sizes_around_a_block_and_holes(tmp_path: Path, one_by_one: Callable[[], None]) -> None:
    for size in (0, 1, BLOCK - 1, BLOCK):
        (tmp_path / f"noise-{size}").write_bytes(content(size, size))
        with (tmp_path / f"sparse-{size}").open("wb") as file:
            file.truncate(size)
    files = files_in(tmp_path)
    together = read_batch(list(enumerate(files)))
    assert together.size == 2 * BLOCK + 1, "holes of a page and more are not sent"
    one_by_one()
    assert read_batch(list(enumerate(files))) == together


def test_a_pseudo_file_is_not_empty(tmp_path: Path) -> None:
    """One that claims to be."""
    (tmp_path / "f").write_bytes(b"content")
    (before,) = files_in(tmp_path)
    pseudo = files_in(Path("/proc/version"))
    assert outcomes([before, *pseudo, before]) == [b"content", "source-changed", b"content"]


def test_a_path_that_is_too_long_is_read_nevertheless(short_tmp: Path) -> None:
    """The library stops at it; its neighbours are read, too."""
    fd = os.open(short_tmp, os.O_RDONLY)
    name = "n" * 200
    for _ in range(25):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    files = []
    for number in range(3):
        with open(os.open(f"{number}", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as file:
            file.write(b"%d" % number)
        status = os.stat(f"{number}", dir_fd=fd)
        local = os.fsencode(short_tmp) + (b"/" + name.encode()) * 25 + b"/%d" % number
        times = (status.st_mtime_ns, status.st_ctime_ns)
        files.append(SourceFile((b"f",), local, status.st_size, *times, status.st_ino, 0o644))
    os.close(fd)
    (short_tmp / "near").write_bytes(b"near")
    near = SourceFile((b"near",), os.fsencode(short_tmp / "near"), *_seen(short_tmp / "near"), 0o644)
    assert outcomes([near, *files, near]) == [b"near", b"0", b"1", b"2", b"near"]


def _seen(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_without_the_right_to_read(short_tmp: Path, one_by_one: Callable[[], None]) -> None:
    """A file, and a folder on the way; the others are read."""
    short_tmp.chmod(0o755)
    (short_tmp / "closed").mkdir(0o755)
    for name in ("a", "b", "c", "closed/d", "e"):
        (short_tmp / name).write_bytes(name.encode())
    (short_tmp / "b").chmod(0o600)
    files = files_in(short_tmp)
    (short_tmp / "closed").chmod(0o700)

    def read() -> str:
        return repr([one if isinstance(one, str) else bytes(one) for one in read_all(files)])

    expected = repr([b"a", "source-unreadable", b"c", "source-unreadable", b"e"])
    assert as_nobody(read) == expected
    one_by_one()
    assert as_nobody(read) == expected
