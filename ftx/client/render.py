"""What a run says: sentences and tables for people, JSON lines for programs.

Everything here is pure and returns text. Whatever may have come from a peer goes through `ftx.text.show()`, also
where the caller says it is clean: cleaning twice changes nothing.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ftx.core.peers import TrustStore
from ftx.errors import KINDS
from ftx.limits import COMMAND_SHOWN, RATE_FROM
from ftx.text import columns, duration, path_text, plural, show, size
from ftx.wire.events import Connected, Connecting, Done, Event, FileEvent, PeerInfo, Retry, Waiting, encode

if TYPE_CHECKING:
    from ftx.client.listing import Listed

__all__ = [
    "command_line",
    "connected_line",
    "connecting_line",
    "done_line",
    "failure_lines",
    "file_line",
    "json_line",
    "listed_json",
    "listed_line",
    "other_name",
    "peer_label",
    "peers_table",
    "renamed_line",
    "retry_line",
    "table",
    "waiting_line",
]

#: Characters of a sentence; more is cut, so that nobody can scroll a screen away with one message.
_SENTENCE = 1000


def json_line(value: Event | dict[str, Any]) -> str:
    """`value` as one line of JSON in ASCII, without the newline.

    Everything beyond printable ASCII is written as `\\uXXXX`: exact for a program whatever the locale is, and
    harmless on a terminal, where a name may hide bidirectional overrides.
    """
    return _ascii(encode(value) if isinstance(value, Event) else msgspec.json.encode(value))


def _ascii(raw: bytes) -> str:
    line = raw.decode("utf-8")
    if line.isascii() and "\x7f" not in line:
        return line
    return "".join(char if " " <= char < "\x7f" else _escape(char) for char in line)


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def command_line(argv: Sequence[str]) -> str:
    """The command that was typed, to be typed again; empty when it is too long, or cannot be shown exactly."""
    line = shlex.join(argv)
    return line if len(line) <= COMMAND_SHOWN and show(line, COMMAND_SHOWN) == line else ""


def peer_label(peer: PeerInfo | None, fallback: str = "") -> str:
    """How sentences call a peer: its name, else its address, else what the user wrote."""
    if peer is None:
        return show(fallback)
    return show(peer.name or peer.address or fallback)


def _at(peer: PeerInfo | None, fallback: str) -> str:
    """`pi (192.168.1.7 port 7389)`, as far as it is known, and the address only once."""
    label = peer_label(peer, fallback)
    if peer is None or not peer.address:
        return label
    port = f" port {peer.port}" if peer.port else ""
    address = show(peer.address)
    return f"{label}{port}" if address == label else f"{label} ({address}{port})"


def connecting_line(event: Connecting, fallback: str) -> str:
    """`connecting to pi (192.168.1.7 port 7389)`."""
    return f"connecting to {_at(event.peer, fallback)}"


def connected_line(event: Connected, fallback: str) -> str:
    """`connected to pi (192.168.1.7 port 7389), id abcdefg-…`: who really answered."""
    identity = show(event.peer.id[:7]) if event.peer and event.peer.id else ""
    return f"connected to {_at(event.peer, fallback)}" + (f", id {identity}-…" if identity else "")


def waiting_line(event: Waiting, fallback: str) -> str:
    """`waiting for somebody at pi to approve 3 files, 2.1 MiB (120 s left)`."""
    what = [plural(event.files, "file")] if event.files is not None else []
    if event.bytes is not None:
        what.append(size(event.bytes))
    left = f" ({duration(event.deadline_s)} left)" if event.deadline_s is not None else ""
    words = f"; the words on both screens: {show(event.phrase)}" if event.phrase else ""
    who = peer_label(event.peer, fallback)
    return f"waiting for somebody at {who} to approve {', '.join(what) or 'it'}{left}{words}"


def retry_line(event: Retry) -> str:
    """`the connection was lost; attempt 2 in 1.0 s`."""
    return f"{show(event.error.message, _SENTENCE)}; attempt {event.attempt} in {duration(event.delay_s)}"


def file_line(event: FileEvent) -> str:
    """The fate of one file: `stored     photos/1.jpg as photos/1 (1).jpg`."""
    line = f"{show(event.status):<9}  {show(event.path, _SENTENCE)}"
    if event.stored_as is not None and event.stored_as != event.path:
        line += f" as {show(event.stored_as, _SENTENCE)}"
    return line + (f": {show(event.error.message)}" if event.error else "")


def other_name(event: FileEvent, into: str = "") -> bool:
    """Whether the file is at another place there than its path below the folder `into` of the inbox."""
    if event.stored_as is None:
        return False
    wanted = path_text([*filter(None, [os.fsencode(into)]), event.path.encode("utf-8", "replace")])
    return event.stored_as != wanted


def renamed_line(event: FileEvent, where: str = "there") -> str:
    """`  notes.txt is notes (1).txt there`, for a file whose name was taken by other content."""
    return f"  {show(event.path, _SENTENCE)} is {show(event.stored_as or '', _SENTENCE)} {where}"


def done_line(
    done: Done, fallback: str = "", renamed: int = 0, *, pulled: bool = False, by_digest: bool = False
) -> str:
    """The last line of a transfer; `renamed` files are there under another name. `pulled`: they came here.

    `sent 214 files, 3.2 GiB to pi in 29.4 s (111 MiB/s), 12 identical (by size and time), the rest verified`. Identical
    files count as verified only `by_digest`: where their content was compared and not only size and time.
    The rate counts only what travelled this time, and what travelled is named when it is less than the whole. Of a few
    bytes there is no rate.
    """
    if done.dry_run:
        return _dry_line(done, fallback, by_digest)
    count = plural(done.files, "file")
    if done.files_failed:
        count = f"{done.files:,} of {plural(done.files + done.files_failed, 'file')}"
    did, way = ("received", "from") if pulled else ("sent", "to")
    parts = [f"{did} {count}"]
    if done.directories:
        parts[0] += f" in {plural(done.directories, 'folder')}"
    parts.append(f"{size(done.bytes)} {way} {peer_label(done.peer, fallback)} in {duration(done.seconds)}{_pace(done)}")
    for number, word in (
        (renamed, "under another name"),
        (done.files_identical, _identical(by_digest)),
        (done.files_skipped, "skipped"),
        (done.files_failed, "failed"),
    ):
        if number:
            parts.append(f"{number:,} {word}")
    if done.files and (by_digest or not done.files_identical):
        parts.append("verified")
    elif done.files > done.files_identical:
        parts.append("the rest verified")
    return ", ".join(parts)


def _identical(by_digest: bool) -> str:
    return "identical (by digest)" if by_digest else "identical (by size and time)"


def _dry_line(done: Done, fallback: str, by_digest: bool) -> str:
    """`would send 3 files, 1.2 MiB to pi, 5 identical (by size and time)`."""
    parts = [f"would send {plural(done.files_wanted, 'file')}", size(done.bytes_wanted)]
    parts[1] += f" to {peer_label(done.peer, fallback)}"
    for number, word in (
        (done.files_identical, _identical(by_digest)),
        (done.files_skipped, "skipped"),
        (done.files_failed, "would fail"),
    ):
        if number:
            parts.append(f"{number:,} {word}")
    return ", ".join(parts)


def _pace(done: Done) -> str:
    measured = done.seconds > 0 and done.bytes_wire >= RATE_FROM
    rate = f"{size(done.bytes_wire / done.seconds)}/s" if measured else ""
    if 0 < done.bytes_wire < done.bytes:
        moved = f"{size(done.bytes_wire)} travelled"
        return f" ({moved}, {rate})" if rate else f" ({moved})"
    return f" ({rate})" if rate else ""


def listed_json(item: Listed) -> str:
    """One item of `ls` as a line of JSON in ASCII."""
    return _ascii(msgspec.json.encode(item))


def listed_line(item: Listed, asked: str, *, long: bool) -> str:
    """One item of `ls` for people: its name below what was `asked` for; `long`: permissions, size and time, too."""
    above = path_text(os.fsencode(part) for part in asked.split("/") if part)
    name = item.path.removeprefix(above).lstrip("/") or item.path.rpartition("/")[2]
    shown = show(name, _SENTENCE)
    if not long:
        return shown
    kind = {"folder": stat.S_IFDIR, "share": stat.S_IFDIR, "link": stat.S_IFLNK}.get(item.kind, 0)
    mode = stat.filemode(kind | item.mode)
    much = "-" if item.size is None else size(item.size)
    why = f"  ({show(item.error)})" if item.error else ""
    return f"{mode.replace('?', '-', 1)}  {much:>9}  {item.mtime[:16].replace('T', ' ')}  {shown}{why}"


def failure_lines(failures: Sequence[FileEvent], total: int) -> list[str]:
    """The files that failed: those in `failures`, each with its reason, and how many more there are."""
    lines = []
    for event in failures:
        why = show(event.error.message) if event.error else "failed"
        lines.append(f"  {show(event.path, _SENTENCE)}: {why}")
    more = total - len(failures)
    if more > 0:
        lines.append(f"  and {more:,} more")
    hints = {hint for event in failures if event.error and (hint := event.error.hint or _hint(event.error.name))}
    if len(hints) == 1:
        lines.append(f"hint: {show(hints.pop(), _SENTENCE)}")
    return lines


def _hint(name: str) -> str:
    return KINDS[name].hint if name in KINDS else ""


def peers_table(store: TrustStore) -> list[str]:
    """The paired peers: NAME ID ADDRESSES SEEN."""
    from ftx.core.identity import format_id

    rows = [
        (
            show(peer.name),
            f"{format_id(peer.id)[:15]}…",
            show(", ".join(peer.addresses)) or "-",
            show(peer.seen or "-")[:16].replace("T", " "),
        )
        for peer in sorted(store.peers, key=lambda peer: peer.name.casefold())
    ]
    return table(("NAME", "ID", "ADDRESSES", "SEEN (UTC)"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns two spaces apart, as wide as their widest cell on a terminal; no white space at the ends of lines."""
    whole = [head, *rows]
    widths = [max(columns(row[column]) for row in whole) for column in range(len(head))]
    lines = []
    for row in whole:
        cells = [cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines
