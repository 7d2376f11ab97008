"""Receipt files: written line by line, visible only when they are whole."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from ftx import limits
from ftx.core.identity import SIGN_RECEIPT
from ftx.disk import keys, receipts
from ftx.errors import FtxError

JOB = "0123456789abcdef" * 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "receipts"


def test_a_receipt_can_be_checked_from_its_text(folder: Path) -> None:
    """What `docs/receipts.md` says about reading one, done by hand."""
    signer = keys.Identity.generate()
    body = bytes(range(256))
    writer = receipts.ReceiptWriter(str(folder), JOB)
    writer.add(b"stored 1 aa a a\nstored 2 bb b b\n")
    writer.add(b"")
    writer.add(b"failed-607 3 - c -\n")
    path = writer.finish(body, signer.sign(SIGN_RECEIPT, body), signer.public_raw)

    assert path == str(folder / f"{JOB}.receipt")
    first, *lines = Path(path).read_text("ascii").split("\n")
    blank = lines.index("")
    end = dict(line.split(" ") for line in lines[blank + 1 : -1])
    assert first == "ftx receipt 1"
    assert lines[:blank] == ["stored 1 aa a a", "stored 2 bb b b", "failed-607 3 - c -"]
    assert lines[-1] == ""
    assert list(end) == ["body", "signer", "signature"]
    assert keys.verify(
        bytes.fromhex(end["signer"]), SIGN_RECEIPT, bytes.fromhex(end["body"]), bytes.fromhex(end["signature"])
    )


def test_it_is_private_and_alone(folder: Path) -> None:
    old = os.umask(0)
    try:
        writer = receipts.ReceiptWriter(str(folder), JOB)
        (unfinished,) = folder.iterdir()
        assert unfinished.name.endswith(".new")
        path = Path(writer.finish(b"", bytes(64), bytes(32)))
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(folder.iterdir()) == [path]


def test_a_job_has_one_receipt_the_last(folder: Path) -> None:
    for body in (b"\x01", b"\x02"):
        receipts.ReceiptWriter(str(folder), JOB).finish(body, bytes(64), bytes(32))
    (path,) = folder.iterdir()
    assert "body 02\n" in path.read_text("ascii")


def test_two_writers_of_one_job_do_not_mix(folder: Path) -> None:
    one, other = (receipts.ReceiptWriter(str(folder), JOB) for _ in range(2))
    one.add(b"one\n")
    other.add(b"other\n")
    one.finish(b"", bytes(64), bytes(32))
    path = other.finish(b"", bytes(64), bytes(32))
    assert Path(path).read_text("ascii").split("\n")[1:3] == ["other", ""]


def test_abandoning_leaves_nothing(folder: Path) -> None:
    writer = receipts.ReceiptWriter(str(folder), JOB)
    writer.add(b"x\n" * 100_000)
    writer.abandon()
    writer.abandon()
    assert os.listdir(folder) == []
    writer = receipts.ReceiptWriter(str(folder), JOB)
    path = writer.finish(b"", bytes(64), bytes(32))
    writer.abandon()
    assert os.path.exists(path)


@pytest.mark.parametrize("lines", [b"no end", b"\n", b"a\n\nb\n", b"\na\n", b"a\nb"])
def test_lines_that_would_break_the_format_are_refused(folder: Path, lines: bytes) -> None:
    writer = receipts.ReceiptWriter(str(folder), JOB)
    with pytest.raises(ValueError, match="lines"):
        writer.add(lines)
    with pytest.raises(ValueError, match="64 bytes"):
        writer.finish(b"", b"short", bytes(32))
    writer.abandon()


@pytest.mark.parametrize("job", ["", "../../etc/passwd", "A" * 32, "0" * 31, "0" * 33])
def test_a_job_is_32_hex_digits(folder: Path, job: str) -> None:
    with pytest.raises(ValueError, match="32 lower-case hex digits"):
        receipts.ReceiptWriter(str(folder), job)
    assert not folder.exists()


def test_a_folder_that_cannot_be_used_is_an_error(folder: Path) -> None:
    folder.write_bytes(b"")
    with pytest.raises(FtxError) as caught:
        receipts.ReceiptWriter(str(folder), JOB)
    assert caught.value.name == "state-unusable"


def test_a_folder_that_goes_away_is_an_error_at_the_end(folder: Path) -> None:
    writer = receipts.ReceiptWriter(str(folder), JOB)
    writer.add(b"x\n")
    (unfinished,) = folder.iterdir()
    unfinished.unlink()
    with pytest.raises(FtxError, match="cannot be written: no such file") as caught:
        writer.finish(b"", bytes(64), bytes(32))
    assert caught.value.name == "state-unusable"
    writer.abandon()


def test_a_full_disk_is_said(folder: Path) -> None:
    """/dev/full takes the place of the open file: every write to it fails with ENOSPC."""
    writer = receipts.ReceiptWriter(str(folder), JOB)
    (unfinished,) = folder.iterdir()
    links = {fd: Path(f"/proc/self/fd/{fd}") for fd in map(int, os.listdir("/proc/self/fd"))}
    (its,) = (fd for fd, link in links.items() if link.is_symlink() and link.readlink() == unfinished)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, its)
    os.close(full)
    with pytest.raises(FtxError) as caught:
        writer.add(b"x\n" * 100_000)
    assert caught.value.name == "local-no-space"
    writer.abandon()
    assert os.listdir(folder) == []


def test_old_ones_and_too_many_are_removed(folder: Path) -> None:
    assert receipts.clean(str(folder), time.time()) == 0
    receipts.ReceiptWriter(str(folder), JOB).finish(b"", bytes(64), bytes(32))
    (first,) = folder.iterdir()
    now = time.time()
    for number in range(1, limits.RECEIPT_FILES + 2):
        path = folder / f"{number:032x}.receipt"
        path.write_bytes(b"")
        os.utime(path, (now - number, now - number))
    (folder / "notes.txt").write_bytes(b"not ours")
    assert receipts.clean(str(folder), now) == 2
    assert len(os.listdir(folder)) == limits.RECEIPT_FILES + 1
    assert first.exists()
    day = 86400
    for path in folder.glob("*.receipt"):
        os.utime(path, (now - 91 * day, now - 91 * day))
    young = folder / f"{5:032x}.receipt"
    os.utime(young, (now - 89 * day, now - 89 * day))
    assert receipts.clean(str(folder), now) == limits.RECEIPT_FILES - 1
    assert sorted(path.name for path in folder.iterdir()) == [young.name, "notes.txt"]


def test_what_a_crash_left_goes_after_a_day(folder: Path) -> None:
    folder.mkdir()
    now = time.time()
    old, young = (folder / f"{JOB}.receipt.{token}.new" for token in ("0" * 16, "1" * 16))
    for path in (old, young):
        path.write_bytes(receipts.FIRST_LINE)
    os.utime(old, (now - 90000, now - 90000))
    receipts.clean(str(folder), now)
    assert list(folder.iterdir()) == [young]
