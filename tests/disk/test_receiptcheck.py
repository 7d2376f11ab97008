"""Receipts looked at again: only what was signed counts, and names lead nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ftx import limits
from ftx.core.blocks import content_digest
from ftx.core.identity import SIGN_RECEIPT
from ftx.core.receipt import Line, Transcript, line, parse_line, receipt_body
from ftx.disk.keys import Identity
from ftx.disk.receiptcheck import ReceiptFile, Recheck
from ftx.disk.receipts import ReceiptWriter
from ftx.errors import FtxError

JOB = bytes(range(16))
SIGNER = Identity.generate()
NAME = (b"t", b"\xff %\n")


def never() -> None:
    """Nobody wants it to end."""


def write(folder: Path, build: Callable[[Transcript, ReceiptWriter], None]) -> Path:
    """A receipt with the lines that `build` adds to both."""
    transcript, writer = Transcript(), ReceiptWriter(str(folder), JOB.hex())
    build(transcript, writer)
    body = receipt_body(
        transcript, job=JOB, sender=b"s" * 32, receiver=SIGNER.id, started=1, ended=2, durability=0
    )
    return Path(writer.finish(body, SIGNER.sign(SIGN_RECEIPT, body), SIGNER.public_raw))


def usual(transcript: Transcript, writer: ReceiptWriter) -> None:
    """A file under its own name and one under another, a link, a folder, and what was not stored."""
    file, other, link = (content_digest(content) for content in (b"content", b"other", b"file"))
    writer.add(transcript.stored(7, file, (b"t", b"file"), (b"in", b"t", b"file"), identical=False))
    writer.add(transcript.stored(5, other, NAME, (b"in", b"t", b"a (1)"), identical=True))
    writer.add(transcript.stored(4, link, (b"t", b"link"), (b"in", b"t", b"link"), identical=False))
    writer.add(transcript.folder((b"t",), (b"in", b"t")))
    writer.add(transcript.failed(9, 607, (b"t", b"-")))


@pytest.fixture
def receipt(tmp_path: Path) -> Path:
    """The usual one."""
    return write(tmp_path / "receipts", usual)


def tree(top: Path, names: dict[bytes, bytes]) -> None:
    """What the receipt speaks of, under these names for its two files."""
    top.mkdir(parents=True)
    for name, content in names.items():
        with open(os.path.join(os.fsencode(top), name), "wb") as file:
            file.write(content)
    (top / "link").symlink_to("file")


def looked(receipt: Path, folder: Path) -> list[str]:
    """What becomes of each entry that was stored: `ok`, or the kind of its error."""
    file, recheck = ReceiptFile.open(str(receipt), never), Recheck(str(folder))
    try:
        errors = [recheck.entry(one, never) for one in file.lines() if one.stored_as is not None]
        return ["ok" if error is None else error.name for error in errors]
    finally:
        recheck.close()
        file.close()


def test_lines_are_read_as_they_were_written() -> None:
    """Every byte of a name, and every status; what is not exactly a line is none."""
    paths = [NAME, (b"-",), (bytes(range(1, 47)) + bytes(range(48, 256)), b"x")]
    for status, digest, stored in (("stored", b"d" * 32, True), ("skipped", None, False), ("failed-607", None, False)):
        for path in paths:
            said = line(status, 2**63 - 1, digest, path, path if stored else None)
            assert parse_line(said) == Line(status, 2**63 - 1, digest, path, path if stored else None)
    wrong_ones = (b"", b"\n", b"stored 1 - a", b"stored 1 - a a \n", b"stored -1 - a a\n", b"lost 1 - a a\n", b"\xff\n")
    for wrong in wrong_ones:
        with pytest.raises(FtxError, match="cannot be understood"):
            parse_line(wrong)


def test_what_is_there_and_what_is_not(receipt: Path, tmp_path: Path) -> None:
    """In the inbox by the stored names, beside the sources by theirs; what was touched or is gone is found."""
    inbox, sources = tmp_path / "inbox", tmp_path / "sources"
    tree(inbox / "in" / "t", {b"file": b"content", b"a (1)": b"other"})
    tree(sources / "t", {b"file": b"content", NAME[1]: b"other"})
    for folder in (inbox, sources):
        assert looked(receipt, folder) == ["ok"] * 4
    (inbox / "in" / "t" / "file").write_bytes(b"Content")
    (inbox / "in" / "t" / "a (1)").unlink()
    (inbox / "in" / "t" / "link").unlink()
    (inbox / "in" / "t" / "link").symlink_to("elsewhere")
    assert looked(receipt, inbox) == ["digest-mismatch", "source-missing", "digest-mismatch", "ok"]
    assert looked(receipt, tmp_path / "receipts") == ["source-missing"] * 4
    (sources / "t" / "file").unlink()
    os.mkfifo(sources / "t" / "file")  # which nobody waits for
    assert looked(receipt, sources)[0] == "digest-mismatch"


def test_no_name_leads_out(tmp_path: Path) -> None:
    """Whoever signs chooses names, and whoever can write there chooses links: neither gets anything else read."""
    (tmp_path / "secret").write_bytes(b"content")
    digest = content_digest(b"content")

    def hostile(transcript: Transcript, writer: ReceiptWriter) -> None:
        for path in ((b"..", b"secret"), (b"", b"etc", b"passwd"), (b"up", b"secret"), (b".",)):
            writer.add(transcript.stored(7, digest, path, path, identical=False))

    root = tmp_path / "root"
    root.mkdir()
    (root / "up").symlink_to("..")
    found = looked(write(tmp_path / "receipts", hostile), root)
    assert "ok" not in found
    assert found[:2] == ["receipt-invalid"] * 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ftx receipt 1\n", b"ftx receipt 2\n"),
        (b"stored 7", b"stored 8"),
        (b"t/file", b"t/fine"),
        (b"\n\nbody ", b"\nbody "),
        (b"body ", b"bodi "),
        (b"signer ", b"signer 00"),
        (b"signature ", b"signature ff"),
        (b"folder ", b"x" * limits.RECEIPT_LINE),
    ],
)
def test_what_is_no_receipt(old: bytes, new: bytes, receipt: Path) -> None:
    """A change anywhere, a line that is too long, an end that is missing, another file altogether."""
    whole = receipt.read_bytes()
    assert old in whole
    receipt.write_bytes(whole.replace(old, new, 1))
    with pytest.raises(FtxError) as caught:
        ReceiptFile.open(str(receipt), never)
    assert caught.value.name == "receipt-invalid"


@pytest.mark.parametrize("count", ["files", "identical", "skipped", "folders", "failed", "bytes"])
def test_counts_that_the_lines_do_not_bear_out(count: str, tmp_path: Path) -> None:
    """A signer may lie about the sums; a dry run may have folders that look like empty files."""

    def lie(transcript: Transcript, writer: ReceiptWriter) -> None:
        usual(transcript, writer)
        setattr(transcript.counts, count, getattr(transcript.counts, count) + 1)

    def dry(transcript: Transcript, writer: ReceiptWriter) -> None:
        for name, size, folder in ((b"a", 5, False), (b"b", 0, False), (b"c", 0, True)):
            writer.add(transcript.wanted(size, (name,), folder=folder))
        writer.add(transcript.skipped(7, (b"d",)))

    with pytest.raises(FtxError, match="counts") as caught:
        ReceiptFile.open(str(write(tmp_path / "lie", lie)), never)
    assert caught.value.name == "receipt-invalid"
    ReceiptFile.open(str(write(tmp_path / "dry", dry)), never).close()


def test_one_thing_is_not_promised_twice_nor_nowhere(tmp_path: Path) -> None:
    """The same line again, and `stored -`; but a file may be called so."""

    def twice(transcript: Transcript, writer: ReceiptWriter) -> None:
        for _ in range(2):
            writer.add(transcript.stored(7, bytes(32), (b"f",), (b"f",), identical=False))

    def nowhere(transcript: Transcript, writer: ReceiptWriter) -> None:
        writer.add(transcript.stored(7, bytes(32), (b"f",), (b"-",), identical=False))

    def called(transcript: Transcript, writer: ReceiptWriter) -> None:
        writer.add(transcript.stored(7, bytes(32), (b"-",), (b"-",), identical=False))

    for name, build in (("twice", twice), ("nowhere", nowhere)):
        with pytest.raises(FtxError) as caught:
            ReceiptFile.open(str(write(tmp_path / name, build)), never)
        assert caught.value.name == "receipt-invalid"
    ReceiptFile.open(str(write(tmp_path / "called", called)), never).close()


def test_cut_anywhere(receipt: Path) -> None:
    """Half a receipt, and one with something behind it."""
    whole = receipt.read_bytes()
    for length in (*range(0, len(whole), 17), len(whole) - 1):
        receipt.write_bytes(whole[:length])
        with pytest.raises(FtxError) as caught:
            ReceiptFile.open(str(receipt), never)
        assert caught.value.name == "receipt-invalid"
    receipt.write_bytes(whole + b"\n")
    with pytest.raises(FtxError, match="behind its end"):
        ReceiptFile.open(str(receipt), never)


def test_another_signer(tmp_path: Path) -> None:
    """A right signature by a key that is not the receiver's is nobody's promise."""
    other = Identity.generate()
    transcript, writer = Transcript(), ReceiptWriter(str(tmp_path / "receipts"), JOB.hex())
    body = receipt_body(transcript, job=JOB, sender=b"s" * 32, receiver=SIGNER.id, started=1, ended=2, durability=0)
    path = writer.finish(body, other.sign(SIGN_RECEIPT, body), other.public_raw)
    with pytest.raises(FtxError, match="another key"):
        ReceiptFile.open(path, never)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """Missing, or no file: said, and never waited for."""
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("none", "source-missing"), ("pipe", "receipt-invalid"), (".", "receipt-invalid")):
        with pytest.raises(FtxError) as caught:
            ReceiptFile.open(str(tmp_path / name), never)
        assert caught.value.name == kind
    with pytest.raises(FtxError) as caught:
        Recheck(str(tmp_path / "none"))
    assert caught.value.name == "source-missing"
