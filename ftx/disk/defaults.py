"""What every setting is where nobody has set it: for the daemon, and for whoever asks what is in force."""

from __future__ import annotations

from typing import Final

from ftx import limits
from ftx.disk.places import Places
from ftx.disk.settings import Value, default_name

__all__ = ["DEFAULT_PORT", "defaults"]

#: TCP and UDP.
DEFAULT_PORT: Final = 7389
_DRAIN_TIMEOUT: Final = 30.0


def defaults(where: Places, host: str) -> dict[str, Value]:
    """The value of each setting of `ftx.disk.settings.ROWS` that nobody has set, on a machine called `host`.

    `listen` stands for one socket for each family there is; `control_packet` is what follows from the default
    of `control`.
    """
    return {
        "name": default_name(host),
        "listen": (f"tcp:{DEFAULT_PORT}", f"tcp6:{DEFAULT_PORT}"),
        "inbox": where.inbox,
        "share": (),
        "accept": "paired",
        "approval_timeout": limits.APPROVAL_WAIT,
        "conflict": "rename",
        "links": "skip",
        "names": "usual",
        "discovery_port": DEFAULT_PORT,
        "discovery": "everyone",
        "no_discovery": False,
        "discovery_interface": (),
        "no_probe": False,
        "discovery_exclude": (),
        "discovery_from": (),
        "mdns": True,
        "control": where.control,
        "control_packet": where.control.removesuffix(".sock") + ".seq",
        "no_control": False,
        "control_group": "",
        "control_group_pairs": False,
        "limit_in": "0",
        "limit_out": "0",
        "drain_timeout": _DRAIN_TIMEOUT,
        "uid": "",
        "gid": "",
        "sandbox": "on",
        "sandbox_also": (),
        "log_format": "text",
        "metrics": "",
        "own_key": "own-address",
    }
