"""Reading sources: exactly what the walk saw, or an error that says what happened to it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.other_user import as_nobody

from ftx.disk.source import OpenSource, SourceFile, Walk, read_whole, roots
from ftx.errors import FtxError
from ftx.limits import BLOCK

SIZES = [0, 1, 4096, BLOCK - 1, BLOCK]
LARGE = [BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 777]


def walked(path: Path) -> SourceFile:
    """The file as the walk sees it now."""
    (item,) = Walk(roots([str(path)], "/")).batch(2)
    assert isinstance(item, SourceFile)
    return item


def made(path: Path, size: int) -> SourceFile:
    path.write_bytes(os.urandom(size))
    return walked(path)


def later(path: Path) -> None:
    """Make sure that a change of `path` shows in its times, however coarse the clock: touch it until it does."""
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:
        path.chmod(path.stat().st_mode)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x")


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def error_of(action: Callable[[], object]) -> str:
    with pytest.raises(FtxError) as caught:
        action()
    return caught.value.name


def open_and_close(file: SourceFile) -> None:
    OpenSource.open(file).close()


@pytest.mark.parametrize("size", SIZES)
def test_a_file_of_one_block_is_read_whole(tmp_path: Path, size: int) -> None:
    file = made(tmp_path / "f", size)
    assert read_whole(file) == (tmp_path / "f").read_bytes()


@pytest.mark.parametrize("size", SIZES + LARGE)
def test_blocks_are_read_in_any_order(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "f").write_bytes(content)
    source = OpenSource.open(walked(tmp_path / "f"))
    try:
        starts = range(0, max(size, 1), BLOCK)
        blocks = {start: source.read(start // BLOCK) for start in reversed(starts)}
        assert b"".join(blocks[start] for start in starts) == content
        source.unchanged()
    finally:
        source.close()
        source.close()


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "grown": (append, "source-changed"),
    "shrunk": (lambda path: os.truncate(path, 10), "source-changed"),
    "rewritten": (overwrite, "source-changed"),
    "replaced": (lambda path: os.rename(path.with_name("other"), path), "source-changed"),
    "now a link": (lambda path: (path.unlink(), path.symlink_to("other")), "source-changed"),
    "now a folder": (lambda path: (path.unlink(), path.mkdir()), "source-changed"),
    "now a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "source-changed"),
    "now a socket": (lambda path: (path.unlink(), bind(path)), "source-changed"),
    "gone": (lambda path: path.unlink(), "source-vanished"),
}


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize("size", [4096, BLOCK + 4096])
def test_a_file_that_changed_since_the_walk_is_not_read(tmp_path: Path, change: str, size: int) -> None:
    path = tmp_path / "f"
    made(tmp_path / "other", size)
    file = made(path, size)
    later(path)
    file = walked(path)
    later(path)
    action, name = CHANGES[change]
    action(path)
    assert error_of(lambda: read_whole(file)) == name
    assert error_of(lambda: open_and_close(file)) == name


@pytest.mark.case("C71")
def test_a_change_that_hides_its_mtime_is_found(tmp_path: Path) -> None:
    """Same size, same mtime, same inode: ctime tells."""
    path = tmp_path / "f"
    file = made(path, 4096)
    later(path)
    file = walked(path)
    later(path)
    with path.open("r+b") as same:
        same.write(b"other")
    os.utime(path, ns=(file.mtime_ns, file.mtime_ns))
    assert path.stat().st_mtime_ns == file.mtime_ns
    assert error_of(lambda: read_whole(file)) == "source-changed"


def test_a_folder_on_the_way_that_became_a_link_leads_to_no_other_file(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "f").write_bytes(b"same size")
    file = walked(tmp_path / "a" / "f")
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "a").symlink_to("b")
    assert error_of(lambda: read_whole(file)) == "source-changed"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda path: os.truncate(path, BLOCK + 10), "source-changed"),
        (append, "source-changed"),
    ],
)
def test_a_change_while_reading_is_found_by_the_read(
    tmp_path: Path, change: Callable[[Path], object], name: str
) -> None:
    path = tmp_path / "f"
    source = OpenSource.open(made(path, 2 * BLOCK))
    try:
        source.read(0)
        change(path)
        assert error_of(lambda: source.read(1)) == name
    finally:
        source.close()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (overwrite, "source-changed"),
        (lambda path: path.unlink(), "source-vanished"),
    ],
)
def test_a_change_behind_the_read_is_found_at_the_end(
    tmp_path: Path, change: Callable[[Path], object], name: str
) -> None:
    path = tmp_path / "f"
    source = OpenSource.open(made(path, BLOCK + 5))
    try:
        source.read(0)
        source.read(1)
        source.unchanged()
        later(path)
        change(path)
        assert error_of(source.unchanged) == name
    finally:
        source.close()


@pytest.mark.parametrize("pseudo", ["/proc/self/status", "/proc/version"])
def test_a_file_that_claims_to_be_empty_is_not_taken_for_empty(pseudo: str) -> None:
    file = walked(Path(pseudo))
    assert file.size == 0
    assert error_of(lambda: read_whole(file)) == "source-changed"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_a_file_without_the_right_to_read_says_so(short_tmp: Path) -> None:
    short_tmp.chmod(0o755)
    path = short_tmp / "f"
    file = made(path, 10)
    path.chmod(0o600)
    file = walked(path)

    def read() -> str:
        answers = []
        for action in (read_whole, open_and_close):
            try:
                action(file)
            except FtxError as error:
                answers.append(f"{error.name}: {error.message}")
        return "\n".join(answers)

    sentence = "source-unreadable: the source cannot be read: permission denied"
    assert as_nobody(read).splitlines() == [sentence, sentence]


def test_a_path_longer_than_the_kernel_takes_is_read(tmp_path: Path) -> None:
    """The tree is inside another long path, so that what the walk accepts is more than PATH_MAX from the root."""
    name = "n" * 200
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(25):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    writing = os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    os.write(writing, b"far away")
    os.close(writing)
    status = os.stat("f", dir_fd=fd)
    os.close(fd)
    local = os.fsencode(tmp_path) + (b"/" + name.encode()) * 25 + b"/f"
    times = (status.st_mtime_ns, status.st_ctime_ns)
    file = SourceFile((b"f",), local, status.st_size, *times, status.st_ino, 0o644)
    assert read_whole(file) == b"far away"
    before = len(os.listdir("/proc/self/fd"))
    open_and_close(file)
    assert len(os.listdir("/proc/self/fd")) == before


def test_failures_leave_no_descriptor(tmp_path: Path) -> None:
    file = made(tmp_path / "f", 100)
    later(tmp_path / "f")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert error_of(lambda: read_whole(file)) == "source-changed"
        assert error_of(lambda: open_and_close(file)) == "source-changed"
    assert len(os.listdir("/proc/self/fd")) == before
