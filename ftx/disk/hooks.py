"""Hooks: the commands that an operator wants run when something happens, as settings and as processes.

A hook gets the event as JSON on standard input, and nothing of a peer's anywhere else: not among its arguments, not in
its environment, not in the name of a file, and no shell is in between. What it reads is a file in memory that holds the
whole of it, so whether it reads, or how fast, makes no difference to us (`docs/configuration.md`, "Hooks").
"""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import attrs
import msgspec

from ftx import limits
from ftx.disk import fds
from ftx.disk.configfile import invalid
from ftx.disk.private import ensure_folder
from ftx.disk.written import Reading, listed
from ftx.errors import FtxError
from ftx.text import plural, show

__all__ = ["OCCASIONS", "HookSetting", "Started", "end_group", "hooks_table", "start"]

#: What a hook can be run on, in the order of a job.
OCCASIONS: Final = ("offered", "waiting", "received", "failed")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


class _Hook(msgspec.Struct, forbid_unknown_fields=True):
    """One `[hook.NAME]`."""

    on: str | list[str]
    command: list[str]
    timeout: int | float = limits.HOOK_TIME
    environment: dict[str, str] = {}


@attrs.frozen
class HookSetting:
    """A hook as the operator has set it. `command` begins with an absolute path, `timeout` is in seconds."""

    name: str
    on: tuple[str, ...]
    command: tuple[str, ...]
    timeout: float
    environment: Mapping[str, str]


def hooks_table(table: Any, where: str) -> tuple[HookSetting, ...]:
    """The hooks in the table `hook` of the file `where`, by name; FtxError `config-invalid`."""
    if not isinstance(table, dict):
        raise invalid(f"hook in {show(where)}", "it has to be tables", "write [hook.NAME]")
    if len(table) > limits.HOOKS:
        raise invalid(f"hook in {show(where)}", f"more than {plural(limits.HOOKS, 'hook')}")
    return tuple(_hook(name, written, where) for name, written in sorted(table.items()))


def _hook(name: str, written: Any, where: str) -> HookSetting:
    reading = Reading(f"[hook.{name}]", where)
    if not _NAME.fullmatch(name):
        raise reading.wrong("a hook is called by at most 32 letters, digits, dashes and underscores")
    if not isinstance(written, dict):
        raise reading.wrong("it has to be a table", hint=f"write [hook.{name}]")
    for key in ("on", "command"):
        if key not in written:
            raise reading.wrong(f"{key} is missing")
    hook = reading.convert(written, _Hook)
    return HookSetting(
        name=name,
        on=reading.field("on", lambda: _occasions(hook.on)),
        command=reading.field("command", lambda: _command(hook.command)),
        timeout=reading.field("timeout", lambda: _timeout(hook.timeout)),
        environment=reading.field("environment", lambda: _environment(hook.environment)),
    )


def _occasions(value: str | list[str]) -> tuple[str, ...]:
    found = listed(value)
    for one in found:
        if one not in OCCASIONS:
            raise ValueError(f'"{one}" is not one of {", ".join(OCCASIONS)}')
    if not found:
        raise ValueError(f"name at least one of {', '.join(OCCASIONS)}")
    return tuple(occasion for occasion in OCCASIONS if occasion in found)


def _command(value: list[str]) -> tuple[str, ...]:
    if not value or len(value) > limits.CONFIG_ITEMS:
        raise ValueError(f"it is a program and at most {limits.CONFIG_ITEMS - 1} arguments")
    program = os.path.expanduser(value[0])
    if not program.startswith("/"):
        raise ValueError(f'"{value[0]}" is no absolute path: nothing is looked up for a hook, and there is no shell')
    if any("\0" in word for word in value):
        raise ValueError("it has a NUL character")
    return (os.path.normpath(program), *value[1:])


def _timeout(value: float) -> float:
    if not limits.HOOK_TIME_LEAST <= value <= limits.HOOK_TIME_MOST:
        raise ValueError(f"{value:g} is not between {limits.HOOK_TIME_LEAST:g} and {limits.HOOK_TIME_MOST:g} seconds")
    return float(value)


def _environment(value: Mapping[str, str]) -> Mapping[str, str]:
    if len(value) > limits.CONFIG_ITEMS:
        raise ValueError(f"more than {limits.CONFIG_ITEMS} variables")
    for name, text in value.items():
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f'"{name}" is not the name of a variable')
        if name.startswith("FTX_"):
            raise ValueError(f"{name} is set by ftx")
        if "\0" in text:
            raise ValueError(f"{name} has a NUL character")
    return dict(value)


@attrs.frozen
class Started:
    """A hook that runs: its process, a descriptor that is readable when it has ended, and one with its complaints."""

    process: subprocess.Popen[bytes]
    ended: int
    complaints: int

    def end(self, number: int) -> None:
        """Send a signal to all of its process group."""
        end_group(self.process.pid, number)

    def reap(self) -> int:
        """The exit code, negative for a signal; the rest of its group ends with it. Once, and when it has ended."""
        # In this order: while the process is a zombie nobody else can have its number, nor its group's.
        end_group(self.process.pid, signal.SIGKILL)
        fds.close(self.ended)
        return self.process.wait()


def end_group(group: int, number: int) -> None:
    """Send a signal to a process group that may be gone by now."""
    with suppress(ProcessLookupError, PermissionError):  # the latter for a group of which nobody is ours any more
        os.killpg(group, number)


def start(setting: HookSetting, occasion: str, event: bytes, folder: str, control: str) -> Started:
    """Run a hook on `occasion`, with `event` as its standard input and a working folder of its own below `folder`.

    Its environment is made anew: PATH, HOME, USER, LANG, FTX_HOOK, FTX_EVENT (both words of the configuration),
    FTX_CONTROL, and what the setting adds. Blocking. FtxError `local-io` when it cannot be started.
    """
    opened: list[int] = []
    try:
        own = os.path.join(folder, setting.name)
        ensure_folder(folder, "local-io")
        ensure_folder(own, "local-io")
        stdin = os.memfd_create("ftx-event", os.MFD_CLOEXEC)
        opened.append(stdin)
        _fill(stdin, event)
        theirs, ours = os.pipe2(os.O_CLOEXEC)[::-1]
        opened += [theirs, ours]
        os.set_blocking(ours, False)
        process = subprocess.Popen(
            setting.command,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            cwd=own,
            env=_clean(setting, occasion, control),
            start_new_session=True,
            umask=0o077,
        )
        try:
            ended = os.pidfd_open(process.pid)
        except OSError:
            end_group(process.pid, signal.SIGKILL)
            process.wait()
            raise
        opened.remove(ours)
    except OSError as error:
        raise FtxError("local-io", f"it cannot be started: {(error.strerror or 'error').lower()}") from error
    finally:
        for descriptor in opened:
            fds.close(descriptor)
    return Started(process, ended, ours)


def _fill(descriptor: int, content: bytes) -> None:
    """Write all of it, and go back to its beginning."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)


def _clean(setting: HookSetting, occasion: str, control: str) -> dict[str, str]:
    """The environment of a hook: nothing of ours, and nothing of anybody else's, is in it by chance."""
    made = {"PATH": _PATH, "LANG": "C.UTF-8"}
    with suppress(KeyError):  # a user without an entry has neither a name nor a home
        user = pwd.getpwuid(os.geteuid())
        made |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
    return made | dict(setting.environment) | {"FTX_HOOK": setting.name, "FTX_EVENT": occasion, "FTX_CONTROL": control}
