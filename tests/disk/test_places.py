"""Where things live, and who may be there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftx.disk.health import problems
from ftx.disk.homelock import HomeLock
from ftx.disk.places import SYSTEM_CONFIG, Places, absolute, places, prepare_home, prepare_inbox
from ftx.errors import FtxError


def mode(path: str | Path) -> int:
    """The permission bits of `path`."""
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_home_holds_everything() -> None:
    """With a home nothing outside it is named, whoever asks."""
    expected = Places(
        home="/h",
        config_files=("/h/config.toml",),
        key="/h/identity.key",
        peers="/h/peers.toml",
        state="/h/state",
        run="/h/run",
        control="/h/run/control.sock",
        control_packet="/h/run/control.seq",
        inbox="/h/inbox",
    )
    assert places("/h", {}, 1000, "/w") == expected
    assert places(None, {"FTX_HOME": "/h/"}, 0, "/w") == expected
    assert places("/h", {"FTX_HOME": "/other", "XDG_RUNTIME_DIR": "/r"}, 0, "/w") == expected


def test_root_has_the_systems_folders() -> None:
    """No home and uid 0; an empty FTX_HOME is none."""
    where = places(None, {"FTX_HOME": ""}, 0, "/w")
    assert where.home is None
    assert where.config_files == (SYSTEM_CONFIG,)
    assert where.key == "/var/lib/ftx/identity.key"
    assert where.inbox == "/var/lib/ftx/inbox"
    assert where.control == "/run/ftx/control.sock"


def test_a_user_has_the_xdg_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The XDG base directories, the system's configuration behind the user's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    where = places(None, {"XDG_RUNTIME_DIR": "/run/user/1000"}, 1000, "/w")
    assert where == Places(
        home=None,
        config_files=(f"{tmp_path}/.config/ftx/config.toml", "/etc/ftx/config.toml"),
        key=f"{tmp_path}/.local/state/ftx/identity.key",
        peers=f"{tmp_path}/.local/state/ftx/peers.toml",
        state=f"{tmp_path}/.local/state/ftx",
        run="/run/user/1000/ftx",
        control="/run/user/1000/ftx/control.sock",
        control_packet="/run/user/1000/ftx/control.seq",
        inbox=f"{tmp_path}/Downloads/ftx",
    )


@pytest.mark.parametrize("session", ["", "relative"])
def test_without_a_session_the_socket_is_in_the_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, session: str
) -> None:
    """Never a name in /tmp that another user could make first."""
    monkeypatch.setenv("HOME", str(tmp_path))
    where = places(None, {"XDG_RUNTIME_DIR": session}, 987654, "/w")
    assert where.run == f"{tmp_path}/.local/state/ftx/run"


@pytest.mark.parametrize(
    ("path", "whole"), [("a", "/w/a"), ("/a/", "/a"), ("/", "/"), ("../a", "/w/../a"), ("./~", "/w/./~")]
)
def test_absolute(path: str, whole: str) -> None:
    """Relative paths refer to the given folder; dots are left to the kernel."""
    assert absolute(path, "/w") == whole


def test_absolute_expands_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde in a file or a variable, where no shell expands it."""
    monkeypatch.setenv("HOME", "/home/me")
    assert absolute("~/in", "/w") == "/home/me/in"


def test_prepare_home_makes_private_folders(tmp_path: Path) -> None:
    """0700 whatever the umask; doing it again changes nothing."""
    where = places("home", {}, 1000, str(tmp_path))
    before = os.umask(0o777)
    try:
        prepare_home(where)
    finally:
        os.umask(before)
    prepare_home(where)
    assert (mode(tmp_path / "home"), mode(tmp_path / "home" / "state")) == (0o700, 0o700)
    assert sorted(os.listdir(tmp_path / "home")) == ["state"]


def test_prepare_home_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A fresh account has no ~/.local: the parents are made too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    where = places(None, {}, 1000, "/w")
    prepare_home(where)
    assert mode(where.state) == 0o700


