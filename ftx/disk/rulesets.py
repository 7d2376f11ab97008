"""The rules of this machine's firewall as text, where they may be read: nft(8), else iptables-save(8)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any, Final

import attrs

from ftx.limits import RULESET_WAIT

__all__ = ["Ruleset", "read_ruleset"]

_PLACES: Final = os.pathsep.join(("/usr/sbin", "/sbin", "/usr/bin", "/bin"))


@attrs.frozen
class Ruleset:
    """What was read: from `nftables` a listing, from `iptables` one text for each version of IP."""

    source: str
    listing: Mapping[str, Any] = attrs.field(factory=dict)
    saved: Mapping[int, str] = attrs.field(factory=dict)


def read_ruleset() -> Ruleset | None:
    """The rules in force, None where they may not be read or nothing is installed that could."""
    printed = _run("nft", "-j", "list", "ruleset")
    if printed is not None:
        try:
            listing = json.loads(printed or "{}")
        except (ValueError, RecursionError):
            listing = None
        if isinstance(listing, dict):
            return Ruleset("nftables", listing)
    saved = {version: _run(name) for version, name in ((4, "iptables-save"), (6, "ip6tables-save"))}
    texts = {version: text for version, text in saved.items() if text is not None}
    return Ruleset("iptables", saved=texts) if texts else None


def _run(program: str, *words: str) -> str | None:
    """What a program prints, None when it fails, takes too long or is not there. Not from the user's own PATH."""
    path = shutil.which(program, path=_PLACES)
    if path is None:
        return None
    try:
        ended = subprocess.run(
            [path, *words], capture_output=True, timeout=RULESET_WAIT, check=False, stdin=subprocess.DEVNULL,
            env={"PATH": _PLACES, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout.decode("utf-8", "replace") if ended.returncode == 0 else None
