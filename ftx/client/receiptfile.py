"""The receipt of an upload while it comes about: lines gathered here, written in a worker thread, signed at the end.

A receipt is a convenience: when it cannot be written, the job is no less done. But one with a hole in it would be worse
than none, so after the first failure there is none.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from ftx import limits
from ftx.disk.receipts import ReceiptWriter
from ftx.errors import FtxError
from ftx.net.worker import Worker
from ftx.wire.messages import Receipt

__all__ = ["ReceiptFile"]

_log = Logger()


class ReceiptFile:
    """The receipt of job `job` (32 hex digits) in `folder`, of which there is nothing until the first line."""

    def __init__(self, worker: Worker, folder: str, job: str) -> None:
        self._strand = worker.strand()
        self._folder = folder
        self._job = job
        self._lines: list[bytes] = []
        self._size = 0
        self._writer: ReceiptWriter | None = None
        self._begun = False  # whether there may be a file, or a job that makes one
        self._lost = False

    def add(self, line: bytes) -> None:
        """One more line of the transcript, or several."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= limits.READ_SIZE:
            self._flush()

    def begin_anew(self) -> None:
        """Everything so far is void."""
        self._lines, self._size = [], 0
        self.abandon()

    def abandon(self) -> Deferred[None]:
        """Remove what was written; fires when that is done. Does nothing after `keep`."""
        if not self._begun:
            return succeed(None)
        self._begun = False
        return self._strand.run(self._abandon).addErrback(
            lambda failure: _log.warn("a receipt was left unfinished: {reason}", reason=failure.getErrorMessage())
        )

    async def keep(self, receipt: Receipt, signer: bytes) -> str | None:
        """Finish with what the receiver signed (its raw key is `signer`); the path, or None when it cannot be kept."""
        self._begun = True
        try:
            path: str | None = await self._strand.run(self._finish, self._taken(), receipt, signer)
        except FtxError as error:
            _log.warn("the receipt could not be kept: {reason}", reason=error.message)
            return None
        if path is not None:
            self._begun = False
        return path

    def _taken(self) -> bytes:
        """What was gathered and is not written yet."""
        lines, self._lines, self._size = b"".join(self._lines), [], 0
        return lines

    def _flush(self) -> None:
        self._begun = True
        self._strand.run(self._write, self._taken()).addErrback(
            lambda failure: _log.warn("no receipt is kept: {reason}", reason=failure.getErrorMessage())
        )

    # -- in the worker's thread ----------------------------------------------------------------------------

    def _write(self, lines: bytes) -> None:
        if self._lost:
            return
        try:
            if self._writer is None:
                self._writer = ReceiptWriter(self._folder, self._job)
            self._writer.add(lines)
        except FtxError:
            self._abandon()
            self._lost = True
            raise

    def _abandon(self) -> None:
        self._lost = False
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    def _finish(self, lines: bytes, receipt: Receipt, signer: bytes) -> str | None:
        self._write(lines)
        if self._writer is None:
            return None
        path = self._writer.finish(receipt.body, receipt.signature, signer)
        self._writer = None
        return path
