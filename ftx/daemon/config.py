"""The configuration of a daemon: every value it runs with, and where each came from.

`load()` takes a `Request`, which is everything the answer depends on besides the files, and gives a
`Config`. The request is kept, so a reload sees the same command line, environment and working folder,
whatever the process has become since.
"""

from __future__ import annotations

import difflib
import grp
import os
import socket
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import attrs

from ftx.core.policy import Rule, Rules
from ftx.core.rights import Rights
from ftx.daemon.listen import DEFAULT_ENDPOINTS, Endpoint, parse_endpoint
from ftx.disk.account import Account, account_of
from ftx.disk.configfile import invalid
from ftx.disk.defaults import defaults
from ftx.disk.hooks import HookSetting
from ftx.disk.places import Places, absolute, places
from ftx.disk.settings import ROWS, Origin, Setting, gather
from ftx.disk.shares import ShareSetting, overlapping, shares_of
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["Config", "Request", "load"]

_DEFAULT: Final = Origin("default")
#: What reading a file again may import (`ftx.disk.settings`) is here before rights are given up.
_EARLY: Final = (difflib, tomllib)


@attrs.frozen
class Request:
    """What somebody asked for when the daemon was started.

    `options` holds what the command line said, by the keys of `ftx.disk.settings.ROWS`, and only that;
    `home` and `config` are the options of those names. `environ` is reduced to what counts here.
    """

    options: Mapping[str, str | bool | Sequence[str]] = attrs.field(factory=dict)
    home: str | None = None
    config: str | None = None
    environ: Mapping[str, str] = attrs.field(factory=dict)
    uid: int = 0
    cwd: str = "/"
    host: str = ""
    #: Folders that whoever runs the daemon writes into besides: for a pid file, for logs.
    written: tuple[str, ...] = ()

    @classmethod
    def of_process(
        cls,
        options: Mapping[str, str | bool | Sequence[str]],
        home: str | None,
        config: str | None,
        written: tuple[str, ...] = (),
    ) -> Request:
        """The request of this process: its environment, user, working folder and host name at this moment.

        Raises FtxError `home-unusable` if the working folder has been removed.
        """
        try:
            cwd = os.getcwd()
        except OSError as error:
            raise FtxError("home-unusable", "the current folder is gone", "change to another folder") from error
        counts = {key: value for key, value in os.environ.items() if key.startswith(("FTX_", "XDG_"))}
        return cls(dict(options), home, config, counts, os.geteuid(), cwd, socket.gethostname(), written)


