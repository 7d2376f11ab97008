"""SQLite held to the path that it is given.

SQLite resolves every symbolic link in the name of a database once, when it opens it, and works by the resulting path
from then on. The one name that stays what it is, whoever renames folders meanwhile, is `/proc/self/fd/N/…`, N being
a held descriptor; but those are links, too, so that SQLite would put the path of the moment in their place. Its log
would then be made, and removed, wherever that path leads later.

So a copy of its usual virtual file system is registered beside that one, which differs in one function: names are full
path names already (https://www.sqlite.org/c3ref/vfs.html, xFullPathname). Nothing changes for anybody else who uses
SQLite in this process.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, Final

__all__ = ["NAME", "available"]

#: The name of the file system, for `vfs=` in a URI.
NAME: Final = "ftx-held"

_OK: Final = 0
_CANTOPEN: Final = 14

_FullPathname: Final = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
)


class _Vfs(ctypes.Structure):
    """`struct sqlite3_vfs`, version 3; older ones end earlier, and what is not there is not used."""

    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("zName", ctypes.c_char_p),
        ("pAppData", ctypes.c_void_p),
        ("xOpen", ctypes.c_void_p),
        ("xDelete", ctypes.c_void_p),
        ("xAccess", ctypes.c_void_p),
        ("xFullPathname", ctypes.c_void_p),
        ("rest", ctypes.c_void_p * 12),
    ]


def _copy(vfs: int, name: int, room: int, out: int) -> int:
    """xFullPathname: `name` is its own full path name, or too long."""
    text = ctypes.string_at(name) + b"\0"
    if len(text) > room:
        return _CANTOPEN
    ctypes.memmove(out, text, len(text))
    return _OK


_as_it_is: Final = _FullPathname(_copy)
_lock = threading.Lock()
#: What SQLite points to must stay; None: not tried yet, False: not to be had.
_registered: Any = None


def _register() -> Any:
    """The structure, registered, or False where SQLite's functions cannot be called from here (linked statically)."""
    import _sqlite3

    for place in (getattr(_sqlite3, "__file__", None), None):
        try:
            library = ctypes.CDLL(place)
            find, register = library.sqlite3_vfs_find, library.sqlite3_vfs_register
        except (OSError, AttributeError):
            continue
        find.restype, find.argtypes = ctypes.POINTER(_Vfs), [ctypes.c_char_p]
        register.restype, register.argtypes = ctypes.c_int, [ctypes.POINTER(_Vfs), ctypes.c_int]
        usual = find(b"unix")
        if not usual or usual.contents.iVersion != 3:
            continue
        ours = _Vfs()
        ctypes.pointer(ours)[0] = usual.contents
        ours.pNext = None
        ours.zName = NAME.encode("ascii")
        ours.xFullPathname = ctypes.cast(_as_it_is, ctypes.c_void_p)
        if register(ctypes.byref(ours), 0) == _OK:
            return ours
    return False


def available() -> bool:
    """Whether `NAME` can be used, which registers it at the first call. Thread-safe."""
    global _registered
    with _lock:
        if _registered is None:
            _registered = _register()
        return _registered is not False
