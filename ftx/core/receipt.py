"""The transcript of a job: one canonical line per result, hashed by both sides (`docs/protocol.md`, section 8)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

import attrs
from blake3 import blake3

from ftx import limits
from ftx.core.identity import SIGNATURE_BYTES
from ftx.errors import FtxError
from ftx.wire.messages import Receipt, ReceiptBody, encode_receipt_body

__all__ = ["Counts", "Line", "Transcript", "decode_receipt", "encode_receipt", "line", "parse_line", "receipt_body"]

_LINE: Final = re.compile(
    rb"(stored|identical|skipped|folder|wanted|failed-[0-9]{3,5})"
    rb" ([0-9]{1,19}) ([0-9a-f]{64}|-) ([A-Za-z0-9._~/%-]+) ([A-Za-z0-9._~/%-]+)\n"
)
#: What is not quoted in a path: nearly every path has nothing else.
_PLAIN: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~/-"
#: What says that something is there now.
_THERE: Final = (b"stored", b"identical", b"folder")


@attrs.define
class Counts:
    """The sums of a job. `files` counts stored and identical, `bytes` their content."""

    files: int = 0
    identical: int = 0
    skipped: int = 0
    folders: int = 0
    failed: int = 0
    bytes: int = 0


def line(
    status: str, size: int, digest: bytes | None, path: Sequence[bytes], stored_as: Sequence[bytes] | None
) -> bytes:
    """One line of the transcript, with its line feed.

    `status` is `stored`, `identical`, `skipped`, `folder`, `wanted` or `failed-NUMBER`; `size` is in bytes, 0 for a
    folder; `path` as in the manifest; `stored_as` below the inbox, None when nothing was stored.
    """
    name = _quoted(path)
    where = "-" if stored_as is None else name if stored_as == path else _quoted(stored_as)
    return f"{status} {size} {digest.hex() if digest else '-'} {name} {where}\n".encode("ascii")


def _quoted(path: Sequence[bytes]) -> str:
    whole = b"/".join(path)
    return quote_from_bytes(whole, safe="/~") if whole.translate(None, _PLAIN) else whole.decode("ascii")


def _quoted_all(paths: Sequence[Sequence[bytes]]) -> list[str]:
    """Each of `paths` as `_quoted()`: nearly always there is nothing to quote in any of them."""
    whole = b"\n".join(map(b"/".join, paths))
    if whole.translate(None, _PLAIN + b"\n") or whole.count(b"\n") >= len(paths):
        return list(map(_quoted, paths))
    return whole.decode("ascii").split("\n")


@attrs.frozen
class Line:
    """What a line says, in the words of `line()`. Paths are not checked: they are what somebody has written."""

    status: str
    size: int
    digest: bytes | None
    path: tuple[bytes, ...]
    stored_as: tuple[bytes, ...] | None


def parse_line(text: bytes) -> Line:
    """The meaning of a line, with its line feed; FtxError `receipt-invalid` for what is none."""
    found = _LINE.fullmatch(text)
    if found is None:
        raise FtxError("receipt-invalid", "a line of it cannot be understood")
    status, size, digest, path, stored = found.groups()
    if status in _THERE and stored == b"-" and path.rpartition(b"/")[2] != b"-":  # but a file may be called so
        raise FtxError("receipt-invalid", "a line of it names nothing that was stored, and says that it was")
    return Line(
        status.decode("ascii"),
        int(size),
        None if digest == b"-" else bytes.fromhex(digest.decode("ascii")),
        _path(path),
        None if stored == b"-" and status not in _THERE else _path(stored),
    )


def _path(quoted: bytes) -> tuple[bytes, ...]:
    return tuple(unquote_to_bytes(part) for part in quoted.split(b"/"))


class Transcript:
    """The running hash over the lines, and the counts that follow from them."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._hasher = blake3()
        #: Lines that are not hashed yet, and how many: many small ones cost more one by one.
        self._lines: list[bytes] = []
        self._waiting = 0

    def stored(
        self, size: int, digest: bytes, path: Sequence[bytes], stored_as: Sequence[bytes], *, identical: bool
    ) -> bytes:
        """A file that is there now; gives its line."""
        self.counts.files += 1
        self.counts.identical += identical
        self.counts.bytes += size
        return self._add(line("identical" if identical else "stored", size, digest, path, stored_as))

    def stored_all(
        self, files: Sequence[tuple[int, bytes, Sequence[bytes], Sequence[bytes]]], *, identical: bool
    ) -> bytes:
        """Files that are there now, at least one, each as `stored()` has it; gives their lines."""
        counts, status = self.counts, "identical" if identical else "stored"
        sizes, digests, paths, places = zip(*files, strict=True)
        counts.files += len(files)
        counts.identical += len(files) if identical else 0
        counts.bytes += sum(sizes)
        names = _quoted_all(paths)
        where = names if places == paths else _quoted_all(places)
        lines = [
            f"{status} {size} {digest.hex() or '-'} {name} {place}\n"
            for size, digest, name, place in zip(sizes, digests, names, where, strict=True)
        ]
        return self._add("".join(lines).encode("ascii"), len(lines))

    def folder(self, path: Sequence[bytes], stored_as: Sequence[bytes]) -> bytes:
        """A folder that is there now, complete."""
        self.counts.folders += 1
        return self._add(line("folder", 0, None, path, stored_as))

    def skipped(self, size: int, path: Sequence[bytes]) -> bytes:
        """A file left out as the policy wishes."""
        self.counts.skipped += 1
        return self._add(line("skipped", size, None, path, None))

    def wanted(self, size: int, path: Sequence[bytes], *, folder: bool) -> bytes:
        """What would be asked for, were it not a dry run."""
        self.counts.skipped += not folder
        return self._add(line("wanted", size, None, path, None))

    def failed(self, size: int, number: int, path: Sequence[bytes]) -> bytes:
        """A file or folder that was not stored."""
        self.counts.failed += 1
        return self._add(line(f"failed-{number}", size, None, path, None))

    def digest(self) -> bytes:
        """BLAKE3 over all lines so far, 32 bytes."""
        self._hash()
        return self._hasher.digest()

    def _add(self, text: bytes, lines: int = 1) -> bytes:
        self._lines.append(text)
        self._waiting += lines
        if self._waiting >= limits.BATCH:
            self._hash()
        return text

    def _hash(self) -> None:
        self._hasher.update(b"".join(self._lines))
        self._lines.clear()
        self._waiting = 0


def receipt_body(
    transcript: Transcript, *, job: bytes, sender: bytes, receiver: bytes, started: int, ended: int, durability: int
) -> bytes:
    """The bytes that the receiver signs. Times are nanoseconds since 1970, `sender` and `receiver` identities."""
    counts = transcript.counts
    return encode_receipt_body(
        ReceiptBody(
            job,
            sender,
            receiver,
            started,
            ended,
            counts.files,
            counts.identical,
            counts.skipped,
            counts.folders,
            counts.failed,
            counts.bytes,
            durability,
            transcript.digest(),
        )
    )


def encode_receipt(receipt: Receipt) -> bytes:
    """A receipt as the receiver keeps it: the body behind the 64 bytes of its signature."""
    return receipt.signature + receipt.body


def decode_receipt(data: bytes) -> Receipt:
    """A receipt as `encode_receipt` made it."""
    return Receipt(data[SIGNATURE_BYTES:], data[:SIGNATURE_BYTES])
