"""The sender's receipts: one text file per job, with what the receiver signed and the lines that its digest
covers.

The format is specified in `docs/receipts.md`. It is written while the job runs, line by line, so that a job
of a million files needs no memory for it, and gets its name when the receiver's signature is there.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from typing import Final

from ftx import limits
from ftx.core.identity import PUBLIC_BYTES, SIGNATURE_BYTES
from ftx.disk import private
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["FIRST_LINE", "ReceiptWriter", "clean"]

#: The first line of every receipt file: magic and version.
FIRST_LINE: Final = b"ftx receipt 1\n"

_KIND: Final = "state-unusable"
_SUFFIX: Final = ".receipt"
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BUFFER: Final = 64 * limits.KiB
_JOB: Final = 32


def _failure(path: str, error: OSError) -> FtxError:
    kind = "local-no-space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else _KIND
    why = (error.strerror or "input/output error").lower()
    return FtxError(kind, f"the receipt {show(path)} cannot be written: {why}")


class ReceiptWriter:
    """Writes the receipt of one job into `folder` (made 0700 when missing) as `JOB.receipt`, 0600.

    `job_hex` is the job's 32 lower-case hex digits. Nothing appears under that name before `finish`; what a
    crash leaves behind is removed by `clean`. Every method may raise FtxError `state-unusable` or
    `local-no-space`, after which only `abandon` makes sense. Not for two threads at once.
    """

    def __init__(self, folder: str, job_hex: str) -> None:
        if len(job_hex) != _JOB or not set(job_hex) <= set("0123456789abcdef"):
            raise ValueError("a job has 32 lower-case hex digits")
        private.ensure_folder(folder, _KIND)
        self._folder = folder
        self._path = os.path.join(folder, job_hex + _SUFFIX)
        self._temporary = f"{self._path}.{secrets.token_hex(8)}.new"
        try:
            fd = os.open(self._temporary, _NEW, 0o600)
        except OSError as error:
            raise _failure(self._path, error) from error
        self._file = os.fdopen(fd, "wb", buffering=_BUFFER)
        self._write(FIRST_LINE)

    def add(self, lines: bytes) -> None:
        """Append canonical lines, each ended by LF and none empty; ValueError otherwise. Nothing is checked
        else.
        """
        if not lines:
            return
        if not lines.endswith(b"\n") or lines.startswith(b"\n") or b"\n\n" in lines:
            raise ValueError("a receipt consists of lines that are not empty")
        self._write(lines)

    def finish(self, body: bytes, signature: bytes, signer_public: bytes) -> str:
        """End with what the receiver signed, make it durable and give it its name; the path.

        `signature` (64 bytes) is by the raw key `signer_public` (32 bytes) over `body`, already verified by
        the caller. An earlier receipt of the same job is replaced. No method may be called afterwards.
        """
        if len(signature) != SIGNATURE_BYTES or len(signer_public) != PUBLIC_BYTES:
            raise ValueError("a signature has 64 bytes and a key 32")
        end = f"\nbody {body.hex()}\nsigner {signer_public.hex()}\nsignature {signature.hex()}\n"
        self._write(end.encode("ascii"))
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.rename(self._temporary, self._path)
            private.sync_folder(self._folder)
        except OSError as error:
            raise _failure(self._path, error) from error
        return self._path

    def abandon(self) -> None:
        """Remove what was written, as the job ends without a receipt; does nothing after `finish`."""
        with suppress(OSError):  # closing writes what is buffered, which may be what failed
            self._file.close()
        with suppress(OSError):
            os.unlink(self._temporary)

    def _write(self, content: bytes) -> None:
        try:
            self._file.write(content)
        except OSError as error:
            raise _failure(self._path, error) from error


def clean(folder: str, now: float) -> int:
    """Remove receipts from `folder` that are older than `limits.STATE_DAYS` at `now`, and all but the latest.

    `now` is in seconds since 1970; `limits.RECEIPT_FILES` are kept. How many were removed. Unfinished ones go
    after a day.
    """
    return private.prune(folder, _SUFFIX, limits.RECEIPT_FILES, now)
