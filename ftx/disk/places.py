"""Where things live: every file and folder that the daemon and the client of one user share.

With a home (`--home DIR` or `FTX_HOME`) everything is below that one folder, and nothing else is looked
at: tests, demonstrations and second instances use it. Without one it is the platform's own folders (the
XDG base directories on Linux), and `/etc/ftx`, `/var/lib/ftx` and `/run/ftx` for root.

`places()` only says where; `prepare_home()` and `prepare_inbox()` make what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import attrs
import platformdirs

from ftx.disk.private import ensure_folder
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["SYSTEM_CONFIG", "SYSTEM_CONTROL", "Places", "absolute", "places", "prepare_home", "prepare_inbox"]

#: Configuration for every user of the machine, weaker than the user's own.
SYSTEM_CONFIG: Final = "/etc/ftx/config.toml"
#: The control socket of a daemon that root runs: tried after the user's own.
SYSTEM_CONTROL: Final = "/run/ftx/control.sock"
_SYSTEM_STATE: Final = "/var/lib/ftx"
_SYSTEM_RUN: Final = "/run/ftx"


@attrs.frozen
class Places:
    """Absolute paths. None of them need exist.

    `home` is None where the platform's folders are used. `config_files` are looked for in this order, the
    first to say something wins. `key`, `peers` and `state` are shared by the daemon and the client;
    `control` and `control_packet` are the sockets in the folder `run`; `inbox` is where pushes go unless
    configured otherwise.
    """

    home: str | None
    config_files: tuple[str, ...]
    key: str
    peers: str
    state: str
    run: str
    control: str
    control_packet: str
    inbox: str


def absolute(path: str, cwd: str) -> str:
    """`path` as an absolute path: `~` and `~user` in front are expanded, relative ones refer to `cwd`.

    A trailing slash goes; `..` stays, since what it means depends on symbolic links.
    """
    whole = os.path.join(cwd, os.path.expanduser(path))
    return whole.rstrip("/") or "/"


def _places(home: str | None, config_files: tuple[str, ...], top: str, state: str, run: str, inbox: str) -> Places:
    return Places(
        home=home,
        config_files=config_files,
        key=os.path.join(top, "identity.key"),
        peers=os.path.join(top, "peers.toml"),
        state=state,
        run=run,
        control=os.path.join(run, "control.sock"),
        control_packet=os.path.join(run, "control.seq"),
        inbox=inbox,
    )


def _user_run(state: str, environ: Mapping[str, str], uid: int) -> str:
    """The user's folder for sockets.

    Where the session has none, it is a folder of the state: the customary fallback below `/tmp` has a
    name that everybody knows beforehand and anybody can make first.
    """
    session = environ.get("XDG_RUNTIME_DIR", "")
    if not os.path.isabs(session):
        session = f"/run/user/{uid}"
        if not os.access(session, os.W_OK | os.X_OK):
            return os.path.join(state, "run")
    return os.path.join(session, "ftx")


def places(home: str | None, environ: Mapping[str, str], uid: int, cwd: str) -> Places:
    """Where things live for this user; creates nothing.

    `home` is the value of `--home`, else FTX_HOME in `environ` counts (empty means unset). `uid` 0 gets the
    system's folders, `cwd` is what a relative home refers to. The XDG variables for configuration, state and
    downloads are read by platformdirs, from the environment of the process.
    """
    chosen = home or environ.get("FTX_HOME") or None
    if chosen is not None:
        top = absolute(chosen, cwd)
        below = os.path.join
        return _places(
            top,
            (below(top, "config.toml"),),
            top,
            below(top, "state"),
            below(top, "run"),
            below(top, "inbox"),
        )
    if uid == 0:
        inbox = os.path.join(_SYSTEM_STATE, "inbox")
        return _places(None, (SYSTEM_CONFIG,), _SYSTEM_STATE, _SYSTEM_STATE, _SYSTEM_RUN, inbox)
    dirs = platformdirs.PlatformDirs("ftx", appauthor=False)
    own_config = os.path.join(dirs.user_config_dir, "config.toml")
    state = dirs.user_state_dir
    return _places(
        None,
        (own_config, SYSTEM_CONFIG),
        state,
        state,
        _user_run(state, environ, uid),
        os.path.join(dirs.user_downloads_dir, "ftx"),
    )


def _make_parents(path: str, kind: str) -> None:
    """Make the folders above `path` that are missing, 0700 as the XDG base directory specification says."""
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or "input/output error").lower()
        raise FtxError(kind, f"the folder {show(path)} cannot be made: {reason}") from error


def prepare_home(where: Places) -> None:
    """Make the home and the state folder where they are missing, 0700; raises FtxError `home-unusable`.

    The parent of a named home must exist. A folder that others may change is refused: they could exchange
    the key.
    """
    kind = "home-unusable"
    if where.home is None:
        _make_parents(where.state, kind)
    else:
        ensure_folder(where.home, kind)
    ensure_folder(where.state, kind)
    for folder in {where.home or where.state, where.state}:
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            raise FtxError(kind, f"the folder {show(folder)} cannot be written")


def prepare_inbox(path: str, *, parents: bool = False) -> None:
    """Make the inbox `path` where it is missing, 0700; raises FtxError `inbox-unusable`.

    Its parent must exist, unless `parents` says that missing ones are made too: for the default inbox,
    whose parent nobody has named. An existing inbox may belong to others and be shared, but we must be
    able to write.
    """
    kind = "inbox-unusable"
    if parents:
        _make_parents(path, kind)
    if not os.path.lexists(path):
        ensure_folder(path, kind)
    if not os.path.isdir(path):
        raise FtxError(kind, f"the inbox {show(path)} is not a folder")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise FtxError(kind, f"the inbox {show(path)} cannot be written")
