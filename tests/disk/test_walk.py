"""Walking what is to be sent: order, ends, problems, and the same answer from counting."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.other_user import as_nobody

from ftx import limits
from ftx.disk.listing import sorted_names
from ftx.disk.source import (
    Root,
    SourceFile,
    SourceFolder,
    SourceFolderEnd,
    SourceItem,
    SourceProblem,
    Totals,
    Walk,
    count,
    roots,
)
from ftx.disk.walk import wire_time
from ftx.errors import FtxError


def everything(*sources: str | Path, cwd: str = "/", size: int = 7) -> list[SourceItem]:
    """All items of a walk, taken in batches of `size`; checks the shape that every walk must have."""
    found = roots([os.fspath(source) for source in sources], cwd)
    walk = Walk(found)
    items: list[SourceItem] = []
    while batch := walk.batch(size):
        assert len(batch) <= size
        items += batch
    assert walk.batch(size) == []
    folders: list[tuple[bytes, ...]] = []
    last: tuple[bytes, ...] = ()
    for item in items:
        if isinstance(item, SourceFolderEnd):
            assert folders.pop() == item.path
            continue
        assert item.path[:-1] == (folders[-1] if folders else ())
        assert item.path > last
        last = item.path
        if isinstance(item, SourceFolder):
            folders.append(item.path)
    assert folders == []
    return items


def told(items: list[SourceItem]) -> list[str]:
    """The items as short text."""
    signs = {SourceFile: "", SourceFolder: "+", SourceFolderEnd: "-", SourceProblem: "!"}
    return [
        signs[type(item)]
        + b"/".join(item.path).decode("utf-8", "backslashreplace")
        + (f" {item.error.name}" if isinstance(item, SourceProblem) else "")
        for item in items
    ]


def totals(items: list[SourceItem]) -> Totals:
    files = [item for item in items if isinstance(item, SourceFile)]
    folders = [item for item in items if isinstance(item, SourceFolder)]
    return Totals(len(files), len(folders), sum(file.size for file in files))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    for folder in ("", "b", "b/deep", "empty"):
        (top / folder).mkdir()
    for name, content in {"a": b"1", "b.txt": b"22", "b/x": b"", "b/deep/y": b"333", "z": b"4444"}.items():
        (top / name).write_bytes(content)
    return top


def test_depth_first_and_in_byte_order(tree: Path) -> None:
    """A folder comes where its own name sorts among its siblings: `b` before `b.txt`."""
    items = everything(tree)
    assert told(items) == [
        *["+top", "top/a", "+top/b", "+top/b/deep", "top/b/deep/y", "-top/b/deep", "top/b/x", "-top/b"],
        *["top/b.txt", "+top/empty", "-top/empty", "top/z", "-top"],
    ]
    assert totals(items) == count(roots([str(tree)], "/")) == Totals(5, 4, 10)


def test_a_file_is_described_as_it_is(tree: Path) -> None:
    file = tree / "a"
    file.chmod(0o4751)
    os.utime(file, ns=(0, -1_234_567_890_123_456_789))
    item = everything(file)[0]
    status = file.stat()
    assert item == SourceFile(
        (b"a",), os.fsencode(file), 1, -1_234_567_890_123_456_789, status.st_ctime_ns, status.st_ino, 0o751
    )


def test_the_end_of_a_folder_has_its_mode_and_time(tree: Path) -> None:
    (tree / "empty").chmod(0o2750)
    os.utime(tree / "empty", ns=(0, -5))
    assert everything(tree / "empty")[1] == SourceFolderEnd((b"empty",), 0o750, -5)


def test_times_are_cut_to_what_the_wire_can_say() -> None:
    assert wire_time(-1) == -1
    assert wire_time(2**63) == 2**63 - 1
    assert wire_time(-(2**64)) == -(2**63)


def test_roots_are_named_and_ordered(tree: Path) -> None:
    cwd = str(tree)
    assert roots(["z/", "b/", "a"], cwd) == (
        Root(b"a", os.fsencode(tree / "a")),
        Root(b"b", os.fsencode(tree / "b")),
        Root(b"z", os.fsencode(tree / "z")),
    )
    top = Root(b"top", os.fsencode(tree))
    for spelling in (".", "./", "b/..", "b/../", "b/deep/../..", str(tree) + "///", os.fsencode(tree)):
        assert roots([spelling], cwd) == (top,)
    assert roots([".."], str(tree / "b")) == (top,)


def test_a_link_that_is_named_is_followed_and_keeps_its_name(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "shortcut").symlink_to(tree / "b")
    (tmp_path / "file").symlink_to("top/a")
    assert told(everything(tmp_path / "shortcut")) == [
        *["+shortcut", "+shortcut/deep", "shortcut/deep/y", "-shortcut/deep", "shortcut/x", "-shortcut"],
    ]
    (item,) = everything(tmp_path / "file")
    assert isinstance(item, SourceFile)
    assert (item.path, item.local) == ((b"file",), os.fsencode(tree / "a"))


@pytest.mark.parametrize(
    ("sources", "name"),
    [
        (["nothing"], "source-missing"),
        (["a/below-a-file"], "source-missing"),
        (["a\0b"], "source-missing"),
        ([""], "source-missing"),
        (["loop"], "source-unreadable"),
        (["dangling"], "source-missing"),
        (["pipe"], "special-file"),
        (["a", "b/../a"], "duplicate-name"),
        (["b/x", "x"], "duplicate-name"),
        (["/"], "usage"),
        (["x" * 5000], "source-unreadable"),
    ],
)
def test_sources_that_cannot_be_sent_are_refused(tree: Path, sources: list[str], name: str) -> None:
    (tree / "x").write_bytes(b"")
    (tree / "loop").symlink_to("loop")
    (tree / "dangling").symlink_to("nothing")
    os.mkfifo(tree / "pipe")
    with pytest.raises(FtxError) as caught:
        roots(sources, str(tree))
    assert caught.value.name == name
    assert caught.value.message.isprintable()


def test_a_named_pipe_refers_to_standard_input(tree: Path) -> None:
    """`send <(command)` names one."""
    os.mkfifo(tree / "pipe")
    reading, writing = os.pipe()
    try:
        for source in ("pipe", f"/dev/fd/{reading}"):
            with pytest.raises(FtxError) as caught:
                roots([source], str(tree))
            assert caught.value.name == "special-file"
            assert "ftx-client send - --name NAME" in caught.value.hint
    finally:
        os.close(reading)
        os.close(writing)


def test_what_is_neither_file_nor_folder_is_skipped_and_said(tree: Path) -> None:
    os.mkfifo(tree / "empty" / "pipe")
    (tree / "empty" / "link").symlink_to("../b")
    (tree / "empty" / "dangling").symlink_to("nothing")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tree / "empty" / "socket"))
    items = everything(tree / "empty")
    assert told(items) == [
        "+empty",
        *(f"!empty/{name} special-file" for name in ("dangling", "link", "pipe", "socket")),
        "-empty",
    ]
    assert count(roots([str(tree / "empty")], "/")) == Totals(0, 1, 0)


def test_names_are_bytes(tmp_path: Path) -> None:
    top = os.fsencode(tmp_path / "top")
    os.mkdir(top)
    names = [b"\xff\xfe", b"new\nline", b"\x1b[31m", b"a", "é".encode(), b"a" * 255, b" "]
    for name in names:
        with open(top + b"/" + name, "wb"):
            pass
    items = everything(tmp_path / "top")
    assert [item.path for item in items[1:-1]] == [(b"top", name) for name in sorted(names)]
    assert count(roots([top], "/")) == Totals(len(names), 1, 0)


def test_too_deep_is_a_problem_and_nothing_below_is_looked_at(tmp_path: Path) -> None:
    deepest = tmp_path / "d"
    for _ in range(limits.DEPTH - 2):
        deepest /= "d"
    deepest.mkdir(parents=True)
    (deepest / "file").write_bytes(b"1")  # component 64
    (deepest / "more").mkdir()
    (deepest / "more" / "file").write_bytes(b"1")
    (deepest / "more" / "folder").mkdir()
    items = everything(tmp_path / "d")
    assert max(len(item.path) for item in items if not isinstance(item, SourceProblem)) == limits.DEPTH
    problems = [item for item in items if isinstance(item, SourceProblem)]
    assert [problem.path[-2:] for problem in problems] == [(b"more", b"file"), (b"more", b"folder")]
    assert {problem.error.name for problem in problems} == {"bad-name"}
    assert "64 components" in problems[0].error.message
    assert totals(items) == count(roots([str(tmp_path / "d")], "/")) == Totals(1, limits.DEPTH, 1)


def make_long_path(top: Path, folders: int) -> None:
    """Folders of 255 bytes inside each other, further down than one path can say, and a file `x` in the last."""
    name = "n" * 255
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(folders):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("x", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(os.open("y" * 255, os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)


def test_too_long_a_path_is_a_problem(tmp_path: Path) -> None:
    """15 x 256 + 2 = 3,842 bytes of folders: `x` fits into 4,096, the other name does not."""
    make_long_path(tmp_path / "to", 15)
    items = everything(tmp_path / "to")
    problems = [item for item in items if isinstance(item, SourceProblem)]
    assert [(problem.path[-1], problem.error.name) for problem in problems] == [(b"y" * 255, "bad-name")]
    assert "4096 bytes" in problems[0].error.message
    assert totals(items) == count(roots([str(tmp_path / "to")], "/")) == Totals(1, 16, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_what_may_not_be_read_is_a_problem_not_an_end(short_tmp: Path) -> None:
    """A folder that cannot be listed is left out; one that can be listed but not entered has problems inside."""
    short_tmp.chmod(0o755)
    top = short_tmp / "top"
    for folder in ("closed", "listed"):
        (top / folder).mkdir(parents=True)
        (top / folder / "file").write_bytes(b"1")
    (top / "open").write_bytes(b"22")
    (top / "closed").chmod(0o311)
    (top / "listed").chmod(0o744)

    def walk() -> str:
        items = everything(top)
        return "\n".join(
            [*told(items), str(totals(items) == count(roots([str(top)], "/")))]
            + [item.error.message for item in items if isinstance(item, SourceProblem)]
        )

    assert as_nobody(walk).splitlines() == [
        *["+top", "!top/closed source-unreadable", "+top/listed", "!top/listed/file source-unreadable"],
        *["-top/listed", "top/open", "-top", "True"],
        *["the source cannot be read: permission denied"] * 2,
    ]

    def name_it() -> str:
        with pytest.raises(FtxError) as caught:
            roots([str(top / "listed" / "file")], "/")
        return caught.value.name

    assert as_nobody(name_it) == "source-unreadable"


def test_what_vanishes_while_walking_is_a_problem(tree: Path) -> None:
    walk = Walk(roots([str(tree)], "/"))
    assert told(walk.batch(2)) == ["+top", "top/a"]
    (tree / "z").unlink()
    (tree / "b.txt").unlink()
    (tree / "b.txt").symlink_to("/etc")
    assert told(walk.batch(100)) == [
        *["+top/b", "+top/b/deep", "top/b/deep/y", "-top/b/deep", "top/b/x", "-top/b"],
        *["!top/b.txt special-file", "+top/empty", "-top/empty", "!top/z source-vanished", "-top"],
    ]


def test_a_folder_exchanged_for_a_link_leads_nowhere(tree: Path, tmp_path: Path) -> None:
    """The walk is inside `top/b` when that is moved away and a link to another tree takes its place."""
    (tmp_path / "secret" / "deep").mkdir(parents=True)
    (tmp_path / "secret" / "x").write_bytes(b"another file")
    walk = Walk(roots([str(tree)], "/"))
    assert told(walk.batch(3)) == ["+top", "top/a", "+top/b"]
    (tree / "b").rename(tmp_path / "moved")
    (tree / "b").symlink_to(tmp_path / "secret")
    items = walk.batch(100)
    assert told(items)[:5] == ["+top/b/deep", "top/b/deep/y", "-top/b/deep", "top/b/x", "-top/b"]
    assert {item.size for item in items if isinstance(item, SourceFile) and item.path[-1] == b"x"} == {0}


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_no_descriptor_outlives_the_walk(tree: Path) -> None:
    before = open_descriptors()
    everything(tree)
    assert open_descriptors() == before
    walk = Walk(roots([str(tree)], "/"))
    walk.batch(4)
    assert open_descriptors() > before
    walk.close()
    assert open_descriptors() == before
    assert walk.batch(4) == []
    dropped = Walk(roots([str(tree)], "/"))
    dropped.batch(4)
    del dropped
    assert open_descriptors() == before


def test_counting_can_be_stopped(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / str(number)).write_bytes(b"")
    found = roots([str(tmp_path)], "/")
    assert count(found) == Totals(3000, 1, 0)
    assert count(found, lambda: True).files < 1100


file_names = st.binary(min_size=1, max_size=20).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


@settings(max_examples=30)
@given(names=st.sets(file_names, max_size=40), in_memory=st.integers(1, 50))
def test_names_are_sorted_however_few_fit_into_memory(
    tmp_path_factory: pytest.TempPathFactory, names: set[bytes], in_memory: int
) -> None:
    folder = os.fsencode(tmp_path_factory.mktemp("names"))
    for name in names:
        os.close(os.open(folder + b"/" + name, os.O_CREAT | os.O_WRONLY))
    before = open_descriptors()
    fd = os.open(folder, os.O_RDONLY)
    try:
        assert list(sorted_names(fd, in_memory)) == sorted(names)
    finally:
        os.close(fd)
    assert open_descriptors() == before


def test_runs_longer_than_one_read_are_merged(tmp_path: Path) -> None:
    names = [f"{number:05}".encode() + b"x" * (number % 200) for number in range(400)]
    for name in names:
        os.close(os.open(os.fsencode(tmp_path) + b"/" + name, os.O_CREAT | os.O_WRONLY))
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert list(sorted_names(fd, 150)) == names
    finally:
        os.close(fd)


def test_a_folder_that_is_none_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        with pytest.raises(OSError) as caught:  # noqa: PT011 (the number is what is checked)
            sorted_names(fd)
        assert caught.value.errno == errno.ENOTDIR
    finally:
        os.close(fd)
