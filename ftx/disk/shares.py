"""Shares: folders and single files that others may read, each held open, and found in by nothing but descriptors."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import attrs
import msgspec

from ftx import limits
from ftx.disk import fds
from ftx.disk.configfile import invalid
from ftx.disk.held import Held, Identity
from ftx.disk.names import NameRules, check_component
from ftx.disk.places import absolute
from ftx.disk.root import Means, Root
from ftx.disk.roots import Root as Source
from ftx.disk.store import Path
from ftx.disk.walk import wire_time
from ftx.errors import FtxError
from ftx.text import show
from ftx.wire.messages import Item, ItemKind

__all__ = ["Share", "ShareSetting", "Shares", "check_share", "overlapping", "share_tables", "shares_of"]

#: The bits of a mode that travel.
_RIGHTS = 0o777


@attrs.frozen
class ShareSetting:
    """A share as the operator has set it. `path` is absolute."""

    name: str
    path: str
    #: Every paired key may see it.
    public: bool = False
    #: It may overlap the inbox.
    with_inbox: bool = False


def check_share(text: str) -> str:
    """`NAME=DIR` as it is; FtxError `usage` when it is not of that form, or when no share can have that name."""
    _split(text)
    return text


def shares_of(values: Iterable[str | ShareSetting], cwd: str) -> tuple[ShareSetting, ...]:
    """The shares that a setting means: texts `NAME=DIR`, relative to `cwd`, or what `share_tables` gave.

    FtxError `usage` for a name that is there twice.
    """
    found: dict[str, ShareSetting] = {}
    for value in values:
        if isinstance(value, str):
            name, path = _split(value)
            value = ShareSetting(name, absolute(path, cwd))
        if value.name in found:
            raise FtxError("usage", f"two shares are called {show(value.name)}")
        found[value.name] = value
    return tuple(found.values())


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    """One `[share.NAME]`."""

    path: str
    public: bool = False
    with_inbox: bool = False


def share_tables(tables: dict[str, Any], path: str, cwd: str) -> tuple[ShareSetting, ...]:
    """The shares of the tables `[share.NAME]` in the configuration file `path`; FtxError `config-invalid`."""
    found = []
    for name, table in tables.items():
        where = f"[share.{show(name)}] in {show(path)}"
        try:
            said = msgspec.convert(table, _Table)
            _split(f"{name}={said.path}")
        except msgspec.ValidationError as error:
            text = show(str(error)).replace("`", "")
            raise invalid(where, text[:1].lower() + text[1:], "the keys are path, public and with_inbox") from error
        except FtxError as error:
            raise invalid(where, error.message, error.hint) from error
        found.append(ShareSetting(name, absolute(said.path, cwd), said.public, said.with_inbox))
    if len(found) > limits.CONFIG_ITEMS:
        raise invalid(show(path), f"more than {limits.CONFIG_ITEMS} shares")
    return tuple(found)


def _split(text: str) -> tuple[str, str]:
    """The name and the path of `NAME=DIR`; FtxError `usage`."""
    name, equals, path = text.partition("=")
    if not equals or not path.strip():
        raise FtxError("usage", f'"{show(text)}" is not of the form NAME=DIR', "for example photos=/srv/photos")
    try:
        check_component(os.fsencode(name), NameRules(), top=True)
    except (FtxError, UnicodeEncodeError) as error:
        why = "a share is called by one plain name, without a slash and without a dot in front"
        raise FtxError("usage", f'"{show(name)}" cannot be the name of a share', why) from error
    return name, path


def overlapping(path: str, inbox: str) -> bool:
    """Whether what is at `path` is in the inbox, or the inbox in it, after all symbolic links. Blocking."""
    one, other = os.path.realpath(path), os.path.realpath(inbox)
    return os.path.commonpath([one, other]) in (one, other)


@attrs.frozen(eq=False)
class Share:
    """One of them, open. `single` is the name of the file in the held folder, when it is a file that is shared."""

    setting: ShareSetting
    root: Root
    single: bytes | None
    real: bytes

    @classmethod
    def open(cls, setting: ShareSetting) -> Share:
        """FtxError `config-invalid` when there is neither a folder nor a regular file, or it cannot be read."""
        try:
            real = os.path.realpath(os.fsencode(setting.path), strict=True)
            status = os.stat(real)
            if stat.S_ISREG(status.st_mode):
                folder = Root(os.fsdecode(os.path.dirname(real)), Means(), shared=True)
                return cls(setting, folder, os.path.basename(real), real)
            if stat.S_ISDIR(status.st_mode):
                return cls(setting, Root(os.fsdecode(real), Means(), shared=True), None, real)
            why = "it is neither a folder nor a regular file"
        except (OSError, ValueError) as error:
            why = (getattr(error, "strerror", None) or "it cannot be opened").lower()
        whole = f"the share {show(setting.name)} cannot be used: {show(setting.path)}: {why}"
        raise FtxError("config-invalid", whole, "see --share")

    def held(self, path: Path, hidden: frozenset[Identity], *, follow: bool = False) -> Held | None:
        """What is at `path` below the share, or None when nothing that may be seen is there. Blocking.

        With `follow` links are followed, as `Held.follow()` does.
        """
        if self.single is not None:
            return None if path else self._there(Held(self.root, (self.single,), hidden))
        if follow:
            try:
                real = Held(self.root, path, hidden, depth=0).follow(())
            except (OSError, FtxError):
                return None
            path = real.below
        for depth in range(1, len(path)):
            if not self._there(Held(self.root, path[:depth], hidden)):
                return None
        return self._there(Held(self.root, path, hidden))

    def _there(self, held: Held) -> Held | None:
        with suppress(OSError, FtxError):
            fd, entry = held.enter()
            try:
                status = os.stat(entry, dir_fd=fd, follow_symlinks=False)
            finally:
                fds.close(fd)
            plain = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
            name = held.below[-1] if held.below else b""
            return held if plain and not held.hides(name, status) else None
        return None


class Shares:
    """The shares of a daemon. `hidden` are files and folders that are in none of them; asked anew for each request.

    What blocks may be called from any thread. They are open until the last `use()` has ended.
    """

    def __init__(self, settings: Iterable[ShareSetting], hidden: Sequence[str] = ()) -> None:
        """Open all of them, or none: FtxError `config-invalid`."""
        self._hidden = tuple(hidden)
        self._users = 1
        self._by_name: dict[bytes, Share] = {}
        try:
            for setting in settings:
                self._by_name[os.fsencode(setting.name)] = Share.open(setting)
        except BaseException:
            self.done()
            raise

    @property
    def settings(self) -> list[ShareSetting]:
        """What is shared, by name."""
        return [self._by_name[name].setting for name in sorted(self._by_name)]

    def use(self) -> None:
        """Keep them open until `done()`. In the reactor's thread."""
        self._users += 1

    def done(self) -> None:
        """The end of a `use()`, or of the first use, which is the owner's."""
        self._users -= 1
        if self._users == 0:
            for share in self._by_name.values():
                share.root.close()

    def sources(
        self, paths: Sequence[Path], seen: Callable[[ShareSetting], bool], follow: bool = False
    ) -> tuple[Source, ...]:
        """What these paths of a request lead to, for a walk: sorted by the name that each has at its top. Blocking.

        `seen` says of a share whether the asking key may see it; with `follow` links may be part of a path, as far as
        they stay in its share. FtxError `not-shared` unless all are there, and `bad-message` when two have one name.
        """
        hidden = self._identities()
        found: dict[bytes, Source] = {}
        for path in paths:
            share, held = self._find(path, seen, hidden, follow=follow)
            if path[-1] in found:
                raise FtxError("bad-message", "two paths of a request have one name")
            local = b"/".join((share.real, *path[1:]))
            found[path[-1]] = Source(path[-1], local, held=held)
        return tuple(found[name] for name in sorted(found))

    def find(self, path: Path, seen: Callable[[ShareSetting], bool]) -> Held:
        """What `path` leads to. FtxError `not-shared`. Blocking."""
        return self._find(path, seen, self._identities())[1]

    def items(self, seen: Callable[[ShareSetting], bool]) -> list[Item]:
        """The shares themselves, as far as they are seen, sorted. Blocking."""
        hidden = self._identities()
        found = []
        for name, share in sorted(self._by_name.items()):
            held = share.held((), hidden) if seen(share.setting) else None
            if held is None:
                continue
            with suppress(OSError):
                fd, entry = held.enter()
                try:
                    status = os.stat(entry, dir_fd=fd, follow_symlinks=False)
                finally:
                    fds.close(fd)
                size = status.st_size if share.single is not None else 0
                kind = ItemKind.FILE if share.single is not None else ItemKind.SHARE
                found.append(Item(kind, [name], size, wire_time(status.st_mtime_ns), status.st_mode & _RIGHTS, 0))
        return found

    def _find(
        self, path: Path, seen: Callable[[ShareSetting], bool], hidden: frozenset[Identity], *, follow: bool = False
    ) -> tuple[Share, Held]:
        share = self._by_name.get(path[0])
        held = share.held(path[1:], hidden, follow=follow) if share is not None and seen(share.setting) else None
        if share is None or held is None:
            raise FtxError("not-shared")
        return share, held

    def _identities(self) -> frozenset[Identity]:
        found: set[Identity] = set()
        for path in self._hidden:
            with suppress(OSError):
                status = os.stat(path)
                found.add((status.st_dev, status.st_ino))
        return frozenset(found)
