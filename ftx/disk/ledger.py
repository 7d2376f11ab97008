"""What each peer has stored here today, so that a quota outlives a restart: a small private file.

Only peers with a quota are counted. A day is one of local time, named by the caller; another day begins with nothing.
"""

from __future__ import annotations

import threading
from typing import Annotated, Final

import attrs
import msgspec

from ftx import limits
from ftx.core.rights import Rights
from ftx.disk import private
from ftx.errors import FtxError

__all__ = ["Ledger"]

_KIND: Final = "state-unusable"
_Amount = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Used(msgspec.Struct, forbid_unknown_fields=True):
    """What one peer has used."""

    bytes: _Amount = 0
    files: _Amount = 0


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file: the day, and what was used on it, by identity in hex."""

    day: str
    used: Annotated[dict[str, _Used], msgspec.Meta(max_length=limits.PEERS)] = {}
    version: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1


@attrs.define(eq=False)
class Ledger:
    """The account of today at `path`. Thread-safe; everything blocks for as long as a small file takes.

    A file that cannot be read is an error (FtxError `state-unusable`) at every charge: a quota that is not known is
    used up.
    """

    path: str
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _file: _File | None = attrs.field(default=None, init=False)

    def charge(self, peer: bytes, day: str, rights: Rights, size: int) -> bool:
        """Count one file of `size` bytes for `peer`, unless that would be more than its `rights` allow: then False."""
        with self._lock:
            used = self._today(day).used
            mine = used.get(peer.hex(), _Used())
            if rights.bytes_per_day is not None and mine.bytes + size > rights.bytes_per_day:
                return False
            if rights.files_per_day is not None and mine.files + 1 > rights.files_per_day:
                return False
            used[peer.hex()] = _Used(mine.bytes + size, mine.files + 1)
            return True

    def give_back(self, peer: bytes, day: str, size: int, *, file: bool) -> None:
        """Take `size` bytes, and with `file` the file itself, off the account of `day`: they did not come."""
        with self._lock:
            if self._file is None or self._file.day != day:
                return
            mine = self._file.used.get(peer.hex())
            if mine is not None:
                mine.bytes = max(mine.bytes - size, 0)
                mine.files = max(mine.files - file, 0)

    def used(self, peer: bytes, day: str) -> tuple[int, int]:
        """Bytes and files counted for `peer` on `day`."""
        with self._lock:
            mine = self._today(day).used.get(peer.hex(), _Used())
            return mine.bytes, mine.files

    def save(self) -> None:
        """Write the account down. FtxError `state-unusable` when that cannot be done."""
        with self._lock:
            if self._file is not None:
                private.replace(self.path, msgspec.json.encode(self._file), _KIND)

    def _today(self, day: str) -> _File:
        if self._file is None:
            read = private.read(self.path, limits.LEDGER_FILE, _KIND)
            try:
                self._file = _File(day) if read is None else msgspec.json.decode(read[0], type=_File)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                what = f"the account of quotas {self.path} is damaged"
                raise FtxError(_KIND, what, "remove it: today's quotas then begin anew") from error
        if self._file.day != day:
            self._file = _File(day)
        return self._file
