"""Reading the configuration and the peers again while the daemon runs: what counts at once, and what after a restart.

Everything is read and checked first; only then anything changes, so a file that is wrong changes nothing. What cannot
be changed in a running daemon stays as it is and is named in the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
from twisted.logger import Logger

from ftx.daemon import parts, sandbox
from ftx.daemon.config import Config, load
from ftx.daemon.view import ReloadResult
from ftx.disk import keys
from ftx.disk.shares import Shares
from ftx.errors import FtxError

if TYPE_CHECKING:
    from ftx.daemon.service import Daemon

__all__ = ["reload"]

_log = Logger()
#: Settings that stay what they were at the start: sockets are open, folders held, users become, rights given up.
_FIXED: Final = (
    "listen",
    "inbox",
    "control",
    "control_packet",
    "control_group",
    "no_control",
    "uid",
    "gid",
    "sandbox",
    "sandbox_also",
    "log_format",
    "metrics",
    "mdns",
)
#: What the responder of discovery is made of; it is made anew when one of them changes.
_FOUND_BY: Final = (
    "discovery",
    "no_discovery",
    "discovery_port",
    "discovery_interface",
    "discovery_exclude",
    "discovery_from",
)
#: Fields of a configuration that are no settings, and those that are written otherwise than they are called.
_DERIVED: Final = ("origins", "request", "places")
_WRITTEN: Final = {"rights": "peer"}


async def reload(daemon: Daemon) -> ReloadResult:
    """Read everything again and follow it; FtxError, and everything stays as it is, if something is wrong."""
    daemon.supervisor.reloading()
    try:
        return await _reload(daemon)
    finally:
        daemon.say_ready()


async def _reload(daemon: Daemon) -> ReloadResult:
    worker, before = daemon.state_worker, daemon.config
    config = await worker.run(load, before.request)
    await worker.run(daemon.watched.current)
    shut_out = await worker.run(sandbox.missing, daemon.sandbox, config)
    wanted = sandbox.without(shut_out, config)
    shares = await worker.run(Shares, wanted.share, parts.never_shared(wanted))
    warnings = await _look_at_key(daemon)
    fixed = [*_FIXED, *(_FOUND_BY if daemon.sockets_given_for_discovery else ())]
    waiting = [key for key in fixed if getattr(wanted, key) != getattr(before, key)]
    if daemon.publisher is not None and wanted.name != before.name:
        waiting.append("name (for mdns)")
    config = attrs.evolve(wanted, **{key: getattr(before, key) for key in fixed})
    changed = [
        _WRITTEN.get(field.name, field.name)
        for field in attrs.fields(Config)
        if field.name not in _DERIVED and getattr(config, field.name) != getattr(before, field.name)
    ]
    daemon.config = config
    if daemon.reception is not None and daemon.serving is not None:
        daemon.serving.replace(shares)
        parts.follow(daemon)
        await daemon.reception.recheck()
    else:
        shares.done()
    if set(changed).intersection(_FOUND_BY):
        daemon.be_found()
    waiting += shut_out
    if waiting:
        _log.warn("these count after a restart: {settings}", settings=", ".join(waiting))
    _log.info("configuration and peers were read again: {changed}", changed=", ".join(changed) or "nothing has changed")
    return ReloadResult(changed=changed, needs_restart=waiting, warnings=warnings)


async def _look_at_key(daemon: Daemon) -> list[str]:
    """What is wrong with the file of the identity key, if anything: the key in memory stays, whatever there is."""
    try:
        found = await daemon.state_worker.run(keys.load, daemon.config.places.key)
    except FtxError as error:
        why = f"{error.message}; the key that was read at the start stays"
    else:
        if found.id == daemon.identity.id:
            return []
        why = "there is another identity key in the file; the one that was read at the start stays until a restart"
    _log.warn("key: {why}", why=why)
    return [why]