@pytest.mark.parametrize("problem", ["parent", "file", "open"])
def test_homes_that_cannot_be_used(tmp_path: Path, problem: str) -> None:
    """A missing parent, a file in its place, a folder that others may change."""
    home = tmp_path / "home"
    if problem == "parent":
        home = home / "below"
    elif problem == "file":
        home.touch()
    else:
        home.mkdir()
        home.chmod(0o777)
    with pytest.raises(FtxError) as caught:
        prepare_home(places(str(home), {}, 1000, "/w"))
    assert caught.value.name == "home-unusable"
    assert str(home) in caught.value.message


def test_a_home_below_a_folder_that_is_missing(tmp_path: Path) -> None:
    """It is not made, whoever looks or begins; a home that is missing itself is no problem, for it will be."""
    home = tmp_path / "missing" / "home"
    where = places(str(home), {}, 1000, "/")
    [(about, error)] = problems(where)
    assert (about, error.name) == ("home", "home-unusable")
    assert (error.message, error.hint) == (f"the folder {home.parent} does not exist", f"mkdir -p {home.parent}")
    with pytest.raises(FtxError, match="no such file or directory") as caught:
        prepare_home(where)
    assert caught.value.hint == error.hint
    home.parent.mkdir()
    assert problems(where) == []
    prepare_home(where)
    assert problems(where) == []


@pytest.mark.case("D80")
def test_prepare_inbox(tmp_path: Path) -> None:
    """The last component is made, 0700; its parent must be there, unless it is the default."""
    prepare_inbox(str(tmp_path / "in"))
    assert mode(tmp_path / "in") == 0o700
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    prepare_inbox(str(shared))
    assert mode(shared) == 0o2775, "what is there stays as it is"
    deep = tmp_path / "Downloads" / "ftx"
    with pytest.raises(FtxError) as caught:
        prepare_inbox(str(deep))
    assert caught.value.name == "inbox-unusable"
    prepare_inbox(str(deep), parents=True)
    assert deep.is_dir()


@pytest.mark.case("D80")
def test_an_inbox_that_is_no_folder(tmp_path: Path) -> None:
    """A file, and a link to nowhere."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        with pytest.raises(FtxError, match="is not a folder"):
            prepare_inbox(str(tmp_path / name))


@pytest.mark.case("G122")
def test_one_daemon_per_home(tmp_path: Path) -> None:
    """The second one is told so, until the first lets go."""
    where = places(str(tmp_path / "home"), {}, 1000, "/w")
    prepare_home(where)
    first = HomeLock(where)
    with pytest.raises(FtxError) as caught:
        HomeLock(where)
    assert caught.value.name == "already-running"
    assert str(tmp_path / "home") in caught.value.message
    first.release()
    first.release()
    HomeLock(where).release()


@pytest.mark.case("G121")
def test_the_lock_survives_a_fork_and_ends_with_the_process(tmp_path: Path) -> None:
    """As a daemonising twistd does: the parent exits, the child holds on; then the child is killed."""
    where = places(str(tmp_path / "home"), {}, 1000, "/w")
    prepare_home(where)
    code = (
        "import os, sys\n"
        "from ftx.disk.homelock import HomeLock\n"
        "from ftx.disk.places import places\n"
        "lock = HomeLock(places(sys.argv[1], {}, 1000, '/'))\n"
        "if os.fork(): os._exit(0)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "home")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    assert process.wait(10) == 0, "the parent is gone"
    with pytest.raises(FtxError):
        HomeLock(where)
    process.stdin.close()
    assert process.stdout.read() == b"", "now the child is going too"
    process.stdout.close()
    deadline = time.monotonic() + 10
    while True:  # its files are closed one after the other
        try:
            HomeLock(where).release()
            break
        except FtxError:
            assert time.monotonic() < deadline
