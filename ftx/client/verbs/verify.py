"""`verify`: what a receipt promised, looked at again."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ftx.client.options import Options, Verb, current
from ftx.errors import KINDS, FtxError
from ftx.text import path_text, plural, show, size

if TYPE_CHECKING:
    from ftx.core.receipt import Line
    from ftx.disk.receiptcheck import ReceiptFile
    from ftx.wire.messages import ReceiptBody

__all__ = ["verify"]


@click.command(cls=Verb, short_help="Check a receipt, and what it promised.")
@click.argument("receipt", metavar="RECEIPT", type=click.Path())
@click.option("--root", metavar="DIR", type=click.Path(), help="Read every file that it names, below DIR, again.")
def verify(receipt: str, root: str | None) -> int:
    """Check that RECEIPT is what its receiver signed, and say who that was.

    With --root, also check that every file, folder and link it names is below DIR with the content that was stored:
    under the name that it was stored by (DIR is the inbox, or a copy of it), or else under the one that it had (DIR is
    the folder that the sources are in). What is not is listed. Links on the way to a name are not followed.
    """
    from ftx.disk.receiptcheck import ReceiptFile

    options = current()
    check = _deadline(options)
    try:
        file = ReceiptFile.open(receipt, check)
    except FtxError as error:
        options.output.error(error, f"cannot verify {show(receipt)}")
        return error.exit_code
    try:
        code, wrong, seen = (0, 0, 0) if root is None else _compare(options, file, root, check)
    except FtxError as error:
        options.output.error(error, f"cannot verify {show(receipt)}")
        return error.exit_code
    finally:
        file.close()
    _conclude(options, receipt, file.body, root, (wrong, seen))
    return code


def _deadline(options: Options) -> Callable[[], None]:
    ends = None if options.timeout is None else time.monotonic() + options.timeout

    def check() -> None:
        if ends is not None and time.monotonic() > ends:
            raise FtxError("timeout")

    return check


def _compare(options: Options, file: ReceiptFile, folder: str, check: Callable[[], None]) -> tuple[int, int, int]:
    """The exit code, how many entries are not as they were, and how many there are."""
    from ftx.client.outcome import combined
    from ftx.disk.receiptcheck import Recheck

    recheck = Recheck(folder)
    codes: set[int] = set()
    wrong = seen = 0
    try:
        for line in file.lines():
            check()
            if line.stored_as is None or options.output.closed:
                continue
            seen += 1
            error = recheck.entry(line, check)
            wrong += error is not None
            codes.add(0 if error is None else error.exit_code)
            _say(options, line, error)
    finally:
        recheck.close()
    return (combined(codes) if seen else KINDS["digest-mismatch"].exit_code), wrong, seen


def _say(options: Options, line: Line, error: FtxError | None) -> None:
    raw = b"/".join(line.path)
    status = "ok" if error is None else "missing" if error.name == "source-missing" else "failed"
    record: dict[str, Any] = {"path": path_text(line.path)}
    if record["path"].encode("utf-8") != raw:
        record["path_b64"] = base64.b64encode(raw).decode("ascii")
    record |= {
        "stored_as": None if line.stored_as is None else path_text(line.stored_as),
        "size": line.size,
        "digest": None if line.digest is None else line.digest.hex(),
        "status": status,
        "error": None if error is None else {"code": error.number, "name": error.name, "message": show(error.message)},
    }
    options.output.record(record)
    if error is not None:
        options.output.result(f"{status}  {show(record['path'], 10_000)}: {show(error.message)}", "error")
    elif options.verbose:
        options.output.result(f"ok  {show(record['path'], 10_000)}")


def _conclude(options: Options, path: str, body: ReceiptBody, root: str | None, found: tuple[int, int]) -> None:
    from ftx.core.identity import format_id

    name, who = _signer(options, body.receiver)
    wrong, seen = found
    options.output.record(
        {
            "receipt": path,
            "job": body.job.hex(),
            "peer": {"name": name, "id": format_id(body.receiver)},
            "sender": format_id(body.sender),
            "started": _moment(body.started),
            "ended": _moment(body.ended),
            "files": body.files,
            "files_identical": body.identical,
            "files_skipped": body.skipped,
            "files_failed": body.failed,
            "directories": body.folders,
            "bytes": body.bytes,
            "durable": body.durability == 0,
            "checked": None if root is None else seen,
            "wrong": None if root is None else wrong,
        }
    )
    what = f"{plural(body.files, 'file')} and {plural(body.folders, 'folder')}, {size(body.bytes)}"
    options.output.note(f"signed by {who} at {_moment(body.ended)[:19]}Z: {what}")
    if name is None:
        options.output.note(f"{format_id(body.receiver)} is nobody who is paired here: compare it with theirs", "warn")
    if root is None:
        options.output.note("to compare the files themselves: --root DIR")
    elif wrong:
        options.output.note(f"not as it was stored: {wrong:,} of {seen:,}", "error")
    elif not seen:
        options.output.note("nothing to compare: it names nothing that was stored", "error")
    else:
        options.output.note("all of it is there, with the content that was stored")


def _moment(nanoseconds: int) -> str:
    """A time as the receiver has said it; one that no calendar has is the beginning of 1970."""
    from ftx.wire.events import iso_time

    try:
        return iso_time(nanoseconds / 1e9)
    except (ValueError, OverflowError, OSError):
        return iso_time(0)


def _signer(options: Options, receiver: bytes) -> tuple[str | None, str]:
    """What the signer is called here, if it is known, and how to speak of it."""
    from ftx.core.identity import format_id
    from ftx.disk import keys
    from ftx.disk.peers import load

    places = options.places()
    try:
        peer = load(places.peers).by_id(receiver)
        if peer is not None:
            return peer.name, show(peer.name)
        if keys.load(places.key).id == receiver:
            return "me", "this machine's own key"
    except (FtxError, OSError):
        pass
    return None, format_id(receiver)[:16] + "…"
