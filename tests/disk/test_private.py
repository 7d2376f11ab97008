"""Private files: written whole or not at all, and nothing of them is left when that is cut short."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.faults import Fault
from support.kills import killed_after

from ftx.client.cli import main as ftx_client
from ftx.disk import private

OLD, NEW = b"old" * 10, b"new" * 1000


@pytest.mark.parametrize("write", [private.create, private.replace])
def test_a_write_that_is_killed_leaves_nothing_for_good(tmp_path: Path, write: Callable[..., object]) -> None:
    """Killed after any of its calls: the old content or the new, whole; and the next write leaves no other file."""
    path = tmp_path / "file"
    for point in itertools.count(1):
        if write is private.replace:
            private.replace(str(path), OLD, "state-unusable")
        if not killed_after(point, lambda: write(str(path), NEW, "state-unusable")):
            break
        assert not path.exists() or path.read_bytes() in (OLD, NEW)
        write(str(path), NEW, "state-unusable")
        assert [name.name for name in tmp_path.iterdir()] == ["file"]
        assert path.read_bytes() == NEW
        assert path.stat().st_nlink == 1
        path.unlink()
    assert point > 4


def test_what_a_killed_write_has_left_may_be_the_file_itself(tmp_path: Path) -> None:
    """Where it was given its name by a link, both names are one file: it is not written over."""
    path = tmp_path / "file"
    private.create(str(path), OLD, "state-unusable")
    os.link(path, tmp_path / "file.new")
    held = path.open("rb")
    with held:
        private.replace(str(path), NEW, "state-unusable")
        assert held.read() == OLD
    assert path.read_bytes() == NEW
    assert [name.name for name in tmp_path.iterdir()] == ["file"]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    """What is not ours to write over is an error, and stays."""
    (tmp_path / "precious").write_bytes(OLD)
    (tmp_path / "file.new").symlink_to("precious")
    with pytest.raises(private.FtxError):
        private.replace(str(tmp_path / "file"), NEW, "state-unusable")
    assert (tmp_path / "precious").read_bytes() == OLD


def test_many_at_once(tmp_path: Path) -> None:
    """Each write is whole, one after the other, and nothing is left."""
    path = tmp_path / "file"
    contents = [bytes([number]) * 5000 for number in range(8)]

    def write(content: bytes) -> None:
        for _ in range(20):
            private.replace(str(path), content, "state-unusable")
            assert path.read_bytes() in contents

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert [name.name for name in tmp_path.iterdir()] == ["file"]


def test_a_configuration_that_was_begun_is_whole(tmp_path: Path) -> None:
    """`config init`, killed after any of its calls: there is no file, or all of it; and the next one does the rest."""
    words = ["--home", str(tmp_path / "home"), "--json", "config", "init"]
    path = tmp_path / "home" / "config.toml"
    assert ftx_client(words) == 0
    whole = path.read_bytes()
    path.unlink()
    for point in itertools.count(1):
        if not killed_after(point, lambda: ftx_client(words)):
            break
        if path.exists():
            assert path.read_bytes() == whole
        else:
            assert ftx_client(words) == 0
        path.unlink()
        assert [name for name in path.parent.iterdir() if name.is_file()] == []
    assert path.read_bytes() == whole


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_closing_what_was_read_decides_nothing(tmp_path: Path, number: int) -> None:
    """Whatever close(2) says of a file that was read: it has been read."""
    path = tmp_path / "file"
    private.create(str(path), OLD, "state-unusable")
    with Fault("close", 1, number) as fault:
        read = private.read(str(path), 1000, "state-unusable")
        assert fault.hit
    assert read is not None
    assert read[0] == OLD
    with Fault("close", 1, number) as fault, private.locked(str(path) + ".lock", "state-unusable"):
        pass
    assert fault.hit
