"""The daemon's own sandbox: after the start it may open nothing but what it needs (`docs/security.md`, "Sandbox").

The rules are made from the configuration, once, in `made()`; `Sandbox.begin()` puts them in force, in the main thread
and before there are others, so every thread and every hook is under them. What a later configuration would need beyond
them needs a restart, which `Sandbox.covers()` knows.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import Final

import attrs
from twisted.logger import Logger

import ftx
from ftx import limits
from ftx.daemon.config import Config
from ftx.disk.hooks import HookSetting
from ftx.disk.landlock import EXECUTE, READ, TIDY, WRITE, Rule, abi, restrict
from ftx.disk.private import ensure_folder
from ftx.errors import FtxError, StartupError
from ftx.text import plural, show

__all__ = ["Sandbox", "made", "missing", "runnable", "without"]

_log = Logger()
#: Where programs and libraries are.
_PROGRAMS: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store")
#: What the system says about itself and its names: to resolve them, and for the time zone.
_SYSTEM: Final = (
    "/proc",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/nscd",
    "/var/lib/sss",
)
#: Of /etc, for a daemon that runs as root and could read what no other user can.
_ETC: Final = (
    "ftx",
    "group",
    "gai.conf",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "nsswitch.conf",
    "passwd",
    "protocols",
    "resolv.conf",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
#: A file that we may write to but for the sandbox, and whose content is nothing to anybody.
_PROBE: Final = "/proc/self/comm"
#: The first version of Landlock that can move a file from one folder to another, as publishing one does.
_ABI_LEAST: Final = 2


def made(config: Config) -> Iterator[Rule]:
    """What the daemon needs, from its configuration. Paths that do not exist cost nothing."""
    written = _written(config)
    yield from (Rule(path, WRITE) for path in written)
    for path in (config.control, config.control_packet):
        yield Rule(os.path.dirname(path), TIDY)
    if config.sandbox == "on" and not config.no_control:
        yield Rule("/", READ)  # the queue sends whatever its user names, when the time has come
    for share in config.share:
        yield Rule(share.path, READ)
    for path in config.files:
        yield Rule(os.path.dirname(path), READ)
    for path in (*_PROGRAMS, sys.prefix, sys.base_prefix, os.path.dirname(os.__file__), *_module_folders(config)):
        yield Rule(path, EXECUTE)
    for hook in config.hook:
        yield Rule(os.path.dirname(os.path.realpath(hook.command[0])), READ)
        yield from _hook_rules(hook, written)
    yield from (Rule(path, READ) for path in _SYSTEM)
    # As any other user, it can read nothing there that is a secret; and files there are replaced, not rewritten.
    etc = [os.path.join("/etc", name) for name in _ETC] if os.geteuid() == 0 else ["/etc"]
    yield from (Rule(path, READ) for path in etc)
    yield from (Rule(path, WRITE) for path in _DEVICES)
    yield from (Rule(path, WRITE | EXECUTE) for path in config.sandbox_also)


def _written(config: Config) -> list[str]:
    """What the daemon writes to, after all symbolic links."""
    places = config.places
    apart = [places.state, os.path.dirname(places.key), os.path.dirname(places.peers)]
    homes = apart if places.home is None else [places.home]
    return [os.path.realpath(path) for path in (*homes, config.inbox, *config.request.written)]


def _hook_rules(hook: HookSetting, written: list[str]) -> Iterator[Rule]:
    """For what a hook's command names: its program and its interpreter, and the files and folders among its words."""
    program, *words = hook.command
    yield from (Rule(path, EXECUTE) for path in (program, *_interpreter(program)))
    for word in words:
        if word.startswith("/") and os.path.exists(word):
            yield Rule(word, READ if _meets(written, word) else EXECUTE)


def _interpreter(program: str) -> list[str]:
    """What the first line of a script says that it is run by."""
    try:
        if not os.path.isfile(program):
            return []
        with open(program, "rb") as file:
            first = file.readline(limits.PATH)
    except OSError:
        return []
    words = first[2:].split() if first.startswith(b"#!") else []
    return [os.fsdecode(word) for word in words[:1] if word.startswith(b"/")]


def _meets(written: list[str], path: str) -> bool:
    """Whether `path` is in one of these real paths, or a folder with one of them in it."""
    real = os.path.realpath(path)
    return any(os.path.commonpath((real, one)) in (real, one) for one in written)


def runnable(rules: Iterable[Rule]) -> Iterator[str]:
    """Where programs are run from, in or around what may be written to; but `sandbox_also` is meant to be both."""
    rules = list(rules)
    written = [os.path.realpath(rule.path) for rule in rules if rule.rights == WRITE]
    for rule in rules:
        if rule.rights == EXECUTE and _meets(written, rule.path):
            yield rule.path