@attrs.frozen
class Config:
    """What a daemon runs with; everything in it has been checked and every path is absolute.

    `accept` is `own`, `paired` or `ask`; `conflict` is one of `ftx.wire.messages.CONFLICTS`; `own_key` is
    `own-address` or `anywhere`; `discovery` is `everyone`, `paired` or `off`, which `no_discovery` says too.
    `discovery_interface` is empty for all on which the daemon can be reached, `discovery_from` are networks;
    `drain_timeout` and `approval_timeout` are in seconds; `rights` are those of the tables `[peer.NAME]` by identity,
    `rule` those of `[[rule]]`. `origins` says for each key of `ftx.disk.settings.ROWS` where its value was set.
    """

    places: Places
    name: str
    listen: tuple[Endpoint, ...]
    inbox: str
    accept: str
    approval_timeout: float
    conflict: str
    links: str
    names: str
    discovery_port: int
    discovery: str
    no_discovery: bool
    discovery_interface: tuple[str, ...]
    discovery_exclude: tuple[str, ...]
    discovery_from: tuple[str, ...]
    mdns: bool
    no_probe: bool
    control: str
    control_packet: str
    no_control: bool
    control_group: str
    control_group_pairs: bool
    limit_in: str
    limit_out: str
    drain_timeout: float
    uid: str
    gid: str
    sandbox: str
    sandbox_also: tuple[str, ...]
    log_format: str
    metrics: str
    own_key: str
    origins: Mapping[str, Origin] = attrs.field(repr=False)
    request: Request = attrs.field(repr=False)
    rights: Mapping[bytes, Rights] = attrs.field(factory=dict, repr=False)
    rule: tuple[Rule, ...] = attrs.field(default=(), repr=False)
    share: tuple[ShareSetting, ...] = ()
    hook: tuple[HookSetting, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The configuration files that were looked for."""
        request = self.request
        named = request.config or request.environ.get("FTX_CONFIG") or None
        return (*([] if named is None else [absolute(named, request.cwd)]), *self.places.config_files)

    @property
    def rules(self) -> Rules:
        """What the operator allows, as `ftx.core.policy` takes it."""
        return Rules(self.conflict, self.accept, self.rights, self.rule)

    @property
    def answered(self) -> str:
        """Who is answered when asking who is here: `everyone`, `paired` or `off`."""
        return "off" if self.no_discovery else self.discovery

    @property
    def control_gid(self) -> int | None:
        """The number of the group that may look into the daemon, None for nobody's."""
        if not self.control_group:
            return None
        return group_number(Setting("control_group", self.control_group, self.origins["control_group"]))

    @property
    def account(self) -> Account | None:
        """The user to become, None to stay who we are."""
        if not self.uid:
            return None
        return account_of(self.uid, self.gid)

    def is_default(self, key: str) -> bool:
        """True if nobody set `key`."""
        return self.origins[key].kind == "default"


def _endpoints(setting: Setting, example: str = "tcp:7389") -> tuple[Endpoint, ...]:
    """The endpoints that were named; FtxError `config-invalid`, with an example, for one that is not understood."""
    parsed = []
    for text in cast("tuple[str, ...]", setting.value):
        try:
            parsed.append(parse_endpoint(text))
        except ValueError as error:
            raise invalid(setting.origin.of(setting.key), str(error), f"for example {example}") from error
    return tuple(parsed)


def group_number(setting: Setting) -> int:
    """The number of the group that `setting` names; FtxError `config-invalid` when there is none. Asks the system."""
    name = str(setting.value)
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        raise setting.origin.wrong(setting.key, f"there is no group {show(name)}", "getent group lists them") from None


def _check_account(found: Mapping[str, Setting]) -> None:
    """FtxError `config-invalid` unless `uid` and `gid` name somebody to become, or nobody."""
    user, group = found.get("uid"), found.get("gid")
    if user is not None:
        try:
            account_of(str(user.value), "" if group is None else str(group.value))
        except FtxError as error:
            key = "gid" if "group" in error.message and group is not None else "uid"
            raise found[key].origin.wrong(key, error.message, error.hint) from error
    elif group is not None:
        raise group.origin.wrong("gid", "it needs a uid to go with")


def _shares(setting: Setting, inbox: str, cwd: str) -> tuple[ShareSetting, ...]:
    """The shares that were named; FtxError `config-invalid` for one that has no business there."""
    try:
        shares = shares_of(cast("tuple[str, ...]", setting.value), cwd)
    except FtxError as error:
        raise setting.origin.wrong("share", error.message, error.hint) from error
    for share in shares:
        if not share.with_inbox and overlapping(share.path, inbox):
            raise setting.origin.wrong(
                "share",
                f"{show(share.name)} and the inbox overlap: what others send could be pulled",
                f"if that is meant: [share.{show(share.name)}] with with_inbox = true, in config.toml",
            )
    return shares


def _hooks(setting: Setting, inbox: str) -> tuple[HookSetting, ...]:
    """The hooks that were named; FtxError `config-invalid` for one whose program others could exchange."""
    hooks = cast("tuple[HookSetting, ...]", setting.value)
    for hook in hooks:
        if overlapping(hook.command[0], inbox):
            raise setting.origin.wrong(
                "hook", f"the program of {hook.name} is in the inbox, where others put files", "put it elsewhere"
            )
    return hooks


def load(request: Request) -> Config:
    """The configuration for `request`. Blocking: reads the configuration files, creates nothing.

    Raises FtxError `config-invalid`, whose message names the setting and the file, variable or option.
    """
    where = places(request.home, request.environ, request.uid, request.cwd)
    found = gather(request.options, request.environ, where, request.cwd, request.config)
    endpoints = _endpoints(found["listen"]) if "listen" in found else ()
    if not endpoints:  # an empty list in a file says no more than no list
        found.pop("listen", None)
        endpoints = DEFAULT_ENDPOINTS
    if "control_group" in found:
        group_number(found["control_group"])
    _check_account(found)
    usual = {key: value for key, value in defaults(where, request.host).items() if key not in ("listen", "share")}
    values: dict[str, Any] = {key: found[key].value if key in found else value for key, value in usual.items()}
    if "control_packet" not in found:
        values["control_packet"] = str(values["control"]).removesuffix(".sock") + ".seq"
    if "metrics" in found:
        _endpoints(attrs.evolve(found["metrics"], value=(str(found["metrics"].value),)), "tcp:9389")
    origins = {key: found[key].origin if key in found else _DEFAULT for key in ROWS}
    return Config(
        places=where,
        listen=endpoints,
        rights=cast("Mapping[bytes, Rights]", found["peer"].value) if "peer" in found else {},
        rule=cast("tuple[Rule, ...]", found["rule"].value) if "rule" in found else (),
        share=_shares(found["share"], values["inbox"], request.cwd) if "share" in found else (),
        hook=_hooks(found["hook"], values["inbox"]) if "hook" in found else (),
        origins=origins,
        request=request,
        **values,
    )
