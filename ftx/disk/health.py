"""Looking at what ftx has on this machine's disk, without touching it: the home, the key, the peers, the inbox."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

import attrs

from ftx.disk import fds, keys, peers
from ftx.disk.places import Places
from ftx.disk.trial import write_speed
from ftx.errors import FtxError
from ftx.limits import PROBE, SPACE_FLOOR_BYTES, SPACE_FLOOR_SHARE
from ftx.text import show

__all__ = ["InboxLook", "look_at_inbox", "newest", "problems", "speed_of"]


def problems(places: Places) -> list[tuple[str, FtxError]]:
    """What is wrong with the home, the key and the peers: what it is about, and the error that a run would end with."""
    found: list[tuple[str, FtxError]] = []
    for about, folder in (("home", places.home or places.state), ("state", places.state), ("run", places.run)):
        error = _folder(folder, places.home is not None and folder == places.home)
        if error is not None and all(error.message != other.message for _, other in found):
            found.append((about, error))
    for about, path, load in (("key", places.key, keys.load), ("peers", places.peers, peers.load)):
        if os.path.lexists(path):
            try:
                load(path)
            except FtxError as error:
                found.append((about, error))
    return found


def _folder(path: str, named: bool) -> FtxError | None:
    """Why a private folder could not be used; None where it can, or will be made.

    One that somebody has `named` is made where its parent is there; the usual ones are, parents and all.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if not named or os.path.isdir(parent):
            return None
        return FtxError("home-unusable", f"the folder {show(parent)} does not exist", f"mkdir -p {show(parent)}")
    except OSError as error:
        return FtxError("home-unusable", f"the folder {show(path)} cannot be used: {(error.strerror or '').lower()}")
    if not stat.S_ISDIR(status.st_mode):
        return FtxError("home-unusable", f"{show(path)} is not a folder", "move it away")
    if status.st_uid not in (os.geteuid(), 0):
        hint = f"chown it, or run as that user: ls -ld {show(path)}"
        return FtxError("home-unusable", f"the folder {show(path)} belongs to another user", hint)
    if status.st_mode & 0o022:
        return FtxError(
            "home-unusable", f"the folder {show(path)} can be changed by others", f"chmod go-w {show(path)}"
        )
    if not os.access(path, os.W_OK | os.X_OK):
        return FtxError("home-unusable", f"the folder {show(path)} cannot be written", f"chmod u+rwx {show(path)}")
    return None


def newest(paths: Iterable[str]) -> float:
    """The latest time of change among these files and folders that are there, in seconds since 1970; 0 for none."""
    times = [0.0]
    for path in paths:
        try:
            times.append(os.stat(path).st_mtime)
        except OSError:
            continue
    return max(times)


@attrs.frozen
class InboxLook:
    """An inbox as it is found. Bytes; `free` beyond the floor that is left alone, `files` None where uncounted."""

    path: str
    free: int = 0
    total: int = 0
    files: int | None = None
    #: Why nothing could be stored there; None where it could, or where it will be made.
    error: FtxError | None = None
    #: Whether it is not there yet.
    missing: bool = False


def look_at_inbox(path: str, *, usual: bool = False) -> InboxLook:
    """What there is at `path`; the nearest folder above tells the space where it is missing.

    `usual`: it is the one that is made, with the folders above it, when nobody says otherwise.
    """
    place = path
    while not os.path.lexists(place) and place not in ("", "/"):
        place = os.path.dirname(place)
    missing = place != path
    error = None
    try:
        status = os.statvfs(place or "/")
        if missing and not usual and os.path.dirname(path) != place:
            error = FtxError(
                "inbox-unusable", f"the folder {show(os.path.dirname(path))} does not exist", "make it first"
            )
        elif not missing and not os.path.isdir(path):
            error = FtxError("inbox-unusable", f"{show(path)} is not a folder", "move it away, or use --inbox")
        elif not os.access(place, os.W_OK | os.X_OK) or status.f_flag & os.ST_RDONLY:
            error = FtxError(
                "inbox-unusable", f"{show(place)} cannot be written", f"chmod u+rwx {show(place)}, or --inbox"
            )
    except OSError as problem:
        why = (problem.strerror or "input/output error").lower()
        return InboxLook(path, error=FtxError("inbox-unusable", f"{show(path)} cannot be looked at: {why}"))
    total = status.f_blocks * status.f_frsize
    floor = min(int(total * SPACE_FLOOR_SHARE), SPACE_FLOOR_BYTES)
    files = status.f_favail if status.f_files else None
    return InboxLook(path, status.f_bavail * status.f_frsize - floor, total, files, error, missing)


def speed_of(path: str) -> float:
    """Bytes per second that the disk of the folder `path` takes durably; 0 where it cannot be measured."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return 0.0
    try:
        seconds = write_speed(folder, PROBE)
    except FtxError:
        return 0.0
    finally:
        fds.close(folder)
    return PROBE / seconds if seconds > 0 else 0.0