def _module_folders(config: Config) -> Iterator[str]:
    """Where modules are looked for; but not the folder that the daemon was started in, unless ftx itself is there."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(ftx.__file__)))
    started_in = os.path.realpath(config.request.cwd)
    yield own
    yield from (path for path in sys.path if path and os.path.realpath(path) != started_in)


class Sandbox:
    """The sandbox of a daemon. `status` is for people: `landlock 7`, `landlock 7, strict`, `off`, or `none: why`."""

    def __init__(self) -> None:
        self.status = "off"
        self._allowed: list[tuple[str, int]] | None = None

    def begin(self, config: Config) -> None:
        """Put it in force, if the configuration wants it; what opens files later does so under it.

        Where the kernel cannot, that is logged, and it goes on without; StartupError `config-invalid` if the
        configuration requires it.
        """
        if config.sandbox == "off":
            return
        rules = list(made(config))
        abstract = os.environ.get("NOTIFY_SOCKET", "").startswith("@")
        unusable: list[tuple[Rule, str]] = []
        try:
            version = abi()
            if version < _ABI_LEAST:
                raise OSError(0, f"version {version} of it cannot do what is needed here")
            temporary = _own_temporary(config)
            version = restrict(
                rules,
                abstract_sockets=abstract,
                unusable=lambda rule, error: unusable.append((rule, (error.strerror or "error").lower())),
            )
        except OSError as error:
            self._without(config, f"the kernel has no Landlock for us: {(error.strerror or 'error').lower()}")
            return
        for rule, why in unusable:
            _log.warn("sandbox: {path} is left out: {why}", path=show(rule.path, limits.PATH), why=why)
        for path in runnable(rules):
            _log.warn(
                "sandbox: what is written there may be run: {path} is in or around a folder that the daemon writes to",
                path=show(path, limits.PATH),
            )
        left_out = {rule.path for rule, _ in unusable}
        self._allowed = [(os.path.realpath(rule.path), rule.rights) for rule in rules if rule.path not in left_out]
        if _writable(_PROBE):
            self._without(config, "Landlock has been asked for and is not in force")
            self._allowed = None
            return
        tempfile.tempdir = temporary
        os.environ |= {"TMPDIR": temporary, "SQLITE_TMPDIR": temporary}  # SQLite and what we start ask the environment
        self.status = f"landlock {version}" + (", strict" if config.sandbox == "strict" else "")
        threads = len(os.listdir("/proc/self/task")) - 1 if os.path.isdir("/proc/self/task") else 0
        if threads:
            self.status += f", without {plural(threads, 'thread')} that somebody started before"
            _log.warn("sandbox: {status}", status=self.status)

    def covers(self, path: str, rights: int) -> bool:
        """Whether the sandbox leaves these rights at `path`, after all symbolic links; True where there is none."""
        if self._allowed is None:
            return True
        real = os.path.realpath(path)
        left = rights
        for allowed, given in self._allowed:
            if real == allowed or real.startswith(allowed.rstrip("/") + "/"):
                left &= ~given
        return not left

    def _without(self, config: Config, why: str) -> None:
        if config.sandbox == "require":
            raise StartupError("config-invalid", f"{config.origins['sandbox'].of('sandbox')}: {why}", "sandbox = on")
        self.status = f"none: {why}"
        _log.warn("no sandbox: {why}", why=why)


def _own_temporary(config: Config) -> str:
    """A folder for temporary files where nobody else's are: below the state, which stays writable."""
    folder = os.path.join(config.places.state, "tmp")
    try:
        ensure_folder(folder, "home-unusable")
    except FtxError as error:  # a disk that is full: what exists goes on working
        _log.warn("no temporary files: {why}", why=error.message)
    return folder


def _writable(path: str) -> bool:
    """Whether something can be opened for writing that we own, and that no rule is about."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
    except (PermissionError, FileNotFoundError):
        return False
    return True


def missing(sandbox: Sandbox, config: Config) -> dict[str, str]:
    """What a new configuration has that the sandbox in force keeps from the daemon, by what it is for.

    Keys are `share NAME` and `hook NAME`; values are paths, clean for display.
    """
    found = {f"share {one.name}": one.path for one in config.share if not sandbox.covers(one.path, READ)}
    written = _written(config)
    for hook in config.hook:
        apart = [rule.path for rule in _hook_rules(hook, written) if not sandbox.covers(rule.path, rule.rights)]
        if apart:
            found[f"hook {hook.name}"] = apart[0]
    return {what: show(path, limits.PATH) for what, path in found.items()}


def without(names: Iterable[str], config: Config) -> Config:
    """`config` without the shares and hooks that are named as `missing()` names them."""
    gone = set(names)
    return attrs.evolve(
        config,
        share=tuple(one for one in config.share if f"share {one.name}" not in gone),
        hook=tuple(one for one in config.hook if f"hook {one.name}" not in gone),
    )
