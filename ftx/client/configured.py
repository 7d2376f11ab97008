"""What the client takes from options, environment and configuration files, in the forms its verbs need."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftx.client.api import Settings
    from ftx.client.options import Options

__all__ = ["api_settings", "control_path", "own_name"]


def api_settings(options: Options) -> Settings:
    """The settings of `ftx.client.api`; FtxError `config-invalid` when a file or variable is wrong."""
    from ftx.client.api import Settings
    from ftx.disk.defaults import DEFAULT_PORT

    return Settings(
        places=options.places(),
        discovery_port=_value(options, "discovery_port", DEFAULT_PORT),
        discovery_interfaces=tuple(_value(options, "discovery_interface", ())),
        discovery_exclude=tuple(_value(options, "discovery_exclude", ())),
        mdns=bool(_value(options, "mdns", True)),
        timeout=options.timeout,
        retries=options.retries,
        name=own_name(options),
        own_key_anywhere=_value(options, "own_key", "own-address") == "anywhere",
    )


def own_name(options: Options) -> str:
    """What this machine is called in discovery: as configured, else its short host name."""
    from ftx.disk.settings import default_name

    return str(_value(options, "name", default_name(socket.gethostname())))


def control_path(options: Options) -> str:
    """The control socket to try: the configured one, else the user's own, else root's daemon's if that is there.

    With a home, root's is not looked at: a home stands for itself.
    """
    from ftx.disk.places import SYSTEM_CONTROL

    places = options.places()
    configured = str(_value(options, "control", ""))
    if configured:
        return configured
    if places.home is None and not os.path.exists(places.control) and os.path.exists(SYSTEM_CONTROL):
        return SYSTEM_CONTROL
    return places.control


def _value(options: Options, key: str, default: Any) -> Any:
    found = options.settings().get(key)
    return default if found is None else found.value
