"""What the messages of the transfer protocol are made of: fields with their bounds, and what all messages share."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ftx import limits

__all__ = [
    "CONFLICTS",
    "DRY_RUN",
    "FEATURES",
    "LINKS",
    "PULL",
    "PUSH",
    "Bitmap",
    "Component",
    "Conflict",
    "Count",
    "Digest",
    "Display",
    "Element",
    "Entry",
    "ErrorNumber",
    "Feature",
    "Folder",
    "Job",
    "Message",
    "Mode",
    "Number",
    "Port",
    "Proof",
    "Time",
    "Token",
    "Version",
    "Window",
    "WirePath",
]

#: Conflict policies by their number on the wire, from the strictest to the loosest.
CONFLICTS: Final = ("fail", "skip", "rename", "backup", "overwrite")
#: The features that this implementation knows (section 12); a hello lists those that it wants on its connection.
FEATURES: Final = (
    *("approval", "checksum", "delta", "dry-run", "lanes", "links", "pipes"),
    *("probe", "pull", "repair", "steer", "symlinks", "zstd"),
)
#: What a request can want of symbolic links, by its number on the wire (section 16).
LINKS: Final = ("skip", "follow", "keep")
#: Kinds of an offer: the client's own, and a server's answer to a request.
PUSH: Final = 0
PULL: Final = 1
#: What a push would do: nothing is changed.
DRY_RUN: Final = 2

Version = Annotated[int, Meta(ge=1, le=255)]
Feature = Annotated[str, Meta(min_length=1, max_length=32)]
Display = Annotated[str, Meta(max_length=limits.DISPLAY_NAME)]
Job = Annotated[bytes, Meta(min_length=16, max_length=16)]
Digest = Annotated[bytes, Meta(min_length=limits.DIGEST, max_length=limits.DIGEST)]
ErrorNumber = Annotated[int, Meta(ge=100, le=20_000)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Token = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Number = Annotated[int, Meta(ge=0, le=limits.ENTRIES)]
Component = Annotated[bytes, Meta(min_length=1, max_length=limits.NAME)]
WirePath = Annotated[list[Component], Meta(min_length=1, max_length=limits.DEPTH)]
Folder = Annotated[list[Component], Meta(max_length=limits.DEPTH)]
Mode = Annotated[int, Meta(ge=0, le=0o777)]
Time = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Window = Annotated[int, Meta(ge=limits.BATCH, le=65_535)]
Conflict = Annotated[int, Meta(ge=0, le=len(CONFLICTS) - 1)]
Element = Annotated[bytes, Meta(min_length=limits.PAIRING_ELEMENT, max_length=limits.PAIRING_ELEMENT)]
Proof = Annotated[bytes, Meta(min_length=limits.PAIRING_PROOF, max_length=limits.PAIRING_PROOF)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Bitmap = Annotated[bytes, Meta(min_length=1, max_length=limits.GROUP // 8)]


class Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What all messages share: positional, nothing unknown."""


class Entry(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """What all entries, wants and results share. None of them leads back to itself: the collector need not look."""
