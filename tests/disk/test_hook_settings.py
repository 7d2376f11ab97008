"""Hooks as settings: the tables `[hook.NAME]`, each complaint by name, and the environment a hook gets."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from ftx import limits
from ftx.daemon.config import Request, load
from ftx.disk.hooks import HookSetting, hooks_table, start
from ftx.errors import FtxError


def read(text: str) -> tuple[HookSetting, ...]:
    return hooks_table(tomllib.loads(text)["hook"], "config.toml")


def test_what_a_table_means() -> None:
    found = read('[hook.tell]\non = ["failed", "received"]\ncommand = ["/bin/tell", "-v"]\nenvironment = {A = "b"}')
    assert found == (HookSetting("tell", ("received", "failed"), ("/bin/tell", "-v"), limits.HOOK_TIME, {"A": "b"}),)
    assert read('[hook.a]\non = "waiting"\ncommand = ["/bin/a"]\ntimeout = 5')[0].timeout == 5


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('on = "received"', "[hook.a] in config.toml: command is missing"),
        ('command = ["/bin/a"]', "[hook.a] in config.toml: on is missing"),
        ('on = "recieved"\ncommand = ["/bin/a"]', '"recieved" is not one of offered, waiting, received, failed'),
        ('on = []\ncommand = ["/bin/a"]', "name at least one of"),
        ('on = "failed"\ncommand = []', "it is a program and at most 63 arguments"),
        ('on = "failed"\ncommand = ["tell"]', '"tell" is no absolute path'),
        ('on = "failed"\ncommand = "rm -rf /"', "command of [hook.a] in config.toml: expected array"),
        ('on = "failed"\ncommand = ["/bin/a", "b\\u0000"]', "it has a NUL character"),
        ('on = "failed"\ncommand = ["/bin/a"]\ntimeout = 0', "0 is not between 1 and 3600 seconds"),
        ('on = "failed"\ncommand = ["/bin/a"]\ntimeout = 3601', "3601 is not between 1 and 3600 seconds"),
        ('on = "failed"\ncommand = ["/bin/a"]\ntimeout = nan', "nan is not between 1 and 3600 seconds"),
        ('on = "failed"\ncommand = ["/bin/a"]\nenvironment = {"A=B" = "c"}', '"A=B" is not the name of a variable'),
        ('on = "failed"\ncommand = ["/bin/a"]\nenvironment = {FTX_HOOK = "c"}', "FTX_HOOK is set by ftx"),
    ],
)
def test_what_cannot_be_is_named(table: str, said: str) -> None:
    with pytest.raises(FtxError) as caught:
        read(f"[hook.a]\n{table}")
    assert caught.value.name == "config-invalid"
    assert said in caught.value.message


def test_a_misspelt_key_is_named() -> None:
    with pytest.raises(FtxError) as caught:
        read('[hook.a]\non = "failed"\ncomand = ["/bin/a"]\ncommand = ["/bin/a"]')
    assert (caught.value.message, caught.value.hint) == (
        "comand of [hook.a] in config.toml: there is no such key",
        "did you mean command?",
    )


@pytest.mark.parametrize("name", ["..", "a/b", "a b", "x" * 33, ""])
def test_names_are_those_of_folders(name: str) -> None:
    with pytest.raises(FtxError):
        hooks_table({name: {"on": "failed", "command": ["/bin/a"]}}, "config.toml")


def test_there_are_so_many_at_most() -> None:
    one = {"on": "failed", "command": ["/bin/a"]}
    assert len(hooks_table({f"h{number}": one for number in range(limits.HOOKS)}, "x")) == limits.HOOKS
    with pytest.raises(FtxError, match="more than 16 hooks"):
        hooks_table({f"h{number}": one for number in range(limits.HOOKS + 1)}, "x")


def test_what_others_may_replace_is_not_run(tmp_path: Path) -> None:
    """A program in the inbox is one that a peer may have put there."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(f'[hook.a]\non = "failed"\ncommand = ["{home}/inbox/a"]\n', "utf-8")
    with pytest.raises(FtxError, match="the program of a is in the inbox"):
        load(Request(home=str(home), uid=os.geteuid(), host="here"))


def test_a_hook_is_started_with_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments as written, an environment made anew, a folder of its own, and no descriptors besides three."""
    monkeypatch.setenv("SECRET", "x")
    script = 'printf "%s\\n" "$@"; env; pwd; ls /proc/self/fd; cat'
    command = ("/bin/sh", "-c", f"exec > said; {script}", "sh", "$(id)")
    setting = HookSetting("tell", ("failed",), command, 5.0, {"MORE": "1"})
    held = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(held, True)
    try:
        started = start(setting, "failed", b'{"name":"$(id)"}', str(tmp_path / "hooks"), "/run/c.sock")
        started.process.wait()
        assert started.reap() == 0
    finally:
        os.close(held)
    os.close(started.complaints)
    said = (tmp_path / "hooks" / "tell" / "said").read_text("utf-8").splitlines()
    assert said[0] == "$(id)"
    assert said[-1] == '{"name":"$(id)"}'
    variables = {line.partition("=")[0] for line in said if "=" in line}
    ours = {"PATH", "LANG", "HOME", "USER", "LOGNAME", "MORE", "FTX_HOOK", "FTX_EVENT", "FTX_CONTROL"}
    assert variables - {"PWD", "OLDPWD", "SHLVL", "_"} == ours  # those are of the shell
    assert str(tmp_path / "hooks" / "tell") in said
    descriptors = said[said.index(str(tmp_path / "hooks" / "tell")) + 1 : -1]
    assert set(descriptors) <= {"0", "1", "2", "3"}  # the last is the folder that ls looks at
    assert oct((tmp_path / "hooks" / "tell").stat().st_mode & 0o777) == "0o700"
