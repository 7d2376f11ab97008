"""Checking a receipt: that it is what the receiver signed, and that what it speaks of is still there.

The format is specified in `docs/receipts.md`. A receipt may have a line for each of a million files: it is read twice,
line by line, and nothing of it is kept but eight bytes for each line. The names in it are the receiver's words: they
are looked for below one held folder, following no link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from attrs import frozen
from blake3 import blake3

from ftx import limits
from ftx.core.blocks import content_digest
from ftx.core.identity import PUBLIC_BYTES, SIGN_RECEIPT, SIGNATURE_BYTES, identity_of, same
from ftx.core.receipt import Counts, Line, parse_line
from ftx.disk import fds
from ftx.disk.digest import digest_of
from ftx.disk.keys import verify
from ftx.disk.receipts import FIRST_LINE
from ftx.disk.root import Means, Root
from ftx.disk.store import Path
from ftx.errors import FtxError, ProtocolError
from ftx.text import show
from ftx.wire.messages import ReceiptBody, decode_receipt_body

__all__ = ["ReceiptFile", "Recheck"]

_END: Final = (("body", limits.FRAME_CONTROL), ("signer", PUBLIC_BYTES), ("signature", SIGNATURE_BYTES))


@frozen(eq=False)
class ReceiptFile:
    """A receipt that was checked: `body` is what was signed, by the key of `body.receiver`. To be closed."""

    body: ReceiptBody
    _file: BinaryIO

    @classmethod
    def open(cls, path: str, check: Callable[[], None]) -> ReceiptFile:
        """Open and check the receipt at `path`; `check` is called now and then, and what it raises ends this.

        FtxError `receipt-invalid` when it is none, is damaged, or says anything else than what was signed;
        `source-missing`, `source-unreadable` or `local-io` when it cannot be read. Blocking.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise _unreadable(error) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            fds.close(fd)
            raise FtxError("receipt-invalid", "it is not a regular file")
        file = os.fdopen(fd, "rb")
        try:
            return cls(_checked(file, check), file)
        except OSError as error:
            file.close()
            raise _unreadable(error) from error
        except BaseException:
            file.close()
            raise

    def lines(self) -> Iterator[Line]:
        """What it says of each entry, in its order. FtxError `receipt-invalid` for what is no such line."""
        self._file.seek(len(FIRST_LINE))
        for text in _lines(self._file):
            yield parse_line(text)

    def close(self) -> None:
        """Nothing more is wanted of it."""
        self._file.close()


