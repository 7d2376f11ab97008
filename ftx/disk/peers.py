"""The file of known peers: TOML, written by ftx under a lock, private.

    # Peers paired with this machine. Written by ftx: change it with `ftx-client peers`.
    version = 1
    count = 1

    [[peer]]
    name = "pi"
    id = "…"                          # as `ftx-client id` prints it there
    addresses = ["192.0.2.7"]         # hints, latest first
    added = "2026-11-22T09:30:00Z"
    seen = "2026-11-22T10:00:00Z"     # left out until it was

`count` makes a file that was cut short recognisable: TOML alone would read it as fewer peers. A file that is
not exactly right is an error, never an empty list, and never half a list.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Annotated

import attrs
import msgspec

from ftx import limits
from ftx.core.identity import format_id, parse_id
from ftx.core.peers import Peer, TrustStore
from ftx.disk import private
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["Watched", "load", "update"]

_KIND = "state-unusable"
_HEAD = "# Peers paired with this machine. Written by ftx: change it with `ftx-client peers`.\n"

_Date = Annotated[str, msgspec.Meta(max_length=40)]


class _Entry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One `[[peer]]`; what the fields mean is checked by `ftx.core.peers.Peer`."""

    name: str
    id: str
    addresses: Annotated[list[str], msgspec.Meta(max_length=limits.PEER_ADDRESSES)]
    added: _Date
    seen: _Date | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    count: int
    peer: Annotated[list[_Entry], msgspec.Meta(max_length=limits.PEERS)] = []


def load(path: str) -> TrustStore:
    """The peers kept at `path`; none if there is no such file.

    FtxError `state-unusable`, with a sentence that names the file, if it is not private and ours, or damaged.
    """
    read = private.read(path, limits.PEERS_FILE, _KIND)
    return TrustStore() if read is None else _decode(path, read[0])


def update(path: str, change: Callable[[TrustStore], TrustStore]) -> TrustStore:
    """Replace the peers at `path` by what `change` makes of them, and return that.

    Held under a lock (`path` + ".lock") from the reading to the durable writing, so that no change of another
    process is lost. Nothing is written when nothing changed. What `change` raises goes through, and leaves
    the file as it is. FtxError `state-unusable` as `load`, when it cannot be written, or when the lock is not
    to be had.
    """
    with private.locked(path + ".lock", _KIND):
        old = load(path)
        new = change(old)
        if new != old:
            private.replace(path, _encode(new), _KIND)
    return new


def _text(value: str) -> str:
    # A JSON string without control characters, DEL and surrogates (`Peer` has none) is a TOML basic string.
    return msgspec.json.encode(value).decode("utf-8")


def _encode(store: TrustStore) -> bytes:
    lines = [_HEAD, "version = 1\n", f"count = {len(store.peers)}\n"]
    for peer in store.peers:
        lines.append("\n[[peer]]\n")
        lines.append(f"name = {_text(peer.name)}\n")
        lines.append(f'id = "{format_id(peer.id)}"\n')
        lines.append(f"addresses = [{', '.join(_text(address) for address in peer.addresses)}]\n")
        lines.append(f"added = {_text(peer.added)}\n")
        if peer.seen is not None:
            lines.append(f"seen = {_text(peer.seen)}\n")
    return "".join(lines).encode("utf-8")


def _decode(path: str, content: bytes) -> TrustStore:
    hint = "restore it from a backup, or remove it and pair again"
    try:
        parsed = msgspec.toml.decode(content, type=_File)
        if parsed.count != len(parsed.peer):
            raise ValueError(f"it should have {parsed.count} peers and has {len(parsed.peer)}")
        return TrustStore(tuple(_peer(entry) for entry in parsed.peer))
    except (msgspec.DecodeError, ValueError, RecursionError, FtxError) as error:
        # ValidationError is a DecodeError; UnicodeDecodeError and two peers of one name or id are ValueErrors
        what = f"the list of peers {show(path)} is damaged: {show(str(error))}"
        raise FtxError(_KIND, what, hint) from error


def _peer(entry: _Entry) -> Peer:
    identity = parse_id(entry.id)
    if format_id(identity) != entry.id:  # only our own writer normalises
        raise ValueError(f"the identity of {entry.name} is not written as ftx writes it")
    peer = Peer(entry.name, identity, tuple(entry.addresses), entry.added, entry.seen)
    if peer.name != entry.name:
        raise ValueError(f"the name {entry.name} is not written as ftx writes it")
    return peer


@attrs.frozen
class _Reading:
    """What a file said, what stat(2) says of it while it says that, and whether that is to be believed."""

    store: TrustStore
    signature: tuple[int, ...]
    racy: bool
    owner: int


@attrs.define(eq=False)
class Watched:
    """The peers at `path`, as they are now: a stat(2) per question, read again only when the file changed.

    A removal counts at the next question. Thread-safe: what was read is kept as one value, so that a reader who was
    overtaken leaves, at worst, an older one that does not fit the file any more.
    """

    path: str
    #: Nanoseconds since 1970, to tell how old the file is.
    clock: Callable[[], int] = time.time_ns
    _reading: _Reading | None = attrs.field(default=None, init=False)
    _guests: TrustStore = attrs.field(factory=TrustStore, init=False)

    def welcome(self, change: Callable[[TrustStore], TrustStore]) -> TrustStore:
        """Trust somebody as long as this object lives: as `update`, but nothing is written. Returns what is trusted."""
        known = {peer.id for peer in self._read().peers}
        whole = change(self.current())
        self._guests = TrustStore(tuple(peer for peer in whole.peers if peer.id not in known))
        return whole

    @property
    def written_by(self) -> int | None:
        """The user whom the file belonged to when it was last read: who changed it, since each change makes it anew.

        None when there was none.
        """
        reading = self._reading
        return None if reading is None else reading.owner

    def is_guest(self, id: bytes) -> bool:
        """Whether this identity is trusted only as long as this object lives."""
        return self._guests.by_id(id) is not None

    def current(self) -> TrustStore:
        """The peers now, guests included; FtxError `state-unusable` as `load`, at every question."""
        store = self._read()
        for guest in self._guests.peers:
            if store.by_id(guest.id) is None and store.by_name(guest.name) is None:
                store = store.add(guest)
        return store

    def _read(self) -> TrustStore:
        """The peers in the file now; none if there is none."""
        try:
            signature = _signature(os.lstat(self.path))
        except OSError:
            signature = None  # missing, or not to be reached: `read` knows the difference
        reading = self._reading
        if reading is not None and signature == reading.signature and not reading.racy:
            return reading.store
        self._reading = None
        read = private.read(self.path, limits.PEERS_FILE, _KIND)
        if read is None:
            return TrustStore()
        content, status = read
        # A file this young can change again without a visible change of its times (and get the same inode
        # again).
        racy = self.clock() - status.st_ctime_ns < limits.RACY_SECONDS * 1e9
        reading = _Reading(_decode(self.path, content), _signature(status), racy, status.st_uid)
        self._reading = reading
        return reading.store


def _signature(status: os.stat_result) -> tuple[int, ...]:
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return (*times, status.st_ino, status.st_size, status.st_mode, status.st_uid)
