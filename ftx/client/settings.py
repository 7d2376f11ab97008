"""What a client runs with, wherever that was written down."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import attrs

from ftx import limits
from ftx.disk.defaults import DEFAULT_PORT
from ftx.disk.places import Places, places

__all__ = ["Settings"]


@attrs.frozen
class Settings:
    """What a client runs with. `timeout` and `retries` are the command line's: seconds, and a count; None for none."""

    places: Places
    discovery_port: int = DEFAULT_PORT
    discovery_interfaces: tuple[str, ...] = ()
    timeout: float | None = None
    retries: int | None = None
    #: What we call ourselves; empty for the short host name.
    name: str = ""
    #: Interfaces on which nobody is asked.
    discovery_exclude: tuple[str, ...] = ()
    #: Look by DNS-SD, too, where python-zeroconf is installed.
    mdns: bool = True
    #: Accept my own key from any address, not only from this host's.
    own_key_anywhere: bool = False

    @property
    def own_name(self) -> str:
        """What the other side is told."""
        return (self.name or socket.gethostname().partition(".")[0])[: limits.DISPLAY_NAME]

    @classmethod
    def from_environment(cls, home: str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
        """The settings of this user as environment variables have them; `home` as `--home`."""
        environ = os.environ if environ is None else environ
        names = environ.get("FTX_DISCOVERY_INTERFACE", "")
        port = environ.get("FTX_DISCOVERY_PORT", "")
        return cls(
            places(home, environ, os.geteuid(), os.getcwd()),
            discovery_port=int(port) if port.isdigit() else DEFAULT_PORT,
            discovery_interfaces=tuple(names.split()),
            mdns=environ.get("FTX_MDNS", "yes").lower() not in ("0", "no", "false", "off"),
            discovery_exclude=tuple(environ.get("FTX_DISCOVERY_EXCLUDE", "").split()),
        )
