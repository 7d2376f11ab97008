"""The demo's comparison would notice: every kind of difference is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.trees import make_tree

from ftx.client.sample import compare, present
from ftx.limits import FAILURES_SHOWN


def pair(folder: Path) -> tuple[Path, Path]:
    """A tree and its exact copy."""
    make_tree(folder / "source", {"a": 3, "sub/b": 70_000, b"sub/\xff": 5, "empty": 0})
    shutil.copytree(folder / "source", folder / "copy")
    return folder / "source", folder / "copy"


def differences(source: Path, copy: Path, *, whole: bool = True) -> tuple[str, ...]:
    """What `compare` finds."""
    return compare(os.fsencode(source), os.fsencode(copy), whole=whole).differences


def test_a_copy(tmp_path: Path) -> None:
    """An exact copy has no differences, and everything in it is counted."""
    source, copy = pair(tmp_path)
    found = compare(os.fsencode(source), os.fsencode(copy), whole=True)
    assert (found.files, found.folders, found.bytes, found.differences) == (4, 2, 70_008, ())


def _other_byte(copy: Path) -> None:
    times = (copy / "sub" / "b").stat()
    with (copy / "sub" / "b").open("r+b") as file:
        file.seek(69_999)
        last = file.read(1)
        file.seek(69_999)
        file.write(bytes([last[0] ^ 1]))
    os.utime(copy / "sub" / "b", ns=(times.st_atime_ns, times.st_mtime_ns))


def _shorter(copy: Path) -> None:
    os.truncate(copy / "sub" / "b", 69_999)


def _kind(copy: Path) -> None:
    (copy / "empty").unlink()
    (copy / "empty").mkdir()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_other_byte, "sub/b: other bytes"),
        (_shorter, "sub/b: 69999 bytes instead of 70000"),
        (_kind, "empty: another kind of thing"),
        (lambda copy: (copy / "a").unlink(), "a is missing"),
        (lambda copy: (copy / "more").touch(), "more is not in the source"),
        (lambda copy: (copy / "a").chmod(0o666), "a: mode 0666 instead of 0644"),
        (lambda copy: os.utime(copy / "a", ns=(1, 1)), "a: modified at 1 ns instead of 1600000000000000001"),
        (lambda copy: os.utime(copy, ns=(1, 1)), "the folder: modified at 1 ns instead of"),
    ],
    ids=["byte", "size", "kind", "missing", "extra", "mode", "time", "folder"],
)
def test_every_difference_is_seen(tmp_path: Path, change: Callable[[Path], object], said: str) -> None:
    """One change, and a sentence names it."""
    source, copy = pair(tmp_path)
    change(copy)
    assert any(said in sentence for sentence in differences(source, copy)), differences(source, copy)


def test_a_copy_that_is_not_finished(tmp_path: Path) -> None:
    """What is missing is no difference then, what is there and wrong is one."""
    source, copy = pair(tmp_path)
    (copy / "a").unlink()
    os.utime(copy / "sub", ns=(1, 1))
    assert differences(source, copy, whole=False) == ()
    _other_byte(copy)
    assert differences(source, copy, whole=False) == ("sub/b: other bytes",)
    shutil.rmtree(copy)
    assert differences(source, copy, whole=False) == ()


def test_many_differences(tmp_path: Path) -> None:
    """Their number is bounded."""
    make_tree(tmp_path / "source", {str(number): 1 for number in range(2 * FAILURES_SHOWN)})
    (tmp_path / "copy").mkdir()
    assert len(differences(tmp_path / "source", tmp_path / "copy")) == FAILURES_SHOWN


def test_what_a_person_sees(tmp_path: Path) -> None:
    """Everything but the folder that ftx keeps for itself at the top."""
    make_tree(tmp_path / "inbox", {"a": 3, "sub/.ftx/b": 4, ".ftx/partial/c": 5})
    assert set(present(os.fsencode(tmp_path / "inbox"))) == {b"a", b"sub", b"sub/.ftx", b"sub/.ftx/b"}
