"""The root of an inbox: nothing leads out of it, and nothing is ever replaced."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import Fault

from ftx.disk.root import Means, Root, storage_error
from ftx.errors import FtxError


@pytest.fixture(params=["openat2", "walk"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Root]:
    """A root with both ways to resolve a path, in `tmp_path/inbox`."""
    held = Root(str(tmp_path / "inbox"), Means(openat2=request.param == "openat2"))
    yield held
    held.close()


def error_name(root: Root, *path: bytes) -> str:
    """What opening a folder is refused with."""
    try:
        os.close(root.open_folder(path))
    except OSError as error:
        return storage_error(error).name
    except FtxError as error:
        return error.name
    return "opened"


def test_missing_inbox_is_made_private_but_not_its_parents(tmp_path: Path) -> None:
    """The last component only, 0700."""
    root = Root(str(tmp_path / "new"), Means())
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    root.close()
    with pytest.raises(FileNotFoundError):
        Root(str(tmp_path / "no" / "where"), Means())


def test_opens_what_is_below(root: Root, tmp_path: Path) -> None:
    """An ordinary folder opens, the root itself too."""
    (tmp_path / "inbox" / "a" / "b").mkdir(parents=True)
    fd = root.open_folder((b"a", b"b"))
    assert os.fstat(fd).st_ino == (tmp_path / "inbox" / "a" / "b").stat().st_ino
    os.close(fd)
    assert error_name(root) == "opened"


@pytest.mark.case("C50", "D73")
def test_no_way_out(root: Root, tmp_path: Path) -> None:
    """Links, dots, separators, files and pipes in a path are refused, each with its error."""
    inbox = tmp_path / "inbox"
    (tmp_path / "outside" / "deep").mkdir(parents=True)
    (inbox / "real").mkdir()
    (inbox / "out").symlink_to(tmp_path / "outside")
    (inbox / "in").symlink_to("real")
    (inbox / "self").symlink_to("self")
    (inbox / "dangling").symlink_to("nothing")
    (inbox / "proc").symlink_to("/proc/self/cwd")
    (inbox / "file").write_bytes(b"")
    os.mkfifo(inbox / "fifo")
    for name in (b"out", b"in", b"self", b"dangling", b"proc"):
        assert error_name(root, name) == "bad-name", name
        assert error_name(root, name, b"deep") == "bad-name", name
    for name in (b"file", b"fifo"):
        assert error_name(root, name) == "exists", name
        assert error_name(root, name, b"x") == "exists", name
    for path in ((b"..",), (b"real", b"..", b".."), (b"/etc",), (b"real/deep",), (b"",), (b".",), (b"a\0b",)):
        assert error_name(root, *path) == "bad-name", path
    assert error_name(root, b"missing") == "storage-failed"


@pytest.mark.case("C49")
def test_names_are_checked_at_the_sink_too(root: Root) -> None:
    """Every operation that takes a name refuses what is none, whoever forgot to check it before."""
    fd = root.create_unnamed(root.fd, 0o600)
    assert fd is not None
    for name in (b"../x", b"a/b", b"..", b".", b"", b"a\0"):
        for operation in (
            lambda name=name: root.link(fd, root.fd, name),
            lambda name=name: root.move(root.fd, b"x", root.fd, name),
            lambda name=name: root.make_folder(root.fd, name, 0o700),
            lambda name=name: root.status(root.fd, name),
            lambda name=name: root.open_file(root.fd, name),
            lambda name=name: root.create_staged(root.fd, name),
            lambda name=name: root.unlink_staged(root.fd, name),
        ):
            with pytest.raises(FtxError):
                operation()
    os.close(fd)


@pytest.mark.case("C64", "D82")
def test_own_folder_is_recognised_by_inode(root: Root, tmp_path: Path) -> None:
    """Whatever name leads to .ftx (a case-folding file system, say), it is refused."""
    os.close(root.open_private(b"partial"))
    assert error_name(root, b".ftx") == "bad-name"
    (tmp_path / "inbox" / ".ftx").rename(tmp_path / "inbox" / "innocent")
    assert error_name(root, b"innocent") == "bad-name"


def test_own_folder_is_made_private(tmp_path: Path) -> None:
    """A .ftx that others may enter is closed to them; one that is a link is refused."""
    (tmp_path / ".ftx").mkdir(mode=0o755)
    root = Root(str(tmp_path), Means())
    os.close(root.open_private())
    assert (tmp_path / ".ftx").stat().st_mode & 0o777 == 0o700
    (tmp_path / ".ftx").rename(tmp_path / "elsewhere")
    (tmp_path / ".ftx").symlink_to("elsewhere")
    with pytest.raises(OSError, match=r"(?i)not a directory|too many"):
        root.open_private()
    root.close()


@pytest.mark.case("D74")
def test_racing_links_never_lead_out(root: Root, tmp_path: Path) -> None:
    """A component that flips between a folder and a link to the outside never lets a file out."""
    inbox, outside = tmp_path / "inbox", tmp_path / "outside"
    outside.mkdir()
    (inbox / "flip").mkdir()
    (inbox / "link").symlink_to(outside)
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            os.rename(inbox / "flip", inbox / "kept")
            os.rename(inbox / "link", inbox / "flip")
            os.rename(inbox / "flip", inbox / "link")
            os.rename(inbox / "kept", inbox / "flip")

    thread = threading.Thread(target=flip)
    thread.start()
    opened = tries = 0
    try:
        while tries < 3000 or (not opened and tries < 300_000):  # on a busy machine it may take a while to be lucky
            tries += 1
            try:
                fd = root.open_folder((b"flip",))
            except OSError:
                continue
            opened += 1
            assert os.fstat(fd).st_ino != outside.stat().st_ino
            os.close(fd)
    finally:
        stop.set()
        thread.join()
    assert opened


def taken(folder: Path) -> None:
    """Everything that can be at a name."""
    (folder / "file").write_bytes(b"mine")
    (folder / "empty").mkdir()
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "fifo")


@pytest.mark.case("D76", "D83", "D82")
@pytest.mark.parametrize("noreplace", [True, False])
def test_publishing_never_replaces(tmp_path: Path, noreplace: bool) -> None:
    """By link and by move: whatever has the name keeps it, and the content is not lost."""
    root = Root(str(tmp_path), Means(noreplace=noreplace))
    staging = root.open_private(b"partial")
    taken(tmp_path)
    before = {path.name: path.lstat() for path in tmp_path.iterdir() if path.name != ".ftx"}
    fd = root.create_unnamed(root.fd, 0o600)
    assert fd is not None
    os.close(root.create_staged(staging, b"staged"))
    for name in before:
        with pytest.raises(FileExistsError):
            root.link(fd, root.fd, os.fsencode(name))
        with pytest.raises(FileExistsError):
            root.move(staging, b"staged", root.fd, os.fsencode(name))
    after = {path.name: path.lstat() for path in tmp_path.iterdir() if path.name != ".ftx"}
    assert {name: status.st_mtime_ns for name, status in after.items()} == {
        name: status.st_mtime_ns for name, status in before.items()
    }
    root.link(fd, root.fd, b"linked")
    root.move(staging, b"staged", root.fd, b"moved")
    assert (tmp_path / "moved").stat().st_nlink == 1
    assert root.status(staging, b"staged") is None
    for descriptor in (fd, staging):
        os.close(descriptor)
    root.close()


def test_a_kernel_that_links_no_descriptor(tmp_path: Path) -> None:
    """Before Linux 6.10 it says that there is no such file: /proc is the way then, and from then on."""
    root = Root(str(tmp_path), Means())
    fd = root.create_unnamed(root.fd, 0o600)
    assert fd is not None
    for number in range(3):
        with Fault("linkat", 1, errno.ENOENT) as fault:
            root.link(fd, root.fd, b"%d" % number)
        assert fault.calls == (number == 0)
    with pytest.raises(FileExistsError):
        root.link(fd, root.fd, b"0")
    assert os.fstat(fd).st_nlink == 3
    os.close(fd)
    root.close()


def test_open_file_takes_regular_files_only(root: Root, tmp_path: Path) -> None:
    """Links, pipes, sockets and folders are as good as missing, and a pipe does not block."""
    inbox = tmp_path / "inbox"
    taken(inbox)
    (inbox / "link").symlink_to("file")
    listener = socket.socket(socket.AF_UNIX)
    here = os.open(inbox, os.O_RDONLY)
    listener.bind(f"/proc/self/fd/{here}/socket")
    for name in (b"empty", b"dangling", b"fifo", b"link", b"socket", b"missing"):
        assert root.open_file(root.fd, name) is None, name
    fd = root.open_file(root.fd, b"file")
    assert fd is not None
    for descriptor in (fd, here):
        os.close(descriptor)
    listener.close()


@pytest.mark.case("D75")
def test_moved_inbox_is_still_the_inbox(root: Root, tmp_path: Path) -> None:
    """The folder is held, not its name: nothing happens at a new folder of the old name."""
    (tmp_path / "inbox").rename(tmp_path / "moved")
    (tmp_path / "inbox").mkdir()
    root.make_folder(root.fd, b"new", 0o755)
    assert (tmp_path / "moved" / "new").is_dir()
    assert not list((tmp_path / "inbox").iterdir())