def _unreadable(error: OSError) -> FtxError:
    kinds: dict[type[OSError], str] = {FileNotFoundError: "source-missing", PermissionError: "source-unreadable"}
    return FtxError(kinds.get(type(error), "local-io"), (error.strerror or "input/output error").lower())


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines up to the empty one. FtxError `receipt-invalid` where none ends them, or one is too long."""
    while (text := file.readline(limits.RECEIPT_LINE + 1)) != b"\n":
        if not text.endswith(b"\n"):
            raise FtxError("receipt-invalid", "it is cut off, or not a receipt")
        yield text


def _checked(file: BinaryIO, check: Callable[[], None]) -> ReceiptBody:
    if file.read(len(FIRST_LINE)) != FIRST_LINE:
        raise FtxError("receipt-invalid", "it does not begin as a receipt does")
    transcript, recount = blake3(), _Recount()
    for number, text in enumerate(_lines(file)):
        transcript.update(text)
        recount.add(text)
        if number % limits.BATCH == 0:
            check()
    values = [_value(file, word, most) for word, most in _END]
    if file.read(1):
        raise FtxError("receipt-invalid", "there is more behind its end")
    body, signer, signature = values
    if len(signer) != PUBLIC_BYTES or not verify(signer, SIGN_RECEIPT, body, signature):
        raise FtxError("receipt-invalid", "its signature is not right")
    try:
        said = decode_receipt_body(body)
    except ProtocolError as error:
        raise FtxError("receipt-invalid", error.message) from error
    if not same(identity_of(signer), said.receiver):
        raise FtxError("receipt-invalid", "it is signed by another key than that of the receiver it names")
    if not same(transcript.digest(), said.transcript):
        raise FtxError("receipt-invalid", "its lines are not those that were signed")
    recount.agree(said)
    return said


class _Recount:
    """What the lines themselves add up to: whoever signs may have counted otherwise."""

    def __init__(self) -> None:
        self._counts = Counts()
        #: Of what is wanted, a dry run counts the files and not the folders, which only their size of 0 may tell.
        self._perhaps = 0
        self._seen: set[int] = set()
        self._twice = False

    def add(self, text: bytes) -> None:
        """One more line. FtxError `receipt-invalid` for what is none."""
        line, counts = parse_line(text), self._counts
        if line.stored_as is not None:
            mark = int.from_bytes(blake3(text).digest(length=8), "big")
            self._twice |= mark in self._seen
            self._seen.add(mark)
        if line.status in ("stored", "identical"):
            counts.files += 1
            counts.identical += line.status == "identical"
            counts.bytes += line.size
        elif line.status == "folder":
            counts.folders += 1
        elif line.status == "wanted" and not line.size:
            self._perhaps += 1
        elif line.status in ("wanted", "skipped"):
            counts.skipped += 1
        else:
            counts.failed += 1

    def agree(self, body: ReceiptBody) -> None:
        """FtxError `receipt-invalid` where what was signed is something else."""
        if self._twice:
            raise FtxError("receipt-invalid", "it has the same line twice")
        counts = self._counts
        least = counts.skipped
        said = Counts(body.files, body.identical, counts.skipped, body.folders, body.failed, body.bytes)
        if counts != said or not least <= body.skipped <= least + self._perhaps:
            raise FtxError("receipt-invalid", "its counts are not those of its lines")


def _value(file: BinaryIO, word: str, most: int) -> bytes:
    """The bytes behind `word`; FtxError `receipt-invalid`."""
    text = file.readline(len(word) + 2 * most + 3)
    first, _, digits = text.removesuffix(b"\n").partition(b" ")
    try:
        if first != word.encode() or not text.endswith(b"\n"):
            raise ValueError(word)
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError as error:
        raise FtxError("receipt-invalid", "it is cut off, or not a receipt") from error


class Recheck:
    """A folder in which what a receipt names is looked for again. All of it blocks. To be closed."""

    def __init__(self, folder: str) -> None:
        """FtxError `source-missing`, `source-unreadable` or `local-io` when the folder cannot be used."""
        try:
            self._root = Root(folder, Means(), shared=True)
        except OSError as error:
            raise FtxError(_unreadable(error).name, f"{show(folder)}: {_unreadable(error).message}") from error

    def entry(self, line: Line, check: Callable[[], None]) -> FtxError | None:
        """What is wrong with an entry that was stored: it is not there, or has other content. None when all is well.

        It is looked for under the name that it was stored by, and where there is nothing of that name, under the one
        that it had when it was sent. `check` is called before each block.
        """
        for path in (line.stored_as, line.path):
            if path is None:
                continue
            try:
                return self._at(path, line, check)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                return _unreadable(error)
            except FtxError as error:
                if error.name != "bad-name":
                    raise
                return FtxError("receipt-invalid", "it has a name that cannot be one")
        return FtxError("source-missing", "it is not there")

    def _at(self, path: Path, line: Line, check: Callable[[], None]) -> FtxError | None:
        folder = self._root.open_folder(path[:-1])
        try:
            status = self._root.status(folder, path[-1])
            if status is None:
                raise FileNotFoundError
            if stat.S_ISDIR(status.st_mode) or line.digest is None:
                alike = stat.S_ISDIR(status.st_mode) and line.digest is None
                return None if alike else FtxError("digest-mismatch", "something else has its name")
            if stat.S_ISLNK(status.st_mode):
                digest: bytes | None = content_digest(self._root.link_target(folder, path[-1]) or b"")
            else:
                digest = self._digest(folder, path[-1], line.size, check)
        finally:
            fds.close(folder)
        return None if digest == line.digest else FtxError("digest-mismatch", "its content is not what was stored")

    def _digest(self, folder: int, name: bytes, size: int, check: Callable[[], None]) -> bytes | None:
        fd = self._root.open_file(folder, name)
        if fd is None:
            return None
        try:
            return digest_of(fd, size, check) if os.fstat(fd).st_size == size else None
        finally:
            fds.close(fd)

    def close(self) -> None:
        """Let go of the folder."""
        self._root.close()
